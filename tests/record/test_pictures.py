"""Pictures in the record: once each, with a small copy, so that a run stays readable when the files are gone."""

from contextlib import closing
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image as PIL

from groupwise import open_run
from groupwise.contents import Place, image_of
from groupwise.data import Group, Reward, Sample, message_of_parts
from groupwise.errors import DataError
from groupwise.pictures import opened
from groupwise.record import Recorder, open_record
from tests.drawn import file_of
from tests.record.recorded_steps import group, output, question, write

LARGE = file_of(size=(500, 300), color="orange", kind="BMP")


@pytest.fixture
def run(tmp_path):
    """A run with two questions about one file, one about bytes, and an environment that showed a picture."""
    (tmp_path / "a.bmp").write_bytes(LARGE)
    place = Place(str(tmp_path))
    photo, again = (image_of(name, "x", place) for name in ("a.bmp", "./a.bmp"))
    small = image_of(file_of(), "x", place)
    asked = [
        replace(question(n), messages=(message_of_parts("user", [image, "?"]),))
        for n, image in enumerate((photo, again))
    ]
    asked.append(replace(question(2), messages=(message_of_parts("user", ["Which? ", small, photo]),)))
    replied = replace(output(), messages=(message_of_parts("user", [image_of(file_of(color="blue"), "x", place)]),))
    groups = [Group(q, (Sample(replied if q is asked[2] else output(), Reward(1.0)),)) for q in asked]
    recorder = Recorder.create(tmp_path / "run", {"stage": "rl"})
    write(recorder, 0, groups)
    write(recorder, 1, [*groups, group(7)])
    recorder.close()
    (tmp_path / "a.bmp").unlink()
    return tmp_path / "run"


def test_a_picture_is_kept_once_and_shown_when_its_file_is_gone(run):
    with open_run(run) as found:
        rows = found.pictures()
        assert [(row["reference"], row["width"], row["height"]) for row in rows] == [
            ("a.bmp", 500, 300),
            ("", 6, 4),
            ("", 6, 4),
        ]
        assert rows[0]["file"] == str(run.parent / "a.bmp")
        digest = rows[0]["digest"]
        thumbnail = PIL.open(BytesIO(found.thumbnail(digest[:8])))
        assert thumbnail.size == (192, 115)
        assert [row["images"] for row in found.questions()] == [[digest], [digest], [rows[1]["digest"], digest], []]
        assert found.questions()[1]["messages"][0]["content"][0]["image"] == "./a.bmp"
        ((turn,),) = [row["turns"] for row in found.outputs(1) if "turns" in row]
        assert turn["content"][0]["digest"] == rows[2]["digest"]
        with pytest.raises(DataError, match="no picture with the digest 'x'"):
            found.thumbnail("x")


def test_questions_read_back_are_the_same_and_their_pictures_open_where_they_can(run):
    with closing(open_record(run)) as record:
        first, _, third, _ = record.questions()
        (shown,) = [one.output.messages for one in record.outputs(0) if one.output.messages]
    assert opened(shown[0].images[0]).getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(DataError, match=r"a\.bmp: No such file or directory"):
        opened(first.messages[0].images[0])
    small, photo = third.messages[0].images
    assert opened(small).getpixel((0, 0)) == (255, 0, 0)  # few bytes are kept whole
    assert (photo.digest, photo.size) == (first.messages[0].images[0].digest, (500, 300))
    (run.parent / "a.bmp").write_bytes(LARGE)
    assert opened(photo).size == (500, 300)


def test_ids_that_pictures_have_in_this_process_are_kept_as_the_models_own(tmp_path):
    recorder = Recorder.create(tmp_path / "run", {"stage": "rl"})
    recorder.picture_ids = 73, 12
    tokens = np.array([4, 73, 74, 5, 90], np.int32)
    shown = replace(output(tokens=5), question_tokens=tokens, tokens=tokens)
    write(recorder, 0, [Group(question(), (Sample(shown, Reward(1.0)),))])
    recorder.close()
    with closing(open_record(tmp_path / "run")) as record:
        (kept,) = record.outputs()
    assert kept.output.question_tokens.tolist() == kept.output.tokens.tolist() == [4, 12, 12, 5, 12]
