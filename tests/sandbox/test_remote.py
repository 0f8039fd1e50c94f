"""A remote sandbox on a real server on loopback, with the faults that services have."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from groupwise.errors import ConfigError
from groupwise.sandbox import remote
from groupwise.sandbox.base import Limits, SandboxError
from groupwise.sandbox.designs import open_sandbox
from groupwise.sandbox.remote import RemoteSandbox

FINE = {"status": "Finished", "return_code": 0, "stdout": "42\n", "stderr": "", "execution_time": 0.1}
SHORT = Limits(seconds=0.2)


class Service:
    """Answers each request with the next of its replies: (status, body), or a function of the request; then the last
    one again."""

    def __init__(self, *replies):
        self.requests, self.headers, left = [], [], list(replies)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                self.requests.append(body)
                self.headers.append(dict(handler.headers))
                reply = left.pop(0) if len(left) > 1 else left[0]
                status, answer = reply(body) if callable(reply) else reply
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                if status is None:  # cut short
                    handler.send_response(200)
                    handler.send_header("Content-Length", str(len(data) + 100))
                else:
                    handler.send_response(status)
                    handler.send_header("Content-Length", str(len(data)))
                with contextlib.suppress(BrokenPipeError):  # whoever asked has given up
                    handler.end_headers()
                    handler.wfile.write(data)

            def log_message(handler, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/run_code"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


def ran(**fields):
    return 200, {"status": "Success", "message": "", "run_result": {**FINE, **fields}}


def run(service, **limits):
    return RemoteSandbox(service.url, pause_seconds=0.001).run(
        "print(6 * 7)", b"in", Limits(**{"seconds": 0.2, **limits})
    )


def test_a_run_is_asked_for_in_the_protocol_of_sandbox_fusion(monkeypatch):
    monkeypatch.setenv("GROUPWISE_SANDBOX_KEY", "key")
    with Service(ran()) as service:
        done = run(service, memory_mb=64)
    assert (done.ended, done.code, done.stdout, done.fault) == ("exit", 0, b"42\n", "")
    [request] = service.requests
    assert (request["code"], request["stdin"], request["language"]) == ("print(6 * 7)", "in", "python")
    assert (request["run_timeout"], request["memory_limit_MB"]) == (0.2, 64)
    assert service.headers[0]["Authorization"] == "Bearer key"


def test_what_the_program_did_is_an_outcome():
    failed = {"status": "Failed", "message": "", "run_result": {**FINE, "return_code": 3, "stderr": "no\n"}}
    with Service((200, failed), ran(status="TimeLimitExceeded"), ran(return_code=-9), ran(stdout="x" * 99)) as service:
        assert run(service).fault == "exit code 3: no"
        assert run(service).ended == "time"
        assert (run(service).ended, run(service, output_bytes=10).ended) == ("signal", "output")


@pytest.mark.parametrize(
    ("reply", "message", "tries"),
    [
        ((500, b"broken"), "it answered 500", 4),
        ((503, b"busy"), "it answered 503", 4),
        ((404, b"no"), "it answered 404", 1),
        ((401, b"no"), "it answered 401", 1),
        ((200, b"<html>"), "its answer is not JSON", 4),
        ((200, b"\xff\xfe"), "its answer is not JSON", 4),
        ((200, [1]), r"the remote sandbox failed: '\[1\]'", 1),
        ((200, {"status": "SandboxError", "message": "no pods"}), "no pods", 1),
        ((200, {"status": "Success", "run_result": None}), "ran nothing", 1),
        (ran(stdout=[1]), "not text", 1),
        (ran(return_code="0"), "code '0'", 1),
        (ran(return_code=True), "code True", 1),
        (ran(status="Lost"), "status 'Lost'", 1),
        ((None, b"{}"), "ended 100 bytes too early", 4),
    ],
)
def test_a_service_that_fails_is_a_failure_and_never_an_outcome(reply, message, tries, monkeypatch):
    monkeypatch.setattr(remote, "_SLACK_SECONDS", 0.3)
    with Service(reply) as service, pytest.raises(SandboxError, match=message):
        run(service)
    assert len(service.requests) == tries


def test_a_service_that_recovers_is_asked_again():
    with Service((500, b""), (503, b""), (200, b"{"), ran()) as service:
        assert run(service).stdout == b"42\n"
    assert len(service.requests) == 4


def test_a_service_that_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(remote, "_SLACK_SECONDS", 0.05)
    monkeypatch.setattr(remote, "TRIES", 2)
    with (
        Service(lambda body: (time.sleep(0.8), ran())[1]) as service,
        pytest.raises(SandboxError, match=r"tried 2 times: .*timed out"),
    ):
        run(service, seconds=0.1)
    with pytest.raises(SandboxError, match="refused"):
        run(service)


def locally(body):
    """A service that runs programs on this machine, in nothing."""
    done = subprocess.run([sys.executable, "-c", body["code"]], input=body["stdin"].encode(), capture_output=True)
    return ran(stdout=done.stdout.decode(), return_code=done.returncode)


def test_a_service_that_is_this_machine_is_refused():
    with Service(locally) as service, pytest.raises(ConfigError, match="could read a file of this machine and reach a"):
        open_sandbox(url=service.url)
    with Service(ran(stdout="tried\n")) as service:
        open_sandbox(url=service.url).close()
    with Service(ran()) as service, pytest.raises(ConfigError, match="probe did not come to its end"):
        open_sandbox(url=service.url)
    with pytest.raises(ConfigError, match="not of the form http"):
        open_sandbox(url="sandbox:8080")
