"""The command line as a person and a program use it; each command that a --help shows is run."""

import io
import json
import re
import shlex
import shutil
import sys

import pytest

import groupwise as package
from groupwise import registry
from groupwise.cli.main import app
from tests.command import RECIPE, SMALL, groupwise
from tests.project.documents import blocks
from tests.project.sources import ROOT

RUN_ELSEWHERE = ("compare", "pipeline")
"""Verbs that start several runs, which their page of the documents shows; tests/compare/test_compare.py and
tests/pipeline run them."""
VERBS = sorted(command.name or command.callback.__name__ for command in app.registered_commands)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("runs") / "first"
    done = groupwise("train", RECIPE, f"model.path={tiny_folder}", *SMALL, "update.steps=1", "--run", folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def at_home(tmp_path, tiny_folder, monkeypatch):
    """A folder with recipes/ in it, as a clone has, and the built-in model in reach."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.setenv("GROUPWISE_CACHE", str(tiny_folder.parent))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_verbs():
    assert [
        *("attack", "compare", "eval", "init", "list", "pipeline", "plot", "regrade", "runs", "sample", "schema"),
        "train",
    ] == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_ends_with_an_example_that_runs(verb, at_home, run):
    for name in ("one", "two"):
        shutil.copytree(run, at_home / "runs" / name)
    shown = groupwise(verb, "--help")
    assert shown.code == 0
    last = " ".join(shown.out.rstrip().rpartition("\n\n")[2].split())
    found = re.fullmatch(rf"Example: (groupwise {verb} .+|groupwise {verb})", last)
    assert found, last
    if verb in RUN_ELSEWHERE:
        shown = blocks(f"docs/{verb}.md", "console", "bash")
        assert any(words == shlex.split(found[1]) for block in shown for words in block.commands)
        return
    done = groupwise(*shlex.split(found[1])[1:])
    assert done.code == 0, done.err


def test_without_words_the_help_is_shown_and_nothing_is_wrong():
    for words in ((), ("-h",), ("--help",)):
        done = groupwise(*words)
        assert (done.code, done.err) == (0, "")
        assert "Commands:" in done.out


def test_version():
    assert groupwise("--version").out == f"groupwise {package.__version__}\n"


@pytest.mark.parametrize("table", sorted(registry.TABLES))
def test_list_names_every_entry_with_what_it_is(table):
    rows = json.loads(groupwise("list", table, "--json").out)
    assert rows.keys() == registry.TABLES[table].keys()
    assert all(rows.values()), rows
    lines = groupwise("list", table).out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(rows)


def test_list_without_a_table_names_the_tables():
    assert groupwise("list").out.split() == sorted([*registry.TABLES, "recipes", "settings"])


def test_the_shipped_recipes_are_listed_with_what_they_are():
    rows = json.loads(groupwise("list", "recipes", "--json").out)
    assert rows["tiny"] == (
        "A tiny two-layer model learns to answer with the next digit, in under a minute on a laptop CPU"
    )
    assert all(rows.values()), rows


def test_runs_lists_what_is_there(run):
    heads, line = groupwise("runs", run.parent).out.splitlines()
    assert heads.split() == ["RUN", "STATE", "STAGE", "MODEL", "STEPS", "RIGHT", "BEFORE", "AFTER"]
    assert re.fullmatch(rf"{run}  finished  rl     \S+  1/1    \d+\.\d% +\d+\.\d%", line), line
    [found] = json.loads(groupwise("runs", run.parent, "--json").out)
    assert (found["state"], found["steps"], found["path"]) == ("finished", 1, str(run))


def test_runs_of_an_empty_folder(tmp_path):
    done = groupwise("runs", tmp_path)
    assert (done.code, done.out, done.err) == (0, "", f"no runs under {tmp_path}\n")
    done = groupwise("runs", tmp_path / "nowhere")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{tmp_path}/nowhere: no such folder; name the folder that holds the runs" in done.err


def test_eval_of_a_run_gives_what_the_run_said(run):
    summary = json.loads((run / "summary.json").read_text())
    done = groupwise("eval", run, "--json")
    assert done.code == 0, done.err
    figures = json.loads(done.out)
    assert {name: figures[name] for name in summary["after"]} == summary["after"]
    assert figures["model"] == summary["checkpoint"]
    assert figures["sampling"]["max_new_tokens"] == 4


def test_eval_of_a_recipe_with_samples(tiny_folder):
    words = (RECIPE, f"model.path={tiny_folder}", *SMALL, "evaluate.format=one_digit", "--samples", 2)
    figures = json.loads(groupwise("eval", *words, "--json").out)
    assert {"accuracy", "low", "high", "n", "mean@2", "pass@1", "pass@2", "maj@2"} <= set(figures)
    shown = groupwise("eval", *words).out
    assert "6 held-out questions (95 % intervals)" in shown
    assert all(name in shown for name in ("right, greedy", "format", "mean@2", "pass@2", "maj@2", "mean length"))


def test_what_eval_prints_for_a_program_is_strict_json(tiny_folder, tmp_path):
    file = tmp_path / "own.py"
    file.write_text("def silent(text):\n    return None\n")
    rewards = f"rewards=[{{function: {file}:silent}}]"
    done = groupwise("eval", RECIPE, f"model.path={tiny_folder}", *SMALL, rewards, "--json")
    assert done.code == 0, done.err
    figures = json.loads(done.out, parse_constant=pytest.fail)
    assert (figures["accuracy"], figures["n"], figures["unjudged"]) == (None, 0, 6)


@pytest.mark.parametrize("source", ["run", "model"])
def test_sample_asks_a_run_or_a_model(run, tiny_folder, source):
    model = run if source == "run" else tiny_folder
    words = ("sample", model, "7>", "--samples", 3, "--max-new-tokens", 4, "--json")
    answers = json.loads(groupwise(*words).out)
    assert len(answers) == 3
    assert all(1 <= answer["tokens"] <= 4 and answer["finish"] in ("stop", "length") for answer in answers)
    assert json.loads(groupwise(*words).out) == answers
    assert json.loads(groupwise(*words, "--seed", 1).out) != answers


def test_greedy_samples_are_all_alike(tiny_folder):
    words = ("sample", tiny_folder, "7>", "--samples", 3, "--temperature", 0, "--max-new-tokens", 4)
    lines = groupwise(*words).out.splitlines()
    assert len(lines) == 3
    assert len(set(lines)) == 1
    assert re.match(r"\[(stop|length), \d tokens\] ", lines[0])


def test_a_question_can_come_from_standard_input(tiny_folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("7>"))
    piped = groupwise("sample", tiny_folder, "-", "--max-new-tokens", 4)
    assert piped.out == groupwise("sample", tiny_folder, "7>", "--max-new-tokens", 4).out


def test_without_a_name_a_run_gets_a_new_one(at_home):
    words = ("train", "recipes/tiny.yaml", *SMALL, "update.steps=1", "questions.heldout_size=0")
    for _ in range(2):
        assert groupwise(*words).code == 0
    names = sorted(path.name for path in (at_home / "runs").iterdir())
    assert len(names) == 2
    assert all(re.fullmatch(r"tiny-\d{8}-\d{6}(-1)?", name) for name in names)


def test_the_recipe_may_be_left_out_on_resume(run):
    done = groupwise("train", "update.steps=2", "--run", run, "--resume")
    assert done.code == 0, done.err
    assert "2 steps, " in done.out


def test_runs_are_drawn_in_one_picture(run, tmp_path):
    shutil.copytree(run, tmp_path / "other")
    done = groupwise("plot", run, tmp_path / "other", "--out", tmp_path / "new" / "both.svg")
    assert done.code == 0, done.err
    assert "other" in (tmp_path / "new" / "both.svg").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "nowhere: no run there; see `groupwise runs`"),
        (("--out", "x.picture"), "--out x.picture: Format 'picture' is not supported"),
    ],
)
def test_what_cannot_be_drawn(run, words, said):
    done = groupwise("plot", run, *words)
    assert done.code == 2
    assert said in done.err


def test_a_run_can_be_watched_by_a_program(tiny_folder, tmp_path):
    words = ("train", RECIPE, f"model.path={tiny_folder}", *SMALL, "update.steps=2", "--run", tmp_path / "run")
    done = groupwise(*words, "--json")
    assert (done.code, done.err) == (0, "")
    events = [json.loads(line, parse_constant=pytest.fail) for line in done.out.splitlines()]
    assert [event["event"] for event in events] == ["evaluation", "begin", "step", "step", "evaluation", "end"]
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2]
    assert events[2]["metrics"]["reward/mean"] >= 0
    assert events[-1]["after"]["n"] == 6


def test_a_quiet_run_shows_its_result_alone(tiny_folder, tmp_path):
    words = ("train", RECIPE, f"model.path={tiny_folder}", *SMALL, "update.steps=1", "--run", tmp_path / "run")
    done = groupwise(*words, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert "6 held-out questions, never trained on" in done.out
