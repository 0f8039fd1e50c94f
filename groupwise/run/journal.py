"""Where a run stands, and what keeps it: folder, record, checkpoints. Knows no questions and no engine."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from groupwise import __version__
from groupwise.activity import doing
from groupwise.config import Recipe
from groupwise.model import checkpoint as checkpoints
from groupwise.model.policy import Policy
from groupwise.model.saved import best_checkpoint
from groupwise.model.tokenizer import ChatTokenizer
from groupwise.record.write import Recorder
from groupwise.rewards.composition import Moments
from groupwise.run.computed import choices
from groupwise.run.place import tell_held_back

R_co = TypeVar("R_co", bound=Recipe, covariant=True)
_KEPT = ("step", "policy_version", "seconds", "tokens", "drawn", "base", "coefficients", "moments")
"""Fields of `State` in a checkpoint, under the same names."""


@dataclass
class State:
    """What moves on with each step. step: the next to do, from 0; seconds, tokens: of training, over all attempts.

    drawn: questions taken from the order so far, where steps do not all take as many. base: digest of the weights that
    the run began with; "" if an earlier version kept none. coefficients: those that follow a target, as the last step
    left them. moments: by label count, mean and squares of rewards scaled by them. unrecorded_steps: done, but the
    record could not take them. unrecorded: tries the last of these again.
    """

    step: int = 0
    policy_version: int = 0
    seconds: float = 0.0
    tokens: int = 0
    drawn: int = 0
    base: str = ""
    coefficients: dict[str, float] = field(default_factory=dict)
    moments: dict[str, list[float]] = field(default_factory=dict)
    unrecorded_steps: set[int] = field(default_factory=set)
    unrecorded: Callable[[], None] | None = None

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> "State":
        """The state that a checkpoint holds; {}: that of a new run."""
        return cls(
            **{name: kept[name] for name in _KEPT if name in kept}, unrecorded_steps=set(kept.get("unrecorded", ()))
        )

    def running(self) -> dict[str, Moments]:
        """The moments of rewards that are scaled by them."""
        return {label: Moments(int(count), mean, squares) for label, (count, mean, squares) in self.moments.items()}

    def kept(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {name: getattr(self, name) for name in _KEPT} | {"unrecorded": sorted(self.unrecorded_steps)}


@dataclass(frozen=True)
class Journal(Generic[R_co]):
    """What a run writes, and where. resumed_from: the checkpoint that this attempt goes on from; None: it is new."""

    recipe: R_co
    folder: Path
    recorder: Recorder
    state: State
    resumed_from: Path | None = None


@dataclass(frozen=True)
class Learned:
    """What training changes and a checkpoint holds. beside: modules beside the policy, by name."""

    policy: Policy
    tokenizer: ChatTokenizer
    optimizer: torch.optim.Optimizer
    beside: Mapping[str, nn.Module] = field(default_factory=dict)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        beside = ((f"{key}.{name}", w) for key, module in self.beside.items() for name, w in module.named_parameters())
        return chain(self.policy.model.named_parameters(), beside)


def save(journal: Journal, learned: Learned) -> Path:
    """A checkpoint of the run after `journal.state.step` steps; older ones are removed past the number to keep."""
    recipe, recorder, policy = journal.recipe, journal.recorder, learned.policy
    recorder.require_ours()
    tell_held_back(recorder.path, recorder.fold())
    target = checkpoints.checkpoint_folder(journal.folder, journal.state.step)
    state = {
        **journal.state.kept(),
        "seed": recipe.seed,
        **choices(policy),
        "groupwise": __version__,
    }
    with doing("writing a checkpoint"):
        checkpoints.save_checkpoint(
            target,
            model=policy.model,
            tokenizer=learned.tokenizer.saved,
            optimizer=learned.optimizer,
            state=state,
            beside=learned.beside,
        )
    try:
        checkpoints.prune(journal.folder, recipe.run.keep_checkpoints, spare=best_checkpoint(journal.folder))
    except OSError as error:  # the new one is whole: that is what counts
        print(f"older checkpoints not removed: {error}", file=sys.stderr)
    return target


def saved(journal: Journal, learned: Learned) -> Path:
    """The checkpoint of the run after its last step; written unless it is there."""
    target = checkpoints.checkpoint_folder(journal.folder, journal.state.step)
    return target if checkpoints.latest_checkpoint(journal.folder) == target else save(journal, learned)


def resume_optimizer(journal: Journal, learned: Learned) -> None:
    """Puts what the run's last checkpoint holds into its optimizer; a new run's stays as it is."""
    if journal.resumed_from is None:
        return
    optimizer, config = learned.optimizer, journal.recipe.update
    checkpoints.load_optimizer(journal.resumed_from, optimizer, model=learned.policy.model, beside=learned.beside)
    for group in optimizer.param_groups:  # the recipe's, which may have changed since
        group |= {"betas": config.betas, "weight_decay": config.weight_decay}
