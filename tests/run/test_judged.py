"""Steps in which no output got a reward are told, and a run that never gets any stops."""

from types import SimpleNamespace

import pytest

from groupwise.config import RewardConfig
from groupwise.data import Group, Part, Reward, Sample
from groupwise.errors import RewardLimitError
from groupwise.run.judged import PATIENCE, Judged, check_rewards
from tests.rewards.build import output, question


class Recorder:
    def __init__(self):
        self.steps = []

    def write_step(self, step, groups, **_):
        self.steps.append(step)


def run_of(steps: int = 100, learns: bool = True):
    """A journal, and what its run has seen of rewards."""
    recipe = SimpleNamespace(
        rewards=[RewardConfig(function="math")],
        update=SimpleNamespace(steps=steps),
        correct_label="math",
        evaluate=SimpleNamespace(format=None),
        run=SimpleNamespace(failed_rewards_limit=0.2),
    )
    return SimpleNamespace(recipe=recipe, recorder=Recorder(), state=SimpleNamespace(step=0)), Judged(learns)


def groups_of(*values: float | None) -> list[Group]:
    state = {None: "abstained"}
    rewards = [Reward(value, {"math": Part(state.get(value, "value"), value)}) for value in values]
    samples = tuple(Sample(output("a"), reward) for reward in rewards)
    return [Group(question(), samples)]


def test_the_first_step_without_a_reward_is_told_once(capsys):
    run = run_of()
    check_rewards(*run, groups_of(1.0, None))
    for _ in range(2 * PATIENCE):
        check_rewards(*run, groups_of(None, None))
    told = capsys.readouterr().err
    assert told.count("no output got a reward (math returned None for all 2)") == 1


def test_a_run_that_never_gets_a_reward_stops(capsys):
    run = run_of()
    for _ in range(PATIENCE - 1):
        check_rewards(*run, groups_of(None, None))
    with pytest.raises(RewardLimitError, match=f"no output of {PATIENCE} steps got a reward: math returned None"):
        check_rewards(*run, groups_of(None, None))
    assert run[0].recorder.steps == [0]
    short = run_of(steps=2)
    check_rewards(*short, groups_of(None, None))
    with pytest.raises(RewardLimitError, match="no output of 2 steps"):
        check_rewards(*short, groups_of(None, None))


def test_a_run_that_does_not_learn_from_rewards_needs_none(capsys):
    run = run_of(steps=1, learns=False)
    check_rewards(*run, groups_of(None, None))
    assert capsys.readouterr().err == ""
