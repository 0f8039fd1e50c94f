"""Sampling every question once, step by step, with nothing learned. What is done is told by the record alone."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import torch

from groupwise.config import RejectionRecipe
from groupwise.data import Group, Question
from groupwise.datasets.base import Questions
from groupwise.engines.base import Engine
from groupwise.engines.factory import capabilities_of, open_engine
from groupwise.envs.episode import environments_of
from groupwise.errors import ConfigError, DataError
from groupwise.model.loading import load_policy
from groupwise.model.tokenizer import ChatTokenizer, load_tokenizer
from groupwise.record.create import check_whole
from groupwise.record.read import open_record
from groupwise.record.schema import FILE
from groupwise.record.write import Recorder
from groupwise.rewards.base import RewardSet, check_failures
from groupwise.rollout.groups import sample_groups
from groupwise.rollout.lengths import check_lengths
from groupwise.run.answers import check_functions, require_answers
from groupwise.run.judged import show_failures
from groupwise.run.memory import require_memory_to_sample
from groupwise.run.metrics import rollout_metrics
from groupwise.run.place import check_changes, recording, taken_place
from groupwise.run.progress import Progress
from groupwise.stop import Stop

POLICY = "policy"
"""Key of the weights' digest in the record."""


@dataclass(frozen=True)
class Sampler:
    """What questions are asked of, and answers are judged by."""

    tokenizer: ChatTokenizer
    engine: Engine
    rewards: RewardSet


@dataclass
class Collection:
    """A run that samples each training question once. step: the next to do, of steps.

    policy: digest of the weights that are sampled from. sampler: None once nothing is left to sample.
    """

    recipe: RejectionRecipe
    folder: Path
    questions: Questions
    recorder: Recorder
    policy: str
    sampler: Sampler | None
    step: int
    steps: int
    failures_shown: set[str] = field(default_factory=set)

    @property
    def asked(self) -> Sequence[Question]:
        """The questions of the next step, in the order of the file; the last step may have fewer."""
        wanted = self.recipe.rollout.questions_per_step
        return self.questions.train[self.step * wanted : (self.step + 1) * wanted]


@contextmanager
def open_collection(
    recipe: RejectionRecipe, folder: Path, *, questions: Questions, resume: bool
) -> Iterator[Collection]:
    """A new run in a folder, or the one there taken up where its record ends; closed whatever happens.

    Weights are loaded only if something is left to sample. Raises InputError for what the user can mend, before that.
    """
    steps = -(-len(questions.train) // recipe.rollout.questions_per_step)
    with ExitStack() as opened:
        held = opened.enter_context(taken_place(folder, resume=resume))
        done, policy = (0, None) if held is None else _done(recipe, folder, questions)
        sampler = None
        if done < steps:
            sampler, digest = _sampler(recipe, folder, questions, opened)
            if policy not in (None, digest):
                raise ConfigError(
                    f"model.path = {recipe.model.path!r}: the run in {folder} began with other weights",
                    hint="restore them, or start a new run",
                )
            policy = digest
        recorder = opened.enter_context(recording(recipe, folder, held, first_step=done))
        recorder.set_info("steps", str(steps))
        recorder.set_info(POLICY, str(policy))
        if sampler is not None and sampler.tokenizer.template.opening:
            recorder.set_info("opening", sampler.tokenizer.template.opening)
        gallery = None if sampler is None else sampler.tokenizer.gallery
        if gallery is not None:
            recorder.picture_ids = gallery.first, gallery.token
        recorder.add_questions("heldout", questions.heldout)
        yield Collection(recipe, folder, questions, recorder, str(policy), sampler, done, steps)


def collect(
    run: Collection, stop: Stop, *, progress: Progress, measure: Callable[[Sequence[Group]], dict[str, float]]
) -> None:
    """Samples, rewards and records what is left. measure: further metrics of a step's groups.

    Raises Interrupted (asked to stop), or RewardLimitError with that step on record, to be done again on a resume.
    """
    if run.step < run.steps:
        progress.begin(run.folder, done=run.step)
    while run.step < run.steps:
        metrics = _step(run, stop, measure)
        progress.row(run.step, metrics)


def weights_digest(model: torch.nn.Module) -> str:
    """Hash of every weight by its name: two models of one path are told apart."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _step(run: Collection, stop: Stop, measure: Callable[[Sequence[Group]], dict[str, float]]) -> dict[str, float]:
    """The next questions, G outputs of each, their rewards, all in one transaction."""
    recipe, sampler = run.recipe, run.sampler
    assert sampler is not None
    rollout = sample_groups(
        sampler.tokenizer,
        run.asked,
        engine=sampler.engine,
        rewards=sampler.rewards,
        sampling=recipe.rollout.sampling(),
        group_size=recipe.rollout.group_size,
        seed=recipe.seed,
        step=run.step,
        environments=environments_of(recipe.rollout),
    )
    rewards = [sample.reward for group in rollout.groups for sample in group.samples]
    with stop.guarded():
        metrics = rollout_metrics(recipe, rollout) | measure(rollout.groups)
        nothing = [[None] * len(group.samples) for group in rollout.groups]
        run.recorder.write_step(run.step, rollout.groups, advantages=nothing, metrics=metrics)
        show_failures(run.failures_shown, rewards, then="its outputs are not kept")
        check_failures(rewards, recipe.run.failed_rewards_limit)
        run.step += 1
    return metrics


def _done(recipe: RejectionRecipe, folder: Path, questions: Questions) -> tuple[int, str | None]:
    """Steps that the record holds, less a last one whose rewards failed; and the digest of what they were sampled from.

    Raises ConfigError or DataError if the recipe or its questions are not those of the record.
    """
    check_whole(folder / FILE)
    with closing(open_record(folder)) as record:
        info, recorded = record.info(), record.steps()
        failed = {step: share or 0.0 for step, _, share in record.metrics("rewards/failed")}
        asked = list(record.questions("train"))
    free = ("rollout.max_num_seqs", *(f"rewards.{index}.timeout_seconds" for index in range(len(recipe.rewards))))
    check_changes(recipe, folder, info, free=free)
    for before, now in zip_longest(asked, questions.train[: len(asked)]):
        if now is None or (before.id, before.fingerprint) != (now.id, now.fingerprint):
            raise DataError(
                f"questions.source: question {before.id!r}, which the run in {folder} has asked, is not in its place "
                "any more: the questions have changed",
                hint="restore them, or start a new run",
            )
    again = bool(recorded) and failed.get(recorded[-1], 0.0) > recipe.run.failed_rewards_limit
    return len(recorded) - again, info.get(POLICY)


def _sampler(recipe: RejectionRecipe, folder: Path, questions: Questions, opened: ExitStack) -> tuple[Sampler, str]:
    """The model with its rewards, and the digest of its weights; everything that can be checked is checked first."""
    capabilities_of(recipe.rollout)
    environments = environments_of(recipe.rollout)
    rewards = opened.enter_context(RewardSet(recipe.rewards, folder=folder))
    check_functions(recipe.rewards, rewards, questions.train)
    require_answers(recipe.rewards, rewards, questions.train)
    tokenizer = load_tokenizer(recipe.model, seed=recipe.seed, stop=recipe.rollout.stop)
    check_lengths(
        tokenizer,
        questions.train,
        max_new_tokens=recipe.rollout.max_new_tokens,
        environments=environments,
    )
    require_memory_to_sample(recipe, tokenizer, questions.train)
    policy = load_policy(recipe.model, tokenizer)
    engine = opened.enter_context(open_engine(policy, recipe.rollout))
    return Sampler(tokenizer, engine, rewards), weights_digest(policy.model)
