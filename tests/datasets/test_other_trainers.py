"""The table of other trainers' rows in the documents: each is read, or refused, as it says there."""

import json
import re
from pathlib import Path

import pytest

from groupwise.datasets.dataset import read_questions
from groupwise.errors import DataError
from tests.datasets.reading import read_examples, read_judged, read_judgements, read_pairs

_PAGE = Path(__file__).parents[2] / "docs" / "questions.md"
_ROW = re.compile(r"^\| ([^|`]+) \| (question|example|pair|label|steps) \| `(.+)` \| `(.+)` \|$", re.MULTILINE)
ROWS = [(kind, row, said.replace("\\|", "|")) for _, kind, row, said in _ROW.findall(_PAGE.read_text(encoding="utf-8"))]
READERS = {
    "question": read_questions,
    "example": read_examples,
    "pair": read_pairs,
    "label": read_judged,
    "steps": read_judgements,
}


def _turns(messages, learned=()):
    marked = (f"{turn.role}{'*' * (place in learned)}: {turn.content}" for place, turn in enumerate(messages))
    return " ".join(" | ".join(marked).split())


def _shown(kind, found):
    if kind == "question":
        return _turns(found.messages) + (f" > {' '.join(str(found.answer).split())}" if found.answer else "")
    if kind == "example":
        return _turns(found.messages, found.learned)
    asked = _turns(found.prompt)
    if kind == "pair":
        return f"{asked} | chosen: {found.chosen} | rejected: {found.rejected}"
    if kind == "label":
        return f"{asked} | {'liked' if found.liked else 'disliked'}: {found.completion}"
    steps = zip(found.steps, found.right, strict=True)
    return " | ".join([asked, *(f"{'right' if right else 'wrong'}: {step}" for step, right in steps)])


def test_the_table_has_rows_of_every_kind():
    assert {kind for kind, _, _ in ROWS} == set(READERS)


@pytest.mark.parametrize(("kind", "row", "said"), ROWS)
def test_a_row_of_another_trainer_is_what_the_documents_say(tmp_path, kind, row, said):
    path = tmp_path / "r.jsonl"
    path.write_text(row + "\n", encoding="utf-8")
    if said.startswith("refused: "):
        with pytest.raises(DataError, match=re.escape(said.removeprefix("refused: "))) as caught:
            READERS[kind](path)
        assert "r.jsonl:1" in caught.value.message
        return
    (found,) = READERS[kind](path)
    assert _shown(kind, found) == said
    assert json.loads(row)
