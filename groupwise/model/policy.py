"""pi_theta: any Hugging Face decoder in memory. Token ids to log-probabilities; knows no rewards and no losses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import Any, TypeVar

import torch
from torch import Tensor

from groupwise.data import Sampling
from groupwise.model import products
from groupwise.model.attention import BlockPlan, Plan, attending
from groupwise.model.batch import Rollouts
from groupwise.model.last_layer import handing_over, kept_copy, logits_of
from groupwise.model.layer_choice import Forms, whole_layers
from groupwise.model.layout import Layout, counted, question_once, separate
from groupwise.model.linear_logprobs import Scored, backward_by_chunks, linear_logprobs, placed, token_scores
from groupwise.model.memory import Recompute, can_recompute, recomputed
from groupwise.model.products import Products, packed_weights
from groupwise.model.sight import Sight
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.objective.logprobs import sampling_logits

Found = TypeVar("Found")
CACHE_NAMES = ("cache", "cache_params", "past_key_values")
"""What a model calls its cache: `cache` from transformers 5.24 on."""


@dataclass
class Policy:
    """A model in memory with its tokenizer. Weights are fp32 (steps of 1e-6 vanish in bf16); bf16 is for products."""

    model: Any
    tokenizer: ChatTokenizer
    device: torch.device
    precision: torch.dtype
    fast_paths: bool = True
    """False: each output is computed in a row of its own, and sampled without keeping keys and values."""
    question_once: bool = False
    """True if a group's question may be computed once for all its outputs, in a stream without padding."""
    whole_logits: bool = False
    """True if the last layer is not a plain linear map: then the model's own logits are used, at more memory."""
    matmul_backend: Products = "torch"
    """The library that multiplies matrices in the model's linear layers."""
    recompute: Recompute = "nothing"
    """What a backward pass computes again instead of having kept it; see `groupwise.model.memory.recomputed`."""
    whole_layers: Forms = field(default_factory=dict)
    """The layers that a stream goes through as a whole, and how they attend; see `groupwise.model.layer_choice`."""
    microbatch_limit: int | None = None
    """Tokens of a micro-batch that memory is known to hold, if fewer than usual; None: as many as are asked for."""
    lacking: Tensor | None = None
    """Ids [n] of rows of the embedding that are no token: neither drawn nor counted in a distribution. None: none."""
    sight: Sight | None = None
    """How the model sees pictures; None: it reads text alone."""

    @torch.no_grad()
    def logprobs(self, rollouts: Rollouts, mask: Tensor, *, sampling: Sampling) -> Scored:
        """log pi(token | tokens before it), and the entropy there, under the sampling distribution; no gradient.

        mask: [B, T], the tokens wanted. Returns [B, T] nats each, 0 where not wanted. No [B, T, vocabulary] tensor is
        kept unless the model's last layer forces it (`whole_logits`).
        """
        targets, last = rollouts.tokens[mask], self._last_layer(sampling)
        with self._products(), self._forward(rollouts) as layout:
            if self.whole_logits:
                scored = token_scores(self._whole(layout, rollouts, mask, sampling), targets, entropy_gradient=False)
            else:
                scored = self._at_head(layout, mask, lambda states: linear_logprobs(states, targets, **last))
        return Scored(*(placed(values, mask) for values in scored))

    def backward(
        self,
        rollouts: Rollouts,
        mask: Tensor,
        *,
        sampling: Sampling,
        loss: Callable[[Tensor, Tensor], Tensor],
        per_token: bool = True,
        entropy_gradient: bool = False,
    ) -> Scored:
        """Adds d loss / d weights to the weights' gradients; returns what `logprobs` does.

        loss: (logprobs, entropies), [B, T] nats each, 0 outside the mask [B, T] -> scalar. per_token: each token's
        share of the loss depends on its own log-probability alone; else the last layer is computed twice.
        entropy_gradient: the loss depends on the entropies.
        """

        def placed_loss(logprobs: Tensor, entropies: Tensor) -> Tensor:
            return loss(placed(logprobs, mask), placed(entropies, mask))

        def by_chunks(states: Tensor) -> tuple[Scored, Tensor]:
            return backward_by_chunks(
                states.detach(),
                targets,
                loss=placed_loss,
                per_token=per_token,
                entropy_gradient=entropy_gradient,
                **self._last_layer(sampling),
            )

        targets = rollouts.tokens[mask]  # none, where another rank has a pass more to make
        with self._forward(rollouts) as layout:
            with self._products():
                if self.whole_logits:
                    scores = self._whole(layout, rollouts, mask, sampling)
                    scored = token_scores(scores, targets, entropy_gradient=entropy_gradient)
                    slope, end = None, placed_loss(*scored)
                else:
                    end, scored, slope = self._at_head(layout, mask, lambda states: (states, *by_chunks(states)))
            if end.requires_grad:  # else nothing that learns has a share in it: text alone, and a projector that learns
                end.backward(slope)
        return Scored(*(placed(values.detach(), mask) for values in scored))

    @contextmanager
    def states(self, rollouts: Rollouts, mask: Tensor) -> Iterator[Tensor]:
        """The decoder's states that predict the masked tokens [B, T], as [N, D]; a backward pass belongs inside."""
        with self._forward(rollouts) as layout:
            with self.autocast():
                states = self._states(layout, mask)
            yield states

    @contextmanager
    def kept_weights(self, precision: torch.dtype | None = None) -> Iterator[None]:
        """While it holds, the weights must not change: sampling's copies of them are made once, in this precision;
        None: that of the other products."""
        last = self.model.get_output_embeddings()
        with self._products(), packed_weights(self.model, precision or self.precision, in_fp32=(last,)):
            yield

    def recompute_if_it_can(self, what: Recompute) -> None:
        """Sets `recompute`, to nothing if the model does not allow what is asked for."""
        with self.autocast():
            self.recompute = what if can_recompute(self.model, what) else "nothing"

    def stream_states(self, tokens: Tensor, positions: Tensor, plan: Plan) -> Tensor:
        """The decoder's states [1, S, D] of a stream of tokens [1, S] whose attention is the plan's."""
        tokens, given = self._seen(tokens, rows=False)
        with attending(self.model, plan):
            return self._decoder(tokens, position_ids=positions, **given)

    def places(self, row: Sequence[int]) -> Tensor:
        """Positions of a row's tokens: [T], or [3, T] in a model that has three for each."""
        return counted(row) if self.sight is None else self.sight.places(row)

    def runs(self, tokens: Tensor) -> Tensor | None:
        """Of a stream's tokens [S] the runs that see each other both ways; None: there are none."""
        return None if self.sight is None else self.sight.runs(tokens)

    def _seen(self, tokens: Tensor, *, rows: bool) -> tuple[Tensor, dict[str, Any]]:
        """Ids as the model knows them, and what its forward pass is given of the pictures among them.

        rows: each row of the model's own positions and attention; else a stream."""
        if self.sight is None:
            return tokens, {}
        with self.autocast():
            return self.sight.gallery.plain(tokens), self.sight.given(tokens, rows=rows)

    def last_logits(self, tokens: Tensor, cache: Any, *, padding: tuple[Tensor, Tensor] | None) -> Tensor:
        """Logits [R, V] of the token after the last column of tokens [R, n]; the cache grows by n.

        padding: the attention mask [R, all columns so far] and positions [R, n] or [3, R, n]; None: no row is padded.
        """
        tokens, given = self._seen(tokens, rows=True)
        asked = self.model if self.whole_logits else self._reader(given)
        known = signature(asked.forward).parameters
        settings = {next(name for name in CACHE_NAMES if name in known): cache, "use_cache": True, **given}
        if "logits_to_keep" in known:
            settings["logits_to_keep"] = 1
        if padding is not None:
            settings |= {"attention_mask": padding[0], "position_ids": padding[1]}
        with self.autocast():
            if self.whole_logits:
                return asked(tokens, **settings).logits[:, -1]
            return self.head(asked(tokens, **settings).last_hidden_state[:, -1])

    def logits_at(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Logits [R, V] of the token after a place [R] of each row of tokens [R, T], from a pass without a cache."""
        rows = torch.arange(len(tokens), device=tokens.device)
        tokens, given = self._seen(tokens, rows=True)
        with self.autocast():
            if self.whole_logits:
                return self.model(tokens, use_cache=False, **given).logits[rows, places]
            return self.head(self._decoder(tokens, **given)[rows, places])

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states by the last layer."""
        return logits_of(self.model, hidden, self.precision)

    @contextmanager
    def _forward(self, rollouts: Rollouts) -> Iterator[Layout]:
        """The layout of rollouts, while the model attends as it says, also where it is computed again going back."""
        fill, once = self.matmul_backend in products.BY_ONEDNN, self.question_once and not self.whole_logits
        places = None if self.sight is None else self.sight.places
        layout = question_once(rollouts, fill=fill, places=places) if once else separate(rollouts)
        plan = None if layout.blocks is None else BlockPlan(layout.blocks, self.runs(layout.tokens[0]))
        forms = {} if plan is not None and plan.runs is not None else self.whole_layers
        tokens, beside = self._seen(layout.tokens, rows=plan is None)
        layout = replace(layout, tokens=tokens, beside=beside)
        with (
            nullcontext() if plan is None else attending(self.model, plan),
            recomputed(self.model, self.recompute),
            whole_layers(self.model, forms, plan, self.matmul_backend, self.recompute),
            products.gradients_in_place(),
        ):
            yield layout

    def _states(self, layout: Layout, mask: Tensor) -> Tensor:
        """The decoder's states that predict the masked tokens, [N, D]."""
        if not self.whole_logits and self.model.get_output_embeddings() is not None:  # None: a classifier
            return self._at_head(layout, mask, lambda states: states)
        states = self._decoder(layout.tokens, **layout.given)
        return states.flatten(0, 1).index_select(0, layout.predictors[mask])

    def _at_head(self, layout: Layout, mask: Tensor, take: Callable[[Tensor], Found]) -> Found:
        """`take` of the states that predict the masked tokens, [N, D], called within the model's own forward pass."""
        found: list[Found] = []
        head, at = self.model.get_output_embeddings(), layout.predictors[mask]
        with handing_over(head, lambda states: found.append(take(states.flatten(0, 1).index_select(0, at)))):
            self.model(layout.tokens, use_cache=False, **layout.given)
        return found.pop()  # what is left in a closure outlives the backward pass, and the graph with it

    def _whole(self, layout: Layout, rollouts: Rollouts, mask: Tensor, sampling: Sampling) -> Tensor:
        """The sampling distribution's logits of the masked tokens, [N, V], by the model's own last layer."""
        logits = self.model(layout.tokens, use_cache=False, **layout.given).logits
        return self._distribution(logits.flatten(0, 1)[layout.predictors[mask]], rollouts.tokens[mask], sampling)

    def _decoder(self, tokens: Tensor, **settings: Any) -> Tensor:
        states: Tensor = self._reader(settings)(tokens, use_cache=False, **settings).last_hidden_state
        return states

    def _reader(self, given: Mapping[str, Any]) -> Any:
        """What makes states of ids: the decoder, or where pictures are given what puts them among the words."""
        return self.model.base_model if "mm_encoder_outputs" in given else self.model.get_decoder()

    def _last_layer(self, sampling: Sampling) -> dict[str, Any]:
        return {
            "logits": lambda states, tokens: self._distribution(self.head(states), tokens, sampling),
            "vocabulary": self.model.get_output_embeddings().weight.shape[0],
        }

    def known(self, logits: Tensor, keep: Tensor | None = None) -> Tensor:
        """Logits [n, V] with -inf for ids that are no token; keep: ids [n] that stay all the same."""
        if self.lacking is None:
            return logits
        found = logits.index_fill(-1, self.lacking, -torch.inf)
        return found if keep is None else found.scatter(-1, keep[:, None], logits.gather(-1, keep[:, None]))

    def _distribution(self, logits: Tensor, tokens: Tensor, sampling: Sampling) -> Tensor:
        return sampling_logits(
            self.known(logits, tokens),
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            keep=tokens,
        )

    @contextmanager
    def _products(self) -> Iterator[None]:
        """While it holds, products are as precise as `precision` says, and the weights must not change."""
        with self.autocast(), kept_copy(self.model.get_output_embeddings(), self.precision):
            yield

    def autocast(self) -> AbstractContextManager:
        if self.precision != torch.bfloat16:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)
