"""Every attack against one design, as root or as nobody, in a process that adopts whatever an attack leaves behind."""

import ctypes
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from groupwise.errors import ConfigError
from groupwise.sandbox import designs
from groupwise.sandbox.base import Limits, SandboxError
from tests.sandbox.attacks import ATTACKS

NOBODY = 65534
_SET_CHILD_SUBREAPER = 36


def fought(design: str, root: bool, names: Iterable[str], *, arenas: int = 8) -> dict[str, str]:
    """By attack "" if it was contained, else what happened; `survivors`: processes left behind.

    arenas: each a process with a sandbox and a folder of its own, side by side, since most attacks wait for a limit.
    A dict with `unavailable` alone where the design does not open for this user."""
    attacks, found, survivors = list(names), dict[str, str](), []
    with tempfile.TemporaryDirectory(prefix="groupwise-arena-") as folder:
        Path(folder).chmod(0o711)
        ends = [
            _begun(partial(_fight, design, root, attacks[arena::arenas], _outside(Path(folder) / str(arena))))
            for arena in range(min(arenas, len(attacks)))
        ]
        for own in map(_ended, ends):
            survivors.append(own.pop("survivors", ""))
            found |= own
    return found if {"raised", "unavailable"} & found.keys() else {**found, "survivors": " ".join(survivors).strip()}


def _outside(folder: Path) -> Path:
    """A folder with two files that no attack may read or change."""
    folder.mkdir()
    folder.chmod(0o777)
    for name in ("secret", "precious"):
        (folder / name).write_text("untouched")
        (folder / name).chmod(0o666)
    return folder


def in_a_child(work: Callable[[], Any]) -> Any:
    """What the function returns, called in a fork of this process."""
    return _ended(_begun(work))


def _begun(work: Callable[[], Any]) -> tuple[int, int]:
    """A fork that calls the function: its process id, and where what it returns can be read."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            text = json.dumps(work())
        except BaseException:
            text = json.dumps({"raised": traceback.format_exc()})
        try:
            with os.fdopen(writer, "w") as pipe:
                pipe.write(text)
        finally:
            os._exit(0)
    os.close(writer)
    return child, reader


def _ended(begun: tuple[int, int]) -> Any:
    child, reader = begun
    with os.fdopen(reader) as pipe:
        found = json.loads(pipe.read() or '{"raised": "the child died"}')
    os.waitpid(child, 0)
    return found


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def descendants() -> list[int]:
    """Every process below this one that is no zombie."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def _fight(design: str, root: bool, names: list[str], outside: Path) -> dict[str, str]:
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.geteuid() == 0 and not root:
        become_nobody()
    os.environ["SECRET"] = "SECRET"
    try:
        sandbox = designs.open_sandbox(design, slots=1, memory_mb=256)
    except ConfigError as error:
        return {"unavailable": str(error)}
    found = {name: _attack(sandbox, name, outside) for name in names}
    sandbox.close()
    deadline = time.monotonic() + 5
    while (left := descendants()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return {**found, "survivors": " ".join(map(str, left))}


def _attack(sandbox: Any, name: str, outside: Path) -> str:
    attack = ATTACKS[name]
    try:
        outcome = sandbox.run(attack.program(str(outside), os.getpid()), b"", attack.limits)
        alive = sandbox.run("print(6 * 7)", b"", Limits(memory_mb=256))
    except SandboxError as error:
        return f"the sandbox failed: {error}"
    if b"THROUGH" in outcome.stdout:
        return next(line for line in outcome.stdout.decode().splitlines() if "THROUGH" in line)
    if not attack.holds(outcome):
        return f"{outcome.ended} {outcome.code} {outcome.stdout[-200:]!r} {outcome.stderr[-300:]!r}"
    if alive.stdout != b"42\n":
        return f"the next program got {alive}"
    files = {path.name: path.read_text() for path in outside.iterdir()}
    return "" if files == {"secret": "untouched", "precious": "untouched"} else f"outside changed: {files}"
