"""A process counts the memory that its container leaves it, whichever group above it holds the limit."""

import pytest

from groupwise.model import container
from groupwise.model.threads import own_cores

GIB = 2**30
STAT = "anon 5\ninactive_file 1024\ntotal_inactive_file 2048\n"


@pytest.fixture
def tree(tmp_path):
    """Writes files of a control group tree, and the process's own place in it."""

    def write(files, own="0::/\n"):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        (tmp_path / "own").write_text(own)
        return tmp_path, tmp_path / "own"

    return write


V2 = {"memory.max": f"{4 * GIB}\n", "memory.current": f"{GIB}\n", "memory.stat": STAT}
V1 = {"memory.limit_in_bytes": f"{4 * GIB}\n", "memory.usage_in_bytes": f"{GIB}\n", "memory.stat": STAT}


@pytest.mark.parametrize(
    ("files", "own", "free"),
    [
        (V2, "0::/\n", 3 * GIB + 1024),
        ({f"a/b/{name}": text for name, text in V2.items()}, "0::/a/b\n", 3 * GIB + 1024),
        ({f"a/{name}": text for name, text in V2.items()} | {"a/b/memory.max": "max"}, "0::/a/b\n", 3 * GIB + 1024),
        ({f"memory/{name}": text for name, text in V1.items()}, "9:memory:/\n", 3 * GIB + 2048),
        ({f"memory/job/{name}": text for name, text in V1.items()}, "4:cpu,memory:/job\n0::/\n", 3 * GIB + 2048),
        # the host's path, seen from inside a container: the mount is the group
        ({f"memory/{name}": text for name, text in V1.items()}, "9:memory:/docker/0123\n", 3 * GIB + 2048),
        (V2 | {"memory.high": f"{2 * GIB}"}, "0::/\n", GIB + 1024),
        (V2 | {"memory.current": f"{5 * GIB}", "memory.stat": ""}, "0::/\n", 0),
        (V2 | {"memory.max": "max\n"}, "0::/\n", None),
        ({f"memory/{name}": text for name, text in (V1 | {"memory.limit_in_bytes": "9223372036854771712"}).items()},
         "9:memory:/\n", None),
        ({"memory.max": "nonsense"}, "nonsense", None),
        ({}, "", None),
    ],
)  # fmt: skip
def test_the_tightest_limit_counts(tree, files, own, free):
    assert container.free_memory(*tree(files, own)) == free


def test_of_two_limits_the_tighter_counts(tree):
    files = {f"a/{name}": text for name, text in V2.items()} | V2 | {"memory.max": f"{2 * GIB}"}
    assert container.free_memory(*tree(files, "0::/a\n")) == GIB + 1024


def test_cores_are_limited_above_the_process_too(tree, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert own_cores(*tree({"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n")) == 2
