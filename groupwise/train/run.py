"""Opening a run: everything that can be checked is checked before the weights are loaded. Owns what must be closed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from groupwise import __version__, registry
from groupwise.config import Recipe, dump_recipe
from groupwise.engines.base import Engine
from groupwise.envs.base import Questions, load_questions
from groupwise.errors import ConfigError, DataError, ModelError
from groupwise.model import checkpoint as checkpoints
from groupwise.model.policy import Policy, load_policy, pick_device
from groupwise.model.tokenizer import ChatTokenizer, load_tokenizer
from groupwise.record.schema import FILE
from groupwise.record.write import Recorder
from groupwise.rewards.base import RewardSet
from groupwise.train.rollout import check_lengths

COPIES_TRAINED = 4
"""Model-sized fp32 tensors that training holds: weights, gradients and AdamW's two moments."""


@dataclass
class Run:
    """What a stage works with. step: the next to do, from 0; seconds, tokens: of training so far, over all attempts."""

    recipe: Recipe
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
    resumed_from: Path | None = None
    failures_shown: set[str] = field(default_factory=set)


@contextmanager
def open_run(recipe: Recipe, folder: Path, *, resume: bool, with_reference: bool) -> Iterator[Run]:
    """A new run in a folder, or the one there taken up at its last checkpoint; closed whatever happens.

    Raises InputError for what the user can mend, before the weights are loaded.
    """
    latest = _place(recipe, folder, resume=resume)
    if latest:
        checkpoints.check_checkpoint(latest)
    state: dict[str, Any] = checkpoints.load_state(latest) if latest else {}
    if state.get("step", 0) >= recipe.update.steps:
        raise ConfigError(
            f"{folder} has done {state['step']} of update.steps = {recipe.update.steps}: nothing is left to train",
            hint=f"ask for more, for example update.steps={state['step'] + 50}",
        )
    questions = load_questions(recipe.questions, recipe.seed)
    with RewardSet(recipe.rewards) as rewards:
        base = load_tokenizer(recipe.model, seed=recipe.seed)
        check_lengths(base, [*questions.train, *questions.heldout], max_new_tokens=recipe.rollout.max_new_tokens)
        require_room(recipe, base, folder, copies=COPIES_TRAINED + with_reference)
        model = recipe.model.model_copy(update={"path": str(latest)}) if latest else recipe.model
        tokenizer = load_tokenizer(model) if latest else base
        policy = load_policy(model, tokenizer)
        engine = registry.load(registry.ENGINES, recipe.rollout.engine)(policy, max_rows=recipe.rollout.max_rows)
        recorder = _recorder(recipe, folder, first_step=state.get("step", 0) if resume else None)
        try:
            recorder.add_questions("heldout", questions.heldout)
            yield Run(
                recipe=recipe,
                folder=folder,
                questions=questions,
                tokenizer=tokenizer,
                policy=policy,
                engine=engine,
                rewards=rewards,
                recorder=recorder,
                step=state.get("step", 0),
                policy_version=state.get("policy_version", 0),
                seconds=state.get("seconds", 0.0),
                tokens=state.get("tokens", 0),
                resumed_from=latest,
            )
        finally:
            recorder.close()


def save(run: Run, optimizer: torch.optim.Optimizer) -> Path:
    """A checkpoint of the run as it is after `run.step` steps; older ones are removed past the number to keep."""
    target = checkpoints.checkpoint_folder(run.folder, run.step)
    state = {
        "step": run.step,
        "policy_version": run.policy_version,
        "seed": run.recipe.seed,
        "seconds": run.seconds,
        "tokens": run.tokens,
        "groupwise": __version__,
    }
    checkpoints.save_checkpoint(
        target, model=run.policy.model, tokenizer=run.tokenizer.tokenizer, optimizer=optimizer, state=state
    )
    checkpoints.prune(run.folder, run.recipe.run.keep_checkpoints)
    return target


def require_room(recipe: Recipe, tokenizer: ChatTokenizer, folder: Path, *, copies: int) -> None:
    """Raises if the disk cannot hold the checkpoints, or the memory so many copies of the model; loads no weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(tokenizer.config, dtype=torch.float32)
    # One more than is kept: the old one goes only when the new one is whole.
    one = checkpoints.bytes_needed(empty, with_optimizer=True)
    checkpoints.require_space(folder, one * (recipe.run.keep_checkpoints + 1))
    needed = copies * checkpoints.bytes_needed(empty, with_optimizer=False)
    device = pick_device(recipe.model.device)
    free = _free_memory(device)
    if free is not None and free < needed:
        raise ModelError(
            f"not enough memory on {device}: training {recipe.model.path} holds {needed:,} bytes before the first "
            f"output, {free:,} are free",
            hint="use a smaller model, or set objective.kl_coef=0 to do without the reference",
        )


def _free_memory(device: torch.device) -> int | None:
    """Bytes free on a device; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _place(recipe: Recipe, folder: Path, *, resume: bool) -> Path | None:
    """The checkpoint to go on from, None to begin; raises if the folder is not what the command says it is."""
    exists = (folder / FILE).exists()
    if resume and not exists:
        raise DataError(f"--run {folder}: no run there to resume", hint="leave --resume out to start one")
    if not resume and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "a run is there already" if exists else "it exists and is not empty"
        raise DataError(f"--run {folder}: {what}", hint="add --resume to go on with it, or give another name")
    if not os.access(next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists()), os.W_OK):
        raise DataError(f"--run {folder}: not writable", hint="give a folder that you may write to")
    return checkpoints.latest_checkpoint(folder) if resume else None


def _recorder(recipe: Recipe, folder: Path, *, first_step: int | None) -> Recorder:
    """The run's record, new or taken up, with the resolved recipe beside it."""
    recipe_text = dump_recipe(recipe)
    info = {
        "recipe": recipe_text,
        "stage": recipe.stage,
        "model": recipe.model.path,
        "steps": str(recipe.update.steps),
        "seed": str(recipe.seed),
        "versions": f"groupwise {__version__}, torch {torch.__version__}",
    }
    if first_step is None:
        recorder = Recorder.create(folder, info)
    else:
        recorder = Recorder.resume(folder, first_step)
        for key, value in info.items():
            recorder.set_info(key, value)
    (folder / "recipe.yaml").write_text(recipe_text, encoding="utf-8")
    return recorder
