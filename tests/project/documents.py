"""The documents of the repository cut into what can be checked: code blocks, commands, paths. Runs nothing."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.project.sources import ROOT

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md"))),
)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LATER = re.compile(r"<!-- later -->\n(.*?)<!-- /later -->", re.DOTALL)
_FOLDERS = tuple(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and where it begins."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}:{self.language}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each line behind a prompt, comments left out."""
        lines = [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]
        return [shlex.split(line, comments=True) for line in lines]


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, *languages: str) -> list[Block]:
    """The blocks of a document in these languages, in order."""
    text = text_of(document)
    found = [
        Block(document, text.count("\n", 0, match.start()) + 1, match[1], match[2]) for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if block.language in languages]


def paths(text: str) -> set[str]:
    """Paths of this repository in code spans and links: under one of its folders, or a file at its root."""
    spans = set(re.findall(r"`([^`\n]+)`", _BLOCK.sub("", text))) | set(re.findall(r"\]\(([^)#]+)\)", text))
    words = {word for span in spans for word in span.split() if "://" not in word}
    local = {word.partition(":")[0] for word in words if re.fullmatch(r"[\w./-]+(:\w+)?", word)}
    known = {
        w for w in local if w.startswith(tuple(f"{f}/" for f in _FOLDERS)) or re.fullmatch(r"\w+\.(md|toml|txt)", w)
    }
    return {word for word in known if not word.startswith(("runs/", "checkpoints/"))}


def later(text: str) -> tuple[str, set[str]]:
    """A document without its list of what comes later, and the paths in that list."""
    return _LATER.sub("", text), {path for listed in _LATER.findall(text) for path in paths(listed)}


def tree(block: Block) -> set[str]:
    """The files of a drawn tree: a name, two spaces deeper than the folder that it is in."""
    folders: list[str] = []
    files = set()
    for line in block.text.splitlines():
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        if name.endswith("/"):
            folders = [*folders[:depth], name]
        else:
            files.add(str(Path(*folders[:depth], name)))
    return files
