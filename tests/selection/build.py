"""Outputs and questions as tests of selection need them."""

from groupwise.data import Message, Question
from groupwise.selection.keeps import Candidate
from groupwise.selection.select import Sampled


def candidate(text="8", *, right=True, tokens=2, reward=1.0, sample=0, question_id="q", **others):
    """An output; right, finished, with one reward, unless told otherwise."""
    fields = {"rewards": {"number": reward}, "finish": "stop", "step": 0, "failed": False, **others}
    return Candidate(
        question_id=question_id, sample=sample, text=text, tokens=tokens, reward=reward, right=right, **fields
    )


def question(text="7>", key="q"):
    return Question(key, (Message("user", text),))


def sampled(asked, *candidates):
    return Sampled(asked, candidates)
