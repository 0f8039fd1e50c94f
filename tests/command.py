"""The command line called in this process, and a recipe small enough for it."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

import pytest

from groupwise.cli.main import main
from tests.project.sources import ROOT

RECIPE = str(ROOT / "recipes" / "tiny.yaml")
SMALL = (
    "questions.heldout_size=6",
    "rollout.questions_per_step=4",
    "rollout.group_size=4",
    "rollout.max_new_tokens=4",
    "update.steps=4",
    "run.checkpoint_every=2",
)
"""Overrides of RECIPE: 4 steps of 16 outputs of up to 4 tokens, saved after 2 and 4."""


class Done(NamedTuple):
    """How a command ended and what it printed on stdout and stderr."""

    code: int
    out: str
    err: str


def groupwise(*words: Any) -> Done:
    """Calls `groupwise words...` as the console command does; an error that is not ours is raised."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["groupwise", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())
