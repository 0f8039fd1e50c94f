"""The maze's optimum and returns by hand, what a group and the mask are in it, and that each method learns."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from tests.close import close

SMALL = ("...", ".X.", "..G")
METHODS = ("GRPO", "GRPO-per-token", "REINFORCE", "A2C", "PPO")


@pytest.fixture(scope="module")
def maze():
    path = Path(__file__).parents[2] / "examples" / "maze.py"
    spec = importlib.util.spec_from_file_location("maze", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["maze"] = module  # a dataclass looks for its module there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def drawn(maze, method, seed=0):
    """A small maze, a policy and a critic that know nothing, and their trajectories."""
    torch.manual_seed(seed)
    small = maze.Maze.of(SMALL)
    policy, critic = maze.network(9, 4), method.critic(9, 1)
    return small, policy, critic, maze.sample(small, policy, method.group_size)


def sampled_return(maze, place, policy):
    """Mean discounted return of 1920 trajectories."""
    torch.manual_seed(0)
    batches = [maze.sample(place, policy, 1) for _ in range(60)]
    return float(torch.cat([maze.discounted_return(b.rewards, b.mask, place.discount) for b in batches]).mean())


def test_the_optimum_of_four_cells_by_hand(maze):
    # no slip: beside the goal 1, a step further away 1 * 0.99; the goal itself is no start
    sure = maze.Maze.of(("..", ".G"), slip=0.0)
    close(maze.values(sure, lambda q: q.amax(1)), torch.tensor([0.99, 1, 1, 0]))
    close(torch.tensor(maze.optimum(sure)), (0.99 + 1 + 1) / 3)


def test_the_optimum_with_slips_and_a_trap_by_hand(maze):
    # One step left: from the upper right down, 0.8; from the upper left nothing. Two steps left, discount 1/2: from the
    # right 0.8 + 0.1 (stays) 0.8 / 2 = 0.84; from the left to the right 0.8 * 0.8 / 2 = 0.32, and 0.1 into the trap.
    slippery = maze.Maze.of(("..", "XG"), discount=0.5, step_limit=2)
    close(maze.values(slippery, lambda q: q.amax(1)), torch.tensor([0.32, 0.84, 0, 0]))


def test_a_wall_is_not_entered(maze):
    assert maze.Maze.of((".#", ".G")).moves[0].tolist() == [0, 0, 2, 0]  # up, right (the wall), down, left


def test_a_discounted_return_by_hand(maze):
    # rewards 0 0 1, discount 0.9: 0.81, 0.9, 1 from each step on; what is behind the end does not count
    rewards, mask = torch.tensor([[0.0, 0, 1, 7]]), torch.tensor([[True, True, True, False]])
    close(maze.discounted_return(rewards, mask, 0.9), [0.81])
    method = maze.METHODS["REINFORCE"]
    small = maze.Maze.of(SMALL, discount=0.9)
    cells = torch.zeros(1, 4, dtype=torch.long)
    steps = maze.Trajectories(cells, cells, rewards, mask, torch.zeros(1, dtype=torch.long))
    batch = maze.make_batch(method, small, maze.network(9, 4), method.critic(9, 1), steps)
    close(batch.advantages, [[0.81, 0.9, 1, 0]])


def test_the_exact_return_by_hand_and_sampled(maze):
    # One cell beside the goal, always to the right, slip 1/2 up or down, where it stays; two steps, discount 1/2:
    # 1/2 + (1/2)(1/2)(1/2) = 0.625. A return is 1, 1/2 or 0, so the mean of 1920 has a deviation of at most 0.0114.
    pair = maze.Maze.of((".G",), slip=0.5, discount=0.5, step_limit=2)
    right = torch.nn.Embedding.from_pretrained(torch.tensor([[0.0, 99, 0, 0]]).expand(2, 4))
    close(torch.tensor(maze.exact_return(pair, right)), 0.625)
    assert abs(sampled_return(maze, pair, right) - 0.625) < 4 * 0.0114


def test_the_exact_return_is_the_mean_of_many_trajectories(maze):
    torch.manual_seed(0)
    small, policy = maze.Maze.of(SMALL), maze.network(9, 4)
    assert abs(sampled_return(maze, small, policy) - maze.exact_return(small, policy)) < 4 * 0.0114


def test_trajectories_from_one_start_are_one_group(maze):
    method = maze.METHODS["GRPO"]
    small, policy, critic, trajectories = drawn(maze, method)
    assert trajectories.group.bincount().tolist() == [8, 8, 8, 8]
    starts = trajectories.cells[:, 0]
    assert all(len(starts[trajectories.group == index].unique()) == 1 for index in range(4))
    assert len(starts.unique()) > 1
    advantages = maze.make_batch(method, small, policy, critic, trajectories).advantages
    returns = maze.discounted_return(trajectories.rewards, trajectories.mask, small.discount)
    for index in range(4):
        own, got = advantages[trajectories.group == index, 0], returns[trajectories.group == index]
        close((got - got.mean()) / (got.std() + 1e-6), own)


@pytest.mark.parametrize("name", METHODS)
def test_steps_after_the_end_change_no_gradient(maze, name):
    method = maze.METHODS[name]
    small, policy, critic, trajectories = drawn(maze, method)
    ended = ~trajectories.mask
    assert ended.any()
    changed = trajectories._replace(
        cells=torch.where(ended, (trajectories.cells + 1) % 9, trajectories.cells),
        actions=torch.where(ended, (trajectories.actions + 1) % 4, trajectories.actions),
        rewards=torch.where(ended, 5.0, trajectories.rewards),
    )

    def gradient(of):
        weights = [w for part in (policy, critic) for w in part.parameters() if w.requires_grad]
        batch = maze.make_batch(method, small, policy, critic, of)
        return torch.autograd.grad(maze.loss(method, small, policy, critic, batch), weights)

    before, after = gradient(trajectories), gradient(changed)
    assert any(part.any() for part in before)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_each_method_learns_a_small_maze(maze, name):
    small = maze.Maze.of(SMALL)
    curve = maze.train(maze.METHODS[name], small, steps=4000, seed=1)
    made, best = [steps for steps, _ in curve], maze.optimum(small)
    assert made == sorted(made)
    assert made[-1] <= 4000
    assert curve[0][1] < 0.35 * best
    assert 0.85 * best < curve[-1][1] <= best


def test_the_same_seed_gives_the_same_curve(maze):
    small, method = maze.Maze.of(SMALL), maze.METHODS["A2C"]
    assert maze.train(method, small, 1500, seed=3) == maze.train(method, small, 1500, seed=3)


def test_the_script_prints_a_row_for_each_method_and_saves_a_plot(maze, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "maze.png"
    maze.main(["--steps", "600", "--seeds", "2", "--plot", str(picture)])
    text = capsys.readouterr().out
    assert [line.split()[0] for line in text.splitlines()[3:-1]] == list(maze.METHODS) == list(METHODS)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_one_seed_has_no_interval(maze, capsys):
    with pytest.raises(SystemExit):
        maze.main(["--seeds", "1"])
    assert "at least 2" in capsys.readouterr().err
