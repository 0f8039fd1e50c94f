"""A hostile chat template is refused soon and in one line; variables that a recipe sets are part of the template."""

import pytest

from groupwise.errors import ModelError
from groupwise.model import rendering
from groupwise.model.rendering import set_variables
from groupwise.model.template import audit
from tests.model.templates import FAMILIES, tokenizer_of
from tests.model.test_template import CHATML, tokenizer_with

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (LOOP + CHATML, "takes more than 1 s on a conversation of a few words; use a model from a source you trust"),
        ("{{ 'x' * 10 ** 9 }}" + CHATML, "takes more than 64 MiB of memory"),
        ("{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", "MiB"),
        ("{{ 'x' * 2 ** 21 }}" + CHATML, "writes 2,097,"),
        ("{% for a in range(10 ** 9) %}{% endfor %}" + CHATML, "refuses messages of roles user: Range too big"),
        ("{{ 1 / 0 }}", "refuses messages of roles user: division by zero"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "refuses messages of roles user: maximum recursion"),
        ("{{ messages | no_such_filter }}", "No filter named 'no_such_filter'"),
        ("{{ ''.__class__.__mro__ }}" + CHATML, "access to attribute '__class__' of 'str' object is unsafe"),
        ("{% include '/etc/passwd' %}", "refuses messages of roles user"),
        ("{{ raise_exception('a\\nb') }}", "refuses messages of roles user: a b"),
    ],
)
def test_a_hostile_template_is_refused_in_one_line(template, said, monkeypatch):
    # a busy machine may take a second of its processor for what only memory is to end
    monkeypatch.setattr(rendering, "SECONDS", 1 if template.startswith(LOOP) else 60)
    monkeypatch.setattr(rendering, "MEMORY", 2**26)
    with pytest.raises(ModelError) as error:
        audit(tokenizer_with(template, eos_token="<|im_end|>"), [], where="model.path = 'x'")
    assert str(error.value).startswith("model.path = 'x': the chat template ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_variable_of_the_template_is_set_for_whoever_renders_it():
    tokenizer = tokenizer_with(FAMILIES["qwen3"].template, eos_token="<|im_end|>")
    set_variables(tokenizer, {"enable_thinking": False}, where="model.chat_template_kwargs")
    asked = [{"role": "user", "content": "1 + 1"}]
    quick = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert quick.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert audit(tokenizer, [], where="m").opening == "<think>\n\n</think>\n\n"
    by_hand = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True, enable_thinking=True)
    plain = tokenizer_of("qwen3").apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert by_hand == plain != quick
    saved = tokenizer.chat_template
    set_variables(tokenizer, {"enable_thinking": False}, where="model.chat_template_kwargs")
    assert tokenizer.chat_template == saved


@pytest.mark.parametrize("value", [True, 3, -0.5, None, "a'b\"c\n\\{{ x }}é"])
def test_every_kind_of_value_reaches_the_template(value):
    tokenizer = tokenizer_with("\n  {{ [wanted] | tojson }}", eos_token="<|im_end|>")
    set_variables(tokenizer, {"wanted": value}, where="w")
    asked = [{"role": "user", "content": "1 + 1"}]
    found = tokenizer.apply_chat_template(asked, tokenize=False)
    tokenizer.chat_template = "\n  {{ [wanted] | tojson }}"
    assert found == tokenizer.apply_chat_template(asked, tokenize=False, wanted=value)


def test_a_variable_that_the_template_does_not_read_is_refused():
    with pytest.raises(ModelError, match=r"w.enable_thinkin: .* no such variable; did you mean 'enable_thinking'\?"):
        set_variables(tokenizer_of("qwen3"), {"enable_thinkin": False}, where="w")
    with pytest.raises(ModelError, match=r"w.messages: .* no such variable; it reads none"):
        set_variables(tokenizer_of("chatml"), {"messages": "x"}, where="w")
