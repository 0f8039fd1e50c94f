"""What runs within a sandbox before the program does: gives up all rights, then becomes the program.

The standard library alone, and little of it, since every run pays for it. The launcher forks it, or sends it as code
into bubblewrap. Nothing of groupwise is imported here.
"""

import _ctypes  # ctypes itself would take a run four milliseconds
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would take a run two milliseconds
    from typing import Any, BinaryIO

SOURCE, STATUS = 3, 4
"""Ends of pipes: the program comes in by the one; by the other one byte goes out once all rights are given up."""
_NO_NEW_PRIVS, _SET_SECCOMP, _SET_DUMPABLE, _SET_PDEATHSIG, _FILTER_MODE = 38, 22, 4, 1, 2
_LANDLOCK_RESTRICT = 446
_REMOUNT, _NO_SUID, _NO_DEVICES, _NO_EXEC = 32, 2, 4, 8
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITIES_3 = (0x20080522).to_bytes(4, "little") + bytes(4)


def confine(rules: "dict[str, Any]") -> None:
    """Gives up all that the program must not have. rules: see groupwise.sandbox.launcher.rules_of.

    Raises OSError if anything is refused; then the program must not run."""
    os.umask(0o077)
    os.chdir(rules["folder"])
    if rules["tmpfs"]:  # bubblewrap bounds its bytes, and not its files, of which each takes a kilobyte of the kernel's
        flags = _REMOUNT | _NO_SUID | _NO_DEVICES | _NO_EXEC
        _call("mount", None, b"/tmp", None, flags, rules["tmpfs"].encode())
    if rules["uid"] is not None:
        os.setgroups([])
        os.setresgid(rules["uid"], rules["uid"], rules["uid"])
        os.setresuid(rules["uid"], rules["uid"], rules["uid"])
    elif rules["tmpfs"]:  # the right to mount; becoming another user gives it up too
        _call("syscall", _CAPSET[os.uname().machine], _CAPABILITIES_3, bytes(24))
    if rules["parent"]:
        _call("prctl", _SET_PDEATHSIG, 9, 0, 0, 0)
        if os.getppid() != rules["parent"]:
            raise OSError("the launcher has ended")
    _call("prctl", _SET_DUMPABLE, 0, 0, 0, 0)  # no core: RLIMIT_CORE does not bind a core_pattern with a pipe
    _call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)
    if rules["ruleset"] is not None:
        _call("syscall", _LANDLOCK_RESTRICT, rules["ruleset"], 0)
        os.close(rules["ruleset"])
    os.closerange(STATUS + 1, 1 << 20)
    for name, value in rules["limits"]:
        resource.setrlimit(getattr(resource, name), value)
    code = bytearray(rules["filter"])
    for place in rules["pid_places"]:
        code[place : place + 4] = os.getpid().to_bytes(4, "little")

    class Steps(_ctypes.Array):
        _type_ = _Byte
        _length_ = len(code)

    held = Steps.from_buffer(code)
    # struct sock_fprog: how many steps, and where they are
    program = (len(code) // 8).to_bytes(8, "little") + _ctypes.addressof(held).to_bytes(8, "little")
    _call("prctl", _SET_SECCOMP, _FILTER_MODE, program, 0, 0)


class _Byte(_ctypes._SimpleCData):
    _type_ = "c"


def _call(name: str, *words: "int | bytes | None") -> None:
    """Calls a function of the C library. Raises OSError unless it returns 0."""
    library = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
    if _ctypes.call_cdeclfunction(_ctypes.dlsym(library, name), words) != 0:
        raise OSError(f"{name}{words[:2]} was refused")


def become(source: bytes, path: "list[str]", preloaded: bool) -> None:
    """Runs the source as the main module and ends the process as Python would; does not return.

    preloaded: the process was forked, and has modules and streams of the launcher's."""
    if preloaded:
        for name in [name for name in sys.modules if name.partition(".")[0] == "groupwise"]:
            del sys.modules[name]
        sys.path_importer_cache.clear()
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, errors="backslashreplace", buffering=1)  # noqa: SIM115
        sys.__dict__.update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)
    _name_streams()
    sys.path[:] = path
    sys.argv[:] = ["program.py"]
    main = type(sys)("__main__")
    main.__dict__.update(__builtins__=__import__("builtins"), exit=sys.exit, quit=sys.exit)
    sys.modules["__main__"] = main
    status = 0
    try:
        exec(compile(source, "<program>", "exec", dont_inherit=True), main.__dict__)
    except SystemExit as ended:
        status = _exit_status(ended.code)
    except BaseException as error:
        shown = error.__traceback__.tb_next if error.__traceback__ else None
        sys.excepthook(type(error), error.with_traceback(shown), shown)
        status = 1
    _finish(status)


def _name_streams() -> None:
    """Lets programs open their streams by name, as /dev/stdin: there is no /proc that such a name could lead to."""
    import builtins
    import io

    names = {f"/dev/{name}": end for end, name in enumerate(("stdin", "stdout", "stderr"))}
    names.update({f"{folder}/{end}": end for folder in ("/dev/fd", "/proc/self/fd") for end in range(3)})
    opened, opened_low = io.open, os.open

    def stream(file: "Any") -> "int | None":
        try:
            return names.get(os.fspath(file))
        except TypeError:  # a descriptor
            return None

    def open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):  # type: ignore[no-untyped-def]
        end = stream(file)
        if end is not None and opener is None:
            file, mode = os.dup(end), mode.replace("a", "w").replace("+", "") if isinstance(mode, str) else mode
        return opened(file, mode, buffering, encoding, errors, newline, closefd, opener)

    def open_low(path, flags, mode=0o777, *, dir_fd=None):  # type: ignore[no-untyped-def]
        end = stream(path)
        return opened_low(path, flags, mode, dir_fd=dir_fd) if end is None else os.dup(end)

    open.__doc__, open_low.__doc__, open_low.__name__ = opened.__doc__, opened_low.__doc__, "open"
    builtins.open = io.open = open
    os.open = open_low


def _exit_status(code: "Any") -> int:
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def _finish(status: int) -> None:
    """Waits for threads, runs what was registered with atexit, flushes, exits."""
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        if "atexit" in sys.modules:
            sys.modules["atexit"]._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            try:
                stream.flush()  # type: ignore[union-attr]
            except Exception:
                status = status or 120
        os._exit(status)


def main(rules: "dict[str, Any]", pipe: "BinaryIO") -> None:
    """Confines this process, reads the program from the pipe and becomes it. rules: as `confine` takes them."""
    confine(rules)
    os.write(STATUS, b"+")
    os.close(STATUS)
    source = pipe.read()
    pipe.close()
    become(source, rules["path"], rules["preloaded"])
