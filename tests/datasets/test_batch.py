"""The order of questions over steps and epochs."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupwise.data import Message, Question
from groupwise.datasets.base import batch
from groupwise.errors import ConfigError


def _train(count):
    return [Question(str(index), (Message("user", f"question {index}"),)) for index in range(count)]


def _ids(train, step, *, per_step, seed=0, shuffle=True):
    return [q.id for q in batch(train, step, questions_per_step=per_step, seed=seed, shuffle=shuffle)]


@st.composite
def _sizes(draw):
    count = draw(st.integers(1, 40))
    return count, draw(st.integers(1, count)), draw(st.integers(0, 2**63 - 1))


@settings(max_examples=150, deadline=None)
@given(_sizes(), st.booleans())
def test_each_epoch_has_every_question_once(sizes, shuffle):
    count, per_step, seed = sizes
    train, epochs = _train(count), 4
    steps = math.ceil(epochs * count / per_step)
    dealt = [name for step in range(steps) for name in _ids(train, step, per_step=per_step, seed=seed, shuffle=shuffle)]
    for epoch in range(epochs):
        assert sorted(dealt[epoch * count : (epoch + 1) * count]) == sorted(q.id for q in train)


@settings(max_examples=80, deadline=None)
@given(_sizes(), st.booleans())
def test_no_question_is_twice_in_a_batch(sizes, shuffle):
    count, per_step, seed = sizes
    train = _train(count)
    for step in range(2 * count):
        ids = _ids(train, step, per_step=per_step, seed=seed, shuffle=shuffle)
        assert len(set(ids)) == per_step


@settings(max_examples=50, deadline=None)
@given(_sizes(), st.integers(0, 60))
def test_a_run_resumed_at_any_step_meets_the_same_questions(sizes, resumed):
    count, per_step, seed = sizes
    train = _train(count)
    uninterrupted = [_ids(train, step, per_step=per_step, seed=seed) for step in range(resumed + 5)]
    for step in range(resumed, resumed + 5):
        assert _ids(list(train), step, per_step=per_step, seed=seed) == uninterrupted[step]


def test_seed_decides_the_order():
    orders = {tuple(_ids(_train(30), 0, per_step=30, seed=seed)) for seed in range(20)}
    assert len(orders) == 20


def test_epochs_differ_in_order():
    assert _ids(_train(30), 0, per_step=30) != _ids(_train(30), 1, per_step=30)


def test_order_is_the_same_for_ever():
    # Written down from this function: a change means that resumed runs would no longer go on as they began.
    dealt = ["".join(_ids(_train(7), step, per_step=3, seed=1)) for step in range(5)]
    assert dealt == ["263", "501", "460", "531", "246"]


def test_without_shuffle_it_is_the_files_order_round_and_round():
    # 5 questions, 2 a step: 0 1 | 2 3 | 4 0 | 1 2
    dealt = [_ids(_train(5), step, per_step=2, shuffle=False) for step in range(4)]
    assert dealt == [["0", "1"], ["2", "3"], ["4", "0"], ["1", "2"]]


def test_more_questions_a_step_than_there_are_is_refused_with_both_numbers():
    with pytest.raises(ConfigError, match=r"questions_per_step = 4.*3 training questions"):
        batch(_train(3), 0, questions_per_step=4, seed=0)
