"""pi_theta: any Hugging Face decoder in memory. Token ids to log-probabilities; knows no rewards and no losses."""

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from groupwise.batch import Rollouts
from groupwise.config import ModelConfig
from groupwise.data import Sampling
from groupwise.errors import ModelError
from groupwise.model.layout import question_once, separate
from groupwise.model.linear_logprobs import Scored, linear_logprobs
from groupwise.model.memory import keep_freed_memory
from groupwise.model.tokenizer import NO_MODEL, ChatTokenizer, first_line
from groupwise.objective.logprobs import entropy, sampling_logits, token_logprobs

log = logging.getLogger(__name__)


@dataclass
class Policy:
    """A model in memory with its tokenizer. Weights are fp32 (steps of 1e-6 vanish in bf16); bf16 is for products."""

    model: Any
    tokenizer: ChatTokenizer
    device: torch.device
    precision: torch.dtype
    question_once: bool = False
    """True if a group's question may be computed once for all its outputs in training, as it is in sampling."""
    whole_logits: bool = False
    """True if the last layer is not a plain linear map: then the model's own logits are used, at more memory."""

    def logprobs(
        self, rollouts: Rollouts, mask: Tensor, *, sampling: Sampling, entropy_gradient: bool = False
    ) -> Scored:
        """log pi(token | tokens before it), and the entropy there, under the sampling distribution.

        mask: [B, T], the tokens wanted. Returns [B, T] nats each, 0 where not wanted. No [B, T, vocabulary] tensor is
        kept unless the model's last layer forces it (`whole_logits`).
        """
        layout = question_once(rollouts) if self.question_once else separate(rollouts)
        settings = {"position_ids": layout.positions, "attention_mask": layout.attends, "use_cache": False}
        places, targets = layout.predictors[mask], rollouts.tokens[mask]
        with self.autocast():
            if self.whole_logits:
                logits = self.model(layout.tokens, **settings).logits.flatten(0, 1)[places]
                scores = _distribution(logits, targets, sampling)
                with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
                    entropies = entropy(scores)
                scored = Scored(token_logprobs(scores, targets), entropies)
            else:
                states = self.model.get_decoder()(layout.tokens, **settings).last_hidden_state
                scored = linear_logprobs(
                    states.flatten(0, 1)[places],
                    targets,
                    logits=lambda hidden, tokens: _distribution(self.head(hidden), tokens, sampling),
                    vocabulary=self.model.get_output_embeddings().weight.shape[0],
                    entropy_gradient=entropy_gradient,
                )
        logprobs, entropies = (values.new_zeros(mask.shape).masked_scatter(mask, values) for values in scored)
        return Scored(logprobs, entropies)

    def last_logits(self, tokens: Tensor, *, attention: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """Logits [R, V] of the token after the last column of tokens [R, n]; the cache grows by n."""
        settings = {"attention_mask": attention, "position_ids": positions, "past_key_values": cache, "use_cache": True}
        with self.autocast():
            if self.whole_logits:
                return self.model(tokens, logits_to_keep=1, **settings).logits[:, -1]
            return self.head(self.model.get_decoder()(tokens, **settings).last_hidden_state[:, -1])

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states: the last layer, with the scaling or capping that the model's config asks for."""
        config = self.model.config
        scores = self.model.get_output_embeddings()(hidden)
        if getattr(config, "logits_scaling", None):
            scores = scores / config.logits_scaling
        if getattr(config, "logit_scale", None):
            scores = scores * config.logit_scale
        cap = getattr(config, "final_logit_softcapping", None)
        return torch.tanh(scores / cap) * cap if cap else scores

    def autocast(self) -> AbstractContextManager:
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)


def load_policy(config: ModelConfig, tokenizer: ChatTokenizer) -> Policy:
    """The weights behind a tokenizer, in memory. Raises ModelError with what is wrong and what to do."""
    from transformers import AutoModelForCausalLM

    device, precision = pick_device(config.device), config.precision
    keep_freed_memory()
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            tokenizer.source, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"model.path = {config.path!r}: {first_line(error)}", hint=NO_MODEL) from None
    model, found = loaded
    if found["missing_keys"]:  # transformers draws them at random, with a warning
        missing = sorted(found["missing_keys"])
        raise ModelError(
            f"model.path = {config.path!r}: {len(missing)} weights are not in its files, {missing[0]} for one",
            hint="give the folder of a whole causal language model",
        )
    model.to(device).eval()  # eval: dropout would make the ratio differ from 1 on policy
    policy = Policy(model, tokenizer, device, torch.bfloat16 if precision == "bf16" else torch.float32)
    policy.whole_logits = not _head_is_linear(policy)
    policy.question_once = _questions_can_be_shared(policy)
    return policy


def pick_device(name: str) -> torch.device:
    """The device behind `auto`, or the one named. Raises ModelError if it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"model.device = {name!r}: {first_line(error)}", hint="try auto or cpu") from None
    return device


def _distribution(logits: Tensor, tokens: Tensor, sampling: Sampling) -> Tensor:
    return sampling_logits(
        logits,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        keep=tokens,
    )


@torch.inference_mode()
def _head_is_linear(policy: Policy) -> bool:
    """True if `Policy.head` of the decoder's states gives the model's own logits, tried on a few tokens."""
    tokens = torch.arange(8, device=policy.device)[None] % policy.model.get_output_embeddings().weight.shape[0]
    with policy.autocast():
        expected = policy.model(tokens, use_cache=False).logits.float()
        # None: a model that is its own decoder, as Llama 4
        states = getattr(policy.model.get_decoder()(tokens, use_cache=False), "last_hidden_state", None)
        atol = 1e-3 * float(expected.abs().max())
        same = states is not None and torch.allclose(expected, policy.head(states).float(), rtol=1e-4, atol=atol)
    if not same:
        log.warning("%s: logits are not a plain last layer; they are computed whole", type(policy.model).__name__)
    return same


@torch.inference_mode()
def _questions_can_be_shared(policy: Policy) -> bool:
    """True if both layouts give the same log-probabilities, tried on a small group: the model's attention decides."""
    config = policy.model.config.get_text_config(decoder=True)
    window = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    if window or getattr(config, "attention_chunk_size", None):
        return False  # counted in places of the row, which the shared layout moves
    question, output, outputs = 5, 3, 3
    tokens = torch.arange(outputs * (question + output), device=policy.device).view(outputs, -1) % config.vocab_size
    tokens[:, :question] = tokens[0, :question]
    mask = torch.zeros(tokens.shape, dtype=torch.bool, device=policy.device)
    mask[:, question:] = True
    rollouts = Rollouts(
        tokens=tokens,
        question_lengths=torch.full((outputs,), question),
        lengths=torch.full((outputs,), question + output),
        output_mask=mask,
        sampled_logprobs=torch.zeros(tokens.shape),
        rewards=torch.zeros(outputs),
        group=torch.zeros(outputs, dtype=torch.long),
    )
    sampling = Sampling(max_new_tokens=output)
    expected = policy.logprobs(rollouts, mask, sampling=sampling).logprobs
    try:
        given = replace(policy, question_once=True).logprobs(rollouts, mask, sampling=sampling).logprobs
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        log.warning("%s takes no attention mask of ours (%s)", type(policy.model).__name__, first_line(error))
        return False
    tolerance = 1e-3 if policy.precision == torch.float32 else 0.1
    same = bool(torch.allclose(expected, given, atol=tolerance))
    if not same:
        log.warning("%s: a question is computed again for each of its outputs", type(policy.model).__name__)
    return same
