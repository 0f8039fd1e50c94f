"""The tests of a question, as rows of the usual data sets have them: read, and refused where they cannot be.

HumanEval (`test`, `entry_point`), MBPP (`test_list`, `test_setup_code`), APPS and TACO (`input_output`), LiveCodeBench
(`public_test_cases`, `private_test_cases`), and the same forms as the answer or verl's `ground_truth`.
"""

import base64
import io
import json
import pickle
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from groupwise.data import Question
from groupwise.rewards.programs.harness import asserts_in, called_in
from groupwise.rewards.programs.values import loaded

_INFLATED = 512 << 20
"""Bytes that compressed tests may come to."""


@dataclass(frozen=True)
class Printed:
    """A program reads `given` from standard input and is to print `expected`."""

    given: str
    expected: str


@dataclass(frozen=True)
class Returned:
    """A function, or a method of the class Solution, is called and is to return one of `accepted`, values of JSON.

    arguments, accepted: as JSON, a list each."""

    function: str
    arguments: str
    accepted: str


@dataclass(frozen=True)
class Asserted:
    """Code with asserts that calls the program's functions. before: what is defined for both. entry: the function that
    `check` is called with."""

    tests: tuple[str, ...]
    functions: tuple[str, ...]
    before: tuple[str, ...] = ()
    entry: str | None = None


Test = Printed | Returned | Asserted


def read_tests(question: Question, column: str | None = None) -> tuple[Test, ...]:
    """The tests of a question. column: where they are; None: wherever a usual data set has them.

    Raises ValueError, saying what is wrong, if there are none or they cannot be read."""
    meta = question.meta
    if column is not None:
        if column not in meta:
            there = ", ".join(name for name in meta if not name.startswith("_"))
            raise ValueError(f"it has no column {column!r}; columns: {there or 'none'}")
        return _some(_cell(meta[column], meta, column), column)
    if meta.get("test") and meta.get("entry_point"):
        return (_human_eval(meta),)
    for name in ("test_list", "input_output"):
        if not _empty(meta.get(name)):
            return _some(_cell(meta[name], meta, name), name)
    live = [name for name in ("public_test_cases", "private_test_cases") if not _empty(meta.get(name))]
    if live:
        return _some([test for name in live for test in _cell(meta[name], meta, name)], " and ".join(live))
    judged = meta.get("reward_model")
    truth = judged.get("ground_truth") if isinstance(judged, Mapping) else None
    answers = (("ground_truth", truth), ("ground_truth", meta.get("ground_truth")), ("answer", question.answer))
    for name, value in answers:
        if not _empty(value):
            return _some(_cell(value, meta, name), name)
    known = "test and entry_point, test_list, input_output, public_test_cases, ground_truth"
    raise ValueError(f"it has no tests: none of the columns {known}; name another in params.tests")


def _some(tests: Sequence[Test], column: str) -> tuple[Test, ...]:
    if not tests:
        raise ValueError(f"column {column!r} holds no test")
    return tuple(tests)


def _empty(value: Any) -> bool:
    value = value.tolist() if hasattr(value, "tolist") else value
    return value is None or value != value or (isinstance(value, str | list | dict) and not value)


def _human_eval(meta: Mapping[str, Any]) -> Asserted:
    entry, prompt = str(meta["entry_point"]), str(meta.get("prompt") or "")
    before = (prompt,) if prompt and _parses(prompt) else ()
    _check_code(str(meta["test"]), "test")
    return Asserted((str(meta["test"]),), (entry,), before, entry)


def _cell(value: Any, meta: Mapping[str, Any], column: str) -> list[Test]:
    """A cell in any of the forms, which its shape tells."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, str):
        value = _parsed(value, column)
    if isinstance(value, str):
        return [_asserted([value], meta, column)]
    if isinstance(value, Mapping) and "inputs" in value and "outputs" in value:
        return _pairs(value, meta, column)
    if isinstance(value, Mapping) and "input" in value and "output" in value:
        return _pairs({**value, "inputs": value["input"], "outputs": value["output"]}, meta, column)
    if isinstance(value, Sequence) and value and all(isinstance(one, str) for one in value):
        return [_asserted(list(value), meta, column)]
    if isinstance(value, Sequence) and value and all(isinstance(one, Mapping) for one in value):
        return [_live(one, meta, f"{column}[{place}]") for place, one in enumerate(value)]
    raise ValueError(f"column {column!r} = {repr(value)[:60]}: none of the forms of tests that are known")


def _parsed(text: str, column: str) -> Any:
    """JSON; Python code as it is; LiveCodeBench's packed JSON."""
    try:
        return loaded(text)
    except (ValueError, RecursionError) as error:
        if "assert" in text:
            return text
        try:
            packed = base64.b64decode(text, validate=True)
        except ValueError:
            raise ValueError(f"column {column!r} = {text[:60]!r}: neither JSON nor asserts: {error}") from None
    return _unpacked(packed, column)


class _NoObjects(pickle.Unpickler):
    """Reads text, numbers and containers. A pickle that names anything at all is refused: naming is running."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}, and is not read")


def _unpacked(packed: bytes, column: str) -> Any:
    """Base64 of zlib of a pickled text of JSON, as LiveCodeBench stores private tests."""
    try:
        inflating = zlib.decompressobj()
        inflated = inflating.decompress(packed, _INFLATED)
        if inflating.unconsumed_tail:
            raise ValueError(f"more than {_INFLATED >> 20} MiB when unpacked")
        text = _NoObjects(io.BytesIO(inflated)).load()
        return loaded(text) if isinstance(text, str) else text
    except Exception as error:  # whatever a broken pickle raises
        raise ValueError(f"column {column!r} cannot be unpacked: {error}") from None


def _pairs(value: Mapping[str, Any], meta: Mapping[str, Any], column: str) -> list[Test]:
    inputs, outputs = value["inputs"], value["outputs"]
    if not (isinstance(inputs, list) and isinstance(outputs, list)) or len(inputs) != len(outputs):
        raise ValueError(f"column {column!r}: inputs and outputs are not two lists of one length")
    asserts = value.get("assert_case")
    if asserts and any(asserts):
        return [_asserted([str(one) for one in asserts], meta, column)]
    name = value.get("fn_name")
    if name is None:
        return [Printed(_joined(given), _joined(right)) for given, right in zip(inputs, outputs, strict=True)]
    return [_returned(str(name), given, right) for given, right in zip(inputs, outputs, strict=True)]


def _returned(name: str, given: Any, right: Any) -> Returned:
    """A call of APPS: a list of arguments, and the value or a list of it; or verl's lines of JSON."""
    if isinstance(given, str):
        return Returned(name, *_of_lines(given, right))
    accepted = [right, right[0]] if isinstance(right, list) and len(right) == 1 else [right]
    return Returned(name, json.dumps(given if isinstance(given, list) else [given]), json.dumps(accepted))


def _of_lines(given: str, right: Any) -> tuple[str, str]:
    """Arguments as LiveCodeBench writes them: each a line of JSON; the value too."""
    try:
        arguments = [loaded(line) for line in given.split("\n") if line.strip()]
        return json.dumps(arguments), json.dumps([loaded(right) if isinstance(right, str) else right])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"arguments {given[:60]!r} or value {str(right)[:60]!r} are not JSON: {error}") from None


def _live(case: Mapping[str, Any], meta: Mapping[str, Any], place: str) -> Test:
    if "input" not in case or "output" not in case:
        raise ValueError(f"{place} has no input and output")
    if case.get("testtype", "stdin") != "functional":
        return Printed(_joined(case["input"]), _joined(case["output"]))
    name = _function_name(case) or _function_name(meta)
    if not name:
        raise ValueError(f"{place} calls a function, and neither it nor `metadata` says which (func_name)")
    return Returned(name, *_of_lines(_joined(case["input"]), _joined(case["output"])))


def _function_name(row: Mapping[str, Any]) -> str | None:
    held = row.get("metadata")
    try:
        held = json.loads(held) if isinstance(held, str) else held
    except ValueError:
        return None
    found = held.get("func_name") if isinstance(held, Mapping) else None
    return str(found) if found else None


def _joined(value: Any) -> str:
    """Text; APPS has lists of lines too."""
    if isinstance(value, list):
        return "\n".join(map(_joined, value))
    return value if isinstance(value, str) else json.dumps(value)


def _asserted(tests: list[str], meta: Mapping[str, Any], column: str) -> Asserted:
    imports: Any = meta.get("test_imports")
    imports = imports.tolist() if hasattr(imports, "tolist") else imports
    setup = [str(meta.get("test_setup_code") or ""), *(map(str, imports) if isinstance(imports, list) else ())]
    before = tuple(text for text in setup if text.strip())
    for text in (*before, *tests):
        if not _parses(text):
            raise ValueError(f"column {column!r}: {text[:60]!r} is no Python")
    for text in tests:
        _check_code(text, column)
    missing = called_in(before, ())
    if missing:
        raise ValueError(f"column 'test_setup_code' calls {missing[0]!r}, which only a program could define")
    functions = called_in(tests, before)
    if not functions:
        raise ValueError(f"column {column!r}: its asserts call no function of a program: {tests[0][:60]!r}")
    return Asserted(tuple(tests), tuple(functions), before)


def _check_code(text: str, column: str) -> None:
    try:
        if not asserts_in(text):
            raise ValueError(f"column {column!r}: {text[:60]!r} asserts nothing")
    except SyntaxError as error:
        raise ValueError(f"column {column!r} is no Python: {error.msg} (line {error.lineno})") from None


def _parses(text: str) -> bool:
    try:
        asserts_in(text)
    except (SyntaxError, RecursionError, MemoryError):
        return False
    return True
