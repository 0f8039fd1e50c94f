"""Which process writes a folder, and whether it lives: a lock held while it does, and a sign of life every few seconds.

The lock (flock) dies with its process and is seen by every process of the same kernel, whatever its container. Where a
file system has no locks, or another machine cannot see them, the file's time of change tells: a thread of the writer
touches it. Knows nothing of records.
"""

import errno
import fcntl
import json
import os
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from groupwise.errors import DataError, RunError

FILE = "writer.json"
BEAT_SECONDS = 5.0
WATCH_SECONDS = 20.0
"""How long a process on another machine is watched for a sign of life before it counts as gone."""
LONG_GONE_SECONDS = 600.0
"""Past this age of the last sign nobody is watched; clocks of machines that share a disk agree better than that."""
LOCK_SECONDS = 1.0
"""How long a lock is asked for again: a program that only looks holds it for a moment."""


@dataclass(frozen=True)
class Writer:
    """A process that writes. kernel: of its machine since it was booted; space: of its process numbers (a container's).

    began: clock ticks from boot to its start. locked: whether it holds the file's lock. age: seconds since its last
    sign of life.
    """

    pid: int
    host: str
    kernel: str
    space: str
    began: str
    locked: bool
    age: float = 0.0

    @property
    def here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.kernel == _kernel()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (last sign of life {max(self.age, 0):.0f} s ago)"


class Hold:
    """The right to write a folder, until it is released or the process ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor
        self._released = threading.Event()
        self._beat = threading.Thread(target=self._beats, name="sign of life", daemon=True)
        self._beat.start()

    def release(self) -> None:
        """Ends it; a second call does nothing."""
        if self._released.is_set():
            return
        self._released.set()
        self._beat.join()
        if _is_file(self._path, self._descriptor):  # else another has taken over
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _beats(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            try:
                os.utime(self._descriptor)
            except OSError:  # whoever wants to know it will see an old time
                continue


def hold(folder: Path) -> Hold:
    """The right to write a folder, which is made if missing.

    Watches a writer on another machine for a sign of life, up to WATCH_SECONDS. Raises DataError if one lives, RunError
    if the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _held(folder / FILE)
    except OSError as error:
        raise RunError(
            f"{folder / FILE}: {error.strerror}", hint="free some space or allow writing there, or choose another place"
        ) from error


def living_writer(folder: Path) -> Writer | None:
    """The process that writes a folder; None if there is none. A recent one on another machine counts as alive."""
    try:
        descriptor = os.open(folder / FILE, os.O_RDONLY)
    except OSError:
        return None
    try:
        writer = _read(descriptor)
        if _lock(descriptor, fcntl.LOCK_SH) is None:
            return writer or _UNKNOWN
        if writer is None or _is_gone(writer):
            return None
        return writer if writer.age < WATCH_SECONDS else None
    finally:
        os.close(descriptor)


def refuse_living(folder: Path) -> None:
    """Raises DataError if a process writes the folder, as far as can be seen without watching."""
    writer = living_writer(folder)
    if writer is not None and (writer.here or writer.age < 2 * BEAT_SECONDS):
        raise in_use(folder, writer)


def take_over(folder: Path) -> Writer | None:
    """Lets the next `hold` pass over whoever writes the folder, who is returned; that process cannot write on."""
    writer = living_writer(folder)
    (folder / FILE).unlink(missing_ok=True)
    return writer


def in_use(folder: Path, writer: Writer) -> DataError:
    return DataError(
        f"{folder} is being written by {writer}",
        hint="end that run first; if it is gone for good, add --resume --take-over",
    )


def _held(path: Path) -> Hold:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            before = _read(descriptor)
            locked = _lock(descriptor, fcntl.LOCK_EX, patience=LOCK_SECONDS)
            if locked is None:
                raise in_use(path.parent, before or _UNKNOWN)
            if not _is_file(path, descriptor):  # its holder has just ended and removed it
                os.close(descriptor)
                continue
            if before is not None and not _is_gone(before):
                _watch(path, before)
            content = json.dumps({**asdict(_this_process(locked)), "age": 0.0}).encode()
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, content, 0)
        except BaseException:
            os.close(descriptor)
            raise
        return Hold(path, descriptor)


def _watch(path: Path, writer: Writer) -> None:
    """Raises DataError at the first sign of life of a writer that is not seen otherwise."""
    if writer.age > LONG_GONE_SECONDS:
        return
    message = f"{path.parent}: waits {WATCH_SECONDS:.0f} s for a sign of life of {writer}; --take-over does not wait"
    print(message, file=sys.stderr, flush=True)
    first, until = _changed(path), time.monotonic() + WATCH_SECONDS
    while time.monotonic() < until:
        time.sleep(min(0.5, WATCH_SECONDS / 10))
        if _changed(path) != first:
            raise in_use(path.parent, writer)


def _changed(path: Path) -> int:
    """When a file was touched last; opened for it, since a network's file system looks anew only then."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return 0
    try:
        return os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)


def _is_gone(writer: Writer) -> bool:
    """True if it is certain that the process has ended, given that nobody holds the file's lock."""
    if not writer.here:
        return False
    if writer.locked:
        return True
    return writer.space == _space() and _began(writer.pid) != writer.began


def _lock(descriptor: int, kind: int, *, patience: float = 0.0) -> bool | None:
    """True: locked; None: another holds it; False: this file system has no locks."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return False
        if time.monotonic() >= until:
            return None
        time.sleep(0.05)


def _read(descriptor: int) -> Writer | None:
    """What a writer has told of itself; None where nothing whole is told."""
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
        age = time.time() - os.fstat(descriptor).st_mtime
        return Writer(**{**content, "age": age})
    except (OSError, ValueError, TypeError):
        return None


def _is_file(path: Path, descriptor: int) -> bool:
    """True if the open file is still what the path names."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _this_process(locked: bool) -> Writer:
    return Writer(os.getpid(), socket.gethostname(), _kernel(), _space(), _began(os.getpid()), locked)


_UNKNOWN = Writer(0, "a machine unknown", "", "", "", locked=True)


def _kernel() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _began(pid: int) -> str:
    """Clock ticks from the machine's boot to the start of a process; empty for a zombie or where there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return "" if state == "Z" else fields[18]
