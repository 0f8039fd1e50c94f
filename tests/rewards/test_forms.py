"""The forms of a reward function, and what is done with what they return."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from groupwise.data import Message, Part, Question
from groupwise.errors import ConfigError, RewardError
from groupwise.rewards.adapters import adapt
from groupwise.rewards.verdicts import Verdict
from tests.rewards.build import parts, question, verdicts


def test_our_form_gets_text_question_and_params():
    def near(text, question, *, tolerance):
        return abs(len(text) - int(question.answer)) <= tolerance

    # lengths 3 and 9 against 4, tolerance 1
    assert [part.value for part in parts(near, ["abc", "abcdefghi"], question(), tolerance=1)] == [1.0, 0.0]


def test_our_form_may_leave_the_question_out():
    assert parts(lambda text: len(text), ["abc"], question()) == [Part("value", 3.0)]


@pytest.mark.parametrize(
    "value", [1, True, 1.0, np.float32(1), np.int64(1), np.bool_(True), np.array(1.0), Fraction(1)]
)
def test_numbers_of_every_kind_are_values(value):
    accepted = not isinstance(value, Fraction)  # neither int nor float
    assert parts(lambda text: value, ["x"], question())[0].state == ("value" if accepted else "failed")


def test_none_abstains():
    assert parts(lambda text: None, ["x"], question()) == [Part("abstained")]


@pytest.mark.parametrize(
    "value", ["1.0", [1.0], {"reward": 1.0}, math.nan, math.inf, -math.inf, 1j, 10**400, np.ones(2)]
)
def test_what_is_no_finite_number_fails(value):
    part = parts(lambda text: value, ["x"], question())[0]
    assert (part.state, part.value) == ("failed", None)
    assert "returned" in part.detail


def test_async_function_is_awaited():
    async def later(text):
        return 0.5

    assert parts(later, ["x"], question()) == [Part("value", 0.5)]


def test_one_bad_row_changes_no_other():
    def fussy(text):
        return 1 / (len(text) - 2)

    # lengths 1, 2, 3 -> -1, division by zero, 1
    scored = parts(fussy, ["a", "bb", "ccc"], question())
    assert [part.value for part in scored] == [-1.0, None, 1.0]
    assert scored[1].detail.splitlines()[-1].startswith("ZeroDivisionError: division by zero (")


def test_a_failure_shows_the_users_frames_only():
    def inner(text):
        raise KeyError("ground\ntruth")

    def outer(text):
        return inner(text)

    detail = parts(outer, ["x"], question())[0].detail
    assert "adapters.py" not in detail
    assert detail.index("in outer") < detail.index("in inner")
    assert "KeyError: 'ground\\ntruth'" in detail.splitlines()[-1]
    assert "test_forms.py:" in detail.splitlines()[-1]


def test_trl_form_gets_conversations_columns_and_token_ids():
    seen = {}

    def reward(prompts, completions, completion_ids, trainer_state, level, answer, log_metric, **columns):
        log_metric("name", 1.0)
        seen.update(
            columns,
            prompts=prompts,
            completions=completions,
            ids=completion_ids,
            level=level,
            answer=answer,
            step=trainer_state.global_step,
        )
        return [1.0, None]

    scored = parts(reward, ["abc", "d"], question(level=2, prompt="hidden", _plain=False))
    assert [part.state for part in scored] == ["value", "abstained"]
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 2?"}]
    assert seen["prompts"] == [conversation] * 2
    assert seen["completions"] == [[{"role": "assistant", "content": text}] for text in ("abc", "d")]
    assert (seen["ids"], seen["level"], seen["answer"], seen["step"]) == ([[0, 1, 2], [0]], [2, 2], ["4", "4"], 7)
    assert not {"prompt", "_plain"} & set(seen)


def test_trl_form_gets_strings_where_the_prompt_was_one():
    def reward(prompts, completions):
        return [float(prompts == ["What is 2 + 2?"] and completions == ["abc"])]

    assert parts(reward, ["abc"], question(_plain=True)) == [Part("value", 1.0)]


def test_trl_form_gets_only_what_it_names_and_the_answer_under_its_columns_name():
    def reward(completions, solution):
        return [float(value) for value in solution]

    assert parts(reward, ["a", "b"], question(solution="5")) == [Part("value", 5.0)] * 2


def test_trl_async_function_is_awaited():
    async def reward(prompts, completions, **columns):
        return [0.25 for _ in completions]

    assert parts(reward, ["a", "b"], question()) == [Part("value", 0.25)] * 2


@pytest.mark.parametrize("returned", [[], [1.0], [1.0] * 3, 1.0, None, "ab", {"a": 1, "b": 2}])
def test_trl_wrong_count_fails_the_whole_call(returned):
    scored = parts(lambda completions, **columns: returned, ["a", "b"], question())
    assert [part.state for part in scored] == ["failed", "failed"]


def test_trl_single_value_is_never_broadcast():
    detail = parts(lambda completions: [1.0], ["a", "b", "c"], question())[0].detail
    assert "returned 1 value(s) for 3 completions" in detail


def test_trl_bad_value_fails_its_own_row():
    scored = parts(lambda completions: np.array([1.0, math.nan, 0.0]), ["a", "b", "c"], question())
    assert [part.value for part in scored] == [1.0, None, 0.0]
    assert [part.state for part in scored] == ["value", "failed", "value"]


def test_trl_missing_column_is_named_with_those_there_are():
    def reward(completions, solution):
        return [1.0]

    detail = parts(reward, ["a"], question(level=1))[0].detail
    assert "wants column 'solution', or params.solution;" in detail
    assert "level" in detail


def test_verl_form_reads_verls_columns():
    def compute_score(data_source, solution_str, ground_truth, extra_info=None):
        return float((data_source, solution_str, ground_truth, extra_info) == ("gsm8k", "abc", "72", {"index": 3}))

    row = question(
        "4", data_source="gsm8k", reward_model={"style": "rule", "ground_truth": "72"}, extra_info={"index": 3}
    )
    assert parts(compute_score, ["abc"], row) == [Part("value", 1.0)]


def test_verl_form_without_verls_columns_gets_the_answer():
    def compute_score(data_source, solution_str, ground_truth, extra_info):
        return float((data_source, ground_truth, extra_info) == (None, "4", {}))

    assert parts(compute_score, ["abc"], question("4")) == [Part("value", 1.0)]


def in_each_form(returned: Any) -> list[Callable[..., Any]]:
    """A function of each form that returns this for an output."""
    return [
        lambda text: returned,
        lambda data_source, solution_str, ground_truth, extra_info=None: returned,
        lambda completions, **columns: [returned] * len(completions),
    ]


@pytest.mark.parametrize("form", range(3))
def test_a_dict_keeps_other_numbers(form):
    function = in_each_form({"score": 0.5, "z": 2, "acc": True, "pred": "72", "broken": math.nan, "none": None})[form]
    (verdict,) = verdicts(function, ["abc"], question())
    assert verdict == Verdict(Part("value", 0.5), {"z": 2.0, "acc": 1.0, "pred": "72", "broken": "nan"})
    assert list(verdict.extras) == ["z", "acc", "pred", "broken"]  # a record's rows have their order


@pytest.mark.parametrize("form", range(3))
def test_a_dict_without_score_fails_and_names_its_keys(form):
    part = parts(in_each_form({"reward": 0.5})[form], ["abc"], question())[0]
    assert part.state == "failed"
    assert "its keys are: reward" in part.detail


@pytest.mark.parametrize("form", range(3))
@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        (None, None),
        ([], ()),
        ([[1, 0.5], [3, -1]], ((1, 0.5), (3, -1.0))),
        (((np.int64(2), np.float32(0.25)),), ((2, 0.25),)),
        (np.array([[1, 0], [2, 1]]), ((1, 0.0), (2, 1.0))),
    ],
)
def test_steps_are_kept_beside_a_score_that_may_abstain(form, steps, kept):
    for score, part in ((None, Part("abstained")), (0.5, Part("value", 0.5))):
        function = in_each_form({"score": score, "steps": steps})[form]
        assert verdicts(function, ["abc"], question()) == [Verdict(part, {}, kept)]


BAD_STEPS = [
    ([[1, math.nan]], "steps[0] = [1, nan] with nan, not a finite number"),
    ([[1, 0.5], [2, math.inf]], "steps[1] = [2, inf] with inf, not a finite number"),
    ([[1, None]], "steps[0] = [1, None] with NoneType None, not a number"),
    ([[2, 0.5], [2, 0.5]], "steps[1] = [2, 0.5]: its end must be within 3 and 3"),
    ([[3, 0.5], [1, 0.5]], "steps[1] = [1, 0.5]: its end must be within 4 and 3"),
    ([[0, 0.5]], "steps[0] = [0, 0.5]: its end must be within 1 and 3"),
    ([[-1, 0.5]], "steps[0] = [-1, 0.5]: its end must be within 1 and 3"),
    ([[4, 0.5]], "steps[0] = [4, 0.5]: its end must be within 1 and 3"),
    ([[1.0, 0.5]], "steps[0] = [1.0, 0.5], not [end, reward] with a whole number as its end"),
    ([1, 2], "steps[0] = 1, not [end, reward]"),
    ([[1, 2, 3]], "steps[0] = [1, 2, 3], not [end, reward]"),
    ("ab", "steps of type str, not a list of [end, reward]"),
    ({1: 0.5}, "steps of type dict, not a list"),
    (7, "steps of type int, not a list"),
]


@pytest.mark.parametrize(("steps", "told"), BAD_STEPS)
def test_bad_steps_fail_their_sample_and_say_which(steps, told):
    for function in in_each_form({"score": 1.0, "steps": steps}):
        (verdict,) = verdicts(function, ["abc"], question())
        assert (verdict.part.state, verdict.part.value, verdict.steps) == ("failed", None, None)
        assert told in verdict.part.detail


def test_an_empty_text_has_no_place_for_a_step():
    bad, empty = ({"score": 1.0, "steps": steps} for steps in ([[1, 1.0]], []))
    assert "within 1 and 0" in parts(lambda text: bad, [""], question())[0].detail
    assert verdicts(lambda text: empty, [""], question()) == [Verdict(Part("value", 1.0), {}, ())]


def test_in_trl_form_bad_steps_fail_their_own_row():
    def reward(completions, **columns):
        return [1.0, {"score": 1.0, "steps": [[9, 1.0]]}, {"score": None, "steps": [[1, 1.0]]}]

    scored = verdicts(reward, ["a", "b", "c"], question())
    assert [verdict.part.state for verdict in scored] == ["value", "failed", "abstained"]
    assert [verdict.steps for verdict in scored] == [None, None, ((1, 1.0),)]


@pytest.mark.parametrize(
    "function", [lambda response: 0.0, lambda: 0.0, lambda *args: 0.0, lambda question, text: 0.0, lambda **columns: []]
)
def test_any_other_form_is_refused_with_the_three(function):
    with pytest.raises(RewardError) as error:
        adapt(function, {}, "mine:f")
    for words in ("'mine:f'", "prompts, completions", "solution_str", "(text, question)"):
        assert words in str(error.value)


def test_unknown_param_is_refused_with_the_nearest():
    with pytest.raises(RewardError, match=r"params\.tolerence.*did you mean 'tolerance'"):
        adapt(lambda text, tolerance=1: 0.0, {"tolerence": 2}, "mine:f")


def test_parameter_that_nothing_gives_is_refused():
    with pytest.raises(RewardError, match=r"needs regex; set params\.regex"):
        adapt(lambda text, question, regex: 0.0, {}, "mine:f")


def test_columns_of_mixed_questions_are_aligned():
    first = Question("a", (Message("user", "?"),), "1", {"level": 1})
    second = Question("b", (Message("user", "?"),), "2", {"kind": "sum"})
    scorer = adapt(lambda completions, level, kind: [level == [1, None], kind == [None, "sum"]], {}, "mine:f").scorer
    (scored,) = scorer([(first, "x", np.arange(1)), (second, "y", np.arange(1))], 0)
    assert [verdict.part.value for verdict in scored] == [1.0, 1.0]


def test_our_form_for_all_outputs_at_once_gets_texts_and_questions():
    def longest(texts, questions, *, bonus=0.0):
        most = max(map(len, texts))
        return [float(len(text) == most) + bonus * int(q.answer) for text, q in zip(texts, questions, strict=True)]

    assert [part.value for part in parts(longest, ["abc", "a"], question(), bonus=0.5)] == [3.0, 2.0]
    assert adapt(longest, {}, "test:function")[0]
    assert parts(lambda texts: [None, {"score": 1}], ["a", "b"], question()) == [Part("abstained"), Part("value", 1.0)]
    [one, other] = parts(lambda texts: [1.0], ["a", "b"], question())
    assert one.state == other.state == "failed"
    assert "returned 1 value(s) for 2 completions" in one.detail


class Counter:
    """What is made once, with params, and then called."""

    def __init__(self, *, word, weight=1.0):
        if not word:
            raise ConfigError("word = '': nothing to count", hint="give one")
        if word == " ":
            raise OSError("disk full")
        self.word, self.weight = word, weight

    def __call__(self, text, question):
        return self.weight * text.count(self.word)


def test_a_class_is_made_with_the_params_and_its_instance_is_called():
    assert [part.value for part in parts(Counter, ["a b a", "b"], question(), word="a", weight=0.5)] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "needs word; set params.word in the recipe"),
        ({"word": "a", "wieght": 1}, "params.wieght: it has no such parameter; did you mean 'weight'?"),
        ({"word": ""}, "reward 'test:function': word = '': nothing to count; give one"),
        ({"word": " "}, "reward 'test:function' cannot be made: OSError: disk full"),
    ],
)
def test_a_class_that_cannot_be_made_is_refused(params, said):
    with pytest.raises(RewardError) as error:
        adapt(Counter, params, "test:function")
    assert said in str(error.value)
