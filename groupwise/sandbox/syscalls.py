"""The system calls that a program may make, as a seccomp filter. Everything that is not listed is refused.

Assembled here, in a hundred lines, rather than by libseccomp, which the machine would have to have: what a Python
program needs is short, and the same bytes serve every design.
"""

import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass

# name x86-64 aarch64; "-": the architecture has no such call
_TABLE = """
read 0 63; write 1 64; readv 19 65; writev 20 66; pread64 17 67; pwrite64 18 68; lseek 8 62; close 3 57
close_range 436 436; open 2 -; openat 257 56; creat 85 -; stat 4 -; fstat 5 80; lstat 6 -; newfstatat 262 79
statx 332 291; access 21 -; faccessat 269 48; faccessat2 439 439; readlink 89 -; readlinkat 267 78; getcwd 79 17
chdir 80 49; getdents64 217 61; mkdir 83 -; mkdirat 258 34; rmdir 84 -; unlink 87 -; unlinkat 263 35; rename 82 -
renameat 264 38; renameat2 316 276; symlink 88 -; symlinkat 266 36; link 86 -; linkat 265 37; truncate 76 45
ftruncate 77 46; flock 73 32; fsync 74 82; fdatasync 75 83; umask 95 166; dup 32 23; dup2 33 -; dup3 292 24
pipe 22 -; pipe2 293 59; select 23 -; pselect6 270 72; poll 7 -; ppoll 271 73; epoll_create 213 -
epoll_create1 291 20; epoll_ctl 233 21; epoll_wait 232 -; epoll_pwait 281 22; eventfd2 290 19
mmap 9 222; mprotect 10 226; munmap 11 215; mremap 25 216; madvise 28 233; brk 12 214; membarrier 324 283
rt_sigaction 13 134; rt_sigprocmask 14 135; rt_sigreturn 15 139; rt_sigpending 127 136; rt_sigsuspend 130 133
rt_sigtimedwait 128 137; sigaltstack 131 132; restart_syscall 219 128; pause 34 -; alarm 37 -; setitimer 38 103
getitimer 36 102; nanosleep 35 101; clock_nanosleep 230 115; clock_gettime 228 113; clock_getres 229 114
gettimeofday 96 169; time 201 -; times 100 153; getrusage 98 165; getrlimit 97 163; sysinfo 99 179; uname 63 160
getpid 39 172; gettid 186 178; getppid 110 173; getuid 102 174; geteuid 107 175; getgid 104 176; getegid 108 177
getgroups 115 158; getresuid 118 148; getresgid 120 150; getpgrp 111 -; getpgid 121 155; getsid 124 156
futex 202 98; set_robust_list 273 99; set_tid_address 218 96; rseq 334 293; sched_yield 24 124; getcpu 309 168
getrandom 318 278; arch_prctl 158 -; exit 60 93; exit_group 231 94
clone 56 220; clone3 435 435; kill 62 129; tgkill 234 131; ioctl 16 29; prctl 157 167; prlimit64 302 261
fcntl 72 25; sched_getaffinity 204 123; socketpair 53 199; sendto 44 206; recvfrom 45 207
"""
_COLUMN = {"x86_64": 0, "aarch64": 1}
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_EPERM, _ENOSYS = 0x00050001, 0x00050026
_OWN_PID = 0xFFFFFFFF
"""Stands for the number of the process that the filter is put on, until `patched`."""

# What glibc and musl (with one flag more, which means nothing) start a thread with; all else is a new process.
_THREAD, _THREAD_MASK = 0x003D0F00, 0xFFBFFFFF

_WHOLE = 0xFFFFFFFF
Test = tuple[int, int, tuple[int, ...]]
"""An argument's index, a mask, and the values that it may have after the mask."""

ARGUMENTS: dict[str, tuple[Test, ...]] = {
    "clone": ((0, _THREAD_MASK, (_THREAD,)),),
    "kill": ((0, _WHOLE, (_OWN_PID,)),),
    "tgkill": ((0, _WHOLE, (_OWN_PID,)),),
    # What wakes an event loop: AF_UNIX and SOCK_STREAM, perhaps SOCK_CLOEXEC or SOCK_NONBLOCK. Both ends are the
    # program's own. A datagram socket could name another one by its path; a descriptor goes by sendmsg alone.
    "socketpair": ((0, _WHOLE, (1,)), (1, 0xFFF7F7FF, (1,)), (2, _WHOLE, (0,))),
    # No flags: MSG_OOB is a way into the kernel that nothing needs. No address, by its length.
    "sendto": ((3, _WHOLE, (0, 0x4000)), (5, _WHOLE, (0,))),
    "recvfrom": ((3, _WHOLE, (0,)),),
    # TCGETS (is it a terminal?), TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX: nothing that types into a terminal
    "ioctl": ((1, _WHOLE, (0x5401, 0x5413, 0x541B, 0x5421, 0x5451, 0x5450)),),
    # PR_SET_NAME, PR_GET_NAME, PR_SET_VMA (names that malloc gives its memory)
    "prctl": ((0, _WHOLE, (15, 16, 0x53564D41)),),
    "prlimit64": ((0, _WHOLE, (0,)),),
    # F_DUPFD, GETFD, SETFD, GETFL, SETFL, GETLK, SETLK, SETLKW, DUPFD_CLOEXEC, GETPIPE_SZ: no owner for signals
    "fcntl": ((1, _WHOLE, (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032)),),
    "sched_getaffinity": ((0, _WHOLE, (_OWN_PID, 0)),),
}
"""Calls that are allowed with some values of their arguments alone: all of the tests must hold.

The kernel reads each of these arguments as 32 bits, so the lower half alone is looked at."""


@dataclass(frozen=True)
class Filter:
    """A seccomp program as bytes. pid_places: where the process's own number belongs, in bytes from its start."""

    code: bytes
    pid_places: tuple[int, ...]


def numbers(machine: str) -> dict[str, int]:
    """The listed calls by name, with their numbers on an architecture."""
    rows = (row.split() for row in _TABLE.replace("\n", ";").split(";") if row.strip())
    found = {name: columns[_COLUMN[machine]] for name, *columns in rows}
    return {name: int(number) for name, number in found.items() if number != "-"}


def known(machine: str | None = None) -> bool:
    """Whether there is a table for this machine's architecture."""
    return (machine or platform.machine()) in _COLUMN


def assembled(machine: str | None = None) -> Filter:
    """The filter for an architecture (None: this machine's).

    A foreign one (i386 on x86-64, x32) kills the process; a call that is not listed fails with EPERM, clone3 with
    ENOSYS, so that the C library falls back to clone, whose flags a filter can see."""
    machine = machine or platform.machine()
    calls = numbers(machine)
    steps = [_step(_LOAD, 4), _step(_EQUAL, _AUDIT[machine], 1, 0), _step(_RETURN, _KILL), _step(_LOAD, 0)]
    if machine == "x86_64":
        steps += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _KILL)]
    for name, number in calls.items():
        if name == "clone3":
            steps += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ENOSYS)]
        elif name in ARGUMENTS:
            block = list(_by_arguments(ARGUMENTS[name]))
            steps += [_step(_EQUAL, number, 0, len(block)), *block]
        else:
            steps += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
    steps.append(_step(_RETURN, _EPERM))
    places = tuple(8 * at + 4 for at, step in enumerate(steps) if step[:2] == b"\x15\x00" and step[4:] == b"\xff" * 4)
    return Filter(b"".join(steps), places)


def _by_arguments(tests: tuple[Test, ...]) -> Iterator[bytes]:
    for index, mask, values in tests:
        yield _step(_LOAD, 16 + 8 * index)  # both architectures are little-endian: the lower half comes first
        yield _step(_AND, mask)
        for place, value in enumerate(values):
            yield _step(_EQUAL, value, len(values) - place, 0)
        yield _step(_RETURN, _EPERM)
    yield _step(_RETURN, _ALLOW)


def _step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, operand)
