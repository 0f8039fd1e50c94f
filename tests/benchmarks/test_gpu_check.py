"""The check for machines with a GPU records what fails and goes on; what needs no GPU of it is tried here."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.gpu_check import __main__ as check
from benchmarks.gpu_check import wheels
from benchmarks.gpu_check.agreement import faults
from benchmarks.gpu_check.parts import PARTS, Part, Settings

CARD = {"device": "cuda", "card": "NVIDIA X100 80GB", "date": "2026-01-31", "versions": {"torch": "2.11.0"}}
FAKE = (
    Part("fails", 20, lambda _: ["-c", "print('began'); raise SystemExit('no kernel')"]),
    Part("late", 5, lambda _: ["-c", "import time; print('waits', flush=True); time.sleep(60)"]),
    Part("elsewhere", 20, lambda _: [], lambda settings: f"not on {settings.device}"),
    Part("fine", 20, lambda _: ["-c", "print('{\"gap\": 0.5}')"]),
)


def checked(monkeypatch, *words: str, machine=CARD, parts=FAKE) -> int:
    monkeypatch.setattr(check, "PARTS", parts)
    monkeypatch.setattr(check, "_machine", lambda wanted: machine)
    monkeypatch.setattr(sys, "argv", ["gpu_check", *words])
    try:
        check.main()
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        return end.code or 0
    return 0


def test_a_part_that_fails_or_is_late_is_recorded_and_the_next_one_runs(tmp_path, monkeypatch, capsys):
    assert checked(monkeypatch, "--out", str(tmp_path)) == 1
    (file,) = tmp_path.glob("*.json")
    assert file.name == "gpu_check-nvidia-x100-80gb-2026-01-31.json"
    held = json.loads(file.read_text())
    states = {part["name"]: part["state"] for part in held["parts"]}
    assert states == {"fails": "failed", "late": "over time", "elsewhere": "left out", "fine": "passed"}
    assert held["parts"][0]["said"] == "began\nno kernel"
    assert held["parts"][1]["said"] == "waits"
    assert held["parts"][2]["said"] == "not on cuda"
    assert held["parts"][3]["figures"] == [{"gap": 0.5}]
    assert held["versions"] == {"torch": "2.11.0"}
    assert "no kernel" in file.with_suffix(".log").read_text()
    assert "1 failed, 1 over time, 1 left out, 1 passed" in capsys.readouterr().out


def test_when_the_time_is_up_the_rest_is_left_out(tmp_path, monkeypatch):
    assert checked(monkeypatch, "--out", str(tmp_path), "--minutes", "0.01", "--only", "fine") == 0
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text())["parts"][0]["said"] == "no time left"


def test_without_an_accelerator_it_says_so(tmp_path, monkeypatch, capsys):
    assert checked(monkeypatch, "--out", str(tmp_path), machine=CARD | {"device": None}) == 0
    assert "no accelerator here: nothing checked" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named_in_one_line(monkeypatch):
    monkeypatch.setattr(check, "NEEDED", {"json": "json", "nowhere": "Nowhere", "no_other": "other"})
    with pytest.raises(SystemExit, match=r"^missing in .*: Nowhere, other; gather wheels \(make gpu-wheels\)"):
        checked(monkeypatch)


def test_all_parts_fit_into_nine_minutes():
    assert sum(part.seconds for part in PARTS) <= 60 * check.MINUTES < 9 * 60
    assert len({part.name for part in PARTS}) == len(PARTS)
    for part in PARTS:  # a module that a part runs is there
        words = part.words(Settings("cuda", False, Path("scratch")))
        assert words[1] == "pytest" or (check.ROOT / f"{words[1].replace('.', '/')}.py").exists()


FIGURES = {
    "plain_mean": 0.02,
    "packed_mean": 0.02,
    "sampler_mean": 0.02,
    "packed_most": 0,
    "sampler_most": 0,
    "gradient": 0,
}


@pytest.mark.parametrize(
    ("precision", "changed", "found"),
    [
        ("fp32", {}, []),
        ("fp32", {"packed_most": 0.1, "gradient": 0.1}, ["packed_most", "gradient"]),
        ("fp32", {"sampler_most": float("nan"), "gradient": None}, ["sampler_most"]),
        ("bf16", {}, []),
        ("bf16", {"sampler_mean": 0.04}, ["sampler_mean"]),  # a plain bf16 pass is off by 0.02, so 0.032 at most
        ("bf16", {"packed_mean": float("nan")}, ["packed_mean"]),
    ],
)
def test_what_is_further_off_than_it_may_be_is_named(precision, changed, found):
    assert faults(precision, FIGURES | changed) == found


REPORT = [("torch", "2.11.0"), ("pydantic", "2.14.3"), ("pydantic-core", "2.50.4"), ("math_verify", "0.9")]


def test_wheels_are_those_that_the_other_machine_lacks():
    assert wheels.lacking(REPORT, have={"torch", "pydantic-core"}) == [("pydantic", "2.14.3"), ("math_verify", "0.9")]
    assert wheels.names("Torch==2.11.0\npydantic_core==2.1\n# a comment\nfile @ file:///x\n\n-e git+x#egg=own\n") == {
        "torch", "pydantic-core", "file",
    }  # fmt: skip
