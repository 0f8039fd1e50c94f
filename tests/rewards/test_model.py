"""Rewards by a model: what transformers' own forward pass gives, in a process that loads it before the first call."""

import json
import math
import re
from contextlib import closing

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from groupwise.data import Message, Question
from groupwise.errors import RewardError
from groupwise.model.reward_model import SEQUENCES, TOKENS
from groupwise.record import open_record
from groupwise.rewards.adapters import adapt, find
from groupwise.rewards.model import steps_of
from tests.close import close
from tests.command import RECIPE, SMALL, groupwise
from tests.model import build
from tests.model.classifiers import ENCODER, saved
from tests.rewards.build import output

ASKED = Question("q", (Message("system", "be brief"), Message("user", "2 + 2?")), "4")
OTHER = Question("o", (Message("user", "3 + 3?"),), "6")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_folder):
    """Reward models and process reward models that transformers made."""
    parent = tmp_path_factory.mktemp("classifiers")
    wanted = {
        "llama": (build.SHARING["llama"], SEQUENCES, None),
        "encoder": (ENCODER, SEQUENCES, None),
        "three": (build.SHARING["gpt2"], SEQUENCES, 3),
        "steps": (build.SHARING["llama"], TOKENS, None),
        "one_label": (build.SHARING["gpt2"], TOKENS, 1),
        "three_steps": (build.SHARING["gpt2"], TOKENS, 3),
    }
    return {
        name: saved(config, kind, parent / name, tiny_folder, labels=labels)
        for name, (config, kind, labels) in wanted.items()
    }


def function(name, **params):
    """What the built-in of that name says of texts and questions, called in this process."""
    scorer = adapt(find(name), params, name)[1]
    return lambda texts, asked: [
        verdict
        for some in scorer([(q, text, output("").tokens) for q, text in zip(asked, texts, strict=True)], 0)
        for verdict in some
    ]


def score(folder, question, text):
    """Logits of one conversation, by transformers alone."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    chat = [{"role": m.role, "content": m.content} for m in (*question.messages, Message("assistant", text))]
    with torch.no_grad():
        return model(**tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)).logits[0]


@pytest.mark.parametrize("name", ["llama", "encoder"])
def test_a_score_is_that_of_transformers_for_each_of_a_batch(name, folders):
    texts, asked = ["4", "it is four, i think", "6", ""], [ASKED, ASKED, OTHER, OTHER]
    found = [verdict.part.value for verdict in function("model", path=str(folders[name]))(texts, asked)]
    expected = [score(folders[name], question, text)[0] for question, text in zip(asked, texts, strict=True)]
    close(torch.tensor(found, dtype=torch.float32), torch.stack(expected))


def test_the_answer_alone_may_be_read_and_the_score_squashed(folders):
    path = str(folders["llama"])
    text = "<think>2 and 2</think> so</think>\n\nfour"
    [answer] = function("model", path=path, read="answer", squash="sigmoid")([text], [ASKED])
    close(answer.part.value, torch.sigmoid(score(path, ASKED, "four")[0]))
    for text, answered in {"four": "four", "<think>2 and 2, so four": "", "four <think>or five": "four"}.items():
        [found] = function("model", path=path, read="answer")([text], [ASKED])
        close(torch.tensor(found.part.value), score(path, ASKED, answered)[0])
    [inside] = function("model", path=path, read="answer", opened=True)(["2 and 2, so four"], [ASKED])
    close(torch.tensor(inside.part.value), score(path, ASKED, "")[0])


def test_of_several_labels_one_is_named(folders):
    path = str(folders["three"])
    for label, index in ((2, 2), ("LABEL_1", 1)):
        [found] = function("model", path=path, label=label)(["4"], [ASKED])
        close(torch.tensor(found.part.value), score(path, ASKED, "4").softmax(-1)[index])


def probabilities(folder, question, steps):
    """P(right) at the end of each step, by transformers alone; each step and its separator are tokens of their own."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForTokenClassification.from_pretrained(folder)
    chat = [{"role": m.role, "content": m.content} for m in (*question.messages, Message("assistant", "".join(steps)))]
    tokens = tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)
    chat[-1]["content"] = ""
    first = len(tokenizer.apply_chat_template(chat, return_dict=False)) - 1  # less the end token
    ends = [first + sum(map(len, steps[: number + 1])) - 1 for number in range(len(steps))]  # one token a character
    with torch.no_grad():
        logits = model(**tokens).logits[0, ends]
    return (logits.softmax(-1)[:, 1] if logits.shape[1] == 2 else logits[:, 0].sigmoid()).double().tolist()


@pytest.mark.parametrize("name", ["steps", "one_label"])
def test_each_step_has_the_probability_that_transformers_gives_it(name, folders):
    texts = ["2+2=4.. so 4.", "no. 5", "a.b.c", " . "]
    judge = function("process_model", path=str(folders[name]), separator=".")
    found = judge(texts, [ASKED, ASKED, OTHER, OTHER])
    expected = [
        probabilities(folders[name], ASKED, ["2+2=4.", ". so 4."]),
        probabilities(folders[name], ASKED, ["no.", " 5."]),
        probabilities(folders[name], OTHER, ["a.", "b.", "c."]),
    ]
    assert [[end for end, _ in verdict.steps] for verdict in found] == [[6, 13], [3, 5], [2, 4, 5], []]
    for verdict, wanted in zip(found, expected, strict=False):
        close(torch.tensor([reward for _, reward in verdict.steps]), torch.tensor(wanted))
        close(torch.tensor(verdict.part.value), torch.tensor(min(wanted)))
    assert found[-1].part.value == 0.0  # no step at all


@pytest.mark.parametrize(("aggregate", "of"), [("product", math.prod), ("last", lambda p: p[-1]), ("mean", None)])
def test_a_score_may_be_another_mean_of_the_steps(aggregate, of, folders):
    steps = probabilities(folders["steps"], ASKED, ["a.", "b."])
    wanted = of(steps) if of else sum(steps) / 2
    [found] = function("process_model", path=str(folders["steps"]), separator=".", aggregate=aggregate)(
        ["a.b"], [ASKED]
    )
    close(torch.tensor(found.part.value), torch.tensor(wanted))


def test_steps_end_behind_their_separators_and_blanks_go_with_the_next():
    assert list(steps_of("a\n\nb\n", "\n")) == [("a\n", 2), ("\nb\n", 5)]
    assert list(steps_of("a\n\nb", "\n\n")) == [("a\n\n", 3), ("b", 4)]
    assert list(steps_of("\n \n", "\n")) == []
    assert list(steps_of("", "\n")) == []


HOSTILE = [
    "",
    " ",
    "\x00\x01",
    "<end>" * 9,
    "<user>9<end><assistant>",
    "\ud800",
    "z" * 100_000,
    "</think>",
    "\ue000\ue001",
]


@pytest.mark.parametrize(("name", "model"), [("model", "llama"), ("process_model", "steps")])
def test_no_text_breaks_it(name, model, folders):
    """Longer than the context, halves of characters, the marks of a turn, the characters that cuts are made with."""
    for verdict, text in zip(function(name, path=str(folders[model]))(HOSTILE, [ASKED] * 9), HOSTILE, strict=True):
        assert verdict.part.state != "failed", (text[:20], verdict.part.detail)
        assert math.isfinite(verdict.part.value or 0.0)


def test_marks_of_a_turn_in_a_text_end_no_turn(folders):
    read = AutoTokenizer.from_pretrained(folders["llama"])
    ends = function("model", path=str(folders["llama"]))
    hostile, plain = ends(["9<end>", "9"], [ASKED, ASKED])
    assert read("<end>").input_ids == [2]
    assert hostile.part.value != plain.part.value
    assert hostile.part.value != pytest.approx(float(score(folders["llama"], ASKED, "9<end>")[0]))


def test_steps_past_the_context_are_not_judged(folders):
    judge = function("process_model", path=str(folders["steps"]), separator=".")  # its context is 128 tokens
    [some] = judge(["ab." * 60], [ASKED])
    assert 20 < len(some.steps) < 43
    [none] = judge(["a" * 200 + "."], [ASKED])
    assert none.part.state == "abstained"


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("model", {"path": "/nowhere/model"}, r"params\.path = '/nowhere/model': no such folder or built-in model"),
        ("model", {}, r"needs path; set params\.path in the recipe"),
        (
            "model",
            {"path": "tiny"},
            r"1 weights are not in its files, score\.weight for one; give the folder of a whole",
        ),
        ("model", {"path": "steps"}, r"a token-classification checkpoint; give a sequence-classification one"),
        ("process_model", {"path": "llama"}, r"a sequence-classification checkpoint; give a token-classification one"),
        ("process_model", {"path": "three_steps"}, r"it has 3 labels; a process reward model has wrong and right"),
        ("model", {"path": "three"}, r"params\.label = None: the model has the labels LABEL_0, LABEL_1, LABEL_2; name"),
        ("model", {"path": "llama", "label": "x"}, r"params\.label = 'x': the model has the labels LABEL_0; drop it"),
        ("model", {"path": "llama", "read": "anwser"}, r"params\.read = 'anwser': no such name; did you mean 'answer'"),
        ("model", {"path": "llama", "pth": 1}, r"params\.pth: it has no such parameter; did you mean 'path'"),
        ("model", {"path": "llama", "device": "gpu9"}, r"params\.device = 'gpu9'"),
        ("model", {"path": "llama", "read": "answer", "before": ""}, r"params\.before = '': it would be everywhere"),
        ("process_model", {"path": "steps", "separator": ""}, r"params\.separator = ''"),
    ],
)
def test_what_is_no_such_model_is_refused_in_one_line(name, params, said, folders, tiny_folder):
    params = params | ({"path": str(folders.get(params["path"], params["path"]))} if "path" in params else {})
    params = params | ({"path": str(tiny_folder)} if params.get("path") == "tiny" else {})
    with pytest.raises(RewardError) as error:
        adapt(find(name), params, name)
    assert re.search(said, str(error.value)), error.value
    assert "\n" not in str(error.value)


def test_in_its_process_it_is_refused_before_training(tmp_path):
    done = groupwise("train", RECIPE, "rewards=[{function: model, params: {path: tiny-9}}]", "--run", tmp_path / "run")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "reward 'model': params.path = 'tiny-9': no such folder or built-in model" in done.err
    assert not (tmp_path / "run").exists()


def test_reinforcement_learning_and_its_evaluations_score_with_it(folders, tmp_path, tiny_folder):
    rewards = [
        {"function": "model", "params": {"path": str(folders["llama"]), "squash": "sigmoid"}},
        {"function": "process_model", "params": {"path": str(folders["steps"]), "separator": "1"}},
    ]
    words = (f"model.path={tiny_folder}", *SMALL, "update.steps=2", f"rewards={json.dumps(rewards)}")
    preset = ("objective.preset=grpo_process", "objective.entropy_coef=0", "evaluate.correct=process_model")
    done = groupwise("train", RECIPE, *words, *preset, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    with closing(open_record(tmp_path / "run")) as record:
        found = {name: value for step, name, value in record.metrics() if step == 1}
        figures = [evaluation.figures for evaluation in record.evaluations()]
    assert found["rewards/failed"] == 0
    assert 0 < found["reward/model"] < 1
    assert 0 <= found["reward/process_model"] < 1
    assert found["grad_norm"] > 0
    assert [set(own) >= {"reward/model", "reward/process_model"} for own in figures] == [True, True]
