"""Train and held-out questions of a recipe, and each step's batch. Knows no file format and no kind of question."""

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from groupwise import registry
from groupwise.config import QuestionsConfig
from groupwise.data import Message, Question, message_of_parts
from groupwise.datasets.apart import default_size, firsts, permutation, prints_of, split
from groupwise.datasets.dataset import each_question
from groupwise.datasets.files import Source, pictures_of
from groupwise.datasets.makers import made_with
from groupwise.datasets.stored import chosen, hashed
from groupwise.errors import ConfigError, DataError

_ORDER = 0  # spawn key: what is drawn for the order never moves what is held out
HELDOUT_SIZE = 200
"""Questions held out at most where nobody says how many."""
T = TypeVar("T")


@dataclass(frozen=True)
class Questions:
    """D, in two parts that share no fingerprint. train: in memory, or past some thousands in a file of its own."""

    train: Sequence[Question]
    heldout: tuple[Question, ...]


@dataclass(frozen=True)
class _Gathered:
    """Questions with what is compared of them: [N] fingerprints and hashes of their ids."""

    items: Sequence[Question]
    prints: np.ndarray
    ids: np.ndarray


def load_questions(config: QuestionsConfig, seed: int) -> Questions:
    """The questions a recipe asks for, framed by its system prompt and template, split by the seed.

    Raises ConfigError for a wrong name, parameter or template, DataError for wrong, too few or overlapping questions.
    """
    _check_template(config)
    source = _gathered(_framed(_source(config, seed), config))
    given = _gathered(_framed(_heldout(config), config))
    renamed = _renamed(source, given)
    count = len(source.items)
    if config.heldout is None and config.heldout_split is None:
        train, held = _set_aside(source, config, seed)
        heldout = chosen(source.items, held, renamed)
    else:
        train = np.arange(count)
        first = firsts(given.prints)
        _check_apart(source, given, first, config)
        size = HELDOUT_SIZE if config.heldout_size is None else config.heldout_size
        own = {index - count: question for index, question in renamed.items() if index >= count}
        heldout = chosen(given.items, first[:size], own)
    return Questions(chosen(source.items, train, renamed), tuple(heldout))


def batch(
    train: Sequence[Question], step: int, *, questions_per_step: int, seed: int, shuffle: bool = True
) -> list[Question]:
    """The questions of one step, counted from 0: the epochs' permutations laid end to end and cut into equal pieces.

    A function of its arguments alone, so a resumed run meets the same questions. Each epoch has every question once,
    and so has each batch at most. Raises ConfigError if a batch is larger than the training set.
    """
    count = len(train)
    if questions_per_step > count:
        raise ConfigError(
            f"rollout.questions_per_step = {questions_per_step}, but there are {count} training questions",
            hint=f"set it to {count} or less, or give more questions",
        )
    epoch, start = divmod(step * questions_per_step, count)
    if not shuffle:
        return [train[(start + offset) % count] for offset in range(questions_per_step)]
    order = _order(count, questions_per_step, seed, epoch)[start : start + questions_per_step]
    missing = questions_per_step - len(order)
    if missing:
        order = np.concatenate([order, _order(count, questions_per_step, seed, epoch + 1)[:missing]])
    return [train[index] for index in order]


def following(train: Sequence[T], drawn: int, wanted: int, *, seed: int, shuffle: bool = True) -> list[T]:
    """The next questions, or examples, after so many drawn: the epochs laid end to end.

    A function of its arguments alone. Where an epoch ends among them, one may be there twice.
    """
    count = len(train)
    places = range(drawn, drawn + wanted)
    epochs = {place // count for place in places}
    orders = {epoch: permutation(count, seed, _ORDER, epoch) if shuffle else range(count) for epoch in epochs}
    return [train[orders[place // count][place % count]] for place in places]


def _order(count: int, per_step: int, seed: int, epoch: int) -> np.ndarray:
    """[count] indices of an epoch: its permutation, with what the batch before it still holds moved behind that batch.

    The end of one epoch thus bears on the next one's head. It bears no further where an epoch holds two batches, and
    never past an epoch that starts with a batch of its own, which one in per_step / gcd(count, per_step) does.
    """
    period = per_step // math.gcd(count, per_step)
    first = epoch - epoch % period
    if count >= 2 * per_step:
        first = max(first, epoch - 1)
    order = permutation(count, seed, _ORDER, first)
    for later in range(first + 1, epoch + 1):
        shared = later * count % per_step  # questions of the batch across the border that the earlier epoch gave
        following = permutation(count, seed, _ORDER, later)
        held = np.isin(following, order[count - shared :])
        head = following[~held][: per_step - shared]
        order = np.concatenate([head, following[~np.isin(following, head)]])
    return order


def _source(config: QuestionsConfig, seed: int) -> Iterable[Question]:
    if config.source in registry.ENVS:
        return _generated(config, seed)
    if config.params:
        raise ConfigError(
            f"questions.params = {config.params}: {config.source!r} is a file and takes none",
            hint=f"params are only for the built-in sources ({', '.join(sorted(registry.ENVS))})",
        )
    return _read(config, Source(config.source, config.subset, config.split), limit=config.size)


def _heldout(config: QuestionsConfig) -> Iterable[Question]:
    """The questions of a place of their own; none if they are set aside from the source."""
    if config.heldout is not None:
        return _read(config, Source(config.heldout, split=config.heldout_split, strict=False), limit=None)
    if config.heldout_split is not None:
        return _read(config, Source(config.source, config.subset, config.heldout_split, strict=False), limit=None)
    return ()


def _read(config: QuestionsConfig, source: Source, limit: int | None) -> Iterator[Question]:
    return each_question(
        dataclasses.replace(source, ignore=config.ignore_columns or (), images=pictures_of(config, "questions")),
        prompt_column=config.prompt_column,
        answer_column=config.answer_column,
        limit=limit,
    )


_OF_FILES = ("subset", "split", "heldout_split", "ignore_columns", "image_column", "image_dir", "fetch_images")


def _generated(config: QuestionsConfig, seed: int) -> list[Question]:
    of_files = ("prompt_column", "answer_column", *_OF_FILES) if config.heldout is None else ("split",)
    for field in of_files:
        if getattr(config, field) not in (None, False):
            what = "columns" if "column" in field else "files of pictures" if "image" in field else "splits"
            raise ConfigError(
                f"questions.{field} = {getattr(config, field)!r}: environment {config.source!r} has no {what}",
                hint=f"drop questions.{field}",
            )
    return made_with(
        registry.ENVS, config.source, seed=seed, size=config.size, params=config.params, section="questions"
    )


def _check_template(config: QuestionsConfig) -> None:
    if config.template is not None and "{question}" not in config.template:
        raise ConfigError(
            f"questions.template = {config.template[:60]!r}: no {{question}} in it, so every prompt would be the same",
            hint="put {question} where the question goes",
        )


def _framed(questions: Iterable[Question], config: QuestionsConfig) -> Iterator[Question]:
    """The questions with the system prompt before and the template around them."""
    if config.system is None and config.template is None:
        yield from questions
        return
    for number, question in enumerate(questions, 1):
        messages = list(question.messages)
        place = f"{question.where or f'{config.source}: row {number}'} (id {question.id!r})"
        if config.template is not None:
            asked = [index for index, message in enumerate(messages) if message.role == "user"]
            if not asked:
                raise DataError(f"{place} has no user message for questions.template", hint="drop the template")
            last = messages[asked[-1]]
            # split(), not format(): a template may hold other braces, as LaTeX and JSON do.
            first, *others = config.template.split("{question}")
            parts = [part for text in others for part in (*(last.parts or (last.content,)), text)]
            messages[asked[-1]] = message_of_parts("user", [first, *parts])
        if config.system is not None:
            if any(message.role == "system" for message in messages):
                raise DataError(f"{place} already has a system message", hint="drop questions.system")
            messages.insert(0, Message("system", config.system))
        yield dataclasses.replace(question, messages=tuple(messages))


def _gathered(questions: Iterable[Question]) -> _Gathered:
    items, (texts, ids) = hashed(
        questions, lambda question: bytes.fromhex(question.fingerprint), lambda question: _hashed(question.id)
    )
    return _Gathered(items, prints_of(texts), np.frombuffer(ids, np.uint64))


def _hashed(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _renamed(*parts: _Gathered) -> dict[int, Question]:
    """By their index, the parts laid end to end: the second question of an id, and those behind it, named `id#2` and so
    on. Records are kept by id."""
    ids = np.concatenate([part.ids for part in parts])
    distinct, counts = np.unique(ids, return_counts=True)
    if len(distinct) == len(ids):
        return {}
    taken = {int(value) for value in distinct}
    uses: Counter[str] = Counter()
    found: dict[int, Question] = {}
    start = 0
    for part in parts:
        for index in np.flatnonzero(np.isin(part.ids, distinct[counts > 1])):
            question = part.items[int(index)]
            uses[question.id] += 1
            if uses[question.id] > 1:
                while (name := int.from_bytes(_hashed(f"{question.id}#{uses[question.id]}"), "little")) in taken:
                    uses[question.id] += 1
                taken.add(name)
                found[start + int(index)] = dataclasses.replace(question, id=f"{question.id}#{uses[question.id]}")
        start += len(part.items)
    return found


def _set_aside(questions: _Gathered, config: QuestionsConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of train and held-out: distinct questions drawn by the seed, and all their duplicates out of train."""
    distinct = len(np.unique(questions.prints))
    size = default_size(distinct, HELDOUT_SIZE) if config.heldout_size is None else config.heldout_size
    if size and distinct <= size:
        raise DataError(
            f"questions.heldout_size = {size}, but {config.source!r} gave {len(questions.items)} questions, "
            f"{distinct} of them distinct: none would be left to train on",
            hint="set a smaller questions.heldout_size (0: none), or give more questions",
        )
    return split(questions.prints, questions.prints, size, seed=seed)


def _check_apart(source: _Gathered, given: _Gathered, first: np.ndarray, config: QuestionsConfig) -> None:
    """Raises DataError if a held-out question is a training question too: its score would not be a held-out score."""
    shared = first[np.isin(given.prints[first], source.prints)]
    if len(shared):
        example = given.items[int(shared[0])]
        twin = source.items[int(np.flatnonzero(source.prints == given.prints[shared[0]])[0])]
        held = config.heldout or f"{config.source} ({config.heldout_split})"
        raise DataError(
            f"{len(shared)} of {len(first)} held-out questions are training questions too, such as "
            f"{example.id!r} = {twin.id!r}: {' '.join(example.text.split())[:60]!r}",
            hint=f"remove them from {config.source!r} or of {held!r}",
        )
