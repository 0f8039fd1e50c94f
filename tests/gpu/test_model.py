"""On an accelerator: what a model computes there is what it computes on a CPU, and in bf16 nearly so."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from groupwise.config import ModelConfig
from groupwise.data import Sampling
from groupwise.engines.base import Task, generate, stream
from groupwise.engines.draw import inverse_cdf
from groupwise.engines.local import LocalEngine
from groupwise.model.batch import Rollouts
from groupwise.model.loading import load_policy
from groupwise.model.policy import Policy
from tests.close import close
from tests.model import build

pytestmark = pytest.mark.gpu
PLAIN = Sampling(max_new_tokens=9)
FAMILIES = build.SHARING | build.NOT_SHARING


def near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """To fp32's rounding on two devices, whose sums have other orders."""
    found, expected = found.detach().cpu().double(), expected.detach().cpu().double()
    return bool((found - expected).abs().max() < 1e-3 * max(1.0, float(expected.abs().max())))


@pytest.fixture(params=FAMILIES)
def both(request, tmp_path, tiny_folder, accelerator) -> tuple[Policy, Policy]:
    """A model on the CPU and the same on the device, both fp32."""
    here = build.policy_of(FAMILIES[request.param], tmp_path, tiny_folder)
    config = ModelConfig(path=str(tmp_path), device=accelerator, precision="fp32")
    return here, load_policy(config, here.tokenizer)


def gradient(policy: Policy) -> torch.Tensor:
    rollouts = build.rollouts([4, 2], [3, 3], device=policy.device)
    policy.model.zero_grad()
    policy.backward(rollouts, rollouts.output_mask, sampling=PLAIN, loss=lambda logprobs, _: logprobs.square().sum())
    return torch.cat([weight.grad.flatten() for weight in policy.model.parameters() if weight.grad is not None])


def test_values_and_gradients_are_the_cpus_in_every_layout(both):
    here, there = both
    assert there.question_once == here.question_once
    for once in {here.question_once, False}:
        here.question_once = there.question_once = once
        scored = [p.logprobs(r, r.output_mask, sampling=PLAIN) for p in both
                  for r in [build.rollouts([4, 2, 7], [3, 1, 4], device=p.device)]]  # fmt: skip
        assert near(scored[1].logprobs, scored[0].logprobs)
        assert near(scored[1].entropies, scored[0].entropies)
        assert near(gradient(there), gradient(here))


def test_a_samplers_log_probabilities_are_the_policys(both):
    _, there = both
    tasks = [Task(tuple(range(3, 3 + n)), tuple(stream(0, 0, str(n), i) for i in range(3))) for n in (1, 9, 4)]
    for precision, most in ((torch.float32, 1e-3), (torch.bfloat16, 0.5)):
        policy = replace(there, precision=precision)
        groups = [build.group(outputs, [0.0] * 3) for outputs in generate(LocalEngine(policy), tasks, PLAIN)]
        rollouts = Rollouts.of(groups, policy.device)
        scored = policy.logprobs(rollouts, rollouts.output_mask, sampling=PLAIN).logprobs
        gap = (scored - rollouts.sampled_logprobs)[rollouts.output_mask].abs()
        assert float(gap.mean()) < most / 3
        assert float(gap.max()) < most


def test_bf16_is_near_fp32(both):
    _, there = both
    rollouts = build.rollouts([4, 2], [3, 3], device=there.device)
    found = [replace(there, precision=precision).logprobs(rollouts, rollouts.output_mask, sampling=PLAIN).logprobs
             for precision in (torch.float32, torch.bfloat16)]  # fmt: skip
    assert float((found[1] - found[0])[rollouts.output_mask].abs().mean()) < 0.1
    assert not torch.equal(*found)


def test_the_same_draw_finds_the_same_token(accelerator):
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(64, 5000, generator=generator).mul(3).softmax(-1)
    draws = torch.rand(64, generator=generator)
    found = inverse_cdf(p.to(accelerator), draws.to(accelerator)).cpu().numpy()
    # a draw within rounding of a token's end may fall to its neighbour
    assert np.mean(found == inverse_cdf(p, draws).numpy()) > 0.95


def test_an_output_depends_on_its_question_and_stream_alone(tmp_path, tiny_folder, accelerator):
    build.policy_of(build.SHARING["llama"], tmp_path, tiny_folder)
    config = ModelConfig(path=str(tmp_path), device=accelerator, precision="fp32")
    policy = load_policy(config, build.tokenizer_for(tmp_path, tiny_folder))
    tasks = [Task((5, 6, 7 + n), tuple(stream(0, 0, str(n), i) for i in range(4))) for n in range(3)]
    found = [
        [
            [output.tokens.tolist() for output in own]
            for own in generate(LocalEngine(policy, max_num_seqs=rows), tasks, PLAIN)
        ]
        for rows in (1, 5, 256)
    ]
    assert found[0] == found[1] == found[2]


def test_losses_on_the_device_are_the_cpus(accelerator):
    from groupwise.config import ObjectiveConfig
    from groupwise.objective.losses import Denominators
    from groupwise.objective.surrogate import policy_loss
    from groupwise.registry import PRESETS
    from groupwise.run.resolve import resolve

    generator = torch.Generator().manual_seed(0)
    old, ref, advantages, moved = (torch.randn(4, 6, generator=generator) for _ in range(4))
    mask = torch.arange(6).expand(4, 6) < torch.tensor([[6], [3], [1], [5]])
    for preset in PRESETS:
        losses = []
        for device in ("cpu", accelerator):
            inputs = [values.to(device) for values in (old + 0.1 * moved, old, ref, advantages, mask)]
            logprobs, old_there, ref_there, advantages_there, mask_there = inputs
            losses.append(
                policy_loss(
                    resolve(ObjectiveConfig(preset=preset)),
                    logprobs,
                    old_logprobs=old_there,
                    ref_logprobs=ref_there,
                    entropies=logprobs.abs(),
                    advantages=advantages_there,
                    mask=mask_there,
                    denominators=Denominators.of(mask_there, 6),
                    sampled_logprobs=old_there,
                ).cpu()
            )
        assert close(losses[1].double(), losses[0].double()) or near(losses[1], losses[0]), preset
