"""A process that has loaded everything once and forks for each command it reads: {number, words, log, fault,
after}.

fault: [prefix, kinds, nth, error, again] for the preloaded `faults.c`, or null. after: seconds until SIGKILL, or null.
It answers with the number, the exit code (negative: the signal) and how many system calls of each kind there were.
"""

import ctypes
import json
import os
import signal
import sys
import time


def load() -> None:
    """What a training run imports, so that a fork has it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    import groupwise.cli.main
    import groupwise.datasets.arithmetic
    import groupwise.run.report  # noqa: F401
    from groupwise import registry

    for table, name in ((registry.STAGES, "rl"), (registry.ENGINES, "local"), (registry.ENVS, "arithmetic")):
        registry.load(table, name)
    torch.set_num_threads(1)


def run(words: list[str], log: str, fault: list | None, counted: int) -> None:
    """The command in this process, which then ends."""
    from groupwise.cli.main import main

    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["groupwise", *words]
    library = ctypes.CDLL(None)
    if fault is not None:
        prefix, kinds, nth, error, again = fault
        library.arm(prefix.encode(), kinds, ctypes.c_long(nth), error, again)
    code = 1
    try:
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        if sys.exc_info()[0] is not None and code == 1:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        if fault is not None:
            os.write(counted, json.dumps(list((ctypes.c_long * 6).in_dll(library, "counts"))).encode())
        os._exit(code)


def main() -> None:
    load()
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            run(asked["words"], asked["log"], asked["fault"], writer)
        os.close(writer)
        if asked["after"] is not None:
            time.sleep(asked["after"])
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        with open(reader, "rb") as pipe:
            counted = pipe.read()
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        told = {"number": asked["number"], "code": code, "counted": json.loads(counted or "[]")}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
