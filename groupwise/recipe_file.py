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


MOST_CHARACTERS, MOST_VALUES, DEEPEST = 2**20, 50_000, 50
"""Of a recipe's text, of what its aliases stand for, and of sections within sections."""


class Refused(yaml.YAMLError):
    """Sound YAML that is no recipe's: a key twice, too deep, too large. The text says the line."""


class _Loader(yaml.SafeLoader):
    """Takes `1e-6` for the number it is: in YAML 1.1 a float without a dot or a signed exponent is a string.

    A key that stands twice in one section is refused: YAML would take the last one.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line, before = key.start_mark.line + 1, lines.get((key.tag, key.value))
                if before is not None:
                    raise Refused(f"line {line}: the key {key.value!r} is there twice, first in line {before}")
                lines[key.tag, key.value] = line
        return node


class _Dumper(yaml.SafeDumper):
    """Puts a string that `_Loader` would take for a number into quotes."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_tree(path: Path, overrides: Sequence[str] = ()) -> Tree:
    """What a YAML file says, with the overrides applied in their order. Raises ConfigError."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MOST_CHARACTERS + 1)  # /dev/zero has no end
    except FileNotFoundError:
        raise ConfigError(f"recipe {str(path)!r}: no such file", hint="see `groupwise list recipes`") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"recipe {str(path)!r} cannot be read: {error}", hint="give YAML text, saved as UTF-8"
        ) from None
    try:
        tree = tree_of(text)
    except Refused as error:
        raise ConfigError(f"recipe {path}: {error}", hint="a recipe is a page of settings, each set once") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"recipe {path} is not YAML: {_placed(error)}", hint="check that line") from None
    if tree is None:
        raise ConfigError(f"recipe {path} is empty", hint="`groupwise init` writes one to start from")
    if not isinstance(tree, dict):
        raise ConfigError(
            f"recipe {path} holds {type(tree).__name__}, not sections", hint="`groupwise init` writes one"
        )
    return with_overrides(beside(_unshared(tree), path.parent), overrides)


def with_overrides(tree: Tree, overrides: Sequence[str]) -> Tree:
    """The tree with `a.b=c` overrides applied in their order. Raises ConfigError for one that cannot be read."""
    changed: Tree = _unshared(tree)
    for override in overrides:
        _override(changed, override)
    return changed


def _unshared(node: Any) -> Any:
    """The tree in which what a YAML anchor names is copied to each place, so that an override reaches one alone."""
    if isinstance(node, dict):
        return {key: _unshared(value) for key, value in node.items()}
    return [_unshared(value) for value in node] if isinstance(node, list) else node


def tree_of(text: str) -> Any:
    """The plain value that YAML text stands for. Raises yaml.YAMLError (of which Refused is one) or ValueError."""
    _check_size(text)
    return yaml.load(text, Loader=_Loader)


def _check_size(text: str) -> None:
    """Raises Refused for a text that would take long to read, or forever: too much, too deep, aliases in aliases."""
    if len(text) > MOST_CHARACTERS:
        raise Refused(f"it has more than {MOST_CHARACTERS:,} characters")
    sizes: dict[str, int] = {}  # of what each anchor names, its aliases counted as what they stand for
    open_: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes and any(anchor == event.anchor for anchor, _ in open_):
                raise Refused(f"line {line}: *{event.anchor} stands inside what it names")
            total += sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.NodeEvent):
            total += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_.append((event.anchor, total - 1))
        if len(open_) > DEEPEST:
            raise Refused(f"line {line}: more than {DEEPEST} sections or lists in each other")
        if total > MOST_VALUES:
            raise Refused(f"line {line}: more than {MOST_VALUES:,} values, those that aliases stand for included")


def _placed(error: Exception) -> str:
    """What is wrong with the YAML, its line first where it has one."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    reason = " ".join(str(part) for part in (getattr(error, "problem", ""), getattr(error, "context", "")) if part)
    return f"line {mark.line + 1}, column {mark.column + 1}: {reason}"


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


def leaves(tree: Any, place: str = "") -> list[tuple[str, Any]]:
    """(place, value) of each value in a tree that is neither a section nor a list."""
    parts = dict(enumerate(tree)) if isinstance(tree, list) else tree
    if not isinstance(parts, dict):
        return [(place, tree)]
    return [leaf for name, own in parts.items() for leaf in leaves(own, f"{place}.{name}" if place else str(name))]


def _override(tree: Tree, override: str) -> None:
    """Sets tree[a][b] = c for `a.b=c`; a list is entered by index (`rewards.0.weight=2`)."""
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or "" in path:
        raise ConfigError(f"override {override!r} is not of the form a.b=c", hint="for example update.steps=100")
    try:
        value = tree_of(text)
    except Refused as error:
        raise ConfigError(f"override of {key.strip()}: {error}", hint="give a plain value") from None
    except (yaml.YAMLError, ValueError, RecursionError):
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
