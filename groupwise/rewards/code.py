"""The reward for code: the program in an answer is run in a sandbox and judged by the question's tests."""

import re
from typing import Any, Literal

from groupwise.data import Question
from groupwise.errors import ConfigError
from groupwise.registry import nearest
from groupwise.rewards.opening import opening_of
from groupwise.rewards.programs.extracted import program_in
from groupwise.rewards.programs.judge import Judge, Rules
from groupwise.rewards.programs.rows import Test, read_tests
from groupwise.sandbox.base import Sandbox
from groupwise.sandbox.designs import open_sandbox

_BEGUN = re.compile(r"[<\[◁\\`]")
"""In what the prompt ended with: a tag, a box or a block of code is open."""


class Code:
    """1 if the program in an answer passes every test of its question, else 0; the share of them with pay: share.

    An answer without a program gets 0, as does one whose program fails, is late or takes too much; `reason` says which.
    A sandbox that fails makes the reward fail. docs/code.md has the forms of tests and what is promised.

    design: auto, bubblewrap or landlock; a sandbox that does not hold is refused. url: of a remote one, instead.
    tests: column with the tests; None: wherever a usual data set has them. timeout: seconds of the processor for a run
    or a call. total: by the clock for all runs of an answer; less than the reward's timeout_seconds. memory: MiB.
    fenced: the program is the last block of Python; else the whole answer. strict: in asserts, a bool is no number.
    tolerance: for decimals.
    Raises ConfigError for a value that is none of these, or if no sandbox works here."""

    def __init__(
        self,
        *,
        design: str = "auto",
        url: str | None = None,
        tests: str | None = None,
        timeout: float = 6.0,
        total: float = 20.0,
        memory: int = 1024,
        pay: Literal["all", "share"] = "all",
        fenced: bool = True,
        strict: bool = True,
        tolerance: float = 1e-6,
        language: str = "python",
        sandbox: Sandbox | None = None,
    ) -> None:
        _choose("pay", pay, ("all", "share"))
        _choose("language", language, ("python",))
        for name, value, low, high in (
            ("timeout", timeout, 0.01, 3600),
            ("total", total, 0.01, 86_400),
            ("memory", memory, 64, 1 << 20),
            ("tolerance", tolerance, 0.0, 1.0),
        ):
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ConfigError(f"params.{name} = {value!r}: not within {low:g} and {high:g}")
        if url is not None and design != "auto":
            raise ConfigError(f"params.design = {design!r} and params.url are both set", hint="set one of them")
        self._column, self._fenced, self._share = tests, fenced, pay == "share"
        rules = Rules(timeout, total, int(memory), self._share, strict, tolerance)
        self._judge = Judge(sandbox or open_sandbox(design, url=url, slots=1, memory_mb=int(memory)), rules)
        self._read: tuple[Any, tuple[Test, ...]] | None = None

    def __call__(self, text: str, question: Question) -> dict[str, Any]:
        tests = self._tests(question)
        opening = opening_of(question)
        answer = opening + text if _BEGUN.search(opening) else text
        program = program_in(answer) if self._fenced else answer
        if program is None or not program.strip():
            return {"score": 0.0, "tests": 0.0, "reason": "no program in the answer"}
        judged = self._judge.judged(program, tests)
        share = judged.passed / judged.total if judged.total else 0.0
        score = share if self._share else float(judged.right)
        return {"score": score, "tests": share} | ({"reason": judged.reason} if judged.reason else {})

    def _tests(self, question: Question) -> tuple[Test, ...]:
        """Of a group's question once."""
        if self._read is None or self._read[0] is not question:
            self._read = (question, read_tests(question, self._column))
        return self._read[1]


def _choose(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"params.{name} = {value!r}: no such choice", hint=nearest(str(value), known))
