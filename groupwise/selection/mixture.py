"""Other examples that are put among the kept outputs: read or made, clean of held-out questions, drawn by weight."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import nsmallest

from groupwise.config import MixConfig, RejectionConfig
from groupwise.data import Example
from groupwise.datasets.apart import once_each
from groupwise.datasets.examples import each_example
from groupwise.datasets.files import pictures_of
from groupwise.datasets.sources import of_source
from groupwise.datasets.stored import kept
from groupwise.errors import DataError
from groupwise.selection.contamination import Heldout, contents
from groupwise.selection.select import drawn


@dataclass(frozen=True)
class Source:
    """The examples of one entry of `rejection.mix`, none twice. contaminated: how many were left out for that."""

    config: MixConfig
    examples: Sequence[Example]
    contaminated: int = 0


@dataclass(frozen=True)
class Mixed:
    """What was drawn from a source. wanted: by its weight; fewer, if there are not so many."""

    source: str
    examples: tuple[Example, ...]
    wanted: int
    contaminated: int


def read_sources(config: RejectionConfig, *, seed: int) -> list[Source]:
    """The examples of every entry, those that say the same once. Raises DataError for a plain text."""
    found: list[Source] = []
    for index, entry in enumerate(config.mix):
        examples = of_source(
            entry.source,
            params=entry.params,
            size=None,
            seed=seed,
            kind=Example,
            read=each_example,
            of_files={
                "ignore": entry.ignore_columns or (),
                "images": pictures_of(entry, f"rejection.mix.{index}"),
            },
            section=f"rejection.mix.{index}",
        )
        found.append(Source(entry, kept(once_each(_answering(examples, f"rejection.mix.{index}.source")))))
    return found


def _answering(examples: Iterable[Example], place: str) -> Iterator[Example]:
    """The examples. Raises DataError for a plain text."""
    for example in examples:
        if example.text is not None:
            raise DataError(
                f"{example.where}: a plain text, among outputs that answer questions ({place})",
                hint="give conversations, or prompts with completions",
            )
        yield example


def clean(source: Source, heldout: Heldout, config: RejectionConfig) -> Source:
    """The source without examples that share words with a held-out question; DataError if they are to be refused."""
    clean = kept(_clean(source, heldout, config))
    return Source(source.config, clean, contaminated=len(source.examples) - len(clean))


def _clean(source: Source, heldout: Heldout, config: RejectionConfig) -> Iterator[Example]:
    for example in source.examples:
        question = heldout.question_in(contents(example.messages))
        said = " ".join(turn.content for turn in example.messages if turn.role != "system")
        if question is not None and config.contaminated == "refuse":
            raise DataError(
                f"{example.where}: shares its words with {question}: {said[:60]!r}",
                hint="remove it, or set rejection.contaminated to drop",
            )
        if question is None:
            yield example


def mixed_in(sources: Sequence[Source], *, kept: int, fingerprints: Iterable[str], seed: int) -> list[Mixed]:
    """From each source `weight` examples to one kept output, drawn by the seed and none twice.

    said: fingerprints of the kept outputs, which are not said again.
    """
    seen, found = set(fingerprints), []
    for index, source in enumerate(sources):
        own = (example for example in source.examples if example.fingerprint not in seen)
        place = partial(_place, seed, f"mix/{index}")
        wanted = int(source.config.weight * kept + 0.5)
        taken = tuple(nsmallest(wanted, own, key=place))
        seen |= {example.fingerprint for example in taken}
        found.append(Mixed(source.config.source, taken, wanted, source.contaminated))
    return found


def _place(seed: int, purpose: str, example: Example) -> bytes:
    return drawn(seed, purpose, example.fingerprint)
