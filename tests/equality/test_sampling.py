"""What is sampled depends on its question and its stream alone, token for token; and is scored as the policy scores it.

Not on the rest of the batch, on how many rows go side by side, or on any fast path.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch

from groupwise.data import Output, Sampling
from groupwise.engines.base import Task, generate, stream
from groupwise.engines.local import LocalEngine
from groupwise.model.batch import Rollouts
from groupwise.model.policy import Policy
from tests.equality import families, naive
from tests.model import build

SAMPLING = Sampling(max_new_tokens=16)
LENGTHS = (5, 1, 30, 12)
ENDS = range(2, 300, 11)  # one token in eleven ends an output, so that there are outputs of every length
ANY_FAMILY = pytest.mark.parametrize("family", list(families.FAMILIES))
EACH_WAY = pytest.mark.parametrize("family", ["qwen3", "mistral", "gemma3"])
"""A decode step in few calls, the same with a window, and the model's own modules: what an engine does with its rows
depends on nothing else of a family."""
SAMPLINGS = {
    "plain": SAMPLING,
    "temperature": replace(SAMPLING, temperature=0.6),
    "top_k": replace(SAMPLING, top_k=7),
    "top_p": replace(SAMPLING, top_p=0.7),
    "min_p": replace(SAMPLING, min_p=0.1),
    "greedy": replace(SAMPLING, greedy=True),
    "all": replace(SAMPLING, temperature=1.4, top_k=20, top_p=0.9, min_p=0.02),
}


@cache
def policy_of(family: str, matmul_backend: str = "auto") -> Policy:
    policy = families.policy(family, matmul_backend=matmul_backend)
    return families.ending_at(policy, *ENDS)


def tasks(family: str, outputs: int = 3) -> list[Task]:
    """Questions of 5, 1, 30 and 12 tokens, and the one of 12 again with other streams."""
    generator = torch.Generator().manual_seed(2)
    vocabulary = families.FAMILIES[family].vocab_size
    questions = [tuple(torch.randint(vocabulary, (length,), generator=generator).tolist()) for length in LENGTHS]
    asked = [*questions, questions[3]]
    return [Task(asked, tuple(stream(0, 0, str(n), i) for i in range(outputs))) for n, asked in enumerate(asked)]


def words(outputs: Sequence[Sequence[Output]]) -> list[list[list[int]]]:
    """The tokens of each output of each task."""
    return [[output.tokens.tolist() for output in own] for own in outputs]


def sampled(policy: Policy, given: Sequence[Task], sampling: Sampling = SAMPLING, **settings: int) -> list:
    """The tokens from an engine of those settings."""
    return words(generate(LocalEngine(policy, **settings), given, sampling))


def scored(outputs: Sequence[Sequence[Output]]) -> Rollouts:
    return Rollouts.of([build.group(own, [0.0] * len(own)) for own in outputs])


@cache
def expected(family: str) -> list[list[list[int]]]:
    """As sampled by transformers' own cache, one row at a time."""
    return sampled(policy_of(family), tasks(family), shared=False, max_num_seqs=1)


@ANY_FAMILY
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "plain"])
def test_the_samplers_log_probabilities_are_the_policys_and_the_references(family, shared):
    policy = policy_of(family)
    engine = LocalEngine(policy, max_num_seqs=5, shared=shared)
    assert (engine.cache in ("fused", "shared")) == shared
    rollouts = scored(generate(engine, tasks(family), SAMPLING))
    mask = rollouts.output_mask
    model = naive.reference_model(families.FAMILIES[family], angles=torch.float32)
    with torch.no_grad():
        wanted = naive.scored(model, rollouts, mask, SAMPLING)[0]
    assert (rollouts.sampled_logprobs - wanted).abs().max() < 1e-4
    for once in (True, False):
        found = replace(policy, question_once=once).logprobs(rollouts, mask, sampling=SAMPLING).logprobs
        assert (rollouts.sampled_logprobs - found).abs().max() < 1e-4


@pytest.mark.parametrize("name", list(SAMPLINGS))
@pytest.mark.parametrize("family", ["qwen2", "gemma2"])
def test_log_probabilities_and_tokens_of_each_way_to_sample(family, name):
    policy, sampling = policy_of(family), SAMPLINGS[name]
    outputs = generate(LocalEngine(policy, max_num_seqs=6), tasks(family), sampling)
    assert words(outputs) == sampled(policy, tasks(family), sampling, shared=False)
    rollouts = scored(outputs)
    found = policy.logprobs(rollouts, rollouts.output_mask, sampling=sampling).logprobs
    assert (rollouts.sampled_logprobs - found).abs().max() < 1e-4


@ANY_FAMILY
def test_tokens_do_not_depend_on_how_many_rows_go_side_by_side(family):
    lengths = {len(tokens) for own in expected(family) for tokens in own}
    assert len(lengths) > 5  # so that rows leave and enter at different turns
    for rows in (4, 256):
        assert sampled(policy_of(family), tasks(family), max_num_seqs=rows) == expected(family)


@EACH_WAY
def test_tokens_do_not_depend_on_what_else_is_sampled(family):
    given, wanted = tasks(family), expected(family)
    assert sampled(policy_of(family), given, max_num_seqs=1) == wanted
    engine = LocalEngine(policy_of(family), max_num_seqs=5)
    assert words(generate(engine, given[::-1], SAMPLING)) == wanted[::-1]
    order = [3, 0, 1, 4, 2]
    assert words(generate(engine, [given[n] for n in order], SAMPLING)) == [wanted[n] for n in order]
    assert words(generate(engine, given[:2], SAMPLING)) + words(generate(engine, given[2:], SAMPLING)) == wanted
    assert words(generate(engine, given[3:4], SAMPLING)) == wanted[3:4]
    for kept in (slice(0, 1), slice(2, 0, -1)):  # fewer siblings, and in another order
        some = [replace(task, streams=task.streams[kept]) for task in given]
        assert words(generate(engine, some, SAMPLING)) == [own[kept] for own in wanted]


@ANY_FAMILY
def test_tokens_do_not_depend_on_the_library_of_the_products(family):
    given, wanted = tasks(family), expected(family)
    for backend in {"torch", "onednn"} - {policy_of(family).matmul_backend}:
        if backend == "torch" or hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            assert sampled(policy_of(family, backend), given) == wanted


@EACH_WAY
def test_tokens_do_not_depend_on_any_fast_path(family):
    given, wanted = tasks(family), expected(family)
    assert sampled(policy_of(family), given, shared=False) == wanted
    assert sampled(replace(policy_of(family), question_once=False), given, max_num_seqs=5) == wanted


@ANY_FAMILY
def test_greedy_tokens_are_those_of_a_forward_pass_over_all_before_each(family):
    policy = families.ending_at(policy_of(family))
    model = naive.reference_model(families.FAMILIES[family], angles=torch.float32)
    given = tasks(family, 1)[:4]
    found = sampled(policy, given, replace(SAMPLING, greedy=True, max_new_tokens=8), max_num_seqs=3)
    for task, (tokens,) in zip(given, found, strict=True):
        assert tokens == naive.greedy(model, task.question_tokens, 8)


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral"])
def test_outputs_that_outgrow_the_first_room_and_the_window(family):
    policy = families.ending_at(policy_of(family))
    limits = (130, 70, 1)
    given = [replace(task, limits=limits) for task in tasks(family)[2:4]]
    sampling = replace(SAMPLING, max_new_tokens=130)
    outputs = generate(LocalEngine(policy, max_num_seqs=4), given, sampling)
    assert [tuple(len(output.tokens) for output in own) for own in outputs] == [limits] * 2
    assert words(outputs) == sampled(policy, given, sampling, shared=False)
    rollouts = scored(outputs)
    model = naive.reference_model(families.FAMILIES[family], angles=torch.float32)
    with torch.no_grad():
        wanted = naive.scored(model, rollouts, rollouts.output_mask, sampling)[0]
    assert (rollouts.sampled_logprobs - wanted).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("family", "shared"), [("llama", True), ("gemma2", True), ("mistral", False)], ids=["fused", "shared", "plain"]
)
def test_each_end_cuts_an_output_where_it_would_have_gone_on(family, shared):
    # Without ends every output has 16 tokens; each way to end leaves a beginning of them.
    free = families.ending_at(policy_of(family))
    given = tasks(family)
    whole = sampled(free, given, max_num_seqs=5, shared=shared)
    assert {len(tokens) for own in whole for tokens in own} == {SAMPLING.max_new_tokens}
    assert sampled(policy_of(family), given, max_num_seqs=5, shared=shared) == expected(family)
    assert expected(family) == [[up_to_an_end(tokens) for tokens in own] for own in whole]

    limits = (3, 16, 11)
    limited = [replace(task, limits=limits) for task in given]
    cut = [[tokens[:most] for tokens, most in zip(own, limits, strict=True)] for own in whole]
    assert sampled(free, limited, max_num_seqs=5, shared=shared) == cut

    decode = free.tokenizer.decode
    stop = (decode(whole[0][1][4:7]), decode(whole[4][2][9:10]), decode(whole[2][0][14:]))
    outputs = generate(LocalEngine(free, max_num_seqs=5, shared=shared), given, replace(SAMPLING, stop=stop))
    assert words(outputs) == [[up_to_a_stop(tokens, stop, free) for tokens in own] for own in whole]
    assert len(outputs[0][1].tokens) <= 7
    for output in (output for own in outputs for output in own):
        assert output.finish == ("stop" if any(text in decode(output.tokens) for text in stop) else "length")


def up_to_an_end(tokens: list[int]) -> list[int]:
    return next((tokens[: n + 1] for n, token in enumerate(tokens) if token in ENDS), tokens)


def up_to_a_stop(tokens: list[int], stop: Sequence[str], policy: Policy) -> list[int]:
    """The shortest beginning whose text holds one of the strings, or all."""
    beginnings = (tokens[:n] for n in range(1, len(tokens) + 1))
    return next((part for part in beginnings if any(text in policy.tokenizer.decode(part) for text in stop)), tokens)
