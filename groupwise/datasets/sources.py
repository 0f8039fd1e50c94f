"""What `examples` of a recipe names, of whatever kind: a file that is read, or examples made on the spot; held out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from groupwise import registry
from groupwise.config import ExamplesConfig
from groupwise.datasets.apart import default_size, firsts, prints_of, split
from groupwise.datasets.files import Source, pictures_of
from groupwise.datasets.makers import made_with
from groupwise.datasets.stored import chosen, hashed
from groupwise.errors import ConfigError, DataError


class Placed(Protocol):
    @property
    def where(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def asked(self) -> str: ...


Item = TypeVar("Item", bound=Placed)
Reader = Callable[[Source, int | None], Iterable[Item]]
"""(source, how many: None all) -> its examples of one kind, one after the other."""
HELDOUT_SIZE = 100
"""Examples held out at most where nobody says how many."""


def load_apart(
    config: ExamplesConfig, *, seed: int, kind: type[Item], read: Reader[Item]
) -> tuple[Sequence[Item], tuple[Item, ...]]:
    """Train and held-out examples of a recipe, which share no prompt; texts, which have none, are not the same.

    Raises ConfigError for a wrong name or parameter, DataError for a wrong file, or if both would hold one example."""
    ignore = config.ignore_columns or ()
    images = pictures_of(config, "examples")
    of_files = {"subset": config.subset, "split": config.split, "ignore": ignore, "images": images}
    found = of_source(
        config.source, params=config.params, size=config.size, seed=seed, kind=kind, read=read, of_files=of_files
    )
    place = config.heldout or (config.source if config.heldout_split is not None else None)
    if place is None:
        return set_aside(found, size=config.heldout_size, seed=seed)
    size = HELDOUT_SIZE if config.heldout_size is None else config.heldout_size
    subset = config.subset if config.heldout is None else None
    train, texts, asked = _printed(found)
    heldout_source = Source(place, subset, config.heldout_split, ignore, strict=False, images=images)
    heldout, heldout_texts, heldout_asked = _printed(read(heldout_source, size))
    same = np.isin(texts, heldout_texts)
    both = np.flatnonzero(same | np.isin(asked, heldout_asked))
    if len(both):
        what = "held out" if same[both[0]] else "its prompt is held out"
        raise DataError(f"{train[int(both[0])].where}: {what} in {place!r} too", hint="remove it from one of the two")
    return train, tuple(heldout)


def of_source(
    source: str,
    *,
    params: Mapping[str, Any],
    size: int | None,
    seed: int,
    kind: type[Item],
    read: Reader[Item],
    section: str = "examples",
    of_files: Mapping[str, Any] | None = None,
) -> Iterable[Item]:
    """Examples of one kind, made by the maker of that name (`groupwise list examples`) or read from a file.

    section: of the recipe, in which it is named. of_files: further fields of a `Source`."""
    if source not in registry.EXAMPLES:
        registry.check_source(registry.EXAMPLES, source, f"{section}.source")
        if params:
            raise ConfigError(
                f"{section}.params = {dict(params)}: {source!r} is a file and takes none",
                hint=f"params are only for generated examples ({', '.join(sorted(registry.EXAMPLES))})",
            )
        return read(Source(source, **(of_files or {})), size)
    given = next(((name, value) for name, value in (of_files or {}).items() if value), None)
    if given is not None:
        raise ConfigError(
            f"{section}: {given[0]} = {given[1]!r}: {source!r} is made on the spot and has no columns or splits",
            hint=f"drop it from {section}",
        )
    found = made_with(registry.EXAMPLES, source, seed=seed, size=size, params=params, section=section)
    wrong = next((example for example in found if not isinstance(example, kind)), None)
    if wrong is not None:
        raise ConfigError(
            f"{section}.source = {source!r}: makes {type(wrong).__name__.lower()} rows, and this stage learns from "
            f"{kind.__name__.lower()} rows",
            hint="choose another source (`groupwise list examples`)",
        )
    return found


def set_aside(examples: Iterable[Item], *, size: int | None, seed: int) -> tuple[Sequence[Item], tuple[Item, ...]]:
    """Train and held-out: `size` distinct examples of drawn prompts, and all others of these prompts out of train.

    size None: `default_size` of them. Raises DataError if none would be left to train on.
    """
    items, texts, asked = _printed(examples)
    prompts = len(firsts(asked))
    if size is None:
        size = default_size(prompts, HELDOUT_SIZE)
    if not size:
        return items, ()
    train, heldout = split(texts, asked, size, seed=seed)
    if not len(train):
        raise DataError(
            f"examples.heldout_size = {size}, but there are {len(items)} examples, {len(firsts(texts))} of them "
            f"distinct, of {prompts} prompt(s): none would be left to train on",
            hint="set a smaller examples.heldout_size (0: none), or give more examples",
        )
    return chosen(items, train), tuple(chosen(items, heldout))


def _printed(examples: Iterable[Item]) -> tuple[Sequence[Item], np.ndarray, np.ndarray]:
    """The examples, kept, and [N] fingerprints of each and of its prompt."""
    items, (texts, asked) = hashed(
        examples, lambda example: bytes.fromhex(example.fingerprint), lambda example: bytes.fromhex(example.asked)
    )
    return items, prints_of(texts), prints_of(asked)
