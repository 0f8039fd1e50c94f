"""Reward functions in their processes: what they may do to themselves, and not to the run."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from groupwise.config import RewardConfig
from groupwise.data import Part, Reward
from groupwise.errors import RewardError, RewardLimitError
from groupwise.rewards.base import RewardSet, check_failures, first_failure
from groupwise.rewards.child import Child
from tests.rewards.build import FUNCTIONS, output, question


def config(function: str, **fields) -> RewardConfig:
    return RewardConfig(function=function if ":" in function else f"{FUNCTIONS}:{function}", **fields)


def score(texts: list[str], *configs: RewardConfig):
    with RewardSet(configs) as rewards:
        return rewards.score([question(name=f"q-{i}") for i in range(len(texts))], [output(t) for t in texts])


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_reward_is_the_weighted_sum_of_the_parts():
    rewards = score(["abc"], config("length", weight=0.5), config("misbehaving", weight=2.0))
    # 0.5 * 3 + 2 * 1 = 3.5
    assert rewards[0].value == 3.5
    assert rewards[0].parts == {"length": Part("value", 3.0), "misbehaving": Part("value", 1.0)}


def test_a_halt_reaches_a_process_that_is_just_being_started(monkeypatch):
    child = Child(f"{FUNCTIONS}:misbehaving", {}, timeout_seconds=60)
    child.start()
    child.ready()
    os.killpg(child._process.pid, signal.SIGKILL)  # so that the next call starts another
    child._process.wait()
    starting, popen = threading.Event(), subprocess.Popen

    def slow(*words, **settings):
        starting.set()
        time.sleep(0.5)
        return popen(*words, **settings)

    monkeypatch.setattr(subprocess, "Popen", slow)
    with ThreadPoolExecutor(1) as scorer:
        samples = [(question(), text, output(text).tokens) for text in ("hang", "hang")]
        found = scorer.submit(lambda: child.verdicts(samples, step=0))
        assert starting.wait(10)
        started = time.monotonic()
        child.halt()
        with pytest.raises(RewardError, match="stopped while it scored"):
            found.result()
    assert time.monotonic() - started < 20  # "hang" sleeps for a minute
    child.close()


def test_an_abstaining_part_leaves_the_others_and_all_abstaining_gives_none():
    both = score(["none"], config("length"), config("misbehaving"))
    alone = score(["none"], config("misbehaving"))
    assert both[0].value == 4.0  # the length of "none"
    assert (alone[0].value, alone[0].failed) == (None, False)


def test_each_misdeed_fails_its_own_sample_and_no_other():
    misdeeds = ["raise", "exit", "abort", "sys.exit", "hang", "nan"]
    texts = [text for misdeed in misdeeds for text in ("good", misdeed)] + ["good"]
    started = time.monotonic()
    rewards = score(texts, config("misbehaving", timeout_seconds=0.5), config("length", weight=0.0))
    assert time.monotonic() - started < 20  # "hang" sleeps for a minute
    assert [reward.value for reward in rewards] == [1.0, None] * len(misdeeds) + [1.0]
    details = {text: reward.parts["misbehaving"].detail for text, reward in zip(texts, rewards, strict=True)}
    assert "ValueError: no luck with q-1 (" in details["raise"]
    assert "exit code 3" in details["exit"]
    assert "SIGABRT" in details["abort"]
    assert "SystemExit: bye" in details["sys.exit"]
    assert "limit of 0.5 s" in details["hang"]
    assert "not a finite number" in details["nan"]
    assert all(reward.parts["length"].state == "value" for reward in rewards)


def test_limit_error_names_function_counts_reason_question_and_output():
    rewards = score(["raise", "good", "raise", "good"], config("misbehaving"), config("length"))
    check_failures(rewards, 0.5)  # 2 of 4 is not more than half
    with pytest.raises(Exception, match="misbehaving") as error:
        check_failures(rewards, 0.49)
    assert type(error.value).__name__ == "RewardLimitError"
    for words in ("2 of 4", "ValueError: no luck with q-0", "user_functions.py:", "question 'q-0', output 'raise'"):
        assert words in str(error.value)
    assert list(first_failure(rewards)) == ["misbehaving"]
    assert "in misbehaving" in first_failure(rewards)["misbehaving"]


def test_no_failures_pass_a_limit_of_zero():
    check_failures(score(["a"], config("length")), 0.0)
    check_failures([], 0.0)


def test_late_batch_call_fails_all_its_samples_and_the_next_call_works():
    with RewardSet([config("batch", timeout_seconds=0.5)]) as rewards:
        late = rewards.score([question()] * 2, [output("hang"), output("ok")])
        well = rewards.score([question()] * 2, [output("abc"), output("ok")])
    assert [reward.failed for reward in late] == [True, True]
    assert [reward.value for reward in well] == [3.0, 2.0]


def test_hostile_texts_arrive_whole():
    texts = ["", "\x00" * 5, "x" * 1_000_000, "\ud800", "\U0001f600" * 3, "</answer><answer>", "\\boxed{\\boxed{"]
    assert [reward.value for reward in score(texts, config("length"))] == [float(len(text)) for text in texts]


def test_large_request_and_many_replies_do_not_block_each_other():
    rewards = score(["y" * 50_000] * 64 + ["raise"] * 300, config("misbehaving"))
    assert [reward.value for reward in rewards] == [1.0] * 64 + [None] * 300


def test_child_imports_no_torch():
    assert score(["torch", "pydantic", "sys"], config("loaded_modules"))[2].value == 1.0
    assert [reward.value for reward in score(["torch", "pydantic"], config("loaded_modules"))] == [0.0, 0.0]


def test_prints_go_to_standard_error(capfd):
    score(["said by a reward"], config("prints"))
    out, err = capfd.readouterr()
    assert (out, err) == ("", "said by a reward\nand past Python\n")


def test_file_path_is_relative_and_its_siblings_import(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sibling.py").write_text("SCORE = 0.75\n")
    (tmp_path / "mine" / "my-rewards.py").write_text("import sibling\ndef half(text): return sibling.SCORE\n")
    monkeypatch.chdir(tmp_path)
    assert score(["x"], config("mine/my-rewards.py:half"))[0].parts == {"half": Part("value", 0.75)}


def test_module_of_the_current_folder_is_found(tmp_path, monkeypatch):
    (tmp_path / "rewards_here.py").write_text("def one(text): return 1\n")
    monkeypatch.chdir(tmp_path)
    assert score(["x"], config("rewards_here:one", name="uno"))[0].parts == {"uno": Part("value", 1.0)}


def test_files_named_as_the_standard_library_do_no_harm(tmp_path, monkeypatch):
    for name in ("json.py", "queue.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')\n")
    (tmp_path / "mine.py").write_text("def one(text): return 1\n")
    monkeypatch.chdir(tmp_path)
    assert score(["x"], config("mine.py:one"))[0].value == 1.0


REFUSED = [
    ("numbr", "no such name; did you mean 'number'"),
    ("no_such_module_here:f", "no module named 'no_such_module_here'"),
    ("no_such_file.py:f", "no file 'no_such_file.py'"),
    (f"{FUNCTIONS}:misbehavin", "did you mean 'misbehaving'"),
    (f"{FUNCTIONS}:not_a_function", "is int, not a function"),
    (f"{FUNCTIONS}:unknown_form", "not a known form, its parameters are: response.*prompts, completions"),
    ("broken.py:f", r"cannot be imported: NameError: name 'undefined' is not defined \(.*broken\.py:2\)"),
    ("syntax.py:f", r"cannot be imported: SyntaxError: .*\(.*syntax\.py:1\)"),
    ("imports.py:f", "cannot be imported: ModuleNotFoundError: No module named 'not_there'"),
    ("exits.py:f", "cannot be imported: SystemExit: 2"),
    ("dies.py:f", "while it was imported its process ended by itself .exit code 9."),
    ("empty.py:f", "it defines no function"),
]


def test_what_cannot_be_loaded_is_refused_at_construction(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import os\nundefined\n")
    (tmp_path / "syntax.py").write_text("def f(:\n")
    (tmp_path / "imports.py").write_text("import not_there\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(2)\n")
    (tmp_path / "dies.py").write_text("import os\nos._exit(9)\n")
    (tmp_path / "empty.py").write_text("")
    monkeypatch.chdir(tmp_path)
    for name, told in REFUSED:
        with pytest.raises(RewardError, match=told) as error:
            RewardSet([RewardConfig(function=name)])
        assert name in str(error.value)
        assert "\n" not in str(error.value)
        assert error.value.exit_code == 2
        assert error.value.hint


def test_two_rewards_of_one_name_are_refused():
    with pytest.raises(RewardError, match="not distinct"):
        RewardSet([config("length"), config("length")])


def test_no_process_is_left_after_close_nor_after_a_time_out(tmp_path):
    started = tmp_path / "pids"
    rewards = RewardSet([config("with_a_child_of_its_own", timeout_seconds=1.0)])
    assert rewards.score([question()], [output(str(started))])[0].failed
    rewards.close()
    assert all(gone(int(pid)) for pid in started.read_text().split())


@pytest.mark.parametrize(
    ("how", "function", "processes"),
    [
        (signal.SIGKILL, "with_a_child_of_its_own", 2),
        (signal.SIGINT, "with_a_child_of_its_own", 2),
        (signal.SIGKILL, "with_a_session_of_its_own", 3),
    ],
)
def test_no_process_outlives_a_parent_that_is_killed(tmp_path, how, function, processes):
    script = (
        "from groupwise.config import RewardConfig\n"
        "from groupwise.rewards.base import RewardSet\n"
        "from tests.rewards.build import output, question\n"
        f"with RewardSet([RewardConfig(function='{FUNCTIONS}:{function}')]) as rewards:\n"
        f"    rewards.score([question()], [output({str(tmp_path / 'pids')!r})])\n"
    )
    # a shell's background jobs ignore SIGINT, and what they start inherits that
    script = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{script}"
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    pids = tmp_path / "pids"
    for _ in range(1200):  # a busy machine may take long to start Python twice
        if pids.exists() and len(pids.read_text().split()) == processes:
            break
        time.sleep(0.05)
    parent.send_signal(how)
    _, told = parent.communicate(timeout=60)
    assert all(gone(int(pid)) for pid in pids.read_text().split())
    assert told.count("Traceback") == (1 if how == signal.SIGINT else 0)  # the parent's own; the child is silent


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to a process that asks for them")
def test_what_a_function_moved_to_another_session_ends_at_its_time_limit(tmp_path):
    pids = tmp_path / "pids"
    with RewardSet([config("with_a_session_of_its_own", timeout_seconds=2.0)]) as rewards:
        assert rewards.score([question()], [output(str(pids))])[0].failed
        assert len(pids.read_text().split()) == 3
        assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_a_function_of_many_outputs_is_given_a_question_at_a_time_each_with_its_own_limit():
    # 0.1 s an output, 2 outputs a question: 12 outputs are late together and in time question by question
    texts = [*("ok",) * 4, "hang", "ok", *("ok",) * 6]
    asked = [question(name=f"q-{i // 2}") for i in range(12)]
    with RewardSet([config("slow_batch", timeout_seconds=0.9)]) as rewards:
        scored = rewards.score(asked, [output(text) for text in texts])
    assert [reward.value for reward in scored] == [2.0] * 4 + [None] * 2 + [2.0] * 6


def test_a_process_that_holds_the_interpreter_is_stopped_too():
    # (a+)+$ against aaaa...b tries 2^40 ways inside one call of the re module
    pattern = RewardConfig(function="pattern", params={"regex": "(a+)+$"}, timeout_seconds=0.5)
    rewards = score(["a" * 40 + "b", "aaa"], pattern, config("busy_for_ever", timeout_seconds=0.5, weight=0.0))
    assert [reward.parts["pattern"].state for reward in rewards] == ["failed", "value"]
    assert [reward.parts["busy_for_ever"].state for reward in rewards] == ["failed", "failed"]


def test_a_closed_set_starts_again_when_asked():
    rewards = RewardSet([config("length")])
    rewards.close()
    with rewards:
        assert rewards.score([question()], [output("abc")])[0].value == 3.0
    assert rewards.score([], []) == []


def test_a_class_may_take_longer_to_make_than_a_call_may_take():
    assert [reward.value for reward in score(["a", "b"], config("SlowToLoad", timeout_seconds=0.4))] == [1.0, 1.0]


def test_a_failed_environment_is_named_where_other_outputs_have_no_such_part():
    failed = Reward(None, {"environment": Part("failed", None, "the environment failed: no such page")})
    with pytest.raises(RewardLimitError, match="'environment' failed on 1 of 2"):
        check_failures([failed, Reward(1.0, {"right": Part("value", 1.0)})], 0.1)
