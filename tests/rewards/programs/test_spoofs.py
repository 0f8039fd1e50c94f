"""No program passes for what it is not, and an honest one does. All of them under each design: `make sandbox`."""

import ctypes
import json
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from groupwise.config import RewardConfig
from groupwise.data import Message, Question
from groupwise.errors import ConfigError
from groupwise.rewards.base import RewardSet
from groupwise.rewards.code import Code
from groupwise.sandbox.designs import DESIGNS, available
from tests.rewards.build import output
from tests.rewards.programs.spoofs import HONEST, OF_FUNCTIONS, OF_OUTPUT
from tests.sandbox.arena import descendants, in_a_child

CASES = [([2, 3], 5), ([-1, 1], 0), ([600, 700], 1300)]
ROWS = {
    "human_eval": {
        "prompt": "def add(a, b):\n    '''The sum.'''\n",
        "entry_point": "add",
        "test": "def check(candidate):\n"
        + "".join(f"    assert candidate({a}, {b}) == {right}\n" for (a, b), right in CASES)
        + "    assert abs(candidate(20, 30) - 50) < 1e-6",
    },
    "mbpp": {"test_list": [f"assert add({a}, {b}) == {right}" for (a, b), right in CASES]},
    "apps": {
        "input_output": json.dumps(
            {"fn_name": "add", "inputs": [given for given, _ in CASES], "outputs": [right for _, right in CASES]}
        )
    },
    "live": {
        "public_test_cases": json.dumps(
            [{"input": f"{a}\n{b}", "output": str(right), "testtype": "functional"} for (a, b), right in CASES]
        ),
        "metadata": '{"func_name": "add"}',
    },
}
PRINTED = {"input_output": json.dumps({"inputs": ["2 3\n", "600 700\n"], "outputs": ["5\n", "1300"]})}
QUICK = ("sys.exit(0)", "always equal", "patched encoder to pass", "answers twice", "bool for a number")


def question(row: dict) -> Question:
    return Question("q", (Message("user", "Add."),), None, row)


def answer(program: str) -> str:
    return f"Here:\n```python\n{program}\n```\n"


@pytest.fixture(scope="module", params=list(DESIGNS))
def code(request):
    try:
        made = Code(design=request.param, timeout=1.0, total=5.0, memory=256)
    except ConfigError as error:
        pytest.skip(str(error))
    yield made
    made._judge._sandbox.close()


@pytest.mark.parametrize("form", ["human_eval", "live"])
def test_a_few_spoofs_earn_nothing_and_an_honest_program_everything(code, form):
    asked = question(ROWS[form])
    assert {name: code(answer(OF_FUNCTIONS[name]), asked)["score"] for name in QUICK} == dict.fromkeys(QUICK, 0.0)
    assert code(answer(HONEST["plain"]), asked) == {"score": 1.0, "tests": 1.0}


def test_long_values_are_compared_whole(code):
    cases = {"fn_name": "f", "inputs": [[n] for n in (60_000, 60_001)], "outputs": [list(range(60_000)), [1]]}
    right = "def f(n):\n    return list(range(n)) if n == 60000 else [1]"
    assert code(answer(right), question({"input_output": json.dumps(cases)}))["score"] == 1.0


def test_asserts_that_depend_on_earlier_values_are_judged(code):
    # the second call's argument is the first one's value; the third is within a loop over another's
    row = {
        "test_list": [
            "assert decode(encode('ab')) == 'ab'",
            "for n in count(3):\n    assert double(n) == 2 * n",
            "try:\n    double(None)\n    assert False\nexcept TypeError:\n    pass",
        ]
    }
    right = (
        "def encode(s): return [ord(c) for c in s]\ndef decode(v): return ''.join(map(chr, v))\n"
        "def count(n): return range(n)\ndef double(n): return n * 2"
    )
    assert code(answer(right), question(row)) == {"score": 1.0, "tests": 1.0}
    wrong = right.replace("n * 2", "n + 1")
    judged = code(answer(wrong), question(row))
    assert (judged["score"], judged["tests"]) == (0.0, 0.5)  # of 4 asserts, 0 -> 1 and 2 -> 3 are wrong


def test_what_one_program_returns_is_not_asked_of_the_next(code):
    asked = question({"test_list": ["assert decode(encode('ab')) == 'ab'", "assert decode([97]) != decode([98])"]})
    hostile = "def encode(s): return 10 ** 9\ndef decode(n): return 'ab'"
    honest = (
        "def encode(s): return [ord(c) for c in s]\n"
        "def decode(v):\n    while isinstance(v, int): pass\n    return ''.join(map(chr, v))"
    )
    runs = []
    sandbox, run = code._judge._sandbox, code._judge._sandbox.run
    code._judge._sandbox = SimpleNamespace(run=lambda *words: (runs.append(1), run(*words))[1])
    try:
        assert code(answer(hostile), asked)["score"] == 0.0
        assert code(answer(honest), asked)["score"] == 1.0
        runs.clear()
        assert code(answer(honest.replace("decode(v)", "decode(v, w=0)")), asked)["score"] == 1.0
    finally:
        code._judge._sandbox = sandbox
    assert len(runs) == 4  # calls and tests; then again for what `encode` returned


def test_a_share_of_the_tests_is_paid_if_asked():
    try:
        made = Code(pay="share", timeout=1.0, memory=256)
    except ConfigError as error:
        pytest.skip(str(error))
    right_for_two = "def add(a, b):\n    return abs(a + b) if a > 0 else 7"
    assert made(answer(right_for_two), question(ROWS["mbpp"]))["score"] == pytest.approx(2 / 3)
    assert made(answer(right_for_two), question(ROWS["apps"]))["score"] == pytest.approx(2 / 3)
    assert made(answer("print(5)"), question(PRINTED))["score"] == 0.5
    made._judge._sandbox.close()


@pytest.mark.sandbox
@pytest.mark.parametrize("design", DESIGNS)
def test_a_run_that_is_killed_leaves_no_program(design):
    if available()[design]:
        pytest.skip(available()[design])

    def killed():
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # what is orphaned becomes this process's
        child = os.fork()
        if child == 0:
            config = RewardConfig(function="code", params={"design": design, "memory": 256, "timeout": 60, "total": 60})
            rewards = RewardSet([config])
            threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGKILL)).start()
            rewards.score([question(ROWS["mbpp"])], [output(answer("while True: pass"))])
            os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        deadline = time.monotonic() + 20
        while descendants() and time.monotonic() < deadline:
            time.sleep(0.02)
        return [code, descendants()]

    assert in_a_child(killed) == [-signal.SIGKILL, []]


@pytest.mark.sandbox
@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize("name", OF_FUNCTIONS)
def test_a_function_that_spoofs_earns_nothing(code, name, form):
    judged = code(answer(OF_FUNCTIONS[name]), question(ROWS[form]))
    assert judged["score"] == 0.0
    assert judged["reason"]


@pytest.mark.sandbox
@pytest.mark.parametrize("name", OF_OUTPUT)
def test_output_that_spoofs_earns_nothing(code, name):
    assert code(answer(OF_OUTPUT[name]), question(PRINTED))["score"] == 0.0


@pytest.mark.sandbox
@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_program_earns_everything(code, name, form):
    if (name, form) == ("class", "human_eval") or (name, form) == ("class", "mbpp"):
        pytest.skip("these tests call the function by its name")
    assert code(answer(HONEST[name]), question(ROWS[form])) == {"score": 1.0, "tests": 1.0}
