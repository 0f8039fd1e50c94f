"""Pictures of questions: carried from the file to where a template would be applied, and refused there."""

import base64
import json
import re
from hashlib import blake2b

import pytest

from groupwise.config import ExamplesConfig, ModelConfig, QuestionsConfig
from groupwise.data import IMAGE, Example, Image, Message, Question, message_of_dict, message_of_parts
from groupwise.datasets.base import load_questions
from groupwise.datasets.dataset import read_questions
from groupwise.datasets.examples import each_example
from groupwise.datasets.sources import load_apart
from groupwise.errors import ConfigError, DataError, ModelError
from groupwise.model.tokenizer import load_tokenizer
from groupwise.pictures import opened
from groupwise.rollout.lengths import check_lengths
from tests.datasets.reading import read_examples, read_judged, read_judgements, read_pairs
from tests.drawn import file_of

CAT, DOG = file_of(color="orange"), file_of(color="brown", kind="JPEG")


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
            {
                "prompt": user(
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": URL.partition(",")[2]},
                    }
                )
            },
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
        (
            {"prompt": "?", "images": ["http://a.b/c.png"]},
            "not fetched; save the picture and give its path, or set questions.fetch_images: true",
        ),
        (
            {"prompt": [{"role": "assistant", "content": "<image>"}], "images": ["cat.png"]},
            "assistant's, has a picture",
        ),
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


BASE64 = base64.b64encode(DOG).decode()
TURN = {"role": "user", "content": "<image>?"}
KINDS = {
    read_questions: {"prompt": [TURN]},
    read_examples: {"messages": [TURN, {"role": "assistant", "content": "a"}]},
    read_pairs: {"prompt": [TURN], "chosen": "a", "rejected": "b"},
    read_judged: {"prompt": [TURN], "completion": "a", "label": True},
    read_judgements: {"prompt": [TURN], "completions": ["a"], "labels": [True]},
}


@pytest.mark.parametrize("reader", KINDS)
def test_every_kind_of_row_has_pictures_and_refuses_a_broken_one_with_its_line(tmp_path, reader):
    (tmp_path / "cat.png").write_bytes(CAT)
    (tmp_path / "broken.png").write_bytes(CAT[:-30])
    row = KINDS[reader]
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({**row, "images": ["cat.png"]}) + "\n" + json.dumps({**row, "images": ["broken.png"]}))
    with pytest.raises(DataError, match=r"r\.jsonl:2: images = 'broken\.png': .*broken\.png: a broken picture"):
        reader(path)
    (found,) = reader(path, limit=1) if reader is read_questions else reader(path, 1)
    first = (found.prompt if hasattr(found, "prompt") else found.messages)[0]
    (picture,) = first.images
    assert (picture.digest, picture.size, picture.file) == (digest(CAT), (6, 4), str(tmp_path / "cat.png"))
    path.write_text(json.dumps(row | {"images": ["cat.png"]}) + "\n" + json.dumps(row | {"images": []}) + "\n")
    with pytest.raises(DataError, match=r"r\.jsonl:2: images = \[\]: 0 pictures, and 1 <image> in the text"):
        reader(path)


@pytest.mark.parametrize(
    "cell",
    [
        BASE64,
        {"bytes": BASE64, "path": "far/dog.jpg"},
        {"base64": BASE64},
        {"image": "dog.png"},
        {"type": "image", "url": "data:image/jpeg;base64," + BASE64},
        {"type": "base64", "media_type": "image/jpeg", "data": BASE64[:40] + "\n" + BASE64[40:]},
    ],
)
def test_a_picture_is_given_in_many_forms(read, cell):
    (question,) = read({"prompt": "What?", "images": [cell]})
    assert shown(question) == [["DOG", "What?"]]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"image": "dog.png", "url": "dog.png"}, "both image and url; give the picture once"),
        ({"image": "dog.png", "min_pixels": 3}, "min_pixels = 3: not read; set model.min_pixels"),
        ({"image": "dog.png", "caption": "a dog"}, "caption = 'a dog': not read; drop it"),
        ({"bytes": "", "path": None}, "no picture, and|0 pictures|names no picture|."),
        ("data:image/svg+xml,%3Csvg/%3E", "no base64; begin it with"),
        ("text.png", r"text\.png: not a picture that can be read: it begins with b'just text'"),
        ("empty.png", r"empty\.png: a picture of no bytes"),
        (".", "not a file"),
        ("\0", "embedded null"),
        ("a" * 5000, "File name too long"),
        (True, "True: no picture"),
        ([["dog.png"]], "no picture"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(read, tmp_path, cell, message):
    (tmp_path / "text.png").write_text("just text")
    (tmp_path / "empty.png").write_text("")
    with pytest.raises(DataError, match=rf"q\.jsonl:1: .*({message})"):
        read({"prompt": "<image>?", "images": [cell]})


def test_a_setting_names_the_column_and_the_folder_of_pictures(read, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cow.png").write_bytes(CAT)
    row = {"id": "a", "prompt": "What?", "photo": "cow.png"}
    read({"prompt": "?"}, row)  # a file that is asked for nothing: `photo` is a column for rewards

    def ask(**settings):
        config = QuestionsConfig(source=str(tmp_path / "q.jsonl"), heldout_size=0, **settings)
        return load_questions(config, seed=0).train

    asked = {question.id: question for question in ask(image_column="photo", image_dir=str(tmp_path / "pictures"))}
    assert shown(asked["a"]) == [["CAT", "What?"]]
    assert "photo" not in asked["a"].meta
    with pytest.raises(
        DataError, match=r"image_column = 'foto' is not there; columns: prompt, id, photo; did you mean"
    ):
        ask(image_column="foto")
    read({"prompt": "?", "photo": "cat.png", "images": ["dog.png"]})
    with pytest.raises(DataError, match=r"q\.jsonl:1: images = .*: not read, image_column names another column"):
        ask(image_column="photo")
    config = ExamplesConfig(source=str(tmp_path / "e.jsonl"), heldout_size=0, image_dir=str(tmp_path / "pictures"))
    (tmp_path / "e.jsonl").write_text(json.dumps({"prompt": "q", "completion": "a", "image": "cow.png"}))
    ((example,), _) = load_apart(config, seed=0, kind=Example, read=each_example)
    assert [len(message.images) for message in example.messages] == [1, 0]
    with pytest.raises(ConfigError, match=r"questions\.image_dir = 'x': environment 'words' has no files of pictures"):
        load_questions(QuestionsConfig(source="words", image_dir="x"), seed=0)


def test_a_data_set_of_the_package_datasets_keeps_its_pictures_as_they_are(tmp_path):
    datasets = pytest.importorskip("datasets")
    from PIL import Image as PIL

    drawing = PIL.new("RGB", (6, 4), "orange")
    table = datasets.Dataset.from_list(
        [{"problem": "<image>?", "images": [drawing], "answer": "1"}],
        features=datasets.Features(
            {"problem": datasets.Value("string"), "images": [datasets.Image()], "answer": datasets.Value("string")}
        ),
    )
    table.save_to_disk(tmp_path / "saved")
    (question,) = read_questions(tmp_path / "saved")
    (picture,) = question.messages[0].images
    assert opened(picture).getpixel((0, 0)) == (255, 165, 0)
    assert picture.size == (6, 4)


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
