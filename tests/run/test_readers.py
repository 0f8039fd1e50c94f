"""The models beside the policy are looked at before any weights are loaded."""

import json
import shutil

import pytest

from groupwise.config import read_recipe
from groupwise.errors import DataError
from groupwise.model.tokenizer import load_tokenizer
from groupwise.run import open as opening
from groupwise.run.open import open_run
from groupwise.run.readers import contexts, readers
from groupwise.run.resolve import resolve_recipe
from tests.command import RECIPE, SMALL

KINDS = {
    "teacher": ("objective.preset=distill", "teacher.path=SHORT"),
    "critic": ("objective.preset=ppo", "rollout.group_size=2", "critic.path=SHORT"),
}


@pytest.fixture
def short(tiny_folder, tmp_path):
    """The tiny model with a context of 8 tokens."""
    folder = shutil.copytree(tiny_folder, tmp_path / "short")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8}))
    return folder


@pytest.mark.parametrize("section", KINDS)
def test_an_output_too_long_for_a_model_that_reads_it_is_refused_before_weights_are_loaded(
    section, short, tiny_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(opening, "load_policy", lambda *_: pytest.fail("weights were loaded"))
    words = [word.replace("SHORT", str(short)) for word in KINDS[section]]
    recipe = read_recipe(RECIPE, (f"model.path={tiny_folder}", *SMALL, *words))
    with (
        pytest.raises(DataError) as error,
        open_run(recipe, tmp_path / "run", resume=False, objective=resolve_recipe(recipe)),
    ):
        pass
    said = str(error.value)
    assert f"more than the context of the {section} ({section}.path = '{short}'), 8 tokens" in said
    assert "\n" not in said


def test_a_resumed_runs_reference_is_looked_at_where_it_began(short, tiny_folder):
    recipe = read_recipe(RECIPE, (f"model.path={short}", *SMALL, "objective.kl_coef=0.1"))
    checkpoint = load_tokenizer(recipe.model.model_copy(update={"path": str(tiny_folder)}))
    beside = readers(recipe, checkpoint, resolve_recipe(recipe), resumed=True)
    assert contexts(recipe, beside) == [(f"the reference (model.path = '{short}')", 8)]
    assert readers(recipe, checkpoint, None, resumed=True) == {}
