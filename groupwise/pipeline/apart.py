"""What a pipeline is measured on is learned from in none of its stages. Knows questions and examples, no model."""

import re
from collections.abc import Iterator

from groupwise import registry
from groupwise.config import QuestionsConfig, Recipe
from groupwise.data import Example, Question
from groupwise.envs.base import load_questions
from groupwise.envs.examples import read_examples
from groupwise.envs.sources import load_apart
from groupwise.errors import ConfigError, DataError
from groupwise.pipeline.plan import Plan, Stage

HINT = (
    "with the same source, params, size, heldout_size and seed a stage never learns from what is held out; or give "
    "the measure a file of its own"
)


def check_apart(plan: Plan) -> None:
    """Raises DataError if a stage learns from a question that a measure holds out, however it is framed.

    A stage's questions and the examples that `sft` reads are looked at; what an earlier stage leaves is made of
    questions that have been. Loads every stage's questions, so what is wrong with them is told before any stage runs.
    """
    held = {
        text: (measure, question)
        for measure, recipe in plan.measures.items()
        for question in _questions(recipe)[1]
        if (text := _plain(question.text))
    }
    made = {str(stage.left) for stage in plan.stages}
    for stage in plan.stages:
        try:
            learned = [*_asked(stage, made), *_shown(stage, made)]
        except (ConfigError, DataError) as error:
            raise type(error)(f"stage {stage.name!r}: {error.message}", hint=error.hint) from None
        for where, said in learned:
            for text, (measure, question) in held.items():
                if text in said and re.search(rf"(?<!\w){re.escape(text)}(?!\w)", said):
                    told = f"which measure.{measure} holds out: {question.text[:60]!r}"
                    raise DataError(f"stage {stage.name!r} learns from {where}, {told}", hint=HINT)


def _asked(stage: Stage, made: set[str]) -> Iterator[tuple[str, str]]:
    """Each train question of a stage that learns from questions: its place in words, and its text."""
    config = stage.recipe.questions
    if config is None or config.source in made:
        return
    train, _ = _questions(stage.recipe)
    if stage.recipe.stage not in registry.FROM_EXAMPLES:
        for question in train:
            yield f"question {question.id!r}", _plain(question.text)


def _shown(stage: Stage, made: set[str]) -> Iterator[tuple[str, str]]:
    """Each train example of the stage `sft`: its place in words, and what is asked in it."""
    config = stage.recipe.examples
    if config is None or stage.recipe.stage != "sft" or {config.source, config.heldout} & made:
        return
    for example in load_apart(config, seed=stage.recipe.seed, kind=Example, read=read_examples)[0]:
        yield example.where, _plain("\n".join(m.content for m in example.messages if m.role == "user"))


def _questions(recipe: Recipe) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Train and held-out questions of a recipe without what is put around them."""
    assert recipe.questions is not None
    config: QuestionsConfig = recipe.questions.model_copy(update={"template": None, "system": None})
    found = load_questions(config, recipe.seed)
    return found.train, found.heldout


def _plain(text: str) -> str:
    return " ".join(text.split())
