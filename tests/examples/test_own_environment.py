"""The example of a user's own environment: the secret is shown to whoever asks, and what is shown is never learned."""

import importlib.util

import numpy as np
import pytest

from groupwise.data import Group, Message, Output, Question, Reward, Sample
from groupwise.model.batch import Rollouts
from tests.project.sources import ROOT

QUESTION = Question("q", (Message("user", "6>"),), answer="7")  # 7 % 2 = 1, so b


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("own_environment", ROOT / "examples" / "own_environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def episode(example, *turns):
    """The turns after what is shown first, with the environment's replies."""
    environment = example.AskFirst()
    messages = list(environment.reset(QUESTION))
    for turn in turns:
        messages.append(Message("assistant", turn))
        messages += environment.reply(messages) or []
    return messages[1:]


@pytest.mark.parametrize(
    ("turns", "replies", "right", "form"),
    [
        (("?", "b"), ["b"], 1, 1),
        (("?", "a"), ["b"], 0, 1),
        (("b",), [], 1, 0),
        (("a",), [], 0, 0),
        (("?", "?"), ["b"], 0, 0.5),
    ],
)
def test_the_secret_is_shown_once_and_to_who_asks(example, turns, replies, right, form):
    messages = episode(example, *turns)
    assert [message.content for message in messages if message.role == "user"] == replies
    assert example.guessed(messages, QUESTION) == right
    assert example.in_form(messages, QUESTION) == form


def test_each_secret_belongs_to_as_many_questions_so_that_a_blind_guess_is_right_in_half(example):
    secrets = [example.secret_of(Question(str(n), (), answer=str(n))) for n in range(10)]
    assert sorted(secrets) == sorted(example.SECRETS * 5)


def test_what_the_environment_replies_is_no_part_of_what_is_learned():
    sampled = np.array([True, False, False, False, True])
    output = Output(
        question_tokens=np.array([4, 20], np.int32),
        tokens=np.array([24, 2, 4, 28, 28], np.int32),
        sampled=sampled,
        logprobs=np.where(sampled, -1.0, 0.0).astype(np.float32),
        text="c",
        finish="stop",
    )
    samples = (Sample(output, Reward(1.0)), Sample(output, Reward(0.0)))
    rollouts = Rollouts.of([Group(QUESTION, samples)])
    assert rollouts.output_mask[:, 2:].tolist() == [sampled.tolist()] * 2
