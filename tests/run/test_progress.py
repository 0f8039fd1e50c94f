"""What a run shows on stderr while it goes on."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from groupwise.config import recipe_from
from groupwise.run.progress import HEADER_EVERY, of_rollouts


def progress(**update):
    """A Progress that writes into a string, and the string."""
    tree = {"model": {"path": "tiny"}, "questions": {"source": "arithmetic"}, "rewards": [{"function": "exact"}]}
    shown = of_rollouts(recipe_from({**tree, "update": {"steps": 100, **update}}))
    text = io.StringIO()
    shown.console = Console(file=text, highlight=False, markup=False, soft_wrap=True, width=200)
    return shown, text


@pytest.mark.parametrize(
    ("update", "said"),
    [
        (
            {},
            "grpo: 8 questions x 8 outputs = 64 outputs per step, 1 optimizer step (on policy), steps 11 to 100",
        ),
        ({"updates_per_rollout": 2}, "64 outputs per step, 2 optimizer steps, steps"),
        # 64 outputs cut into 24 + 24 + 16, twice
        ({"updates_per_rollout": 2, "outputs_per_update": 24}, "64 outputs per step, 6 optimizer steps, steps"),
    ],
)
def test_the_start_says_what_a_step_is(update, said):
    shown, text = progress(**update)
    shown.begin(Path("runs/[a]"), done=10)
    assert said in text.getvalue()
    assert text.getvalue().endswith("in runs/[a]\n")


def test_a_step_is_one_line_and_what_it_lacks_is_a_dash():
    shown, text = progress()
    shown.row(7, {"reward/mean": 0.4567, "accuracy": 0.25, "time/step": 2.0})
    header, line = text.getvalue().splitlines()
    cells = dict(zip(header.split(), line.split(), strict=True))
    # 93 steps of 2 s are left: 3 minutes and 6 s
    assert (cells["step"], cells["reward"], cells["right"], cells["left"]) == ("7/100", "0.457", "25%", "3m06s")
    assert (cells["KL"], cells["entropy"], cells["grad"]) == ("-", "-", "-")


def test_the_time_left_goes_by_the_last_ten_steps():
    shown, text = progress()
    for step in range(1, 13):
        shown.row(step, {"time/step": 100.0 if step <= 2 else 50.0})
    # 88 steps of 50 s: 4400 s
    assert text.getvalue().splitlines()[-1].endswith(" 1h13m")


def test_the_headings_come_again():
    shown, text = progress()
    for step in range(1, HEADER_EVERY + 2):
        shown.row(step, {"time/step": 1.0})
    assert sum("reward" in line for line in text.getvalue().splitlines()) == 2


def test_an_evaluation_is_one_line():
    shown, text = progress()
    figures = {"accuracy": 0.8, "low": 0.49, "high": 0.943, "n": 10, "unjudged": 2}
    with shown.evaluating("before"):
        pass
    shown.evaluated("before", figures | {"pass@2": {"value": 0.9, "low": 0.6, "high": 1.0}})
    assert text.getvalue() == (
        "evaluated (before) in 0 s: 80.0% (49.0% to 94.3%) of 10 right, pass@2 90.0% (60.0% to 100.0%), "
        "2 could not be judged\n"
    )


def test_an_evaluation_that_judged_nothing_shows_no_share():
    shown, text = progress()
    nan = float("nan")
    shown.evaluated("before", {"accuracy": nan, "low": nan, "high": nan, "n": 0, "unjudged": 4})
    assert text.getvalue().endswith(": - of 0 right, 4 could not be judged\n")


def test_a_stop_says_how_to_go_on(capsys):
    shown, _ = progress()
    shown.stopped(Path("runs/my run"), 3, "saved in runs/my run/checkpoints/step-000003")
    assert capsys.readouterr().err.splitlines()[1:] == [
        "stopped after step 3, saved in runs/my run/checkpoints/step-000003",
        "resume with: groupwise train --run 'runs/my run' --resume",
    ]
