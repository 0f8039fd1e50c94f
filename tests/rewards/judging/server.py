"""An endpoint on loopback that speaks chat completions, and does what a test tells it to do wrong."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Act = Callable[["Handler", dict[str, Any]], None]
"""Answers one request."""


class Handler(BaseHTTPRequestHandler):
    server: "Server"
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.respond(self.server.health, {"data": [{"id": "judge"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append({"path": self.path, "headers": dict(self.headers), **body})
            self.server.open += 1
            self.server.most = max(self.server.most, self.server.open)
            act = self.server.acts.pop(0) if self.server.acts else self.server.always
        try:
            act(self, body)
        finally:
            with self.server.lock:
                self.server.open -= 1

    def respond(self, status: int, content: Any, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, always: Act, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.always, self.acts, self.asked, self.health = always, list[Act](), list[dict[str, Any]](), 200
        self.open = self.most = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, address: Any) -> None:
        pass  # a client that leaves is what some tests are about


@contextmanager
def serving(always: Act, port: int = 0) -> Iterator[Server]:
    with Server(always, port) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def says(reply: str | Callable[[str], str], tokens: tuple[int, int] = (100, 10)) -> Act:
    """Replies with a text, or with what a function makes of the last message."""

    def act(handler: Handler, body: dict[str, Any]) -> None:
        text = reply if isinstance(reply, str) else reply(body["messages"][-1]["content"])
        usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        handler.respond(200, {"choices": [choice], "usage": usage})

    return act


def status(code: int, content: Any = b"{}", **headers: str) -> Act:
    return lambda handler, body: handler.respond(code, content, **headers)


def slow(seconds: float) -> Act:
    def act(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        says('{"score": 10}')(handler, body)

    return act


def cut(handler: Handler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def hang_up(handler: Handler, body: dict[str, Any]) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
