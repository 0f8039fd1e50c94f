"""Python source that runs within the sandbox: a program's functions called, or a test's own code run without them.

Two kinds, never in one process. A *calls* run has the program and the arguments, and no expected value. A *tests* run
has the code of the tests and what the functions returned, and nothing of the program.
"""

import ast
import builtins
import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence

from groupwise.rewards.programs import encoding

_START = '''
import os as _os, sys as _sys, signal as _signal
from decimal import Decimal as _decimal
from fractions import Fraction as _fraction
from collections import deque as _deque

_out = _os.dup(1)
_os.dup2(2, 1)  # what is printed is none of our lines
_classes = ()


class _Nothing:
    """Stands for a value that has no plain form."""


def _other(kind):
    return _Nothing()


def _say(line):
    data = (line + "\\n").encode()
    while data:
        data = data[_os.write(_out, data):]


def _instance(kind, holds):
    made = object.__new__({one.__name__: one for one in _classes}[kind])
    made.__dict__.update(holds)
    return made


def _classes_of(namespace, before):
    return tuple(one for name, one in namespace.items() if isinstance(one, type) and name not in before)
'''

_CALLS = """
# of the processor's time; by the clock, for what sleeps
_TIMERS = (_signal.ITIMER_PROF, _signal.SIGPROF, 1), (_signal.ITIMER_REAL, _signal.SIGALRM, 3)


def _called(function, seconds, place, words):
    def late(number, frame):
        _say('{"call": %d, "raised": "TimeoutError", "text": "no answer within %g s"}' % (place, seconds))
        _os._exit(0)
    for timer, number, limit in _TIMERS:
        _signal.signal(number, late)
        _signal.setitimer(timer, limit * seconds)
    try:
        positional, named = words()
        line = '"value": ' + encoded(function(*positional, **named), _classes)
    except BaseException as error:
        kind = next((k.__name__ for k in type(error).__mro__ if k.__module__ == "builtins"), "Exception")
        line = '"raised": %s, "text": %s' % (encoded(kind), encoded(str(error)[:300]))
    finally:
        for timer, _, _ in _TIMERS:
            _signal.setitimer(timer, 0)
    _say('{"call": %d, %s}' % (place, line))


def _function(namespace, name):
    if name in namespace:
        return namespace[name]
    if "Solution" in namespace:
        return getattr(namespace["Solution"](), name)
    raise NameError("the program defines no function " + repr(name))


def _main(before, program, calls, seconds):
    global _classes
    namespace = {"__name__": "program", "__builtins__": __builtins__}
    _sys.modules["program"] = type(_sys)("program")
    for text in before:
        exec(compile(text, "<given>", "exec"), namespace)
    known = set(namespace)
    _classes = _classes_of(namespace, ())
    exec(compile(program, "<program>", "exec"), namespace)
    _classes = _classes + _classes_of(namespace, known) + tuple(
        namespace[name] for name in known if isinstance(namespace.get(name), type))
    _say('{"begun": true}')
    for place, (name, words) in enumerate(calls):
        _called(_function(namespace, name), seconds, place, words)
    _say('{"ended": true}')
    _os._exit(0)
"""

_TESTS = '''
import random as _random


class _Unknown(BaseException):
    """A call whose value is not known yet."""


_passed, _failed, _asked = [], [], {}
_looking = False


def _same(right, given):
    if type(right) is bool or type(given) is bool:
        if isinstance(right, (int, float)) and isinstance(given, (int, float)):
            return not _STRICT and right == given or type(right) is type(given) and right == given
    kinds = (list, tuple)
    if type(right) in kinds and type(right) is type(given) and _STRICT:
        return len(right) == len(given) and all(map(_same, right, given))
    if type(right) is dict and type(given) is dict and _STRICT:
        return right.keys() == given.keys() and all(_same(right[key], given[key]) for key in right)
    return right == given


def _check(holds, what):
    (_passed if holds else _failed).append(what)


def _raised(error, what):
    _failed.append(what + ": " + type(error).__name__ + ": " + str(error)[:200])


def _stub(name):
    def function(*positional, **named):
        key = encoded([name, list(positional), named], _classes)
        if key not in _KNOWN:
            _asked[key] = True
            raise _Unknown
        raised, value = _KNOWN[key]()
        if raised:
            kind = getattr(__builtins__, raised, Exception)
            raise (kind if isinstance(kind, type) and issubclass(kind, Exception) else Exception)(value)
        return value
    function.__name__ = name
    return function


def _pass(source, looking):
    global _classes, _looking
    _random.seed(0)
    _looking = looking
    namespace = {"__name__": "tests", "__builtins__": __builtins__}
    for text in _BEFORE:
        exec(compile(text, "<given>", "exec"), namespace)
    _classes = _classes_of(namespace, ())
    namespace.update({name: _stub(name) for name in _STUBS})
    namespace.update(_same=_same, _check=_check, _raised=_raised, _Unknown=_Unknown)
    for text in source:
        try:
            exec(compile(text, "<tests>", "exec"), namespace)
        except Exception as error:
            _raised(error, "the tests")
    if _ENTRY and callable(namespace.get("check")):
        try:
            namespace["check"](namespace[_ENTRY])
        except Exception as error:
            _raised(error, "check")


def _main():
    try:
        _pass(_JUDGING, False)
    except _Unknown:
        pass
    if _asked:
        try:
            _pass(_LOOKING, True)
        except BaseException:
            pass
        _say('{"asked": [' + ", ".join(_asked) + "]}")
    else:
        _say('{"passed": %d, "failed": %d, "first": %s}' % (len(_passed), len(_failed), encoded((_failed or [""])[0])))
    _os._exit(0)


_main()
'''


def calls_source(before: Sequence[str], program: str, calls: Iterable[tuple[str, str]], *, seconds: float) -> str:
    """A calls run. before: code that is run before the program, in its module. calls: name of a function, and its
    arguments as the source of (positional, named). seconds: of the processor, for each call."""
    words = ", ".join(f"({name!r}, lambda: {given})" for name, given in calls)
    return "\n".join(
        [_encoding(), _START, _CALLS, f"_main({list(before)!r}, {program!r}, [{words}], {seconds!r})"],
    )


def tests_source(
    before: Sequence[str],
    tests: Sequence[str],
    stubs: Sequence[str],
    known: Mapping[str, tuple[str, str]],
    *,
    entry: str | None,
    strict: bool,
) -> str:
    """A tests run. stubs: names of the program's functions, of which `known` has the answers: by call, what was raised
    ("" nothing) and the source of the value. entry: the function that `check` is called with; None: none is called."""
    table = "{" + ", ".join(f"{key!r}: lambda: ({raised!r}, {value})" for key, (raised, value) in known.items()) + "}"
    settings = (
        f"_KNOWN = {table}\n_STUBS = {list(stubs)!r}\n_BEFORE = {list(before)!r}\n_ENTRY = {entry!r}\n"
        f"_STRICT = {strict!r}\n_JUDGING = {[judging(test) for test in tests]!r}\n"
        f"_LOOKING = {[looking(test) for test in tests]!r}\n"
    )
    return "\n".join([_encoding(), _START, settings, _TESTS])


def _encoding() -> str:
    return inspect.getsource(encoding)


def judging(test: str) -> str:
    """The test's code with its asserts counted rather than raised, and == told about types."""
    return ast.unparse(ast.fix_missing_locations(_Judging().visit(ast.parse(test))))


def looking(test: str) -> str:
    """The test's code with every statement on its own, so that one that waits for an answer does not hide the next."""
    return ast.unparse(ast.fix_missing_locations(_Looking().visit(ast.parse(test))))


def asserts_in(test: str) -> int:
    """How many asserts its code has. Raises SyntaxError if it is no Python."""
    return sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(test)))


def called_in(tests: Iterable[str], before: Iterable[str]) -> list[str]:
    """Names that the tests call and nothing in sight defines: the functions of the program."""
    known = set(dir(builtins))
    called: dict[str, None] = {}
    for text in before:
        known |= _defined(ast.parse(text))
    trees = [ast.parse(test) for test in tests]
    for tree in trees:
        known |= _defined(tree)
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in known:
                called[node.func.id] = None
    return list(called) or list(dict.fromkeys(_outermost(trees)))


def _outermost(trees: Iterable[ast.AST]) -> Iterator[str]:
    """Of `assert sum(..) == ..`, where a program's function has the name of one of Python's own: that."""
    for node in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Assert)):
        match node.test:
            case ast.Compare(left=ast.Call(func=ast.Name(id=name))) | ast.Call(func=ast.Name(id=name)):
                yield name


def _defined(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found |= {(alias.asname or alias.name).partition(".")[0] for alias in names}
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.add(name)
    return found


class _Judging(ast.NodeTransformer):
    """Asserts count and go on. One within a `try` raises, since the test may wait for that."""

    def visit_Try(self, node: ast.Try) -> ast.AST:
        return _Compared().visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        return _compared(self.generic_visit(node))

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        said = ast.unparse(node.test)[:120]
        test = self.visit(node.test)
        check = ast.Expr(_call("_check", test, ast.Constant(said)))
        raised = ast.Expr(_call("_raised", ast.Name("_error", ast.Load()), ast.Constant(said)))
        handler = ast.ExceptHandler(ast.Name("Exception", ast.Load()), "_error", [raised])
        return ast.Try([check], [handler], [], [])


class _Compared(ast.NodeTransformer):
    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        return _compared(self.generic_visit(node))

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        said = ast.Constant(ast.unparse(node.test)[:120])
        visited = self.generic_visit(node)
        return [visited, ast.Expr(_call("_check", ast.Constant(True), said))]  # type: ignore[list-item]


class _Looking(ast.NodeTransformer):
    """Each statement that may call is tried by itself."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                setattr(node, field, [_tried(one) for statement in block for one in (*_calls_in(statement), statement)])
        return node


def _calls_in(statement: ast.stmt) -> list[ast.stmt]:
    """The calls of an assert, each by itself: none hides another."""
    if not isinstance(statement, ast.Assert):
        return []
    return [ast.Expr(copy.deepcopy(node)) for node in ast.walk(statement.test) if isinstance(node, ast.Call)]


_ALONE = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Pass, ast.Break, ast.Continue, ast.Global)


def _tried(statement: ast.stmt) -> ast.stmt:
    if isinstance(statement, (*_ALONE, ast.AsyncFunctionDef, ast.Nonlocal)):
        return statement
    either: ast.expr = ast.Tuple([ast.Name("Exception", ast.Load()), ast.Name("_Unknown", ast.Load())], ast.Load())
    return ast.Try([statement], [ast.ExceptHandler(either, None, [ast.Pass()])], [], [])


def _compared(node: ast.AST) -> ast.AST:
    match node:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            return _call("_same", left, right)
        case ast.Compare(left=left, ops=[ast.NotEq()], comparators=[right]):
            return ast.UnaryOp(ast.Not(), _call("_same", left, right))
    return node


def _call(name: str, *words: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(words), [])
