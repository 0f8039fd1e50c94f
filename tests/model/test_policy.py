"""Log-probabilities are those of a plain forward pass, in both layouts and in every family."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, Llama4TextConfig, LlamaConfig, LlamaForCausalLM, LlamaModel, MistralConfig
from transformers.generation.logits_process import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from groupwise.config import ModelConfig
from groupwise.data import Sampling
from groupwise.errors import ModelError
from groupwise.model import linear_logprobs, loading
from groupwise.model.attention import NAME
from groupwise.model.batch import Rollouts
from groupwise.model.device import pick_device
from groupwise.model.loading import load_policy
from groupwise.model.policy import Policy
from tests.close import close
from tests.model import build

PLAIN = Sampling(max_new_tokens=9)


def plain_scores(policy: Policy, rollouts: Rollouts, sampling: Sampling) -> Tensor:
    """log softmax of the model's own logits, [B, T, V], entry t about token t; truncated by transformers' code."""
    logits = policy.model(rollouts.tokens, use_cache=False).logits  # causal: no token sees the padding on its right
    scores = (torch.cat([torch.zeros_like(logits[:, :1]), logits[:, :-1]], 1) / sampling.temperature).flatten(0, 1)
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(rollouts.tokens, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(rollouts.tokens, scores)
    if sampling.min_p:
        scores = MinPLogitsWarper(sampling.min_p)(rollouts.tokens, scores)
    return scores.log_softmax(-1).view(logits.shape)


def token_entries(scores: Tensor, rollouts: Rollouts) -> Tensor:
    return scores.gather(-1, rollouts.tokens[..., None])[..., 0]


def gradients(policy: Policy, loss: Tensor) -> Tensor:
    """All gradients of the model's weights in one vector."""
    weights = [weight for weight in policy.model.parameters() if weight.requires_grad]
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return torch.cat([torch.zeros(0, dtype=loss.dtype), *(g.flatten() for g in found if g is not None)])


def kept_gradients(policy: Policy) -> Tensor:
    return torch.cat([weight.grad.flatten() for weight in policy.model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("family", [*build.SHARING, *build.NOT_SHARING])
def test_logprobs_entropies_and_gradients_are_those_of_plain_transformers(family, tmp_path, tiny_folder):
    # In float64 (transformers computes norms and rotary angles in float32); questions of 1, 6 and 3 tokens, groups of
    # 2, 3 and 8 uneven outputs, some tokens not sampled.
    policy = build.policy_of((build.SHARING | build.NOT_SHARING)[family], tmp_path, tiny_folder)
    assert policy.question_once or family in build.NOT_SHARING  # GPT-J shares from transformers 5.24 on
    assert not policy.whole_logits
    policy.model.double()
    rollouts = build.rollouts([1, 6, 3], [2, 3, 8])
    mask = build.with_gaps(rollouts.output_mask)
    weights = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = plain_scores(policy, rollouts, PLAIN)
    expected = torch.where(mask, token_entries(scores, rollouts), 0.0)
    expected_entropies = torch.where(mask, -(scores.exp() * scores).sum(-1), 0.0)
    expected_gradient = gradients(policy, (weights * expected).sum() + 0.3 * expected_entropies.sum())
    assert expected_gradient.norm() > 1
    for once in {False, policy.question_once}:
        for per_token in (True, False):
            policy.model.zero_grad()
            scored = replace(policy, question_once=once).backward(
                rollouts, mask, sampling=PLAIN, per_token=per_token, entropy_gradient=True,
                loss=lambda logprobs, entropies: (weights * logprobs).sum() + 0.3 * entropies.sum(),
            )  # fmt: skip
            for found in (scored, replace(policy, question_once=once).logprobs(rollouts, mask, sampling=PLAIN)):
                assert found.logprobs.dtype == found.entropies.dtype == torch.float64
                exact = torch.float32 if family == "gemma2" else torch.float64  # its softmax, in transformers
                assert close(found.logprobs.to(exact), expected.to(exact))
                assert close(found.entropies.to(exact), expected_entropies.to(exact))
            gradient = kept_gradients(policy)
            assert (gradient - expected_gradient).norm() < 1e-6 * expected_gradient.norm()


@pytest.mark.parametrize(
    "sampling",
    [
        replace(PLAIN, temperature=0.6),
        replace(PLAIN, top_k=12),
        replace(PLAIN, top_p=0.8),
        replace(PLAIN, min_p=0.05),
        replace(PLAIN, temperature=1.7, top_k=20, top_p=0.9, min_p=0.02),
    ],
    ids=["temperature", "top_k", "top_p", "min_p", "all"],
)
@pytest.mark.parametrize("once", [False, True])
def test_the_sampling_distribution_is_that_of_transformers(sampling, once, tmp_path, tiny_folder):
    policy = replace(build.policy_of(build.SHARING["llama"], tmp_path, tiny_folder), question_once=once)
    policy.model.double()
    rollouts = build.rollouts([4, 2], [8, 8])
    with torch.no_grad():
        expected = token_entries(plain_scores(policy, rollouts, sampling), rollouts)
        kept = rollouts.output_mask & expected.isfinite()
        assert kept.sum() > 5
        assert close(policy.logprobs(rollouts, kept, sampling=sampling).logprobs[kept], expected[kept])
        # what was drawn under an older policy keeps a finite log-probability where this one would not draw it
        assert policy.logprobs(rollouts, rollouts.output_mask, sampling=sampling).logprobs.isfinite().all()


def test_a_window_that_would_not_reach_our_attention_falls_back(tmp_path, tiny_folder, monkeypatch):
    # 64 is longer than what is tried at load: the same weights are tried with a window of a few tokens
    config = MistralConfig(**build.SHARING["mistral_window"].to_dict() | {"sliding_window": 64})
    policy = build.policy_of(config, tmp_path, tiny_folder)
    assert policy.question_once
    ours = AttentionInterface()[NAME]

    def without_window(*args, sliding_window, **settings):
        return ours(*args, **settings)

    monkeypatch.setitem(AttentionInterface._global_mapping, NAME, without_window)
    loading._settle(policy)
    assert not policy.question_once


def test_a_chunked_attention_falls_back(tmp_path, tiny_folder):
    sizes = build.SHARING["llama"].to_dict()
    config = Llama4TextConfig(
        **{key: sizes[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")},
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size_mlp=48, num_local_experts=2,
        attention_chunk_size=64, pad_token_id=1, bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    assert not build.policy_of(config, tmp_path, tiny_folder).question_once


def test_a_head_that_is_not_linear_is_detected_and_its_own_logits_are_used(tmp_path, tiny_folder, caplog):
    # RecurrentGemma caps its logits under a name of its own, logits_soft_cap
    policy = build.policy_of(build.RECURRENT, tmp_path, tiny_folder)
    assert policy.whole_logits
    assert "computed whole" in caplog.text
    rollouts = build.rollouts([3, 5], [2, 3])
    scored = policy.logprobs(rollouts, rollouts.output_mask, sampling=PLAIN)
    scores = plain_scores(policy, rollouts, PLAIN)
    mask = rollouts.output_mask
    assert close(scored.logprobs[mask], token_entries(scores, rollouts)[mask])
    expected = gradients(policy, torch.where(mask, token_entries(scores, rollouts), 0.0).sum())
    policy.backward(rollouts, mask, sampling=PLAIN, loss=lambda logprobs, entropies: logprobs.sum())
    assert close(kept_gradients(policy), expected)


def test_nothing_kept_for_the_backward_pass_has_tokens_times_vocabulary_entries(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setattr(linear_logprobs, "CHUNK_BYTES", 4 * 4000 * 8)  # 8 tokens
    config = LlamaConfig(**(build.SHARING["llama"].to_dict() | {"vocab_size": 4000}))
    policy = build.policy_of(config, tmp_path, tiny_folder)
    rollouts = build.rollouts([2], [8], longest=40)
    tokens = int(rollouts.output_mask.sum())
    assert tokens > 2 * config.hidden_size  # so that the last layer's own weights are smaller
    whole = tokens * config.vocab_size
    assert largest_kept(policy, rollouts) < whole
    assert largest_kept(replace(policy, whole_logits=True), rollouts) >= whole


def largest_kept(policy: Policy, rollouts: Rollouts) -> int:
    sizes = [0]

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        policy.backward(rollouts, rollouts.output_mask, sampling=PLAIN, loss=lambda logprobs, _: logprobs.sum())
    return max(sizes)


def test_no_token_wanted_gives_zeros(tmp_path, tiny_folder):
    policy = build.policy_of(build.SHARING["llama"], tmp_path, tiny_folder)
    rollouts = build.rollouts([2], [2])
    scored = policy.logprobs(rollouts, torch.zeros_like(rollouts.output_mask), sampling=PLAIN)
    assert scored.logprobs.shape == scored.entropies.shape == rollouts.tokens.shape
    assert not scored.logprobs.any()
    assert not scored.entropies.any()


def test_bf16_products_keep_fp32_weights_and_log_probabilities(tiny_folder):
    rollouts = build.rollouts([4, 2], [3, 3])
    found = {}
    for precision in ("fp32", "bf16"):
        config = ModelConfig(path=str(tiny_folder), device="cpu", precision=precision)
        policy = load_policy(config, build.tokenizer_for(tiny_folder, tiny_folder))
        assert {weight.dtype for weight in policy.model.parameters()} == {torch.float32}
        found[precision] = policy.logprobs(rollouts, rollouts.output_mask, sampling=PLAIN).logprobs
        assert found[precision].dtype == torch.float32
    assert close(found["bf16"].bfloat16(), found["fp32"])
    assert not torch.equal(found["bf16"], found["fp32"])


def test_a_loaded_model_has_no_dropout(tmp_path, tiny_folder):
    policy = build.policy_of(build.SHARING["gpt2"], tmp_path, tiny_folder)  # whose config asks for 0.1
    assert policy.model.config.resid_pdrop == 0.1
    rollouts = build.rollouts([3], [3])
    one, two = (policy.logprobs(rollouts, rollouts.output_mask, sampling=PLAIN).logprobs for _ in range(2))
    assert torch.equal(one, two)


def test_weights_missing_from_a_folder_are_an_error(tmp_path, tiny_folder):
    sizes = build.SHARING["llama"].to_dict()
    LlamaModel(LlamaConfig(**sizes)).save_pretrained(tmp_path)  # a model without a last layer
    with pytest.raises(ModelError, match=r"1 weights are not in its files, lm_head\.weight for one"):
        load_policy(ModelConfig(path=str(tmp_path), device="cpu"), build.tokenizer_for(tmp_path, tiny_folder))


def test_damaged_weights_are_an_error(tmp_path, tiny_folder):
    LlamaForCausalLM(LlamaConfig(**build.SHARING["llama"].to_dict())).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"model\.path = "):
        load_policy(ModelConfig(path=str(tmp_path), device="cpu"), build.tokenizer_for(tmp_path, tiny_folder))


@pytest.mark.parametrize("name", ["abacus", "cpu:x", "cuda:99"])
def test_a_device_that_is_not_there_is_an_error(name):
    with pytest.raises(ModelError, match=f"model.device = '{name}'"):
        pick_device(name)
