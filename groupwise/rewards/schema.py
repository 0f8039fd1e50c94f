"""A reward for JSON of a given form."""

import json
import re
from collections.abc import Mapping
from typing import Any

from groupwise.data import Question
from groupwise.errors import RewardError
from groupwise.rewards.answer import part_of
from groupwise.rewards.answers.final import final

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)
LONGEST = 1_000_000
"""Characters of an answer that are read."""


class JsonSchema:
    """1 if the final answer is JSON that meets a JSON Schema, else 0.

    The answer is all of the final answer, or its last fenced block. A key that an object has twice, NaN and text around
    the JSON make it 0. schema: the schema; or schema_column: the column of the questions that holds each one's, as an
    object or as text. References to other documents are not followed.
    """

    def __init__(self, *, schema: Mapping[str, Any] | None = None, schema_column: str | None = None) -> None:
        try:
            import jsonschema
        except ImportError:
            raise RewardError(
                "json_schema needs the package jsonschema", hint="pip install 'groupwise[rules]'"
            ) from None
        if (schema is None) == (schema_column is None):
            raise RewardError("params.schema: give that or params.schema_column, one of the two")
        self._library, self._column = jsonschema, schema_column
        try:
            self._checks = None if schema is None else self._validator(schema)
        except ValueError as error:
            raise RewardError(f"params.schema: {error}", hint="mend the schema") from None

    def __call__(self, text: str, question: Question) -> float:
        checks = self._checks or self._validator(self._of(question))
        given = final(part_of(text, question)).strip()
        blocks = _FENCED.findall(given)
        try:
            value = json.loads(
                (blocks[-1] if blocks else given)[:LONGEST], object_pairs_hook=_once, parse_constant=_none
            )
            return float(checks.is_valid(value))
        except (ValueError, RecursionError):
            return 0.0

    def _of(self, question: Question) -> Mapping[str, Any]:
        cell: Any = question.meta.get(self._column or "")
        try:
            tree = json.loads(cell) if isinstance(cell, str) else cell
        except ValueError as error:
            raise TypeError(f"column {self._column!r} of question {question.id!r} is no JSON: {error}") from None
        if not isinstance(tree, Mapping):
            raise TypeError(f"column {self._column!r} of question {question.id!r} holds no schema: {str(cell)[:60]!r}")
        return tree

    def _validator(self, schema: Mapping[str, Any]) -> Any:
        """Raises ValueError for what is no schema."""
        from referencing import Registry

        if not isinstance(schema, Mapping):
            raise ValueError(f"{str(schema)[:60]!r} is no schema")
        plain = json.loads(json.dumps(schema))  # as JSON has it: keys that YAML reads as numbers are text
        kind = self._library.validators.validator_for(plain, default=self._library.Draft202012Validator)
        try:
            kind.check_schema(plain)
        except self._library.SchemaError as error:
            place = ".".join(map(str, error.absolute_path))
            raise ValueError(f"{place or 'it'} is no JSON Schema: {error.message[:200]}") from None
        return kind(plain, registry=Registry())


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice")
    return found


def _none(name: str) -> Any:
    raise ValueError(name)
