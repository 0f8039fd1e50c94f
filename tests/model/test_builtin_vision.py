"""`tiny_vision`: plain transformers loads it with its processor, and a picture bears on what it says."""

import sys
from typing import Any

import pytest
import torch

from groupwise.errors import ModelError
from groupwise.model.builtin_vision import IMAGE_TOKENS, tiny_vision

PIL = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROUPWISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tiny_vision(0)
    return AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)


def encoded(processor: Any, *content: Any) -> Any:
    parts = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image", "image": p} for p in content]
    turn = {"role": "user", "content": parts}
    how = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "add_generation_prompt": True}
    return processor.apply_chat_template([[turn]], **how)


def picture(colour: str, size: tuple[int, int] = (30, 60)) -> Any:
    return PIL.new("RGB", size, colour)


def test_a_picture_is_nine_tokens_between_its_marks(plain):
    processor, _ = plain
    ids = encoded(processor, "a", picture("red"), "b")["input_ids"][0]
    around = "<fake_token_around_image>"
    pictured = around + "<global-img>" + "<image>" * IMAGE_TOKENS + around
    assert processor.tokenizer.decode(ids) == f"<user>a{pictured}b<end><assistant>"
    assert IMAGE_TOKENS == 9


def test_a_conversation_of_text_alone_is_tinys(plain):
    processor, _ = plain
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "1+1=?"}]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "<system>s<end><user>1+1=?<end><assistant>"


def test_the_colour_of_a_picture_moves_the_logits_after_it_and_none_before(plain):
    processor, model = plain
    with torch.no_grad():
        red, blue = (model(**encoded(processor, "a", picture(colour), "b")).logits[0] for colour in ("red", "blue"))
    assert torch.equal(red[:4], blue[:4])  # <user> a <fake_token_around_image> <global-img>
    assert (red[-1] - blue[-1]).abs().max() > 1e-3


def test_embeddings_are_the_output_layer(plain):
    _, model = plain
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_without_pillow_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModelError, match="needs Pillow"):
        tiny_vision(0)
