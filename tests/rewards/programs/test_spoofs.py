"""No program passes for what it is not, and an honest one does. All of them under each design: `make sandbox`."""

import json

import pytest

from groupwise.data import Message, Question
from groupwise.errors import ConfigError
from groupwise.rewards.code import Code
from groupwise.sandbox.designs import DESIGNS
from tests.rewards.programs.spoofs import HONEST, OF_FUNCTIONS, OF_OUTPUT

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
