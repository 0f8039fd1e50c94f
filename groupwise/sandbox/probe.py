"""A sandbox tried before it is trusted: a program that attempts what none may do, and says what it managed.

Baits lie outside: a file that anybody may read, a folder that anybody may write, this process with its environment.
"""

import json
import os
import platform
import shutil
import stat
import tempfile
from pathlib import Path

from groupwise.sandbox.base import Limits, Sandbox, SandboxError

_CALLS = {
    "ptrace": (101, 117),
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "memfd_create": (319, 279),
    "pidfd_open": (434, 434),
    "process_vm_readv": (310, 270),
    "shmget": (29, 194),
    "mq_open": (240, 180),
    "chmod": (90, 53),
    "setpriority": (141, 140),
    "clone3": (435, 435),
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept4": (288, 242),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "sendmmsg": (307, 269),
    "recvmmsg": (299, 243),
    "setsockopt": (54, 208),
}
"""Calls that no program needs: numbers on x86-64 and aarch64."""

_PROGRAM = """
import ctypes, json, os, socket, sys

bait, pid, calls = json.loads(sys.stdin.read())
through = []
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def attempt(name, action):
    try:
        if action() is not False:
            through.append(name)
    except (OSError, MemoryError):
        pass


def forked():
    if os.fork() == 0:
        os._exit(0)


def called(number):
    first, zero = ctypes.c_long(16), ctypes.c_long(0)  # of ptrace: attach to no process
    done = libc.syscall(ctypes.c_long(number), first, zero, zero, zero, zero, zero) >= 0
    return done or ctypes.get_errno() not in (1, 13, 38)  # refused: EPERM, EACCES, ENOSYS


def executed():
    libc.execve(b"/none", None, None)
    return ctypes.get_errno() == 2  # that it is not there is learned by looking


def filled():
    with open("/tmp/fill", "wb", buffering=0) as file:
        os.unlink("/tmp/fill")
        return sum(file.write(b"0" * (1 << 20)) for _ in range(17)) > 16 << 20


attempt("read a file outside", lambda: open(bait + "/file").read())
attempt("list a folder outside", lambda: os.listdir(bait))
attempt("write a file outside", lambda: open(bait + "/file", "a"))
attempt("make a file outside", lambda: open(bait + "/open/new", "w"))
attempt("remove a file outside", lambda: os.unlink(bait + "/open/old"))
attempt("write beside the libraries", lambda: open(os.__file__, "a"))
attempt("read the environment of another process", lambda: open(f"/proc/{pid}/environ").read())
attempt("see variables of its parents", lambda: "GROUPWISE_BAIT" in os.environ)
attempt("signal another process", lambda: os.kill(pid, 0))
for family in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_ALG", "AF_VSOCK"):
    attempt(f"socket {family}", lambda: socket.socket(getattr(socket, family), socket.SOCK_DGRAM))
for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW):  # one of streams reaches nothing but itself
    attempt(f"socketpair {kind!r}", lambda: socket.socketpair(socket.AF_UNIX, kind))
attempt("out-of-band bytes", lambda: socket.socketpair()[0].send(b"x", socket.MSG_OOB))
attempt("fork", forked)
attempt("vfork", lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}))
attempt("execute a program", executed)
attempt("become root", lambda: os.setuid(0))
for end in range(3, 64):
    attempt(f"inherited descriptor {end}", lambda: os.fstat(end))
for name, number in calls:
    attempt(name, lambda: called(number))
attempt("memory beyond its limit", lambda: bytearray(1 << 30))
attempt("disk beyond its limit", filled)
print(json.dumps(through))
"""


def probe(sandbox: Sandbox) -> list[str]:
    """What a program managed that none may; [] if the sandbox held. Raises SandboxError if it cannot be tried."""
    column = 0 if platform.machine() == "x86_64" else 1
    calls = [(name, numbers[column]) for name, numbers in _CALLS.items()]
    folder = Path(tempfile.mkdtemp(prefix="groupwise-bait-"))
    os.environ["GROUPWISE_BAIT"] = "1"
    try:
        _lay(folder)
        before = _contents(folder)
        asked = json.dumps([str(folder), os.getpid(), calls]).encode()
        done = sandbox.run(_PROGRAM, asked, Limits(seconds=20.0, memory_mb=256))
        changed = ["change a file outside"] if _contents(folder) != before else []
    finally:
        os.environ.pop("GROUPWISE_BAIT", None)
        shutil.rmtree(folder, ignore_errors=True)
    if done.fault:
        raise SandboxError(f"the probe did not come to its end: {done.fault}")
    try:
        return [*json.loads(done.stdout), *changed]
    except ValueError:
        raise SandboxError(f"the probe answered {done.stdout[:60]!r}") from None


def _lay(folder: Path) -> None:
    """Baits that only a sandbox keeps a program from, whichever user it is."""
    folder.chmod(0o755)
    (folder / "file").write_text("bait")
    (folder / "open").mkdir()
    (folder / "open" / "old").write_text("bait")
    (folder / "file").chmod(0o666)
    (folder / "open").chmod(0o777)


def _contents(folder: Path) -> list[tuple[str, int, bytes]]:
    found = sorted(folder.rglob("*"))
    return [(str(p), stat.S_IMODE(p.stat().st_mode), p.read_bytes() if p.is_file() else b"") for p in found]
