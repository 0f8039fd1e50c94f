"""Files that cannot be read: one DataError each, with the place, the value and the remedy."""

import gzip
import json
import sys

import pytest

from groupwise.datasets.files import Source, rows
from groupwise.errors import DataError


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "q.jsonl",
            b'{"a": 1}\n\n{"a": \n',
            r"q.jsonl:3: not JSON: Expecting value at column 7: '\{\"a\":'; write one",
        ),
        ("q.jsonl", b'{"a": 1}\n[1, 2]\n', r"q.jsonl:2: a list, not an object: \[1, 2\]"),
        ("q.jsonl", b"null", "q.jsonl:1: null, not an object"),
        ("q.jsonl", b"[" * 100_000, "q.jsonl:1: not JSON: nested too deeply"),
        ("q.jsonl", b'{"a": 1}\n{"a": "\xff"}', "q.jsonl:2: not UTF-8: byte 0xff; save the file as UTF-8"),
        ("q.jsonl", b"", "q.jsonl': the file is empty"),
        ("q.jsonl", b" \n\n", "q.jsonl': the file is empty"),
        ("q.json", b'[{"a": 1},\n{"a" 1}]', "q.json:2: not JSON: Expecting ':' delimiter at column 6"),
        ("q.json", b'{"a": 1}\n{"a": 2}', "q.json:2: not JSON: Extra data.*name the file .jsonl"),
        ("q.json", b'{"a": 1}', "holds an object, not a list of rows"),
        ("q.json", b'[{"a": 1}, "b"]', "q.json: row 2: a string, not an object: 'b'"),
        ("q.json", b"[]", "q.json': no rows"),
        ("q.csv", b"a,b\n", "q.csv': no rows"),
        ("q.csv", b"a,b\n1,2\n1,2,3\n", r"q.csv: row 2 \(line 3\) has 3 cells, the header 2"),
        ("q.csv", b"a,b\n1\n", r"q.csv: row 1 \(line 2\) has 1 cells, the header 2"),
        ("q.csv", b"a,a\n1,2\n", "q.csv:1: column 'a' is there twice"),
        ("q.csv", b'a,b\n1,2\n1,"2\n', "q.csv:3: not CSV: unexpected end of data"),
        ("q.parquet", b"PAR1 and no more", "q.parquet: not a whole Parquet file"),
        ("q.parquet", b"", "q.parquet: not a whole Parquet file"),
        ("q.xlsx", b"x", "unknown ending '.xlsx'; give a file in .jsonl, .ndjson, .json, .csv, .tsv, .parquet"),
        ("q", b"x", "unknown ending ''"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        rows(tmp_path / name)


def test_truncated_parquet_is_refused(tmp_path):
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "q.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"prompt": "p" * 1000}]), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"q.parquet: not a whole Parquet file"):
        rows(path)


def test_an_address_is_refused_as_one():
    for place in ("s3://bucket/q.jsonl", "https://example.com/q.jsonl"):
        with pytest.raises(DataError, match="addresses are not read; download it, and name the file"):
            rows(Source(place))


def test_missing_file_is_refused_with_what_may_be_given(tmp_path):
    with pytest.raises(DataError, match=r"no such file or folder; give .jsonl.*arithmetic, .*mixture, .*reasoning_gym"):
        rows(tmp_path / "none.jsonl")


def test_folder_without_a_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match="not a folder of questions"):
        rows(tmp_path)


def test_rows_past_the_limit_are_not_looked_at(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"a": 1}\n{"a": 2}\nbroken')
    assert [row.cells for row in rows(tmp_path / "q.jsonl", limit=2)] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(("package", "name"), [("pyarrow", "q.parquet"), ("datasets", "folder")])
def test_missing_package_is_named_with_the_extra_that_brings_it(tmp_path, monkeypatch, package, name):
    monkeypatch.setitem(sys.modules, package, None)  # what `import` meets where it is not installed
    (tmp_path / "q.parquet").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=rf'{package} cannot be imported.*pip install "groupwise\[data\]"'):
        rows(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", '{"a": 1}\n'.encode("utf-16"), r"q.jsonl:1: UTF-16, not UTF-8; save the file as UTF-8"),
        ("q.csv", "a,b\n1,2\n".encode("utf-16-le"), r"q.csv:1: UTF-16, not UTF-8"),
        ("q.jsonl", b'{"a": 1}\n{"a": 1, "b": 2, "a": 3}', r"q.jsonl:2: not JSON: key 'a' is there twice"),
        ("q.jsonl", b'[{"a": 1}, {"a": 2}]', r"q.jsonl:1: a list of objects, not an object; name the file .json"),
        ("q.jsonl", b'[\n{"a": 1}\n]', r"q.jsonl:1: not JSON: .*a file that is one list of objects is named .json"),
        ("q.jsonl", b'{"a": 1},\n', r"q.jsonl:1: not JSON: Extra data"),
        ("q.json", b'[{"a": 1},]', r"q.json:1: not JSON"),
        ("q.jsonl.gz", b'{"a": 1}', r"q.jsonl.gz: not a whole .gz file"),
        (
            "q.jsonl",
            gzip.compress(b'{"a": 1}', mtime=0),
            r"q.jsonl:1: compressed, a .gz file; name the file so, q.jsonl.gz",
        ),
        ("q.csv", b"PK\x03\x04", r"q.csv:1: compressed, a .zip file; unpack it"),
        (
            "q.jsonl",
            b'{"a": 1},\n',
            r"q.jsonl:1: not JSON: .*write one JSON object a line, without the comma at its end",
        ),
        ("q.jsonl.zst", b"x", r"unknown ending '.zst'; .*text files may be .gz, .bz2, .xz"),
    ],
)
def test_what_people_save_by_mistake_is_refused_with_its_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        rows(tmp_path / name)


def test_compressed_files_marks_breaks_and_long_cells_are_read(tmp_path):
    (tmp_path / "q.jsonl.gz").write_bytes(gzip.compress(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}\r\n', mtime=0))
    (tmp_path / "q.tsv").write_text(f'a\tb\n"1\n2"\t{"x" * 200_000}\n')
    assert [row.cells for row in rows(tmp_path / "q.jsonl.gz")] == [{"a": 1}, {"a": 2}]
    ((cells, where),) = [(row.cells, row.where) for row in rows(tmp_path / "q.tsv")]
    assert (cells["a"], len(cells["b"]), where) == ("1\n2", 200_000, f"{tmp_path}/q.tsv: row 1")


def test_files_by_a_pattern_are_read_in_the_order_of_their_names(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"a": name}))
    found = rows(Source(f"{tmp_path}/*.jsonl"))
    assert [(row.cells["a"], row.file) for row in found] == [("a", "a"), ("b", "b")]
    with pytest.raises(DataError, match=r"no such file or folder"):
        rows(Source(f"{tmp_path}/*.csv"))


def test_a_folder_of_files_is_read_by_split_as_a_data_set_on_the_hub_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"a": name}))
    assert [row.cells for row in rows(Source(str(tmp_path)))] == [{"a": "train"}]
    (row,) = rows(Source(str(tmp_path), split="test"))
    assert (row.cells, row.file) == ({"a": "test"}, f"{tmp_path.name}/test")
    with pytest.raises(DataError, match=r"no split 'dev'; splits: test, train; name one of them"):
        rows(Source(str(tmp_path), split="dev"))
    with pytest.raises(DataError, match=r"subset and split are of a folder or a data set on the hub"):
        rows(Source(str(tmp_path / "test.jsonl"), split="test"))
