"""The environment `tools`: the policy calls tools until it answers; and the calculator."""

import ast
import atexit
import inspect
import json
import math
import operator
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from groupwise import registry
from groupwise.data import Message, Question, Role, ToolCall
from groupwise.envs.functions import Functions, Toolset, methods_of
from groupwise.errors import ConfigError
from groupwise.functions import find, last_line

Makes = Callable[[], tuple[Toolset, Any]]
"""Gives an episode its toolset, and the instance of a class that is this episode's alone; None: it has none."""
_made: dict[str, Makes] = {}
_making = threading.Lock()
EXAMPLES: Mapping[str, Role] = {"user": "user", "assistant": "assistant", "tool": "tool"}
"""Roles of the turns of examples."""


class Tools:
    """Each turn with calls is answered with what the tools say; a turn without any is the answer and ends the episode.

    tools: names of `groupwise list tools`, functions or classes of your own as path/to/file.py:name, or for a class
    with parameters {tool: .., params: {..}}. Each episode has its own instance of a class, which is closed when the
    episode ends; one with `shared = True`, or with `schemas` and `call`, is made once for a run. max_calls: in an
    episode; further ones are refused with a text that says so. max_characters: of one result, which is then cut.
    system: put before the conversation. examples: turns between it and the question, which show how tools are called.
    """

    def __init__(
        self,
        *,
        tools: Sequence[str | Mapping[str, Any]],
        max_calls: int | None = None,
        max_characters: int = 4000,
        system: str | None = None,
        examples: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self._examples = [_example(turn, f"environment_params.examples[{n}]") for n, turn in enumerate(examples)]
        if isinstance(tools, str) or not tools:
            raise ConfigError(f"environment_params.tools = {tools!r}: give a list", hint="[calculator], for one")
        makes = [_maker(tool, f"environment_params.tools[{place}]") for place, tool in enumerate(tools)]
        self._own: list[Any] = []
        try:
            self.tools = self._offered(makes)
        except BaseException:
            with suppress(Exception):  # the first error is the one to hear of
                self.close()
            raise
        self._max_calls, self._max_characters, self._system = max_calls, max_characters, system
        self._calls = self._errors = 0

    def _offered(self, makes: Sequence[Makes]) -> tuple[Mapping[str, Any], ...]:
        """The schemas of all tools, whose toolsets are kept by name."""
        self._by_name: dict[str, Toolset] = {}
        schemas = []
        for make in makes:
            toolset, instance = make()
            self._own += [] if instance is None else [instance]
            for schema in toolset.schemas():
                name = str(schema["function"]["name"])
                if name in self._by_name:
                    raise ConfigError(f"environment_params.tools: two are named {name!r}", hint="rename one")
                self._by_name[name] = toolset
                schemas.append(schema)
        return tuple(schemas)

    def reset(self, question: Question) -> Sequence[Message]:
        first, *rest = question.messages
        said = [text for text in (self._system, first.content if first.role == "system" else None) if text is not None]
        asked = rest if first.role == "system" else question.messages
        system = [Message("system", "\n\n".join(said))] if said else []
        return [*system, *self._examples, *asked]

    def reply(self, messages: Sequence[Message]) -> list[Message] | None:
        calls = messages[-1].calls
        return [Message("tool", self._answer(call)) for call in calls] if calls else None

    def outcome(self) -> dict[str, int]:
        return {"calls": self._calls, "failed_calls": self._errors}

    def close(self) -> None:
        """Closes the instances that are this episode's alone, each even if another cannot be."""
        with ExitStack() as stack:
            for instance in self._own:
                if callable(getattr(instance, "close", None)):
                    stack.callback(instance.close)
            self._own = []

    def _answer(self, call: ToolCall) -> str:
        if self._max_calls is not None and self._calls >= self._max_calls:
            self._errors += 1
            return f"error: no calls are left, the most is {self._max_calls}; answer now"
        self._calls += 1
        text = self._called(call)
        self._errors += text.startswith("error:")
        return text

    def _called(self, call: ToolCall) -> str:
        if call.error:
            return f"error: the call of {call.name or 'a tool'} cannot be read: {call.error}"
        toolset = self._by_name.get(call.name)
        if toolset is None:
            return f"error: there is no tool {call.name[:100]!r}; the tools are: {', '.join(self._by_name)}"
        text = toolset.call(call.name, call.arguments)
        if len(text) <= self._max_characters:
            return text
        return f"{text[: self._max_characters]}\n... cut here, {len(text):,} characters in all"


def _example(turn: Mapping[str, str], where: str) -> Message:
    """A turn of an example. Raises ConfigError if it is none."""
    if not isinstance(turn, Mapping) or set(turn) != {"role", "content"} or turn["role"] not in EXAMPLES:
        raise ConfigError(
            f"{where} = {turn!r}: no turn", hint="{role: user, content: ..}; roles: user, assistant, tool"
        )
    if not isinstance(turn["content"], str):
        raise ConfigError(f"{where}.content = {turn['content']!r}: no text", hint="quote it")
    return Message(EXAMPLES[turn["role"]], turn["content"])


def _maker(tool: str | Mapping[str, Any], where: str) -> Makes:
    """What an entry of `tools` names; found once in a process. Raises ConfigError."""
    if isinstance(tool, Mapping) and (set(tool) - {"tool", "params"} or "tool" not in tool):
        raise ConfigError(f"{where} = {dict(tool)!r}", hint="give a name, or {tool: name, params: {...}}")
    name, params = (tool, {}) if isinstance(tool, str) else (str(tool["tool"]), dict(tool.get("params") or {}))
    key = json.dumps([name, params], sort_keys=True, default=repr)
    with _making:
        if key not in _made:
            _made[key] = _new_maker(name, params, f"{where} = {name!r}")
        return _made[key]


def _new_maker(name: str, params: Mapping[str, Any], where: str) -> Makes:
    kind: Any = find(registry.TOOLS, name, where, ConfigError)
    toolset = all(callable(getattr(kind, method, None)) for method in ("schemas", "call"))

    def made() -> tuple[Toolset, Any]:
        instance: Any = None
        try:
            if not inspect.isclass(kind):
                if params:
                    raise TypeError("a function takes no params; write a class, whose methods are the tools")
                return Functions([kind]), None
            instance = kind(**params)
            return (
                instance
                if toolset
                else Functions([getattr(instance, method) for method in methods_of(kind, ("close",))])
            ), instance
        except Exception as error:  # whatever the user's code, a package or a server raises
            if callable(getattr(instance, "close", None)):
                with suppress(Exception):
                    instance.close()
            raise ConfigError(f"{where}: {last_line(error, [])}", hint="docs/tools.md shows tools") from None

    if inspect.isclass(kind) and not toolset and not getattr(kind, "shared", False):
        return made
    shared, instance = made()
    if callable(getattr(instance, "close", None)):
        atexit.register(instance.close)
    return lambda: (shared, None)


def calculator(expression: str) -> str:
    """Works out an arithmetic expression.

    Args:
        expression: Numbers with + - * / // % **, brackets, and sqrt, abs, round, min, max, log, exp, sin, cos, tan, pi.
    """
    if len(expression) > 200:
        raise ValueError("an expression has at most 200 characters")
    text = expression.replace("^", "**").replace("×", "*").replace("÷", "/").replace("−", "-").strip()
    try:
        value = _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{expression!r} is no arithmetic expression") from None
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("the result is not finite")
        return f"{value:.12g}"
    return str(value)


_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "round": round,
    "min": min,
    "max": max,
    **{name: getattr(math, name) for name in ("sqrt", "log", "exp", "sin", "cos", "tan", "floor", "ceil")},
}
_BITS = 4096  # of a whole number; a larger one takes long to multiply and to write


def _value(node: ast.AST) -> int | float:
    found: int | float
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        found = node.value
    elif isinstance(node, ast.Name) and node.id in ("pi", "e"):
        found = getattr(math, node.id)
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        found = _OPERATORS[type(node.op)](_value(node.operand))
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        found = _power(_value(node.left), _value(node.right))
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        found = _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        if node.keywords:
            raise ValueError(f"{node.func.id} takes numbers alone")
        found = _FUNCTIONS[node.func.id](*map(_value, node.args))
    else:
        raise ValueError(f"{ast.unparse(node)[:40]!r} is no number, operator or known function")
    if isinstance(found, complex):
        raise ValueError("the result is no real number")
    if isinstance(found, int) and found.bit_length() > _BITS:
        raise ValueError("the number is too large")
    return found


def _power(base: int | float, exponent: int | float) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _BITS:
        raise ValueError("the number is too large")
    return base**exponent
