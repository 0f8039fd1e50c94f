"""The program in a model's answer: the last fenced block of Python behind its reasoning."""

import re

from groupwise.rewards.answers.final import answer_part

_FENCE = re.compile(r"^[ \t]*(?P<marks>`{3,}|~{3,})[ \t]*(?P<language>[^\n`]*)$", re.MULTILINE)
_PYTHON = ("python", "python3", "py", "py3", "python2")


def program_in(text: str) -> str | None:
    """The last block that says it is Python, else the last that says no language; None if there is neither.

    A block without an end reaches to the end of the text. Reasoning is cut off first (docs/verdicts.md)."""
    plain = None
    tagged = None
    part = answer_part(text)
    at = 0
    while (opening := _FENCE.search(part, at)) is not None:
        closing = _closing(part, opening)
        inside = part[opening.end() + 1 : closing.start() if closing else len(part)]
        words = opening["language"].strip().lower().split()
        language = words[0].strip("{}.:,") if words else ""
        if language in _PYTHON:
            tagged = _dedented(inside, opening)
        elif not language:
            plain = _dedented(inside, opening)
        if closing is None:
            break
        at = closing.end()
    return tagged if tagged is not None else plain


def _closing(text: str, opening: "re.Match[str]") -> "re.Match[str] | None":
    """The fence that ends a block: of the same marks, no fewer, with nothing behind them."""
    marks = opening["marks"]
    for found in _FENCE.finditer(text, opening.end()):
        if found["marks"].startswith(marks) and not found["language"].strip():
            return found
    return None


def _dedented(block: str, opening: "re.Match[str]") -> str:
    """A block in a list is indented as its fence is."""
    indent = opening[0][: len(opening[0]) - len(opening[0].lstrip())]
    return "\n".join(line.removeprefix(indent) for line in block.split("\n")) if indent else block
