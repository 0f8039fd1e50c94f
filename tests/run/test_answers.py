"""Answers that a built-in reward cannot compare with are found before a model is loaded, with file and line."""

import math

import pytest

from groupwise.config import RewardConfig
from groupwise.data import Message, Question
from groupwise.errors import DataError
from groupwise.rewards.base import RewardSet
from groupwise.run.answers import require_answers


def _asked(*answers, part="a"):
    return [
        Question(f"q:{line}", (Message("user", "?"),), answer, {"part": part}, f"q.jsonl:{line}")
        for line, answer in enumerate(answers, 1)
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "it has no answer, and reward 'exact' compares"),
        (" ", "it has no answer"),
        (math.nan, "its answer nan is no finite number"),
        ({"a": 1}, r"its answer \{'a': 1\} is dict, not one text or number"),
        (["1", "2"], r"its answer .* is list, not one text"),
        (b"2", "its answer b.2. is bytes"),
    ],
)
def test_one_row_of_many_without_an_answer_is_named_with_its_line(answer, said):
    config = RewardConfig(function="exact")
    with RewardSet([config]) as rewards:
        require_answers([config], rewards, _asked("1", 2, 3.5, ["4"]))
        for train, heldout in ((_asked("1", "2", answer), []), (_asked("1"), _asked("1", "2", answer))):
            with pytest.raises(DataError, match=rf"^q\.jsonl:3: question 'q:3': {said}"):
                require_answers([config], rewards, train, heldout)


def test_an_answer_that_the_reward_itself_cannot_read_is_named_with_its_line():
    config = RewardConfig(function="number")
    said = r"^q\.jsonl:2: question 'q:2': reward 'number' cannot judge it: .*'none'"
    with RewardSet([config]) as rewards, pytest.raises(DataError, match=said):
        require_answers([config], rewards, _asked("1", "none"))


def test_only_the_parts_that_the_reward_scores_need_an_answer():
    configs = [RewardConfig(function="number", parts=("a",)), RewardConfig(function="boxed", parts=("b",))]
    with RewardSet(configs) as rewards:
        require_answers(configs, rewards, [*_asked("1"), *_asked(None, part="b")])


def test_a_judge_whose_rubric_shows_the_answer_needs_one_of_every_question(tmp_path):
    (tmp_path / "rubric.yml").write_text("prompt: '{answer} {output}'")
    judge = RewardConfig(function="local_judge", params={"rubric": str(tmp_path / "rubric.yml"), "path": "tiny"})
    with RewardSet([RewardConfig(function="boxed")]) as rewards:
        with pytest.raises(DataError, match=r"q\.jsonl:2: .*no answer, and reward 'local_judge' compares with it"):
            require_answers([judge], rewards, _asked("1", None))
        (tmp_path / "rubric.yml").write_text("prompt: '{output}'")
        require_answers([judge], rewards, _asked("1", None))
