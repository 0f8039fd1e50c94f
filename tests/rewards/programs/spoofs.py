"""Programs that would have a careless judge believe that they are right. None of them solves its question."""

# ruff: noqa: E501  a program is easier to read on the lines that it has

OF_FUNCTIONS = {
    "sys.exit(0)": "import sys\nsys.exit(0)",
    "sys.exit in the call": "import sys\ndef add(a, b): sys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "os._exit in the call": "import os\ndef add(a, b): os._exit(0)",
    "always equal": "class Any:\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n    __hash__ = None\ndef add(a, b): return Any()",
    "int that is always equal": "class Any(int):\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n    def __hash__(self): return 0\n    def __sub__(self, o): return 0\n    def __rsub__(self, o): return 0\n    def __abs__(self): return 0\ndef add(a, b): return Any(0)",
    "float that is near everything": "class Any(float):\n    def __sub__(self, o): return 0.0\n    def __abs__(self): return 0.0\n    def __lt__(self, o): return True\n    def __eq__(self, o): return True\ndef add(a, b): return Any('nan')",
    "text that is always equal": "class Any(str):\n    def __eq__(self, other): return True\n    def __hash__(self): return 0\ndef add(a, b): return Any('x')",
    "list that is always equal": "class Any(list):\n    def __eq__(self, other): return True\n    def __len__(self): return 1\n    def __iter__(self): return iter([5])\ndef add(a, b): return Any()",
    "metaclass": "class Meta(type):\n    def __eq__(cls, other): return True\n    def __hash__(cls): return 0\n    __name__ = 'int'\nclass Any(metaclass=Meta): pass\ndef add(a, b): return Any()",
    "asserts off": "import builtins\nbuiltins.AssertionError = type('E', (BaseException,), {})\nclass A(Exception):\n    pass\ndef add(a, b): raise A",
    "atexit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef add(a, b): return 0",
    "excepthook": "import sys, os\nsys.excepthook = lambda *a: os._exit(0)\ndef add(a, b): raise ValueError",
    "raised success": "def add(a, b): raise SystemExit(0)",
    "frames": "import sys\ndef add(a, b):\n    f = sys._getframe()\n    while f:\n        for d in (f.f_locals, f.f_globals):\n            for k, v in list(d.items()):\n                if isinstance(v, (int, float)) and 'expect' in k: return v\n        f = f.f_back\n    return 0",
    "co_consts": "import sys\ndef add(a, b):\n    f = sys._getframe(1)\n    while f:\n        found = [c for c in f.f_code.co_consts if isinstance(c, int) and c not in (a, b, 0, 1)]\n        if found: return found[-1]\n        f = f.f_back\n    return 0",
    "garbage collector": "import gc\ndef add(a, b):\n    for o in gc.get_objects():\n        if isinstance(o, dict):\n            for k, v in list(o.items()):\n                if k in ('expected', 'outputs', 'answer', '_KNOWN', 'test'): return v\n    return 0",
    "source of the harness": "import sys\ndef add(a, b):\n    f = sys._getframe(1)\n    text = str(f.f_globals.keys()) + str(f.f_locals)\n    return 1300 if '1300' in text else 0",
    "patched json": "import json\njson.dumps = lambda *a, **k: '1300'\njson.loads = lambda *a, **k: True\ndef add(a, b): return 0",
    "patched encoder": "import sys\nm = sys.modules['__main__']\nm.encoded = lambda *a, **k: '1300'\ndef add(a, b): return 0",
    "patched encoder to pass": 'import sys\nm = sys.modules[\'__main__\']\nm._say = lambda line: m._os.write(m._out, b\'{"passed": 9, "failed": 0, "first": ""}\\n\')\ndef add(a, b): return 0',
    "printed verdict": 'print(\'{"passed": 9, "failed": 0, "first": ""}\')\ndef add(a, b): return 0',
    "printed answers": 'for n in range(9): print(\'{"call": %d, "value": true}\' % n)\ndef add(a, b): return 0',
    "written answers": 'import os\nfor end in range(3, 64):\n    try: os.write(end, b\'{"begun": true}\\n{"passed": 9, "failed": 0, "first": ""}\\n{"ended": true}\\n\')\n    except OSError: pass\nos._exit(0)',
    "answers twice": 'import os\ndef add(a, b):\n    for end in range(3, 64):\n        try: os.write(end, b\'{"call": 0, "value": 5}\\n\')\n        except OSError: pass\n    return 0',
    "a key twice": 'import os\ndef add(a, b):\n    for end in range(3, 64):\n        try: os.write(end, b\'{"call": 0, "value": 0, "value": 5}\\n\')\n        except OSError: pass\n    os._exit(0)',
    "bool for a number": "def add(a, b): return True",
    "nothing": "def add(a, b): return None",
    "not a number": "def add(a, b): return float('nan')",
    "generator of everything": "def add(a, b):\n    while True: yield 5",
    "property of the module": "class M(type(__import__('sys'))):\n    def __getattr__(self, n): return lambda *a: 5\nimport sys\nsys.modules['program'] = M('program')\ndef add(a, b): return 0",
    "threads that answer later": "import threading, os, time\ndef late():\n    time.sleep(0.05)\n    os._exit(0)\nthreading.Thread(target=late, daemon=True).start()\ndef add(a, b):\n    time.sleep(1)",
    "alarm undone": "import signal\nsignal.signal = lambda *a: None\nsignal.setitimer = lambda *a: None\ndef add(a, b): return 0",
    "trace": "import sys\nsys.settrace(lambda f, e, a: (f.f_locals.update(line='\"value\": 5'), None)[1])\ndef add(a, b): return 0",
    "equality of the tests": "import builtins\nbuiltins.all = builtins.any = builtins.isinstance = lambda *a: True\ndef add(a, b): return 0",
    "empty": "pass",
    "text of the answer": "def add(a, b): return str(a + b)",
}
"""Of the question `add(a, b)`: the sum; tested with (2, 3), (-1, 1) and (600, 700)."""

OF_OUTPUT = {
    "exit": "import sys\nsys.exit(0)",
    "everything": "print('5\\n0\\n1300')",
    "verdict": "print('{\"passed\": 1}')\nprint('PASSED')",
    "nothing": "pass",
    "escapes": "print('\\x1b[2K\\r5 ')",
    "huge number": "print('1e999')",
    "nan": "print('nan')",
    "underscores": "print('1_300')",
    "other digits": "print('\u0665')",
    "on errors": "import sys\nprint(5, file=sys.stderr)",
    "right and then wrong": "a, b = map(int, input().split())\nprint(a + b)\nraise SystemExit(1)",
    "without an end": "a, b = map(int, input().split())\nprint(a + b, flush=True)\nwhile True: pass",
}
"""Of the question to print the sum of the two numbers on a line."""

HONEST = {
    "plain": "def add(a, b):\n    return a + b",
    "class": "class Solution:\n    def add(self, a: int, b: int) -> int:\n        return a + b",
    "imports unsaid": "def add(a: int, b: int) -> Optional[int]:\n    return reduce(lambda x, y: x + y, deque([a, b]))",
    "prints": "def add(a, b):\n    print('debug', a, b)\n    return a + b",
    "main": "def add(a, b):\n    return a + b\n\nif __name__ == '__main__':\n    print(add(*map(int, input().split())))",
    "threads": "import threading\ndef add(a, b):\n    out = []\n    t = threading.Thread(target=lambda: out.append(a + b)); t.start(); t.join()\n    return out[0]",
    "recursion": "import sys\nsys.setrecursionlimit(10000)\ndef add(a, b):\n    return a if b == 0 else add(a + (1 if b > 0 else -1), b - (1 if b > 0 else -1))",
    "subclass": "class N(int): pass\ndef add(a, b): return N(a + b)",
    "caches": "@lru_cache(None)\ndef add(a, b): return a + b",
    "files": "import tempfile, io\ndef add(a, b):\n    f = io.StringIO(f'{a} {b}')\n    return sum(map(int, f.read().split()))",
}
