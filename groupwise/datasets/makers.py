"""Questions and examples made on the spot: the maker of a table called with a recipe's parameters, each checked."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from groupwise import registry
from groupwise.errors import ConfigError


def made_with(
    table: Mapping[str, str], name: str, *, seed: int, size: int | None, params: Mapping[str, Any], section: str
) -> list[Any]:
    """What a maker makes: make(seed[, size], **params). section: of the recipe, in which it is named.

    Raises ConfigError for a parameter that it does not have, or needs and was not given."""
    make = registry.load(table, name, f"{section}.source")
    _check_params(make, name, params, section)
    sized = {} if size is None else {"size": size}
    found: list[Any] = make(seed, **sized, **params)
    return found


def _check_params(make: Callable[..., Any], maker: str, params: Mapping[str, Any], section: str) -> None:
    taken: Mapping[str, inspect.Parameter] = inspect.signature(make).parameters
    named = {name: p for name, p in taken.items() if p.kind is p.KEYWORD_ONLY}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    what = "environment" if section == "questions" else "source"
    for name, value in params.items():
        where = f"{section}.params.{name} = {value!r}"
        if name == "size":
            raise ConfigError(f"{where}: not a parameter", hint=f"set {section}.size")
        if name == "seed":
            raise ConfigError(f"{where}: not a parameter", hint="set seed at the top of the recipe")
        if name not in named and not takes_any:
            raise ConfigError(f"{where}: {what} {maker!r} has no such parameter", hint=registry.nearest(name, named))
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in params:
            raise ConfigError(
                f"{section}.params.{name}: missing, and {what} {maker!r} needs it",
                hint=f"add it under {section}.params",
            )
