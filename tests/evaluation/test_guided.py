"""The search with an engine and a guide: what is sampled and counted, what is scored, and that questions are apart."""

import numpy as np
import pytest

from groupwise.config import ModelConfig, RewardConfig, recipe_from
from groupwise.data import Message, Output, Question
from groupwise.engines.local import LocalEngine
from groupwise.errors import RewardLimitError
from groupwise.evaluation.guided import mcts
from groupwise.evaluation.search import Settings
from groupwise.model.loading import load_policy
from groupwise.model.tokenizer import load_tokenizer
from groupwise.rewards.base import RewardSet
from tests.engines.fakes import Answering
from tests.project.sources import ROOT

GUIDES = ROOT / "tests" / "evaluation" / "user_guides.py"
QUESTIONS = [Question(f"q{n}", (Message("user", f"{n}>"),), answer="3") for n in range(3)]
END = "."  # of a scripted output: its end token


class Scripted(Answering):
    """An engine that goes on with what there is of an output as is written down."""

    def __init__(self, tokenizer, script):
        super().__init__()
        self.tokenizer, self.script, self.calls = tokenizer, script, []
        self.ids = tokenizer.tokenizer.get_vocab()

    def answers(self, tasks, sampling):
        found = []
        for task in tasks:
            prompt = len(self.tokenizer.encode(QUESTIONS[0].messages))
            so_far = self.tokenizer.decode(task.question_tokens[prompt:])
            self.calls.append((so_far, len(task.streams), task.limits, sampling.stop))
            found.append([self._output(text) for text in self.script[so_far][: len(task.streams)]])
        return found

    def _output(self, text):
        tokens = np.array([self.ids["<end>" if x == END else x] for x in text], np.int32)
        shown = text.removesuffix(END)
        return Output(tokens, tokens, tokens >= 0, np.zeros(len(tokens), np.float32), shown, "stop")


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(ModelConfig(path=str(tiny_folder)))


def recipe(**rollout):
    tree = {"model": {"path": "tiny"}, "questions": {"source": "arithmetic"}, "update": {"steps": 1}}
    return recipe_from({**tree, "rewards": [{"function": "number"}], "rollout": {"max_new_tokens": 8, **rollout}})


def searched(tokenizer, engine, guide, questions=QUESTIONS[:1], *, rollout=None, **settings):
    wanted = Settings("mcts", guide, **{"separator": ",", "width": 2, "simulations": 4, **settings})
    with RewardSet([RewardConfig(function=f"{GUIDES}:{guide}")]) as judge:
        return mcts(
            recipe(**(rollout or {})), questions, tokenizer=tokenizer, engine=engine, guide=judge, settings=wanted
        )


SCRIPT = {
    "": ["b,", "a,"],
    "b,": ["x.", "x."],
    "a,": ["b,", "x,"],
    "a,b,": ["c.", "d."],
    "a,x,": ["c.", "d."],
}


def test_the_output_that_the_guide_wants_is_found_and_every_sampled_token_counted(tokenizer):
    # 1: the root grows, 2 x 2 tokens; b, (0.9) is worth more than a, (0.4) and gone on with: x and the end, 2 more.
    # 2: walks to b,; it grows x and x, one leaf: 2 x 2. It agrees in the comma alone: 0.2; the answer.
    # 3: b, 1 + 0.5 sqrt(2) / 2 = 1.35, a, 0.29 + 0.5 sqrt(2) = 0.99 on the scale 0.2 to 0.9: to b,x, whose 0.2 counts.
    # 4: b, 0.5 + 0.5 sqrt(3) / 3 = 0.79, a, 0.29 + 0.5 sqrt(3) = 1.15: a, grows, 2 x 2; b,x is the one visited end.
    # 5: b, 0.5 + 0.33 = 0.83 over a, 0.29 + 0.5 = 0.79.  6: a, 0.85 over b, 0.61: a,b, (0.8) grows, 2 x 2.
    # 7: below a, on the scale 0.2 to 1: a,b, 0.75 + 0.35, a,x, 0.5 + 0.71: it grows, 2 x 2, and all has grown.
    engine = Scripted(tokenizer, SCRIPT)
    found = searched(tokenizer, engine, "agrees", simulations=16)
    assert {n: (f.output.text, f.tokens) for n, [f] in found.items()} == {
        1: ("b,x", 4 + 2),
        2: ("b,x", 4 + 4),
        4: ("b,x", 4 + 4 + 4),
        8: ("a,b,c", 4 + 4 + 4 + 4 + 4),
        16: ("a,b,c", 4 + 4 + 4 + 4 + 4),
    }
    [last] = found[16]
    assert tokenizer.decode(last.output.tokens) == "a,b,c"
    assert last.output.question_tokens.tolist() == tokenizer.encode(QUESTIONS[0].messages)
    assert len(last.output.tokens) == len(last.output.logprobs) == len(last.output.sampled) == 6


def test_a_step_has_the_room_that_is_left_and_ends_with_the_separator_too(tokenizer):
    engine = Scripted(tokenizer, SCRIPT)
    searched(tokenizer, engine, "agrees", simulations=2, rollout={"stop": ["?"]})
    # to go on to the end of an answer the separator is no stop
    assert engine.calls[:3] == [
        ("", 2, (8, 8), ("?", ",")),
        ("b,", 1, (6,), ("?",)),
        ("b,", 2, (6, 6), ("?", ",")),
    ]


def test_the_last_step_goes_on_to_the_end(tokenizer):
    engine = Scripted(tokenizer, {"": ["b,", "a,"], "b,": ["c,d.", "x."], "a,": ["x,x.", "x."]})
    found = searched(tokenizer, engine, "agrees", simulations=2, max_steps=2)
    assert [call[3] for call in engine.calls if call[0]] == [()] * (len(engine.calls) - 1)
    assert found[2][0].output.text == "b,c,d"


def test_an_output_without_room_for_more_is_finished(tokenizer):
    # "a," is all that two tokens allow: no task asks for none
    engine = Scripted(tokenizer, {"": ["b,", "a,"]})
    found = searched(tokenizer, engine, "agrees", simulations=3, rollout={"max_new_tokens": 2})
    assert found[3][0].output.text == "b,"
    assert len(engine.calls) == 1


def test_a_guide_of_steps_is_asked_for_the_last_one(tokenizer):
    # b ends in worth 1, c in worth 2: the sum of steps, 1 + 2 and 2 + 0, would choose the other
    engine = Scripted(tokenizer, {"": ["bc.", "ca."]})
    assert searched(tokenizer, engine, "last_step", simulations=1)[1][0].output.text == "bc"


def test_where_the_guide_says_nothing_an_output_is_worth_what_its_siblings_are(tokenizer):
    # silent of b, which takes a's 1 and is the first of two equals; it would lose with 0
    engine = Scripted(tokenizer, {"": ["b.", "a."]})
    assert searched(tokenizer, engine, "silent_of_b", simulations=1)[1][0].output.text == "b"
    # b: (4 + 1) / 2 = 2.5, less than aaaa's 4
    engine = Scripted(tokenizer, {"": ["b.", "aaaa.", "a."]})
    assert searched(tokenizer, engine, "silent_of_b", simulations=1, width=3)[1][0].output.text == "aaaa"


def test_a_guide_that_fails_stops_the_search(tokenizer):
    with pytest.raises(RewardLimitError, match="reward 'broken' failed on 2 of 2 outputs"):
        searched(tokenizer, Scripted(tokenizer, SCRIPT), "broken")


def test_a_questions_answer_does_not_depend_on_the_others(tiny_folder):
    config = ModelConfig(path=str(tiny_folder))
    policy = load_policy(config, load_tokenizer(config))

    def found(questions):
        # the end token is rare in a model made on the spot, and so is a comma: four letters to a step suffice
        answers = searched(policy.tokenizer, LocalEngine(policy), "last_step", questions, separator="a")
        return {q.id: [(f[i].output.text, f[i].tokens) for f in answers.values()] for i, q in enumerate(questions)}

    together = found(QUESTIONS)
    assert len({str(answers) for answers in together.values()}) == 3
    assert found(QUESTIONS[1:2]) == {"q1": together["q1"]}
