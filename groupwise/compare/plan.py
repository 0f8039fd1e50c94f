"""Which runs a comparison is made of: every variant of a recipe under every seed. Knows recipes; starts nothing."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groupwise import registry
from groupwise.config import Recipe, RLRecipe, read_recipe
from groupwise.datasets.base import batch, load_questions
from groupwise.errors import ConfigError
from groupwise.recipe_file import changes
from groupwise.run.resolve import resolve_recipe
from groupwise.terminal import command

FILE = "compare.json"
SHARED = (
    "seed",
    "questions",
    "rewards",
    "evaluate",
    "rollout.questions_per_step",
    "rollout.group_size",
    "update.steps",
)
"""What no variant may change: equal questions, asked as often and judged alike, make variants comparable."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}")


@dataclass(frozen=True)
class Variant:
    """One column of the comparison: its name, which is a folder's too, and what it changes in the recipe."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """One run: a variant under a seed, its whole recipe and its run directory."""

    variant: str
    seed: int
    recipe: RLRecipe
    folder: Path

    @property
    def label(self) -> str:
        return f"{self.variant}/seed-{self.seed}"

    @property
    def recipe_file(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.yaml")


@dataclass(frozen=True)
class Plan:
    """The whole comparison. pairs: seed by seed, so that a comparison cut short has all variants under its first seeds.

    kept: columns of the objective that the recipe sets itself, and that stay whatever the preset. command: goes on
    with it, as a shell reads it.
    """

    source: str
    overrides: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    kept: dict[str, Any]
    folder: Path
    pairs: tuple[Pair, ...]
    command: str

    @property
    def steps(self) -> int:
        return self.pairs[0].recipe.update.steps

    @property
    def outputs_per_step(self) -> int:
        rollout = self.pairs[0].recipe.rollout
        return rollout.questions_per_step * rollout.group_size


def make_plan(
    source: str,
    overrides: Sequence[str],
    *,
    presets: str | None,
    variants: Sequence[str],
    seeds: str | None,
    folder: Path,
) -> Plan:
    """The comparison that a command asks for: each recipe in it is read, and its objective resolved.

    presets, seeds: separated by commas; variants: each `name: a.b=c d.e=f`. Raises ConfigError or DataError.
    """
    chosen = _variants(presets, variants)
    taken = {override.partition("=")[0].strip() for override in overrides}
    for key, option, given in (("seed", "--seeds", seeds), ("objective.preset", "--presets", presets)):
        if key in taken and given is not None:
            raise ConfigError(f"{key} is set beside {option}, which says it for each run", hint="leave one of them out")
    base = _trained(read_recipe(source, overrides))
    numbers = (base.seed,) if seeds is None else _seeds(seeds)
    recipes = [_recipe(source, overrides, variant) for variant in chosen]
    for variant, recipe in zip(chosen, recipes, strict=True):
        _check_shared(variant, recipe, base)
    questions = load_questions(base.questions, numbers[0])  # for its errors, as is the batch
    batch(questions.train, 0, questions_per_step=base.rollout.questions_per_step, seed=numbers[0])
    pairs = tuple(
        Pair(variant.name, seed, recipe.model_copy(update={"seed": seed}), folder / variant.name / f"seed-{seed}")
        for seed in numbers
        for variant, recipe in zip(chosen, recipes, strict=True)
    )
    own = base.objective.model_dump(exclude={"preset"}, exclude_defaults=True)
    kept = {f"objective.{name}": value for name, value in own.items()}
    options = [("--presets", presets), *(("--variant", text) for text in variants), ("--seeds", seeds)]
    named = [word for option, value in options if value is not None for word in (option, value)]
    again = command("compare", source, *overrides, *named, "--run", folder, "--resume")
    return Plan(source, tuple(overrides), chosen, numbers, kept, folder, pairs, again)


def _variants(presets: str | None, variants: Sequence[str]) -> tuple[Variant, ...]:
    chosen = []
    if presets is not None:
        for name in _listed("--presets", presets, example="grpo,rloo"):
            registry.check(registry.PRESETS, name, "--presets")
            chosen.append(Variant(name, (f"objective.preset={name}",)))
    chosen += [_variant(text) for text in variants]
    if not chosen:
        raise ConfigError(
            "compare: nothing to compare", hint="for example --presets grpo,rloo (`groupwise list presets`)"
        )
    folded = [variant.name.casefold() for variant in chosen]  # some file systems know no capital letters
    twice = next((v.name for v in chosen if folded.count(v.name.casefold()) > 1), None)
    if twice:
        raise ConfigError(f"two variants are called {twice!r}", hint="give each its own name: --variant NAME:a.b=c")
    return tuple(chosen)


def _variant(text: str) -> Variant:
    """The variant that `name: a.b=c d.e=f` says; values with spaces are put into quotes, as in a shell."""
    name, _, words = text.partition(":")
    name = name.strip()
    if not _NAME.fullmatch(name) or name.startswith("compare."):
        allowed = "letters, digits and . _ + - alone" if not name.startswith("compare.") else "another one"
        raise ConfigError(
            f"--variant {text!r}: {name!r} cannot be a folder's name here", hint=f"give {allowed}, as in {_EXAMPLE}"
        )
    try:
        overrides = tuple(shlex.split(words))
    except ValueError as error:
        raise ConfigError(f"--variant {text!r}: {error}", hint="close the quotes") from None
    if not overrides:
        raise ConfigError(f"--variant {text!r} changes nothing", hint=f"name what differs, as in {_EXAMPLE}")
    return Variant(name, overrides)


_EXAMPLE = "--variant 'wide: objective.clip_high=0.28'"


def _seeds(text: str) -> tuple[int, ...]:
    words = _listed("--seeds", text, example="0,1,2")
    wrong = next((word for word in words if not (word.isdecimal() and word.isascii() and int(word) < 2**63)), None)
    if wrong is not None:
        raise ConfigError(f"--seeds {text!r}: {wrong!r} is not a whole number from 0", hint="for example --seeds 0,1,2")
    numbers = tuple(map(int, words))
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"--seeds {text!r}: {twice} is there twice, and one run is no two", hint="give each seed once"
        )
    return numbers


def _listed(option: str, text: str, *, example: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if "" in words:
        raise ConfigError(f"{option} {text!r}: a name is missing", hint=f"for example {option} {example}")
    return words


def _recipe(source: str, overrides: Sequence[str], variant: Variant) -> RLRecipe:
    """The variant's recipe, which can be trained as far as its text tells."""
    try:
        recipe = _trained(read_recipe(source, [*overrides, *variant.overrides]))
        resolve_recipe(recipe)
    except ConfigError as error:
        raise ConfigError(f"variant {variant.name}: {error.message}", hint=error.hint) from None
    return recipe


def _trained(recipe: Recipe) -> RLRecipe:
    """Raises ConfigError for a recipe of another stage: at equal samples only those that learn from them compare."""
    if not isinstance(recipe, RLRecipe):
        raise ConfigError(
            f"compare: stage = {recipe.stage!r} learns from no outputs of its own",
            hint="give a recipe of stage rl",
        )
    return recipe


def _check_shared(variant: Variant, recipe: Recipe, base: Recipe) -> None:
    for place, before, now in changes(base.model_dump(mode="json"), recipe.model_dump(mode="json")):
        if any(place == name or place.startswith(f"{name}.") for name in SHARED):
            raise ConfigError(
                f"variant {variant.name}: {place} = {now!r}, the recipe has {before!r}: variants are compared at equal "
                "samples and equal rewards",
                hint="set it for all, after the recipe's name" if place != "seed" else "use --seeds",
            )
