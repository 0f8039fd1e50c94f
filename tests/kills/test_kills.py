"""Runs killed again and again, and runs whose system calls fail: in the end each is the uninterrupted one."""

import errno
import os
import random
import signal
import threading
from pathlib import Path

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


COUNTING = threading.Lock()


class Fatal:
    """Replies once; where there is a file `fatal` with a number, that reply kills the run, once."""

    def __init__(self, *, fatal):
        self.fatal, self.turns = Path(fatal), 0

    def reset(self, question):
        return question.messages

    def reply(self, messages):
        self.turns += 1
        with COUNTING:  # episodes are played side by side
            if self.fatal.exists():
                left = int(self.fatal.read_text()) - 1
                self.fatal.write_text(str(left))
                if not left:
                    self.fatal.unlink()
                    os.kill(os.getpid(), signal.SIGKILL)
        return [{"role": "user", "content": messages[-1].content[:1]}] if self.turns == 1 else None


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


def test_a_run_killed_in_the_middle_of_an_episode_is_the_uninterrupted_one(forker, tmp_path):
    fatal = tmp_path / "fatal"
    own = f"rollout.environment={__file__}:Fatal"
    changed = (
        own,
        f"rollout.environment_params.fatal={fatal}",
        "rollout.max_new_tokens=4",
        "rollout.stop=['1','+','a']",
    )
    assert forker.train(tmp_path / "whole", resume=False, changed=changed).code == 0
    whole = content(tmp_path / "whole")
    fatal.write_text("30")  # of some 12 replies in each step and evaluation
    ended = forker.train(tmp_path / "run", resume=False, changed=changed)
    assert ended.code == -signal.SIGKILL, ended.text
    assert 0 < len(written(tmp_path / "run")) < 4
    assert go_on(forker, tmp_path / "run").code == 0
    assert content(tmp_path / "run") == whole
