"""The endpoint that agents speak to: HTTP on loopback, a base URL for each episode.

A request waits until whoever plays the episodes has answered it. Knows the protocols and no tokens.
"""

import json
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Generic, TypeVar

from groupwise.agents.chat import CHAT
from groupwise.agents.messages import MESSAGES
from groupwise.agents.responses import RESPONSES
from groupwise.agents.wire import Answer, Asked, BadRequest, Protocol

Key = TypeVar("Key")
PROTOCOLS: Mapping[str, Protocol] = {"/chat/completions": CHAT, "/responses": RESPONSES, "/messages": MESSAGES}
"""By the end of a request's path."""
LONGEST = 64 * 2**20
"""Bytes of a request."""
MODEL = "policy"


@dataclass(frozen=True)
class Request(Generic[Key]):
    """What an episode's agent asks; `answer` takes an Answer, or a BadRequest as its exception."""

    key: Key
    asked: Asked
    answer: "Future[Answer]" = field(default_factory=Future)


class Endpoint(Generic[Key]):
    """A server from `open` to `close`. Episodes are the caller's keys; requests come by `requests`."""

    def __init__(self) -> None:
        self._episodes: dict[str, Key] = {}
        self._requests: queue.SimpleQueue[Request[Key]] = queue.SimpleQueue()
        self._waiting: set[Future[Answer]] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._server = _Server(self._answered)
        self._thread = threading.Thread(target=self._server.serve_forever, name="agents-endpoint", daemon=True)
        self._thread.start()

    def begin(self, key: Key) -> str:
        """The base URL of an episode."""
        token = secrets.token_urlsafe(12)
        with self._lock:
            self._episodes[token] = key
        return f"http://127.0.0.1:{self._server.server_address[1]}/{token}/v1"

    def end(self, url: str) -> None:
        """The episode is over; who still asks is told so."""
        with self._lock:
            self._episodes.pop(url.split("/")[3], None)

    def requests(self, timeout: float) -> list[Request[Key]]:
        """Those that have come since the last call; waits for the first so many seconds at most."""
        found = []
        try:
            found.append(self._requests.get(timeout=timeout) if timeout > 0 else self._requests.get_nowait())
            while True:
                found.append(self._requests.get_nowait())
        except queue.Empty:
            return found

    def close(self) -> None:
        """Nobody waits any more, and the port is free."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
            self._episodes.clear()
        for future in waiting:
            future.cancel()
        self._server.shutdown()
        self._server.server_close()

    def _answered(self, token: str, asked: Asked) -> Answer:
        """Called by the thread of a request: waits for the answer. Raises BadRequest."""
        with self._lock:
            if token not in self._episodes or self._closed:
                raise BadRequest("the episode of this base URL is over", code="episode_over", status=410)
            request = Request(self._episodes[token], asked)
            self._waiting.add(request.answer)
        self._requests.put(request)
        try:
            return request.answer.result()
        except CancelledError:
            raise BadRequest("the run has stopped", code="run_stopped", status=503) from None
        finally:
            with self._lock:
                self._waiting.discard(request.answer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, answered: Callable[[str, Asked], Answer]) -> None:
        self.answered = answered
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    protocol_version = "HTTP/1.1"
    timeout = 3600

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.endswith("/v1/models"):
            entry = {"id": MODEL, "object": "model", "created": 0, "owned_by": "groupwise"}
            self._send(200, {"object": "list", "data": [entry]})
        else:
            self._send(404, {"error": {"message": f"no such path: {self.path}"}})

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        protocol = next((found for end, found in PROTOCOLS.items() if path.endswith(f"/v1{end}")), None)
        if protocol is None:
            self._send(404, {"error": {"message": f"no such path: {path}; there are: {', '.join(PROTOCOLS)}"}})
            return
        key = secrets.token_hex(8)
        try:
            asked = _read(protocol, self._body())
            answer = self.server.answered(path.split("/")[1], asked)
        except BadRequest as error:
            self._send(error.status, protocol.error(str(error), error.code))
            return
        if asked.stream:
            self._stream(protocol, answer, key)
            return
        whole = protocol.whole(answer, key, MODEL)
        if asked.ids:
            whole["prompt_token_ids"] = list(answer.prompt_tokens)
            whole["choices"][0]["token_ids"] = list(answer.tokens)
        self._send(200, whole)

    def _body(self) -> Mapping[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LONGEST:
            self.close_connection = True
            raise BadRequest(f"Content-Length = {length!r}: give a length of at most {LONGEST} bytes", status=413)
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise BadRequest("the body is no JSON") from None
        if not isinstance(body, dict):
            raise BadRequest("the body is no JSON object")
        return body

    def _send(self, status: int, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()  # ASCII, whatever was sampled
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 503:
            self.send_header("x-should-retry", "false")  # which OpenAI's and Anthropic's clients obey
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, protocol: Protocol, answer: Answer, key: str) -> None:
        lines = [
            (f"event: {name}\n" if name else "") + f"data: {json.dumps(content)}\n\n"
            for name, content in protocol.events(answer, key, MODEL)
        ]
        if protocol.last:
            lines.append(f"data: {protocol.last}\n\n")
        body = "".join(lines).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _read(protocol: Protocol, body: Mapping[str, Any]) -> Asked:
    """A request in one form. Raises BadRequest, also for a value of a kind that its protocol does not have there."""
    try:
        return protocol.asked(body)
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise BadRequest(f"the request is not of this protocol: {error}") from None
