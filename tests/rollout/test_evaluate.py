"""Figures on held-out questions, from answers that are known: what is counted, and what is left out."""

from math import isnan

import numpy as np
import pytest

from groupwise.config import ModelConfig, recipe_from
from groupwise.data import Message, Output, Question
from groupwise.errors import RewardLimitError
from groupwise.model.tokenizer import load_tokenizer
from groupwise.rewards.base import RewardSet
from groupwise.rollout.evaluate import evaluate
from tests.close import close
from tests.engines.fakes import Answering
from tests.project.sources import ROOT

OWN = ROOT / "tests" / "rollout" / "test_evaluate.py"
QUESTIONS = [Question(f"q{n}", (Message("user", f"{n}>"),), answer=str(n + 1)) for n in range(4)]


def judge(text, question):
    """The built-in `exact`, but for an answer that it will not judge and one that it fails on."""
    if text == "fail":
        raise ValueError("no luck")
    return None if text == "abstain" else float(text == question.answer)


def global_step(prompts, completions, trainer_state):
    return [float(trainer_state.global_step)] * len(completions)


class Scripted(Answering):
    """An engine whose answers are written down: greedy ones by question, sampled ones by question and stream."""

    def __init__(self, greedy, sampled=()):
        super().__init__()
        self.greedy, self.sampled, self.tasks = greedy, sampled, []

    def answers(self, tasks, sampling):
        self.tasks.append(tasks)
        texts = [[text] for text in self.greedy] if sampling.greedy else self.sampled
        return [
            [self._output(text) for text in row[: len(task.streams)]] for task, row in zip(tasks, texts, strict=True)
        ]

    def _output(self, text):
        tokens = np.arange(len(text), dtype=np.int32)
        cut = "length" if len(text) > 3 else "stop"
        return Output(tokens, tokens, tokens >= 0, np.zeros(len(text), np.float32), text, cut)


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(ModelConfig(path=str(tiny_folder)))


@pytest.fixture(scope="module")
def evaluated(tokenizer):
    """Evaluates scripted answers to QUESTIONS, right ones being 1, 2, 3, 4; a digit alone is well formed."""
    recipe = recipe_from(
        {
            "model": {"path": "tiny"},
            "questions": {"source": "arithmetic"},
            "rewards": [
                {"function": f"{OWN}:judge"},
                {"function": "pattern", "params": {"regex": "\\A\\d\\Z"}, "name": "digit"},
            ],
            "update": {"steps": 1},
            "run": {"failed_rewards_limit": 0.25},
            "evaluate": {"format": "digit"},
        }
    )
    with RewardSet(recipe.rewards) as rewards:
        yield lambda engine, samples=0: evaluate(
            recipe, QUESTIONS, tokenizer=tokenizer, engine=engine, rewards=rewards, samples=samples
        )


def test_greedy_figures(evaluated):
    # right: 1, 2 and 4; well formed, a digit alone: 1, 2 and 4; lengths 1, 1, 5, 1; one is cut (over 3 characters)
    result = evaluated(Scripted(["1", "2", "33333", "4"]))
    figures = result.figures
    assert (figures["accuracy"], figures["n"], figures["unjudged"]) == (3 / 4, 4, 0)
    assert figures["low"] < 3 / 4 < figures["high"]
    assert figures["format"]["value"] == 3 / 4
    assert (figures["length"], figures["truncated"], result.tokens) == (2.0, 1 / 4, 8)
    assert [(a.question_id, a.sample, a.text, a.correct) for a in result.answers][:2] == [
        ("q0", -1, "1", 1.0),
        ("q1", -1, "2", 1.0),
    ]


def test_each_reward_has_its_mean_over_the_greedy_answers_it_valued(evaluated):
    # judge: 1, 0, failed and abstained -> 1 of 2; digit: "1" and "7" are single digits, the words are not -> 2 of 4
    result = evaluated(Scripted(["1", "7", "fail", "abstain"]))
    judge, digit = (result.figures[f"reward/{label}"] for label in ("judge", "digit"))
    assert (judge["value"], judge["n"], digit["value"], digit["n"]) == (1 / 2, 2, 2 / 4, 4)
    assert digit["low"] < 2 / 4 < digit["high"]
    assert result.values["reward/judge"] == [1.0, 0.0, None, None]


def test_a_reward_that_valued_nothing_has_no_mean(evaluated):
    found = evaluated(Scripted(["abstain"] * 4)).figures["reward/judge"]
    assert (isnan(found["value"]), found["n"]) == (True, 0)


def test_what_could_not_be_judged_is_left_out_and_counted(evaluated):
    # 1 right, 1 wrong, 1 failed, 1 abstained -> 1 of 2
    figures = evaluated(Scripted(["1", "7", "fail", "abstain"])).figures
    assert (figures["accuracy"], figures["n"], figures["unjudged"]) == (1 / 2, 2, 2)


def test_nothing_judged_gives_no_accuracy(evaluated):
    figures = evaluated(Scripted(["abstain"] * 4)).figures
    assert isnan(figures["accuracy"])
    assert (figures["n"], figures["unjudged"]) == (0, 4)


def test_more_failures_than_the_limit_stop_the_evaluation(evaluated):
    with pytest.raises(RewardLimitError, match="reward 'judge' failed on 2 of 4 outputs"):
        evaluated(Scripted(["fail", "fail", "3", "4"]))


def test_sampled_figures(evaluated):
    sampled = [
        ["1", "1", "7", "8"],  # 2 of 4 right; pass@2 = 1 - 1/6; the majority, 1, is right
        ["7", "7", "7", "2"],  # 1 of 4;       pass@2 = 1 - 3/6; the majority is wrong
        ["3", "3", "3", "3"],  # 4 of 4;       pass@2 = 1;       right
        ["4", "abstain", "4", "4"],  # left out: one answer was not judged
    ]
    result = evaluated(Scripted(["1"] * 4, sampled), samples=4)
    figures = {name: figure["value"] for name, figure in result.figures.items() if "@" in name}
    expected = {
        "mean@4": (2 / 4 + 1 / 4 + 1) / 3,
        "pass@1": (2 / 4 + 1 / 4 + 1) / 3,
        "pass@2": (5 / 6 + 1 / 2 + 1) / 3,
        "pass@4": 1.0,
        "maj@4": 2 / 3,
    }
    assert list(figures) == list(expected)
    assert close(list(figures.values()), list(expected.values()))
    assert len(result.answers) == 4 + 16
    assert [answer.sample for answer in result.answers[4:8]] == [0, 1, 2, 3]


def test_every_evaluation_draws_from_the_same_streams(evaluated):
    engines = [Scripted(["1"] * 4, [["1", "2"]] * 4) for _ in range(2)]
    for engine in engines:
        evaluated(engine, samples=2)
    assert engines[0].tasks == engines[1].tasks
    streams = [key for tasks in engines[0].tasks[1:] for task in tasks for key in task.streams]
    assert len(set(streams)) == 8


def test_reward_functions_are_told_the_step_that_the_policy_has_done(tokenizer):
    recipe = recipe_from(
        {
            "model": {"path": "tiny"},
            "questions": {"source": "arithmetic"},
            "rewards": [{"function": f"{OWN}:global_step", "name": "step"}],
            "update": {"steps": 1},
        }
    )
    with RewardSet(recipe.rewards) as rewards:
        found = evaluate(
            recipe,
            QUESTIONS,
            tokenizer=tokenizer,
            engine=Scripted(["1"] * 4, [["1", "2"]] * 4),
            rewards=rewards,
            samples=2,
            step=7,
        )
    assert {part.reward.parts["step"].value for part in (*found.greedy, *sum(found.sampled, ()))} == {7.0}
