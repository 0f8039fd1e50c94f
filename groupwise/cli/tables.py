"""What `groupwise list` shows: the names of a table, the shipped recipes, every setting. Loads no torch."""

import ast
import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from groupwise import places, registry
from groupwise.errors import ConfigError
from groupwise.markdown import table_text

TITLES = sorted([*registry.TABLES, "recipes", "settings"])


def listed(title: str, *, as_json: bool) -> str:
    """The table of that title as text or as JSON; "": the titles. Raises ConfigError if there is none."""
    if not title:
        return "\n".join(TITLES)
    if title not in TITLES:
        raise ConfigError(f"list {title!r}: no such table", hint=registry.nearest(title, TITLES))
    if title == "settings":
        return _settings(as_json=as_json)
    rows = _recipes() if title == "recipes" else {name: _first_line(title, name) for name in registry.TABLES[title]}
    rows = dict(sorted(rows.items()))
    return json.dumps(rows, indent=2) if as_json else table_text([[name, line] for name, line in rows.items()])


def _recipes() -> dict[str, str]:
    return {name: places.first_comment(path) for name, path in places.shipped().items()}


def _settings(*, as_json: bool) -> str:
    from groupwise.config.settings import settings

    rows = [asdict(setting) for setting in settings()]
    if as_json:
        return json.dumps(rows, indent=2)
    return "\n".join(line for row in rows for line in _lines(row))


def settings_page() -> str:
    """docs/settings.md: every key, described by its field's docstring."""
    from groupwise.config.recipe import RECIPES
    from groupwise.config.settings import settings

    head = [
        "# Settings",
        "",
        "This page lists every key of a recipe. `groupwise list settings` also shows what TRL and verl call each key",
        "([names.md](names.md)). A stage refuses keys that it does not read.",
        "",
        "| key | default | values | meaning | stages |",
        "|---|---|---|---|---|",
    ]
    rows = []
    for one in settings():
        default = "needed" if one.needed else f"`{_yaml(one.default)}`"
        stages = "all" if len(one.stages) == len(RECIPES) else ", ".join(one.stages)
        meaning, values = (text.replace("|", "\\|") for text in (one.meaning, one.range))
        rows.append(f"| `{one.key}` | {default} | {values} | {meaning} | {stages} |")
    return "\n".join([*head, *rows])


def _lines(row: dict[str, Any]) -> Iterator[str]:
    """A setting with its default and range, its meaning below, and what others call it."""
    default = "needed" if row["needed"] else _yaml(row["default"])
    yield f"{row['key']}: {default}" + (f"   ({row['range'].replace('`', '')})" if row["range"] else "")
    yield f"    {row['meaning']}"
    theirs = [f"{whose}: {', '.join(row[key])}" for whose, key in (("TRL", "trl"), ("verl", "verl")) if row[key]]
    if theirs:
        yield f"    {'; '.join(theirs)}" + (f" ({row['differs']})" if row["differs"] else "")


def _yaml(value: Any) -> str:
    """A default as a recipe says it."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def _first_line(title: str, name: str) -> str:
    """What an entry is, from the source without importing it: `list` must not load torch."""
    module, _, attribute = registry.TABLES[title][name].partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    body = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == attribute:
            return (ast.get_docstring(node) or "").partition("\n")[0]
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == attribute for t in node.targets):
            words = {k.arg: k.value for k in getattr(node.value, "keywords", [])}
            texts = [words[key].value for key in ("equation", "source") if isinstance(words.get(key), ast.Constant)]
            return " · ".join(str(text) for text in texts)
    return ""
