"""Which cache a model is sampled with: the fastest of five that gives a plain pass's logits, tried on a few tokens."""

import logging
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from groupwise.engines.cache import SharedCache
from groupwise.engines.fused import FusedCache, layers_of
from groupwise.engines.plain import LevelCache, NoCache, PlainCache
from groupwise.model import probe
from groupwise.model.policy import Policy
from groupwise.model.products import multiplies_bf16
from groupwise.model.sight import Sight
from groupwise.model.sighted import pictured_rows, plain_logits
from groupwise.model.tokenizer import first_line
from groupwise.model.traits import routes_tokens

log = logging.getLogger(__name__)


class Cache(Protocol):
    """What keeps the rows' keys and values; see `SharedCache`."""

    enters_any_time: bool
    """True if rows may enter while others are on their way."""
    of_one_length: bool
    """True if rows that enter together must have questions of one length."""

    def enter(self, questions: Sequence[tuple[int, ...]], before: Sequence[tuple[int, ...]]) -> Tensor: ...

    def decode(self, tokens: Tensor) -> Tensor: ...

    def keep(self, live: np.ndarray) -> np.ndarray: ...


Make = Callable[[Policy, int, Container[tuple[int, ...]]], Cache]
"""(policy, tokens of an output at most, questions that stay for later turns) -> an empty cache."""

CACHES: dict[str, Make] = {
    "fused": lambda policy, tokens, kept: FusedCache(policy, tokens=tokens, kept=kept),
    "shared": lambda policy, tokens, kept: SharedCache(policy, tokens=tokens, kept=kept),
    "plain": lambda policy, tokens, kept: PlainCache(policy),
    "level": lambda policy, tokens, kept: LevelCache(policy),
    "none": lambda policy, tokens, kept: NoCache(policy),
}
"""The fastest first; the last is right for every model that trains."""
_ONCE = ("fused", "shared")
_SLOWER = {
    "plain": "transformers' own cache, slower",
    "level": "transformers' own cache, questions of one length side by side",
    "none": "no cache, slowly: every token from a pass over all before it",
}
_QUESTIONS, _FEW = (3, 9), (2, 4)  # tokens
_STEPS = 3  # they cross the windows of a near config (`groupwise.model.traits.nearer`)


def choose_cache(policy: Policy, *, shared: bool = True) -> str:
    """The first row of CACHES that is right for the policy's model. shared: False leaves out those that keep a question
    once for all its outputs."""
    once = shared and policy.question_once
    names = [name for name in CACHES if once or name not in _ONCE]
    if policy.sight is not None:  # the model itself counts a picture's positions as those of words
        names = [name for name in names if name != "level"]
    if not policy.fast_paths:
        return "none"
    with probe.tried(policy.model, policy.matmul_backend) as (model, wholly):
        own = replace(policy, model=model, precision=torch.float32)
        if policy.sight is not None:
            own.sight = Sight(model, policy.sight.gallery, joint=policy.sight.joint)
        if not _fuses(policy) or layers_of(model) is None or layers_of(policy.model) is None:
            names = [name for name in names if name != "fused"]
        chosen = next(name for name in names if name == "none" or (wholly and _is_right(own, name)))
    if shared and chosen in _SLOWER:
        log.warning("%s is sampled with %s", type(policy.model).__name__, _SLOWER[chosen])
    return chosen


def _fuses(policy: Policy) -> bool:
    """Whether the fused step's products can be as precise as the policy's: its bf16 is of packed weights alone."""
    return policy.precision == torch.float32 or (policy.matmul_backend != "torch" and multiplies_bf16())


def _is_right(policy: Policy, name: str) -> bool:
    seeds = (0, 1) if routes_tokens(policy.model.config) else (0,)
    try:
        return any(_agrees(policy, name, seed) for seed in seeds) and (
            policy.sight is None or _agrees_on_pictures(policy, name)
        )
    except probe.REFUSALS as error:
        log.warning("%s: the cache %r does not fit (%s)", type(policy.model).__name__, name, first_line(error))
        return False


def _agrees(policy: Policy, name: str, seed: int) -> bool:
    """True if rows of two questions, one of which leaves, have a plain pass's logits at every step."""
    lengths = _QUESTIONS if probe.is_roomy(policy.model) else _FEW
    short, long = (probe.tokens_of(policy.model, length, seed=10 * seed + length) for length in lengths)
    if CACHES[name](policy, _STEPS, ()).of_one_length:
        short = probe.tokens_of(policy.model, len(long), seed=10 * seed + 7)
    questions = [short, long, long]
    behind = [probe.tokens_of(policy.model, _STEPS, seed=10 * seed + 20 + row) for row in range(3)]
    expected = [
        probe.plain_logits(policy.model, question + output)[len(question) - 1 :]
        for question, output in zip(questions, behind, strict=True)
    ]
    return _follows(policy, name, questions, [[]] * 3, behind, expected)


def _agrees_on_pictures(policy: Policy, name: str) -> bool:
    """The same of rows with pictures: in two questions, one of them of two rows, and in what stands behind one."""
    assert policy.sight is not None
    own = replace(policy, sight=Sight(policy.model, policy.sight.gallery.anew(), joint=policy.sight.joint))
    assert own.sight is not None
    made = pictured_rows(own.model, own.sight.gallery)
    rows = [made[1], made[0], made[3]]
    questions, behind = [row.tokens[: row.question] for row in rows], [row.tokens[-_STEPS:] for row in rows]
    before = [row.tokens[row.question : -_STEPS] for row in rows]
    expected = [
        plain_logits(own.model, own.sight.gallery, torch.tensor([row.tokens], device=own.device), row.images)[
            len(row.tokens) - _STEPS - 1 :
        ]
        for row in rows
    ]
    return _follows(own, name, questions, before, behind, expected)


def _follows(
    policy: Policy,
    name: str,
    questions: Sequence[list[int]],
    before: Sequence[list[int]],
    behind: Sequence[list[int]],
    expected: Sequence[Tensor],
) -> bool:
    """True if rows have the expected logits [steps, V] behind each token of `behind`; the first leaves on the way."""
    cache = CACHES[name](policy, _STEPS, ())
    rows = [0, 1, 2]
    found = [cache.enter([tuple(question) for question in questions], [tuple(own) for own in before])]
    right = [torch.stack([expected[row][0] for row in rows])]
    for step in range(_STEPS):
        if step == 2:
            rows = [rows[place] for place in cache.keep(np.array([False, True, True]))]
        newest = torch.tensor([behind[row][step] for row in rows], device=policy.device)
        found.append(cache.decode(newest))
        right.append(torch.stack([expected[row][step + 1] for row in rows]))
    return probe.same(torch.cat(right), torch.cat(found).float())
