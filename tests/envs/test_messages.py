"""What an environment gives as messages: text, and pictures in any form."""

import base64

import pytest
from PIL import Image as PIL

from groupwise.data import Message
from groupwise.envs.episode import messages_of
from groupwise.errors import DataError
from groupwise.pictures import opened
from tests.drawn import file_of

URL = "data:image/png;base64," + base64.b64encode(file_of()).decode()


def test_a_message_of_texts_and_pictures_is_read_in_every_form(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.png").write_bytes(file_of())
    content = [
        "Now: ",
        PIL.new("RGB", (6, 4), "red"),
        {"type": "image", "image": PIL.new("L", (6, 4), 7)},
        {"type": "image", "image": "board.png"},
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "text", "text": "?"},
    ]
    (message,) = messages_of([{"role": "user", "content": content}])
    assert message.content == "Now: <image><image><image><image>?"
    colors = [opened(image).getpixel((0, 0)) for image in message.images]
    assert colors == [(255, 0, 0), (7, 7, 7), (255, 0, 0), (255, 0, 0)]
    again = messages_of([{"role": "user", "content": content}])
    assert again == (message,)  # the same drawing is the same picture: a resumed run sees what it saw
    assert messages_of([message, {"role": "tool", "content": "x"}]) == (message, Message("tool", "x"))


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ({"type": "image", "image": "https://a.b/c.png"}, "not fetched"),
        ({"type": "image", "image": "gone.png"}, r"messages\[0\]\.content\[0\] = 'gone\.png'"),
        ({"type": "video", "video": "a.mp4"}, "a part of type 'video'"),
        (5, "a part of type 'int'"),
    ],
)
def test_a_part_that_is_neither_is_refused_with_its_place(part, error):
    with pytest.raises(DataError, match=error):
        messages_of([{"role": "user", "content": [part]}])
