"""The robot's nine tries by hand, and what clip and KL promise of the steps that follow."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from tests.close import close


@pytest.fixture(scope="module")
def robot():
    path = Path(__file__).parents[2] / "examples" / "robot_paths.py"
    spec = importlib.util.spec_from_file_location("robot_paths", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["robot_paths"] = module  # a dataclass looks for its module there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def steps(robot):
    return robot.train()


def test_the_script_prints_its_numbers_and_saves_a_plot(robot, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "robot_paths.png"
    monkeypatch.setattr(sys, "argv", ["robot_paths.py", "--out", str(picture)])
    robot.main()
    text = capsys.readouterr().out
    # six of nine arrive: mean 2/3, sample variance 9 * (2/9) / 8 = 1/4; (1/3) / (1/2) and -(2/3) / (1/2)
    for number in ("66.67 %", "33.33 %", "100.00 %", "mean 0.6667", "deviation 0.5000", "+0.6667", "-1.3333"):
        assert number in text
    # the sums 0, -2, 2 over nine tries: logits 0, -2/9, 2/9; e^0, e^(-2/9), e^(2/9) of 3.0496
    for number in ("+0.0000", "-2.0000", "+2.0000", "32.79%", "26.26%", "40.95%"):
        assert number in text
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_gradient_of_the_nine_tries_by_hand(robot):
    start = torch.zeros(3, dtype=torch.float64)
    logits = start.clone().requires_grad_()
    tries = robot.given(start, start, robot.TRIED, robot.ARRIVED)
    loss = robot.surrogate(logits, tries, robot.TRIED)
    # -(1/9) sum_i A_i (1[path] - 1/3), with sums 0, -2, 2 over (1/2 + 1e-6) / (1/2)
    scale = 1 + 2e-6
    close(torch.autograd.grad(loss, logits)[0] * scale, [0, 2 / 9, -2 / 9])
    close(loss, 0.0)


def test_c_rises_at_first_with_every_step(steps):
    rising = [step.after[2] > step.before[2] for step in steps[:7]]
    assert all(rising)
    assert steps[-1].after[2] > 0.55


def test_no_step_goes_further_than_the_clip_allows(robot, steps):
    # A try past its bound has no gradient. One gradient step moves a logit by 0.05 * sum of A over a path's tries / 30,
    # and that sum is at most half of sum |A| <= 30: by 0.025. So ratios end between 0.8 e^-0.025 and 1.2 e^0.025.
    for step in steps:
        ratio = step.after / step.before
        assert ratio.min() > 0.78
        assert ratio.max() < 1.23


def test_without_the_clip_a_step_goes_further(robot, monkeypatch):
    monkeypatch.setattr(
        robot, "OBJECTIVE", dataclasses.replace(robot.OBJECTIVE, parameters={"clip_low": 0.99, "clip_high": 99.0})
    )
    first = robot.train()[0]
    assert (first.after / first.before).max() > 1.23


def test_without_the_kl_c_goes_further(robot, monkeypatch):
    monkeypatch.setattr(robot, "OBJECTIVE", dataclasses.replace(robot.OBJECTIVE, kl_coef=0.0))
    assert robot.train()[-1].after[2] > 0.8


def test_the_kl_keeps_a_and_b_tried(steps):
    # Where w p (r - J) = beta (p - 1/3) with beta 1 (k3's mean gradient is that of KL(start || p)) and w = 1 / std
    # of the rewards: p = 0.24, 0.15, 0.62, J = 0.82, w = 2.6.
    for step in steps:
        assert (step.tries > 0).all()
        assert step.after[0] > 0.2
        assert step.after[1] > 0.1
        assert step.after[2] < 0.65
        assert step.kl < 0.2


def test_the_same_seed_gives_the_same_steps(robot, steps):
    again = robot.train()
    assert all(torch.equal(a.after, b.after) for a, b in zip(steps, again, strict=True))
