"""Programs that try to get out, and what shows that they did not. A line with THROUGH in the output is a way out.

`make sandbox` runs all of them against every design, as root and not.
"""

# ruff: noqa: E501  a program is easier to read on the lines that it has

import os
from collections.abc import Callable
from dataclasses import dataclass

from groupwise.sandbox.base import Limits, Outcome

FOLDER = "@FOLDER@"
"""Stands for a folder outside, open to all, with the files `secret` and `precious`; PID for a process outside."""
PID = "@PID@"

_HEAD = """
import ctypes, os, signal, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
X86 = os.uname().machine == "x86_64"

def call(x86, arm, *words):
    done = libc.syscall(ctypes.c_long(x86 if X86 else arm), *[ctypes.c_long(w) if isinstance(w, int) else w for w in words])
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done

def refused(name, action):
    try:
        found = action()
    except (OSError, MemoryError, RuntimeError, ValueError) as error:
        print("refused", name, type(error).__name__)
    else:
        print("THROUGH", name, repr(found)[:80])
"""


def _contained(outcome: Outcome) -> bool:
    return "refused" in outcome.stdout.decode()


_USUAL = Limits(seconds=5.0, memory_mb=256)


@dataclass(frozen=True)
class Attack:
    """source: the program, behind _HEAD. holds: whether its outcome is that of a contained one."""

    source: str
    holds: Callable[[Outcome], bool] = _contained
    limits: Limits = _USUAL

    def program(self, folder: str, pid: int) -> str:
        return (_HEAD + self.source).replace(FOLDER, folder).replace(PID, str(pid))


def _ended(*how: str) -> Callable[[Outcome], bool]:
    return lambda outcome: outcome.ended in how and b"THROUGH" not in outcome.stdout


_SHORT = Limits(seconds=0.7, memory_mb=256)
_x86_only = os.uname().machine == "x86_64"

ATTACKS = {
    "read a file": Attack(f'refused("open", lambda: open("{FOLDER}/secret").read())'),
    "read system files": Attack(
        'for p in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/root/.bashrc", "/proc/version"):\n'
        "    refused(p, lambda: open(p).read())"
    ),
    "list folders": Attack(
        f'for p in ("{FOLDER}", "/home", "/var", "/proc", "/sys"):\n    refused(p, lambda: os.listdir(p))'
    ),
    "write a file": Attack(f'refused("write", lambda: open("{FOLDER}/precious", "w").write("x"))'),
    "remove and rename": Attack(
        f'refused("unlink", lambda: os.unlink("{FOLDER}/precious"))\n'
        f'refused("rename", lambda: os.rename("{FOLDER}/precious", "{FOLDER}/other"))\n'
        f'refused("truncate", lambda: os.truncate("{FOLDER}/precious", 0))'
    ),
    "rights and times of a file": Attack(
        f'refused("chmod", lambda: os.chmod("{FOLDER}/precious", 0))\n'
        f'refused("utime", lambda: os.utime("{FOLDER}/precious", (0, 0)))\n'
        f'refused("setxattr", lambda: os.setxattr("{FOLDER}/precious", "user.a", b"1"))'
    ),
    "links out": Attack(
        'here = "/tmp/l" if os.access("/tmp", os.W_OK) else "l"\n'
        f'refused("link", lambda: os.link("{FOLDER}/secret", here + "1"))\n'
        "def through_link():\n"
        f'    os.symlink("{FOLDER}/secret", here)\n'
        "    return open(here).read()\n"
        'refused("symlink", through_link)'
    ),
    "climb out by ..": Attack(
        'refused("dots", lambda: open("../" * 40 + "etc/passwd").read())\n'
        'refused("proc", lambda: open("/proc/self/root/etc/passwd").read())\n'
        'refused("chroot", lambda: os.chroot("/tmp"))'
    ),
    "handles": Attack(
        'refused("open_by_handle_at", lambda: call(304, 265, -100, b"\\0" * 32, 0))\n'
        f'refused("name_to_handle_at", lambda: call(303, 264, -100, b"{FOLDER}/secret", b"\\0" * 64, b"\\0" * 8, 0))'
    ),
    "the interpreter's files": Attack(
        'refused("module", lambda: open(os.__file__, "a"))\n'
        'refused("beside", lambda: open(os.path.dirname(os.__file__) + "/evil.py", "w"))\n'
        'refused("binary", lambda: open(sys.executable, "r+b"))'
    ),
    "environment of others": Attack(
        f'for p in ("{PID}", "1", str(os.getppid()), "self"):\n'
        '    refused(p, lambda: open(f"/proc/{p}/environ", "rb").read())\n'
        'if any("SECRET" in value for value in os.environ): print("THROUGH environ")'
    ),
    "memory of others": Attack(
        f"for p in ({PID}, os.getppid()):\n"
        '    refused("mem", lambda: open(f"/proc/{p}/mem", "rb"))\n'
        '    refused("vm_readv", lambda: call(310, 270, p, b"\\0" * 16, 1, b"\\0" * 16, 1, 0))\n'
        '    refused("vm_writev", lambda: call(311, 271, p, b"\\0" * 16, 1, b"\\0" * 16, 1, 0))'
    ),
    "ptrace": Attack(
        f'for p in ({PID}, os.getppid()):\n    refused("attach", lambda: call(101, 117, 16, p, 0, 0))\n'
        'refused("seize", lambda: call(101, 117, 0x4206, os.getppid(), 0, 0))\n'
        'refused("traceme", lambda: call(101, 117, 0, 0, 0, 0))'
    ),
    "signals": Attack(
        f"for p in ({PID}, os.getppid(), 1, -1, 0):\n"
        "    for number in (0, signal.SIGKILL):\n"
        '        refused(f"kill {p}", lambda: os.kill(p, number))\n'
        f'refused("pidfd", lambda: call(434, 434, {PID}, 0))\n'
        f'refused("tgkill", lambda: call(234, 131, {PID}, {PID}, 9))\n'
        f'refused("sigqueue", lambda: call(129, 138, {PID}, 9, b"\\0" * 128))'
    ),
    "signals by owner of a pipe": Attack(
        f'import fcntl\nr, w = os.pipe()\nrefused("F_SETOWN", lambda: fcntl.fcntl(r, fcntl.F_SETOWN, {PID}))\n'
        'refused("F_SETSIG", lambda: fcntl.fcntl(r, 10, signal.SIGKILL))'
    ),
    "priority and limits of others": Attack(
        f'refused("setpriority", lambda: os.setpriority(os.PRIO_PROCESS, {PID}, 19))\n'
        f'import resource\nrefused("prlimit", lambda: resource.prlimit({PID}, resource.RLIMIT_NOFILE, (1, 1)))\n'
        f'refused("affinity", lambda: os.sched_setaffinity({PID}, [0]))\n'
        'refused("nice", lambda: os.nice(-5))\n'
        'refused("scheduler", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))'
    ),
    "raise its own limits": Attack(
        "import resource\n"
        "for name in ('RLIMIT_AS', 'RLIMIT_CPU', 'RLIMIT_NPROC', 'RLIMIT_NOFILE', 'RLIMIT_CORE', 'RLIMIT_FSIZE'):\n"
        "    kind = getattr(resource, name)\n"
        "    refused(name, lambda: resource.setrlimit(kind, (1 << 40, 1 << 40)))"
    ),
    "sockets": Attack(
        'for name in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_ALG", "AF_VSOCK", "AF_BLUETOOTH"):\n'
        "    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):\n"
        "        refused(name, lambda: socket.socket(getattr(socket, name, 31), kind))\n"
        'refused("resolve", lambda: socket.getaddrinfo("localhost", 80))'
    ),
    "socket pairs": Attack(  # one of streams is allowed: it must reach nothing but itself, and say nothing but bytes
        "a, b = socket.socketpair()\n"
        "for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW, socket.SOCK_RDM):\n"
        "    refused(kind, lambda: socket.socketpair(socket.AF_UNIX, kind))\n"
        "for family in (socket.AF_INET, socket.AF_INET6, 30, 40):\n"
        "    refused(family, lambda: socket.socketpair(family, socket.SOCK_STREAM))\n"
        "for kind in (0, 2, 1 | 1 << 31, 1 | 4096):\n"
        "    refused(kind, lambda: call(53, 199, 1, kind, 0, (ctypes.c_int * 2)()))\n"
        'refused("protocol", lambda: call(53, 199, 1, 1, 1, (ctypes.c_int * 2)()))\n'
        'refused("connect", lambda: a.connect("\\0groupwise-test"))\n'
        'refused("bind", lambda: a.bind("/tmp/s"))\n'
        'refused("listen", a.listen)\n'
        f'refused("name another", lambda: a.sendto(b"x", "{FOLDER}/socket"))\n'
        'refused("out of band", lambda: a.send(b"x", socket.MSG_OOB))\n'
        'refused("take out of band", lambda: b.recv(1, socket.MSG_OOB))\n'
        'refused("zero copy", lambda: a.send(b"x", 0x4000000))\n'
        'refused("descriptors", lambda: a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", 0))]))\n'
        'refused("options", lambda: a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUFFORCE, 1 << 28))\n'
        'refused("its peer", lambda: a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))'
    ),
    "socket pairs without end": Attack(
        "pairs = []\n"
        "def more():\n"
        "    while True:\n"
        "        pairs.append(socket.socketpair())\n"
        "        pairs[-1][0].setblocking(False)\n"
        "        try:\n"
        "            while True:\n"
        "                pairs[-1][0].send(b'x' * 65536)\n"
        "        except BlockingIOError:\n"
        "            pass\n"
        'refused("pairs", more)'
    ),
    "abstract sockets": Attack(
        'def abstract():\n    s = socket.socket(socket.AF_UNIX)\n    s.bind("\\0groupwise-test")\nrefused("bind", abstract)\n'
        'refused("socketcall", lambda: call(41, 198, 1, 1, 0))'
    ),
    "fork": Attack('for f in (os.fork, os.forkpty):\n    refused("fork", f)'),
    "fork by raw calls": Attack(
        'refused("clone", lambda: call(56, 220, 17, 0, 0, 0, 0))\n'
        'refused("clone vm", lambda: call(56, 220, 0x100 | 0x4000 | 17, 0, 0, 0, 0))\n'
        'refused("clone3", lambda: call(435, 435, struct.pack("=8Q", 0, 0, 0, 0, 17, 0, 0, 0), 64))\n'
        "if X86:\n    refused('fork', lambda: call(57, 0))\n    refused('vfork', lambda: call(58, 0))"
    ),
    "spawn and execute": Attack(
        "import subprocess\n"
        'refused("run", lambda: subprocess.run(["/bin/sh", "-c", "id"]))\n'
        'refused("spawn", lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}))\n'
        'refused("exec", lambda: os.execv(sys.executable, [sys.executable, "-c", "print(\'THROUGH\')"]))\n'
        'refused("system", lambda: 1 / (os.system("id") != 0) if os.system("id") == 0 else os.stat("/none"))\n'
        'refused("execveat", lambda: call(322, 281, -100, sys.executable.encode(), 0, 0, 0))'
    ),
    "fork bomb": Attack(
        "for _ in range(1000):\n    try:\n        os.fork()\n        print('THROUGH')\n    except OSError:\n        pass\n"
        "print('refused')"
    ),
    "daemon": Attack(
        "def daemon():\n    if os.fork():\n        os._exit(0)\n    os.setsid()\n    while True: pass\n"
        'refused("daemon", daemon)\nrefused("setsid", os.setsid)'
    ),
    "threads without end": Attack(
        "import threading, time\nn = 0\ntry:\n    while n < 5000:\n"
        "        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n        n += 1\n"
        "except RuntimeError:\n    print('refused', n, flush=True)\n"
        "else:\n    print('THROUGH', n, flush=True)\nos._exit(0)"
    ),
    "threads that outlive main": Attack(
        "import threading\ndef spin():\n    while True: pass\n[threading.Thread(target=spin).start() for _ in range(4)]",
        _ended("time", "signal"),
        _SHORT,
    ),
    "namespaces": Attack(
        "for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x08000000, 0x04000000, 0x02000000):\n"
        '    refused(hex(flag), lambda: call(272, 97, flag))\nrefused("setns", lambda: call(308, 268, 0, 0))'
    ),
    "mounts": Attack(
        'refused("mount", lambda: call(165, 40, b"none", b"/tmp", b"tmpfs", 0, 0))\n'
        'refused("umount", lambda: call(166, 39, b"/tmp", 2))\nrefused("pivot", lambda: call(155, 41, b"/", b"/"))\n'
        'refused("open_tree", lambda: call(428, 428, -100, b"/", 1))\n'
        'refused("move_mount", lambda: call(429, 429, -100, b"/", -100, b"/tmp", 0))\n'
        'refused("fsopen", lambda: call(430, 430, b"tmpfs", 0))'
    ),
    "root's rights": Attack(
        "for f in (os.setuid, os.setgid, os.seteuid, os.setegid):\n    refused('set', lambda: f(0))\n"
        'refused("groups", lambda: os.setgroups([0]))\nrefused("capset", lambda: call(126, 91, b"\\0" * 8, b"\\xff" * 24))\n'
        "if os.getuid() == 0 or os.geteuid() == 0: print('THROUGH uid 0')"
    ),
    "setuid files": Attack(
        'refused("chmod", lambda: os.chmod(sys.executable, 0o4755))\n'
        'refused("su", lambda: os.execv("/bin/su", ["su", "-c", "id"]))\n'
        'refused("mknod", lambda: os.mknod("/tmp/sda", 0o60666, os.makedev(8, 0)))'
    ),
    "kernel interfaces": Attack(
        "for name, x86, arm in (('bpf', 321, 280), ('perf', 298, 241), ('userfaultfd', 323, 282), ('keyctl', 250, 219),\n"
        "        ('add_key', 248, 217), ('request_key', 249, 218), ('kexec', 246, 104), ('init_module', 175, 105),\n"
        "        ('reboot', 169, 142), ('swapon', 167, 224), ('syslog', 103, 116), ('acct', 163, 89),\n"
        "        ('quotactl', 179, 60), ('sethostname', 170, 161), ('settimeofday', 164, 170), ('fanotify', 300, 262),\n"
        "        ('inotify', 294, 26), ('landlock', 444, 444), ('seccomp', 317, 277), ('kcmp', 312, 272),\n"
        "        ('personality', 135, 92), ('vhangup', 153, 58), ('lookup_dcookie', 212, 18)):\n"
        "    refused(name, lambda: call(x86, arm, 0, 0, 0, 0, 0))"
    ),
    "io_uring": Attack(
        'refused("setup", lambda: call(425, 425, 8, b"\\0" * 120))\nrefused("enter", lambda: call(426, 426, 0, 0, 0, 0))\n'
        'refused("aio", lambda: call(206, 0, 8, b"\\0" * 8))'
    ),
    "shared memory and queues": Attack(
        'refused("shmget", lambda: call(29, 194, 0, 1 << 20, 0o1600))\nrefused("msgget", lambda: call(68, 186, 0, 0o1600))\n'
        'refused("semget", lambda: call(64, 190, 0, 1, 0o1600))\nrefused("mq", lambda: call(240, 180, b"/q", 66, 0o600, 0))\n'
        'refused("memfd", lambda: os.memfd_create("x"))'
    ),
    "terminals": Attack(
        'import fcntl\nrefused("tty", lambda: open("/dev/tty", "w"))\nrefused("ptmx", os.openpty)\n'
        'refused("TIOCSTI", lambda: fcntl.ioctl(0, 0x5412, b"x"))\nrefused("TIOCLINUX", lambda: fcntl.ioctl(2, 0x541C, b"x"))'
    ),
    "devices": Attack(
        'for p in ("/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/kvm", "/dev/fuse", "/dev/nvidia0", "/dev/net/tun"):\n'
        '    refused(p, lambda: open(p, "r+b"))'
    ),
    "inherited descriptors": Attack(
        "for end in range(3, 1024):\n    refused('fd', lambda: os.fstat(end))\n"
        "for end in (0, 1, 2):\n    if not (os.fstat(end).st_mode & 0o170000) == 0o010000: print('THROUGH', end)"
    ),
    "writing to its input": Attack(
        'refused("stdin", lambda: os.write(0, b"x"))\nrefused("stdout", lambda: os.read(1, 1))'
    ),
    "memory": Attack(
        'refused("bytes", lambda: bytearray(1 << 30))\nimport mmap\nrefused("map", lambda: mmap.mmap(-1, 1 << 30))'
    ),
    "memory in steps": Attack(
        "held = []\ntry:\n    while True: held.append(bytearray(1 << 22))\nexcept MemoryError:\n    held = None\n"
        "    print('refused')",
    ),
    "disk": Attack(
        "def fill(folder):\n    for n in range(64):\n        with open(f'{folder}/{n}', 'wb') as f: f.write(b'0' * (1 << 20))\n"
        "for folder in ('/tmp', '/dev/shm', '/var/tmp', '/dev', '/', '.'):\n    refused(folder, lambda: fill(folder))"
    ),
    "many empty files": Attack(
        "def many():\n    for n in range(5000):\n        os.close(os.open(f'/tmp/{n}', os.O_CREAT | os.O_WRONLY))\nrefused('files', many)"
    ),
    "a program on the disk": Attack(
        "import mmap\ndef mapped():\n    with open('/tmp/code', 'wb+') as f:\n        f.write(b'x' * 4096); f.flush()\n"
        "        return mmap.mmap(f.fileno(), 4096, prot=5)\nrefused('exec', mapped)"
    ),
    "one large file": Attack(
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "def sparse():\n    with open('/tmp/f', 'wb') as f:\n        f.truncate(1 << 40)\nrefused('sparse', sparse)"
    ),
    "endless output": Attack(
        "while True: print('x' * 65536)", lambda outcome: outcome.ended == "output" and len(outcome.stdout) == 1 << 20
    ),
    "endless errors": Attack(
        "while True: print('x' * 65536, file=sys.stderr)",
        lambda outcome: outcome.ended in ("time", "signal") and len(outcome.stderr) <= 1 << 20,
        _SHORT,
    ),
    "no end": Attack("while True: pass", _ended("time", "signal"), _SHORT),
    "sleep": Attack("import time\ntime.sleep(60)", _ended("time"), _SHORT),
    "deaf to signals": Attack(
        "for n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "while True: pass",
        _ended("time", "signal"),
        _SHORT,
    ),
    "streams closed": Attack(
        "os.close(0); os.close(1); os.close(2)\nwhile True: pass", _ended("time", "signal"), _SHORT
    ),
    "stopped": Attack(
        "os.kill(os.getpid(), signal.SIGSTOP)\nos._exit(0)", lambda o: o.ended in ("time", "exit"), _SHORT
    ),
    "core dump": Attack(
        "import resource\nrefused('limit', lambda: resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)))\n"
        "refused('dumpable', lambda: call(157, 167, 4, 1, 0, 0, 0))\nsys.stdout.flush()\nos.abort()",
        lambda outcome: outcome.ended == "signal" and b"THROUGH" not in outcome.stdout,
    ),
    "prctl": Attack(
        "for option in (1, 4, 8, 22, 23, 24, 35, 38, 47, 59, 0x59616D61):\n"
        "    refused(option, lambda: call(157, 167, option, 1, 0, 0, 0))"
    ),
    "crash": Attack("ctypes.string_at(0)", _ended("signal")),
    "deep recursion": Attack(
        "sys.setrecursionlimit(10 ** 9)\ndef f(n): return [f(n + 1)]\nf(0)", _ended("signal", "exit", "time")
    ),
}
if _x86_only:
    _MACHINE_CODE = """
import mmap
memory = mmap.mmap(-1, 4096, prot=7)
memory.write(bytes.fromhex("{code}"))
f = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
print("result", f(), flush=True)
print("THROUGH")
"""
    ATTACKS |= {
        # mov eax, 2; int 0x80; ret: fork by the table of i386
        "calls of i386": Attack(_MACHINE_CODE.format(code="b802000000cd80c3"), _ended("signal")),
        # mov eax, 0x40000039; syscall; ret: fork by the table of x32
        "calls of x32": Attack(_MACHINE_CODE.format(code="b8390000400f05c3"), _ended("signal")),
        "descriptor tables": Attack('refused("modify_ldt", lambda: call(154, 0, 0, b"\\0" * 16, 16))'),
    }
