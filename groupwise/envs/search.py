"""Search over a folder of texts as a tool: passages by BM25. The one file that knows bm25s."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from groupwise.errors import ConfigError, DataError

ENDINGS = (".txt", ".md", ".jsonl", ".parquet")
TEXT_COLUMNS = ("text", "contents", "content", "passage", "body", "document")
"""Names of the column with the text, the first that a row has."""
_MOST_RESULTS = 20
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # characters of languages that put no space between words
_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")


class Search:
    """Passages of the .txt, .md, .jsonl and .parquet files under a folder, found by their words (BM25).

    folder: with the folders below it; hidden files are left out. text_column: of .jsonl and .parquet rows; None: the
    first of TEXT_COLUMNS. max_characters: of a passage; longer texts are cut at the end of a paragraph, a line or a
    word. k1, b: BM25's. Raises ConfigError for a folder without texts, DataError for a file that cannot be read.
    """

    shared = True  # the index is the same for all

    def __init__(
        self,
        folder: str,
        *,
        text_column: str | None = None,
        max_characters: int = 1000,
        k1: float = 1.5,
        b: float = 0.75,
    ) -> None:
        try:
            import bm25s
        except ImportError as error:
            what = f"the package bm25s cannot be imported: {error}"
            raise ConfigError(what, hint='pip install "groupwise[search]"') from None
        if isinstance(max_characters, bool) or not isinstance(max_characters, int) or max_characters < 20:
            raise ConfigError(f"max_characters = {max_characters!r}", hint="give a whole number of 20 or more")
        place = Path(folder)
        if not place.is_dir():
            raise ConfigError(f"folder = {folder!r}: no such folder", hint=f"a path is relative to {Path.cwd()}")
        self._passages: list[tuple[str, str]] = []  # where, text
        for file in _files(place):
            for where, text in _texts(file, place, text_column):
                self._passages += [(where, passage) for passage in _cut(text, max_characters)]
        words = [_words(f"{where} {text}") for where, text in self._passages]
        if not any(words):
            raise ConfigError(f"folder = {folder!r}: no texts in it", hint=f"it may hold {', '.join(ENDINGS)} files")
        self._index = bm25s.BM25(k1=k1, b=b)
        self._index.index(words, show_progress=False)

    def search(self, query: str, k: int = 3) -> str:
        """Finds the passages that fit a query best.

        Args:
            query: Words to look for.
            k: How many passages to show, 20 at most.
        """
        if not 1 <= k <= _MOST_RESULTS:
            raise ValueError(f"k = {k}: from 1 to {_MOST_RESULTS}")
        known = [word for word in dict.fromkeys(_words(query[:10_000])) if word in self._index.vocab_dict]
        if not known:
            return "nothing found"
        scores = self._index.get_scores(known)
        best = np.argsort(-scores, kind="stable")[:k]  # the first in the folder's order, where two fit as well
        found = [self._passages[place] for place in best if scores[place] > 0]
        return (
            "\n\n".join(f"[{rank}] {where}\n{text}" for rank, (where, text) in enumerate(found, 1)) or "nothing found"
        )


def _files(folder: Path) -> list[Path]:
    """The files to read, in the order of their paths."""
    found = (
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in ENDINGS
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def _texts(file: Path, folder: Path, column: str | None) -> Iterator[tuple[str, str]]:
    """Where each text stands, in words, and the text. Raises DataError."""
    name = file.relative_to(folder).as_posix()
    try:
        if file.suffix.lower() in (".txt", ".md"):
            yield name, file.read_text(encoding="utf-8")
            return
        rows = _lines(file) if file.suffix.lower() == ".jsonl" else _records(file)
        for number, row in enumerate(rows, 1):
            yield f"{name}:{number}{_title(row)}", _text_of(row, column, f"{file}:{number}")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{file}: {' '.join(str(error).split())[:300]}", hint="mend it, or take it away") from None


def _lines(file: Path) -> Iterator[Any]:
    with file.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def _records(file: Path) -> Iterator[Any]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            f"{file}: pyarrow cannot be imported: {error}", hint='pip install "groupwise[data]"'
        ) from None
    with pyarrow.parquet.ParquetFile(file) as table:
        for batch in table.iter_batches():
            yield from batch.to_pylist()


def _text_of(row: Any, column: str | None, where: str) -> str:
    names = TEXT_COLUMNS if column is None else (column,)
    text = next((row[name] for name in names if name in row), None) if isinstance(row, Mapping) else None
    if not isinstance(text, str):
        raise DataError(f"{where}: no text in {' or '.join(names)}", hint="name the column with text_column")
    return text


def _title(row: Any) -> str:
    title = row.get("title") if isinstance(row, Mapping) else None
    return f" {title}" if isinstance(title, str) and title else ""


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _cut(text: str, most: int) -> Iterator[str]:
    """Passages of `most` characters at most, cut where a paragraph ends, else a line, else a word."""
    text = text.strip()
    while len(text) > most:
        head = text[: most + 1]
        places = (head.rfind(mark) for mark in ("\n\n", "\n", " "))
        end = next((place for place in places if place > most // 2), most)
        yield text[:end].rstrip()
        text = text[end:].lstrip()
    if text:
        yield text
