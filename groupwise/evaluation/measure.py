"""What `groupwise eval` does, from the words of the command to figures, tables and files."""

import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import transformers

from groupwise import __version__, registry
from groupwise.config import Recipe
from groupwise.data import Sample
from groupwise.engines.factory import open_engine
from groupwise.envs.episode import SINGLE, environments_of
from groupwise.errors import ConfigError
from groupwise.evaluation.curve import best_of, curve
from groupwise.evaluation.files import Answered, check_folder, write_files
from groupwise.evaluation.paired import changes, differences
from groupwise.evaluation.search import Settings
from groupwise.evaluation.subject import (
    Asked,
    Subject,
    is_run,
    model_of,
    named_model,
    questions_of,
    recipe_of,
    seen_in_training,
)
from groupwise.evaluation.table import markdown
from groupwise.model.loading import load_policy
from groupwise.model.tokenizer import ChatTokenizer, load_tokenizer
from groupwise.rewards.base import RewardSet
from groupwise.rewards.judging.cache import kept_in
from groupwise.rollout.evaluate import Evaluation, evaluate, figure_of
from groupwise.rollout.groups import score
from groupwise.rollout.lengths import check_lengths
from groupwise.rollout.played import Played
from groupwise.run.answers import check_functions, require_answers


@dataclass(frozen=True)
class Wanted:
    """What is to be measured beside the greedy answers. samples: k a question; best_of, search: see `curve`.

    questions: a file or an environment in place of the held-out ones. model: in place of the recipe's or the run's.
    against: another model on the same questions. out: folder for the files.
    """

    samples: int = 0
    questions: str | None = None
    model: str | None = None
    best_of: str | None = None
    search: Settings | None = None
    against: str | None = None
    out: Path | None = None


@dataclass(frozen=True)
class Result:
    """The figures as plain values, and as text."""

    content: dict[str, Any]
    text: str


@dataclass(frozen=True)
class _Measured:
    """One model's answers. searched: by simulations each question's answer with the tokens sampled for it."""

    subject: Subject
    template: dict[str, str]
    evaluation: Evaluation
    searched: Mapping[int, Sequence[tuple[Sample, int]]]


def evaluate_source(source: str, overrides: Sequence[str], wanted: Wanted) -> Result:
    """Figures of a recipe's model, of a run's last checkpoint or of a model named, with how they were made.

    Raises InputError, before weights are loaded, for what cannot be measured.
    """
    recipe = recipe_of(source, overrides, questions=wanted.questions)
    _check(recipe, wanted)
    subjects = [model_of(source, recipe, model=wanted.model)]
    if wanted.against is not None:
        subjects.append(named_model(wanted.against, recipe, option="--against"))
        _check_two(*subjects)
    asked = questions_of(recipe, named=wanted.questions)
    if wanted.out is not None:
        check_folder(wanted.out)
    folder = kept_in(Path(source) if is_run(source) else None)
    with RewardSet(recipe.rewards, folder=folder) as rewards, _guide(recipe, wanted.search, folder) as guide:
        _check_rewards(recipe, rewards, asked)
        tokenizers = [_tokenizer(recipe, subject, asked) for subject in subjects]
        seen = _told_of_training(subjects, asked)
        measured = [
            _measured(recipe, subject, asked, tokenizer, rewards, guide=guide if first else None, wanted=wanted)
            for subject, tokenizer, first in zip(subjects, tokenizers, (True, False), strict=False)
        ]
        for line in rewards.paid():
            print(line, file=sys.stderr)
    ours = measured[0]
    figures = [{**m.evaluation.figures, **_best_figures(recipe, m.evaluation, wanted)} for m in measured]
    label = wanted.best_of or (wanted.search.guide if wanted.search else None)
    points = curve(recipe, ours.evaluation, label=label, searched=ours.searched) if label else []
    content = {
        **figures[0],
        **_content(recipe, ours, asked, wanted),
        "seen_in_training": seen[0],
        "curve": [asdict(point) for point in points],
        "against": _against(recipe, measured, figures, seen) if len(measured) > 1 else None,
    }
    text = markdown(content)
    if wanted.out is not None:
        answered = [Answered(m.subject.config.path, m.evaluation, m.searched) for m in measured]
        text += "\n\n" + write_files(wanted.out, content, text, questions=asked.questions, answered=answered)
    return Result(content, text)


def _check(recipe: Recipe, wanted: Wanted) -> None:
    """Raises ConfigError for a label that no reward has, or for nothing to choose from."""
    labels = [reward.label for reward in recipe.rewards]
    for option, label in (("--best-of", wanted.best_of), ("--guide", wanted.search.guide if wanted.search else None)):
        if label is not None and label not in labels:
            raise ConfigError(f"{option} {label!r}: no reward of that name", hint=registry.nearest(label, labels))
    assert recipe.rollout is not None
    if wanted.search is not None and recipe.rollout.environment != SINGLE:
        raise ConfigError(
            f"--search with rollout.environment = {recipe.rollout.environment!r}: a tree grows one turn",
            hint=f"leave it out, or set rollout.environment={SINGLE}",
        )
    if wanted.best_of is not None and not wanted.samples:
        raise ConfigError(
            f"--best-of {wanted.best_of} with --samples {wanted.samples}: there is nothing to choose from",
            hint="add --samples 8, for example",
        )


def _check_rewards(recipe: Recipe, rewards: RewardSet, asked: Asked) -> None:
    """Raises DataError for questions that the rewards cannot judge, as training does.

    Parts that no question has are left out: a file that is asked need not have all of a mixture's.
    """
    there = {question.meta.get("part") for question in asked.questions}
    parts = [tuple(part for part in reward.parts if part in there) for reward in recipe.rewards]
    judging = [
        reward.model_copy(update={"parts": own})
        for reward, own in zip(recipe.rewards, parts, strict=True)
        if own or not reward.parts
    ]
    check_functions(judging, rewards, asked.questions)
    require_answers(judging, rewards, asked.questions)


def _check_two(ours: Subject, theirs: Subject) -> None:
    if ours.config.path == theirs.config.path:
        raise ConfigError(
            f"--against: both are {ours.config.path}", hint="name another run, model folder or built-in model"
        )


def _told_of_training(subjects: Sequence[Subject], asked: Asked) -> list[int | None]:
    """How many questions each model's run has trained on, told on stderr: figures on them are no test."""
    seen = [seen_in_training(subject, asked.questions) for subject in subjects]
    for subject, count in zip(subjects, seen, strict=True):
        if count:
            print(f"{count} of {len(asked.questions)} questions were trained on in {subject.run}", file=sys.stderr)
    return seen


def _guide(recipe: Recipe, search: Settings | None, folder: Path) -> Any:
    """The guide's reward function alone, in a process of its own; its weight is of no account."""
    if search is None:
        return nullcontext()
    return RewardSet(
        [r.model_copy(update={"weight": 1.0, "gate": None}) for r in recipe.rewards if r.label == search.guide],
        folder=folder,
    )


def _tokenizer(recipe: Recipe, subject: Subject, asked: Asked) -> ChatTokenizer:
    assert recipe.rollout is not None
    tokenizer = load_tokenizer(subject.config, seed=recipe.seed, stop=recipe.rollout.stop)
    most, environments = recipe.rollout.max_new_tokens, environments_of(recipe.rollout)
    check_lengths(tokenizer, asked.questions, max_new_tokens=most, environments=environments)
    return tokenizer


def _measured(
    recipe: Recipe,
    subject: Subject,
    asked: Asked,
    tokenizer: ChatTokenizer,
    rewards: RewardSet,
    *,
    guide: RewardSet | None,
    wanted: Wanted,
) -> _Measured:
    assert recipe.rollout is not None
    policy = load_policy(subject.config, tokenizer)
    step = subject.steps or 0
    with open_engine(policy, recipe.rollout, version=step) as engine:
        found = evaluate(
            recipe,
            asked.questions,
            tokenizer=tokenizer,
            engine=engine,
            rewards=rewards,
            samples=wanted.samples,
            step=step,
        )
        searched = {}
        if guide is not None and wanted.search is not None:
            search = registry.load(registry.SEARCHES, wanted.search.method)
            by_simulations = search(
                recipe,
                asked.questions,
                tokenizer=tokenizer,
                engine=engine,
                guide=guide,
                settings=wanted.search,
                trained=step,
            )
            for simulations, answers in by_simulations.items():
                scored = score(
                    rewards, asked.questions, [Played((answer.output,), ("",)) for answer in answers], step=step
                )
                searched[simulations] = [
                    (sample, answer.tokens) for [sample], answer in zip(scored, answers, strict=True)
                ]
    return _Measured(subject, _template(subject, tokenizer), found, searched)


def _best_figures(recipe: Recipe, evaluation: Evaluation, wanted: Wanted) -> dict[str, Any]:
    """best@k, and its values question by question beside those of the other figures."""
    if wanted.best_of is None:
        return {}
    key, choice = f"best@{wanted.samples}", best_of(recipe, wanted.best_of)
    evaluation.values[key] = [choice(group) for group in evaluation.sampled]
    return {key: figure_of(evaluation.values[key])._asdict()}


def _content(recipe: Recipe, measured: _Measured, asked: Asked, wanted: Wanted) -> dict[str, Any]:
    """How the figures were made: everything that it takes to make them again."""
    assert recipe.questions is not None
    assert recipe.rollout is not None
    return {
        "model": measured.subject.config.path,
        "run": str(measured.subject.run) if measured.subject.run else None,
        "steps": measured.subject.steps,
        "questions": {
            "source": asked.source,
            "count": len(asked.questions),
            "heldout": asked.heldout,
            "params": recipe.questions.params,
        },
        "question_template": recipe.questions.template,
        "system": recipe.questions.system,
        "chat_template": measured.template,
        "samples": wanted.samples,
        "sampling": asdict(recipe.rollout.sampling()),
        "seed": recipe.seed,
        "rewards": {reward.label: reward.function for reward in recipe.rewards},
        "correct": recipe.correct_label,
        "best_of": wanted.best_of,
        "search": asdict(wanted.search) if wanted.search else None,
        "versions": {
            "groupwise": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _template(subject: Subject, tokenizer: ChatTokenizer) -> dict[str, str]:
    text = str(tokenizer.tokenizer.chat_template)
    return {
        "from": subject.config.chat_template or tokenizer.source,
        "sha256": sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        "text": text,
    }


def _against(
    recipe: Recipe, measured: Sequence[_Measured], figures: Sequence[dict[str, Any]], seen: Sequence[int | None]
) -> dict[str, Any]:
    ours, theirs = (m.evaluation.values for m in measured)
    other = measured[1]
    return {
        "model": other.subject.config.path,
        "run": str(other.subject.run) if other.subject.run else None,
        "steps": other.subject.steps,
        "chat_template": other.template,
        "seen_in_training": seen[1],
        "figures": figures[1],
        "differences": differences(ours, theirs),
        "changes": changes(ours, theirs),
    }
