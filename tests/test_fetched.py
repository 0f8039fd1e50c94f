"""Remote pictures: refused unless asked for, fetched once, bounded, from a server on this machine."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from groupwise import fetched as module
from groupwise.config import QuestionsConfig
from groupwise.datasets.base import load_questions
from groupwise.errors import DataError
from groupwise.pictures import opened
from tests.drawn import file_of


class Pictures(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/red.png")
            self.end_headers()
            return
        found = {"/red.png": file_of(), "/page": b"<html>", "/large": b"0" * 5000}.get(self.path)
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(found or b"")

    def log_message(self, *words):
        pass


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """The pictures of one question with that path at the server."""
    monkeypatch.setenv("GROUPWISE_CACHE", str(tmp_path / "cache"))
    Pictures.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    place = f"http://127.0.0.1:{server.server_address[1]}"

    def call(path, fetch=True):
        (tmp_path / "q.jsonl").write_text(json.dumps({"prompt": "?", "images": [place + path]}))
        config = QuestionsConfig(source=str(tmp_path / "q.jsonl"), heldout_size=0, fetch_images=fetch)
        return load_questions(config, seed=0).train[0].messages[0].images

    yield call
    server.shutdown()
    server.server_close()


def test_a_remote_picture_is_fetched_once_and_only_where_that_is_asked_for(ask):
    with pytest.raises(DataError, match=r"q\.jsonl:1: .*: not fetched; .* or set questions\.fetch_images: true"):
        ask("/red.png", fetch=False)
    assert Pictures.asked == []
    for _ in range(2):
        (picture,) = ask("/moved")
    assert picture.reference.endswith("/moved")
    assert opened(picture).size == (6, 4)
    assert Pictures.asked == ["/moved", "/red.png"]


@pytest.mark.parametrize(
    ("path", "message"),
    [("/gone", "answers 404"), ("/page", "not a picture that can be read"), ("/large", "more than 1,000 bytes")],
)
def test_what_cannot_be_fetched_is_refused_with_its_line(ask, monkeypatch, path, message):
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    for _ in range(2):  # and nothing of it is kept
        with pytest.raises(DataError, match=rf"q\.jsonl:1: .*{message}"):
            ask(path)
    assert Pictures.asked == [path] * 2


def test_a_server_that_is_not_there_or_says_nothing_ends_in_one_line(ask, monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.2)
    with pytest.raises(DataError, match="cannot be fetched"):
        module.fetched("http://127.0.0.1:9/a.png")
    with pytest.raises(DataError, match="cannot be fetched"):
        module.fetched("http://[broken")
