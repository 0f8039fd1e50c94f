"""JSON that any program reads: a number that is not finite becomes null. Knows values only."""

import json
import math
from pathlib import Path
from typing import Any

from groupwise.atomic import write_whole
from groupwise.terminal import UNSAFE


def json_text(content: Any) -> str:
    """The content as indented JSON; nan and infinities as null; what no terminal may be sent as its escape."""
    return _shown(json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False))


def json_line(content: Any) -> str:
    """The content on one line; what JSON has no form for, such as a date, as its repr."""
    return _shown(json.dumps(_plain(content), ensure_ascii=False, allow_nan=False, default=repr))


def write_json(path: Path, content: Any) -> None:
    """Writes a file as a whole or not at all."""
    write_whole(path, json_text(content) + "\n")


def _shown(text: str) -> str:
    return UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
