"""What is learned is what the policy would write: an answer and the token that ends its turn, and nothing else."""

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, pre_tokenizers
from transformers import AutoTokenizer

from groupwise.config import ModelConfig
from groupwise.data import Example, Message
from groupwise.errors import ModelError
from groupwise.model.builtin import smollm2_135m_instruct
from groupwise.model.conversation import encode_example
from groupwise.model.template import audit, encode
from groupwise.model.tokenizer import load_tokenizer
from tests.model.test_template import BYTE_LEVEL, CHATML, METASPACE, special_ids, tokenizer_with

LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|head|>' + m['role'] + '<|head_end|>\n\n' + m['content'] | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|head_end|>\n\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<s>[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' </s>' }}{% endif %}{% endfor %}"
)
TOOLS = (  # as Qwen's: what tools say stands in a user's turn, several in one
    "{% for m in messages %}{% if m['role'] == 'tool' %}"
    "{% if messages[loop.index0 - 1]['role'] != 'tool' %}{{ '<|im_start|>user' }}{% endif %}"
    "{{ '\n<tool_response>\n' + m['content'] + '\n</tool_response>' }}"
    "{% if loop.last or messages[loop.index0 + 1]['role'] != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FORGETFUL = (  # as Qwen3's: the reasoning of an earlier turn is left out
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{{ m['content'] if loop.last else m['content'].split('</think>')[-1] }}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ASKED = [("user", "Hello, are you there?"), ("assistant", "Hello there")]
LONGER = [("system", "1 + 1 = 2"), *ASKED, ("user", "how"), ("assistant", "= 2")]
WITH_TOOLS = [*LONGER, ("tool", "2 2"), ("tool", "3"), ("assistant", "you are")]


def example(turns, **fields) -> Example:
    return Example("rows.jsonl:7", tuple(Message(role, content) for role, content in turns), **fields)


def encoded(tokenizer, turns, **fields):
    [sequence] = encode_example(tokenizer, example(turns, **fields), audit(tokenizer, [], where="m"))
    return sequence


def decoded(tokenizer, tokens):
    return tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def learned_strings(tokenizer, tokens, learned):
    """The text of each run of learned tokens."""
    runs = groupby(zip(tokens, learned, strict=True), key=lambda pair: pair[1])
    texts = [[token for token, _ in run] for is_learned, run in runs if is_learned]
    # Behind an end token: SentencePiece-like decoders drop the space at a text's start.
    return [decoded(tokenizer, [tokenizer.eos_token_id, *text]).removeprefix(tokenizer.eos_token) for text in texts]


def own_ids(tokenizer, turns):
    messages = [{"role": role, "content": content} for role, content in turns]
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)


def llama_3(template=LLAMA_3):
    """A tokenizer that keeps line breaks together, as Llama 3's does; GPT-2's leaves the last of them to a word."""
    tokenizer = tokenizer_with(template, eos_token="</s>")
    words = Regex(r" ?\p{L}+|\s*\n+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.add_tokens([AddedToken(token, special=True) for token in ("<|head|>", "<|head_end|>", "<|eot|>")])
    return tokenizer


def test_an_answer_and_its_end_token_are_learned_and_the_question_is_not(tiny_folder):
    # <user> 4, <end> 2, <assistant> 5; the characters from "0" 6: "1" 7, "2" 8, "+" 16
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_folder)))
    [(tokens, learned)] = tokenizer.encode_example(example([("user", "1+1"), ("assistant", "2")]))
    assert tokens == [4, 7, 16, 7, 2, 5, 8, 2]
    assert learned == [False] * 6 + [True] * 2


@pytest.mark.parametrize(
    ("tokenizer", "turns", "written"),
    [
        (BYTE_LEVEL, ASKED, ["Hello there<|im_end|>"]),
        (BYTE_LEVEL, LONGER, ["Hello there<|im_end|>", "= 2<|im_end|>"]),
        (METASPACE, LONGER, ["Hello there<|im_end|>", "= 2<|im_end|>"]),
        (llama_3(), LONGER, ["Hello there<|eot|>", "= 2<|eot|>"]),
        (
            tokenizer_with(TOOLS, eos_token="<|im_end|>"),
            WITH_TOOLS,
            ["Hello there<|im_end|>", "= 2<|im_end|>", "you are<|im_end|>"],
        ),
        (tokenizer_with(LLAMA_2, eos_token="</s>"), [*ASKED, *ASKED], [" Hello there </s>", " Hello there </s>"]),
    ],
    ids=["chatml", "chatml_system", "metaspace", "llama_3", "tools", "llama_2"],
)
def test_every_answer_is_learned_and_the_ids_are_those_of_the_whole(tokenizer, turns, written):
    tokens, learned = encoded(tokenizer, turns)
    assert learned_strings(tokenizer, tokens, learned) == written
    assert tokens == own_ids(tokenizer, turns)
    begins = [place for place in range(1, len(tokens)) if learned[place] and not learned[place - 1]]
    answers = [index for index, (role, _) in enumerate(turns) if role == "assistant"]
    for begin, index in zip(begins, answers, strict=True):
        read = [Message(role, content) for role, content in turns[:index]]
        assert tokens[:begin] == encode(tokenizer, read, audit(tokenizer, [], where="m"))


def test_the_tiny_models_ids_are_those_of_the_whole(tiny_folder):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    turns = [("system", "be brief"), ("user", "1+1"), ("assistant", "2"), ("user", "why?"), ("assistant", "it is.")]
    tokens, learned = encoded(tokenizer, turns)
    assert tokens == own_ids(tokenizer, turns)
    assert learned_strings(tokenizer, tokens, learned) == ["2<end>", "it is.<end>"]


@pytest.mark.smollm
def test_smollm2s_ids_are_those_of_the_whole():
    tokenizer = AutoTokenizer.from_pretrained(smollm2_135m_instruct())
    turns = [("user", "What's 2 + 2?\n"), ("assistant", "It is\n\n4. "), ("user", " Why?"), ("assistant", "2 + 2 = 4")]
    tokens, learned = encoded(tokenizer, turns)
    assert tokens == own_ids(tokenizer, turns)
    assert learned_strings(tokenizer, tokens, learned) == ["It is\n\n4. <|im_end|>", "2 + 2 = 4<|im_end|>"]


def test_a_templates_own_generation_marks_agree():
    tokenizer = tokenizer_with(MARKED, eos_token="<|im_end|>")
    messages = [{"role": role, "content": content} for role, content in LONGER]
    own = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    tokens, learned = encoded(tokenizer, LONGER)
    assert tokens == own["input_ids"]
    assert learned == [bool(mark) for mark in own["assistant_masks"]]


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, METASPACE], ids=["byte_level", "metaspace"])
@settings(deadline=None)
@given(
    texts=st.lists(
        st.lists(st.sampled_from(["<|im_end|>", "<|im_start|>", "</s>", "<", "s>", "\n", " ", "Hello"]), min_size=1),
        min_size=4,
        max_size=4,
    )
)
def test_no_text_ends_a_turn_or_is_learned_as_a_special_token(tokenizer, texts):
    contents = ["".join(pieces) for pieces in texts]
    turns = list(zip(["user", "assistant"] * 2, contents, strict=True))
    tokens, learned = encoded(tokenizer, turns)
    # <|im_start|> 3, <|im_end|> 4: one of each a turn, the template's; of them the two answers' ends are learned
    assert special_ids(tokenizer, tokens) == [3, 4] * 4
    assert special_ids(tokenizer, [token for token, is_learned in zip(tokens, learned, strict=True) if is_learned]) == [
        4,
        4,
    ]
    shown = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    assert decoded(tokenizer, tokens) == shown
    assert learned_strings(tokenizer, tokens, learned) == [f"{content}<|im_end|>" for content in contents[1::2]]


def test_a_text_ends_no_turn_by_a_token_that_is_not_marked_special():
    tokenizer = tokenizer_with(CHATML.replace("<|im_end|>", "[over]"), eos_token="</s>")
    tokenizer.add_tokens([AddedToken("[over]", special=False)])
    tokens, learned = encoded(tokenizer, [("user", "a[over]b"), ("assistant", "c[over]d")])
    over = tokenizer.convert_tokens_to_ids("[over]")
    assert tokens.count(over) == 2
    assert learned_strings(tokenizer, tokens, learned) == ["c[over]d[over]"]
    assert [token for token, is_learned in zip(tokens, learned, strict=True) if is_learned].count(over) == 1


@pytest.mark.parametrize(
    ("tokenizer", "answer"),
    [
        # The whole has "\n\n" as one token; the policy, which has read the first "\n", writes the second.
        (llama_3(CHATML), "\nHello"),
        # The prompt ends with "\n\n" as one token; the whole has two, since GPT-2's words keep one for "Hello".
        (tokenizer_with(CHATML.replace("assistant\n", "assistant\n\n").replace("+ '\n' +", "+ '\n\n' +"),
                        eos_token="<|im_end|>"), "Hello"),
    ],
)  # fmt: skip
def test_a_prompt_is_read_as_in_sampling_where_the_whole_would_be_cut_otherwise(tokenizer, answer):
    turns = [("user", "Hello"), ("assistant", answer)]
    tokens, learned = encoded(tokenizer, turns)
    prompt = encode(tokenizer, [Message("user", "Hello")], audit(tokenizer, [], where="m"))
    assert tokens[: len(prompt)] == prompt
    assert learned.index(True) == len(prompt)
    assert learned_strings(tokenizer, tokens, learned) == [f"{answer}<|im_end|>"]
    assert tokens != own_ids(tokenizer, turns)


def test_space_at_an_answers_start_is_kept_where_a_special_token_would_swallow_it():
    # "</a>" comes first by name and takes the space behind it; the answer stands behind "\n", not behind "</a>".
    tokenizer = tokenizer_with(CHATML, eos_token="<|im_end|>")
    tokenizer.add_tokens([AddedToken("</a>", special=True, rstrip=True)])
    tokens, learned = encoded(tokenizer, [("user", "Hello"), ("assistant", " Hello")])
    assert learned_strings(tokenizer, tokens, learned) == [" Hello<|im_end|>"]


def test_answers_in_a_prompt_are_read_and_not_learned():
    tokens, learned = encoded(BYTE_LEVEL, LONGER, prompt_messages=4)
    assert tokens == own_ids(BYTE_LEVEL, LONGER)
    assert learned_strings(BYTE_LEVEL, tokens, learned) == ["= 2<|im_end|>"]


def test_bos_comes_once_and_is_not_learned():
    for template in (CHATML, "<s>" + CHATML):
        tokenizer = tokenizer_with(template, adds_bos=True, eos_token="<|im_end|>")
        tokens, learned = encoded(tokenizer, ASKED)
        assert tokens.count(1) == 1
        assert (tokens[0], learned[0]) == (1, False)


def test_a_template_that_forgets_reasoning_teaches_each_turn_behind_what_generation_reads():
    tokenizer = tokenizer_with(FORGETFUL, eos_token="<|im_end|>")
    first, second = "<think>1</think>Hello", "<think>2</think>you"
    turns = [("user", "how"), ("assistant", first), ("user", "are"), ("assistant", second)]
    sequences = encode_example(tokenizer, example(turns), audit(tokenizer, [], where="m"))
    assert [learned_strings(tokenizer, *sequence) for sequence in sequences] == [
        [f"{first}<|im_end|>"],
        [f"{second}<|im_end|>"],
    ]
    assert sequences[0] == encoded(tokenizer, turns[:2])
    assert sequences[1] == encoded(tokenizer, turns, prompt_messages=3)
    assert "<think>1" not in decoded(tokenizer, sequences[1][0])


def test_a_prompt_that_opens_reasoning_which_the_answered_turn_lacks_is_refused():
    thinking = CHATML.replace("assistant\n", "assistant\n<think>\n")
    with pytest.raises(ModelError, match=r"rows.jsonl:7: .* ends with '<think>.*', and message 2 does not go on"):
        encoded(tokenizer_with(thinking, eos_token="<|im_end|>"), ASKED)


@pytest.mark.parametrize(
    ("template", "turns", "said"),
    [
        (
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML,
            LONGER,
            "its chat template has no system role; put the instruction into the user's message",
        ),
        (
            "{% set messages = messages | rejectattr('role', 'equalto', 'tool') | list %}" + CHATML,
            WITH_TOOLS,
            "the chat template leaves a tool's message out; write it into",
        ),
        (
            CHATML.replace("{{ '<|im", "{{ raise_exception('odd') if m['content'] == 'how' }}{{ '<|im", 1),
            LONGER,
            "the chat template refuses messages of roles system, user, assistant, user: odd; model.chat_template",
        ),
        (
            CHATML.replace("<|im_end|>", ""),
            ASKED,
            "writes no end token after an answer, so none would be learned; give",
        ),
        (
            CHATML.replace("'<|im_end|>'", "('<|im_end|>' if loop.index < 4 else '')"),
            LONGER,
            "does not end message 5 with '<|im_end|>'; give model.chat_template",
        ),
    ],
)
def test_a_template_that_cannot_write_the_example_is_refused(template, turns, said):
    with pytest.raises(ModelError) as caught:
        encoded(tokenizer_with(template, eos_token="<|im_end|>"), turns)
    assert str(caught.value).startswith("rows.jsonl:7: ")
    assert said in str(caught.value)


def test_every_token_of_a_text_is_learned_but_bos():
    tokenizer = tokenizer_with(CHATML, adds_bos=True, eos_token="</s>")  # <s> 1, </s> 2
    hello = tokenizer("Hello", add_special_tokens=False)["input_ids"]
    for text in ("Hello", "<s>Hello", "Hello</s>"):
        tokens, learned = encoded(tokenizer, [], text=text)
        assert tokens == [1, *hello, 2]
        assert learned == [False] + [True] * (len(hello) + 1)
    bare = tokenizer_with(CHATML, eos_token="<|im_end|>")
    assert encoded(bare, [], text="Hello") == ([*hello, 4], [True] * (len(hello) + 1))


def test_a_text_without_an_end_token_to_put_behind_is_refused():
    with pytest.raises(ModelError, match=r"^rows.jsonl:7: the tokenizer has no end token .*; set eos_token"):
        encoded(tokenizer_with(CHATML), [], text="Hello")
