"""What the words behind `groupwise eval` stand for: a recipe, the questions, the models. Loads no weights."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from groupwise import places, registry
from groupwise.config import RECIPES, ModelConfig, Recipe, read_recipe, recipe_from
from groupwise.data import Question
from groupwise.datasets.base import load_questions
from groupwise.errors import ConfigError, DataError
from groupwise.model.checkpoint import load_state
from groupwise.model.saved import sound_checkpoint
from groupwise.model.source import source_of
from groupwise.places import OWN
from groupwise.recipe_file import tree_of, with_overrides
from groupwise.record.read import open_record
from groupwise.record.schema import FILE


@dataclass(frozen=True)
class Subject:
    """A model that is asked. run: the run that it comes from, with the steps it was trained for; None: no run."""

    config: ModelConfig
    run: Path | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Asked:
    """Questions. source: where they come from; heldout: whether they were set aside from it."""

    questions: tuple[Question, ...]
    source: str
    heldout: bool


def is_run(word: str) -> bool:
    """True for a run's folder that still says by which recipe it was made."""
    return places.is_run(Path(word)) and any((Path(word) / name).exists() for name in (OWN, FILE))


def recipe_in(file: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe that a file says, or that a run's record holds. Raises ConfigError or DataError."""
    path = Path(file)
    if path.name != FILE:
        return read_recipe(path, overrides)
    with closing(open_record(path.parent)) as record:
        text = record.info()["recipe"]
    return recipe_from(with_overrides(tree_of(text), overrides), where=str(path))


def recipe_of(source: str, overrides: Sequence[str], *, questions: str | None) -> Recipe:
    """The recipe in a file, or that of a run; with other questions, if some are named. Raises ConfigError."""
    file = Path(places.asked_file(source))
    recipe = recipe_in(file, [*_asking(file, questions), *overrides])
    if recipe.questions is None:
        raise ConfigError("questions: missing; there is nothing to ask", hint="add questions and rewards to the recipe")
    return recipe


def trained(folder: Path, recipe: Recipe) -> Subject:
    """A run's last checkpoint."""
    checkpoint = sound_checkpoint(folder)
    if checkpoint is None:
        raise ConfigError(f"{folder}: the run has no checkpoint yet", hint="give its recipe to evaluate the base model")
    config = recipe.model.model_copy(update={"path": str(checkpoint)})
    return Subject(config, run=folder, steps=load_state(checkpoint).get("step"))


def model_of(source: str, recipe: Recipe, *, model: str | None) -> Subject:
    """What is asked: the model named, else the run's last checkpoint, else the recipe's model."""
    if model is not None:
        return named_model(model, recipe, option="--model")
    return trained(Path(source), recipe) if is_run(source) else Subject(recipe.model)


def named_model(word: str, recipe: Recipe, *, option: str) -> Subject:
    """A run's last checkpoint, or the model of a folder or a name, with the recipe's other settings of a model."""
    if is_run(word):
        return trained(Path(word), recipe_in(places.asked_file(word)))
    config = recipe.model.model_copy(update={"path": word})
    source_of(word, seed=recipe.seed, where=f"{option} {word}", trust=config.trust_remote_code)
    return Subject(config)


def questions_of(recipe: Recipe, *, named: str | None) -> Asked:
    """The held-out questions of a recipe; or all of a file or an environment that was named."""
    assert recipe.questions is not None
    found = load_questions(recipe.questions, recipe.seed)
    if named is not None:
        return Asked((*found.train, *found.heldout), named, heldout=False)
    if not found.heldout:
        raise DataError(
            "questions.heldout_size = 0: nothing to evaluate on",
            hint="set it to 200, for example, or name questions with --questions",
        )
    return Asked(found.heldout, recipe.questions.heldout or recipe.questions.source, heldout=True)


def seen_in_training(subject: Subject, questions: Sequence[Question]) -> int | None:
    """How many of the questions the subject's run sampled in training, by its record.

    None: there is no record, or the run learned from examples, of which its record has none.
    """
    if subject.run is None or not (subject.run / FILE).exists():
        return None
    with closing(open_record(subject.run)) as record:
        kind = RECIPES.get(record.info()["stage"])
        if kind is not None and "examples" in kind.model_fields:
            return None
        prints = {question.fingerprint for question in record.questions("train")}
    return sum(question.fingerprint in prints for question in questions)


def _asking(file: Path, questions: str | None) -> list[str]:
    """Overrides that make a recipe ask all of a file, or of an environment, framed as its own questions are."""
    if questions is None:
        return []
    words = [f"questions.source={json.dumps(questions)}", "questions.heldout=null", "questions.heldout_size=0"]
    words += [f"questions.{name}=null" for name in ("subset", "split", "heldout_split", "ignore_columns", "image_dir")]
    if questions in registry.ENVS:
        words += [f"questions.{name}=null" for name in ("prompt_column", "answer_column", "image_column")]
        words.append("questions.fetch_images=false")
    before = recipe_in(file).questions
    if questions not in registry.ENVS or before is None or before.source != questions:
        words += ["questions.params={}", "questions.size=null"]
    return words
