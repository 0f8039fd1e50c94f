"""Train and held-out questions of a recipe, and each step's batch. Knows no file format and no kind of question."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from groupwise import registry
from groupwise.config import QuestionsConfig
from groupwise.data import Message, Question
from groupwise.envs.dataset import read_questions
from groupwise.envs.made import made
from groupwise.errors import ConfigError, DataError

_ORDER, _HELDOUT = 0, 1  # spawn keys: what is drawn for one never moves the other


class Fingerprinted(Protocol):
    @property
    def fingerprint(self) -> str: ...


T = TypeVar("T")
Item = TypeVar("Item", bound=Fingerprinted)


@dataclass(frozen=True)
class Questions:
    """D, in two parts that share no fingerprint."""

    train: tuple[Question, ...]
    heldout: tuple[Question, ...]


def load_questions(config: QuestionsConfig, seed: int) -> Questions:
    """The questions a recipe asks for, framed by its system prompt and template, split by the seed.

    Raises ConfigError for a wrong name, parameter or template, DataError for wrong, too few or overlapping questions.
    """
    _check_template(config)
    source = _framed(_source(config, seed), config, config.source)
    given = []
    if config.heldout is not None:
        given = _framed(_file(config, config.heldout, limit=None), config, config.heldout)
    named = _distinct_ids([*source, *given])
    source, given = named[: len(source)], named[len(source) :]
    if config.heldout is None:
        train, heldout = _set_aside(source, config, seed)
    else:
        train, heldout = source, once_each(given)
    _check_apart(train, heldout, config)
    return Questions(train=tuple(train), heldout=tuple(heldout[: config.heldout_size]))


def drawn_apart(
    items: Sequence[Item], size: int, *, seed: int, asked: Callable[[Item], str]
) -> tuple[list[Item], list[Item]]:
    """Train and held-out: `size` distinct items, and of no prompt rows on both sides. asked: hash of an item's prompt.

    Prompts are drawn by the seed and all that is distinct of each is held out; of the last one only as many as are
    still wanted, drawn too, whose others are in neither part. So each prompt has the same chance, however many rows.
    """
    prompts: dict[str, list[Item]] = {}
    for item in once_each(items):
        prompts.setdefault(asked(item), []).append(item)
    names, drawn, held = list(prompts), set[str](), set[str]()
    for index in map(int, _permutation(len(names), seed, _HELDOUT)):
        if len(held) == size:
            break
        rows = prompts[names[index]]
        drawn.add(names[index])
        order = _permutation(len(rows), seed, _HELDOUT, index)[: size - len(held)]
        held |= {rows[row].fingerprint for row in order}
    # A conversation may be there twice, learned from different turns on: then its prompts differ.
    train = [item for item in items if asked(item) not in drawn and item.fingerprint not in held]
    return train, [item for item in once_each(items) if item.fingerprint in held]


def once_each(items: Sequence[Item]) -> list[Item]:
    """The first item of each fingerprint, in their order."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.fingerprint, item)
    return list(first.values())


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
    orders = {epoch: _permutation(count, seed, _ORDER, epoch) if shuffle else range(count) for epoch in epochs}
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
    order = _permutation(count, seed, _ORDER, first)
    for later in range(first + 1, epoch + 1):
        shared = later * count % per_step  # questions of the batch across the border that the earlier epoch gave
        following = _permutation(count, seed, _ORDER, later)
        held = np.isin(following, order[count - shared :])
        head = following[~held][: per_step - shared]
        order = np.concatenate([head, following[~np.isin(following, head)]])
    return order


def _permutation(count: int, seed: int, *key: int) -> np.ndarray:
    """[count] indices in an order drawn from the seed and the key."""
    # Raw bits: NumPy keeps a bit generator's stream for ever, but not what Generator.permutation makes of it.
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)).random_raw(count)
    return np.argsort(bits, kind="stable")


def _source(config: QuestionsConfig, seed: int) -> list[Question]:
    if config.source in registry.ENVS:
        return _generated(config, seed)
    if config.params:
        raise ConfigError(
            f"questions.params = {config.params}: {config.source!r} is a file and takes none",
            hint=f"params go with an environment ({', '.join(sorted(registry.ENVS))})",
        )
    return _file(config, config.source, limit=config.size)


def _file(config: QuestionsConfig, path: str, limit: int | None) -> list[Question]:
    return read_questions(
        Path(path), prompt_column=config.prompt_column, answer_column=config.answer_column, limit=limit
    )


def _generated(config: QuestionsConfig, seed: int) -> list[Question]:
    if config.heldout is None:
        for field in ("prompt_column", "answer_column"):
            if getattr(config, field) is not None:
                raise ConfigError(
                    f"questions.{field} = {getattr(config, field)!r}: environment {config.source!r} has no columns",
                    hint=f"drop questions.{field}",
                )
    return made(registry.ENVS, config.source, seed=seed, size=config.size, params=config.params, section="questions")


def _check_template(config: QuestionsConfig) -> None:
    if config.template is not None and "{question}" not in config.template:
        raise ConfigError(
            f"questions.template = {config.template[:60]!r}: no {{question}} in it, so every prompt would be the same",
            hint="put {question} where the question goes",
        )


def _framed(questions: list[Question], config: QuestionsConfig, where: str) -> list[Question]:
    """The questions with the system prompt before and the template around them."""
    if config.system is None and config.template is None:
        return questions
    framed = []
    for number, question in enumerate(questions, 1):
        messages = list(question.messages)
        place = f"{where}: row {number} (id {question.id!r})"
        if config.template is not None:
            asked = [index for index, message in enumerate(messages) if message.role == "user"]
            if not asked:
                raise DataError(f"{place} has no user message for questions.template", hint="drop the template")
            last = messages[asked[-1]].content
            # replace(), not format(): a template may hold other braces, as LaTeX and JSON do.
            messages[asked[-1]] = Message("user", config.template.replace("{question}", last))
        if config.system is not None:
            if any(message.role == "system" for message in messages):
                raise DataError(f"{place} already has a system message", hint="drop questions.system")
            messages.insert(0, Message("system", config.system))
        framed.append(dataclasses.replace(question, messages=tuple(messages)))
    return framed


def _distinct_ids(questions: list[Question]) -> list[Question]:
    """The questions, the second one of an id renamed to `id#2` and so on: records are kept by id."""
    uses: Counter[str] = Counter()
    taken = {question.id for question in questions}
    named = []
    for question in questions:
        uses[question.id] += 1
        if uses[question.id] > 1:
            while f"{question.id}#{uses[question.id]}" in taken:
                uses[question.id] += 1
            question = dataclasses.replace(question, id=f"{question.id}#{uses[question.id]}")
            taken.add(question.id)
        named.append(question)
    return named


def _set_aside(questions: list[Question], config: QuestionsConfig, seed: int) -> tuple[list[Question], list[Question]]:
    """Train and held-out: distinct questions drawn by the seed, and all their duplicates out of train."""
    if not config.heldout_size:
        return questions, []
    distinct = len({question.fingerprint for question in questions})
    if distinct <= config.heldout_size:
        raise DataError(
            f"questions.heldout_size = {config.heldout_size}, but {config.source!r} gave {len(questions)} questions, "
            f"{distinct} of them distinct: none would be left to train on",
            hint="set a smaller questions.heldout_size (0: none), or give more questions",
        )
    return drawn_apart(questions, config.heldout_size, seed=seed, asked=lambda question: question.fingerprint)


def _check_apart(train: Sequence[Question], heldout: Sequence[Question], config: QuestionsConfig) -> None:
    """Raises DataError if a held-out question is a training question too: its score would not be a held-out score."""
    if not heldout:
        return
    trained = {question.fingerprint: question for question in train}
    shared = [question for question in heldout if question.fingerprint in trained]
    if shared:
        example = shared[0]
        twin = trained[example.fingerprint]
        raise DataError(
            f"{len(shared)} of {len(heldout)} held-out questions are training questions too, such as "
            f"{example.id!r} = {twin.id!r}: {' '.join(example.text.split())[:60]!r}",
            hint=f"take them out of {config.source!r} or of {(config.heldout or config.source)!r}",
        )
