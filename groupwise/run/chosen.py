"""The functions that a recipe's objective names, and the parameters that each of them reads."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from groupwise import registry
from groupwise.config import ObjectiveConfig
from groupwise.errors import ConfigError
from groupwise.functions import find
from groupwise.objective.contracts import Case, broken, signature_fault
from groupwise.objective.presets import Preset
from groupwise.objective.surrogate import INPUTS, Objective, reads, settings_of
from groupwise.parameters import PARAMETERS

TABLES: Mapping[str, Mapping[str, str]] = {
    "advantage": registry.ADVANTAGES,
    "loss": registry.LOSSES,
    "aggregate": registry.AGGREGATES,
    "kl_estimator": registry.KL_ESTIMATORS,
    "correction": registry.CORRECTIONS,
}
"""By the recipe's key below `objective`, which is the preset's column and the field of `Objective` too."""
TITLES = {kind: next(title for title, own in registry.TABLES.items() if own is table) for kind, table in TABLES.items()}


def functions_of(row: Preset) -> dict[str, Callable[..., Tensor]]:
    """The function behind each of a row's names. Raises ConfigError for one that is not there."""
    return {kind: load_function(kind, getattr(row, kind)) for kind in TABLES}


def load_function(kind: str, name: str) -> Callable[..., Tensor]:
    """The function of that kind behind a name. Raises ConfigError if it is not there, or cannot be given its inputs."""
    where = f"objective.{kind} = {name!r}"
    function = find(TABLES[kind], name, where, ConfigError)
    if fault := signature_fault(function):
        raise ConfigError(f"{where}: {fault}", hint=f"name some of {', '.join(INPUTS[kind])}, and its parameters")
    return function


def parameters_of(
    config: ObjectiveConfig, row: Preset, functions: Mapping[str, Callable[..., Tensor]]
) -> dict[str, Any]:
    """The parameters that a recipe and its preset give, each of which at least one of the functions reads.

    Raises ConfigError for one that the recipe sets and no function reads, and for one that a function has no value for.
    """
    own = {name: value for name in PARAMETERS if (value := getattr(config, name)) is not None}
    read = {name for kind, function in functions.items() for name in _named(kind, function)}
    for name in own:
        if name not in read:
            raise _unread(name, own[name], row, functions)
    for name in config.params:
        if name in PARAMETERS:
            raise ConfigError(f"objective.params.{name}: a key of its own", hint=f"set objective.{name}")
        if name not in read:
            known = sorted(read - set(PARAMETERS))
            hint = registry.nearest(name, known) if known else "drop it: the functions have no further parameters"
            raise ConfigError(f"objective.params.{name}: no function of the objective reads it", hint=hint)
    given = {**{name: value for name, value in row.parameters.items() if name in read}, **own, **config.params}
    for kind, function in functions.items():
        for name in _named(kind, function):
            if name not in settings_of(kind, function, given):
                raise _missing(name, kind, row)
    return given


def case_of(kind: str, function: Callable[..., Tensor], parameters: Mapping[str, Any]) -> Case:
    """What the contracts try: the function with its parameters' values, and the ends of their ranges."""
    settings = settings_of(kind, function, parameters)
    ranges = {name: PARAMETERS[name] for name in settings if name in PARAMETERS}
    return Case(kind, function, settings, [{name: end} for name, row in ranges.items() for end in row.ends])


def check_own(row: Preset, objective: Objective) -> None:
    """Raises ConfigError if a function of the user's breaks a contract that training counts on."""
    for kind, table in TABLES.items():
        function, name = getattr(objective, kind), getattr(row, kind)
        if name in table:
            continue
        for contract, what in broken(case_of(kind, function, objective.parameters)):
            hint = f"`groupwise list {TITLES[kind]} --check {name}` shows each contract"
            raise ConfigError(f"{_text(row, kind)}: {contract}: {what}", hint=hint)


def _named(kind: str, function: Callable[..., Tensor]) -> Iterator[str]:
    return (name for name in reads(function) if name not in INPUTS[kind])


def _text(row: Preset, kind: str) -> str:
    return f"objective.{kind} = {getattr(row, kind)!r}"


def _unread(name: str, value: float, row: Preset, functions: Mapping[str, Callable[..., Tensor]]) -> ConfigError:
    """Says which function does not read a parameter, what it reads, and which ones would."""
    kind = "correction" if name.startswith("correction") else "loss"
    others = sorted(other for other in TABLES[kind] if name in reads(registry.load(TABLES[kind], other)))
    those = [own for own in _named(kind, functions[kind]) if own in PARAMETERS]
    reading = f"it reads {', '.join(those)}" if those else "it has no parameters"
    return ConfigError(
        f"objective.{name} = {value:g}: the {kind} {getattr(row, kind)!r} does not read it; {reading}",
        hint=f"drop it, or set objective.{kind} to one that does: {', '.join(others)}",
    )


def _missing(name: str, kind: str, row: Preset) -> ConfigError:
    close = registry.closest(name, INPUTS[kind], cutoff=0.7)
    meant = f", or call it {close!r}, which the {kind} is given" if close else ""
    key = f"objective.{name}" if name in PARAMETERS else f"objective.params.{name}"
    return ConfigError(f"{_text(row, kind)} needs {name!r}, which has no default", hint=f"set {key}{meant}")
