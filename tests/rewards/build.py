"""Questions and outputs as a reward sees them."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from groupwise.data import Message, Output, Part, Question
from groupwise.rewards.adapters import adapt
from groupwise.rewards.verdicts import Verdict

FUNCTIONS = "tests.rewards.user_functions"


def question(answer: Any = "4", *, name: str = "q-1", **meta: Any) -> Question:
    return Question(name, (Message("system", "Be brief."), Message("user", "What is 2 + 2?")), answer, meta)


def output(text: str) -> Output:
    tokens = np.arange(len(text[:3]))
    return Output(np.arange(4), tokens, np.ones_like(tokens, bool), np.zeros(len(tokens), np.float32), text, "stop")


def verdicts(function: Callable[..., Any], texts: Iterable[str], asked: Question, **params: Any) -> list[Verdict]:
    """What a function says, called in this process."""
    samples = [(asked, text, output(text).tokens) for text in texts]
    return [verdict for some in adapt(function, params, "test:function")[1](samples, 7) for verdict in some]


def parts(function: Callable[..., Any], texts: Iterable[str], asked: Question, **params: Any) -> list[Part]:
    return [verdict.part for verdict in verdicts(function, texts, asked, **params)]
