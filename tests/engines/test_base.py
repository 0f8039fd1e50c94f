"""Random streams: known values, equal everywhere, independent of each other."""

import numpy as np

from groupwise.data import Sampling
from groupwise.engines.base import Task, stream, uniforms
from groupwise.engines.rows import Rows
from tests.close import close


def test_draws_are_splitmix64():
    # The generator's published outputs: seed 0 gives e220a8397b1dcdaf 6e789e6aa1b965f4 06c45d188009454f,
    # seed 1234567 gives 6457827717110365317 3203168211198807973; the upper 53 bits make the draw.
    known = {
        0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F],
        1234567: [6457827717110365317, 3203168211198807973],
    }
    for key, numbers in known.items():
        for position, number in enumerate(numbers):
            drawn = uniforms(np.array([key], dtype=np.uint64), position)
            assert drawn.dtype == np.float64
            assert drawn[0] == (number >> 11) / 2**53


def test_draws_are_at_least_0_and_under_1():
    keys = np.array([0, 1, 2**63, 2**64 - 1], dtype=np.uint64)
    for position in (0, 1, 2**20):
        drawn = uniforms(keys, position)
        assert (drawn >= 0).all()
        assert (drawn < 1).all()
    # the largest draw there can be is the last number under 1
    assert float(np.uint64(2**64 - 1) >> np.uint64(11)) * 2.0**-53 == 1 - 2**-53


def test_a_stream_does_not_depend_on_the_others():
    keys = np.array([stream(0, 0, "q", sample) for sample in range(5)], dtype=np.uint64)
    together = uniforms(keys, 3)
    for key, drawn in zip(keys, together, strict=True):
        assert uniforms(np.array([key]), 3)[0] == drawn


def test_streams_of_neighbours_are_uniform_and_uncorrelated():
    # 1000 streams of 20 draws: a mean's standard error is 0.29 / sqrt(20000) = 0.002, a correlation's 0.007 (along a
    # stream) and, over 499500 pairs of streams, under 0.001 on average.
    keys = np.array([stream(7, 0, "q", sample) for sample in range(1000)], dtype=np.uint64)
    drawn = np.stack([uniforms(keys, position) for position in range(20)], axis=1) - 0.5
    assert abs(drawn.mean()) < 0.008
    assert abs(drawn.var() - 1 / 12) < 0.002
    assert abs((drawn[:, 1:] * drawn[:, :-1]).mean() * 12) < 0.03
    assert abs((drawn[1:] * drawn[:-1]).mean() * 12) < 0.03
    assert len(np.unique(drawn)) == drawn.size


def test_a_stream_is_named_by_run_step_question_and_sample_alone():
    assert stream(0, 0, "q", 0) == 16587764825099784367  # of this and every later version: a resumed run needs it
    names = [(0, 0, "q", 0), (1, 0, "q", 0), (0, 1, "q", 0), (0, 0, "r", 0), (0, 0, "q", 1), (0, 2**40, "q", 0)]
    assert len({stream(*name) for name in names}) == len(names)
    assert stream(1, 11, "q", 1) != stream(11, 1, "q", 1)
    assert stream(0, 0, "1/q", 1) != stream(0, 0, "q", 1)


def test_any_question_id_has_a_stream():
    ids = ["", "a/b", "\ud800", "\x00", "日本", "q" * 100_000, "0/0/0/q", "\udfff\ud800"]
    keys = [stream(0, 0, question_id, 0) for question_id in ids]
    assert len(set(keys)) == len(ids)
    assert all(0 <= key < 2**64 for key in keys)
    assert close(uniforms(np.array(keys, dtype=np.uint64), 0) < 1, [1.0] * len(ids))


def test_the_rows_of_a_task_are_those_of_its_streams():
    tasks = [Task((1,), streams) for streams in ((7, 8, 9), (), (5,), (6, 4))]
    rows = Rows(Sampling(max_new_tokens=2))
    rows.add(tasks[:2])
    rows.add(tasks[2:])
    assert [list(rows.of_task(task)) for task in range(4)] == [[0, 1, 2], [], [3], [4, 5]]
    assert all(rows.task[row] == task for task in range(4) for row in rows.of_task(task))
