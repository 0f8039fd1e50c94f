"""What is wrong with a recipe, in one line: what pydantic finds, in our words, and names that no table has."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from groupwise import registry
from groupwise.errors import ConfigError
from groupwise.functions import check_function
from groupwise.names import folded, other_name

MOST_LEAVES = 8


def causes(error: ValidationError) -> list[Any]:
    """Pydantic's errors, but for those of a list or section in which a value is wrong already: they follow from it."""
    found = error.errors()
    return [item for item in found if not any(_inside(other["loc"], item["loc"]) for other in found)]


def _inside(place: tuple[Any, ...], holder: tuple[Any, ...]) -> bool:
    return len(place) > len(holder) and place[: len(holder)] == holder


def message_of(item: Any, recipe: type[BaseModel], stages: Mapping[str, type[BaseModel]] = {}) -> str:
    """One of pydantic's errors on a recipe as `where = value: what; remedy`. stages: the recipe of each stage."""
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "none_required":
        readers = [stage for stage, other in stages.items() if any(key.startswith(f"{where}.") for key in _keys(other))]
        return _not_here(where, recipe, readers)
    if item["type"] == "extra_forbidden":
        readers = [stage for stage, other in stages.items() if other is not recipe and where in _keys(other)]
        if readers:
            return _not_here(where, recipe, readers)
        known = _fields(recipe, item["loc"][:-1])
        return "; ".join(f"{key}: unknown key; {_instead(key, known, recipe)}" for key in _leaves(where, item["input"]))
    if item["type"] == "missing":
        return f"{where}: missing; add it to the recipe"
    if item["type"] == "value_error":
        return str(item["ctx"]["error"]) if not where else f"{where}: {item['ctx']['error']}"
    value = repr(item["input"])
    value = value if len(value) <= 80 else f"{value[:77]}..."
    what = _KINDS.get(item["type"].partition("_")[0], f"{item['msg'][0].lower()}{item['msg'][1:]}")
    if item["type"].startswith("model_"):
        what = f"{what}: {', '.join(_fields(recipe, item['loc']))}"
    note = _ADVICE.get(where, "") if item["type"] in ("greater_than_equal", "too_short") else ""
    return f"{where} = {value}: {what}" + (f"; {note}" if note else "")


def _not_here(where: str, recipe: type[BaseModel], readers: Sequence[str]) -> str:
    """What is wrong with a key that the recipe's stage does not read, and others do."""
    stage = get_args(recipe.model_fields["stage"].annotation)[0]
    does = "does" if len(readers) == 1 else "do"
    return f"{where}: stage {stage!r} does not read it, {_listed(readers)} {does}; drop it"


def _listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


_KINDS = {
    "int": "give a whole number",
    "float": "give a number",
    "bool": "give true or false",
    "string": "give text",
    "tuple": "give a list",
    "dict": "give keys with values",
    "model": "give a section, with keys of its own",
}
"""What to give instead, by the kind of value that pydantic wants (the first word of its error type)."""
_ADVICE = {
    "update.steps": "a run of no steps trains nothing; to measure a model use `groupwise eval`",
    "rewards": "a run needs at least one reward function",
}


def _instead(key: str, known: list[str], recipe: type[BaseModel]) -> str:
    """What to write for a key that a section (with the keys `known`) lacks: the one meant, or what it is here."""
    name = key.rpartition(".")[2]
    if folded(name) in known:
        return f"did you mean {folded(name)!r}?"
    elsewhere = [ours for ours in _keys(recipe) if f".{ours}".endswith(f".{folded(key)}")]
    elsewhere = elsewhere or [ours for ours in _keys(recipe) if ours.rpartition(".")[2] == folded(name)]
    theirs = other_name(key)
    if "." not in key and len(elsewhere) == 1 and (not theirs or elsewhere[0] in theirs.partition("(")[0]):
        return f"did you mean {elsewhere[0]!r}?"
    if theirs:
        return theirs
    close = registry.closest(name, known, cutoff=0.7)
    if close is None and (begun := [own for own in known if own.startswith(folded(name))]):
        return f"did you mean {' or '.join(map(repr, begun))}?"
    if close is None and 1 <= len(elsewhere) <= 3:
        return f"did you mean {' or '.join(map(repr, elsewhere))}?"
    far = {ours.rpartition(".")[2]: ours for ours in _keys(recipe)}
    if close is None and (found := registry.closest(name, far, cutoff=0.8)):
        return f"did you mean {far[found]!r}?"
    message_of = registry.nearest(name, known)
    return message_of if close or "did" not in message_of else f"choose from: {', '.join(known)}"


def _leaves(where: str, value: Any) -> list[str]:
    """The keys of an unknown value, those of sections within it by their whole names: at most a handful."""
    if not isinstance(value, dict) or not value:
        return [where]
    return [leaf for key, inner in value.items() for leaf in _leaves(f"{where}.{key}", inner)][:MOST_LEAVES]


def _keys(section: type[BaseModel], before: str = "") -> list[str]:
    """Every key of a section and of those within it, dotted."""
    found = []
    for name, field in section.model_fields.items():
        inner = _section(field.annotation)
        found += [f"{before}{name}"] + (_keys(inner, f"{before}{name}.") if inner else [])
    return found


def _fields(recipe: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Names of the fields of the section at a place in the recipe."""
    section = recipe
    for part in location:
        if isinstance(part, str) and part in section.model_fields:
            section = _section(section.model_fields[part].annotation) or section
    return list(section.model_fields)


def _section(kind: Any) -> type[BaseModel] | None:
    """The section that a field's type is, holds (a list of them) or may be (one or None)."""
    inside = [found for part in get_args(kind) if (found := _section(part)) is not None]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return inside[0] if inside else None


def check_names(recipe: Any) -> None:
    """Raises ConfigError for a name in a recipe that its table lacks."""
    if recipe.rollout is not None:
        engine = recipe.rollout.engine
        check_function(registry.ENGINES, engine, f"rollout.engine = {engine!r}", ConfigError)
        environment = recipe.rollout.environment
        check_function(registry.ENVIRONMENTS, environment, f"rollout.environment = {environment!r}", ConfigError)
    if recipe.objective is not None:
        _check_objective(recipe.objective)
    for index, reward in enumerate(recipe.rewards):
        where = f"rewards[{index}].function = {reward.function!r}"
        check_function(registry.REWARDS, reward.function, where, ConfigError)
    if recipe.rejection is not None:
        _check_rejection(recipe)
    if recipe.preference is not None:
        registry.check(registry.PREFERENCES, recipe.preference.loss, "preference.loss")
    if recipe.questions is not None:
        registry.check_source(registry.ENVS, recipe.questions.source, "questions.source")


def _check_objective(config: Any) -> None:
    registry.check(registry.PRESETS, config.preset, "objective.preset")
    for field, table in (
        ("advantage", registry.ADVANTAGES),
        ("loss", registry.LOSSES),
        ("aggregate", registry.AGGREGATES),
        ("kl_estimator", registry.KL_ESTIMATORS),
        ("correction", registry.CORRECTIONS),
    ):
        name = getattr(config, field)
        if name is not None:
            check_function(table, name, f"objective.{field} = {name!r}", ConfigError)


def _check_rejection(recipe: Any) -> None:
    """Raises ConfigError for a rule or a reward that is not there, and for limits that no output could meet."""
    config, labels = recipe.rejection, [reward.label for reward in recipe.rewards]
    registry.check(registry.KEEPS, config.keep, "rejection.keep")
    named = [("rejection.by", config.by)] * (config.by is not None)
    for where, name in [*named, *((f"rejection.require.{name}", name) for name in config.require)]:
        if name.partition("/")[0] not in labels:  # what stands behind a slash is a further number of that function
            raise ConfigError(f"{where}: no reward of the name {name!r}", hint=registry.nearest(name, labels))
    if config.max_tokens is not None and config.max_tokens < config.min_tokens:
        raise ConfigError(
            f"rejection.max_tokens = {config.max_tokens} is below rejection.min_tokens = {config.min_tokens}: nothing "
            "would be kept",
            hint="set it higher, or drop one of the two",
        )
