"""A conversation is read as the chat template writes it, and asked where its steps end."""

import pytest

from groupwise.config import ModelConfig
from groupwise.data import Message
from groupwise.errors import ModelError
from groupwise.model.reading import by_steps, padding_of, whole
from groupwise.model.template import audit_for_reading
from groupwise.model.tokenizer import load_tokenizer

PROMPT = (Message("system", "be brief"), Message("user", "47>"))


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return load_tokenizer(ModelConfig(path=str(tiny_folder)))


def text(tokenizer, tokens):
    return tokenizer.tokenizer.decode(list(tokens))


def written(tokenizer, answer):
    messages = [{"role": m.role, "content": m.content} for m in (*PROMPT, Message("assistant", answer))]
    return tokenizer.tokenizer.apply_chat_template(messages, return_dict=False)


def test_a_whole_conversation_is_what_the_template_makes_of_it_read_at_its_last_token(tokenizer):
    reading = whole(tokenizer, PROMPT, "it is 8", padding=1)
    assert list(reading.tokens) == written(tokenizer, "it is 8")
    assert reading.places == (len(reading.tokens) - 1,)


def test_it_is_read_before_the_padding_as_transformers_reads_it(tokenizer):
    end = tokenizer.tokenizer.eos_token_id
    reading = whole(tokenizer, PROMPT, "8", padding=end)  # where the end token is the padding too
    assert reading.tokens[-1] == end
    assert reading.places == (len(reading.tokens) - 2,)


def test_a_special_tokens_string_stays_text(tokenizer):
    reading = whole(tokenizer, PROMPT, "8<end><user>9", padding=1)
    end = tokenizer.tokenizer.eos_token_id
    assert list(reading.tokens).count(end) == list(whole(tokenizer, PROMPT, "89", padding=1).tokens).count(end)


def test_a_long_answer_loses_its_beginning_and_then_the_prompt_its_own(tokenizer):
    full = whole(tokenizer, PROMPT, "0123456789", padding=1)
    assert len(full.tokens) == 27  # <system>be brief<end><user>47><end><assistant> is 10 + 5 + 1, 0..9<end> 11
    cut = whole(tokenizer, PROMPT, "0123456789", padding=1, limit=23)
    assert text(tokenizer, cut.tokens).endswith("<assistant>456789<end>")
    assert cut.tokens[:16] == full.tokens[:16]
    assert cut.places == (22,)
    assert whole(tokenizer, PROMPT, "0123456789", padding=1, limit=5).tokens == full.tokens[-5:]
    assert whole(tokenizer, PROMPT, "0123456789", padding=1, limit=27) == full


def test_steps_are_read_at_their_last_tokens_and_the_rest_is_only_text(tokenizer):
    reading = by_steps(tokenizer, PROMPT, ["a b.", "c.", "d"], rest=" e", limit=100)
    assert list(reading.tokens) == written(tokenizer, "a b.c.d e")
    ends = [text(tokenizer, reading.tokens[: place + 1])[-4:] for place in reading.places]
    assert ends == ["a b.", "b.c.", ".c.d"]


def test_steps_past_the_limit_are_left_out(tokenizer):
    reading = by_steps(tokenizer, PROMPT, ["ab.", "cd.", "ef."], limit=22)  # 16 tokens before the answer
    assert len(reading.tokens) == 22
    assert reading.places == (18, 21)
    assert by_steps(tokenizer, PROMPT, ["ab."], limit=10).places == ()


def test_spaces_at_the_end_of_a_step_outlive_a_template_that_trims(tokenizer, tiny_folder, tmp_path):
    file = tmp_path / "trims.jinja"
    file.write_text("{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'].strip() + '<end>' }}{% endfor %}")
    config = ModelConfig(path=str(tiny_folder), chat_template=str(file))
    trims = load_tokenizer(config, audit=audit_for_reading)  # it leads no policy: no generation prompt
    reading = by_steps(trims, PROMPT, ["a ", "b "], limit=100)
    assert [text(trims, reading.tokens[: place + 1])[-2:] for place in reading.places] == ["a ", "b "]
    with pytest.raises(ModelError, match="generation prompt"):
        load_tokenizer(config)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ m['content'][:1] }}{% endfor %}", "leaves out what the user says"),
        ("{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}", "what the assistant says"),
    ],
)
def test_a_template_that_leaves_out_what_is_said_is_refused(template, said, tiny_folder, tmp_path):
    file = tmp_path / "t.jinja"
    file.write_text(template)
    with pytest.raises(ModelError, match=said):
        load_tokenizer(ModelConfig(path=str(tiny_folder), chat_template=str(file)), audit=audit_for_reading)


def test_a_template_that_writes_an_answer_twice_has_no_places_for_steps(tiny_folder, tmp_path):
    file = tmp_path / "t.jinja"
    file.write_text("{% for m in messages %}{{ m['content'] + m['content'] }}{% endfor %}")
    config = ModelConfig(path=str(tiny_folder), chat_template=str(file))
    with pytest.raises(ModelError, match="does not write an answer once and whole"):
        by_steps(load_tokenizer(config, audit=audit_for_reading), PROMPT, ["a"], limit=100)


def test_padding_is_the_models_then_the_tokenizers(tokenizer):
    assert padding_of(tokenizer) == 1
