"""A sandbox elsewhere, over HTTP: a container, or a hosted service. Speaks the protocol of SandboxFusion's /run_code.

    POST url  {"code": .., "stdin": .., "language": "python", "run_timeout": s, "compile_timeout": s,
               "memory_limit_MB": n, "files": {}, "fetch_files": []}
    200       {"status": "Success" | "Failed" | "SandboxError", "message": "..",
               "run_result": {"status": "Finished" | "Error" | "TimeLimitExceeded", "return_code": 0,
                              "stdout": "..", "stderr": "..", "execution_time": s}}

How it isolates programs is its operator's business. What is tried here: that it is not this machine under another name.
"""

import http.client
import json
import os
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from groupwise.sandbox.base import MIB, Limits, Outcome, SandboxError

TRIES = 4
_PAUSE_SECONDS = 0.5
_SLACK_SECONDS = 10.0
_AGAIN = (429, 502, 503, 504)
"""Answers of a service that is busy: the request is made again."""
_LARGEST = 64 * MIB
"""Bytes of an answer; what is longer is none."""
_KEY = "GROUPWISE_SANDBOX_KEY"
"""Environment variable with the token that is sent as `Authorization: Bearer ..`."""

_PROBE = """
import socket, sys
file, port = sys.stdin.read().split("\\n")
for name, action in (
    ("read a file of this machine", lambda: open(file).read()),
    ("reach a port of this machine", lambda: socket.create_connection(("127.0.0.1", int(port)), 2)),
):
    try:
        action()
        print(name)
    except OSError:
        pass
print("tried")
"""


class RemoteSandbox:
    """Programs run by the service at a url; `pause_seconds` before it is asked again, twice as long each time."""

    def __init__(self, url: str, *, pause_seconds: float = _PAUSE_SECONDS) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise SandboxError(f"url {url!r} is not of the form http://host:port/run_code")
        self._url, self._pause_seconds = url, pause_seconds
        self._closed = threading.Event()

    def run(self, source: str, stdin: bytes, limits: Limits) -> Outcome:
        """See groupwise.sandbox.base.Sandbox. Raises SandboxError if the service fails TRIES times, or answers
        what it should not."""
        try:
            given = stdin.decode()
        except UnicodeDecodeError:
            raise SandboxError("standard input that is not UTF-8 cannot be sent to a remote sandbox") from None
        request = {
            "code": source,
            "stdin": given,
            "language": "python",
            "run_timeout": limits.seconds,
            "compile_timeout": limits.seconds,
            "memory_limit_MB": limits.memory_mb,
            "files": {},
            "fetch_files": [],
        }
        return _outcome(self._asked(request, limits.seconds + _SLACK_SECONDS), limits)

    def close(self) -> None:
        """Ends the waiting for another try."""
        self._closed.set()

    def probe(self) -> list[str]:
        """What a program there managed to do to this machine; [] if nothing. Raises SandboxError if it is none."""
        with (
            tempfile.NamedTemporaryFile("w", prefix="groupwise-bait-") as bait,
            socket.create_server(("127.0.0.1", 0)) as listener,
        ):
            os.chmod(bait.name, 0o644)
            asked = f"{bait.name}\n{listener.getsockname()[1]}".encode()
            done = self.run(_PROBE, asked, Limits(seconds=20.0, memory_mb=256))
        lines = done.stdout.decode("utf-8", "replace").split()
        if done.fault or lines[-1:] != ["tried"]:
            raise SandboxError(f"the probe did not come to its end: {done.fault or done.stdout[:60]!r}")
        return done.stdout.decode().splitlines()[:-1]

    def _asked(self, request: dict[str, Any], seconds: float) -> Any:
        said = ""
        for attempt in range(TRIES):
            if attempt and self._closed.wait(self._pause_seconds * 2 ** (attempt - 1)):
                raise SandboxError("stopped while it waited for a remote sandbox")
            try:
                return json.loads(self._posted(json.dumps(request).encode(), seconds))
            except urllib.error.HTTPError as error:
                said = f"it answered {error.code} {error.reason}"
                error.close()
                if error.code not in _AGAIN and error.code < 500:
                    break
            except ValueError:
                said = "its answer is not JSON"
            except (OSError, http.client.HTTPException) as error:  # refused, reset, late, cut short
                said = f"{type(error).__name__}: {getattr(error, 'reason', None) or error}"
        raise SandboxError(f"the sandbox at {self._url} failed, tried {attempt + 1} times: {said}")

    def _posted(self, body: bytes, seconds: float) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(_KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url, body, headers)
        deadline = time.monotonic() + seconds
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            found = bytearray()
            while chunk := answer.read1(1 << 16):
                found += chunk
                if len(found) > _LARGEST:
                    raise ValueError("its answer is too long")
                if time.monotonic() > deadline:
                    raise TimeoutError("its answer took too long")
            if answer.length:
                raise ConnectionError(f"its answer ended {answer.length} bytes too early")
        return bytes(found)


def _outcome(answer: Any, limits: Limits) -> Outcome:
    """The service's answer as an outcome. Raises SandboxError for one that says nothing of the program."""
    if not isinstance(answer, dict) or answer.get("status") not in ("Success", "Failed"):
        said = answer.get("message") or answer.get("status") if isinstance(answer, dict) else answer
        raise SandboxError(f"the remote sandbox failed: {str(said)[:200]!r}")
    ran = answer.get("run_result")
    if not isinstance(ran, dict):
        raise SandboxError(f"the remote sandbox ran nothing: {str(answer.get('message'))[:200]!r}")
    status, code, seconds = ran.get("status"), ran.get("return_code"), ran.get("execution_time")
    streams = [ran.get(name) or "" for name in ("stdout", "stderr")]
    if not all(isinstance(stream, str) for stream in streams):
        raise SandboxError("the remote sandbox answered streams that are not text")
    stdout, stderr = (stream.encode("utf-8", "surrogatepass") for stream in streams)
    took = float(seconds) if isinstance(seconds, int | float) and not isinstance(seconds, bool) else 0.0
    if len(stdout) > limits.output_bytes:
        return Outcome("output", 9, stdout[: limits.output_bytes], stderr[: limits.output_bytes], took)
    if status == "TimeLimitExceeded":
        return Outcome("time", 9, stdout, stderr, max(took, limits.seconds))
    if status != "Finished" or not isinstance(code, int) or isinstance(code, bool):
        if status != "Error":
            raise SandboxError(f"the remote sandbox answered a run with status {str(status)[:60]!r}, code {code!r}")
        code = code if isinstance(code, int) and code else 1
    return Outcome("signal", -code, stdout, stderr, took) if code < 0 else Outcome("exit", code, stdout, stderr, took)
