"""Imports go down only; and the check that says so catches what it should."""

import pytest

from tests.project.layers import violations
from tests.project.sources import package_sources


def test_imports_go_down_only():
    found = violations(package_sources())
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({"groupwise.data": "import groupwise.run.loop"}, "above it (layer 4 from 0)"),
        ({"groupwise.model.batch": "def f():\n    from groupwise.stages import rl"}, "above it (layer 5 from 2)"),
        ({"groupwise.model.batch": "import importlib\nimportlib.import_module('groupwise.cli.main')"}, "above it"),
        ({"groupwise.model.policy": "from ..run import loop"}, "write the whole name"),
        ({"groupwise.rewards.answer": "from groupwise.datasets import base"}, "do not know each other"),
        ({"groupwise.stages.rl": "from groupwise.stages.sft import train"}, "no stage imports another"),
        ({"groupwise.stages.rl": "from groupwise.stages import sft"}, "no stage imports another"),
        ({"groupwise.objective.losses": "from groupwise.config import Recipe"}, "torch and groupwise.errors only"),
        ({"groupwise.objective.losses": "import numpy"}, "torch and groupwise.errors only"),
        ({"groupwise.rewards.answer": "def f():\n    import torch"}, "rewards is free of torch"),
        ({"groupwise.rewards.answer": "from groupwise.model import policy"}, "above it (layer 2 from 1)"),
        ({"groupwise.rewards.model": "from groupwise.engines import local"}, "above it (layer 2 from 1)"),
        ({"groupwise.cli.main": "from transformers import AutoTokenizer"}, "cli is free of torch"),
        ({"groupwise": "import torch"}, "groupwise is free of torch"),
        ({"groupwise.dashboard.app": "from groupwise.stages import rl"}, "layer 0 and record only"),
        ({"groupwise.engines.a": "import ray", "groupwise.learn.b": "import ray.util"}, "ray is imported in more"),
        ({"groupwise.learn.a": "torch.distributed.barrier()", "groupwise.model.b": "from torch import distributed"},
         "torch.distributed is imported in more"),
        ({"groupwise.model.a": "import groupwise.engines.b", "groupwise.engines.b": "import groupwise.model.a"},
         "imports go round"),
        ({"groupwise.helpers": ""}, "helpers has no layer"),
    ],
)  # fmt: skip
def test_the_check_catches(sources, said):
    found = violations(sources)
    assert len(found) == 1, found
    assert said in found[0]


@pytest.mark.parametrize(
    "sources",
    [
        {"groupwise.stages.rl": "from groupwise.run.loop import run\nfrom groupwise import data, __version__"},
        {"groupwise.objective.losses": "import math\nimport torch\nfrom groupwise.objective.logprobs import k3"},
        {
            "groupwise.rewards.model": "import torch\nfrom groupwise.model import policy",
            "groupwise.engines.local": "from groupwise.model import policy",
        },
        {"groupwise.dashboard.app": "from groupwise.record import read\nfrom groupwise.errors import DataError"},
        {"groupwise.model.parallel": "import torch.distributed as dist\ntorch.distributed.barrier()"},
        {"groupwise": "def __getattr__(name):\n    from groupwise.stages import rl"},
    ],
)
def test_the_check_lets_pass(sources):
    assert violations(sources) == []
