"""The child's side: one reward function in a process that its parent may kill, and that its guard ends with it.

A message is 8 bytes of length (big-endian) and a pickle, on two pipes of its own; standard output goes to standard
error. First (spec, params, terms) comes in and ("ready", traits) or ("refused", message, hint) goes out.
Then for each (samples, step): ("begin",), and ("verdicts", [...], counts) until each sample has one; in between, what
groupwise/rewards/host.py sends.
"""

import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from typing import Any, BinaryIO, TextIO, cast

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
    from groupwise.terminal import Outlet, printable

    # What a function prints holds model outputs; and that nobody reads it any more is no failure of the reward.
    sys.stdout = sys.stderr = cast(TextIO, Outlet(sys.stderr, printable))
    try:
        _serve(os.fdopen(requests, "rb"), os.fdopen(replies, "wb"))
    except (BrokenPipeError, EOFError):
        pass  # the parent is gone, and so is the reason to be here
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _received(pipe: BinaryIO) -> Any:
    """The next message. Raises EOFError once the parent has closed its end."""
    header = pipe.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    return pickle.loads(pipe.read(HEADER.unpack(header)[0]))


def _send(pipe: BinaryIO, message: Any) -> None:
    pipe.write(packed(message))
    pipe.flush()


def _serve(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    from groupwise.errors import RewardError
    from groupwise.rewards import host
    from groupwise.rewards.adapters import adapt, find

    spec, params, terms = _received(incoming)
    whole = threading.Lock()  # a function may speak from threads of its own

    def send(message: Any) -> None:
        with whole:
            _send(outgoing, message)

    host.begin(terms, send)
    try:
        adapted = adapt(find(spec), params, spec)
    except RewardError as error:
        send(("refused", error.message, error.hint))
        return
    send(("ready", adapted.at_once, adapted.concurrent, adapted.columns))
    while True:
        samples, step = _received(incoming)
        send(("begin",))
        for scored in adapted.scorer(samples, step):
            send(("verdicts", scored, host.counted()))
