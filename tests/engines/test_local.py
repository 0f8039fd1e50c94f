"""What is sampled: the policy's distribution, whatever shares the batch; and how an output ends."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from groupwise.config import ModelConfig
from groupwise.data import Message, Output, Sampling
from groupwise.engines import choice, draw, local
from groupwise.engines.base import Task, generate, stream
from groupwise.engines.cache import SharedCache
from groupwise.engines.local import LocalEngine
from groupwise.engines.rows import Ends, Rows
from groupwise.errors import ConfigError, ModelError, RunError
from groupwise.model.batch import Rollouts
from groupwise.model.checkpoint import save_checkpoint
from groupwise.model.loading import load_policy, prepare
from groupwise.model.policy import Policy
from groupwise.model.tokenizer import load_tokenizer
from tests.close import close
from tests.engines.chains import byte_chain, text_chain
from tests.model import build

LENGTHS = (5, 1, 30, 12)
SAMPLING = Sampling(max_new_tokens=20)
CACHES = {
    "llama": build.SHARING["llama"],
    "gpt2": build.SHARING["gpt2"],  # learned positions
    "mistral_window": build.SHARING["mistral_window"],  # a cache that forgets
    "gptj": build.NOT_SHARING["gptj"],  # transformers' own cache
    "gemma2": build.SHARING["gemma2"],  # one of both kinds
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory, tiny_folder) -> Policy:
    return build.policy_of(build.SHARING["llama"], tmp_path_factory.mktemp("llama"), tiny_folder)


@pytest.fixture(scope="module", params=list(CACHES))
def any_policy(request, tmp_path_factory, tiny_folder) -> Policy:
    return build.policy_of(CACHES[request.param], tmp_path_factory.mktemp(request.param), tiny_folder)


def tasks(outputs: int = 4) -> list[Task]:
    """Four questions of 5, 1, 30 and 12 tokens, so many outputs each."""
    generator = torch.Generator().manual_seed(2)
    questions = [tuple(torch.randint(3, build.VOCABULARY, (n,), generator=generator).tolist()) for n in LENGTHS]
    return [Task(q, tuple(stream(0, 0, str(n), i) for i in range(outputs))) for n, q in enumerate(questions)]


def words(outputs: Sequence[Output]) -> list[list[int]]:
    return [made.tokens.tolist() for made in outputs]


def never_ending(policy: Policy) -> Policy:
    template = replace(policy.tokenizer.template, end_tokens=frozenset())
    return replace(policy, tokenizer=replace(policy.tokenizer, template=template))


def ending_at(policy: Policy, *tokens: int) -> Policy:
    template = replace(policy.tokenizer.template, end_tokens=frozenset(tokens))
    return replace(policy, tokenizer=replace(policy.tokenizer, template=template))


@pytest.mark.parametrize(
    "sampling",
    [
        SAMPLING,
        replace(SAMPLING, temperature=0.7),
        replace(SAMPLING, top_k=5),
        replace(SAMPLING, top_p=0.8),
        replace(SAMPLING, min_p=0.1),
        replace(SAMPLING, temperature=1.3, top_k=9, top_p=0.9, min_p=0.05),
    ],
    ids=["plain", "temperature", "top_k", "top_p", "min_p", "all"],
)
def test_the_samplers_log_probabilities_are_the_policys(sampling, any_policy):
    outputs = generate(LocalEngine(any_policy), tasks(), sampling)
    rollouts = Rollouts.of([build.group(own, [0.0] * len(own)) for own in outputs])
    with torch.no_grad():
        scored = any_policy.logprobs(rollouts, rollouts.output_mask, sampling=sampling)
    mask = rollouts.output_mask
    assert rollouts.sampled_logprobs[mask].min() < -0.1
    assert (scored.logprobs - rollouts.sampled_logprobs)[mask].abs().max() < 1e-4


def test_greedy_tokens_are_those_of_transformers(any_policy):
    outputs = generate(LocalEngine(never_ending(any_policy)), tasks(1), replace(SAMPLING, greedy=True))
    for task, (output,) in zip(tasks(1), outputs, strict=True):
        question = torch.tensor([task.question_tokens])
        expected = any_policy.model.generate(
            question, attention_mask=torch.ones_like(question), do_sample=False,
            max_new_tokens=20, min_new_tokens=20, eos_token_id=None, pad_token_id=1,
        )  # fmt: skip
        assert output.tokens.tolist() == expected[0, len(task.question_tokens) :].tolist()


@pytest.mark.parametrize("any_policy", ["gpt2", "gptj"], indirect=True)  # tests/equality has the others
def test_an_output_depends_on_its_question_and_stream_alone(any_policy, monkeypatch):
    # against: alone; other order; a few rows at a time; fewer siblings; the plain cache
    engine = LocalEngine(any_policy)
    expected = [words(own) for own in generate(engine, tasks(), SAMPLING)]
    lengths = {len(tokens) for own in expected for tokens in own}
    assert len(lengths) > 1  # some end early, so that the cache is cut
    assert [words(generate(engine, [task], SAMPLING)[0]) for task in tasks()] == expected
    assert [words(own) for own in generate(engine, tasks()[::-1], SAMPLING)] == expected[::-1]
    for rows in (1, 3):
        few = LocalEngine(any_policy, max_num_seqs=rows)
        assert [words(own) for own in generate(few, tasks(), SAMPLING)] == expected
    assert [words(own) for own in generate(engine, tasks(2), SAMPLING)] == [own[:2] for own in expected]
    monkeypatch.setattr(local, "ENTER_SHARE", 10**9)  # rows enter one by one
    assert [words(own) for own in generate(LocalEngine(any_policy, max_num_seqs=3), tasks(), SAMPLING)] == expected
    assert [words(own) for own in generate(LocalEngine(any_policy, shared=False), tasks(), SAMPLING)] == expected


def test_a_stream_twice_gives_an_output_twice_and_another_stream_another(policy):
    one, two, three = generate(LocalEngine(policy), [Task((7, 8), (1, 1, 2))], SAMPLING)[0]
    assert words([one]) == words([two]) != words([three])


def test_no_tasks_and_no_streams_give_no_outputs(policy):
    assert generate(LocalEngine(policy), [], SAMPLING) == []
    assert generate(LocalEngine(policy), [Task((5,), ())], SAMPLING) == [[]]


def test_an_output_carries_its_question_text_and_version(policy):
    engine = LocalEngine(policy)
    engine.sync(policy, 3)
    output = generate(engine, [Task((9, 8, 7), (4,))], SAMPLING)[0][0]
    assert output.question_tokens.tolist() == [9, 8, 7]
    assert output.text == policy.tokenizer.decode(output.tokens)
    assert output.policy_version == 3
    assert output.sampled.all()
    assert len(output.tokens) == len(output.logprobs) == len(output.sampled)


def test_an_end_token_stops_an_output_and_belongs_to_it_and_the_limit_cuts_it(policy):
    full = generate(LocalEngine(never_ending(policy)), tasks(1), SAMPLING)[2][0]
    assert full.finish == "length"
    assert len(full.tokens) == 20
    end = full.tokens.tolist()[6]
    first = full.tokens.tolist().index(end)
    for ends in ((end,), (-1, end), (end, 1000)):  # each of several end tokens counts
        cut = generate(LocalEngine(ending_at(policy, *ends)), tasks(1), SAMPLING)[2][0]
        assert cut.finish == "stop"
        assert cut.tokens.tolist() == full.tokens.tolist()[: first + 1]


def test_one_token_at_most(policy):
    expected = generate(LocalEngine(policy), tasks(), SAMPLING)
    found = generate(LocalEngine(policy), tasks(), replace(SAMPLING, max_new_tokens=1))
    assert [words(own) for own in found] == [[tokens[:1] for tokens in words(own)] for own in expected]
    assert {output.finish for own in found for output in own} <= {"length", "stop"}


def test_an_end_token_in_the_last_place_is_a_stop(policy):
    full = generate(LocalEngine(never_ending(policy)), tasks(1), SAMPLING)[0][0]
    engine = LocalEngine(ending_at(policy, int(full.tokens[0])))
    assert generate(engine, tasks(1), replace(SAMPLING, max_new_tokens=1))[0][0].finish == "stop"


@pytest.mark.parametrize(
    ("stop", "text", "finish"),
    [
        (("de",), "bcde", "stop"),
        (("x", "cd", "e"), "bcd", "stop"),  # whichever comes first
        (("fabc",), "bcdefabc", "stop"),  # over the place where the chain begins again
        (("b",), "b", "stop"),
        (("aa",), "bcdefabcde", "length"),
    ],
)
def test_a_stop_string_ends_an_output_and_is_kept(stop, text, finish, tmp_path, tiny_folder):
    # the policy says abcdef over and over; the question is "a"
    policy = text_chain("abcdef", tmp_path, tiny_folder)
    question = tuple(policy.tokenizer.tokenizer("a", add_special_tokens=False)["input_ids"])
    output = generate(LocalEngine(policy), [Task(question, (0,))], Sampling(max_new_tokens=10, stop=stop))[0][0]
    assert output.text == text
    assert output.finish == finish
    assert len(output.tokens) == len(text)


def test_a_stop_string_of_many_bytes_a_character_is_found(tmp_path, tiny_folder):
    # one token a byte, four to each robot
    policy = byte_chain("🤖", tmp_path, tiny_folder)
    question = tuple(policy.tokenizer.tokenizer("🤖")["input_ids"])
    output = generate(LocalEngine(policy), [Task(question, (0,))], Sampling(max_new_tokens=40, stop=("🤖" * 6,)))[0][0]
    assert output.text == "🤖" * 6
    assert len(output.tokens) == 24
    assert output.finish == "stop"


def test_a_model_with_a_state_of_its_own_is_sampled_without_a_cache(tmp_path, tiny_folder):
    policy = never_ending(build.policy_of(build.RECURRENT, tmp_path, tiny_folder))
    engine = LocalEngine(policy, max_num_seqs=3)
    assert engine.cache == "none"
    rollouts = Rollouts.of([build.group(own, [0.0] * len(own)) for own in generate(engine, tasks(2), SAMPLING)])
    found = policy.logprobs(rollouts, rollouts.output_mask, sampling=SAMPLING).logprobs
    assert close(found, rollouts.sampled_logprobs)


@pytest.mark.parametrize("family", ["gpt2", "mistral_window"])
def test_without_fast_paths_the_same_tokens_are_sampled(family, tmp_path, tiny_folder):
    config = build.SHARING[family]
    policy = build.policy_of(config, tmp_path, tiny_folder)
    plain = prepare(policy.model, policy.tokenizer, device=policy.device, precision=policy.precision, fast_paths=False)
    assert not plain.question_once
    assert LocalEngine(plain).cache == "none"
    for slow, fast in zip(
        *(generate(LocalEngine(any_way), tasks(2), SAMPLING) for any_way in (plain, policy)), strict=True
    ):
        assert words(slow) == words(fast)


@pytest.mark.parametrize("greedy", [False, True])
def test_diverged_weights_stop_the_run(greedy, tmp_path, tiny_folder):
    policy = build.policy_of(build.SHARING["llama"], tmp_path, tiny_folder)
    with torch.no_grad():
        policy.model.get_output_embeddings().weight[7] = torch.nan
    with pytest.raises(RunError, match=r"logits are nan after 1 token\(s\) .*diverged"):
        generate(LocalEngine(policy), tasks(), replace(SAMPLING, greedy=greedy))


def test_bf16_is_refused_where_the_processor_has_no_products_of_it(policy, monkeypatch):
    monkeypatch.setattr("groupwise.engines.local.multiplies_bf16", lambda: False)
    with pytest.raises(ConfigError, match=r"rollout.precision = 'bf16': this processor has no products of bf16"):
        LocalEngine(policy, precision="bf16")


def test_with_bf16_products_each_question_is_still_kept_once(tmp_path, tiny_folder, caplog):
    """Large logits: in bf16 what is the same in fp32 differs by more than a nat."""
    policy = build.policy_of(build.SHARING["llama"], tmp_path, tiny_folder)
    with torch.no_grad():
        policy.model.get_output_embeddings().weight *= 100
    half, sampling = replace(policy, precision=torch.bfloat16), replace(SAMPLING, temperature=100.0)
    engine = LocalEngine(half)
    outputs = generate(engine, tasks(), sampling)
    assert engine.cache == "shared"
    assert not caplog.records
    rollouts = Rollouts.of([build.group(own, [0.0] * len(own)) for own in outputs])
    mask = rollouts.output_mask
    scored = half.logprobs(rollouts, mask, sampling=sampling).logprobs
    gap = (scored - rollouts.sampled_logprobs)[mask].abs()
    assert 1e-4 < gap.max() < 0.2


def test_a_draw_falls_into_the_interval_of_its_token():
    # probabilities 1/4 1/2 1/4: intervals [0, .25) [.25, .75) [.75, 1)
    logits = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64).log()
    draws = torch.tensor([0.0, 0.24, 0.26, 0.5, 0.74, 0.76, 0.999], dtype=torch.float64)
    assert close(draw.inverse_cdf(logits.softmax(-1).expand(len(draws), -1), draws), [0, 0, 1, 1, 1, 2, 2])


@pytest.mark.parametrize("vocabulary", [12, 256, 257, 700])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_token_of_probability_0_is_never_drawn(vocabulary, dtype):
    # also at the ends of the draw: 0, the last fp32 and the last fp64 under 1 (which is 1 in fp32)
    edges = torch.tensor([0.0, 2**-40, 1 - 2**-24, 1 - 2**-53], dtype=torch.float64).to(dtype)
    generator = torch.Generator().manual_seed(vocabulary)
    for _ in range(30):
        logits = 20 * torch.randn(vocabulary, generator=generator, dtype=dtype)
        logits[torch.rand(vocabulary, generator=generator) < 0.7] = -torch.inf
        logits[[0, -1]] = -torch.inf
        logits[vocabulary // 2] = 0.0
        draws = torch.cat([edges, torch.rand(200, generator=generator, dtype=dtype)])
        drawn = draw.inverse_cdf(logits.softmax(-1).expand(len(draws), -1), draws)
        assert logits[drawn].isfinite().all()
    # rounding may leave a target just under the first interval: the first possible token, not the first
    just_under = draw._first_above(torch.tensor([[0.0, 0.5]]), torch.tensor([-1e-9]), torch.tensor([[False, True]]))
    assert just_under == 1
    alone = torch.full((len(edges), vocabulary), -torch.inf, dtype=dtype)
    alone[:, vocabulary - 3] = 5.0
    assert (draw.inverse_cdf(alone.softmax(-1), edges) == vocabulary - 3).all()


def test_frequencies_are_the_probabilities():
    # 20000 draws over 12 tokens in three blocks of 256; chi-square of 11 degrees of freedom: over 31.3 once in 1000
    generator = torch.Generator().manual_seed(5)
    places = torch.tensor([0, 1, 2, 254, 255, 256, 257, 400, 511, 512, 598, 599])
    logits = torch.full((600,), -torch.inf)
    logits[places] = torch.randn(12, generator=generator)
    draws = torch.rand(20_000, generator=generator)
    counts = torch.bincount(draw.inverse_cdf(logits.softmax(-1).expand(len(draws), -1), draws), minlength=600).double()
    expected = logits.double().softmax(0) * len(draws)
    assert (counts - expected)[places].square().div(expected[places]).sum() < 31.3
    assert counts[places].sum() == len(draws)


def test_first_tokens_of_many_streams_have_the_policys_frequencies(policy):
    # 4000 outputs of one token; the chi-square of the 12 likeliest tokens and the rest, 12 degrees: 32.9 in a thousand
    task = Task((9, 4, 30), tuple(stream(3, 0, "q", sample) for sample in range(4000)))
    outputs = generate(LocalEngine(policy, max_num_seqs=4000), [task], Sampling(max_new_tokens=1))[0]
    with torch.no_grad():
        p = policy.model(torch.tensor([task.question_tokens])).logits[0, -1].double().softmax(-1)
    counts = torch.bincount(torch.tensor([int(output.tokens[0]) for output in outputs]), minlength=len(p)).double()
    top = p.topk(12).indices
    found = torch.cat([counts[top], (counts.sum() - counts[top].sum())[None]])
    expected = torch.cat([p[top], (1 - p[top].sum())[None]]) * len(outputs)
    assert (found - expected).square().div(expected).sum() < 32.9


@pytest.mark.smollm
def test_smollm2_answers_as_transformers_generate_does(tmp_path):
    config = ModelConfig(path="smollm2-135m-instruct", device="cpu")
    tokenizer = load_tokenizer(config)
    policy = load_policy(config, tokenizer)
    assert policy.question_once
    assert not policy.whole_logits
    question = tokenizer.encode([Message("user", "What is 2 + 2?")])
    other = tokenizer.encode([Message("user", "Hi")])  # so that there is padding
    sampling = Sampling(max_new_tokens=16, greedy=True)
    outputs = generate(LocalEngine(policy), [Task(tuple(question), (0,)), Task(tuple(other), (0,))], sampling)
    save_checkpoint(tmp_path / "c", model=policy.model, tokenizer=tokenizer.tokenizer, optimizer=None, state={})
    del policy
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "c")
    read = AutoTokenizer.from_pretrained(tmp_path / "c")
    ids = torch.tensor([question])
    expected = exported.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16)
    text = read.decode(expected[0, len(question) :], skip_special_tokens=True)
    assert outputs[0][0].text == text
    assert "4" in text


def test_a_task_is_told_of_as_soon_as_its_last_row_is_done(policy):
    # limits of 3 and 12 tokens: the second task is done first, and told of first
    endless = LocalEngine(never_ending(policy))
    given = [Task((7, 8), (1, 2), limits=(12, 3)), Task((9,), (3,), limits=(5,))]
    told: list[tuple[int, list[Output]]] = []
    outputs = generate(endless, given, SAMPLING, finished=lambda task, done: told.append((task, done)))
    assert [task for task, _ in told] == [1, 0]
    assert [[len(output.tokens) for output in own] for own in outputs] == [[12, 3], [5]]
    assert [words(done) for _, done in told] == [words(outputs[1]), words(outputs[0])]
    assert {output.finish for own in outputs for output in own} == {"length"}


def test_waiting_rows_take_the_places_of_finished_ones_at_once(policy, monkeypatch):
    # 12 outputs of 2 to 9 tokens in 4 places: while some wait, every decode has all 4
    engine = LocalEngine(never_ending(policy), max_num_seqs=4)
    side_by_side: list[int] = []
    decode = SharedCache.decode
    monkeypatch.setattr(
        SharedCache, "decode", lambda self, tokens: side_by_side.append(len(tokens)) or decode(self, tokens)
    )
    given = [Task((7, n), (n, n + 50), limits=(2 + n % 8, 2 + (5 * n) % 8)) for n in range(6)]
    generate(engine, given, SAMPLING)
    tokens = sum(limit - 1 for task in given for limit in task.limits)  # the first one comes from the question
    assert sum(side_by_side) == tokens
    waiting = [rows for rows in side_by_side if rows == 4]
    assert side_by_side[: len(waiting)] == waiting
    assert len(side_by_side) <= tokens / 4 + 9


def test_a_question_is_computed_once_for_all_its_outputs(policy, monkeypatch):
    engine = LocalEngine(policy)
    asked: list[list[tuple[int, ...]]] = []
    prefill = SharedCache._prefill
    monkeypatch.setattr(SharedCache, "_prefill", lambda self, new: asked.append(list(new)) or prefill(self, new))
    generate(engine, tasks(8), SAMPLING)
    assert sorted(len(question) for part in asked for question in part) == sorted(LENGTHS)


@pytest.mark.parametrize("stop", ["<user>", "<pad>", "1<user>", "a<pad>"])
def test_a_stop_string_of_special_tokens_ends_an_output(stop, tiny_folder):
    config = ModelConfig(path=str(tiny_folder), device="cpu")
    policy = load_policy(config, load_tokenizer(config))
    tokens = policy.tokenizer.tokenizer(stop, add_special_tokens=False)["input_ids"]
    rows = Rows(Sampling(9, stop=(stop,)))
    ends, live = Ends(policy, (stop,)), rows.add([Task((4, 7, 5), (1,))])
    said = [8, 9, *tokens]
    for token in said:
        assert rows.finish[0] == ""
        rows.append(live, np.array([token]), np.zeros(1))
        ends.mark(rows, live, np.array([token]))
    assert rows.finish[0] == "stop"


def test_a_stop_string_that_the_tokenizer_cannot_write_is_refused(tiny_folder):
    with pytest.raises(ModelError, match=r"rollout\.stop: '#' would never end an output: .* writes it as '<unk>'"):
        load_tokenizer(ModelConfig(path=str(tiny_folder)), stop=("=", "#"))


@pytest.mark.parametrize("family", ["llama", "gptj"])  # a question once; transformers' own cache
@pytest.mark.parametrize("place", ["enter", "decode"])
def test_outputs_that_do_not_fit_into_memory_are_the_same_in_fewer_rows(
    family, place, tmp_path, tiny_folder, monkeypatch, capsys
):
    policy = never_ending(build.policy_of((build.SHARING | build.NOT_SHARING)[family], tmp_path, tiny_folder))
    expected = [words(own) for own in generate(LocalEngine(policy), tasks(), SAMPLING)]
    engine = LocalEngine(policy)
    cache = type(choice.CACHES[engine.cache](policy, 4, ()))
    whole = getattr(cache, place)

    def little(self, rows, *more):
        if len(rows) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, rows, *more)

    monkeypatch.setattr(cache, place, little)
    found = [words(own) for own in generate(engine, tasks(), SAMPLING)]
    assert found == expected
    assert engine.max_num_seqs <= 5
    assert "(rollout.max_num_seqs)" in capsys.readouterr().err


def out_of_memory(*_):
    raise MemoryError


def test_one_output_that_does_not_fit_into_memory_is_an_error(policy, monkeypatch):
    engine = LocalEngine(policy)
    monkeypatch.setattr(SharedCache, "enter", out_of_memory)
    with pytest.raises(RunError, match=r"one output alone does not fit into memory; lower rollout\.max_new_tokens"):
        generate(engine, tasks(), SAMPLING)
