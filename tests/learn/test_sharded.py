"""Weights that FSDP2 gathers for a module's own forward pass alone are there whenever a policy reads them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

from groupwise.data import Sampling
from groupwise.model.policy import Policy
from tests.close import close
from tests.model import build
from tests.project.sources import ROOT

SAMPLING = Sampling(max_new_tokens=9)


def shard(policy: Policy) -> None:
    decoder = policy.model.get_decoder()
    for layer in decoder.layers if hasattr(decoder, "layers") else decoder.h:
        fully_shard(layer)
    fully_shard(policy.model)


def learned(policy: Policy, seeds: range, share: float) -> torch.Tensor:
    """The gradient that these groups of outputs leave, by parameter, one behind another."""
    for seed in seeds:
        rollouts = build.rollouts([4, 2], [3, 3], seed=seed)
        policy.backward(
            rollouts, rollouts.output_mask, sampling=SAMPLING, loss=lambda logprobs, _: logprobs.sum() * share
        )
    found = [weight.grad for weight in policy.model.parameters() if weight.grad is not None]
    return torch.cat([(g.full_tensor() if hasattr(g, "full_tensor") else g).flatten() for g in found])


@pytest.fixture
def world_of_one(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_log_probabilities_states_and_gradients_of_a_sharded_model_are_the_whole_ones(
    family, tmp_path, tiny_folder, request
):
    policy = build.policy_of(build.SHARING[family], tmp_path, tiny_folder)
    policy.model.double()
    request.getfixturevalue("world_of_one")  # once the model is saved, which a process of a group leaves to its first
    rollouts = build.rollouts([4, 2], [3, 3])
    mask = rollouts.output_mask

    def scores() -> list[torch.Tensor]:
        with policy.states(rollouts, mask) as states, torch.no_grad():
            return [states.detach(), policy.logprobs(rollouts, mask, sampling=SAMPLING).logprobs]

    expected, gradient = scores(), learned(policy, range(1), 1.0)
    policy.model.zero_grad()
    shard(policy)
    assert close(learned(policy, range(1), 1.0), gradient)
    for value, plain in zip(scores(), expected, strict=True):
        assert close(value, plain)


@pytest.mark.long
def test_two_processes_with_half_of_the_outputs_each_learn_the_whole_gradient(tmp_path, tiny_folder):
    policy = build.policy_of(build.SHARING["llama"], tmp_path / "model", tiny_folder)
    policy.model.double()
    whole = learned(policy, range(2), 0.5)
    words = [sys.executable, "-m", "tests.learn.test_sharded", str(tmp_path), str(tiny_folder)]
    ranks = [subprocess.Popen([*words, str(rank)], cwd=ROOT) for rank in range(2)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    for rank in range(2):
        assert close(torch.load(tmp_path / f"gradient-{rank}.pt"), whole)


def one_rank(folder: Path, tiny_folder: Path, rank: int) -> None:
    """Leaves the gradient as rank `rank` of two sees it."""
    from groupwise.config import ModelConfig
    from groupwise.model.loading import load_policy

    torch.set_num_threads(1)
    tokenizer = build.tokenizer_for(folder / "model", tiny_folder)
    policy = load_policy(ModelConfig(path=str(folder / "model"), device="cpu"), tokenizer)
    policy.model.double()
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    shard(policy)
    # FSDP means over ranks
    torch.save(learned(policy, range(rank, rank + 1), 1.0), folder / f"gradient-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    one_rank(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
