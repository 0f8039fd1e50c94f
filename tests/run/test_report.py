"""What a finished run shows on stdout: results with intervals, answers beside each other, and where everything is."""

import io
import re
import shutil
import sqlite3

import pytest
from rich.console import Console

from groupwise.record.schema import Answer
from groupwise.run.loop import Summary
from groupwise.run.report import _chosen, print_report
from tests.command import RECIPE, SMALL, groupwise


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_folder):
    """A finished run and what it printed."""
    folder = tmp_path_factory.mktemp("report") / "run"
    model = f"model.path={tiny_folder}"
    more = ("update.steps=1", "evaluate.samples=2", "evaluate.format=one_digit")
    done = groupwise("train", RECIPE, model, *SMALL, *more, "--run", folder)
    assert done.code == 0, done.err
    return folder, done.out


def report(folder, before, after):
    text = io.StringIO()
    summary = Summary(folder, folder / "checkpoints" / "step-000001", 1, 2.5, 12345, before, after)
    print_report(summary, Console(file=text, width=100, markup=False))
    return text.getvalue()


def figures(accuracy, **others):
    shares = {"accuracy": accuracy, "low": accuracy, "high": accuracy}
    return {**shares, "n": 6, "length": 4.0, "truncated": 1.0, "unjudged": 0, **others}


def test_the_report_has_the_figures_before_and_after(finished):
    out = finished[1]
    assert "6 held-out questions, never trained on (95 % intervals)" in out
    for row in ("right, greedy", "well formed, greedy", "mean@2", "pass@1", "pass@2", "maj@2"):
        assert re.search(rf"{re.escape(row)}\s*│ \d+\.\d% \(\d+\.\d% to \d+\.\d%\)\s*│ \d+\.\d%", out), row


def test_every_path_is_on_one_line(finished):
    folder, out = finished
    assert f"record      {folder}/record.sqlite " in out
    assert f"figures     {folder}/summary.json\n" in out
    assert f"checkpoint  {folder}/checkpoints/step-000001 " in out


def test_what_the_evaluations_do_not_share_is_left_out(finished):
    out = report(finished[0], figures(0.5), figures(0.75, **{"pass@4": {"value": 1.0, "low": 1.0, "high": 1.0}}))
    assert "50.0% (50.0% to 50.0%)" in out
    assert "75.0%" in out
    assert "pass@4" not in out
    assert "well formed" not in out
    assert "1 steps, 12,345 tokens sampled, 2 s of training" in out


def test_an_accuracy_that_could_not_be_measured_is_a_dash(finished):
    assert re.search(r"right, greedy\s*│ -\s*│ 50\.0%", report(finished[0], figures(None), figures(0.5)))


def test_text_of_the_model_is_shown_as_it_is(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    with sqlite3.connect(tmp_path / "run" / "record.sqlite") as record:
        record.execute("UPDATE evaluation_outputs SET text = '[bold]7[/x]', finish = 'length' WHERE sample = -1")
    record.close()
    assert "wrong: [bold]7[/x] [cut at the limit]" in report(tmp_path / "run", figures(0.0), figures(0.0))


def test_without_held_out_questions_there_are_no_tables(tmp_path, tiny_folder):
    none = (f"model.path={tiny_folder}", *SMALL, "update.steps=1", "questions.heldout_size=0")
    done = groupwise("train", RECIPE, *none, "--run", tmp_path / "run")
    assert done.code == 0, done.err
    assert done.out.startswith("1 steps, ")
    assert len(done.out.splitlines()) == 4


def test_the_answers_shown_are_not_only_the_good_ones():
    def answers(right):
        return {key: Answer(key, -1, "", float(value), None, "stop", 1) for key, value in right.items()}

    before = answers({"a": True, "b": True, "c": False, "d": False, "e": False})
    after = answers({"a": True, "b": False, "c": False, "d": True, "e": True})
    assert _chosen(list("abcde"), before, after) == ["d", "c", "b"]  # turned right, still wrong, lost
    assert _chosen(list("ab"), before, after) == ["b", "a"]
