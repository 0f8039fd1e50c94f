"""The benchmark's last lines say of each target whether it is reached."""

from benchmarks.targets import verdicts

KEY = ("real", 100, 0.0, 2)
OURS = {"wall_s": 20.0, "tokens_per_s": 90.0, "peak_rss_bytes": 4.0}


def test_each_target_is_met_or_missed_with_its_figure():
    # 84 / 20 = 4.2 times TRL's speed, 90 of vLLM's 100 tokens a second, 10 of 20 seconds, 4 of TRL's 10 bytes
    measured = {
        ("groupwise", *KEY): OURS,
        ("trl", *KEY): {"wall_s": 84.0, "peak_rss_bytes": 10.0},
        ("vllm", "real", 100, None, 2): {"tokens_per_s": 100.0},
    }
    lines = verdicts(measured, {KEY: {"floor_fastest_s": 10.0}})
    assert [(line[:6], line.split(": ")[1].split(" (")[0]) for line in lines] == [
        ("met   ", "4.20, at least 4"),
        ("missed", "0.90, at least 1"),
        ("missed", "0.50, at least 0.75"),
        ("met   ", "0.40, at most 0.45"),
    ]


def test_what_was_not_measured_is_neither():
    assert verdicts({("groupwise", *KEY): OURS}, {}) == []
