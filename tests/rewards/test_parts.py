"""Rewards for some parts of a mixture: of the questions of other parts they say nothing, and are not asked."""

import pytest

from groupwise.config import RewardConfig, recipe_from
from groupwise.errors import ConfigError, DataError
from groupwise.rewards.base import RewardSet, first_scored
from groupwise.run.answers import check_functions
from tests.rewards.build import FUNCTIONS, output, question

SUM = question("4", name="s-1", part="sums")
WORD = question("cat", name="w-1", part="words")
ELSE = question("4", name="e-1")


def scored(*configs, asked=(SUM, WORD, SUM, ELSE)):
    with RewardSet(configs) as rewards:
        return rewards.score(list(asked), [output("It is 4")] * len(asked))


def test_a_function_abstains_from_the_questions_of_other_parts():
    # number cannot judge `cat` and would fail on it
    found = scored(RewardConfig(function="number", parts=("sums",)), RewardConfig(function="exact", parts=("words",)))
    assert [reward.parts["number"].state for reward in found] == ["value", "abstained", "value", "abstained"]
    assert [reward.parts["exact"].state for reward in found] == ["abstained", "value", "abstained", "abstained"]
    assert [reward.value for reward in found] == [1, 0, 1, None]


def test_without_parts_a_function_scores_all():
    found = scored(RewardConfig(function="exact"))
    assert [reward.parts["exact"].state for reward in found] == ["value"] * 4


def test_a_function_is_called_with_the_questions_of_its_parts_alone():
    [first, other, last, _] = scored(RewardConfig(function=f"{FUNCTIONS}:how_many", parts=("sums",)))
    assert (first.value, other.value, last.value) == (2, None, 2)


def test_a_part_that_no_question_has_is_refused_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"rewards\[1\].parts = \['wrods'\]: no question has the part 'wrods'"
    ) as caught:
        first_scored(RewardConfig(function="exact", parts=("wrods",)), [SUM, WORD], where="rewards[1]")
    assert caught.value.hint == "did you mean 'words'?"
    with pytest.raises(ConfigError, match="environment mixture"):
        first_scored(RewardConfig(function="exact", parts=("words",)), [ELSE], where="rewards[0]")


def recipe(*rewards):
    return recipe_from(
        {"model": {"path": "tiny"}, "questions": {"source": "arithmetic"}, "update": {"steps": 1}, "rewards": rewards}
    )


def test_before_a_run_each_built_in_is_tried_on_a_question_of_its_own_part():
    made = recipe({"function": "exact"}, {"function": "number", "parts": ["sums"]})
    with RewardSet(made.rewards) as rewards:
        check_functions(made.rewards, rewards, [WORD, SUM])  # number would fail on the first question
    for parts, error, told in ((["words"], DataError, "cannot judge question 'w-1'"), (["x"], ConfigError, "part 'x'")):
        made = recipe({"function": "exact"}, {"function": "number", "parts": parts})
        with RewardSet(made.rewards) as rewards, pytest.raises(error, match=told):
            check_functions(made.rewards, rewards, [WORD, SUM])
