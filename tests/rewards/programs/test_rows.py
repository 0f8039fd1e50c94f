"""Tests of a question, read from the rows of the usual data sets; broken ones are refused by name."""

import base64
import json
import pickle
import zlib

import pytest

from groupwise.data import Message, Question
from groupwise.rewards.programs.rows import Asserted, Printed, Returned, read_tests


def of(answer=None, column=None, **row):
    return read_tests(Question("q", (Message("user", "?"),), answer, row), column)


def packed(value) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def test_human_eval_has_a_check_and_what_the_prompt_defines():
    prompt = "def helper(x):\n    return x\n\ndef f(x):\n    '''Doc.'''\n"
    [test] = of(prompt=prompt, entry_point="f", test="def check(candidate):\n    assert candidate(1) == 1")
    assert (test.entry, test.functions, test.before) == ("f", ("f",), (prompt,))


def test_mbpp_names_the_functions_that_its_asserts_call():
    [test] = of(
        test_setup_code="import math\nclass Node:\n    pass",
        test_list=["assert set(f(1)) == {1}", "assert math.isclose(g(f(2)), 2.0)", "assert f(Node()) is None"],
    )
    assert test.functions == ("f", "g")
    assert test.before == ("import math\nclass Node:\n    pass",)
    assert of(test_list=["assert sum([1]) == 1"])[0].functions == ("sum",)  # a program's, though Python has one too


def test_apps_has_inputs_and_outputs_as_text_lines_or_calls():
    printed = {"inputs": ["1\n", ["a", "b"]], "outputs": ["2\n", ["c"]]}
    assert of(input_output=json.dumps(printed)) == (Printed("1\n", "2\n"), Printed("a\nb", "c"))
    called = {"fn_name": "f", "inputs": [[1, [2]], [3]], "outputs": [[4], 5]}
    assert of(input_output=json.dumps(called)) == (Returned("f", "[1, [2]]", "[[4], 4]"), Returned("f", "[3]", "[5]"))


def test_live_code_bench_has_cases_of_two_kinds_and_packs_the_private_ones():
    stdin = [{"input": "1\n", "output": "2", "testtype": "stdin"}]
    calls = [{"input": "[1, 2]\n3", "output": "[4]", "testtype": "functional"}]
    both = of(public_test_cases=json.dumps(stdin), private_test_cases=packed(json.dumps(stdin)))
    assert both == (Printed("1\n", "2"),) * 2
    [call] = of(private_test_cases=packed(json.dumps(calls)), metadata=json.dumps({"func_name": "f"}))
    assert call == Returned("f", "[[1, 2], 3]", "[[4]]")


def test_verl_keeps_the_same_forms_in_its_ground_truth():
    truth = json.dumps({"inputs": ["1"], "outputs": ["2"]})
    assert of(reward_model={"ground_truth": truth, "style": "rule"}) == (Printed("1", "2"),)
    lines = json.dumps({"inputs": ["1\n[2]"], "outputs": ["3"], "fn_name": "f"})
    assert of(lines) == (Returned("f", "[1, [2]]", "[3]"),)
    asserts = {"inputs": ["", ""], "outputs": [None, None], "assert_case": ["assert f(1) == 1", "assert f(2) == 2"]}
    assert of(json.dumps(asserts))[0].tests == ("assert f(1) == 1", "assert f(2) == 2")
    deep = [{"input": "1", "output": "2", "testtype": "functional", "metadata": {"func_name": "g"}}]
    assert of(json.dumps(deep)) == (Returned("g", "[1]", "[2]"),)


def test_a_column_may_be_named_and_holds_any_of_the_forms():
    assert isinstance(of(checks="assert f(1) == 1\nassert f(2) == 3", column="checks")[0], Asserted)
    with pytest.raises(ValueError, match="no column 'cheks'; columns: checks"):
        of(checks="assert f(1) == 1", column="cheks")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "it has no tests: none of the columns test and entry_point"),
        ({"test_list": []}, "it has no tests"),
        ({"test_list": ["assert f(1) =="]}, "'test_list': 'assert f(1) ==' is no Python"),
        ({"test_list": ["f(1)"]}, "asserts nothing"),
        ({"test_list": ["assert 1 == 1"]}, "call no function of a program"),
        ({"test_list": ["assert f(x) == 1"], "test_setup_code": "x = Node(1)"}, "calls 'Node', which only a program"),
        ({"input_output": "{'inputs': 1}"}, "neither JSON nor asserts"),
        ({"input_output": '{"inputs": ["1"], "outputs": []}'}, "not two lists of one length"),
        ({"input_output": '{"inputs": [], "outputs": []}'}, "holds no test"),
        ({"input_output": '{"inputs": ["1"], "inputs": ["2"], "outputs": ["3"]}'}, "a key stands twice"),
        ({"input_output": "3"}, "none of the forms"),
        ({"public_test_cases": '[{"input": "1"}]'}, "has no input and output"),
        ({"public_test_cases": '[{"input": "1", "output": "1", "testtype": "functional"}]'}, "says which"),
        ({"test": "def check(c): pass", "entry_point": "f"}, "asserts nothing"),
        ({"test": "def check(c) assert", "entry_point": "f"}, "is no Python"),
    ],
)
def test_tests_that_cannot_be_read_say_why(row, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        of(**row)


class Evil:
    def __reduce__(self):
        return print, ("it ran",)


def test_a_pickle_that_names_anything_is_refused_and_nothing_of_it_runs(capsys):
    with pytest.raises(ValueError, match=r"it names builtins.print, and is not read"):
        of(private_test_cases=packed(Evil()))
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="cannot be unpacked"):
        of(private_test_cases=base64.b64encode(b"no zlib").decode())
