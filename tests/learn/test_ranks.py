"""Two ranks with a part of a step each, joined through the seam alone, learn what one process with all of it learns."""

import copy
import threading
from dataclasses import replace

import pytest
import torch

from groupwise.config import CriticConfig, ObjectiveConfig, UpdateConfig
from groupwise.data import Sampling
from groupwise.learn.auxiliary import AuxiliaryModels
from groupwise.learn.make_batch import logprobs, make_batch
from groupwise.learn.microbatches import in_microbatches
from groupwise.learn.optimizer import make_optimizer
from groupwise.learn.ranks import ALONE
from groupwise.learn.update import update_policy
from groupwise.model.critic import Critic
from groupwise.objective.losses import Denominators
from groupwise.run.resolve import resolve
from tests.close import close
from tests.model import build

SAMPLING = Sampling(max_new_tokens=9, temperature=0.8)
UPDATE = UpdateConfig(steps=4, learning_rate=1e-2, max_grad_norm=0.1, tokens_per_microbatch=12)
SECONDS = 20


class Threads:
    """A rank whose others are threads: each call is one meeting of all of them.

    One computes at a time, since what a model attends to is said for the whole process.
    """

    def __init__(self, rank, board, barrier, turn):
        self.rank, self.count, self._board, self._barrier, self._turn = rank, len(board), board, barrier, turn

    def _met(self, value):
        self._board[self.rank] = value
        self._turn.release()
        self._barrier.wait(SECONDS)
        found = list(self._board)
        self._barrier.wait(SECONDS)
        self._turn.acquire()
        return found

    def sum(self, values):
        return torch.stack(self._met(values)).sum(0)

    def most(self, number):
        return max(self._met(number))

    def gather(self, rows):
        return self._met(rows)

    def sum_gradients(self, gradients):
        gradients = list(gradients)
        everywhere = self._met([gradient.clone() for gradient in gradients])
        for number, gradient in enumerate(gradients):
            gradient.copy_(sum(own[number] for own in everywhere))


def on_ranks(*work):
    """What each function of a Ranks returns, each in a thread of its own; the first error is raised."""
    board, barrier, turn = [None] * len(work), threading.Barrier(len(work)), threading.Lock()
    results, errors = [None] * len(work), []

    def do(rank):
        turn.acquire()
        try:
            results[rank] = work[rank](Threads(rank, board, barrier, turn))
        except BaseException as error:
            errors.append((rank, error))
        finally:
            if turn.locked():
                turn.release()

    threads = [threading.Thread(target=do, args=(rank,)) for rank in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, dict(errors)


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_folder):
    """A policy, a reference and a critic's trunk of one vocabulary, float64 all through."""
    found = []
    for seed in range(3):
        folder = tmp_path_factory.mktemp("ranks") / str(seed)
        policy = build.policy_of(build.SHARING["gpt2"], folder, tiny_folder, seed=seed)
        policy.model.double()
        found.append(policy)
    return found


REWARDS = [1.0, 0.0, 0.25, 0.75, 0.0, 1.0, 0.5, 0.5, 0.5]  # of the last group: equal, so it teaches nothing by itself


def step(models, part, *, objective, critic=None, ranks=ALONE, config=UPDATE):
    """One update of copies of the models on a part of the step: its tally, the new weights, the batch."""
    policy, reference, trunk = (replace(one, model=copy.deepcopy(one.model)) for one in models)
    learned = None
    if critic is not None:
        own = policy if critic == "shared" else trunk
        head = torch.nn.Linear(own.model.get_output_embeddings().weight.shape[1], 1, bias=False).double()
        torch.nn.init.constant_(head.weight, 0.1)
        learned = Critic(own, head, CriticConfig(trunk=critic, learning_rate=1e-2))
    batch = make_batch(
        policy,
        part,
        objective=objective,
        auxiliary=AuxiliaryModels(reference if objective.kl_coef else None, None, learned),
        sampling=SAMPLING,
        truncated=torch.zeros(len(part.lengths), dtype=torch.bool),
        exact_engine=True,
        config=config,
        reward_weights=(1.0,),
        ranks=ranks,
    )
    optimizer = make_optimizer(policy, config, learned)
    settings = {"sampling": SAMPLING, "config": config, "seed": 0, "step": 0, "critic": learned, "ranks": ranks}
    tally = update_policy(policy, optimizer, batch=batch, objective=objective, **settings)
    modules = [policy.model, *([learned.module] if learned else [])]
    weights = [weight.detach() for module in modules for weight in module.parameters()]
    return tally, weights, batch


def whole_of(models):
    rollouts = replace(build.rollouts((5, 1, 3), (4, 2, 3)), rewards=torch.tensor(REWARDS))
    own = logprobs(models[0], rollouts, rollouts.output_mask, sampling=SAMPLING, tokens=100)
    return replace(rollouts, sampled_logprobs=own)


CASES = {
    "grpo": ({"preset": "grpo", "kl_coef": 0.0}, None),
    "grpo with KL and entropy": ({"preset": "grpo", "entropy_coef": 0.01}, None),
    "mean over tokens": ({"preset": "dapo"}, None),
    "of the batch": ({"preset": "reinforce_pp_baseline"}, None),
    "KL in the reward": ({"preset": "rloo", "kl_in": "reward", "kl_coef": 0.5, "kl_estimator": "k1"}, None),
    "ppo": ({"preset": "ppo"}, "own"),
    "ppo on the policy's trunk": ({"preset": "ppo"}, "shared"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("cut", [4, 6])  # after 6 rows the second rank has nothing that teaches by itself
def test_parts_of_a_step_on_two_ranks_are_the_whole_step(models, name, cut):
    config, critic = CASES[name]
    objective = resolve(ObjectiveConfig(**config))
    rollouts = whole_of(models)
    tally, weights, batch = step(models, rollouts, objective=objective, critic=critic)
    assert tally.updates == 1
    parts = [rollouts[torch.arange(0, cut)], rollouts[torch.arange(cut, 9)]]
    parts[1] = replace(parts[1], group=parts[1].group - parts[1].group.min())  # each rank counts its own from 0
    found, errors = on_ranks(
        *(
            lambda ranks, part=part: step(models, part, objective=objective, critic=critic, ranks=ranks)
            for part in parts
        )
    )
    assert not errors, errors
    told = {"with_kl": objective.kl_coef > 0, "corrected": False, "with_critic": critic is not None}
    for rank, (own_tally, own_weights, own_batch) in enumerate(found):
        rows = slice(0, cut) if rank == 0 else slice(cut, 9)
        width = own_batch.advantages.shape[1]
        close(own_batch.advantages, batch.advantages[rows, :width])
        for own, expected in zip(own_weights, weights, strict=True):
            close(own, expected)
        expected = tally.metrics(**told)
        assert own_tally.metrics(**told) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("cut", "at_most"), [(2, 3), (4, 1)])
def test_a_rank_with_fewer_outputs_than_updates_goes_on(models, cut, at_most):
    objective = resolve(ObjectiveConfig(preset="grpo", kl_coef=0.0))
    several = UPDATE.model_copy(update={"outputs_per_update": at_most})
    rollouts = whole_of(models)
    parts = [rollouts[torch.arange(0, cut)], rollouts[torch.arange(cut, 9)]]
    found, errors = on_ranks(
        *(
            lambda ranks, part=part: step(models, part, objective=objective, ranks=ranks, config=several)
            for part in parts
        )
    )
    assert not errors, errors
    (one, weights, _), (other, theirs, _) = found
    assert one.updates == other.updates > 1
    for own, expected in zip(weights, theirs, strict=True):
        assert torch.equal(own, expected)


def test_a_denominator_of_one_rank_alone_would_be_seen(models, monkeypatch):
    objective = resolve(ObjectiveConfig(preset="grpo", kl_coef=0.0))
    rollouts = whole_of(models)
    _, weights, _ = step(models, rollouts, objective=objective)
    monkeypatch.setattr(Threads, "sum", lambda self, values: values)
    parts = [rollouts[torch.arange(0, 4)], rollouts[torch.arange(4, 9)]]
    found, errors = on_ranks(
        *(lambda ranks, part=part: step(models, part, objective=objective, ranks=ranks) for part in parts)
    )
    assert not errors
    assert any(not torch.allclose(own, whole, rtol=1e-6) for own, whole in zip(found[0][1], weights, strict=True))
    assert Denominators.of(rollouts.output_mask, 9).outputs == 9


def test_ranks_make_as_many_passes_and_what_fails_on_one_ends_all(models):
    policy, done = models[0], [[], []]

    def passes(pieces, failing=None):
        def work(ranks):
            def do(piece):
                done[ranks.rank].append(piece)
                if piece == failing:
                    raise ValueError("a fault of this rank's")

            return in_microbatches(
                policy,
                UPDATE,
                cut=lambda tokens: pieces,
                units=lambda piece: 2,
                begin=lambda: None,
                do=do,
                ranks=ranks,
                idle="idle",
            )

        return work

    results, errors = on_ranks(passes(["a", "b", "c"]), passes(["d"]))
    assert (results, errors) == ([0, 0], {})
    assert done == [["a", "b", "c"], ["d", "idle", "idle"]]
    done = [[], []]
    _, errors = on_ranks(passes(["a", "b"]), passes(["c", "d", "e"], failing="d"))
    assert {rank: str(error) for rank, error in errors.items()} == {
        0: "another rank failed; its own error says why",
        1: "a fault of this rank's",
    }
    assert done == [["a", "b"], ["c", "d"]]


def test_memory_that_runs_out_on_one_rank_halves_the_passes_of_all(models):
    policy = replace(models[0])
    done = [[], []]

    def work(pieces):
        def of(ranks):
            def do(piece):
                done[ranks.rank].append(piece)
                if piece > 6:
                    raise MemoryError

            return in_microbatches(
                replace(policy),
                UPDATE,
                cut=lambda tokens: [min(tokens, pieces)] * -(-pieces // tokens),
                units=lambda piece: 2,
                begin=lambda: None,
                do=do,
                ranks=ranks,
                idle=0,
            )

        return of

    results, errors = on_ranks(work(12), work(5))
    assert (results, errors) == ([1, 1], {})
    assert done[0][-2:] == [6, 6]
    assert len(done[0]) == len(done[1]) == 3
