"""Numbers to guess and mazes: what a level says, the same for the same seed, none twice, the held-out apart."""

import pytest

from groupwise.config import QuestionsConfig
from groupwise.datasets.base import load_questions
from groupwise.datasets.games import guess_number, maze, plan
from groupwise.errors import ConfigError


def test_a_number_lies_in_the_range_that_its_question_names():
    for question in guess_number(0, 60, levels=[1, 2, 3]):
        low, high, level = (question.meta[name] for name in ("low", "high", "level"))
        assert low <= int(question.answer) <= high
        assert high - low + 1 == {1: 10, 2: 30, 3: 100}[level]
        assert f"from {low} to {high}." in question.text
        assert question.answer not in question.text.replace(str(low), "").replace(str(high), "")


def test_every_number_of_a_range_is_asked_for_somewhere():
    asked = {(q.meta["low"], int(q.answer) - q.meta["low"]) for q in guess_number(0, 1000, levels=[1])}
    assert {above for low, above in asked if low == 7} == set(range(10))  # 1000 is all that there are


def test_a_maze_has_a_start_an_exit_and_a_way_to_each_room():
    for level, number in ((1, 0), (1, 7), (2, 3), (3, 5)):
        rows = plan(level, number)
        side = {1: 4, 2: 6, 3: 9}[level]
        assert {len(rows), *map(len, rows)} == {2 * side + 1}
        joined = "".join(rows)
        assert (joined.count("@"), joined.count("E")) == (1, 1)
        floor = {(r, c) for r, row in enumerate(rows) for c, mark in enumerate(row) if mark != "#"}
        rooms = {(r, c) for r in range(1, 2 * side, 2) for c in range(1, 2 * side, 2)}
        reached, waiting = set(), [(1, 1)]
        while waiting:
            row, column = waiting.pop()
            if (row, column) in floor - reached:
                reached.add((row, column))
                waiting += [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        assert rooms <= reached == floor
        if level == 1:
            assert len(floor) - len(rooms) == len(rooms) - 1  # a tree: one way to each room


@pytest.mark.parametrize("make", [guess_number, maze])
def test_the_seed_decides_the_draw_and_no_question_comes_twice(make):
    made = make(4, 40)
    assert made == make(4, 40)
    assert made != make(5, 40)
    assert len({question.id for question in made}) == 40
    assert {question.meta["level"] for question in made} == {1, 2}


def test_two_mazes_of_level_1_are_two_mazes():
    made = maze(0, 1500, levels=[1])
    assert len({tuple(question.meta["maze"]) for question in made}) == 1500


@pytest.mark.parametrize("source", ["guess_number", "maze"])
def test_what_is_held_out_is_asked_for_nowhere_else(source):
    found = load_questions(QuestionsConfig(source=source, params={"levels": [1]}, size=200, heldout_size=20), 0)
    assert len(found.heldout) == 20
    assert not {q.text for q in found.heldout} & {q.text for q in found.train}


@pytest.mark.parametrize("make", [guess_number, maze])
def test_an_unknown_level_is_refused(make):
    with pytest.raises(ConfigError, match="no level 4"):
        make(0, 10, levels=[4])
