"""What a program or a notebook calls."""

import doctest
import subprocess
import sys
import threading

import pytest
import yaml

import groupwise
from groupwise import api
from groupwise.errors import ConfigError, DataError
from tests.project.sources import ROOT

QUESTION = "successor-2-70"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a run of two steps, made by the examples of `train`."""
    return tmp_path_factory.mktemp("api")


def test_the_examples_in_the_docstrings_are_true(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for name in ("train", "open_run", "evaluate"):  # in this order: the second reads what the first leaves
        test = doctest.DocTestFinder(recurse=False).find(getattr(api, name), name, globs={"folder": folder})[0]
        assert test.examples
        assert doctest.DocTestRunner().run(test).failed == 0


def test_importing_groupwise_loads_nothing_but_itself():
    code = "import sys, groupwise; print(sorted({m.split('.')[0] for m in sys.modules} & {'torch','pydantic','numpy'}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    assert set(groupwise.__all__) <= set(dir(groupwise))
    assert callable(groupwise.evaluate), "a package of that name would hide the function"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        groupwise.nothing  # noqa: B018


def test_rows_of_a_run_are_what_its_record_holds(folder):
    with groupwise.open_run(folder / "run") as run:
        assert run.info["state"] == "finished"
        assert run.recipe.update.steps == 2
        rows = run.metrics("reward/mean", "accuracy")
        assert [sorted(row) for row in rows] == [["accuracy", "reward/mean", "step"]] * 2
        outputs = run.outputs(step=2)
        shares = [row["reward"] for row in outputs]
        assert rows[1]["reward/mean"] == pytest.approx(sum(shares) / len(shares))
        assert {"reward/number", "text", "advantage"} <= outputs[0].keys()
        assert {row["id"] for row in run.questions()} >= {row["question"] for row in outputs}
        assert [row["name"] for row in run.evaluations()] == ["before", "after"]
        assert len(run.answers("before")) == run.evaluations()[0]["n"]
        assert list(run.metrics("accuracy").frame().columns) == ["step", "accuracy"]
        with pytest.raises(DataError, match=r"no metric 'reward/men'.*reward/mean"):
            run.metrics("reward/men")
        with pytest.raises(DataError, match="no evaluation 'step-1'"):
            run.answers("step-1")


def test_a_recipe_is_a_tree_a_name_or_a_file_and_takes_overrides(tmp_path):
    file = ROOT / "recipes" / "tiny.yaml"
    tree = yaml.safe_load(file.read_text())
    found = [api.recipe_of(recipe, "seed=3") for recipe in ("tiny", file, str(file), tree, api.recipe_of(tree))]
    assert all(recipe == found[0] and recipe.seed == 3 for recipe in found)
    assert "seed" not in tree or tree["seed"] != 3  # the caller's own is left as it was
    with pytest.raises(ConfigError, match="no_such_key"):
        api.recipe_of({**tree, "no_such_key": 1})


@pytest.mark.parametrize("call", [lambda: api.train("tiny", run=""), lambda: api.evaluate("tiny", out="")])
def test_an_empty_path_is_not_the_working_folder(call):
    with pytest.raises(ConfigError, match="= '': an empty text; give a path"):
        call()


def test_a_step_is_heard_once_it_is_on_record_and_its_error_ends_the_run(tmp_path):
    steps = []

    def on_step(step, metrics):
        with groupwise.open_run(tmp_path / "run") as run:
            steps.append((step, run.metrics()[-1]["step"], metrics["reward/mean"]))
        if step == 2:
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        groupwise.train("tiny", "update.steps=3", run=tmp_path / "run", on_step=on_step, show="nothing")
    assert [step[:2] for step in steps] == [(1, 1), (2, 2)]
    summary = groupwise.train("tiny", "update.steps=3", run=tmp_path / "run", resume=True, show="nothing")
    assert summary.steps == 3


def test_a_run_may_be_trained_in_a_thread(tmp_path):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(groupwise.train("tiny", "update.steps=1", run=tmp_path / "run", show="nothing"))
    )
    thread.start()
    thread.join()
    assert found[0].steps == 1
