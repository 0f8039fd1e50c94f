"""A process counts the cores that it may use, not those of the machine."""

import os

import pytest
import torch

from groupwise.model import threads


@pytest.fixture
def sixteen_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "150000 100000"}, 2),  # one core and a half: the second is there half of the time
        ({"cpu.max": "max 100000"}, 16),
        ({"cpu.max": "3200000 100000"}, 16),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ({"cpu.max": "nonsense"}, 16),
        ({}, 16),
    ],
)
def test_a_containers_limit_counts(files, cores, tmp_path, sixteen_cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads.own_cores(tmp_path, tmp_path / "none") == cores


def test_affinity_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert threads.own_cores(tmp_path, tmp_path / "none") == 1


def test_threads_are_lowered_unless_the_user_said_how_many(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        monkeypatch.setattr(threads, "own_cores", lambda: 2)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert threads.use_own_cores() == 3
        monkeypatch.delenv("OMP_NUM_THREADS")
        assert threads.use_own_cores() == 2
        monkeypatch.setattr(threads, "own_cores", lambda: 8)
        assert threads.use_own_cores() == 2  # never raised: somebody chose it
    finally:
        torch.set_num_threads(before)
