"""Curriculum: questions never or always solved come up less often, and again later; a run says so in its record."""

from contextlib import closing

import pytest
from pydantic import ValidationError

from groupwise.config import CurriculumConfig
from groupwise.data import Group, Message, Part, Question, Reward, Sample
from groupwise.errors import ConfigError
from groupwise.record import Recorder, open_record
from groupwise.rollout.curriculum import Curriculum
from groupwise.rollout.groups import _Drawing
from tests.record.recorded_steps import group as recorded_group
from tests.record.recorded_steps import write


def question(name, **meta):
    return Question(name, (Message("user", name),), "1", meta)


def made(questions, **config):
    return Curriculum(CurriculumConfig(**config), questions, label="right", seed=3)


def group(name, *values):
    parts = [Reward(value, {"right": Part("failed" if value is None else "value", value)}) for value in values]
    return Group(question(name), tuple(Sample(None, part) for part in parts))


def test_the_rate_is_a_running_mean_of_the_share_that_is_right():
    found = made([question("a")], memory=0.75)
    found.learn([group("a", 1.0, 0.0), group("a", 1.0, 1.0), group("a", 0.5, 0.0)])
    # 1/2; 3/4 1/2 + 1/4 = 5/8; half right is not right: 3/4 5/8 = 15/32
    assert found.rates == {"a": 15 / 32}


def test_an_output_without_a_verdict_says_nothing_of_a_question():
    found = made([question("a")])
    found.learn([group("a", None, None), group("a", None, 1.0)])
    assert found.rates == {"a": 1.0}


@pytest.mark.parametrize(
    ("rate", "weight"),
    # floor .1: in the band 1; at 0.1, half of 0.2, .1 + .9 / 2; at 0.9, half way from 0.8 to 1, the same
    [(None, 1.0), (0.0, 0.1), (0.1, 0.55), (0.2, 1.0), (0.5, 1.0), (0.8, 1.0), (0.9, 0.55), (1.0, 0.1)],
)
def test_the_weight_falls_from_the_band_to_the_floor(rate, weight):
    asked = question("a")
    found = made([asked], band=(0.2, 0.8), floor=0.1)
    if rate is not None:
        found.rates["a"] = rate
    assert found.weight(asked) == pytest.approx(weight)


def test_a_band_that_reaches_an_end_has_no_floor_there():
    asked = question("a")
    found = made([asked], band=(0.0, 1.0))
    for rate in (0.0, 1.0):
        found.rates["a"] = rate
        assert found.weight(asked) == 1


def test_sources_are_asked_as_their_weights_say():
    questions = [question(name, part=part) for name, part in (("a", "sums"), ("b", "words"), ("c", "other"))]
    found = made(questions, band=None, weights={"sums": 4, "words": 2})
    assert [found.weight(asked) for asked in questions] == [1.0, 0.5, 0.25]
    rare = made(questions, band=None, weights={"words": 0.5})
    assert [rare.weight(asked) for asked in questions] == [1.0, 0.5, 1.0]
    with pytest.raises(ConfigError, match="did you mean 'sums'"):
        made(questions, weights={"sum": 1})
    with pytest.raises(ConfigError, match="parts of a mixture"):
        made([question("a")], weights={"sums": 1})


def test_a_question_comes_up_as_often_as_its_weight_says_and_the_seed_decides_when():
    asked = question("a")
    found = made([asked], floor=0.2)
    found.rates["a"] = 0.0
    times = [place for place in range(4000) if found.asks(asked, place)]
    assert 700 < len(times) < 900  # a fifth; three standard deviations are 76
    assert times == [place for place in range(4000) if found.asks(asked, place)]
    other = Curriculum(CurriculumConfig(floor=0.2), [asked], label="right", seed=4)
    other.rates["a"] = 0.0
    assert times != [place for place in range(4000) if other.asks(asked, place)]


def drawn(found, questions, wanted, before=0):
    draw = _Drawing(questions, before, seed=0, shuffle=False, curriculum=found)
    return [asked.id for asked in draw(wanted)], draw


def test_a_step_has_its_questions_however_many_are_passed_over():
    questions = [question(str(number)) for number in range(10)]
    found = made(questions, floor=1e-9)
    found.rates = {str(number): 0.0 for number in range(10)}
    ids, draw = drawn(found, questions, 4)
    assert ids == ["0", "1", "2", "3"]  # all of an epoch passed over, then taken as they come
    assert draw.drawn == 14
    assert draw.metrics()["curriculum/passed_over"] == pytest.approx(10 / 14)
    found.rates = {str(number): 0.5 if number in (3, 7) else 1.0 for number in range(10)}
    assert drawn(found, questions, 2)[0] == ["3", "7"]
    assert drawn(found, questions, 10)[0][:2] == ["3", "7"]
    assert sorted(drawn(found, questions, 10)[0]) == [str(number) for number in range(10)]


def test_what_the_metrics_say():
    found = made([question(str(number)) for number in range(4)], floor=0.1)
    assert found.metrics() == {}
    found.rates = {"0": 0.0, "1": 0.5}
    # weights .1 1, and 1 1 of those not asked: 3.1^2 / (3.01 * 4)
    assert found.metrics() == pytest.approx(
        {
            "curriculum/asked": 0.5,
            "curriculum/in_band": 0.5,
            "curriculum/solve_rate": 0.25,
            "curriculum/effective": 9.61 / 12.04,
        }
    )


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"band": (0.8, 0.2)}, "the lower first"),
        ({"band": (0.2, 1.2)}, "between 0 and 1"),
        ({"band": None}, "nothing would change"),
        ({"band": None, "weights": {"a": 1}, "floor": 0.2}, "floor with band = null"),
        ({"floor": 0}, "greater than 0"),
        ({"memory": 1}, "less than 1"),
        ({"weights": {"a": 0}}, "greater than 0"),
        ({"by": "length"}, "not permitted"),
    ],
)
def test_a_curriculum_that_cannot_be_is_refused(config, told):
    with pytest.raises(ValidationError, match=told):
        CurriculumConfig(**config)


def test_the_record_gives_back_the_rates_to_the_bit(tmp_path):
    steps = [[recorded_group(0, (1.0, 0.0, 0.0)), recorded_group(1, (1.0, 1.0, 0.9))], [recorded_group(0, (0.0, None))]]
    live, again = (Curriculum(CurriculumConfig(), [question("q0")], label="math", seed=0) for _ in range(2))
    with closing(Recorder.create(tmp_path / "run", {})) as recorder:
        for number, groups in enumerate([*steps, steps[0]]):
            write(recorder, number, groups)
    for groups in steps:
        live.learn(groups)
    with closing(open_record(tmp_path / "run")) as record:
        found = list(record.solved("math", 1.0, before=2))
        assert list(record.solved("nothing", 1.0, before=2)) == []
    assert found == [("q0", 1, 3), ("q1", 2, 3), ("q0", 0, 1)]
    for name, right, judged in found:
        again.move(name, right, judged)
    assert live.rates == again.rates == {"q0": 0.7 * (1 / 3) + (1 - 0.7) * 0.0, "q1": 2 / 3}
