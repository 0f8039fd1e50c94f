"""Runs killed again and again, and runs whose system calls fail: in the end each is the uninterrupted one."""

import errno
import random

import pytest

from tests.kills.runs import KINDS, at_a_call, at_a_moment, content, go_on, killed_until, left_over, written

RANDOM_KILLS = 8
CHOSEN_KILLS = 9
"""At least, in each of the tests, which are several so that none takes long."""
FAULTS = [
    ("write", errno.ENOSPC, True),
    ("write", errno.ENOSPC, False),
    ("write", errno.EIO, False),
    ("write", errno.EINTR, False),
    ("fsync", errno.EIO, False),
    ("fsync", errno.ENOSPC, True),
    ("fsync", errno.EINTR, False),
    ("rename", errno.EIO, False),
    ("rename", errno.ENOSPC, True),
    ("open", errno.ENOSPC, True),
    ("open", errno.EIO, False),
    ("open", errno.EMFILE, False),
    ("open", errno.EINTR, False),
    ("unlink", errno.EIO, False),
    ("ftruncate", errno.ENOSPC, True),
]


def needs_compiler(forker):
    if forker.faults is None:
        pytest.skip("no C compiler here")


@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_killed_at_random_moments_is_the_uninterrupted_one(forker, whole, tmp_path, seed):
    drawn = random.Random(seed)
    *_, kills = killed_until(forker, whole, tmp_path, RANDOM_KILLS, lambda: at_a_moment(drawn, whole))
    assert kills >= RANDOM_KILLS


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_run_killed_at_chosen_system_calls_is_the_uninterrupted_one(forker, whole, tmp_path, seed):
    needs_compiler(forker)
    drawn = random.Random(seed)
    *_, kills = killed_until(forker, whole, tmp_path, CHOSEN_KILLS, lambda: at_a_call(drawn, whole))
    assert kills >= CHOSEN_KILLS


@pytest.mark.parametrize(
    ("kind", "error", "forever"), FAULTS, ids=[f"{kind}-{errno.errorcode[e]}-{'full' * f}" for kind, e, f in FAULTS]
)
def test_a_failing_system_call_costs_no_step_and_the_run_goes_on(forker, whole, tmp_path, kind, error, forever):
    needs_compiler(forker)
    place = random.Random(f"{kind}{error}{forever}").randrange(whole.calls[kind])
    ended = forker.train(tmp_path / "run", resume=False, fault=(KINDS[kind], place, error, int(forever)))
    assert "Traceback" not in ended.text, ended.text
    assert ended.code in (0, 1), ended.text
    if ended.code:
        assert sum(line.startswith("error: ") for line in ended.text.splitlines()) == 1, ended.text
    assert ended.acknowledged <= written(tmp_path / "run")
    again = go_on(forker, tmp_path / "run")
    assert again.code == 0 or "nothing is left to train" in again.text, again.text
    assert content(tmp_path / "run") == whole.content
    assert left_over(tmp_path / "run") == []
