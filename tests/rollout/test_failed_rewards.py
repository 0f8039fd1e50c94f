"""Rewards that fail: 1 % are masked and the run goes on, 10 % stop it by name, and no other group changes by a bit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from groupwise import registry
from groupwise.config import RewardConfig
from groupwise.data import Group, Output, Sample
from groupwise.errors import RewardLimitError
from groupwise.model.batch import Rollouts
from groupwise.objective.surrogate import reads
from groupwise.rewards.base import RewardSet
from groupwise.run.judged import Judged, check_rewards
from groupwise.run.metrics import reward_metrics
from tests.rewards.build import FUNCTIONS, question

COMPARING = ("group_relative", "group_centred", "leave_one_out", "over_mean", "per_reward", "reward", "only_right")


def answer(text: str) -> Output:
    tokens = np.arange(3, dtype=np.int32)
    return Output(np.arange(4), tokens, np.ones(3, bool), np.zeros(3, np.float32), text, "stop")


def judged(texts: list[list[str]]) -> list[Group]:
    """Groups of outputs with the number of their letters, and 1 unless the text names a misdeed, as rewards."""
    configs = [RewardConfig(function=f"{FUNCTIONS}:{name}") for name in ("length", "misbehaving")]
    with RewardSet(configs) as rewards:
        flat = [(question(name=f"q{n}"), answer(text)) for n, group in enumerate(texts) for text in group]
        found = iter(rewards.score([q for q, _ in flat], [out for _, out in flat]))
    return [
        Group(question(name=f"q{n}"), tuple(Sample(answer(text), next(found)) for text in group))
        for n, group in enumerate(texts)
    ]


def journal(limit: float = 0.05):
    written = []
    recipe = SimpleNamespace(
        rewards=[RewardConfig(function="x", name=name) for name in ("length", "misbehaving")],
        correct_label="misbehaving",
        evaluate=SimpleNamespace(format=None),
        run=SimpleNamespace(failed_rewards_limit=limit),
        update=SimpleNamespace(steps=9),
    )
    recorder = SimpleNamespace(write_step=lambda step, groups, **_: written.append(step))
    return SimpleNamespace(recipe=recipe, recorder=recorder, state=SimpleNamespace(step=4)), written


def outputs(failing: int) -> list[list[str]]:
    """Ten groups of ten, of which so many outputs fail, one in a group."""
    texts = [["a" * (1 + (n + i) % 4) for i in range(10)] for n in range(10)]
    for n in range(failing):
        texts[n][3] = "raise"
    return texts


def test_one_in_a_hundred_is_masked_and_the_run_goes_on(capsys):
    groups, (run, written) = judged(outputs(1)), journal()
    check_rewards(run, Judged(learns=True), groups)
    assert written == []
    assert "reward misbehaving failed, its outputs are left out of the update" in capsys.readouterr().err
    assert [s.reward.value for s in groups[0].samples].count(None) == 1
    metrics = reward_metrics(run.recipe, groups)
    assert (metrics["rewards/failed"], metrics["rewards/failed/misbehaving"]) == (0.01, 0.01)
    assert metrics["rewards/failed/length"] == metrics["rewards/abstained/length"] == 0


def test_ten_in_a_hundred_stop_the_run_and_are_named(capsys):
    run, written = journal()
    with pytest.raises(RewardLimitError, match="reward 'misbehaving' failed on 10 of 100 outputs, more than") as error:
        check_rewards(run, Judged(learns=True), judged(outputs(10)))
    assert "no luck with q0" in str(error.value)
    assert "question 'q0', output 'raise'" in str(error.value)
    assert written == [4]  # the step is on record


@pytest.fixture(scope="module")
def with_failed() -> list[Group]:
    return judged([["a", "bbb", "cc"], ["a", "raise", "bbb"], ["aa", "b", "b"]])


@pytest.mark.parametrize("name", COMPARING)
def test_failed_rows_change_no_other_group_by_a_bit_and_no_row_of_their_own_group(name, with_failed):
    without = [Group(g.question, tuple(s for s in g.samples if not s.reward.failed)) for g in with_failed]
    advantage = registry.load(registry.ADVANTAGES, name)

    def rows(groups):
        rollouts = Rollouts.of(groups, labels=["length", "misbehaving"])
        given = {
            "rewards": rollouts.rewards,
            "reward_parts": rollouts.reward_parts,
            "reward_weights": torch.tensor([1.0, 1.0]),
            "group": rollouts.group,
            "mask": rollouts.output_mask,
        }
        return advantage(**{key: given[key] for key in reads(advantage)})

    whole = rows(with_failed)
    kept = [i for i in range(9) if i != 4]
    if name != "per_reward":  # whose last step is over the batch
        assert torch.equal(whole[kept], rows(without))
    torch.testing.assert_close(whole[kept], rows(without))
    assert not whole[4].any()
