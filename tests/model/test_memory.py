"""Layers computed twice give the same gradient and keep less."""

import torch
from torch import Tensor

from groupwise.data import Sampling
from groupwise.model.memory import keep_freed_memory
from groupwise.model.policy import Policy
from tests.close import close
from tests.model import made

PLAIN = Sampling(max_new_tokens=9)


def gradient_and_kept(policy: Policy, *, recompute_layers: bool) -> tuple[Tensor, int]:
    """All gradients in one vector, and the numbers kept for the backward pass."""
    rollouts = made.rollouts([4, 2], [3, 3])
    kept = [0]

    def note(tensor: Tensor) -> Tensor:
        kept[0] += tensor.numel()
        return tensor

    policy.model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        policy.backward(
            rollouts, rollouts.output_mask, sampling=PLAIN, recompute_layers=recompute_layers,
            loss=lambda logprobs, _: logprobs.square().sum(),
        )  # fmt: skip
    return torch.cat([weight.grad.flatten() for weight in policy.model.parameters()]), kept[0]


def test_recomputed_layers_give_the_same_gradient_in_every_layout(tmp_path, tiny_folder):
    for name in ("llama", "gemma2"):
        policy = made.policy_of(made.SHARING[name], tmp_path / name, tiny_folder)
        for once in (True, False):
            policy.question_once = once
            expected, _ = gradient_and_kept(policy, recompute_layers=False)
            found, _ = gradient_and_kept(policy, recompute_layers=True)
            assert expected.norm() > 0.01
            assert close(found, expected)


def test_a_layer_computed_twice_is_left_as_it_was(tmp_path, tiny_folder):
    policy = made.policy_of(made.SHARING["llama"], tmp_path, tiny_folder)
    gradient_and_kept(policy, recompute_layers=True)
    assert all("forward" not in vars(module) for module in policy.model.modules())


def test_asking_the_c_library_is_harmless_twice():
    assert keep_freed_memory() == keep_freed_memory()
