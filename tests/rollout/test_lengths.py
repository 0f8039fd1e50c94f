"""Questions with pictures that do not fit into the context: refused with what would make them fit."""

import re

import pytest

from groupwise.config import ModelConfig
from groupwise.contents import Place, image_of
from groupwise.data import Question, message_of_parts
from groupwise.errors import DataError
from groupwise.model.tokenizer import load_tokenizer
from groupwise.rollout.lengths import check_lengths
from tests.drawn import file_of
from tests.model import vision


def asked(*sizes):
    images = [image_of(file_of(size=size), "x", Place(None)) for size in sizes]
    return Question("q", (message_of_parts("user", [*images, "What?"]),), where="q.jsonl:7")


def test_more_image_tokens_than_the_context_holds_are_refused_with_the_pixels_that_fit(tmp_path):
    folder = vision.write(tmp_path / "qwen", "qwen2_vl")
    tokenizer = load_tokenizer(ModelConfig(path=str(folder)))
    question = asked((112, 112), (112, 56))  # 16 and 8 tokens
    length = len(tokenizer.encode(question.messages))
    room = tokenizer.context - length
    check_lengths(tokenizer, [question], max_new_tokens=room)
    with pytest.raises(
        DataError, match=r"q\.jsonl:7: question 'q' has \d+ tokens, 24 of them of 2 pictures; with"
    ) as caught:
        check_lengths(tokenizer, [question], max_new_tokens=room + 10)
    pixels = int(re.search(r"set model\.max_pixels: (\d+), with which it fits", caught.value.hint)[1])
    bounded = load_tokenizer(ModelConfig(path=str(folder), max_pixels=pixels))
    assert length - 20 <= len(bounded.encode(question.messages)) <= length - 10
    with pytest.raises(DataError) as caught:
        check_lengths(tokenizer, [question], max_new_tokens=room + 23)  # a picture has a token at least
    assert "max_pixels" not in caught.value.hint


def test_the_pictures_of_all_questions_are_not_held_by_the_check(tmp_path):
    tokenizer = load_tokenizer(ModelConfig(path="tiny_vision"))
    check_lengths(tokenizer, [asked((9, 9)), asked((30, 9))], max_new_tokens=4)
    assert tokenizer.gallery._known == {}
