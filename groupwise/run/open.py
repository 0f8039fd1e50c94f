"""Opening a run: everything that can be checked is checked before the weights are loaded. Owns what must be closed."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from groupwise import __version__, registry
from groupwise.activity import doing
from groupwise.config import ExamplesConfig, ModelConfig, QuestionsConfig, Recipe, RLRecipe
from groupwise.data import Output, Question
from groupwise.datasets.apart import heldout_told
from groupwise.datasets.base import HELDOUT_SIZE as QUESTIONS_HELDOUT
from groupwise.datasets.base import Questions, batch, load_questions
from groupwise.datasets.sources import HELDOUT_SIZE as EXAMPLES_HELDOUT
from groupwise.engines.base import Engine
from groupwise.engines.factory import capabilities_of, open_engine
from groupwise.envs.episode import environments_of
from groupwise.errors import ConfigError, DataError
from groupwise.model import checkpoint as checkpoints
from groupwise.model.lora import digest_at_first, load_adapted
from groupwise.model.memory import default_recompute
from groupwise.model.policy import Policy, load_policy
from groupwise.model.saved import best_checkpoint, sound_checkpoint
from groupwise.model.template import Template, audit
from groupwise.model.tokenizer import ChatTokenizer, load_tokenizer
from groupwise.objective.surrogate import Objective, reads, reads_rewards
from groupwise.recipe_file import changes, tree_of
from groupwise.record.create import check_whole
from groupwise.record.process import Hold
from groupwise.record.read import open_record
from groupwise.record.schema import FILE
from groupwise.record.write import Recorder
from groupwise.rewards.base import RewardSet, first_scored
from groupwise.rollout.lengths import check_lengths
from groupwise.run.answers import require_answers
from groupwise.run.best import check_keep_best
from groupwise.run.memory import require_memory
from groupwise.run.place import LOST_BEFORE, recording, require_steps, taken_place, tell_held_back
from groupwise.run.progress import remark
from groupwise.run.readers import contexts, readers

R = TypeVar("R", bound=Recipe)


@dataclass
class Run(Generic[R]):
    """What a stage works with. step: the next to do, from 0; seconds, tokens: of training so far, over all attempts.

    drawn: questions taken from the order so far, where steps do not all take as many. read: what the stage learns from
    beside questions (`open_run`). coefficients: those that follow a target, as the last step left them. beside: modules
    that a checkpoint holds beside the policy, by name. judged: an output got a reward since the run was opened;
    unjudged_steps: in which none did. unrecorded_steps: done, but the record could not take them. unrecorded: tries the
    last of these again. base: digest of the weights that the run began with; "" if an earlier version kept none.
    """

    recipe: R
    folder: Path
    questions: Questions
    tokenizer: ChatTokenizer
    policy: Policy
    engine: Engine
    rewards: RewardSet
    recorder: Recorder
    step: int = 0
    policy_version: int = 0
    seconds: float = 0.0
    tokens: int = 0
    drawn: int = 0
    read: Any = None
    coefficients: dict[str, float] = field(default_factory=dict)
    beside: dict[str, torch.nn.Module] = field(default_factory=dict)
    resumed_from: Path | None = None
    failures_shown: set[str] = field(default_factory=set)
    learns_from_rewards: bool = False
    judged: bool = False
    unjudged_steps: int = 0
    unrecorded_steps: set[int] = field(default_factory=set)
    unrecorded: Callable[[], None] | None = None
    base: str = ""


@contextmanager
def open_run(
    recipe: R,
    folder: Path,
    *,
    resume: bool,
    objective: Objective | None = None,
    read: Callable[[ChatTokenizer], Any] = lambda _: None,
    load: Callable[[ModelConfig, ChatTokenizer, Any], Policy] = lambda model, ours, _: load_policy(model, ours),
    audit: Callable[..., Template] = audit,
) -> Iterator[Run[R]]:
    """A new run in a folder, or the one there taken up at its last checkpoint; closed whatever happens.

    objective: what its models are loaded for; None: the stage learns from no rewards. read: reads what the stage needs
    beside questions. load: the weights, for what was read. audit: of the chat template. Raises InputError for what the
    user can mend, before weights are loaded.
    """
    check_keep_best(recipe)
    with taken_place(folder, resume=resume) as held:
        yield from _opened(recipe, folder, held, objective=objective, read=read, load=load, audit=audit)


def _opened(
    recipe: R,
    folder: Path,
    held: Hold | None,
    *,
    objective: Objective | None,
    read: Callable[[ChatTokenizer], Any],
    load: Callable[[ModelConfig, ChatTokenizer, Any], Policy],
    audit: Callable[..., Template],
) -> Iterator[Run[R]]:
    """The run of `open_run`. held: the right to write one that is resumed; None: it is new."""
    latest = None if held is None else sound_checkpoint(folder, set_aside=True)
    state: dict[str, Any] = checkpoints.load_state(latest) if latest else {}
    if held is not None:
        _check_resumed(recipe, folder, done=state.get("step", 0), unrecorded=set(state.get("unrecorded", [])))
    questions = _questions(recipe)
    with RewardSet(recipe.rewards) as rewards:
        if questions.train:
            check_rewards(recipe, rewards, questions.train, objective)
            require_answers(recipe.rewards, rewards, questions.train, questions.heldout)
        model = recipe.model.model_copy(update={"path": str(latest)}) if latest else recipe.model
        tokenizer = load_tokenizer(
            model, seed=recipe.seed, audit=audit, stop=recipe.rollout.stop if recipe.rollout else ()
        )
        beside = readers(recipe, tokenizer, objective, resumed=latest is not None)
        _check_lengths(recipe, questions, tokenizer, beside)
        material = read(tokenizer)
        _tell_heldout("examples", recipe.examples, material, usual=EXAMPLES_HELDOUT)
        estimate = require_memory(
            recipe, tokenizer, folder, beside=beside, train=questions.train, heldout=len(questions.heldout)
        )
        policy = _policy(recipe, tokenizer, latest, lambda: load(model, tokenizer, material))
        # as before, if it is resumed: another number rounds otherwise
        policy.microbatch_limit = state.get("microbatch_limit", estimate.tokens)
        step, version = state.get("step", 0), state.get("policy_version", 0)
        with _engine(recipe, policy, version) as engine, recording(recipe, folder, held, first_step=step) as recorder:
            recorder.add_questions("heldout", questions.heldout)
            remark(estimate.message)
            yield Run(
                recipe=recipe,
                folder=folder,
                questions=questions,
                tokenizer=tokenizer,
                policy=policy,
                engine=engine,
                rewards=rewards,
                recorder=recorder,
                learns_from_rewards=objective is not None and reads_rewards(objective.advantage),
                step=step,
                policy_version=version,
                seconds=state.get("seconds", 0.0),
                tokens=state.get("tokens", 0),
                drawn=state.get("drawn", 0),
                read=material,
                coefficients=state.get("coefficients", {}),
                resumed_from=latest,
                unrecorded_steps=set(state.get("unrecorded", [])),
                base=state.get("base", "") if latest else digest_at_first(policy.model),
            )


def _questions(recipe: Recipe) -> Questions:
    """The recipe's questions, of which there are enough for a step; how many are held out is told on stderr."""
    if recipe.questions is None:
        return Questions((), ())
    if recipe.rollout is not None:  # asked for their errors
        capabilities_of(recipe.rollout)
        environments_of(recipe.rollout)
    questions = load_questions(recipe.questions, recipe.seed)
    _tell_heldout("questions", recipe.questions, questions, usual=QUESTIONS_HELDOUT)
    if isinstance(recipe, RLRecipe):  # drawn for its error
        batch(questions.train, 0, questions_per_step=recipe.rollout.questions_per_step, seed=recipe.seed)
    return questions


def _tell_heldout(what: str, section: QuestionsConfig | ExamplesConfig | None, parts: Any, *, usual: int) -> None:
    """Says on stderr how many are held out, where that is not what the recipe's section says or what is usual."""
    if section is None:
        return
    remark_text = heldout_told(what, section.heldout_size, held=len(parts.heldout), left=len(parts.train), usual=usual)
    if remark_text is not None:
        print(remark_text, file=sys.stderr)


def _check_lengths(
    recipe: Recipe, questions: Questions, tokenizer: ChatTokenizer, beside: Mapping[str, ChatTokenizer]
) -> None:
    """Raises DataError if a question and its output do not fit the policy, or what else reads them in training."""
    if recipe.rollout is not None:
        most, others = recipe.rollout.max_new_tokens, contexts(recipe, beside)
        played = environments_of(recipe.rollout)
        check_lengths(tokenizer, questions.train, max_new_tokens=most, readers=others, environments=played)
        check_lengths(tokenizer, questions.heldout, max_new_tokens=most, environments=played)


def _policy(recipe: Recipe, tokenizer: ChatTokenizer, latest: Path | None, load: Callable[[], Policy]) -> Policy:
    """The weights loaded, or with adapters as the last checkpoint left them, where the recipe asks for some; going back
    they compute again what the recipe says or what pays on this device, and nothing if the model does not allow it."""
    adapted = recipe.model.lora is not None
    with doing("loading the model"):
        policy = load_adapted(recipe.model, tokenizer, seed=recipe.seed, resumed_from=latest) if adapted else load()
    # a frozen product's result is not kept in any case, so that with adapters `cheap` would save nothing
    policy.recompute_if_it_can(
        recipe.update.activation_checkpointing or ("nothing" if adapted else default_recompute(policy.device))
    )
    return policy


def _engine(recipe: Recipe, policy: Policy, version: int) -> Any:
    """What samples; None where there is nothing to ask."""
    return nullcontext() if recipe.rollout is None else open_engine(policy, recipe.rollout, version=version)


def save(run: Run, optimizer: torch.optim.Optimizer) -> Path:
    """A checkpoint of the run as it is after `run.step` steps; older ones are removed past the number to keep."""
    run.recorder.require_ours()
    tell_held_back(run.recorder.path, run.recorder.fold())
    target = checkpoints.checkpoint_folder(run.folder, run.step)
    state = {
        "step": run.step,
        "policy_version": run.policy_version,
        "seed": run.recipe.seed,
        "seconds": run.seconds,
        "tokens": run.tokens,
        "drawn": run.drawn,
        "base": run.base,
        "coefficients": run.coefficients,
        "microbatch_limit": run.policy.microbatch_limit,
        "unrecorded": sorted(run.unrecorded_steps),
        "groupwise": __version__,
    }
    with doing("writing a checkpoint"):
        checkpoints.save_checkpoint(
            target,
            model=run.policy.model,
            tokenizer=run.tokenizer.tokenizer,
            optimizer=optimizer,
            state=state,
            beside=run.beside,
        )
    try:
        checkpoints.prune(run.folder, run.recipe.run.keep_checkpoints, spare=best_checkpoint(run.folder))
    except OSError as error:  # the new one is whole: that is what counts
        print(f"older checkpoints not removed: {error}", file=sys.stderr)
    return target


def resume_optimizer(run: Run, optimizer: torch.optim.Optimizer) -> None:
    """Puts what the run's last checkpoint holds into its optimizer; a new run's stays as it is."""
    if run.resumed_from is None:
        return
    checkpoints.load_optimizer(run.resumed_from, optimizer, model=run.policy.model, beside=run.beside)
    for group in optimizer.param_groups:  # the recipe's, which may have changed since
        group |= {"betas": run.recipe.update.betas, "weight_decay": run.recipe.update.weight_decay}


def check_rewards(
    recipe: Recipe, rewards: RewardSet, questions: Sequence[Question], objective: Objective | None = None
) -> None:
    """Raises DataError if a built-in reward cannot judge even an empty output: its answer or its params are wrong.

    A function of the user's own may have reasons to fail on one, or to see no steps in it, so it is not asked to pass
    this. Raises ConfigError if the advantage reads step rewards and all functions are built-ins that give none.
    """
    asked = [
        first_scored(config.parts, questions, where=f"rewards[{index}]") for index, config in enumerate(recipe.rewards)
    ]
    distinct = {question.id: question for question in asked}
    nothing = np.zeros(0, np.int32)
    empty = Output(nothing, nothing, nothing.astype(bool), nothing.astype(np.float32), text="", finish="stop")
    judged = rewards.score(list(distinct.values()), [empty] * len(distinct), decode=lambda _: "")
    scored = dict(zip(distinct, judged, strict=True))
    for config, question in zip(recipe.rewards, asked, strict=True):
        part = scored[question.id].parts[config.label]
        if config.function in registry.REWARDS and part.state == "failed":
            why, where = part.detail.rpartition("\n")[2], f"{question.where}: " if question.where else ""
            raise DataError(
                f"{where}reward {config.label!r} cannot judge question {question.id!r}: {why}",
                hint="give questions.answer_column or the reward's params their right values",
            )
    if objective is None:
        return
    built_in = all(config.function in registry.REWARDS for config in recipe.rewards)
    stepless = all(reward.steps is None for reward in judged)
    if "step_rewards" in reads(objective.advantage) and stepless and built_in:
        raise ConfigError(
            f"objective.advantage = {objective.advantage.__name__!r} reads the "
            f"rewards of steps, and none of {', '.join(config.label for config in recipe.rewards)} gives any",
            hint="take a reward that does, equations for one, or another preset (docs/rewards.md)",
        )


def _check_resumed(recipe: Recipe, folder: Path, *, done: int, unrecorded: Set[int]) -> None:
    """Raises ConfigError if nothing is left to do or a fixed value has changed; tells other changes on stderr."""
    check_whole(folder / FILE)
    with closing(open_record(folder)) as record:
        info, recorded = record.info(), set(record.steps())
    lost_before = int(info.get(LOST_BEFORE, "0"))
    require_steps(folder, recorded, done=done, lost_before=lost_before, unrecorded=unrecorded)
    steps = recipe.update.steps
    if done > steps or (done == steps and info["state"] == "finished"):  # else the last evaluation is still to do
        raise ConfigError(
            f"{folder} has done {done} of update.steps = {steps}: nothing is left to train",
            hint=f"ask for more, for example update.steps={done + 50}",
        )
    check_changes(recipe, folder, began_with=info["recipe"])


def check_changes(recipe: Recipe, folder: Path, *, began_with: str, free: Sequence[str] = ()) -> None:
    """Raises ConfigError if a fixed value is not as in the recipe that a run began with; tells others on stderr.

    free: places in fixed sections that may change all the same.
    """
    changed = changes(tree_of(began_with), recipe.model_dump(mode="json"))
    for place, before, now in changed:
        if place not in free and any(place == name or place.startswith(f"{name}.") for name in recipe.fixed):
            raise ConfigError(
                f"{place} = {now!r}: the run in {folder} began with {before!r}, and its steps so far would mean "
                "something else",
                hint="set it back, or start a new run",
            )
    if changed:
        remark_text = ", ".join(f"{place} = {now!r} (was {before!r})" for place, before, now in changed)
        print(f"changed since the run was last started: {remark_text}", file=sys.stderr)
