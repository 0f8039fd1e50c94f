"""Which files a program sees: a Python interpreter, its standard library, the shared libraries of both. Nothing else.

Of the user's own packages nothing is seen, nor the folder of the run.
"""

import functools
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from groupwise.sandbox.base import SandboxError

_LOOK = """
import importlib, json, os, sys, sysconfig
dynload = os.path.join(sysconfig.get_path("platstdlib"), "lib-dynload")
unused = ("_test", "_xx", "xx", "_tkinter", "_curses", "_dbm", "_gdbm", "nis", "ossaudiodev", "readline", "spwd")
for name in sorted(os.listdir(dynload) if os.path.isdir(dynload) else ()):
    if not name.startswith(unused):
        try:
            importlib.import_module(name.partition(".")[0])
        except Exception:
            pass
mapped = {line.split()[-1] for line in open("/proc/self/maps")}
libraries = {path for path in mapped if ".so" in path and path[0] == "/" and not path.startswith(dynload)}
links = {}
for folder in {os.path.dirname(path) for path in libraries} | {"/lib64", "/lib"}:
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(os.path.realpath(folder), name)
        if ".so." in name and os.path.islink(path) and os.path.realpath(path) in libraries:
            links[path] = os.path.realpath(path)
for link in ("/lib", "/lib64"):
    if os.path.islink(link):
        links[link] = os.path.realpath(link)
print(json.dumps({
    "version": list(sys.version_info[:3]), "executable": os.path.realpath(sys.executable),
    "path": [place for place in sys.path if os.path.exists(place)],
    "libraries": sorted(libraries), "links": sorted(links.items()),
}))
"""
# Files beside the interpreter's own that programs may read: where libraries are, time zones.
_COMMON = ("/etc/ld.so.cache", "/usr/share/zoneinfo")
_UNSEEN = ("site-packages", "dist-packages", "test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3")
"""Folders of the standard library's folder that no program sees."""


@dataclass(frozen=True)
class View:
    """executable: of the interpreter. path: its folders of modules. files: what else is read. links: names by which
    some of them are known, and what each is a link to. version: of Python."""

    executable: str
    path: tuple[str, ...]
    files: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    version: tuple[int, ...]

    @property
    def hidden(self) -> list[str]:
        """Folders within `path` that are not seen."""
        return [place for folder in self.path for name in _UNSEEN if os.path.isdir(place := os.path.join(folder, name))]

    @property
    def modules(self) -> list[str]:
        """What is seen within `path`: files and folders."""
        return [
            os.path.join(folder, name)
            for folder in self.path
            if os.path.isdir(folder)
            for name in sorted(os.listdir(folder))
            if name not in _UNSEEN and not name.startswith("config-")
        ]


@functools.cache
def view_of(executable: str) -> View:
    """What a program sees of an interpreter. Raises SandboxError if it cannot be asked."""
    words = [executable, "-I", "-S", "-B", "-c", _LOOK]
    try:
        done = subprocess.run(words, capture_output=True, timeout=60, env={}, cwd="/", stdin=subprocess.DEVNULL)
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise SandboxError(f"the interpreter {executable} cannot be asked for its files: {error}") from None
    common = [place for place in _COMMON if os.path.exists(place)]
    links = tuple((link, target) for link, target in found["links"])
    return View(
        found["executable"], tuple(found["path"]), (*found["libraries"], *common), links, tuple(found["version"])
    )


def interpreters() -> Iterator[str]:
    """Interpreters that this user can start: first the one that runs this, then those of the system."""
    own = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    seen = dict.fromkeys([own, *(f"{folder}/python3" for folder in ("/usr/local/bin", "/usr/bin"))])
    yield from (place for place in seen if os.access(place, os.X_OK))


def readable_by_others(view: View) -> bool:
    """Whether a user with no rights here can read all of it."""
    return all(_open_to_all(Path(place)) for place in (view.executable, *view.path))


def copied(view: View) -> View:
    """The view with its modules in a folder that anybody can read and root alone can write; made once.

    For an interpreter below a closed folder such as /root. Raises SandboxError if there is no place for it."""
    library = next(place for place in view.path if os.path.isdir(place))
    name = "-".join(["groupwise-python", ".".join(map(str, view.version)), library.strip("/").replace("/", "-")])
    for parent in ("/var/cache", tempfile.gettempdir()):
        place = os.path.join(parent, name)
        try:
            if not _ours(place):
                _copy(library, place)
            path = (place, *(place + folder.removeprefix(library) for folder in view.path if folder != library))
            return replace(view, path=tuple(filter(os.path.isdir, path)))
        except OSError:
            continue
    raise SandboxError("no place for a copy of Python's standard library in /var/cache or the temporary folder")


def _copy(library: str, place: str) -> None:
    fresh = tempfile.mkdtemp(dir=os.path.dirname(place), prefix=".groupwise-python-")
    try:
        shutil.copytree(
            library, fresh, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_UNSEEN, "tests", "config-*")
        )
        os.chmod(fresh, 0o755)
        os.rename(fresh, place)
    except (OSError, shutil.Error):
        shutil.rmtree(fresh, ignore_errors=True)
        if not _ours(place):  # else another process was quicker
            raise


def _ours(place: str) -> bool:
    try:
        found = os.lstat(place)
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise OSError(f"{place} is not this user's alone")
    return True


def _open_to_all(place: Path) -> bool:
    for folder in (place, *place.parents):
        try:
            mode = folder.stat().st_mode
        except OSError:
            return False
        if not mode & (stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH):
            return False
    return True
