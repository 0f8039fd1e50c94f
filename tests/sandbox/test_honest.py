"""What an honest program may want to do, and what no program can: the same under each design. `make sandbox`."""

# ruff: noqa: E501  a program is easier to read on the lines that it has

import pytest

from groupwise.errors import ConfigError
from groupwise.sandbox.base import Limits
from groupwise.sandbox.designs import DESIGNS, open_sandbox

LIBRARIES = (
    "datetime zoneinfo sqlite3 decimal fractions statistics hashlib uuid secrets random csv json re string textwrap "
    "itertools functools operator bisect heapq array struct zlib bz2 lzma base64 enum dataclasses typing contextlib copy "
    "calendar time queue threading concurrent.futures collections io os sys math cmath traceback weakref gc inspect ast "
    "difflib unicodedata locale argparse logging pickle tempfile glob pathlib shutil platform ctypes select signal socket "
    "ssl html xml.etree.ElementTree urllib.parse email unittest doctest timeit asyncio multiprocessing subprocess mmap"
)
PROGRAMS = {
    f"import {', '.join(LIBRARIES.split())}\nprint(zoneinfo.ZoneInfo('Europe/Berlin').key, uuid.uuid4().version)": (
        "Europe/Berlin 4"
    ),
    "import sqlite3\nprint(sqlite3.connect(':memory:').execute('select 1 + 1').fetchone())": "(2,)",
    "from concurrent.futures import ThreadPoolExecutor\nprint(sum(ThreadPoolExecutor(4).map(abs, range(5))))": "10",
    "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**27)\n"
    "def f(n): return 0 if n == 0 else 1 + f(n - 1)\nt = threading.Thread(target=lambda: print(f(50000)))\nt.start(); t.join()": (
        "50000"
    ),
    "import os\nprint(os.read(0, 100))": "b'12 34\\n'",
    "print(open(0).read().split())": "['12', '34']",
    "import sys\nprint([line for line in sys.stdin])": "['12 34\\n']",
    "try:\n    input(); input()\nexcept EOFError:\n    print('end')": "end",
    "import signal, time\nsignal.signal(signal.SIGALRM, lambda *a: print('rang'))\n"
    "signal.setitimer(signal.ITIMER_REAL, 0.05)\ntime.sleep(0.1)": "rang",
    "import pickle\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 1\n"
    "print(pickle.loads(pickle.dumps(A())))": "A(x=1)",
    "import doctest\ndef f():\n    '''\n    >>> f()\n    1\n    '''\n    return 1\nprint(doctest.testmod().failed)": "0",
    "print(len(list(range(2 * 10**6))))": "2000000",
    # event loops, threads that they wait for, queues, timeouts
    "import asyncio\nasync def f(n):\n    await asyncio.sleep(0.01)\n    return n\nasync def main():\n"
    "    q = asyncio.Queue()\n    await q.put(3)\n    async with asyncio.timeout(5):\n"
    "        a = await asyncio.gather(*map(f, range(3)))\n"
    "    return a, await q.get(), await asyncio.to_thread(abs, -4)\nprint(asyncio.run(main()))": "([0, 1, 2], 3, 4)",
    "import asyncio, threading\nloop = asyncio.new_event_loop()\n"
    "threading.Timer(0.05, loop.call_soon_threadsafe, [loop.stop]).start()\nloop.run_forever()\nloop.close()\nprint('stopped')": (
        "stopped"
    ),
    "import asyncio\nasync def late():\n    await asyncio.wait_for(asyncio.sleep(60), 0.05)\ntry:\n    asyncio.run(late())\n"
    "except TimeoutError:\n    print('late')": "late",
    "import socket\na, b = socket.socketpair()\na.sendall(b'to and fro')\nprint(b.recv(2), b.recv(99))": "b'to' b' and fro'",
    "import threading\nc = threading.Condition()\ndone = []\ndef work():\n    with c:\n        done.append(1)\n        c.notify()\n"
    "with c:\n    threading.Thread(target=work).start()\n    c.wait_for(lambda: done, 5)\nprint(done)": "[1]",
    # streams by their names
    "print(open('/dev/stdin').read().split())": "['12', '34']",
    "import sys\nsys.stdin = open('/dev/stdin')\nprint(input())": "12 34",
    "import os\nprint(os.read(os.open('/dev/stdin', os.O_RDONLY), 5))": "b'12 34'",
    "from pathlib import Path\nprint(Path('/dev/stdin').read_bytes())": "b'12 34\\n'",
    "import fileinput\nprint([line for line in fileinput.input('/dev/fd/0')])": "['12 34\\n']",
    "with open('/proc/self/fd/1', 'w') as out:\n    print('there', file=out)": "there",
    "import sys\nsys.stdout = open('/dev/stdout', 'a')\nprint('there')": "there",
    "print(len({str(n) for n in range(10)}), hash('a') == hash('a'))": "10 True",
}


@pytest.fixture(scope="module", params=list(DESIGNS))
def sandbox(request):
    try:
        opened = open_sandbox(request.param, slots=1)
    except ConfigError as error:
        pytest.skip(str(error))
    yield opened
    opened.close()


@pytest.mark.sandbox
@pytest.mark.parametrize("source", PROGRAMS, ids=range(len(PROGRAMS)))
def test_an_honest_program_does_what_it_does_anywhere(sandbox, source):
    done = sandbox.run(source, b"12 34\n", Limits())
    assert (done.stdout.decode().strip(), done.fault) == (PROGRAMS[source], "")


@pytest.mark.sandbox
def test_text_has_one_order_in_a_set_in_every_run(sandbox):
    source = "print(list({'a', 'b', 'c', 'd', 'e'}))"
    assert len({sandbox.run(source, b"", Limits()).stdout for _ in range(5)}) == 1


@pytest.mark.sandbox
def test_what_no_program_can_do_fails_as_an_error_of_the_system(sandbox):
    for source in ("import socket\nsocket.socket()", "import subprocess\nsubprocess.run(['ls'])"):
        assert "PermissionError" in sandbox.run(source, b"", Limits()).fault
