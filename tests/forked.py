"""The runs of a pipeline as forks of this process, which has loaded what each of them would spend seconds on."""

import os
import sys
from collections.abc import Sequence

import pytest

from groupwise import train_process
from groupwise.cli.main import main


def runs_are_forks(patch: pytest.MonkeyPatch) -> None:
    """`groupwise_process` forks and calls the command there, for as long as the patch holds; no signal is handed on."""
    import groupwise.run.loop  # noqa: F401  what every run imports

    patch.setattr(train_process, "groupwise_process", _fork)


def in_a_fork(*words: object) -> int:
    """The exit code of `groupwise words...` in a fork; -9 if it was killed."""
    import groupwise.run.loop  # noqa: F401

    return _fork([str(word) for word in words], "", None)[0]


def _fork(words: Sequence[str], label: str, signals: train_process.Signals | None) -> tuple[int, str]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _child(words, writer)
    os.close(writer)
    last = ""
    with open(reader, encoding="utf-8") as pipe:
        for line in pipe:
            last = line.rstrip()
            print(f"{label}  {last}", file=sys.stderr)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), last


def _child(words: Sequence[str], writer: int) -> None:
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(writer, 2)
        os.close(writer)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        sys.argv = ["groupwise", *words]
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(code)
