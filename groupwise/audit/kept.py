"""What a run's record keeps, as far as an audit needs it."""

from pathlib import Path
from typing import Any

from groupwise.errors import DataError
from groupwise.recipe_file import tree_of
from groupwise.record.read import Record


def recipe_tree(record: Record) -> dict[str, Any]:
    """The run's recipe as plain values; {} if the record holds none."""
    found = tree_of(record.info().get("recipe", "{}"))
    return found if isinstance(found, dict) else {}


def require_texts(record: Record, run: Path) -> None:
    """Raises DataError if the run's outputs were kept without their texts."""
    kept = (recipe_tree(record).get("run") or {}).get("record", "full")
    if kept == "scores":
        raise DataError(
            f"{run}: run.record = scores, so no texts were kept", hint="train with run.record=texts or full"
        )
