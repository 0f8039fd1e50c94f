"""A judge in a set of rewards, in its own process: its server goes, the set waits, and goes on when it is back."""

import threading
import time

from groupwise.config import RewardConfig
from groupwise.rewards.base import RewardSet
from tests.rewards.build import output, question
from tests.rewards.judging.server import free_port, says, serving


def test_a_run_waits_for_its_judge_past_its_time_limit_and_scores_nothing_0(tmp_path, capfd):
    (tmp_path / "rubric.yml").write_text("prompt: '{output}'")
    port = free_port()
    params = {"base_url": f"http://127.0.0.1:{port}/v1", "model": "m", "rubric": str(tmp_path / "rubric.yml")}
    config = RewardConfig(function="judge", timeout_seconds=0.5, params={**params, "retries": 0})
    folder = tmp_path / "run"
    folder.mkdir()
    made, seen = [], ""
    maker = threading.Thread(target=lambda: made.append(RewardSet([config], folder=folder)))
    maker.start()  # nobody answers yet: it is waited for, in its process too
    end = time.monotonic() + 60
    while "is away since" not in seen and time.monotonic() < end:
        seen += capfd.readouterr().err
        time.sleep(0.05)
    with serving(says('{"score": 5}'), port):
        maker.join(60)
    with made[0] as rewards:
        pending, found = rewards.submit([question()] * 2, [output("a"), output("b")]), []
        waiter = threading.Thread(target=lambda: found.extend(pending.result()))
        waiter.start()
        end, seen = time.monotonic() + 20, ""
        while "is away since" not in seen and time.monotonic() < end:
            seen += capfd.readouterr().err
            time.sleep(0.05)
        with serving(says('{"score": 5}'), port) as server:
            waiter.join(20)
            assert [reward.value for reward in found] == [0.5, 0.5]
            spent = rewards.spent()
            rewards.score([question()], [output("a")])
            assert len(server.asked) == 2  # what was judged is kept
        assert spent["judge/tokens_in/judge"] == 200
    assert "answers again after" in capfd.readouterr().err
    assert (folder / "judgements.sqlite").exists()
