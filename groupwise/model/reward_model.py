"""r_phi: a Hugging Face classifier that judges conversations, or the steps of an answer. Readings to logits; no losses.

Where the model allows it, what conversations of a group begin with alike is computed once, in the stream without
padding in which policies are trained; else transformers' own forward pass is made, padded on the right.
"""

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from groupwise.config import ModelConfig
from groupwise.errors import ModelError
from groupwise.model import probe
from groupwise.model.batch import Rollouts, whole_groups
from groupwise.model.device import pick_device, pick_precision
from groupwise.model.loading import on_device
from groupwise.model.memory import recomputed
from groupwise.model.policy import Policy
from groupwise.model.reading import Reading, padding_of
from groupwise.model.tokenizer import ChatTokenizer, first_line
from groupwise.model.weights import read_weights
from groupwise.objective.logprobs import wide

log = logging.getLogger(__name__)

Readings = Sequence[Reading]
"""A group: readings that may begin alike."""
TOKENS_A_PASS = 4096
"""Where nothing is kept for a backward pass."""


@dataclass(frozen=True)
class Kind:
    """A kind of classifier. ending: of the names of its classes in transformers. labels: of one that is made here."""

    ending: str
    labels: int
    noun: str


SEQUENCES = Kind("ForSequenceClassification", 1, "sequence-classification")
TOKENS = Kind("ForTokenClassification", 2, "token-classification")


def load_classifier(
    config: ModelConfig, tokenizer: ChatTokenizer, *, kind: Kind, seed: int | None = None, section: str = "model"
) -> Policy:
    """A classifier in memory, as a policy of which only the states are asked.

    seed: a head is drawn from it where the files have none, as those of a causal language model; None: they must have
    one. Raises ModelError if they cannot be read, or hold a classifier of another kind.
    """
    import transformers

    where = f"{section}.path = {config.path!r}"
    device = pick_device(config.device, section)
    outputs = str((getattr(tokenizer.config, "architectures", None) or [""])[0])
    other = next((one for one in (SEQUENCES, TOKENS) if one is not kind and outputs.endswith(one.ending)), None)
    if other is not None:
        raise ModelError(f"{where}: a {other.noun} checkpoint", hint=f"give a {kind.noun} one")
    settings: dict[str, Any] = {} if outputs.endswith(kind.ending) or seed is None else {"num_labels": kind.labels}
    auto = getattr(transformers, f"AutoModel{kind.ending}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        model, missing = read_weights(auto, tokenizer, where=where, **settings)
    absent = [name for name in missing if seed is None or name.startswith(f"{model.base_model_prefix}.")]
    if absent:
        raise ModelError(
            f"{where}: {len(absent)} weights are not in its files, {absent[0]} for one",
            hint=f"give the folder of a whole {kind.noun} checkpoint",
        )
    if seed is not None and model.config.num_labels > kind.labels:
        raise ModelError(
            f"{where}: it has {model.config.num_labels} labels, and what is learned here has {kind.labels}",
            hint="start from a language model, or from a classifier with that many labels",
        )
    if missing:
        model.config.get_text_config().pad_token_id = model.config.pad_token_id = padding_of(tokenizer)
    precision = pick_precision(config.precision, device)
    policy = on_device(model, tokenizer, device=device, precision=precision, matmul_backend=config.matmul_backend)
    policy.fast_paths = config.fast_paths
    policy.question_once = config.fast_paths and _head_reads_states(policy) and _questions_can_be_shared(policy)
    return policy


@contextmanager
def logits(policy: Policy, groups: Sequence[Readings]) -> Iterator[Tensor]:
    """Logits [N, K], fp32 at least, at every place of every reading, in their order; a backward pass belongs inside."""
    rollouts = rollouts_of(groups, policy.device)
    readings = [reading for group in groups for reading in group]
    mask = torch.zeros(rollouts.tokens.shape, dtype=torch.bool)
    order: list[int] = []
    found = 0
    for row, reading in enumerate(readings):
        distinct = sorted(set(reading.places))
        mask[row, torch.tensor(distinct) + 1] = True  # what predicts the token behind a place is the state there
        order += [found + distinct.index(place) for place in reading.places]
        found += len(distinct)
    index = torch.tensor(order, dtype=torch.long, device=policy.device)
    if policy.question_once:
        head = _head(policy.model)
        assert head is not None
        with (
            policy.states(rollouts, mask.to(policy.device)) as states,
            torch.autocast(states.device.type, enabled=False),  # bf16 would round a reward of 1 to a 256th
        ):
            yield head(states.to(head.weight.dtype))[index]
    else:
        with recomputed(policy.model, policy.recompute):
            yield wide(_plain(policy, rollouts, mask)[index])


@torch.no_grad()
def values(policy: Policy, groups: Sequence[Readings], *, tokens: int = TOKENS_A_PASS) -> list[Tensor]:
    """Logits [n, K] of each group's places, on the CPU, without gradient, so many tokens at a time."""
    found: dict[int, Tensor] = {}
    for chosen in pieces(groups, tokens, question_once=policy.question_once):
        sizes = [sum(len(reading.places) for reading in groups[number]) for number in chosen]
        with logits(policy, [groups[number] for number in chosen]) as outputs:
            found |= dict(zip(chosen, outputs.cpu().split(sizes), strict=True))
    return [found[number] for number in range(len(groups))]


def pieces(groups: Sequence[Readings], tokens: int, *, question_once: bool) -> list[list[int]]:
    """Indices of groups in pieces of at most so many tokens; no group is cut, and one that is longer stands alone."""
    rollouts = rollouts_of(groups, torch.device("cpu"))
    return [
        list(dict.fromkeys(rollouts.group[rows].tolist()))
        for rows in whole_groups(rollouts, tokens, question_once=question_once)
    ]


def rollouts_of(groups: Sequence[Readings], device: torch.device) -> Rollouts:
    """Readings as rows; the question of a group is what they all begin with.

    tokens: [B, T + 1], one column behind the longest: a state is asked for by the place of the token behind it.
    """
    shared = [_shared(group) for group in groups]
    return Rollouts.of_rows(
        [reading.tokens for group in groups for reading in group],
        question_lengths=[length for length, group in zip(shared, groups, strict=True) for _ in group],
        group=[number for number, group in enumerate(groups) for _ in group],
        device=device,
        behind=1,
    )


def _shared(group: Readings) -> int:
    """How many tokens all readings of a group begin with alike."""
    columns = zip(*(reading.tokens for reading in group), strict=False)
    alike = (place for place, column in enumerate(columns) if len(set(column)) > 1)
    return next(alike, min(len(reading.tokens) for reading in group))


def _plain(policy: Policy, rollouts: Rollouts, mask: Tensor) -> Tensor:
    """Logits [N, K] of the places whose next column is masked, by transformers' own forward pass."""
    model, lengths = policy.model, rollouts.lengths.tolist()
    padding = model.config.get_text_config().pad_token_id
    # A cache would grow once more where layers are computed again going back.
    settings = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    rows = [slice(None)] if padding is not None else [slice(row, row + 1) for row in range(len(lengths))]
    found = []
    for chosen in rows:
        width = max(lengths[chosen])
        ids = rollouts.tokens[chosen, :width].clone()
        behind = torch.arange(width, device=ids.device) >= rollouts.lengths[chosen, None]
        ids[behind] = padding or 0
        with policy.autocast():
            outputs: Tensor = model(input_ids=ids, attention_mask=(~behind).long(), **settings).logits
        # A classifier of whole sequences has found their ends by itself.
        found.append(outputs if outputs.dim() == 2 else outputs[mask[chosen, 1 : width + 1].to(outputs.device)])
    return torch.cat(found)


def _questions_can_be_shared(policy: Policy) -> bool:
    """True if the decoder has the same states in a stream with each question once; see `groupwise.model.probe`."""
    with probe.tried(policy.model, policy.matmul_backend) as (model, wholly):
        own = replace(policy, model=model, precision=torch.float32)

        def states(rollouts: Rollouts, mask: Tensor, once: bool) -> Tensor:
            with replace(own, question_once=once).states(rollouts, mask) as found:
                return found

        return wholly and probe.Alone(model, states).questions_can_be_shared()


def _head(model: nn.Module) -> nn.Linear | None:
    """The one linear layer of a classifier that is no part of its decoder."""
    found = [child for name, child in model.named_children() if name != model.base_model_prefix]
    linear = [child for child in found if isinstance(child, nn.Linear)]
    return linear[0] if len(linear) == 1 else None


@torch.inference_mode()
def _head_reads_states(policy: Policy) -> bool:
    """True if the head of the decoder's last states gives the model's own logits, tried on a few tokens."""
    model, head = policy.model, _head(policy.model)
    if head is None:
        return False
    padding = model.config.get_text_config().pad_token_id
    tokens = torch.tensor([[token for token in range(9) if token != padding][:8]], device=policy.device)
    with policy.autocast():
        expected = model(tokens).logits.float()
        try:
            states = model.get_decoder()(tokens, use_cache=False).last_hidden_state
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            log.warning("%s has no states of its own (%s)", type(model).__name__, first_line(error))
            return False
        found = head(states).float()
    atol = 1e-3 * float(expected.abs().max()) + 1e-6
    return bool(torch.allclose(expected, found if expected.dim() == 3 else found[:, -1], rtol=1e-4, atol=atol))
