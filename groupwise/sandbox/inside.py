"""What runs within a sandbox before the program does: gives up all rights, then becomes the program.

The standard library alone, and little of it, since every run pays for it. The launcher forks it, or sends it as code
into bubblewrap. Nothing of groupwise is imported here.
"""

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
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def call(function: "Any", *words: "Any") -> None:
        if function(*words) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), function.__name__)

    os.umask(0o077)
    os.chdir(rules["folder"])
    if rules["tmpfs"]:  # bubblewrap bounds its bytes, and not its files, of which each takes a kilobyte of the kernel's
        call(libc.mount, None, b"/tmp", None, _REMOUNT | _NO_SUID | _NO_DEVICES | _NO_EXEC, rules["tmpfs"].encode())
    if rules["uid"] is not None:
        os.setgroups([])
        os.setresgid(rules["uid"], rules["uid"], rules["uid"])
        os.setresuid(rules["uid"], rules["uid"], rules["uid"])
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    libc.syscall.argtypes = [ctypes.c_long] * 4
    if rules["tmpfs"] and rules["uid"] is None:  # of the right to mount; becoming another user has done the same
        header, nothing = ctypes.create_string_buffer(_CAPABILITIES_3), ctypes.create_string_buffer(24)
        call(libc.syscall, _CAPSET[os.uname().machine], ctypes.addressof(header), ctypes.addressof(nothing), 0)
    if rules["parent"]:
        call(libc.prctl, _SET_PDEATHSIG, 9, 0, 0, 0)
        if os.getppid() != rules["parent"]:
            raise OSError("the launcher has ended")
    call(libc.prctl, _SET_DUMPABLE, 0, 0, 0, 0)  # no core: RLIMIT_CORE does not bind a core_pattern with a pipe
    call(libc.prctl, _NO_NEW_PRIVS, 1, 0, 0, 0)
    if rules["ruleset"] is not None:
        call(libc.syscall, _LANDLOCK_RESTRICT, rules["ruleset"], 0, 0)
        os.close(rules["ruleset"])
    os.closerange(STATUS + 1, 1 << 20)
    for name, value in rules["limits"]:
        resource.setrlimit(getattr(resource, name), value)
    code = bytearray(rules["filter"])
    for place in rules["pid_places"]:
        code[place : place + 4] = os.getpid().to_bytes(4, "little")
    held = (ctypes.c_char * len(code)).from_buffer(code)

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    program = Program(len(code) // 8, ctypes.addressof(held))
    call(libc.prctl, _SET_SECCOMP, _FILTER_MODE, ctypes.addressof(program), 0, 0)


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
