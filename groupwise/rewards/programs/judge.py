"""A program judged by tests, from outside: it is given code and inputs alone, and what comes back is compared here.

Asserts are judged by two programs that never meet. The tests' code runs without the model's; where it calls a function,
it learns what that returned in another sandbox, as plain values. So nothing that the model writes runs where a verdict
is made, whatever form the tests have.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from groupwise.rewards.programs.encoding import MOST
from groupwise.rewards.programs.harness import calls_source, tests_source
from groupwise.rewards.programs.output import printed_right
from groupwise.rewards.programs.rows import Asserted, Printed, Returned, Test
from groupwise.rewards.programs.values import literal, loaded, same, shown, value_of
from groupwise.sandbox.base import MIB, Limits, Outcome, Sandbox

ROUNDS = 20
"""How often the tests' code is run for one program: more than twice only where an argument is another call's value."""
_REMEMBERED = 4096
_MOST_OUTPUT = 16
"""MiB of what the calls of one run return, each a MiB at most on average."""
_MODULES = ("bisect", "collections", "copy", "datetime", "functools", "heapq", "itertools", "json", "math", "operator")
_NAMES = {
    "typing": "Any Callable Deque Dict FrozenSet Iterable Iterator List NamedTuple Optional Sequence Set Tuple Union",
    "collections": "ChainMap Counter OrderedDict defaultdict deque namedtuple",
    "heapq": "heapify heappop heappush heappushpop heapreplace nlargest nsmallest",
    "bisect": "bisect bisect_left bisect_right insort insort_left insort_right",
    "functools": "cache cmp_to_key lru_cache partial reduce",
    "itertools": "accumulate chain combinations combinations_with_replacement count cycle groupby islice pairwise "
    "permutations product repeat takewhile zip_longest",
    "math": "ceil comb factorial floor gcd hypot inf isqrt lcm log log2 perm pi prod sqrt",
    "string": "ascii_letters ascii_lowercase ascii_uppercase digits",
    "copy": "deepcopy",
    "fractions": "Fraction",
    "decimal": "Decimal",
}
_IMPORTED = {name: f"from {module} import {name}" for module, names in _NAMES.items() for name in names.split()}
_IMPORTED |= {name: f"import {name}" for name in (*_MODULES, "random", "re", "statistics", "string", "sys")}
_IMPORTED["bisect"] = "import bisect"


@dataclass(frozen=True)
class Rules:
    """timeout: seconds of the processor for one run, or for one call. total: seconds by the clock for all runs of a
    program. memory_mb: MiB of a run.

    share: all tests are run, for a share of them. strict: in asserts, a bool is no number. tolerance: for decimals."""

    timeout: float = 6.0
    total: float = 20.0
    memory_mb: int = 1024
    share: bool = False
    strict: bool = True
    tolerance: float = 1e-6


@dataclass(frozen=True)
class Judgement:
    """How many tests a program passed, of how many, and why not more."""

    passed: int
    total: int
    reason: str = ""

    @property
    def right(self) -> bool:
        return 0 < self.total == self.passed


class Judge:
    """Judges programs in one sandbox. Remembers which calls each question's asserts make."""

    def __init__(self, sandbox: Sandbox, rules: Rules) -> None:
        self._sandbox, self._rules = sandbox, rules
        self._asked: OrderedDict[Asserted, dict[str, None]] = OrderedDict()

    def judged(self, program: str, tests: Sequence[Test]) -> Judgement:
        """The judgement of a program. Without `share` the first test that fails is the last one that is run.

        Raises SandboxError if the sandbox failed, ValueError if the tests themselves cannot be run."""
        clock = _Clock(self._rules)
        whole = imports_for(program) + program
        total = _Tally()
        returned = [test for test in tests if isinstance(test, Returned)]
        for test in tests:
            if isinstance(test, Printed):
                total.add(self._printed(whole, test, clock))
            elif isinstance(test, Asserted):
                total.add(self._asserted(program, test, clock))
            if total.reason and not self._rules.share:
                break
        if returned and (self._rules.share or not total.reason):
            total.add(self._returned(whole, returned, clock))
        return Judgement(total.passed, total.total, total.reason)

    def _printed(self, program: str, test: Printed, clock: "_Clock") -> Judgement:
        limits = clock.limits(1)
        if limits is None:
            return Judgement(0, 1, clock.spent)
        outcome = clock.ran(self._sandbox.run(program, test.given.encode("utf-8", "surrogatepass"), limits))
        if outcome.fault:
            return Judgement(0, 1, outcome.fault)
        given = outcome.stdout.decode("utf-8", "replace")
        if printed_right(test.expected, given, tolerance=self._rules.tolerance):
            return Judgement(1, 1)
        return Judgement(0, 1, f"printed {_start(given)} on input {_start(test.given)}")

    def _returned(self, program: str, tests: Sequence[Returned], clock: "_Clock") -> Judgement:
        calls = [(test.function, f"({literal(tuple(json.loads(test.arguments)))}, {{}})") for test in tests]
        answers = self._called(program, (), calls, clock)
        passed, reason = 0, answers.fault
        for place, test in enumerate(tests):
            raised, value = answers.given.get(place, ("", _MISSING))
            accepted = json.loads(test.accepted)
            if raised:
                reason = reason or f"{test.function}{_start(test.arguments)} raised {raised}: {_start(str(value))}"
            elif value is _MISSING:
                reason = reason or f"{test.function}{_start(test.arguments)} returned nothing that can be read"
            elif any(same(one, value, tolerance=self._rules.tolerance) for one in accepted):
                passed += 1
            else:
                reason = reason or f"{test.function}{_start(test.arguments)} returned {_start(shown(value))}"
        return Judgement(passed, len(tests), reason if passed < len(tests) else "")

    def _asserted(self, program: str, test: Asserted, clock: "_Clock") -> Judgement:
        """The tests' code is run until it has every answer that it asks for; what it asks is remembered."""
        program = _continued(program, test)
        program = imports_for(program) + program
        asked = self._remembered(test)
        known: dict[str, tuple[str, str]] = {}
        waiting = list(asked)
        for _ in range(ROUNDS):
            if waiting:
                answers = self._called(program, test.before, [_call_of(key) for key in waiting], clock)
                if answers.fault and not self._rules.share:
                    return Judgement(0, 1, answers.fault)
                for place, key in enumerate(waiting):
                    raised, value = answers.given.get(place, ("Exception", answers.fault or "no answer"))
                    unread = value is _MISSING
                    known[key] = ("Exception", repr("no value")) if unread else (raised, literal(value))
            limits = clock.limits(1)
            if limits is None:
                return Judgement(0, 1, clock.spent)
            source = tests_source(
                test.before, test.tests, test.functions, known, entry=test.entry, strict=self._rules.strict
            )
            outcome = clock.ran(self._sandbox.run(source, b"", limits))
            told = _told(outcome)
            if told is None and not known:
                raise ValueError(
                    f"the tests cannot be run: {outcome.fault or _start(outcome.stdout.decode(errors='replace'))}"
                )
            if told is None:
                return Judgement(0, 1, f"the tests did not end on what it returned: {outcome.fault}")
            if "asked" not in told:
                passed, failed = told["passed"], told["failed"]
                if not passed + failed:
                    raise ValueError("the tests assert nothing when they are run")
                return Judgement(passed, passed + failed, f"failed: {told['first']}" if failed else "")
            waiting = [json.dumps(key) if not isinstance(key, str) else key for key in told["asked"]]
            waiting = [key for key in waiting if key not in known]
            if not known:  # what depends on a program's values is its own: others are not called with it
                asked.update(dict.fromkeys(waiting))
        return Judgement(0, 1, f"the tests still asked for more after {ROUNDS} runs")

    def _remembered(self, test: Asserted) -> dict[str, None]:
        asked = self._asked.setdefault(test, {})
        self._asked.move_to_end(test)
        while len(self._asked) > _REMEMBERED:
            self._asked.popitem(last=False)
        return asked

    def _called(
        self, program: str, before: Sequence[str], calls: Sequence[tuple[str, str]], clock: "_Clock"
    ) -> "_Answers":
        limits = clock.limits(len(calls))
        if limits is None:
            return _Answers({}, clock.spent)
        source = calls_source(before, program, calls, seconds=self._rules.timeout)
        return _answers(clock.ran(self._sandbox.run(source, b"", limits)), len(calls))


@dataclass
class _Tally:
    passed: int = 0
    total: int = 0
    reason: str = ""

    def add(self, judgement: Judgement) -> None:
        self.passed += judgement.passed
        self.total += judgement.total
        self.reason = self.reason or judgement.reason


class _Clock:
    """What is left of a program's total time."""

    def __init__(self, rules: Rules) -> None:
        self._rules, self._left = rules, rules.total

    @property
    def spent(self) -> str:
        return f"all runs together took more than {self._rules.total:g} s"

    def limits(self, calls: int) -> Limits | None:
        """Of the next run, which makes so many calls; None if no time is left."""
        if self._left <= 0:
            return None
        seconds = self._rules.timeout * max(1, calls) + (calls > 1)
        limits = Limits(seconds, self._rules.memory_mb, MIB * min(_MOST_OUTPUT, max(1, calls)))
        return replace(limits, wall_seconds=min(self._left, limits.wall))

    def ran(self, outcome: Outcome) -> Outcome:
        self._left -= outcome.seconds
        return outcome


_MISSING = object()


@dataclass(frozen=True)
class _Answers:
    """given: by the call's place, what was raised ("" nothing) and the value. fault: why some are missing."""

    given: Mapping[int, tuple[str, Any]]
    fault: str = ""


def _answers(outcome: Outcome, count: int) -> _Answers:
    """What a calls run said; nothing at all if a line is not the harness's, or stands twice: then it was not alone in
    writing them."""
    given: dict[int, tuple[str, Any]] = {}
    begun = ended = False
    lines = outcome.stdout.decode("utf-8", "replace").split("\n")

    def new(place: int) -> bool:
        return type(place) is int and 0 <= place < count and place not in given

    for line in filter(None, lines):
        try:
            found: Any = loaded(line) if _may_be_ours(line) else None
        except (ValueError, RecursionError):
            if line is lines[-1]:
                break  # cut where the program was ended
            return _Answers({}, "its answers are not JSON")
        match found:
            case {"begun": True} if not begun:
                begun = True
            case {"ended": True} if not ended:
                ended = True
            case {"call": int(place), "raised": str(kind), "text": str(said)} if len(found) == 3 and new(place):
                given[place] = (kind or "Exception", said)
            case {"call": int(place), "value": form} if len(found) == 2 and new(place):
                try:
                    given[place] = ("", value_of(form))
                except (ValueError, RecursionError):
                    given[place] = ("", _MISSING)
            case _:
                return _Answers({}, "its answers have lines that stand twice or belong to no call")
    late = next((str(value) for kind, value in given.values() if kind == "TimeoutError"), "")
    if ended and len(given) == count:
        return _Answers(given)
    why = late or outcome.fault or ("it ended itself while it was called" if begun else "it ended itself")
    return _Answers(given, why)


def _may_be_ours(line: str) -> bool:
    """Whether a line holds no more values than a harness writes; what does might fill this process's memory."""
    return sum(map(line.count, ",[{")) <= 8 * MOST


def _told(outcome: Outcome) -> dict[str, Any] | None:
    """The last line of a tests run; None if it did not come so far."""
    lines = outcome.stdout.decode("utf-8", "replace").split("\n")
    try:
        found = loaded(next(line for line in reversed(lines) if line.strip()))
    except (ValueError, RecursionError, StopIteration):
        return None
    return found if isinstance(found, dict) else None


def _call_of(key: str) -> tuple[str, str]:
    name, positional, named = value_of(loaded(key))
    return name, f"({literal(tuple(positional))}, {literal(named)})"


def _continued(program: str, test: Asserted) -> str:
    """A program that goes on where HumanEval's prompt ends, in the function's body, with that prompt; any other as it
    is. Told by its first line alone: what a model wrote is parsed in the sandbox and nowhere else."""
    first = next((line for line in program.split("\n") if line.strip()), "")
    goes_on = test.entry is not None and bool(test.before) and first[:1] in (" ", "\t")
    return test.before[0] + program if goes_on else program


def imports_for(program: str) -> str:
    """Imports of the usual names that the program mentions, on one line before it, as LiveCodeBench gives all programs.

    What the program itself defines or imports comes later and wins."""
    if re.search(r"^from[ \t]+__future__", program, re.MULTILINE):
        return ""
    named = {name: None for name in re.findall(r"[A-Za-z_]\w*", program) if name in _IMPORTED}
    return "; ".join(_IMPORTED[name] for name in named) + "\n" if named else ""


def _start(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
