"""What `groupwise list TABLE --check FUNCTION` shows: each contract of a function's kind, and what breaks it."""

from collections.abc import Sequence
from typing import Any

import yaml

from groupwise import registry
from groupwise.errors import ConfigError
from groupwise.recipe_file import tree_of

KINDS = {
    "advantages": "advantage",
    "aggregates": "aggregate",
    "corrections": "correction",
    "kl_estimators": "kl_estimator",
    "losses": "loss",
}
"""Tables whose functions have contracts, and the recipe's key below `objective`."""


def contracts(title: str, name: str, words: Sequence[str]) -> dict[str, str]:
    """By contract of a table's kind, what breaks it in the function of that name; "" if nothing does.

    words: `parameter=value`, in place of the function's defaults. Raises ConfigError if there is no such function, or
    for a parameter that it does not read or that it has no value for.
    """
    if title not in KINDS:
        raise ConfigError(
            f"list {title} --check: nothing there has contracts", hint=f"choose from: {', '.join(sorted(KINDS))}"
        )
    from groupwise.objective.contracts import checked
    from groupwise.objective.surrogate import INPUTS, reads
    from groupwise.run.chosen import case_of, load_function

    kind, given = KINDS[title], dict(_parameter(word) for word in words)
    function = load_function(kind, name)
    own = [parameter for parameter in reads(function) if parameter not in INPUTS[kind]]
    for parameter in given:
        if parameter not in own:
            hint = registry.nearest(parameter, own) if own else "drop it: it has none"
            raise ConfigError(f"{parameter}: {name!r} has no such parameter", hint=hint)
    case = case_of(kind, function, given)
    missing = [parameter for parameter in own if parameter not in case.settings]
    if missing:
        meant = registry.closest(missing[0], INPUTS[kind], cutoff=0.7)
        hint = f"add {missing[0]}=VALUE" + (f", or call it {meant!r}, which a {kind} is given" if meant else "")
        raise ConfigError(f"{name!r} needs {missing[0]!r}, which has no default", hint=hint)
    return dict(checked(case))


def _parameter(word: str) -> tuple[str, Any]:
    name, equals, text = word.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigError(f"{word!r} is not of the form parameter=value", hint="for example clip_low=0.1")
    try:
        return name, tree_of(text)
    except (yaml.YAMLError, ValueError):
        return name, text
