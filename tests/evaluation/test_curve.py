"""Accuracy against sampled tokens, from samples that are written down."""

import numpy as np
import pytest

from groupwise.config import recipe_from
from groupwise.data import Output, Part, Reward, Sample
from groupwise.evaluation.curve import best_of, curve, in_blocks, vote
from groupwise.rollout.evaluate import Evaluation
from tests.close import close

RECIPE = recipe_from(
    {
        "model": {"path": "tiny"},
        "questions": {"source": "arithmetic"},
        "rewards": [{"function": "number"}, {"function": "pattern", "name": "liked"}],
        "update": {"steps": 1},
    }
)


def sample(text, right, liked=None, tokens=1):
    """right, liked: what the two functions said, None for nothing."""
    ids = np.zeros(tokens, np.int32)
    said = {"number": right, "liked": liked}
    parts = {label: Part("abstained" if value is None else "value", value) for label, value in said.items()}
    return Sample(Output(ids, ids, ids >= 0, np.zeros(tokens, np.float32), text, "stop"), Reward(right, parts))


FIRST = [sample("1", 1.0, 0.1), sample("2", 0.0, 0.9), sample("1", 1.0, 0.9), sample("1", 1.0, None, tokens=5)]
SECOND = [sample("3", 0.0, 0.5), sample("4", 1.0, 0.7), sample("3", 0.0, 0.6), sample("3", 0.0, 0.1)]


def test_the_best_is_the_first_of_the_highest_and_one_without_a_value_is_none():
    best = best_of(RECIPE, "liked")
    assert best(FIRST) == 0.0  # 0.9 twice: the first of them is wrong
    assert best(FIRST[2:]) == 1.0
    assert best(SECOND) == 1.0
    assert best(FIRST[3:]) is None
    assert best([sample("1", None, 1.0), sample("2", 1.0, 0.0)]) is None  # the best was not judged


def test_the_vote():
    assert (vote(RECIPE)(FIRST), vote(RECIPE)(SECOND)) == (1.0, 0.0)
    assert vote(RECIPE)(FIRST[:2]) == 0.5
    assert vote(RECIPE)([*FIRST, sample("1", None)]) is None


def test_blocks_use_every_sample_once():
    # pairs of FIRST: (1, 2) gives a half, (1, 1) gives 1; of three there is room for one block only
    assert in_blocks(vote(RECIPE), FIRST, 2) == 0.75
    assert in_blocks(vote(RECIPE), FIRST, 3) == vote(RECIPE)(FIRST[:3])
    assert in_blocks(best_of(RECIPE, "liked"), FIRST, 1) is None  # the last block has nothing to choose from


def test_the_points():
    greedy = (sample("1", 1.0, tokens=4), sample("3", 0.0, tokens=2))
    evaluation = Evaluation({}, [], 0, greedy, (tuple(FIRST), tuple(SECOND)), {"accuracy": [1.0, 0.0]})
    searched = {1: [(sample("1", 1.0), 10), (sample("4", 1.0), 20)]}
    points = {(p.method, p.n): p for p in curve(RECIPE, evaluation, label="liked", searched=searched)}
    assert list(points) == [
        ("greedy", 1),
        *(("majority", n) for n in (1, 2, 4)),
        *(("best by liked", n) for n in (1, 2, 4)),
        ("search", 1),
    ]
    # samples have (1 + 1 + 1 + 5) / 4 = 2 tokens and 1: 1.5 in the mean
    assert [points["majority", n].tokens for n in (1, 2, 4)] == [1.5, 3.0, 6.0]
    # FIRST: 3 of 4, 0.75, 1; SECOND: 1 of 4, (1/2 + 0) / 2, 0
    assert close([points["majority", n].value for n in (1, 2, 4)], [1 / 2, (0.75 + 0.25) / 2, 1 / 2])
    # FIRST by twos: 2 is liked, wrong; 1 is, right.  SECOND: 4 right; 3 wrong.  By four: wrong and right.
    assert close([points["best by liked", n].value for n in (2, 4)], [1 / 2, 1 / 2])
    assert points["best by liked", 1].questions == 1
    assert (points["greedy", 1].tokens, points["greedy", 1].value) == (3.0, 0.5)
    assert (points["search", 1].tokens, points["search", 1].value) == (15.0, 1.0)
    assert points["search", 1].low < 0.5  # two of two right say little


@pytest.mark.parametrize(("label", "methods"), [(None, {"greedy"}), ("liked", {"greedy"})])
def test_without_samples_there_is_the_greedy_answer_alone(label, methods):
    evaluation = Evaluation({}, [], 0, (sample("1", 1.0),), (), {"accuracy": [1.0]})
    assert {point.method for point in curve(RECIPE, evaluation, label=label, searched={})} == methods
