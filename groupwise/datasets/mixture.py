"""Questions from several sources at once, each a part with a name that rewards can go by. Makes none of its own."""

import dataclasses
import random
from collections.abc import Mapping
from typing import Any

from groupwise.data import Question
from groupwise.datasets.inner import load_section, section
from groupwise.errors import ConfigError

_WHERE = "questions.params.parts"


def questions(seed: int, size: int | None = None, *, parts: Mapping[str, Any]) -> list[Question]:
    """The training questions of several sources, in an order drawn from the seed; meta["part"] is the source's name.

    parts: a name to a section as `questions` is (source, params, size, system, template ..). Its `heldout_size` (here 0
    if left out) questions are not in the mixture, nor is one of another part that reads the same: a stage that measures
    on the same section, with the same seed, measures on questions that the mixture never has. size: questions drawn
    from all; None: every one. Raises ConfigError for a wrong part, or if there are fewer than `size`.
    """
    if not isinstance(parts, Mapping) or not parts:
        raise ConfigError(
            f"{_WHERE} = {parts!r}: no parts", hint="give each a name and a section: {sums: {source: ..}}"
        )
    sections = {name: section(tree, where=f"{_WHERE}.{name}", heldout_size=0) for name, tree in parts.items()}
    loaded = {name: load_section(config, seed, where=f"{_WHERE}.{name}") for name, config in sections.items()}
    heldout = {question.fingerprint for found in loaded.values() for question in found.heldout}
    parts_made = [
        dataclasses.replace(question, id=f"{name}/{question.id}", meta={**question.meta, "part": str(name)})
        for name, found in loaded.items()
        for question in found.train
        if question.fingerprint not in heldout
    ]
    if size is not None and size > len(parts_made):
        raise ConfigError(
            f"questions.size = {size}: the parts {', '.join(map(str, parts))} have {len(parts_made)} questions",
            hint=f"ask for {len(parts_made)} or fewer, or set a larger size in a part",
        )
    random.Random(f"mixture {seed}").shuffle(parts_made)
    return parts_made[:size]
