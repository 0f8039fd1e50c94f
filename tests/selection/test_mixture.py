"""Other examples: by weight, none twice, clean; and every row in the same two columns."""

import json

import pytest

from groupwise.config import RejectionConfig
from groupwise.errors import ConfigError, DataError
from groupwise.selection.contamination import held_out
from groupwise.selection.mixture import clean, mixed_in, read_sources
from groupwise.selection.rows import lines, row_of_example, row_of_kept, write_lines
from groupwise.selection.select import Kept
from tests.datasets.reading import read_examples
from tests.selection.build import candidate, question


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def sources(tmp_path, *rows, weight=1.0):
    path = written(tmp_path / "other.jsonl", *rows)
    return read_sources(RejectionConfig(mix=({"source": path, "weight": weight},)), seed=0)


def pairs(count):
    return [{"prompt": f"p{number}", "completion": "c"} for number in range(count)]


@pytest.mark.parametrize(("weight", "drawn"), [(1.0, 4), (0.5, 2), (1 / 3, 1), (0.4, 2), (3.0, 6), (0.1, 0)])
def test_so_many_come_to_one_kept_output_or_all_there_are(tmp_path, weight, drawn):
    [found] = mixed_in(sources(tmp_path, *pairs(6), weight=weight), kept=4, fingerprints=(), seed=0)
    assert len({example.fingerprint for example in found.examples}) == len(found.examples) == drawn
    assert found.wanted == {3.0: 12}.get(weight, drawn)


def test_they_are_drawn_by_the_seed(tmp_path):
    own = sources(tmp_path, *pairs(20), weight=1.0)
    draws = [[e.where for e in mixed_in(own, kept=5, fingerprints=(), seed=seed)[0].examples] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_nothing_is_said_twice(tmp_path):
    own = sources(tmp_path, *pairs(3), *pairs(2), weight=9.0)
    assert len(own[0].examples) == 3
    kept = Kept(question("p1"), candidate("c"), None)
    [found] = mixed_in(own, kept=1, fingerprints=[kept.fingerprint], seed=0)
    assert sorted(example.messages[0].content for example in found.examples) == ["p0", "p2"]


def test_a_contaminated_example_is_refused_with_file_and_row_or_left_out(tmp_path):
    [own] = sources(tmp_path, *pairs(2), {"prompt": "Tell me: what is 6 + 7?", "completion": "13"})
    heldout = held_out({"held-out question 's'": "What is 6 + 7?"}, n=13, documents=())
    said = r"other\.jsonl:3: shares its words with held-out question 's': 'Tell me: what is 6 \+ 7\? 13'; remove it"
    with pytest.raises(DataError, match=said):
        clean(own, heldout, RejectionConfig())
    left = clean(own, heldout, RejectionConfig(contaminated="drop"))
    assert (len(left.examples), left.contaminated) == (2, 1)


def test_a_source_that_cannot_be_mixed_in_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"other\.jsonl:1: a plain text, among .*rejection\.mix\.0\.source"):
        sources(tmp_path, {"text": "once upon a time"})
    with pytest.raises(DataError, match=r"nothing\.jsonl': no such file"):
        read_sources(RejectionConfig(mix=({"source": "nothing.jsonl", "weight": 1},)), seed=0)
    with pytest.raises(ConfigError, match=r"rejection\.mix\.0\.source = 'nothing': no such name"):
        read_sources(RejectionConfig(mix=({"source": "nothing", "weight": 1},)), seed=0)


def test_rows_of_every_kind_are_read_back_as_what_they_were(tmp_path):
    turns = [("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b")]
    conversation = [{"role": role, "content": content} for role, content in turns]
    other = written(tmp_path / "talk.jsonl", {"messages": conversation})
    split = written(tmp_path / "split.jsonl", {"prompt": conversation[:4], "completion": conversation[4:]})
    examples = [*read_examples(tmp_path / "talk.jsonl"), *read_examples(tmp_path / "split.jsonl")]
    kept = Kept(question("7>"), candidate(" 8\n\u2028é", rewards={"number": 1.0, "tone": None}), 0)
    rows = [row_of_kept(kept, {"model": "m"}), *map(row_of_example, examples, (other, split))]
    assert {tuple(row) for row in rows} == {("prompt", "completion", "provenance")}
    write_lines(tmp_path / "all.jsonl", [json.dumps(row, ensure_ascii=False) for row in rows])
    own, talk, half = read_examples(tmp_path / "all.jsonl")
    assert [(m.role, m.content) for m in own.messages] == [("user", "7>"), ("assistant", " 8\n\u2028é")]
    assert (talk.messages, talk.prompt_messages) == (examples[0].messages, 2)  # both answers are learned
    assert (half.messages, half.prompt_messages) == (examples[1].messages, 4)  # the second alone
    assert rows[1]["provenance"] == {"source": other, "where": f"{other}:1"}


def test_the_order_is_drawn_by_the_seed_whatever_it_was():
    rows = [{"prompt": str(number), "completion": "", "provenance": {"model": "a"}} for number in range(8)]
    found = [lines(rows, seed=0), lines(rows[::-1], seed=0), lines(rows, seed=1)]
    assert found[0] == found[1] != found[2]
    assert sorted(found[0]) == sorted(found[2])


def test_the_order_does_not_depend_on_where_the_rows_come_from():
    orders = []
    for model in ("a", "elsewhere/b"):
        rows = [{"prompt": str(number), "completion": "", "provenance": {"model": model}} for number in range(8)]
        orders.append([json.loads(line)["prompt"] for line in lines(rows, seed=0)])
    assert orders[0] == orders[1]
