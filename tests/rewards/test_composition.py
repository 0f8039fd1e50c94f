"""Gates, scales, routing and weights over the steps: how several functions make one reward."""

from dataclasses import replace

import pytest

from groupwise.config import RewardConfig, recipe_from
from groupwise.config.sections import GateConfig, WeightScheduleConfig
from groupwise.data import Part
from groupwise.errors import ConfigError, DataError, RewardError
from groupwise.rewards.base import RewardSet, first_scored
from groupwise.rewards.composition import (
    Moments,
    behind_gate,
    by_moments,
    factor_at,
    in_group,
    is_gated,
    weight_at,
)
from groupwise.rewards.pending import moments_with
from groupwise.run.answers import require_answers
from tests.rewards.build import FUNCTIONS, output, question

LINEAR = WeightScheduleConfig(points=[[10, 1.0], [20, 0.0], [30, 0.5]])
STEPS = WeightScheduleConfig(shape="steps", points=[[10, 1.0], [20, 0.0], [30, 0.5]])


@pytest.mark.parametrize(
    ("step", "linear", "steps"),
    # between 10 and 20 the factor falls by 0.1 a step, between 20 and 30 it rises by 0.05
    [(0, 1.0, 1.0), (10, 1.0, 1.0), (15, 0.5, 1.0), (20, 0.0, 0.0), (26, 0.3, 0.0), (30, 0.5, 0.5), (99, 0.5, 0.5)],
)
def test_a_weight_follows_its_points(step, linear, steps):
    assert (factor_at(LINEAR, step), factor_at(STEPS, step)) == (pytest.approx(linear), steps)
    config = RewardConfig(function="exact", weight=4.0, weight_schedule=LINEAR)
    assert weight_at(config, step) == pytest.approx(4.0 * linear)


def test_values_in_a_group_are_centred_and_divided_by_their_spread():
    # 1, 2, 3: mean 2, sample std 1; None stays out of both
    assert in_group([1.0, None, 2.0, 3.0]) == [-1.0, None, 0.0, 1.0]
    assert in_group([5.0, 5.0, None]) == [0.0, 0.0, None]
    assert in_group([5.0]) == [0.0]


def test_moments_are_those_of_all_values_however_they_are_cut():
    # 1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14
    whole = Moments().with_values([1.0, 2.0, 3.0, 6.0])
    assert whole == Moments().with_values([1.0, 2.0]).with_values([3.0, 6.0])
    assert (whole.count, whole.mean, whole.squares) == (4, 3.0, pytest.approx(14.0))
    assert by_moments([3.0, None], whole) == [0.0, None]
    assert by_moments([3.0 + whole.std], whole) == [pytest.approx(1.0)]
    assert by_moments([7.0], Moments().with_values([7.0])) == [0.0]


def test_a_gate_opens_by_the_other_value_and_does_not_speak_where_there_is_none():
    gate = GateConfig(reward="form", at_least=0.5, otherwise=-1.0)
    assert behind_gate(gate, Part("value", 0.5)) is None
    shut = behind_gate(gate, Part("value", 0.4))
    assert (shut.state, shut.value, is_gated(shut)) == ("value", -1.0, True)
    for other in (Part("abstained"), Part("failed", None, "boom")):
        assert (behind_gate(gate, other).state, behind_gate(gate, other).value) == ("abstained", None)
    silent = behind_gate(GateConfig(reward="form", otherwise=None), Part("value", 0.0))
    assert (silent.state, silent.value) == ("abstained", None)
    assert not is_gated(Part("value", 1.0))


def test_a_gated_function_is_not_called_for_what_the_gate_keeps_back():
    form = RewardConfig(function="pattern", name="form", params={"regex": "four"})
    # how_many gives every output of a call the number of outputs in it
    count = RewardConfig(function=f"{FUNCTIONS}:how_many", gate={"reward": "form"}, weight=10.0)
    texts = ["four", "five", "four", "4"]
    with RewardSet([count, form]) as rewards:  # whatever their order
        found = rewards.score([question()] * 4, [output(text) for text in texts])
    assert [reward.parts["how_many"].value for reward in found] == [2, 0, 2, 0]
    assert [reward.value for reward in found] == [21.0, 0.0, 21.0, 0.0]
    assert [is_gated(reward.parts["how_many"]) for reward in found] == [False, True, False, True]


def test_what_fails_in_front_of_a_gate_fails_the_output_and_no_other():
    form = RewardConfig(function=f"{FUNCTIONS}:misbehaving", name="form")
    length = RewardConfig(function=f"{FUNCTIONS}:length", gate={"reward": "form", "at_least": 0.5})
    with RewardSet([form, length]) as rewards:
        found = rewards.score([question()] * 2, [output("raise"), output("good")])
    assert [(r.value, r.failed, r.parts["length"].state) for r in found] == [
        (None, True, "abstained"),
        (5.0, False, "value"),
    ]


def test_each_function_counts_on_its_own_scale():
    wide = RewardConfig(function=f"{FUNCTIONS}:length", name="wide", normalise="group", weight=2.0)
    plain = RewardConfig(function="exact")
    with RewardSet([wide, plain]) as rewards:
        found = rewards.score(
            [question(name="a")] * 3 + [question(name="b")], [output(t) for t in ("4", "44", "444", "4")]
        )
    # lengths 1, 2, 3 are -1, 0, 1 in their group, times 2; alone in its group an output counts 0
    assert [reward.value for reward in found] == [-2.0 + 1, 0.0, 2.0, 1.0]
    assert [reward.parts["wide"].value for reward in found] == [1, 2, 3, 1]  # on record as it is


def test_running_moments_come_from_what_was_seen_before_and_these_outputs():
    config = RewardConfig(function=f"{FUNCTIONS}:length", normalise="running")
    with RewardSet([config]) as rewards:
        pending = rewards.submit([question()] * 2, [output("1"), output("333")])
        verdicts = pending.verdicts()
        before = {"length": Moments().with_values([5.0])}
        after = moments_with(rewards.configs, before, verdicts)
        found = pending.rewards(verdicts, after)
    # 5, 1, 3: mean 3, sample std 2
    assert [reward.value for reward in found] == pytest.approx([-1.0, 0.0])
    assert (after["length"].count, before["length"].count) == (3, 1)


def test_a_function_scores_the_questions_of_its_sources_alone():
    sums, words, rest = (question("4", name=n, data_source=s) for n, s in (("s", "gsm8k"), ("w", "words"), ("r", None)))
    number = RewardConfig(function="number", sources=("gsm8k",))
    exact = RewardConfig(function="exact", sources=("words",))
    with RewardSet([number, exact]) as rewards:
        found = rewards.score([sums, words, rest], [output("4")] * 3)
        lost = replace(question("4", name="r"), where="data.jsonl:3")
        with pytest.raises(DataError, match=r"data\.jsonl:3: question 'r'.*: no reward scores it"):
            require_answers([number, exact], rewards, [sums, words, lost])
    assert [[reward.parts[n].state for n in ("number", "exact")] for reward in found] == [
        ["value", "abstained"],
        ["abstained", "value"],
        ["abstained", "abstained"],
    ]
    with pytest.raises(ConfigError, match=r"sources = \['gsm8'\]: no question has the source 'gsm8'") as error:
        first_scored(RewardConfig(function="exact", sources=("gsm8",)), [sums, words], where="rewards[0]")
    assert error.value.hint == "did you mean 'gsm8k'?"


@pytest.mark.parametrize(
    ("rewards", "said"),
    [
        ([{"function": "exact", "gate": {"reward": "form"}}], "gate.reward = 'form': no reward of that name"),
        ([{"function": "exact", "gate": {"reward": "exact"}}], "wait for each other"),
        (
            [
                {"function": "exact", "gate": {"reward": "math"}},
                {"function": "math", "gate": {"reward": "number"}},
                {"function": "number", "gate": {"reward": "exact"}},
            ],
            r"exact -> math -> number -> exact",
        ),
        ([{"function": "exact", "weight_schedule": {"points": [[5, 1], [5, 2]]}}], r"steps \[5, 5\] do not rise"),
        ([{"function": "exact", "weight_schedule": {"points": []}}], "do not rise"),
        ([{"function": "exact", "weight_schedule": {"points": [[-1, 1]]}}], "weight_schedule"),
        ([{"function": "exact", "normalise": "batch"}], "normalise"),
    ],
)
def test_what_cannot_compose_is_refused_with_the_recipe(rewards, said):
    tree = {"model": {"path": "tiny"}, "questions": {"source": "arithmetic"}, "update": {"steps": 1}}
    with pytest.raises(ConfigError, match=said) as error:
        recipe_from({**tree, "rewards": rewards})
    assert "\n" not in str(error.value)


def test_a_gate_without_its_reward_is_refused():
    with pytest.raises(RewardError, match="its gate reads 'form', which is not among the rewards"):
        RewardSet([RewardConfig(function="exact", gate={"reward": "form"})])
