"""Calls of tools in a policy's text: the forms in which models write them, read into names and arguments.

Model families differ in the marks around a call and in how they spell arguments. A form is a function of the text; it
never raises, whatever a model wrote: a call that cannot be read is a `ToolCall` with an `error` for the policy to see.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from groupwise.data import ToolCall

LONGEST = 50_000
"""Characters of a turn that are read; a call that begins behind them is not looked for."""
MOST = 64
"""Calls of one turn that are read."""


@dataclass(frozen=True)
class Spoken:
    """A turn of the policy: what it says beside its calls, and the calls in their order."""

    content: str
    calls: tuple[ToolCall, ...]


Found = tuple[int, int, ToolCall]
"""Where the call begins and ends in the text, its marks included, and the call."""
Form = Callable[[str], Iterator[Found]]


def read_calls(text: str, form: str = "any") -> Spoken:
    """The calls of a turn in one of FORMS; any: in the first form that finds one."""
    shown = text[:LONGEST]
    for name in FORMS if form == "any" else (form,):
        found = [one for one, _ in zip(FORMS[name](shown), range(MOST), strict=False)]
        if found:
            kept, end = [], 0
            for start, stop, _ in found:
                kept.append(text[end:start])
                end = stop
            return Spoken("".join([*kept, text[end:]]).strip(), tuple(call for _, _, call in found))
    return Spoken(text, ())


def _json_call(name: Any, arguments: Any, raw: str) -> ToolCall:
    """A call from JSON values; arguments may be an object, or one written as text."""
    if isinstance(arguments, str):
        arguments = _json(arguments)
    if arguments is None:
        arguments = {}
    if not isinstance(name, str) or not name:
        return _unread(raw, "it names no tool")
    if not isinstance(arguments, dict):
        return ToolCall(name, {}, raw, "its arguments are no JSON object")
    return ToolCall(name, arguments, raw)


def _unread(raw: str, error: str) -> ToolCall:
    return ToolCall("", {}, raw, error)


_BROKEN = object()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _BROKEN


def _of_object(value: Any, raw: str) -> ToolCall:
    """A call from {"name": .., "arguments": ..}; `parameters` is Llama's word."""
    if not isinstance(value, dict):
        return _unread(raw, 'it is no JSON object with "name" and "arguments"')
    if isinstance(value.get("function"), dict):
        value = value["function"]
    return _json_call(value.get("name"), value.get("arguments", value.get("parameters")), raw)


def _between(opening: str, closing: str) -> re.Pattern[str]:
    """What stands between two marks; the closing one may be missing at the text's end."""
    first, last = re.escape(opening), re.escape(closing)
    return re.compile(rf"{first}((?:(?!{first}|{last}).)*)(?:{last}|\Z)", re.DOTALL)


_TAGS = _between("<tool_call>", "</tool_call>")
_FUNCTION = re.compile(r"\s*<function=([^<>\s]+)>(.*?)(?:</function>|\Z)\s*", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^<>\s]+)>\n?(.*?)\n?(?:</parameter>|(?=<parameter=)|\Z)", re.DOTALL)
_KEY_VALUE = re.compile(r"<arg_key>([^<]*)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)


def hermes(text: str) -> Iterator[Found]:
    """<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>: Hermes, Qwen 2.5 and 3, and many others."""
    for match in _TAGS.finditer(text):
        inner = match[1].strip()
        if inner.startswith("{") or not _named_by_tags(inner):
            yield match.start(), match.end(), _of_object(_json(inner), match[0])


def qwen_xml(text: str) -> Iterator[Found]:
    """<tool_call><function=f><parameter=x>1</parameter></function></tool_call>: Qwen 3 Coder and 3.5."""
    for match in _TAGS.finditer(text):
        if function := _FUNCTION.match(match[1]):
            arguments = {name: loose(value) for name, value in _PARAMETER.findall(function[2])}
            yield match.start(), match.end(), ToolCall(function[1], arguments, match[0])


def glm(text: str) -> Iterator[Found]:
    """<tool_call>f<arg_key>x</arg_key><arg_value>1</arg_value></tool_call>: GLM 4.5 and later."""
    for match in _TAGS.finditer(text):
        name = match[1].partition("<")[0].strip()
        if "<arg_key>" in match[1] and re.fullmatch(r"[\w.-]+", name):
            arguments = {key.strip(): loose(value) for key, value in _KEY_VALUE.findall(match[1])}
            yield match.start(), match.end(), ToolCall(name, arguments, match[0])


def _named_by_tags(inner: str) -> bool:
    return inner.startswith("<function=") or "<arg_key>" in inner


def loose(value: str) -> Any:
    """A value that a form writes without quotation marks: JSON if it is some, else the text."""
    found = _json(value.strip())
    return value if found is _BROKEN else found


_SPACE = r"(?:[\w-]+:|｜DSML｜)?"
_INVOKE = re.compile(rf'<{_SPACE}invoke name="([^"<>]+)">(.*?)(?:</{_SPACE}invoke>|(?=<{_SPACE}invoke )|\Z)', re.DOTALL)
_INVOKED_WITH = re.compile(rf'<{_SPACE}parameter name="([^"<>]+)"[^<>]*>(.*?)</{_SPACE}parameter>', re.DOTALL)


def invoke(text: str) -> Iterator[Found]:
    """<invoke name="f"><parameter name="x">1</parameter></invoke>, perhaps in a namespace: MiniMax, DeepSeek V3.2."""
    for match in _INVOKE.finditer(text):
        arguments = {name: loose(value.strip("\n")) for name, value in _INVOKED_WITH.findall(match[2])}
        start, end = _with_marks(text, match.start(), match.end())
        yield start, end, ToolCall(match[1], arguments, match[0])


_GEMMA = _between("<|tool_call>", "<tool_call|>")
_GEMMA_CALL = re.compile(r"\s*call:([\w.-]+)(\{.*\})\s*", re.DOTALL)
_GEMMA_KEY = re.compile(r"([{,])\s*([A-Za-z_][\w.-]*):")
_GEMMA_TEXT = re.compile(r'<\|"\|>(.*?)<\|"\|>', re.DOTALL)


def gemma(text: str) -> Iterator[Found]:
    """<|tool_call>call:f{x:1,s:<|"|>a<|"|>}<tool_call|>: Gemma 4."""
    for match in _GEMMA.finditer(text):
        call = _GEMMA_CALL.fullmatch(match[1])
        texts: list[str] = []

        def kept(found: re.Match[str], texts: list[str] = texts) -> str:
            texts.append(found[1])
            return f'"\\u0000{len(texts) - 1}"'  # so that nothing within a text is taken for a key

        if not call:
            yield match.start(), match.end(), _unread(match[0], "it is no call:name{...}")
            continue
        keyed = _GEMMA_KEY.sub(r'\1"\2":', _GEMMA_TEXT.sub(kept, call[2]))
        yield match.start(), match.end(), _json_call(call[1], _with_texts(_json(keyed), texts), match[0])


def _with_texts(value: Any, texts: list[str]) -> Any:
    if isinstance(value, str):
        return next((text for number, text in enumerate(texts) if value == f"\0{number}"), value)
    if isinstance(value, dict):
        return {key: _with_texts(one, texts) for key, one in value.items()}
    return [_with_texts(one, texts) for one in value] if isinstance(value, list) else value


_MISTRAL = re.compile(r"\[TOOL_CALLS\]\s*")
_MISTRAL_NAMED = re.compile(r"([\w.-]+)\s*(?:\[CALL_ID\][^\[]*)?(?:\[ARGS\])?\s*(?=\{)")


def mistral(text: str) -> Iterator[Found]:
    """[TOOL_CALLS][{"name": "f", "arguments": {}}], or [TOOL_CALLS]f[ARGS]{}: Mistral's models."""
    for match in _MISTRAL.finditer(text):
        named = _MISTRAL_NAMED.match(text, match.end())
        value, end = _json_at(text, named.end() if named else match.end())
        raw = text[match.start() : end]
        if named:
            yield match.start(), end, _json_call(named[1], value, raw)
            continue
        for number, one in enumerate(value if isinstance(value, list) else [value]):
            yield (match.start() if not number else end), end, _of_object(one, raw)


def _json_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that begins there, and where it ends; a broken one reaches to the text's end."""
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return _BROKEN, len(text)


_DEEPSEEK = _between("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>")
_LIST_MARKS = re.compile(
    r"<｜tool▁calls▁(?:begin|end)｜>|<\|tool_calls_section_(?:begin|end)\|>|</?[\w-]+:(?:function_calls|tool_call)>"
    r"|</?｜DSML｜function_calls>"
)


def deepseek(text: str) -> Iterator[Found]:
    """DeepSeek V3 and R1: f and its arguments between marks of full-width bars; V3.1 without a code fence."""
    for match in _DEEPSEEK.finditer(text):
        before, _, after = match[1].partition("<｜tool▁sep｜>")
        name, arguments = (after.partition("\n")[0], after.partition("\n")[2]) if "```" in after else (before, after)
        cut = arguments.strip().removeprefix("```json").removesuffix("```").strip()
        start, end = _with_marks(text, match.start(), match.end())
        yield start, end, _json_call(name.strip(), _json(cut), match[0])


def _with_marks(text: str, start: int, end: int) -> tuple[int, int]:
    """The span with the marks of the whole list of calls that touch it."""
    for mark in _LIST_MARKS.finditer(text):
        if not text[mark.end() : start].strip() and mark.end() <= start:
            start = mark.start()
        if not text[end : mark.start()].strip() and mark.start() >= end:
            end = mark.end()
    return start, end


_KIMI = _between("<|tool_call_begin|>", "<|tool_call_end|>")


def kimi(text: str) -> Iterator[Found]:
    """<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}<|tool_call_end|>: Kimi K2."""
    for match in _KIMI.finditer(text):
        name, _, arguments = match[1].partition("<|tool_call_argument_begin|>")
        plain = name.strip().removeprefix("functions.").partition(":")[0]
        start, end = _with_marks(text, match.start(), match.end())
        yield start, end, _json_call(plain, _json(arguments), match[0])


_HARMONY = re.compile(
    r"(?:<\|start\|>assistant)?(?:<\|channel\|>\w+)? ?to=functions\.([\w.-]+) ?(?:<\|channel\|>\w+)?"
    r" ?(?:<\|constrain\|> ?)?(?:json)? ?<\|message\|>(.*?)(?:<\|call\|>|(?=<\|start\|>)|\Z)",
    re.DOTALL,
)


def harmony(text: str) -> Iterator[Found]:
    """<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>: gpt-oss."""
    for match in _HARMONY.finditer(text):
        yield match.start(), match.end(), _json_call(match[1], _json(match[2]), match[0])


_LFM = _between("<|tool_call_start|>", "<|tool_call_end|>")
_FENCED = re.compile(r"```tool_(?:code|call)\s*\n(.*?)(?:```|\Z)", re.DOTALL)


def marked_python(text: str) -> Iterator[Found]:
    """<|tool_call_start|>[f(x=1)]<|tool_call_end|> (LFM 2), or f(x=1) in a fence of tool_code (Gemma)."""
    for pattern in (_LFM, _FENCED):
        for match in pattern.finditer(text):
            calls = _python_calls(match[1].strip(), match[0])
            for number, call in enumerate(calls or [_unread(match[0], "it is no call such as f(x=1)")]):
                yield (match.start() if not number else match.end()), match.end(), call


def llama_json(text: str) -> Iterator[Found]:
    """The whole turn is {"name": "f", "parameters": {"x": 1}}, perhaps behind <|python_tag|>: Llama 3."""
    marked = text.lstrip().startswith("<|python_tag|>")
    whole = text.strip().removeprefix("<|python_tag|>").strip()
    if not whole.startswith("{"):
        return
    place, found = 0, list[Any]()
    while place < len(whole):
        value, place = _json_at(whole, place)
        found.append(value)
        separator = re.compile(r"\s*;?\s*").match(whole, place)
        place = separator.end() if separator else place
    named = [isinstance(value, dict) and "name" in value and value.keys() & _WORDS for value in found]
    if all(named) or marked:
        for number, value in enumerate(found):
            yield (0 if not number else len(text)), len(text), _of_object(value, whole)


_WORDS = {"parameters", "arguments"}


def python_list(text: str) -> Iterator[Found]:
    """The whole turn is [f(x=1), g()]: Llama 3.2 and 4."""
    whole = text.strip().removeprefix("<|python_start|>").removesuffix("<|python_end|>").strip()
    if whole.startswith("[") and whole.endswith(")]"):
        for number, call in enumerate(_python_calls(whole, whole)):
            yield (0 if not number else len(text)), len(text), call


def _python_calls(code: str, raw: str) -> list[ToolCall]:
    """f(x=1), or a list of such calls; [] if it is something else. Arguments are literals."""
    try:
        body = ast.parse(code.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    nodes = body.elts if isinstance(body, ast.List) else [body]
    return [_python_call(node, raw) for node in nodes] if all(isinstance(n, ast.Call) for n in nodes) else []


def _python_call(node: Any, raw: str) -> ToolCall:
    try:
        name = ast.unparse(node.func)
        if node.args:
            return ToolCall(name, {}, raw, "arguments go by name, f(x=1)")
        return ToolCall(name, {word.arg: ast.literal_eval(word.value) for word in node.keywords}, raw)
    except (ValueError, TypeError, RecursionError, MemoryError, SyntaxError):
        return _unread(raw, "its arguments are no literals")


FORMS: Mapping[str, Form] = {
    "hermes": hermes,
    "qwen_xml": qwen_xml,
    "glm": glm,
    "invoke": invoke,
    "gemma": gemma,
    "mistral": mistral,
    "deepseek": deepseek,
    "kimi": kimi,
    "harmony": harmony,
    "marked_python": marked_python,
    "llama_json": llama_json,
    "python_list": python_list,
}
"""By name, those first whose marks nothing else has."""
