"""Opening a run: everything that can be checked is checked before the weights are loaded. Owns what must be closed."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from groupwise.activity import doing
from groupwise.config import ExamplesConfig, ModelConfig, QuestionsConfig, Recipe, RLRecipe
from groupwise.data import Question
from groupwise.datasets.apart import heldout_remark
from groupwise.datasets.base import HELDOUT_SIZE as QUESTIONS_HELDOUT
from groupwise.datasets.base import Questions, batch, load_questions
from groupwise.datasets.sources import HELDOUT_SIZE as EXAMPLES_HELDOUT
from groupwise.engines.base import Engine
from groupwise.engines.factory import capabilities_of, open_engine
from groupwise.envs.episode import Environments, environments_of
from groupwise.errors import ConfigError
from groupwise.model import checkpoint as checkpoints
from groupwise.model.loading import load_policy
from groupwise.model.lora import digest_at_first, load_adapted
from groupwise.model.memory import default_recompute
from groupwise.model.policy import Policy
from groupwise.model.saved import sound_checkpoint
from groupwise.model.template import Template, audit
from groupwise.model.tokenizer import ChatTokenizer, load_tokenizer
from groupwise.objective.surrogate import Objective
from groupwise.record.create import check_whole
from groupwise.record.process import Hold
from groupwise.record.read import open_record
from groupwise.record.schema import FILE
from groupwise.rewards.base import RewardSet
from groupwise.rollout.evaluate import Evaluation, evaluate
from groupwise.rollout.lengths import check_lengths
from groupwise.run.answers import check_functions, require_answers
from groupwise.run.best import check_keep_best
from groupwise.run.computed import as_before, with_products
from groupwise.run.journal import Journal, State
from groupwise.run.memory import require_memory
from groupwise.run.place import LOST_BEFORE, check_changes, recording, require_steps, taken_place
from groupwise.run.progress import remark
from groupwise.run.readers import contexts, readers

R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class Run(Generic[R]):
    """What a stage works with. read: what it learns from beside questions (`open_run`).

    evaluate: after so many steps, answers to the held-out questions and their figures; None: there are none.
    """

    journal: Journal[R]
    questions: Questions
    tokenizer: ChatTokenizer
    policy: Policy
    engine: Engine
    rewards: RewardSet
    read: Any
    evaluate: Callable[[int], Evaluation] | None


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
    kept: dict[str, Any] = checkpoints.load_state(latest) if latest else {}
    if held is not None:
        _check_resumed(recipe, folder, State.of(kept))
    questions = _questions(recipe)
    with RewardSet(recipe.rewards, folder=folder) as rewards:
        if questions.train:
            check_functions(recipe.rewards, rewards, questions.train, objective)
            require_answers(recipe.rewards, rewards, questions.train, questions.heldout)
        settled = with_products(recipe, kept.get("matmul_backend"))
        model = settled.model.model_copy(update={"path": str(latest)}) if latest else settled.model
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
        policy = _policy(settled, tokenizer, latest, lambda: load(model, tokenizer, material))
        as_before(policy, kept, estimate.tokens)
        settled = with_products(recipe, policy.matmul_backend)
        state = State.of(kept)
        if latest is None:
            state.base = digest_at_first(policy.model)
        with (
            _engine(recipe, policy, state.policy_version) as engine,
            recording(recipe, folder, held, first_step=state.step) as recorder,
        ):
            if tokenizer.gallery is not None:
                recorder.picture_ids = tokenizer.gallery.first, tokenizer.gallery.token
            recorder.add_questions("heldout", questions.heldout)
            if tokenizer.template.opening:  # rewards judge an output as if it began with it, also later
                recorder.set_info("opening", tokenizer.template.opening)
            remark(estimate.message)
            yield Run(
                journal=Journal(settled, folder, recorder, state, latest),
                questions=questions,
                tokenizer=tokenizer,
                policy=policy,
                engine=engine,
                rewards=rewards,
                read=material,
                evaluate=_evaluation(recipe, questions.heldout, tokenizer, engine, rewards),
            )


def _evaluation(
    recipe: R, questions: Sequence[Question], tokenizer: ChatTokenizer, engine: Engine, rewards: RewardSet
) -> Callable[[int], Evaluation] | None:
    if not questions:
        return None
    return lambda step: evaluate(
        recipe,
        questions,
        tokenizer=tokenizer,
        engine=engine,
        rewards=rewards,
        samples=recipe.evaluate.samples,
        step=step,
    )


def _questions(recipe: Recipe) -> Questions:
    """The recipe's questions, of which there are enough for a step; how many are held out is told on stderr."""
    if recipe.questions is None:
        return Questions((), ())
    if recipe.rollout is not None:  # asked for their errors
        capabilities_of(recipe.rollout)
        _check_environment_reward(recipe, environments_of(recipe.rollout))
    questions = load_questions(recipe.questions, recipe.seed)
    _tell_heldout("questions", recipe.questions, questions, usual=QUESTIONS_HELDOUT)
    if isinstance(recipe, RLRecipe):  # drawn for its error
        batch(questions.train, 0, questions_per_step=recipe.rollout.questions_per_step, seed=recipe.seed)
    return questions


def _check_environment_reward(recipe: Recipe, environments: Environments) -> None:
    """Raises ConfigError if a reward is the environment's own and there is none."""
    for index, reward in enumerate(recipe.rewards):
        if reward.function == "environment" and not environments.rewards:
            assert recipe.rollout is not None
            raise ConfigError(
                f"rewards[{index}].function = 'environment': rollout.environment = {recipe.rollout.environment!r} "
                "has no reward of its own",
                hint="give it outcome() or get_reward() (docs/own_environment.md), or name another reward",
            )


def _tell_heldout(what: str, section: QuestionsConfig | ExamplesConfig | None, parts: Any, *, usual: int) -> None:
    """Says on stderr how many are held out, where that is not what the recipe's section says or what is usual."""
    if section is None:
        return
    remark_text = heldout_remark(
        what, section.heldout_size, held=len(parts.heldout), left=len(parts.train), usual=usual
    )
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


def _check_resumed(recipe: Recipe, folder: Path, state: State) -> None:
    """Raises ConfigError if nothing is left to do or a fixed value has changed; tells other changes on stderr."""
    check_whole(folder / FILE)
    with closing(open_record(folder)) as record:
        info, recorded = record.info(), set(record.steps())
    lost_before = int(info.get(LOST_BEFORE, "0"))
    done, steps = state.step, recipe.update.steps
    require_steps(folder, recorded, done=done, lost_before=lost_before, unrecorded=state.unrecorded_steps)
    if done > steps or (done == steps and info["state"] == "finished"):  # else the last evaluation is still to do
        raise ConfigError(
            f"{folder} has done {done} of update.steps = {steps}: nothing is left to train",
            hint=f"ask for more, for example update.steps={done + 50}",
        )
    check_changes(recipe, folder, info)
