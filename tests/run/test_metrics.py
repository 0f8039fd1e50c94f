"""A step's metrics from groups and a batch whose numbers are worked by hand."""

import numpy as np
import pytest
import torch

from groupwise import metrics as catalogue
from groupwise.config import ObjectiveConfig, recipe_from
from groupwise.data import Group, Message, Output, Part, Question, Reward, Sample
from groupwise.learn.tally import Tally
from groupwise.model.batch import Batch, Rollouts
from groupwise.rollout.groups import Rollout
from groupwise.run.metrics import output_advantages, reward_metrics, step_metrics
from groupwise.run.resolve import resolve
from tests.close import close

GRPO = resolve(ObjectiveConfig(kl_coef=0.0))
VALUE, FAILED, ABSTAINED = "value", "failed", "abstained"


def recipe(**evaluate):
    rewards = [{"function": "exact"}, {"function": "boxed", "weight": 0.5}]
    tree = {"model": {"path": "tiny"}, "questions": {"source": "arithmetic"}, "rewards": rewards}
    return recipe_from(
        {**tree, "update": {"steps": 10, "learning_rate": 2.0}, "evaluate": evaluate or {"format": "boxed"}}
    )


def sample(value, *, exact=(VALUE, 1.0), boxed=(VALUE, 1.0), length=2, finish="stop"):
    tokens = np.arange(length, dtype=np.int32)
    output = Output(np.arange(3), tokens, tokens >= 0, np.zeros(length, np.float32), "text", finish)
    return Sample(output, Reward(value, {"exact": Part(*exact), "boxed": Part(*boxed)}))


def groups():
    """Two groups: rewards 1.5, 0.5, none (failed) and 1.0, 1.0, none (abstained)."""
    first = (
        sample(1.5),
        sample(0.5, exact=(VALUE, 0.0), length=4, finish="length"),
        sample(None, exact=(FAILED, None)),
    )
    second = (
        sample(1.0, boxed=(VALUE, 0.0)),
        sample(1.0, boxed=(VALUE, 0.0), length=1),
        sample(None, exact=(ABSTAINED, None), boxed=(ABSTAINED, None)),
    )
    asked = [Question(name, (Message("user", name),)) for name in "ab"]
    return [Group(asked[0], first), Group(asked[1], second)]


def batch(made, advantages, *, rewarded=True):
    """The groups as a batch with one advantage an output, on each of its tokens. rewarded: only those with a reward."""
    rollouts = Rollouts.of(made)
    mask = rollouts.output_mask & ~(rollouts.rewards.isnan() & rewarded)[:, None]
    values = torch.where(mask, torch.tensor(advantages)[:, None], 0.0)
    return Batch(rollouts, mask, values, old_logprobs=None, ref_logprobs=None)


def test_reward_metrics():
    # failed 1 of 6, abstained 1 of 6; rewards 1.5, 0.5, 1, 1 -> mean 1; stds sqrt(0.5) and 0 -> mean 0.353553
    # exact 1, 0, 1, 1 -> 0.75, std sqrt(0.75 / 3); boxed 1, 1, 1 and 0, 0 -> 0.6, std sqrt(1.2 / 4); only the first
    # group's rewards differ
    assert close_dicts(
        reward_metrics(recipe(), groups()),
        {
            "rewards/failed": 1 / 6,
            "rewards/abstained": 1 / 6,
            "groups/signal": 1 / 2,
            "reward/mean": 1.0,
            "reward/std": 0.5**0.5 / 2,
            "reward/exact": 0.75,
            "reward/boxed": 0.6,
            "accuracy": 0.75,
            "format": 0.6,
            "rewards/std/exact": 0.5,
            "rewards/std/boxed": 0.3**0.5,
            "rewards/failed/exact": 1 / 6,
            "rewards/failed/boxed": 0.0,
            "rewards/abstained/exact": 1 / 6,
            "rewards/abstained/boxed": 1 / 6,
        },
    )


def test_the_recipe_names_what_is_right_and_what_is_well_formed():
    found = reward_metrics(recipe(correct="boxed", format="exact"), groups())
    assert close((found["accuracy"], found["format"]), (0.6, 0.75))


def test_without_any_reward_there_is_no_mean():
    broken = [Group(groups()[0].question, (sample(None, exact=(FAILED, None), boxed=(FAILED, None)),) * 2)]
    found = reward_metrics(recipe(), broken)
    parts = {"failed": 1.0, "abstained": 0.0}
    own = {f"rewards/{what}/{name}": value for name in ("exact", "boxed") for what, value in parts.items()}
    assert found == {"rewards/failed": 1.0, "rewards/abstained": 0.0, "groups/signal": 0.0} | own


def test_an_output_has_the_advantage_of_its_tokens_or_none_without_a_reward():
    made = groups()
    found = output_advantages(
        Rollout(made, sample_seconds=1.0, reward_seconds=0.0), batch(made, [0.7, -0.7, 0.0, 0.25, 0.5, 0.0])
    )
    assert [[value is None for value in row] for row in found] == [[False, False, True]] * 2
    assert close(torch.tensor([row[:2] for row in found]), [[0.7, -0.7], [0.25, 0.5]])


def test_an_advantage_that_reads_no_reward_is_shown_for_outputs_without_one():
    made = groups()
    learned = batch(made, [0.7, -0.7, 0.1, 0.25, 0.5, 0.2], rewarded=False)
    found = output_advantages(Rollout(made, sample_seconds=1.0, reward_seconds=0.0), learned)
    assert close(torch.tensor(found), [[0.7, -0.7, 0.1], [0.25, 0.5, 0.2]])


def test_step_metrics():
    # 2 + 4 + 2 + 2 + 1 + 2 = 13 tokens in 1 + 2 + 10 = 13 seconds; |A| of the four with a reward: mean 0.5375
    made = groups()
    tally = Tally(
        tokens=4,
        objective=0.5,
        entropy=8.0,
        ratio=4.0,
        ratio_max=1.0,
        grad_norm=3.0,
        updates=1,
        gap_tokens=4,
        importance=4.0,
        importance_squares=4.0,
    )
    found = step_metrics(
        recipe(),
        Rollout(made, sample_seconds=1.0, reward_seconds=2.0),
        batch(made, [0.7, -0.7, 0.0, 0.25, 0.5, 0.0]),
        tally,
        objective=GRPO,
        step=3,
        update_seconds=10.0,
    )
    catalogue.check(found)
    expected = {
        "length/mean": 13 / 6,
        "length/max": 4.0,
        "finish/length": 1 / 6,
        "tokens/sampled": 13.0,
        "tokens/per_second": 1.0,
        "time/step": 13.0,
        "learning_rate": 2.0,
        "entropy": 2.0,
        "ratio/mean": 1.0,
        "advantage/abs_mean": 0.5375,
        "grad_norm": 3.0,
    }
    assert close_dicts({name: found[name] for name in expected}, expected, tolerance=1e-6)


@pytest.mark.parametrize("missing", ["kl", "entropy", "ratio/mean", "objective"])
def test_a_step_without_an_update_claims_no_figure_of_one(missing):
    made = groups()
    rollout = Rollout(made, sample_seconds=1.0, reward_seconds=0.0)
    found = step_metrics(recipe(), rollout, batch(made, [0.0] * 6), Tally(), objective=GRPO, step=0, update_seconds=1.0)
    assert missing not in found


def close_dicts(found, expected, tolerance=1e-9):
    assert found.keys() == expected.keys()
    worst = max(expected, key=lambda name: abs(found[name] - expected[name]))
    assert abs(found[worst] - expected[worst]) <= tolerance, f"{worst}: {found[worst]} is not {expected[worst]}"
    return True


def test_without_a_reward_that_is_named_for_it_nothing_is_well_formed():
    unnamed = recipe(correct="exact")
    assert unnamed.evaluate.format is None
    assert "format" not in reward_metrics(unnamed, groups())
