"""A recipe's text: YAML read into a tree of plain values, with `a.b=c` overrides. Knows no field and no range."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from groupwise.errors import ConfigError
from groupwise.places import beside

Tree = dict[str, Any]

_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """Takes `1e-6` for the number it is: in YAML 1.1 a float without a dot or a signed exponent is a string."""


class _Dumper(yaml.SafeDumper):
    """Puts a string that `_Loader` would take for a number into quotes."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_tree(path: Path, overrides: Sequence[str] = ()) -> Tree:
    """What a YAML file says, with the overrides applied in their order. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"recipe {str(path)!r}: no such file", hint="see `groupwise list recipes`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {str(path)!r} cannot be read: {error}", hint="give a YAML text file") from None
    try:
        tree = tree_of(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"recipe {path} is not YAML: {error}", hint="check the indentation at that line") from None
    if not isinstance(tree, dict):
        raise ConfigError(
            f"recipe {path} holds {type(tree).__name__}, not sections", hint="`groupwise init` writes one"
        )
    tree = beside(_unshared(tree), path.parent)
    for override in overrides:
        _override(tree, override)
    return tree


def _unshared(node: Any) -> Any:
    """The tree in which what a YAML anchor names is copied to each place, so that an override reaches one alone."""
    if isinstance(node, dict):
        return {key: _unshared(value) for key, value in node.items()}
    return [_unshared(value) for value in node] if isinstance(node, list) else node


def tree_of(text: str) -> Any:
    """The plain value that YAML text stands for. Raises yaml.YAMLError or ValueError."""
    return yaml.load(text, Loader=_Loader)


def list_lines(path: Path, key: str) -> list[int]:
    """The line, from 1, on which each item of a file's top-level list begins; [] if it has no such list."""
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    for name, value in getattr(root, "value", []):
        if name.value == key and isinstance(value, yaml.SequenceNode):
            return [item.start_mark.line + 1 for item in value.value]
    return []


def write_tree(tree: Tree) -> str:
    """The tree as YAML that `read_tree` reads back as it was."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def changes(before: Any, after: Any, place: str = "") -> list[tuple[str, Any, Any]]:
    """(place, value before, value after) of each value in which two trees differ."""
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        before, after = dict(enumerate(before)), dict(enumerate(after))
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [(place, before, after)] if before != after else []
    names = [*before, *(name for name in after if name not in before)]
    return [
        change
        for name in names
        for change in changes(before.get(name), after.get(name), f"{place}.{name}" if place else str(name))
    ]


def _override(tree: Tree, override: str) -> None:
    """Sets tree[a][b] = c for `a.b=c`; a list is entered by index (`rewards.0.weight=2`)."""
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or "" in path:
        raise ConfigError(f"override {override!r} is not of the form a.b=c", hint="for example update.steps=100")
    try:
        value = tree_of(text)
    except (yaml.YAMLError, ValueError):
        value = text
    node: Any = tree
    for name in path[:-1]:
        if isinstance(node, list):
            node = node[_index(node, name, key)]
        else:
            if node.get(name) is None:  # a section that is missing or, as `run:` alone, empty
                node[name] = {}
            node = node[name]
        if not isinstance(node, dict | list):
            raise ConfigError(f"override {override!r}: {name!r} is a value, not a section", hint=f"set {name} itself")
    if isinstance(node, list):
        node[_index(node, path[-1], key)] = value
    else:
        node[path[-1]] = value


def _index(items: list[Any], name: str, key: str) -> int:
    if not name.isdecimal() or int(name) >= len(items):
        raise ConfigError(f"override {key!r}: {name!r} is not an index into {len(items)} item(s)", hint="from 0")
    return int(name)
