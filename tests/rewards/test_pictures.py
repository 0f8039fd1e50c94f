"""Rewards get the pictures of a question where they ask for them, in each form, here and in a process of their own."""

import pytest

from groupwise.config import RewardConfig
from groupwise.contents import Place, image_of
from groupwise.data import Message, Question, message_of_parts
from groupwise.errors import DataError
from groupwise.rewards import seen
from groupwise.rewards.base import RewardSet
from tests.drawn import file_of
from tests.rewards.build import FUNCTIONS, output, parts


def seeing(*colors, answer="4", **meta):
    images = [image_of(file_of(color=color), "x", Place(None)) for color in colors]
    return Question("q", (message_of_parts("user", [*images, "?"]),), answer, meta)


def red(drawing):
    return drawing.getpixel((0, 0))[0]


def trl(completions, images, **columns):
    return [red(images[place][-1]) for place in range(len(completions))]


def trl_of_any(completions, **columns):
    return [red(columns["images"][place][-1]) for place in range(len(completions))]


async def trl_later(completions, image, images):
    return [red(some[-1]) if red(first) == 0 else None for first, some in zip(image, images, strict=True)]


def easyr1(reward_inputs):
    return [{"overall": red(one["images"][-1])} for one in reward_inputs]


def verl(data_source, solution_str, ground_truth, images):
    return red(images[-1])


def ours(text, question, images):
    return red(images[-1])


async def ours_at_once(texts, questions, images):
    return [red(some[-1]) for some in images]


@pytest.mark.parametrize("function", [trl, trl_of_any, trl_later, easyr1, verl, ours, ours_at_once])
def test_a_function_of_any_form_gets_the_pictures_it_asks_for(function):
    assert [part.value for part in parts(function, ["a", "b"], seeing("blue", (10, 0, 0)))] == [10.0, 10.0]


def test_nothing_is_decoded_for_a_function_that_does_not_look(monkeypatch):
    monkeypatch.setattr(seen, "opened", None)
    seen._opened.cache_clear()
    assert parts(lambda completions, **columns: [1.0] * len(completions), ["a"], seeing("red"))[0].value == 1
    assert parts(lambda text: 1.0, ["a"], seeing("red"))[0].value == 1
    assert parts(lambda completions, images: [1.0], ["a"], seeing("red"))[0].state == "failed"


def test_a_picture_that_a_function_draws_on_is_whole_for_the_next_output():
    def draws(text, images):
        value = red(images[0])
        images[0].paste("black", (0, 0, 6, 4))
        return value

    assert [part.value for part in parts(draws, ["a", "b"], seeing("red"))] == [255.0, 255.0]


def test_a_question_without_pictures_gives_none_and_a_default_stays():
    plain = Question("q", (Message("user", "?"),), "4")
    assert parts(lambda text, images: len(images), ["a"], plain)[0].value == 0
    assert parts(lambda text, image: float(image is None), ["a"], plain)[0].value == 1
    assert parts(lambda text, images="none": float(images == "none"), ["a"], plain)[0].value == 1


def test_a_process_of_its_own_gets_them_and_pictures_that_no_question_has_are_refused():
    with RewardSet([RewardConfig(function=f"{FUNCTIONS}:reddest")]) as rewards:
        asked = [seeing("blue", "red"), seeing("red", "blue")]
        assert [one.value for one in rewards.score(asked, [output("a"), output("b")])] == [1.0, 0.0]
        rewards.require_columns(asked)
        with pytest.raises(DataError, match="wants column 'images', which no question has"):
            rewards.require_columns([Question("q", (Message("user", "?"),))])


def test_questions_whose_answers_are_tried_are_sent_without_the_bytes_of_their_pictures():
    question = seeing("red", "blue")
    named = seen.without_bytes(question)
    assert (named, named.fingerprint) == (question, question.fingerprint)
    assert [image.data for image in named.messages[0].images] == [None, None]
    assert question.messages[0].images[0].data
