"""Questions of the package reasoning-gym, with what its own scorer needs kept beside each. Scores nothing itself."""

import contextlib
import dataclasses
import sys
from typing import Any

from groupwise.data import Message, Question
from groupwise.errors import ConfigError, DataError
from groupwise.registry import nearest


def questions(seed: int, size: int = 500, *, name: str, **params: Any) -> list[Question]:
    """`size` questions of a reasoning-gym task, with the task's parameters.

    meta["reasoning_gym"] holds name, params (seed and size among them) and the task's entry, as its scorer wants it.
    Raises DataError if the package is missing, ConfigError for an unknown task or parameter or a refused value.
    """
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise DataError(
            f"questions.source = 'reasoning_gym': the package cannot be imported: {error}",
            hint='pip install "groupwise[gym]"',
        ) from None
    if str(name) not in DATASETS:
        raise ConfigError(f"questions.params.name = {name!r}: no such task", hint=_near(str(name), list(DATASETS)))
    known = [field.name for field in dataclasses.fields(DATASETS[name][1]) if field.name not in ("seed", "size")]
    for parameter in params:
        if parameter not in known:
            raise ConfigError(
                f"questions.params.{parameter} = {params[parameter]!r}: task {name!r} has no such parameter",
                hint=nearest(parameter, known) if known else "it has none",
            )
    settings = {**params, "seed": seed % 2**31, "size": size}  # NumPy, in some tasks, takes 32 bits
    try:
        with contextlib.redirect_stdout(sys.stderr):  # some tasks print; stdout is for a command's result
            entries = list(reasoning_gym.create_dataset(name, **settings))
    except Exception as error:  # its checks are asserts, and wrong values surface as whatever they break
        raise ConfigError(
            f"questions.params = {params}: task {name!r} refuses them: {type(error).__name__}: {error}",
            hint=f"its parameters: {', '.join(known) or 'none'}",
        ) from error
    return [
        Question(
            id=f"{name}:{index}",
            messages=(Message("user", entry["question"]),),
            answer=entry["answer"],
            meta={"reasoning_gym": {"name": name, "params": settings, "entry": _storable(entry)}, "_plain": True},
        )
        for index, entry in enumerate(entries)
    ]


def _near(name: str, tasks: list[str]) -> str:
    close = nearest(name, tasks)
    return close if close.startswith("did") else f"{len(tasks)} tasks, such as chain_sum, countdown, gcd"


def _storable(value: Any) -> Any:
    """The value with what JSON cannot write (fractions, say) as text."""
    # Tuples stay: JSON writes them, and some scorers (arc_agi, rearc) compare them with tuples.
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_storable, value))
    return value if value is None or isinstance(value, str | int | float) else str(value)
