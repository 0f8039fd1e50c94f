"""The designs of a sandbox, and which one holds here: each is probed when it is opened. There is no open mode."""

import functools
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from groupwise.errors import ConfigError
from groupwise.sandbox.base import Sandbox, SandboxError
from groupwise.sandbox.local import LocalSandbox
from groupwise.sandbox.probe import probe
from groupwise.sandbox.remote import RemoteSandbox
from groupwise.sandbox.syscalls import assembled, known
from groupwise.sandbox.view import View, copied, interpreters, readable_by_others, view_of

_DISK_BYTES = 16 << 20
_THREADS = 128
_FIRST_USER, _USERS = 61184, 4336
"""User numbers that systemd keeps for services of a moment; each slot takes one, so that no program meets another."""
_LANDLOCK_ABI = 6
"""The first that holds back signals and abstract sockets."""


def bubblewrap(slots: int, memory_mb: int) -> Sandbox:
    """Namespaces by bubblewrap: a file system of its own, no network, no other process. Raises SandboxError."""
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError("bubblewrap is not installed (apt install bubblewrap, dnf install bubblewrap)")
    root = os.geteuid() == 0
    view = _first_view()
    words = [os.path.realpath(program), *_bubblewrap_words(view, root)]

    def config(slot: int) -> dict[str, Any]:
        return {**_common("bubblewrap", view, slot), "bubblewrap": words}

    return LocalSandbox(config, slots=slots, memory_mb=memory_mb)


def landlock(slots: int, memory_mb: int) -> Sandbox:
    """No file but the interpreter's, by Landlock; where root, a user with no rights. Raises SandboxError."""
    abi = landlock_abi()
    if abi < _LANDLOCK_ABI:
        have = f"ABI {abi}" if abi else "none"
        raise SandboxError(f"Landlock of ABI {_LANDLOCK_ABI} is needed (Linux 6.12), this kernel has {have}")
    view = _first_view()
    if os.geteuid() == 0 and not readable_by_others(view):
        view = copied(view)
    devices = [place for place in ("/dev/zero", "/dev/urandom", "/dev/random") if os.path.exists(place)]

    def config(slot: int) -> dict[str, Any]:
        readable = [*view.modules, *(place for place in view.path if os.path.isdir(place)), *view.files, *devices]
        return {**_common("landlock", view, slot), "readable": readable, "writable": ["/dev/null"]}

    return LocalSandbox(config, slots=slots, memory_mb=memory_mb)


DESIGNS: dict[str, Callable[[int, int], Sandbox]] = {"bubblewrap": bubblewrap, "landlock": landlock}
"""Designs on this machine by name, the strongest first."""


def open_sandbox(design: str = "auto", *, url: str | None = None, slots: int = 2, memory_mb: int = 1024) -> Sandbox:
    """A sandbox that withstood every probe. design: a name of DESIGNS, or auto, the first that does.

    url: of a remote sandbox, instead. slots: programs at once. memory_mb: the most that a run may ask for, MiB.
    Raises ConfigError, with what to install, if a probe gets through or no design works."""
    if url is not None:
        return _remote(url)
    if design != "auto" and design not in DESIGNS:
        raise ConfigError(
            f"sandbox design {design!r}: no such name", hint=f"choose from: {', '.join(['auto', *DESIGNS])}"
        )
    why = []
    for name in DESIGNS if design == "auto" else (design,):
        try:
            return _probed(name, slots, memory_mb)
        except SandboxError as error:
            why.append(f"{name}: {error.message}")
    raise ConfigError(
        f"no sandbox works here, and code that a model wrote runs in nothing else: {'; '.join(why)}",
        hint="install bubblewrap (apt install bubblewrap) and allow user namespaces, use Linux 6.12 or newer with "
        "Landlock, or name a remote sandbox by its url",
    )


def _remote(url: str) -> Sandbox:
    try:
        sandbox = RemoteSandbox(url)
        through = sandbox.probe()
    except SandboxError as error:
        raise ConfigError(f"no sandbox at {url}: {error.message}", hint="start it, or correct the url") from None
    if through:
        raise ConfigError(
            f"the sandbox at {url} is none for this machine: a program there could {' and '.join(through)}",
            hint="run the service in a container without this machine's network and files, or on another machine",
        )
    return sandbox


def _probed(name: str, slots: int, memory_mb: int) -> Sandbox:
    if sys.platform != "linux" or not known():
        raise SandboxError(f"it needs Linux on x86-64 or aarch64, this is {platform.system()} {platform.machine()}")
    sandbox = DESIGNS[name](slots, memory_mb)
    try:
        through = probe(sandbox)
    except BaseException:
        sandbox.close()
        raise
    if through:
        sandbox.close()
        raise SandboxError(f"a probe got through: {', '.join(through)}")
    return sandbox


def landlock_abi() -> int:
    """Landlock's version in this kernel; 0: it has none."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return max(0, int(libc.syscall(444, None, ctypes.c_size_t(0), 1)))


def _first_view() -> View:
    """What is seen of the first interpreter that can be asked: this one, unless this user cannot start it."""
    errors = []
    for place in interpreters():
        try:
            view = view_of(place)
        except SandboxError as error:
            errors.append(error.message)
            continue
        if view.version >= (3, 11):
            return view
        errors.append(f"{place} is older than 3.11")
    raise SandboxError("no interpreter can be started: " + "; ".join(errors or ["there is none"]))


def _common(design: str, view: View, slot: int) -> dict[str, Any]:
    """What every design says to its launcher; see groupwise.sandbox.launcher."""
    root = os.geteuid() == 0
    seccomp = assembled()
    return {
        "design": design,
        "executable": view.executable,
        "path": list(view.path),
        "filter": seccomp.code,
        "pid_places": list(seccomp.pid_places),
        "uid": _user_of(slot) if root else None,
        # of root's programs each slot has a user of its own; else the user's other tasks count too
        "threads": _THREADS if root else _THREADS + 8 * _THREADS + sum(_own_tasks()),
    }


def _user_of(slot: int) -> int:
    """A user number that is mapped here."""
    wanted = _FIRST_USER + (os.getpid() * 16 + slot) % _USERS
    rows = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return wanted if any(first <= wanted < first + count for first, _, count in rows) else 65534


def _own_tasks() -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == os.geteuid():
                yield len(os.listdir(folder / "task"))
        except OSError:
            continue


def _bubblewrap_words(view: View, root: bool) -> list[str]:
    words = ["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--hostname", "sandbox"]
    # Root needs no user namespace, and becomes a user whose threads are counted. What the first steps in there need
    # (groupwise.sandbox.inside.confine), they give up.
    words += ["--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"]
    words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else ["--unshare-user"]
    folders = [place for place in view.path if os.path.isdir(place)]
    outer = [place for place in folders if not any(place.startswith(f"{other}/") for other in folders)]
    shown = [view.executable, *view.files, *outer]
    for folder in sorted({str(folder) for place in shown for folder in Path(place).parents} - {"/"}):
        words += ["--perms", "0755", "--dir", folder]
    for link, target in sorted(view.links, key=lambda pair: len(pair[0])):  # /lib before what is in it
        words += ["--symlink", target, link]
    for place in shown:
        words += ["--ro-bind", place, place]
    for place in view.hidden:
        words += ["--tmpfs", place, "--remount-ro", place]
    words += ["--perms", "1777", "--size", str(_DISK_BYTES), "--tmpfs", "/tmp", "--tmpfs", "/dev"]
    for device in ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"):
        words += ["--dev-bind", device, device]
    return [*words, "--symlink", "/tmp", "/dev/shm", "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]


@functools.cache
def available() -> dict[str, str]:
    """Of each design on this machine "" if it opens and withstands the probes, else why not."""
    found = {}
    for name in DESIGNS:
        try:
            _probed(name, 1, 256).close()
            found[name] = ""
        except SandboxError as error:
            found[name] = error.message
    return found
