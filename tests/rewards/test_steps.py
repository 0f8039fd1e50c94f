"""Rewards of steps: from places in the text to tokens, weighted and summed."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupwise.config import ModelConfig, RewardConfig
from groupwise.data import Output, Part
from groupwise.model.tokenizer import load_tokenizer
from groupwise.rewards.base import RewardSet
from groupwise.rewards.steps import on_tokens, token_of, weighted
from tests.rewards.build import FUNCTIONS, question

END = 256
"""A token without any text."""


def by_bytes(tokens: Sequence[int]) -> str:
    """A token is a byte; half a character is one U+FFFD, as in byte-level BPE."""
    return bytes(token for token in tokens if token != END).decode("utf-8", "replace")


def by_bytes_or_each(tokens: Sequence[int]) -> str:
    """Half a character is one U+FFFD for each of its bytes, as with byte fallback: longer than the whole one."""
    text, rest = b"", bytes(token for token in tokens if token != END)
    while rest:
        try:
            return (text + rest).decode()
        except UnicodeDecodeError as error:
            good = rest[: error.start - len(text)]
            text, rest = text + good + "\ufffd".encode(), rest[len(good) + 1 :]
    return text.decode()


def output(tokens: Sequence[int], sampled: Sequence[bool] | None = None) -> Output:
    made = np.array(tokens, np.int32)
    drawn = np.ones(len(made), bool) if sampled is None else np.array(sampled)
    return Output(made[:0], made, drawn, np.zeros(len(made), np.float32), by_bytes(tokens), "stop")


def score(text: str, *configs: RewardConfig, end: Sequence[int] = (), decode=by_bytes):
    with RewardSet(configs) as rewards:
        return rewards.score([question()], [output([*text.encode(), *end])], decode=decode)[0]


def config(function: str, **fields) -> RewardConfig:
    return RewardConfig(function=f"{FUNCTIONS}:{function}", **fields)


@pytest.mark.parametrize("decode", [by_bytes, by_bytes_or_each])
def test_a_step_ends_with_the_byte_that_completes_its_last_character(decode):
    tokens = list("a🙂é!".encode())
    # bytes: a 0, the emoji 1 to 4, é 5 and 6, ! 7
    assert [token_of("a🙂é!"[:end], tokens, decode) for end in (1, 2, 3, 4)] == [0, 4, 6, 7]


def test_a_beginning_that_never_comes_is_the_last_token():
    assert token_of("abc, and what no token says", list(b"abc"), by_bytes) == 2
    assert token_of("", [97], by_bytes) == 0


def test_tokens_without_text_do_not_delay_a_step():
    # text "abc", ends 1, 2, 3; special tokens after a and b; a step takes what follows it into the next one
    assert on_tokens(((1, 0.5), (2, 1.0)), output([97, END, 98, END, END, 99]), by_bytes) == ((0, 0.5), (2, 1.0))


def test_a_step_that_ends_with_the_text_ends_with_the_output():
    assert on_tokens(((1, 0.5), (2, 1.0)), output([97, 98, END]), by_bytes) == ((0, 0.5), (2, 1.0))
    assert on_tokens(((2, 1.0),), output([END, 97, 98, END, END]), by_bytes) == ((4, 1.0),)


def test_steps_within_one_token_are_summed():
    def words(tokens):
        return "".join(("ab ", "cd")[token] for token in tokens)

    made = np.arange(2)
    whole = Output(made[:0], made, made >= 0, made * 1.0, "ab cd", "stop")
    # a and b end in token 0, cd in token 1
    assert on_tokens(((1, 0.25), (2, 0.5), (5, 1.0)), whole, words) == ((0, 0.75), (1, 1.0))


def test_a_step_ends_on_a_token_that_the_policy_drew():
    # tokens 0 and 1 drawn, 2 and 3 a tool's, 4 drawn, 5 a tool's
    mixed = output(list(b"abcdef"), [True, True, False, False, True, False])
    steps = tuple((end, float(10**end)) for end in range(1, 7))
    # a 0; b, c, d 1; e and f 4
    assert on_tokens(steps, mixed, by_bytes) == ((0, 10.0), (1, 11100.0), (4, 1100000.0))
    assert on_tokens(steps[:1], output(list(b"abcdef"), [False] * 5 + [True]), by_bytes) == ((5, 10.0),)
    assert on_tokens(steps, output(list(b"abcdef"), [False] * 6), by_bytes) == ()
    assert on_tokens((), output([]), by_bytes) == ()


def test_weights_multiply_and_a_weight_of_0_leaves_the_steps_out():
    first, second = ((1, 1.0), (4, 2.0)), ((2, -1.0), (4, 10.0))
    # at 4: 0.5 * 2 + 2 * 10 = 21
    assert weighted([(0.5, first), (2.0, second)]) == ((1, 0.5), (2, -2.0), (4, 21.0))
    assert weighted([(0.5, first), (0.0, second)]) == ((1, 0.5), (4, 1.0))
    assert weighted([(1.0, None), (0.0, second)]) is None
    assert weighted([(1.0, None), (1.0, ())]) == ()
    assert weighted([]) is None


@given(st.text(max_size=12), st.data())
def test_the_token_found_is_the_first_with_which_the_text_is_there(text, data):
    tokens = list(text.encode("utf-8", "replace"))
    text = by_bytes(tokens)
    for at in data.draw(st.lists(st.integers(0, len(tokens)), max_size=3)):
        tokens.insert(at, END)
    ends = sorted(data.draw(st.sets(st.integers(1, max(len(text), 1)))) & set(range(1, len(text))))
    found = dict(on_tokens(tuple((end, 1.0) for end in ends), output(tokens), by_bytes))
    by_hand = [min(k for k in range(len(tokens)) if by_bytes(tokens[: k + 1])[:end] == text[:end]) for end in ends]
    assert list(found) == by_hand


def test_a_tokenizers_own_decode_places_every_character(tiny_folder):
    tokenizer = load_tokenizer(ModelConfig(path=str(tiny_folder)))
    tokens = [*tokenizer.tokenizer("3 + 4 = 7, né 🙂👩‍🚀 so\n 7")["input_ids"], *tokenizer.end_tokens]
    text = tokenizer.decode(tokens)
    made = np.array(tokens, np.int32)
    whole = Output(made[:0], made, made >= 0, np.zeros(len(made), np.float32), text, "stop")
    steps = on_tokens(tuple((end, 1.0) for end in range(1, len(text) + 1)), whole, tokenizer.decode)
    assert sum(reward for _, reward in steps) == len(text)
    assert steps[-1][0] == len(tokens) - 1
    for token, _ in steps[:-1]:  # each completes a character that was not there without it
        longer, shorter = tokenizer.decode(tokens[: token + 1]), tokenizer.decode(tokens[:token])
        assert not shorter.startswith(longer)


def test_reward_has_the_weighted_steps_of_all_functions_on_its_tokens():
    reward = score("éBc d", config("letters", weight=2.0), config("halves"), config("length"), end=[END])
    # letters: é 0, B 1, c 0 at ends 1, 2, 3, twice; halves: 1 at end 2, 10 at end 5, which takes the end token
    # bytes: é 0 and 1, B 2, c 3, space 4, d 5, end 6
    assert reward.steps == ((1, 0.0), (2, 3.0), (3, 0.0), (6, 10.0))
    # the value is the functions' scores, halves 5 and length 5; letters abstains
    assert reward.value == 10.0
    assert reward.parts["letters"] == Part("abstained")


def test_where_all_abstain_the_value_is_the_sum_of_the_steps():
    # "aBC": 0 + 1 + 1, times 0.5
    reward = score("aBC", config("letters", weight=0.5))
    assert (reward.value, reward.steps) == (1.0, ((0, 0.0), (1, 0.5), (2, 0.5)))
    none_found = score(" B", config("letters"))
    assert (none_found.value, none_found.steps) == (None, ())


def test_steps_are_none_where_no_function_speaks_of_them():
    assert score("abc", config("length")).steps is None
    assert score("a", config("halves")).steps is None  # not of this output
    assert score("ab", config("halves", weight=0.0)).steps is None


def test_without_a_decode_there_are_no_steps_and_the_value_is_the_same():
    reward = score("aBC", config("letters"), decode=None)
    assert (reward.value, reward.steps) == (2.0, None)


def test_a_failed_function_leaves_neither_value_nor_steps():
    reward = score("abc", config("halves"), config("step_out_of_place"))
    assert (reward.value, reward.steps, reward.failed) == (None, None, True)
    assert "steps[0] = [4, 1.0]: its end must be within 1 and 3" in reward.parts["step_out_of_place"].detail


def test_an_empty_output_has_no_steps():
    reward = score("", config("letters"))
    assert (reward.value, reward.steps) == (None, ())
    assert score("", RewardConfig(function="equations")).steps == ()
