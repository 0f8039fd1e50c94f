"""Reward functions as other trainers call them, taken unchanged; what they log is kept."""

import numpy as np
import pytest

from groupwise.data import Message, Part, Question
from groupwise.errors import DataError
from groupwise.rewards.adapters import adapt
from groupwise.rewards.base import RewardSet
from groupwise.rewards.verdicts import LOGGED_CHARACTERS
from tests.rewards.build import FUNCTIONS, output, parts, question, verdicts


def test_easyr1s_form_scores_all_outputs_by_overall():
    def compute_score(reward_inputs, format_weight=0.1):
        return [
            {"overall": float(one["ground_truth"] == "4") + format_weight * one["response_length"], "format": 1.0}
            for one in reward_inputs
        ]

    # response_length counts tokens, one a character here and three at most: 1 + 0.5 * 3, 1 + 0.5 * 1
    scored = verdicts(compute_score, ["abcd", "a"], question(), format_weight=0.5)
    assert [verdict.part.value for verdict in scored] == [2.5, 1.5]
    assert scored[0].extras == {"format": 1.0}


def test_easyr1s_sequential_form_scores_one_output():
    assert parts(lambda reward_input: {"overall": len(reward_input["response"])}, ["ab"], question()) == [
        Part("value", 2.0)
    ]
    (missing,) = parts(lambda reward_input: {"score": 1.0}, ["ab"], question())
    assert "without 'overall'" in missing.detail


def test_easyr1s_older_sequential_form_gets_text_and_right_answer():
    def compute_score(predict: str, ground_truth: str, format_weight: float = 0.1) -> dict[str, float]:
        right = float(predict == ground_truth)
        return {"overall": (1 - format_weight) * right, "accuracy": right}

    scored = verdicts(compute_score, ["72", "4"], question("4", reward_model={"ground_truth": "72"}), format_weight=0.5)
    assert [(verdict.part.value, verdict.extras) for verdict in scored] == [
        (0.5, {"accuracy": 1.0}),
        (0.0, {"accuracy": 0.0}),
    ]
    # the oldest name of the parameter, and a number returned
    assert parts(lambda predict_str, ground_truth: float(predict_str == ground_truth), ["4"], question()) == [
        Part("value", 1.0)
    ]


def test_easyr1s_older_batch_form_gets_lists():
    def compute_score(predicts: list[str], ground_truths: list[str], format_weight: float = 0.1):
        right = format_weight * (ground_truths == ["4", "4"])
        return [{"overall": len(said) + right} for said in predicts]

    assert adapt(compute_score, {}, "f").at_once
    assert parts(compute_score, ["abc", "d"], question(), format_weight=0.5) == [
        Part("value", 3.5),
        Part("value", 1.5),
    ]
    assert (
        parts(lambda predict_strs, ground_truths: [float(len(ground_truths))] * 2, ["a", "b"], question())
        == [Part("value", 2.0)] * 2
    )


@pytest.mark.parametrize("shape", [lambda value: np.array([value]), lambda value: [value], lambda value: value])
def test_openrlhfs_form_gets_queries_prompts_and_labels(shape):
    def reward_func(queries, prompts, labels, **kwargs):
        said = queries[0][len(prompts[0]) :]
        right = shape(float((prompts, labels, said) == (["What is 2 + 2?"], ["4"], "abc")))
        return {"rewards": right, "scores": right, "extra_logs": {"length": shape(3.0)}}

    (scored,) = verdicts(reward_func, ["abc"], question())
    assert (scored.part.value, scored.extras) == (1.0, {"length": 3.0, "scores": 1.0})
    assert parts(lambda queries, prompts, labels: shape(0.5), ["a", "b"], question()) == [Part("value", 0.5)] * 2


def test_verls_batch_form_gets_lists():
    def compute_score(data_sources, solution_strs, ground_truths, extra_infos):
        asked = (data_sources, ground_truths, extra_infos)
        right = asked == (["gsm8k"] * 2, ["72"] * 2, [{"index": 3}] * 2)
        return [{"score": float(right) * len(said), "pred": said} for said in solution_strs]

    row = question("4", data_source="gsm8k", reward_model={"ground_truth": "72"}, extra_info={"index": 3})
    scored = verdicts(compute_score, ["ab", "c"], row)
    assert [(verdict.part.value, verdict.extras) for verdict in scored] == [(2.0, {"pred": "ab"}), (1.0, {"pred": "c"})]


def test_verls_form_may_name_further_columns():
    def compute_score(data_source, solution_str, ground_truth, extra_info=None, *, ability, level=9, **kwargs):
        return float((ability, level, kwargs) == ("math", 9, {}))

    assert parts(compute_score, ["a"], question(ability="math")) == [Part("value", 1.0)]
    assert adapt(compute_score, {}, "f").columns == {"ability"}


def test_what_a_trl_function_logs_is_kept_with_its_output():
    def reward(completions, log_extra, log_metric, **columns):
        log_extra("first", [text[:1] for text in completions])
        log_extra("length", np.array([len(text) for text in completions]))
        log_metric("longest", max(map(len, completions)))
        return [1.0, None]

    # a metric is the call's, so each of its outputs has it
    scored = verdicts(reward, ["abc", "d"], question(_plain=True))
    assert scored[0].extras == {"first": "a", "length": 3.0, "longest": 3.0}
    assert scored[1].extras == {"first": "d", "length": 1.0, "longest": 3.0}


def test_a_log_of_another_length_fails_the_call():
    def reward(completions, log_extra):
        log_extra("first", ["a"])
        return [1.0, 1.0]

    assert "returned 1 value(s) for 2 completions" in parts(reward, ["a", "b"], question())[0].detail


def test_texts_that_a_dict_holds_are_kept_and_cut():
    (scored,) = verdicts(lambda text: {"score": 1, "pred": "x" * 20_000, "none": None}, ["a"], question())
    assert scored.extras == {"pred": "x" * LOGGED_CHARACTERS}


def test_a_function_sees_the_beginning_that_a_question_gives():
    begun = Question("q", (Message("user", "Q?"), Message("assistant", "I think ")), "4")
    config = {"function": f"{FUNCTIONS}:length", "weight": 1.0}
    from groupwise.config import RewardConfig

    with RewardSet([RewardConfig(**config)]) as rewards:
        assert rewards.score([begun], [output("so.")])[0].value == 11.0


def test_a_column_that_no_question_has_is_found_before_anything_is_sampled():
    from groupwise.config import RewardConfig

    wanting = RewardConfig(function=f"{FUNCTIONS}:of_level")
    with RewardSet([wanting]) as rewards:
        rewards.require_columns([question(), question(level=2)])
        with pytest.raises(DataError, match=r"'of_level' wants column 'level', which no .*answer, levle; did you mean"):
            rewards.require_columns([question(levle=1), question(levle=2)])
