"""Other examples that are put among the kept outputs: read or made, clean of held-out questions, drawn by weight."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from groupwise.config import MixConfig, RejectionConfig
from groupwise.data import Example
from groupwise.datasets.apart import once_each
from groupwise.datasets.examples import read_examples
from groupwise.datasets.sources import of_source
from groupwise.errors import DataError
from groupwise.selection.contamination import Heldout, contents
from groupwise.selection.select import drawn


@dataclass(frozen=True)
class Source:
    """The examples of one entry of `rejection.mix`, none twice. contaminated: how many were left out for that."""

    config: MixConfig
    examples: tuple[Example, ...]
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
            read=read_examples,
            of_files={"ignore": entry.ignore_columns or ()},
            section=f"rejection.mix.{index}",
        )
        plain = next((example for example in examples if example.text is not None), None)
        if plain is not None:
            raise DataError(
                f"{plain.where}: a plain text, among outputs that answer questions (rejection.mix.{index}.source)",
                hint="give conversations, or prompts with completions",
            )
        found.append(Source(entry, tuple(once_each(examples))))
    return found


def clean(source: Source, heldout: Heldout, config: RejectionConfig) -> Source:
    """The source without examples that share words with a held-out question; DataError if they are to be refused."""
    kept = []
    for example in source.examples:
        question = heldout.question_in(contents(example.messages))
        if question is not None and config.contaminated == "refuse":
            raise DataError(
                f"{example.where}: shares its words with {question}: {' '.join(contents(example.messages))[:60]!r}",
                hint="take it out, or set rejection.contaminated to drop",
            )
        if question is None:
            kept.append(example)
    return Source(source.config, tuple(kept), contaminated=len(source.examples) - len(kept))


def mixed_in(sources: Sequence[Source], *, kept: int, said: Iterable[str], seed: int) -> list[Mixed]:
    """From each source `weight` examples to one kept output, drawn by the seed and none twice.

    said: fingerprints of the kept outputs, which are not said again.
    """
    seen, found = set(said), []
    for index, source in enumerate(sources):
        own = [example for example in source.examples if example.fingerprint not in seen]
        own.sort(key=lambda example: drawn(seed, f"mix/{index}", example.fingerprint))
        wanted = int(source.config.weight * kept + 0.5)
        taken = tuple(own[:wanted])
        seen |= {example.fingerprint for example in taken}
        found.append(Mixed(source.config.source, taken, wanted, source.contaminated))
    return found
