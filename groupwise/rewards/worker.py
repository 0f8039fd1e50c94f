"""The child's side: one reward function in a process that its parent may kill, and that never outlives its parent.

A message is 8 bytes of length (big-endian) and a pickle, on two pipes of its own; standard output goes to standard
error. First (spec, params, timeout_seconds) comes in and ("ready", per_batch) or ("refused", message, hint) goes out.
Then for each (samples, step): ("begin",), and ("verdicts", [...]) until each sample has one.
"""

import faulthandler
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import traceback
from typing import Any, BinaryIO

HEADER = struct.Struct(">Q")


def packed(message: Any) -> bytes:
    """A message as bytes for the pipe, its length first."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(body)) + body


def main(requests: int, replies: int) -> None:
    """Serves one parent over two pipe ends (file descriptors) until the parent closes them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for end in (requests, replies):
        os.set_inheritable(end, False)
    sys.stdout = sys.stderr
    incoming: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(os.fdopen(requests, "rb"), incoming), daemon=True).start()
    outgoing = os.fdopen(replies, "wb")
    try:
        _serve(incoming, outgoing)
    except BrokenPipeError:
        pass  # the parent is gone, and so is the reason to be here
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    _leave()


def _listen(pipe: BinaryIO, incoming: "queue.SimpleQueue[bytes]") -> None:
    """Hands on what the parent sends; when its end closes, ends the process whatever the function is doing."""
    while len(header := pipe.read(HEADER.size)) == HEADER.size:
        incoming.put(pipe.read(HEADER.unpack(header)[0]))
    _leave()


def _leave() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with the processes that the function started
    os._exit(0)


def _send(pipe: BinaryIO, message: Any) -> None:
    pipe.write(packed(message))
    pipe.flush()


def _serve(incoming: "queue.SimpleQueue[bytes]", outgoing: BinaryIO) -> None:
    from groupwise.errors import RewardError
    from groupwise.rewards.adapters import adapt, find

    spec, params, timeout_seconds = pickle.loads(incoming.get())
    try:
        per_batch, scorer = adapt(find(spec), params, spec)
    except RewardError as error:
        _send(outgoing, ("refused", error.message, error.hint))
        return
    _send(outgoing, ("ready", per_batch))
    devnull = open(os.devnull, "w")  # noqa: SIM115  open as long as the process
    while True:
        samples, step = pickle.loads(incoming.get())
        _send(outgoing, ("begin",))
        verdicts = scorer(samples, step)
        while True:
            # The parent kills at the limit. Were it dead, and the interpreter held by a regular expression, no
            # thread here could tell; this watchdog needs no interpreter.
            faulthandler.dump_traceback_later(2 * timeout_seconds + 5, exit=True, file=devnull)
            scored = next(verdicts, None)
            faulthandler.cancel_dump_traceback_later()
            if scored is None:
                break
            _send(outgoing, ("verdicts", scored))
