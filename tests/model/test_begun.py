"""A conversation that ends with the assistant's turn is gone on with, not closed."""

import pytest

from groupwise.config import ModelConfig
from groupwise.data import Message
from groupwise.errors import ModelError
from groupwise.model.tokenizer import load_tokenizer

ASKED = Message("user", "what is 1 + 1?")


@pytest.mark.parametrize("begun", ["let me think. <think>", " ab ", "a"])
def test_a_turn_that_is_begun_is_left_open_as_transformers_leaves_it(tiny_folder, begun):
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_folder)))
    turns = [{"role": "user", "content": ASKED.content}, {"role": "assistant", "content": begun}]
    text = tokenizer.tokenizer.apply_chat_template(turns, tokenize=False, continue_final_message=True)
    found = tokenizer.encode([ASKED, Message("assistant", begun)])
    assert found == tokenizer.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert found != tokenizer.encode([ASKED])


def test_a_template_that_rewrites_what_is_begun_is_refused(tiny_folder, tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text(
        "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'].split('</think>')[-1] + '<end>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
    )
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_folder), chat_template=str(template)))
    tokenizer.encode([ASKED, Message("assistant", "ab")])
    with pytest.raises(ModelError, match=r"rewrites the beginning of an answer: '1</think> 2'"):
        tokenizer.encode([ASKED, Message("assistant", "1</think> 2")])
