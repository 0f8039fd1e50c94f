"""A judge on this machine: probabilities against transformers' forward pass, replies read as an endpoint's are."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from groupwise.data import Message, Question
from groupwise.errors import RewardError
from groupwise.rewards.adapters import adapt, find
from groupwise.rewards.judging import local
from groupwise.rewards.judging.cache import Reply
from groupwise.rewards.judging.prompts import chat, of_choice
from groupwise.rewards.judging.rubric import OF_ONE, load_rubric
from tests.rewards.build import output

ASKED = Question("q", (Message("user", "2 + 2?"),), "4")


@pytest.fixture
def rubrics(tmp_path):
    (tmp_path / "one.yml").write_text("prompt: '{question} {output}'\n")
    (tmp_path / "two.yml").write_text("prompt: '{first} {second}'\n")
    return str(tmp_path / "one.yml"), str(tmp_path / "two.yml")


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_folder):
    """The tiny model with room for a rubric."""
    folder = tmp_path_factory.mktemp("judge") / "tiny"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
    return folder


def judged(name, *texts, **params):
    scorer = adapt(find(name), params, name).scorer
    return [v for some in scorer([(ASKED, text, output(text).tokens) for text in texts], 0) for v in some]


def test_a_score_is_the_mean_of_the_labels_by_their_probability(rubrics, model):
    labels = {"1": 0.0, "2": 0.25, "3": 1.0}
    [found] = judged("local_judge", "4", rubric=rubrics[0], path=str(model), read="probability", labels=labels)
    tokenizer, judge = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    texts = {"question": "2 + 2?", "answer": "", "output": "4"}
    asked = chat(load_rubric(rubrics[0], OF_ONE), texts, reply="Reply with one word: 1 or 2 or 3.")
    tokens = tokenizer.apply_chat_template(list(map(dict, asked)), add_generation_prompt=True, return_dict=False)
    with torch.no_grad():
        chances = judge(torch.tensor([tokens])).logits[0, -1].softmax(-1)
    p = {
        label: sum(
            float(chances[i])
            for i in {tokenizer.encode(form, add_special_tokens=False)[0] for form in (label, f" {label}")}
            if tokenizer.decode([i]).strip()
        )
        for label in labels
    }
    assert found.part.value == pytest.approx(sum(labels[x] * p[x] for x in p) / sum(p.values()), rel=1e-4)
    assert found.extras["labels"] == pytest.approx(sum(p.values()), rel=1e-4)


def test_pairs_by_probability_add_up_to_one(rubrics, model, monkeypatch):
    # the tiny model writes no capitals
    monkeypatch.setattr(local._Model, "first_tokens", lambda self, labels: dict(zip(labels, ([40], [41]), strict=True)))
    found = judged("local_pairwise_judge", "4", "5", rubric=rubrics[1], path=str(model), read="probability")
    assert sum(v.part.value for v in found) == pytest.approx(1.0)
    assert 0 < found[0].part.value < 1


def test_a_reply_of_text_is_read_as_an_endpoints(rubrics, model, monkeypatch):
    [found] = judged("local_judge", "4", rubric=rubrics[0], path=str(model), max_tokens=3, rereads=0)
    assert found.part.state == "failed"  # the tiny model has learned nothing
    assert "no grade in 1 replies" in found.part.detail
    replies = iter(["what?", '{"score": 5}'])

    async def reply(self, messages):
        return Reply(next(replies))

    monkeypatch.setattr(local._Model, "reply", reply)
    [found] = judged("local_judge", "4", rubric=rubrics[0], path=str(model), max_tokens=3)
    assert found.part.value == 0.5


def test_texts_that_do_not_fit_the_judge_fail_and_say_so(rubrics, model):
    [found] = judged("local_judge", "4" * 50_000, rubric=rubrics[0], path=str(model), read="probability")
    assert "the judge's context is" in found.part.detail


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"read": "tokens"}, "params.read = 'tokens': no such name"),
        ({"labels": {"yes": 2, "no": 0}}, "not two or more words with values from 0 to 1"),
        ({"labels": {"yes": 1}}, "not two or more words"),
        ({"read": "probability", "labels": {"1a": 1, "1b": 0}}, "begin with the same token"),
        ({"max_tokens": 0}, "params.max_tokens = 0"),
        ({"path": "no/such"}, "params.path"),
        ({"base_url": "x"}, "params.base_url: it has no such parameter"),
    ],
)
def test_what_cannot_judge_is_refused(params, said, rubrics, model):
    with pytest.raises(RewardError, match=said):
        judged("local_judge", "4", **{"rubric": rubrics[0], "path": str(model), **params})


def test_what_a_pair_is_asked_names_its_letters():
    assert "<choice>A</choice>" in of_choice()
