"""Reward functions of a user: two in the forms of other projects, and some that fail or end the run on purpose."""

import itertools
import os
from pathlib import Path

CALLS = itertools.count(1)


def trl_form(prompts, completions, answer, **columns):
    texts = [completion if isinstance(completion, str) else completion[0]["content"] for completion in completions]
    return [float(text.startswith(right)) for text, right in zip(texts, answer, strict=True)]


def verl_form(data_source, solution_str, ground_truth, extra_info):
    right = solution_str.startswith(ground_truth)
    return {"score": float(right), "index": extra_info["index"], "digits": data_source == "digits"}


def fails_on_calls(text, calls):
    """0, but for the calls of those numbers, from 1; the first call is the check before the run."""
    if next(CALLS) in calls:
        raise ValueError("no luck")
    return 0.0


def signals_at_step(prompts, completions, trainer_state, at, number, once, **columns):
    """0; in that step sends the run a signal, unless the file `once` says that it has."""
    in_a_step = len(completions) > 1 and len(set(map(str, prompts))) == 1  # else a check or an evaluation asks
    if in_a_step and trainer_state.global_step == at and not Path(once).exists():
        Path(once).touch()
        os.kill(os.getppid(), number)
    return [0.0] * len(completions)


def signals_when_there(completions, folder, number, once, **columns):
    """0; when the folder is there sends the run a signal, unless the file `once` says that it has."""
    if Path(folder).exists() and not Path(once).exists():
        Path(once).touch()
        os.kill(os.getppid(), number)
    return [0.0] * len(completions)
