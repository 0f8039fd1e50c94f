"""Two ranks with unequal parts of a step's examples leave the gradient and the loss of one that has them all."""

import copy
from dataclasses import replace

import pytest
import torch

from groupwise.config import UpdateConfig, recipe_from
from groupwise.learn.examples import Encoded, rollouts_of
from groupwise.learn.judgements import JUDGEMENT_RULES, Case, Pair
from groupwise.learn.preferences import liked_of, reference_point_of_step
from groupwise.learn.preferences import rollouts_of as rollouts_of_judged
from groupwise.learn.ranks import ALONE
from groupwise.learn.tally import Tally
from groupwise.model.reward_model import SEQUENCES
from groupwise.stages import preference, reward_model, sft
from tests.close import close
from tests.learn.test_ranks import on_ranks
from tests.model import build
from tests.model.classifiers import classifier, random_groups
from tests.stages.test_preference import METHODS, compared

UPDATE = UpdateConfig(steps=1, tokens_per_microbatch=14)  # so that one rank has more micro-batches than the other


@pytest.fixture
def policy(tmp_path, tiny_folder):
    policy = build.policy_of(build.SHARING["gpt2"], tmp_path, tiny_folder)
    policy.model.double()
    return policy


def examples(policy, part, ranks):
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(3, build.VOCABULARY, (length,), generator=generator).tolist() for length in (7, 3, 12, 5)]
    chosen = [Encoded(tuple(ids), (False, *([True] * (len(ids) - 1)))) for ids in rows[part]]
    optimizer = torch.optim.SGD(policy.model.parameters())
    rollouts = rollouts_of(chosen, policy.device)
    return sft.gradient(policy, optimizer, rollouts, Tally(), config=UPDATE, step=0, ranks=ranks)


def judged(name):
    def learned(policy, part, ranks):
        items = compared(pairs=METHODS[name].of_pairs)[part]
        rollouts, liked = rollouts_of_judged(items, policy.device), liked_of(items, policy.device)
        given = {"of_reference": torch.full((len(liked),), -20.0, dtype=torch.float64), "z0": torch.tensor(0.4)}
        optimizer = torch.optim.SGD(policy.model.parameters())
        settings = {"units": len(items), "config": UPDATE, "step": 0, "ranks": ranks}
        method = METHODS[name]
        return preference.gradient(policy, optimizer, method, rollouts=rollouts, liked=liked, **given, **settings)[1]

    return learned


def pairs(policy, part, ranks):
    cases = [Case("here", tuple(group), margin=0.5) for group in random_groups(places=1)[part]]
    recipe = recipe_from({"stage": "reward_model", "model": {"path": "tiny"}, "examples": {"source": "e.jsonl"},
                          "update": {"steps": 1, "tokens_per_microbatch": 14}})  # fmt: skip
    optimizer = torch.optim.SGD(policy.model.parameters())
    rules = JUDGEMENT_RULES[Pair]
    return reward_model.gradient(policy, optimizer, rules, cases, Tally(), recipe=recipe, step=0, ranks=ranks)[1]


@pytest.mark.parametrize("name", ["sft", *sorted(METHODS), "reward_model"])
def test_parts_of_a_step_on_two_ranks_are_the_whole_step(name, policy, tmp_path, tiny_folder):
    learned = {"sft": examples, "reward_model": pairs}.get(name) or judged(name)
    if name == "reward_model":
        policy = classifier(build.SHARING["gpt2"], SEQUENCES, tmp_path / "classifier", tiny_folder)
        policy.model.double()
    loss = learned(policy, slice(None), ALONE)
    copies = [replace(policy, model=copy.deepcopy(policy.model)) for _ in range(2)]
    for one in copies:
        one.model.zero_grad(set_to_none=False)
    found, errors = on_ranks(
        lambda ranks: learned(copies[0], slice(0, 2), ranks), lambda ranks: learned(copies[1], slice(2, None), ranks)
    )
    assert not errors, errors
    for own_loss, one in zip(found, copies, strict=True):
        assert close(own_loss, loss)
        for weight, whole in zip(one.model.parameters(), policy.model.parameters(), strict=True):
            assert (weight.grad is None) == (whole.grad is None)
            assert weight.grad is None or close(weight.grad, whole.grad)


def test_ktos_reference_point_is_of_all_ranks():
    log_ratios = torch.tensor([0.3, -0.1, 0.9, 0.2, 0.7], dtype=torch.float64)
    found, errors = on_ranks(
        lambda ranks: reference_point_of_step(log_ratios[:2], ranks),
        lambda ranks: reference_point_of_step(log_ratios[2:], ranks),
    )
    assert not errors, errors
    for own in found:
        assert close(own, reference_point_of_step(log_ratios))
        assert close(own, torch.tensor(0.4, dtype=torch.float64))
