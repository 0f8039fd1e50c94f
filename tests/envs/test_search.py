"""Search over a folder: what is found, where it stands, and what is refused."""

import json
from importlib.util import find_spec

import pytest

from groupwise.data import Message, ToolCall
from groupwise.envs.search import Search
from groupwise.envs.tools import Tools
from groupwise.errors import ConfigError, DataError

pytestmark = pytest.mark.skipif(find_spec("bm25s") is None, reason="bm25s is not installed")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "animals").mkdir()
    (tmp_path / "animals" / "cats.md").write_text("# Cats\n\nA cat sleeps for thirteen hours a day.")
    (tmp_path / "animals" / "dogs.txt").write_text("A dog barks. It sleeps less than a cat does.")
    rows = [
        {"title": "Rome", "text": "Rome lies on the Tiber."},
        {"title": "Paris", "text": "Paris lies on the Seine."},
    ]
    (tmp_path / "cities.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "left_out.py").write_text("a cat in code")
    (tmp_path / ".hidden.txt").write_text("a hidden cat")
    return tmp_path


def test_the_best_passages_are_shown_with_their_place(folder):
    search = Search(str(folder)).search
    assert search("How long does a cat sleep? thirteen hours", 1) == (
        "[1] animals/cats.md\n# Cats\n\nA cat sleeps for thirteen hours a day."
    )
    assert search("the SEINE", k=1) == "[1] cities.jsonl:2 Paris\nParis lies on the Seine."
    found = search("cat", k=10)
    assert "[2] animals/" in found
    assert "hidden" not in found
    assert "code" not in found


def test_what_no_passage_has_finds_nothing(folder):
    search = Search(str(folder)).search
    assert search("zebra") == search("") == search("?!") == "nothing found"


def test_equal_passages_come_in_the_order_of_their_files(tmp_path):
    for name in "cab":
        (tmp_path / f"{name}.txt").write_text("the same words")
    (tmp_path / "z.txt").write_text("others")
    found = [Search(str(tmp_path)).search("words", k=3) for _ in range(2)]
    assert found[0] == found[1]
    assert [line for line in found[0].splitlines() if line.startswith("[")] == ["[1] a.txt", "[2] b.txt", "[3] c.txt"]


def test_a_long_text_is_cut_into_passages_between_words(tmp_path):
    (tmp_path / "a.txt").write_text(" ".join(f"word{n}" for n in range(300)))
    found = Search(str(tmp_path), max_characters=100).search("word150")
    text = found.split("\n", 1)[1]
    assert len(text) <= 100
    assert "word150" in text.split()


def test_a_language_without_spaces_is_searched_by_its_characters(tmp_path):
    (tmp_path / "a.txt").write_text("猫每天睡觉很久")
    (tmp_path / "b.txt").write_text("罗马在台伯河边")
    assert Search(str(tmp_path)).search("台伯", k=1).startswith("[1] b.txt")


def test_rows_of_parquet_are_read(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"contents": ["one two", "three four"]}), tmp_path / "a.parquet")
    assert Search(str(tmp_path)).search("three") == "[1] a.parquet:2\nthree four"


def test_the_environment_tools_searches(folder):
    environment = Tools(tools=[{"tool": "search", "params": {"folder": str(folder)}}])
    (schema,) = environment.tools
    assert set(schema["function"]["parameters"]["properties"]) == {"query", "k"}
    calls = (ToolCall("search", {"query": "Tiber", "k": 1}), ToolCall("search", {"query": "Tiber", "k": 0}))
    given = [message.content for message in environment.reply([Message("assistant", "", calls=calls)])]
    assert given == [
        "[1] cities.jsonl:1 Rome\nRome lies on the Tiber.",
        "error: search: ValueError: k = 0: from 1 to 20",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "a"}\n{"title": "b"}', r"a.jsonl:2: no text in text or contents.*text_column"),
        ('{"text": "a"', r"a.jsonl: Expecting"),
        ('{"text": 7}', r"a.jsonl:1: no text"),
        ("[1]", r"a.jsonl:1: no text"),
    ],
)
def test_a_row_without_text_is_refused(tmp_path, text, message):
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        Search(str(tmp_path))


def test_a_text_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes("Zürich".encode("utf-16"))
    with pytest.raises(DataError, match=r"a.txt: .*utf-8"):
        Search(str(tmp_path))


def test_a_folder_without_texts_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        Search(str(tmp_path / "gone"))
    (tmp_path / "a.txt").write_text("   ")
    with pytest.raises(ConfigError, match=r"no texts in it; it may hold .txt, .md"):
        Search(str(tmp_path))
