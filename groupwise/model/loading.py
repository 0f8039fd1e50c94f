"""A policy from its files, computed in the fastest ways that are right for its model, each tried on a few tokens."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from groupwise.config import ModelConfig
from groupwise.data import Sampling
from groupwise.errors import ModelError
from groupwise.model import probe
from groupwise.model.batch import Rollouts
from groupwise.model.device import pick_device, pick_precision
from groupwise.model.fastest import products_for
from groupwise.model.layer_choice import forms_of
from groupwise.model.parts import train_parts
from groupwise.model.policy import Policy
from groupwise.model.products import Products, find_siblings, use_products
from groupwise.model.sighted import settle_sight, sight_of, with_placeholders
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.model.vocabulary import add_rows, lacking_ids
from groupwise.model.weights import auto_class, end_turns, read_weights


def load_policy(
    config: ModelConfig,
    tokenizer: ChatTokenizer,
    *,
    section: str = "model",
    adapt: Callable[[Any], None] = lambda _: None,
) -> Policy:
    """The weights behind a tokenizer, in memory. Raises ModelError with what is wrong and what to do.

    section: of the recipe, in which the model is named. adapt: changes the model before the fast ways are tried on it.
    """
    device = pick_device(config.device, section)
    where = f"{section}.path = {config.path!r}"
    model, missing = read_weights(auto_class(tokenizer.processor), tokenizer, where=where)
    if missing:
        raise ModelError(
            f"{where}: {len(missing)} weights are not in its files, {missing[0]} for one",
            hint="give the folder of a whole causal language model",
        )
    if config.resize_embeddings:
        add_rows(model, tokenizer.tokenizer)
    end_turns(model, tokenizer)
    train_parts(model, config, pictures=tokenizer.processor is not None, section=section)
    adapt(model)
    precision = pick_precision(config.precision, device)
    return prepare(
        model,
        tokenizer,
        device=device,
        precision=precision,
        matmul_backend=config.matmul_backend,
        fast_paths=config.fast_paths,
    )


def prepare(
    model: Any,
    tokenizer: ChatTokenizer,
    *,
    device: torch.device,
    precision: torch.dtype,
    matmul_backend: str = "auto",
    fast_paths: bool = True,
) -> Policy:
    """A policy of a loaded model, with the fast ways that this model and machine allow, each tried on a few tokens.

    fast_paths: False leaves those out that depend on the model. Raises ModelError if no way to compute it is right.
    """
    policy = on_device(model, tokenizer, device=device, precision=precision, matmul_backend=matmul_backend)
    policy.fast_paths = fast_paths
    if tokenizer.gallery is not None:
        policy.sight = sight_of(model, tokenizer.gallery, named=f"model.path = {tokenizer.source!r}")
        policy.sight.features.precision = precision
    _settle(policy)
    if policy.question_once and precision == torch.float32:
        policy.whole_layers = forms_of(model, policy.matmul_backend)
    if policy.matmul_backend != "torch":
        with torch.no_grad():
            find_siblings(model, lambda: model(torch.zeros(1, 2, dtype=torch.long), use_cache=False))
    lacking = lacking_ids(tokenizer.tokenizer, model.get_output_embeddings().weight.shape[0])
    if policy.sight is not None:
        lacking = with_placeholders(lacking, model)
    policy.lacking = None if lacking is None else lacking.to(device)
    return policy


def _settle(policy: Policy) -> None:
    """Finds out how the policy's log-probabilities can be computed. Raises ModelError if in no way that is right."""
    named = f"model.path = {policy.tokenizer.source!r}"
    with probe.tried(policy.model, policy.matmul_backend) as (model, wholly):
        own = replace(policy, precision=torch.float32, model=model)
        row, logits = probe.require_plain(own.model, named)
        policy.whole_logits = own.whole_logits = not probe.head_is_linear(own.model, own.head, row, logits)

        def logprobs(rollouts: Rollouts, mask: Tensor, once: bool) -> Tensor:
            sampling = Sampling(max_new_tokens=1)
            return replace(own, question_once=once).logprobs(rollouts, mask, sampling=sampling).logprobs[mask]

        alone = probe.Alone(own.model, logprobs)
        if not alone.rows_agree():
            raise ModelError(
                f"{named}: a row of {type(own.model).__name__} has other log-probabilities beside a longer one",
                hint="choose another model",
            )
        policy.fast_paths = policy.fast_paths and wholly
        fast = policy.fast_paths and not policy.whole_logits
        policy.question_once = fast and alone.questions_can_be_shared()
        if not policy.question_once:
            probe.require_gradient(own.model, named, row)
        if policy.sight is not None:
            settle_sight(policy, own, named)


def on_device(
    model: Any, tokenizer: ChatTokenizer, *, device: torch.device, precision: torch.dtype, matmul_backend: str
) -> Policy:
    """A loaded model where it is to be, with the products asked for; none of the fast ways is tried."""
    model.to(device).eval()  # eval: dropout would make the ratio differ from 1 on policy
    if getattr(model.config.get_text_config(decoder=True), "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # PyTorch's fused attention would leave the cap out
    policy = Policy(model, tokenizer, device, precision)
    chosen = products_for(model, device) if matmul_backend == "auto" else matmul_backend
    policy.matmul_backend = cast(Products, chosen)
    use_products(model, policy.matmul_backend)
    return policy
