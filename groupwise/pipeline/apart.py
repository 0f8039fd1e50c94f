"""What a pipeline is measured on is learned from in none of its stages. Knows questions and examples, no model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from groupwise import registry
from groupwise.config import PreferenceRecipe, Recipe, RejectionRecipe, RewardModelRecipe
from groupwise.data import Example, Question
from groupwise.datasets.base import load_questions
from groupwise.datasets.examples import each_example
from groupwise.datasets.files import Source, pictures_of
from groupwise.datasets.inner import bare
from groupwise.datasets.labelled_steps import each_judgement
from groupwise.datasets.pairs import each_judged, each_pair
from groupwise.datasets.sources import load_apart, of_source
from groupwise.datasets.stored import kept
from groupwise.errors import ConfigError, DataError
from groupwise.objective.preference import of_pairs
from groupwise.pipeline.plan import Plan, Stage
from groupwise.selection.contamination import asked, contents, held_out

HINT = (
    "with the same source, params, size, heldout_size and seed a stage never learns from what is held out; or give "
    "the measure a file of its own"
)
NGRAM = 13
"""Words in a row that what is learned may not share with a held-out question, or that whole question, if shorter."""
Said = tuple[str, list[str]]
"""What is learned from: its place in words, and its texts."""


def check_apart(plan: Plan) -> None:
    """Raises DataError if a stage learns from a question that a measure holds out, however it is framed.

    Questions, examples of every kind and what `rejection.mix` adds are looked at; what an earlier stage leaves is made
    of questions that have been. Loads every stage's questions, so what is wrong with them is told before any runs.
    """
    questions: dict[str, Question] = {}
    for measure, recipe in plan.measures.items():
        for question in _questions(recipe)[1]:
            questions[f"measure.{measure} holds out: {question.text[:60]!r}"] = question
    texts = {name: asked(question.messages) for name, question in questions.items()}
    written = {str(stage.left) for stage in plan.stages}
    for stage in plan.stages:
        try:
            learned = kept(_learned(stage, written))
        except (ConfigError, DataError) as error:
            raise type(error)(f"{stage.where}: {error.message}", hint=error.hint) from None
        heldout = held_out(texts, n=NGRAM, documents=(parts for _, parts in learned))
        for place, parts in learned:
            found = heldout.question_in(parts)
            if found is not None:
                raise DataError(f"{stage.where} learns from {place}, which {found}", hint=HINT)


def _learned(stage: Stage, written: set[str]) -> Iterator[Said]:
    """Everything that a stage learns from and no earlier stage has left."""
    recipe = stage.recipe
    if recipe.questions is not None and recipe.questions.source not in written:
        train, _ = _questions(recipe)
        if recipe.examples is None:
            for question in train:
                place = question.where or f"question {question.id!r} of {recipe.questions.source!r}"
                yield place, contents(question.messages)
    if recipe.examples is not None and not {recipe.examples.source, recipe.examples.heldout} & written:
        kind, read = _reader(recipe)
        for example in load_apart(recipe.examples, seed=recipe.seed, kind=kind, read=read)[0]:
            yield example.where, _texts(example)
    for index, entry in enumerate(recipe.rejection.mix if isinstance(recipe, RejectionRecipe) else ()):
        if entry.source in written:
            continue
        found: Iterable[Example] = of_source(
            entry.source,
            params=entry.params,
            size=None,
            seed=recipe.seed,
            kind=Example,
            read=each_example,
            of_files={
                "ignore": entry.ignore_columns or (),
                "images": pictures_of(entry, f"rejection.mix.{index}"),
            },
            section=f"rejection.mix.{index}",
        )
        for example in found:
            yield example.where, _texts(example)


def _texts(example: Any) -> list[str]:
    """The texts of an example; of one whose answers are judged those of its prompt."""
    if isinstance(example, Example):
        return [*contents(example.messages), *([] if example.text is None else [example.text])]
    return contents(example.prompt)


def _reader(recipe: Recipe) -> tuple[type[Any], Callable[[Source, int | None], Iterable[Any]]]:
    """The kind of example that a stage learns from, and what reads a file of them."""
    if isinstance(recipe, PreferenceRecipe):
        loss = registry.load(registry.PREFERENCES, recipe.preference.loss)
        return object, each_pair if of_pairs(loss) else each_judged
    return (object, each_judgement) if isinstance(recipe, RewardModelRecipe) else (Example, each_example)


def _questions(recipe: Recipe) -> tuple[Sequence[Question], tuple[Question, ...]]:
    """Train and held-out questions of a recipe without what is put around them."""
    assert recipe.questions is not None
    found = load_questions(bare(recipe.questions), recipe.seed)
    return found.train, found.heldout
