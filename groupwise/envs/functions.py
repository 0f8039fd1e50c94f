"""Python functions as tools: their schemas, from type hints and docstrings, and calls with what a policy wrote.

A function is written as TRL and transformers take them: every parameter has a type, and the docstring says what the
function and each parameter is for (Google's, NumPy's or Sphinx' style).
"""

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from docstring_parser import parse
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs

from groupwise.functions import last_line
from groupwise.registry import nearest


class Toolset(Protocol):
    """Tools under their names: what several of them have in common, such as a server. Made once for a run."""

    def schemas(self) -> Sequence[Mapping[str, Any]]:
        """JSON schemas in OpenAI's form, {"type": "function", "function": {"name", "description", "parameters"}}."""

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """What the tool answers, a failure of it included; raises only if nothing can be asked any more."""


class Functions:
    """Python functions as a Toolset. Raises TypeError for one that does not describe itself."""

    def __init__(self, functions: Sequence[Callable[..., Any]]) -> None:
        self._functions = {function.__name__: function for function in functions}
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        self._schemas = []
        for name, function in self._functions.items():
            adapter = self._adapters[name] = _adapter(function)
            self._schemas.append(_schema(name, function, adapter))

    def schemas(self) -> list[dict[str, Any]]:
        return self._schemas

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The function's result as text, JSON unless it is one; what it raises as `error: ...`."""
        if name not in self._functions:
            known = ", ".join(self._functions)
            return f"error: there is no tool {name!r}; {nearest(name, self._functions)}; the tools are: {known}"
        try:
            result = self._adapters[name].validate_python(ArgsKwargs((), dict(arguments)))
            if inspect.isawaitable(result):
                result = asyncio.run(_awaited(result))
            return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=repr)
        except ValidationError as error:
            return f"error: {name}: {_problems(error)}"
        except Exception as error:
            return f"error: {name}: {last_line(error, [])}"


def methods_of(kind: type, leave_out: Sequence[str] = ()) -> list[str]:
    """Names of a class's public methods, in the order in which it defines them."""
    own = (name for base in reversed(kind.__mro__) for name in vars(base))
    return [
        name
        for name in dict.fromkeys(own)
        if not name.startswith("_") and name not in leave_out and inspect.isfunction(getattr(kind, name, None))
    ]


def _adapter(function: Any) -> TypeAdapter[Any]:
    return TypeAdapter(function)


def _schema(name: str, function: Callable[..., Any], adapter: TypeAdapter[Any]) -> dict[str, Any]:
    described = parse(function.__doc__ or "")
    what = described.description or described.short_description
    if not what:
        raise TypeError(f"the tool {name} has no docstring: say there what it does, and what each parameter is")
    parameters = inspect.signature(function).parameters
    untyped = [parameter for parameter, p in parameters.items() if p.annotation is p.empty]
    if untyped:
        raise TypeError(f"the tool {name}: its parameter {untyped[0]!r} has no type hint")
    texts = {parameter.arg_name: (parameter.description or "").strip() for parameter in described.params}
    unsaid = [parameter for parameter in parameters if not texts.get(parameter)]
    if unsaid:
        raise TypeError(f"the tool {name}: its docstring does not say what {unsaid[0]!r} is")
    schema = adapter.json_schema()
    for parameter, content in schema.get("properties", {}).items():
        content.pop("title", None)
        content["description"] = texts[parameter]
    kept = {key: schema[key] for key in ("type", "properties", "required", "$defs") if key in schema}
    taken: dict[str, Any] = {"type": "object", "properties": {}} | kept
    return {"type": "function", "function": {"name": name, "description": what.strip(), "parameters": taken}}


def _problems(error: ValidationError) -> str:
    """What is wrong with the arguments, each in a few words."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors(include_url=False)[:3]
    )


async def _awaited(result: Any) -> Any:
    return await result
