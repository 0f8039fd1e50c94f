"""Pictures of questions: carried from the file to where a template would be applied, and refused there."""

import base64
import json
import re
from hashlib import blake2b

import pytest

from groupwise.config import ModelConfig, QuestionsConfig
from groupwise.data import IMAGE, Image, Message, Question, message_of_dict, message_of_parts
from groupwise.datasets.base import load_questions
from groupwise.datasets.dataset import read_questions
from groupwise.errors import DataError, ModelError
from groupwise.model.tokenizer import load_tokenizer
from groupwise.rollout.lengths import check_lengths

CAT, DOG = b"\x89PNG cat", b"\x89PNG dog"


def digest(data):
    return blake2b(data, digest_size=12).hexdigest()


@pytest.fixture
def read(tmp_path):
    """The questions of rows in a JSONL file, beside which lie cat.png and dog.png."""
    (tmp_path / "cat.png").write_bytes(CAT)
    (tmp_path / "dog.png").write_bytes(DOG)

    def call(*rows):
        path = tmp_path / "q.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_questions(path)

    return call


def shown(question):
    """Of each message its parts, pictures by the bytes that their digest is of."""
    names = {digest(CAT): "CAT", digest(DOG): "DOG"}
    return [
        [part if isinstance(part, str) else names[part.digest] for part in message.parts or (message.content,)]
        for message in question.messages
    ]


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


URL = "data:image/png;base64," + base64.b64encode(CAT).decode()
TEXT = {"type": "text", "text": "What?"}


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"prompt": "What?", "images": ["cat.png"]}, [["CAT", "What?"]]),  # TRL
        ({"prompt": "What?", "image": {"bytes": None, "path": "cat.png"}}, [["CAT", "What?"]]),
        ({"problem": "<image>Or <image>?", "images": ["cat.png", "dog.png"]}, [["CAT", "Or ", "DOG", "?"]]),  # EasyR1
        ({"prompt": user(TEXT, {"type": "image", "image": "dog.png"})}, [["What?", "DOG"]]),
        ({"prompt": user({"type": "image"}, TEXT), "images": ["cat.png"]}, [["CAT", "What?"]]),
        ({"prompt": user({"type": "image_url", "image_url": {"url": URL}}, TEXT)}, [["CAT", "What?"]]),
        ({"prompt": user({"type": "image_url", "image_url": "file:dog.png"}, TEXT)}, [["DOG", "What?"]]),
        (
            {"prompt": user({"type": "image", "source": {"type": "base64", "data": URL.partition(",")[2]}})},
            [["CAT"]],
        ),
        ({"prompt": user(TEXT, {"type": "text", "text": " Why?"})}, [["What? Why?"]]),
        ({"prompt": "no picture, just <image>"}, [["no picture, just <image>"]]),
        (
            {"prompt": [{"role": "system", "content": "<image> is a cat."}, *user(TEXT)], "images": ["cat.png"]},
            [["CAT", " is a cat."], ["What?"]],
        ),
    ],
)
def test_a_picture_stands_where_the_row_puts_it(read, row, wanted):
    (question,) = read(row)
    assert shown(question) == wanted
    for message in question.messages:
        assert message.content == "".join(IMAGE if part in ("CAT", "DOG") else part for part in wanted[0]) or wanted[1:]
        assert json.dumps(message.as_dict())


def test_parquets_bytes_are_read_and_leave_no_trace_in_what_rewards_get(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = {"problem": ["<image>?"], "answer": ["2"], "images": [[{"bytes": CAT, "path": "far/cat.png"}]]}
    pq.write_table(pa.table(rows), tmp_path / "q.parquet")
    (question,) = read_questions(tmp_path / "q.parquet")
    (picture,) = question.messages[0].images
    assert (picture.reference, picture.digest, picture.data) == ("far/cat.png", digest(CAT), CAT)
    assert question.answer == "2"
    assert json.dumps(dict(question.meta))
    assert not {"images", "problem"} & set(question.meta)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "<image>?", "images": ["cat.png", "dog.png"]}, "2 pictures, and 1 <image> in the text"),
        ({"prompt": "?", "images": ["cow.png"]}, r"images = 'cow\.png': .*cow\.png: No such file"),
        ({"prompt": "?", "images": ["http://a.b/c.png"]}, "not fetched; save the picture"),
        ({"prompt": "?", "images": [5]}, "images = 5: no picture"),
        ({"prompt": "?", "images": ["data:image/png;base64,?"]}, "no base64"),
        ({"prompt": "?", "images": ["cat.png"], "image": "dog.png"}, "both images and image; keep one"),
        ({"prompt": user({"type": "image"}, TEXT)}, r"content\[0\] = .* names no picture"),
        ({"prompt": user({"type": "video", "video": "a.mp4"}, TEXT)}, r"content\[0\] = .*: not a text"),
    ],
)
def test_a_picture_that_cannot_be_read_is_refused_with_its_line(read, row, message):
    with pytest.raises(DataError, match=rf"q\.jsonl:2: .*{message}"):
        read({"prompt": "fine", "problem": "fine"}, row)


def test_the_same_words_with_other_pictures_are_another_question(read):
    rows = [{"prompt": "What?", "images": [name]} for name in ("cat.png", "dog.png", "cat.png")]
    cat, dog, again = read(*rows)
    assert cat.fingerprint == again.fingerprint != dog.fingerprint
    assert Question("a", (Message("user", IMAGE + "What?"),)).fingerprint != cat.fingerprint


def test_a_template_is_put_around_the_pictures_and_they_are_held_out_apart(read, tmp_path):
    read(
        *(
            {"id": f"{n}{name}", "prompt": f"What {n}?", "images": [f"{name}.png"]}
            for n in "ab"
            for name in ("cat", "dog")
        )
    )
    config = QuestionsConfig(source=str(tmp_path / "q.jsonl"), template="Look: {question}!", heldout_size=1)
    found = load_questions(config, seed=0)
    assert len(found.train) == 3
    for question in (*found.train, *found.heldout):
        before, picture, after = question.messages[0].parts
        assert (before, after[:4], after[-2:]) == ("Look: ", "What", "?!")
        assert isinstance(picture, Image)


def test_what_a_record_keeps_of_a_picture_is_its_name_and_digest():
    picture = Image("cat.png", digest(CAT), data=CAT)
    message = message_of_parts("user", ["What is ", picture, "?"])
    kept = json.loads(json.dumps(message.as_dict()))
    assert kept["content"][1] == {"type": "image", "image": "cat.png", "digest": digest(CAT)}
    assert message_of_dict(kept) == message
    assert message_of_dict(kept).images[0].data is None


def test_a_model_that_reads_text_alone_refuses_a_picture_before_it_is_loaded(read, tiny_folder):
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_folder)))
    questions = read({"prompt": "What?"}, {"prompt": "What?", "images": ["cat.png"]})
    with pytest.raises(DataError, match=r"q\.jsonl:2: .*messages\[0\] has a picture, cat\.png: the model reads text"):
        check_lengths(tokenizer, questions, max_new_tokens=4)
    with pytest.raises(ModelError, match=re.escape("messages[0] has a picture, cat.png: the model reads text alone")):
        tokenizer.encode(questions[1].messages)
    check_lengths(tokenizer, questions[:1], max_new_tokens=4)
