"""Every setting of a recipe as a row: key, default, range, meaning, and what TRL and verl call it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from groupwise import names
from groupwise.config.recipe import RECIPES

LISTED = {
    "stage": "stages",
    "model.path": "models",
    "examples.source": "examples",
    "questions.source": "envs",
    "rewards.0.function": "rewards",
    "rollout.engine": "engines",
    "objective.preset": "presets",
    "objective.advantage": "advantages",
    "objective.loss": "losses",
    "objective.aggregate": "aggregates",
    "objective.kl_estimator": "kl_estimators",
    "objective.correction": "corrections",
    "preference.loss": "preferences",
    "rejection.keep": "keeps",
}
"""Keys whose value is a name, and the table that has them: `groupwise list TABLE`."""


SECTIONS = (
    *("stage", "seed", "model", "examples", "questions", "rewards", "rollout", "objective"),
    *("critic", "teacher", "reward_model", "preference", "rejection", "update", "evaluate", "run"),
)
"""The sections of all stages, in the order in which they are shown."""
NO_BOUND = 10_000
"""A bound past this keeps slips of the pen out; nobody comes near it, and it is not listed."""


@dataclass(frozen=True)
class Setting:
    """One key of a recipe. default: None with `needed` unset is YAML's null. range: in words, "" where any will do.

    stages: those that read it, the first of which has this default.
    """

    key: str
    default: Any
    needed: bool
    range: str
    meaning: str
    stages: tuple[str, ...]
    trl: tuple[str, ...]
    verl: tuple[str, ...]
    differs: str


def settings() -> list[Setting]:
    """All of them, in a recipe's order; of a list such as rewards, those of its first item."""
    found: dict[str, list[tuple[str, FieldInfo]]] = {}
    for stage, recipe in RECIPES.items():
        for key, field in _of(recipe, ""):
            found.setdefault(key, []).append((stage, field))
    order = list(dict.fromkeys(key.partition(".")[0] for key in (*SECTIONS, *found)))
    keys = sorted(found, key=lambda key: order.index(key.partition(".")[0]))
    return [_setting(key, found[key][0][1], tuple(stage for stage, _ in found[key])) for key in keys]


def _of(section: type[BaseModel], before: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        key = f"{before}{name}"
        inner = _section(field.annotation)
        if inner is None or key == "rejection.mix":
            yield key, field
        elif key == "model.lora":  # null says that there are none
            yield key, field
            yield from _of(inner, f"{key}.")
        else:
            yield from _of(inner, f"{key}.0." if name == "rewards" else f"{key}.")


def _setting(key: str, field: FieldInfo, stages: tuple[str, ...]) -> Setting:
    theirs = names.of(key)
    needed = field.is_required()
    default = None if needed else field.get_default(call_default_factory=True)
    default = list(default) if isinstance(default, tuple) else default
    meaning = " ".join((field.description or "").split()).replace("None:", "null:").replace("False:", "false:")
    return Setting(key, default, needed, _range(key, field), meaning, stages, theirs.trl, theirs.verl, theirs.differs)


def _range(key: str, field: FieldInfo) -> str:
    """What a value may be: a table's names, words to choose from, or a kind of number with its bounds."""
    if key in LISTED:
        return f"`groupwise list {LISTED[key]}`"
    kinds = _kinds(field.annotation)
    for kind in kinds:
        if get_origin(kind) is Literal:
            return ", ".join(map(str, get_args(kind)))
    bounds = [
        f"{sign} {getattr(part, name):g}"
        for name, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        for part in field.metadata
        if hasattr(part, name) and abs(getattr(part, name)) < NO_BOUND
    ]
    kind = next((word for of, word in _WORDS.items() if of in kinds), "")
    return " ".join([kind, *bounds]).strip()


_WORDS: dict[Any, str] = {
    bool: "true, false",
    int: "whole number",
    float: "number",
    str: "text",
    dict: "keys",
    tuple: "list",
}


def _kinds(annotation: Any) -> list[Any]:
    """The kinds that an annotation allows, without None."""
    if get_origin(annotation) is Literal:
        return [annotation]
    if get_origin(annotation) in (dict, tuple):
        return [get_origin(annotation)]
    inside = [part for part in get_args(annotation) if part is not type(None)]
    return [kind for part in inside for kind in _kinds(part)] if inside else [annotation]


def _section(kind: Any) -> type[BaseModel] | None:
    """The section that a field's type is, holds (a list of them) or may be (one or None)."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((found for part in get_args(kind) if (found := _section(part)) is not None), None)
