"""Four methods in one maze: the functions that train language models, on a plain environment with discounted rewards.

A trajectory through the maze is an output, its start cell the question, a step the token. GRPO, REINFORCE, A2C and PPO
are rows of `METHODS`, and so is GRPO with the mean over all steps of the batch in place of each trajectory's own. All
make equally many steps in the maze, in batches of equally many trajectories; compared is the discounted return of the
policy that is sampled from, exact, averaged over all start cells, beside the optimum by value iteration. Each row's
learning rate is the best of the same six (`--tune`, on seeds that the comparison does not use).

    python examples/maze.py --plot maze.png
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from groupwise.compare.figures import mean_over_seeds
from groupwise.objective.advantage import group_relative
from groupwise.objective.logprobs import entropy, k3, token_logprobs
from groupwise.objective.losses import Denominators, clip, per_output, per_token, reinforce
from groupwise.objective.surrogate import Objective, called, policy_loss
from groupwise.objective.token_advantage import gae, gae_whitened
from groupwise.objective.value import value_loss
from groupwise.statistics.plot import COLOURS

# . free, # wall, X trap, G goal; the edge is a wall too.
PLAN = (
    "...#..",
    ".#...#",
    ".#X#..",
    "....X.",
    "#X#.#.",
    ".....G",
)
# Rows and columns: up, right, down, left, so that an action's neighbours in the list are its two sides.
DIRECTIONS = ((-1, 0), (0, 1), (1, 0), (0, -1))
TRAJECTORIES, HIDDEN = 32, 32  # of a batch; units of a network
LEARNING_RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
FIRST_TUNING_SEED = 1000  # seeds of the comparison begin at 0
LATE = 0.1  # of the steps, at the end; the return is averaged over them, since it moves from batch to batch
Curve = list[tuple[int, float]]  # steps made in the maze, and the policy's exact return then


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="GRPO, REINFORCE, A2C and PPO in one maze.")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each method, seeds 0, 1, ..; at least 2")
    parser.add_argument("--steps", type=int, default=60_000, help="in the maze, for each run")
    parser.add_argument("--method", choices=METHODS, help="this one alone")
    parser.add_argument("--plot", type=Path, default=Path("maze.png"), help="where the plot goes")
    parser.add_argument("--tune", action="store_true", help="only try each learning rate, on seeds 1000, 1001, ..")
    chosen = parser.parse_args(words)
    if chosen.seeds < 2:
        parser.error(f"--seeds {chosen.seeds}: an interval needs at least 2")
    torch.set_num_threads(1)  # the networks are too small for two
    maze = Maze.of(PLAN)
    methods = {name: row for name, row in METHODS.items() if chosen.method in (None, name)}
    if chosen.tune:
        print_tuning(methods, maze, chosen.steps, chosen.seeds)
        return
    best = optimum(maze)
    print(f"Discounted return of the sampled policy, exact, mean over {len(maze.starts)} starts; optimum {best:.4f}")
    print(f"mean over the last {LATE:.0%} of {chosen.steps:,} steps, and over seeds")
    print(f"  {'method':<14}  seeds  return  95 % interval     of the optimum")
    curves = {}
    for name, row in methods.items():
        curves[name] = [train(row, maze, chosen.steps, seed) for seed in range(chosen.seeds)]
        print_return(name, curves[name], best)
    plot(curves, chosen.steps, best, chosen.plot)


@dataclass(frozen=True)
class Maze:
    """S cells, row by row. Arriving at the goal is worth 1; there and in a trap a trajectory ends.

    moves: [S, 4] the cell that each direction leads to, the same one at a wall; rewards: [S] of arriving; ends: [S],
    True for traps and the goal; starts: the free cells.
    """

    moves: Tensor
    rewards: Tensor
    ends: Tensor
    starts: Tensor
    slip: float = 0.2  # chance that a step goes to one side of its direction instead, half to each
    discount: float = 0.99
    step_limit: int = 40

    @classmethod
    def of(cls, plan: Sequence[str], **settings: Any) -> "Maze":
        width, letters = len(plan[0]), "".join(plan)
        moves = [[_after(plan, *divmod(cell, width), *way) for way in DIRECTIONS] for cell in range(len(letters))]
        cells = {kind: torch.tensor([letter == kind for letter in letters]) for kind in ".XG"}
        ends, starts = cells["X"] | cells["G"], cells["."].nonzero()[:, 0]
        return cls(torch.tensor(moves), cells["G"].float(), ends, starts, **settings)


class Trajectories(NamedTuple):
    """B trajectories of at most T steps: the cell that a step began in, its action and reward, [B, T] each.

    mask: [B, T], True for the steps up to the end; group: [B], index of a start and of its siblings.
    """

    cells: Tensor
    actions: Tensor
    rewards: Tensor
    mask: Tensor
    group: Tensor


class Batch(NamedTuple):
    """What the updates on a batch of trajectories read, fixed when sampling, [B, T] each."""

    cells: Tensor
    actions: Tensor
    mask: Tensor
    old_logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


def network(cells: int, outputs: int) -> nn.Module:
    """A layer of tanh units on the one-hot vector of the cell (an embedding is that product)."""
    return nn.Sequential(nn.Embedding(cells, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, outputs))


def no_critic(cells: int, outputs: int) -> nn.Module:
    """Values of 0 that nothing trains, so that `gae` gives returns."""
    return nn.Embedding.from_pretrained(torch.zeros(cells, outputs))


@dataclass(frozen=True)
class Method:
    """A method: its objective, and how a batch is used."""

    objective: Objective
    learning_rate: float
    """Adam's, the best of LEARNING_RATES by `--tune`."""
    critic: Callable[[int, int], nn.Module] = no_critic
    gae_lambda: float = 1.0
    group_size: int = 1
    """Trajectories from one start."""
    updates: tuple[int, int] = (1, 1)
    """Times that a batch is gone through, and mini-batches of each."""
    clip_value: float | None = None


def _objective(advantage: Callable[..., Tensor], loss: Any, aggregate: Any, entropy_coef: float = 0.0) -> Objective:
    """Without a KL: the policy that training begins with knows nothing to hold on to."""
    return Objective(advantage, loss, aggregate, k3, entropy_coef=entropy_coef)


METHODS = {
    "GRPO": Method(_objective(group_relative, clip, per_output), 0.003, group_size=8, updates=(4, 4)),
    "GRPO-per-token": Method(_objective(group_relative, clip, per_token), 0.001, group_size=8, updates=(4, 4)),
    "REINFORCE": Method(_objective(gae, reinforce, per_token), 0.01),
    "A2C": Method(_objective(gae, reinforce, per_token, entropy_coef=0.01), 0.03, network, 0.95),
    "PPO": Method(_objective(gae_whitened, clip, per_token), 0.001, network, 0.95, updates=(4, 4), clip_value=0.2),
}


def train(method: Method, maze: Maze, steps: int, seed: int) -> Curve:
    """The return before training and after each batch, as long as no more than `steps` are made."""
    torch.manual_seed(seed)
    policy, critic = network(len(maze.moves), 4), method.critic(len(maze.moves), 1)
    weights = [weight for part in (policy, critic) for weight in part.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=method.learning_rate)
    times, minibatches = method.updates
    steps_taken, curve = 0, [(0, exact_return(maze, policy))]
    while True:
        trajectories = sample(maze, policy, method.group_size)
        steps_taken += int(trajectories.mask.sum())
        if steps_taken > steps:
            return curve
        batch = make_batch(method, maze, policy, critic, trajectories)
        for _ in range(times):
            for rows in torch.randperm(TRAJECTORIES).chunk(minibatches):
                optimizer.zero_grad()
                loss(method, maze, policy, critic, Batch(*(part[rows] for part in batch))).backward()
                optimizer.step()
        curve.append((steps_taken, exact_return(maze, policy)))


@torch.no_grad()
def sample(maze: Maze, policy: nn.Module, group_size: int) -> Trajectories:
    """TRAJECTORIES of them, in groups that begin in one free cell each, drawn evenly."""
    group = torch.arange(TRAJECTORIES) // group_size
    at = maze.starts[torch.randint(len(maze.starts), (int(group[-1]) + 1,))][group]
    chances = policy(torch.arange(len(maze.moves))).softmax(1)
    turns = torch.tensor([maze.slip / 2, 1 - maze.slip, maze.slip / 2])  # to the left, none, to the right
    going = torch.ones(TRAJECTORIES, dtype=torch.bool)
    steps: list[tuple[Tensor, ...]] = []
    while going.any() and len(steps) < maze.step_limit:
        actions = torch.multinomial(chances[at], 1)[:, 0]
        after = maze.moves[at, (actions + torch.multinomial(turns, TRAJECTORIES, replacement=True) - 1) % 4]
        steps.append((at, actions, maze.rewards[after], going))
        at, going = after, going & ~maze.ends[after]
    cells, taken, rewards, mask = (torch.stack(part, dim=1) for part in zip(*steps, strict=True))
    return Trajectories(cells, taken, rewards, mask, group)


@torch.no_grad()
def make_batch(method: Method, maze: Maze, policy: nn.Module, critic: nn.Module, trajectories: Trajectories) -> Batch:
    """The trajectories with their advantages and what the critic is to learn, G = A + V by `gae`."""
    cells, actions, rewards, mask, group = trajectories
    old_values = critic(cells).squeeze(-1)
    inputs = {
        "rewards": discounted_return(rewards, mask, maze.discount),
        "group": group,
        "mask": mask,
        "token_rewards": rewards,
        "values": old_values,
        "discount": maze.discount,
        "gae_lambda": method.gae_lambda,
    }
    advantages, returns = called(method.objective.advantage, inputs), called(gae, inputs) + old_values
    return Batch(cells, actions, mask, token_logprobs(policy(cells), actions), old_values, advantages, returns)


def discounted_return(rewards: Tensor, mask: Tensor, discount: float) -> Tensor:
    """sum_t discount^t r_t of each trajectory, [B]: the first advantage by `gae` with values 0 and lambda 1."""
    return gae(rewards, torch.zeros_like(rewards), mask, discount, 1.0)[:, 0]


def loss(method: Method, maze: Maze, policy: nn.Module, critic: nn.Module, batch: Batch) -> Tensor:
    """The method's loss of a (mini-)batch, and the critic's, which share no weight."""
    logits = policy(batch.cells)
    size = Denominators.of(batch.mask, maze.step_limit)
    policy_term = policy_loss(
        method.objective,
        token_logprobs(logits, batch.actions),
        old_logprobs=batch.old_logprobs,
        ref_logprobs=None,
        entropies=entropy(logits),
        advantages=batch.advantages,
        mask=batch.mask,
        denominators=size,
    )
    errors = value_loss(critic(batch.cells).squeeze(-1), batch.values, batch.returns, batch.mask, method.clip_value)
    return policy_term + method.objective.aggregate(errors, batch.mask, size)


def values(maze: Maze, choose: Callable[[Tensor], Tensor]) -> Tensor:
    """Discounted return from each cell within the step limit, [S], exact: V <- choose(Q) once for each step left.

    choose: Q [S, 4] -> [S]. The greatest Q makes it value iteration, which knows how many steps are left.
    """
    found = torch.zeros(len(maze.moves))
    for _ in range(maze.step_limit):
        arrived = (maze.rewards + maze.discount * found)[maze.moves]
        sides = (arrived.roll(1, dims=1) + arrived.roll(-1, dims=1)) / 2
        found = torch.where(maze.ends, 0.0, choose((1 - maze.slip) * arrived + maze.slip * sides))
    return found


def optimum(maze: Maze) -> float:
    return float(values(maze, lambda q: q.amax(1))[maze.starts].mean())


@torch.no_grad()
def exact_return(maze: Maze, policy: nn.Module) -> float:
    """Expected discounted return of the sampled policy, mean over the start cells."""
    chances = policy(torch.arange(len(maze.moves))).softmax(1)
    return float(values(maze, lambda q: (chances * q).sum(1))[maze.starts].mean())


def late(curve: Curve) -> float:
    """Mean return over the last LATE of the steps."""
    return fmean(value for steps_taken, value in curve if steps_taken >= (1 - LATE) * curve[-1][0])


def print_return(name: str, runs: Sequence[Curve], best: float) -> None:
    """A method's row: its return with the 95 % t-interval over seeds, and what share of the optimum that is."""
    value, low, high, n = astuple(mean_over_seeds([late(curve) for curve in runs], lowest=0.0, highest=best))
    print(f"  {name:<14}  {n:5d}  {value:.4f}  {low:.4f} to {high:.4f}  {value / best:14.1%}", flush=True)


def print_tuning(methods: Mapping[str, Method], maze: Maze, steps: int, seeds: int) -> None:
    """Each method's return with each learning rate, mean over seeds."""
    print(f"  {'method':<14}" + "".join(f"{rate:8g}" for rate in LEARNING_RATES))
    for name, method in methods.items():
        print(f"  {name:<14}", end="")
        for rate in LEARNING_RATES:
            row = replace(method, learning_rate=rate)
            returns = [late(train(row, maze, steps, FIRST_TUNING_SEED + seed)) for seed in range(seeds)]
            print(f"{fmean(returns):8.4f}", end="", flush=True)
        print()


def plot(curves: Mapping[str, Sequence[Curve]], steps: int, best: float, file: Path) -> None:
    """A line for each method, the mean over seeds, with its 95 % t-interval; nothing without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is missing; pip install 'groupwise[plot]'", file=sys.stderr)
        return
    matplotlib.use("Agg")  # a file needs no screen
    from matplotlib import pyplot

    figure, (axes, small) = pyplot.subplots(1, 2, figsize=(9.5, 4.5), width_ratios=(3, 1), layout="constrained")
    places = [steps * point // 100 for point in range(101)]
    for (name, runs), colour in zip(curves.items(), COLOURS, strict=False):
        means = [mean_over_seeds([_at(c, place) for c in runs], lowest=0.0, highest=best) for place in places]
        axes.plot(places, [mean.value for mean in means], color=colour, label=name, linewidth=1.8)
        lows, highs = [mean.low for mean in means], [mean.high for mean in means]
        axes.fill_between(places, lows, highs, color=colour, alpha=0.2, linewidth=0)
    axes.axhline(best, color="black", linestyle="--", linewidth=1.2, label=f"optimum, {best:.3f}")
    axes.set(xlabel="steps in the maze, in training", ylabel="discounted return (goal 1), mean over starts")
    axes.set(xlim=(0, steps), ylim=(0, None))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    axes.set_title(f"line: mean of {len(runs)} seeds; band: 95 % t-interval over seeds", fontsize=10)
    _draw_maze(small)
    figure.savefig(file, dpi=130)
    pyplot.close(figure)
    print(f"plot: {file}")


def _draw_maze(axes: Any) -> None:
    colours = {".": "white", "#": "0.35", "X": COLOURS[5], "G": "black"}
    for row, line in enumerate(PLAN):
        for column, kind in enumerate(line):
            square = ((column, column + 1, column + 1, column), (row, row, row + 1, row + 1))
            axes.fill(*square, facecolor=colours[kind], edgecolor="0.6", linewidth=0.8)
            axes.text(column + 0.5, row + 0.5, kind.strip(".#"), ha="center", va="center", color="white", weight="bold")
    axes.set(xlim=(0, len(PLAN[0])), ylim=(len(PLAN), 0), aspect="equal", xticks=[], yticks=[])
    axes.set_title("the maze: goal G, traps X;\nevery white cell is a start", fontsize=10)


def _at(curve: Curve, steps: int) -> float:
    """The return of the policy that so many steps had made."""
    return next(value for steps_taken, value in reversed(curve) if steps_taken <= steps)


def _after(plan: Sequence[str], row: int, column: int, down: int, right: int) -> int:
    """The cell that the step leads to: the next one, or its own where that is a wall or outside."""
    to, at = row + down, column + right
    inside = 0 <= to < len(plan) and 0 <= at < len(plan[0]) and plan[to][at] != "#"
    return to * len(plan[0]) + at if inside else row * len(plan[0]) + column


if __name__ == "__main__":
    main()
