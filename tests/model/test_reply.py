"""What a template writes between two turns, in nine families: the sampled ids stay, only the difference is added."""

import pytest
from transformers import LlamaConfig

from groupwise.data import Message
from groupwise.model.template import audit
from groupwise.model.tokenizer import ChatTokenizer
from tests.model.templates import FAMILIES, tokenizer_of

ASKED, REPLIED = Message("user", "1 + 1"), Message("user", "no, again")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_conversation_is_its_sampled_ids_and_what_the_template_writes_between(name):
    hf = tokenizer_of(name)
    tokenizer = ChatTokenizer("m", hf, audit(hf, [], where="m"), LlamaConfig(), 512)
    end = max(tokenizer.template.end_tokens, key=lambda token: token == hf.eos_token_id)
    own = hf("It is 2.", add_special_tokens=False)["input_ids"]
    messages = (ASKED, Message("assistant", "It is 2."), REPLIED)
    cut = tokenizer.encode_reply(messages, replies=1, last=own[-1])
    for token in tokenizer.template.end_tokens:
        ended = tokenizer.encode_reply(messages, replies=1, last=token)
        assert ended in (cut, cut[1:], cut[2:])
    assert "no, again" in tokenizer.decode_all(cut)
    assert "It is 2." not in tokenizer.decode_all(cut)
    # a template that rewrites no earlier turn gives the whole conversation's ids
    whole = tokenizer.encode(messages)
    joined = [*tokenizer.encode([ASKED]), *own, *cut]
    said = tokenizer.decode_all(joined)
    assert said.endswith(tokenizer.decode_all(tokenizer.encode([REPLIED])[-3:]))
    if not tokenizer.template.opening and len(joined) == len(whole):
        assert joined == whole
    assert isinstance(end, int)
