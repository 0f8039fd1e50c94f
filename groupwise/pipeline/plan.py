"""Which stages a pipeline is made of: each a whole recipe that begins with what earlier ones leave. Starts nothing."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from groupwise import registry
from groupwise.config import ModelConfig, Recipe, RLRecipe, RunConfig, recipe_from
from groupwise.config.errors import message_of
from groupwise.config.recipe import DEFAULT_STAGE, recipe_of_stage
from groupwise.config.sections import Section
from groupwise.errors import ConfigError
from groupwise.model.checkpoint import checkpoint_folder
from groupwise.recipe_file import list_lines, read_tree
from groupwise.run.resolve import resolve_recipe
from groupwise.stages.rejection import FILE as EXAMPLES_FILE

Tree = dict[str, Any]
Left = Literal["policy", "reward_model", "examples"]
"""What a stage leaves for later ones: a policy's checkpoint, a reward model's, or a file of examples."""
LEAVES: dict[str, Left] = {"rejection": "examples", "reward_model": "reward_model"}
"""By stage; every other one leaves a policy."""
BASE = "base"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_POLICY_PLACES = {("model", "path"), ("teacher", "path"), ("critic", "path")}
_EXAMPLE_PLACES = {("examples", "source"), ("examples", "heldout"), ("rejection", "mix"), ("rejection", "against")}


class PipelineFile(Section):
    """A pipeline: `groupwise pipeline recipe.yaml`."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of every stage, unless a stage sets its own."""
    model: ModelConfig
    """The base model, and how each stage holds its model in memory."""
    run: RunConfig = RunConfig()
    """Of every stage; `root` is where pipelines are kept."""
    define: Any = None
    """A place for YAML anchors; nothing reads it."""
    measure: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By name: questions, rewards, rollout and evaluate by which the base and each stage's policy are measured."""
    stages: tuple[dict[str, Any], ...] = Field(min_length=1)
    """Each a name, `from` (base, @name of an earlier stage; or model.path of its own) and the sections of a recipe."""


@dataclass(frozen=True)
class Stage:
    """One stage: its name, which is a folder's too, the recipe of its run, and the measures that it is put to.

    where: its place in words. reads: names of the stages whose leavings it begins with.
    """

    name: str
    where: str
    origin: str
    reads: frozenset[str]
    recipe: Recipe
    folder: Path
    measures: tuple[str, ...]

    @property
    def label(self) -> str:
        return self.name

    @property
    def recipe_file(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.yaml")

    @property
    def leaves(self) -> Left:
        return left_by(self.recipe.stage)

    @property
    def left(self) -> Path:
        """What later stages begin with."""
        return _left(self.folder, self.recipe)


@dataclass(frozen=True)
class Plan:
    """The whole pipeline. tree: what the file says, overrides applied. measures: by name, the recipe of each."""

    source: str
    tree: Tree
    folder: Path
    base: str
    stages: tuple[Stage, ...]
    measures: dict[str, Recipe]


def left_by(stage: str) -> Left:
    """What a stage of that kind leaves."""
    return LEAVES.get(stage, "policy")


def make_plan(source: str, overrides: Sequence[str], *, folder: Callable[[PipelineFile], Path]) -> Plan:
    """The pipeline that a file says: every stage's recipe is read, and what it begins with is left by an earlier one.

    folder: of the pipeline, from its file. Raises ConfigError with file and line of the stage that is wrong.
    """
    path = Path(source)
    tree = _tree(path, overrides)
    file = _file(tree, source)
    lines = list_lines(path, "stages")
    measures = {name: _measure(file, name, fragment, source) for name, fragment in file.measure.items()}
    place = folder(file).absolute()
    stages: list[Stage] = []
    for number, entry in enumerate(file.stages):
        where = f"{source}:{lines[number]}" if number < len(lines) else f"{source}: stages.{number}"
        stages.append(_stage(file, entry, where, place, before=stages, names=_names(file)))
    return Plan(
        source, {k: v for k, v in tree.items() if k != "define"}, place, file.model.path, tuple(stages), measures
    )


def _tree(path: Path, overrides: Sequence[str]) -> Tree:
    """The file with the overrides applied, in which a stage may be called by its name: `stages.sft.update.steps=9`."""
    listed = read_tree(path).get("stages")
    names = [stage.get("name") for stage in (listed if isinstance(listed, list) else []) if isinstance(stage, dict)]
    words = []
    for override in overrides:
        first, _, rest = override.partition(".")
        name, dot, inner = rest.partition(".")
        if first == "define":
            raise ConfigError(f"override {override!r}: YAML's anchors are long resolved", hint="set it in each stage")
        if first == "stages" and dot and not name.isdecimal():
            if name not in names:
                hint = registry.nearest(name, map(str, names))
                raise ConfigError(f"override {override!r}: no stage {name!r}", hint=hint)
            override = f"stages.{names.index(name)}.{inner}"
        words.append(override)
    return read_tree(path, words)


def _file(tree: Tree, source: str) -> PipelineFile:
    if "stages" not in tree:
        raise ConfigError(
            f"{source}: no stages, so it is no pipeline", hint="use `groupwise train` for a single recipe"
        )
    try:
        return PipelineFile.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {'; '.join(message_of(item, PipelineFile) for item in error.errors())}") from None


def _names(file: PipelineFile) -> list[str]:
    return [str(entry.get("name")) for entry in file.stages]


def _stage(
    file: PipelineFile, entry: Tree, where: str, folder: Path, *, before: Sequence[Stage], names: Sequence[str]
) -> Stage:
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: name = {name!r}: a stage needs one", hint="use only letters, digits, _ and -")
    if name == BASE or any(stage.name.casefold() == name.casefold() for stage in before):
        taken = "the base model's" if name == BASE else "an earlier stage's"
        raise ConfigError(f"{where}: name = {name!r} is {taken}", hint="give each stage its own")
    where = f"{where}: stage {name!r}"
    own = {key: value for key, value in entry.items() if key not in ("name", "from", "measure")}
    origin = _origin(entry, where)
    kind = str(own.get("stage", DEFAULT_STAGE))
    tree = {"seed": file.seed, **own, "run": {**_run(file, kind), **_mapping(own, "run", where)}}
    tree["model"] = {**file.model.model_dump(), **_mapping(own, "model", where)}
    if origin is not None:
        tree["model"]["path"] = file.model.path if origin == BASE else origin
    left = {stage.name: stage for stage in before}
    resolved, reads = _resolved(tree, left, where, names=names)
    recipe = recipe_from(resolved, where=where)
    if isinstance(recipe, RLRecipe):
        try:
            resolve_recipe(recipe)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None
    measures = _measures(file, entry, kind, where)
    return Stage(name, where, origin or recipe.model.path, frozenset(reads), recipe, folder / name, measures)


def _run(file: PipelineFile, kind: str) -> Tree:
    """What the file sets of `run`, as far as a stage of that kind reads it."""
    read: Any = recipe_of_stage(kind).model_fields["run"].annotation
    return file.run.model_dump(exclude_unset=True, include=set(read.model_fields))


def _origin(entry: Tree, where: str) -> str | None:
    """`from` of a stage; None: the stage names a model of its own."""
    own_model = "path" in _mapping(entry, "model", where)
    if "from" not in entry:
        if own_model:
            return None
        raise ConfigError(f"{where}: from is missing", hint="from: base, or from: '@name' of an earlier stage")
    origin = entry["from"]
    if own_model:
        raise ConfigError(f"{where}: both from and model.path say what it begins with", hint="leave one of them out")
    if origin != BASE and not (isinstance(origin, str) and origin.startswith("@")):
        raise ConfigError(f"{where}: from = {origin!r}", hint="give base, or '@name' of an earlier stage")
    return str(origin)


def _mapping(tree: Tree, key: str, where: str) -> Tree:
    found = tree.get(key) or {}
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: {key} = {found!r}: give a section, with keys of its own")
    return found


def _measures(file: PipelineFile, entry: Tree, kind: str, where: str) -> tuple[str, ...]:
    if left_by(kind) != "policy":
        return ()
    wanted = entry.get("measure", list(file.measure))
    if not isinstance(wanted, list):
        raise ConfigError(f"{where}: measure = {wanted!r}", hint="give a list of names, [] for none")
    for name in wanted:
        if name not in file.measure:
            raise ConfigError(
                f"{where}: measure = {name!r}: no such name", hint=registry.nearest(str(name), file.measure)
            )
    return tuple(wanted)


def _resolved(tree: Tree, left: Mapping[str, Stage], where: str, *, names: Sequence[str]) -> tuple[Tree, set[str]]:
    """The tree with each `@name` replaced by what that stage leaves, and the names.

    Raises ConfigError if the name is no earlier stage's, or what is left is not of the kind that its place reads."""
    reads: set[str] = set()

    def resolved(node: Any, place: tuple[str, ...]) -> Any:
        if isinstance(node, dict):
            return {key: resolved(value, (*place, str(key))) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [resolved(value, place) for value in node]
        name = named_stage(node)
        if name is None:
            return node
        stage = left.get(name)
        if stage is None:
            raise _unknown(name, where, names, list(left))
        _check_fits(stage, place, where, left, kind=str(tree.get("stage")))
        reads.add(name)
        return str(stage.left)

    return resolved(tree, ()), reads


def named_stage(node: Any) -> str | None:
    """The stage that a value stands for: `@name`."""
    is_name = isinstance(node, str) and node.startswith("@") and _NAME.fullmatch(node[1:])
    return node[1:] if is_name else None


def _check_fits(stage: Stage, place: tuple[str, ...], where: str, left: Mapping[str, Stage], *, kind: str) -> None:
    wanted, label = _wanted(place), "from" if place == ("model", "path") else ".".join(place)
    if wanted is not None and stage.leaves != wanted:
        raise ConfigError(
            f"{where}: {label} = '@{stage.name}': stage {stage.name!r} leaves {_ARTICLES[stage.leaves]}, wanted is "
            f"{_ARTICLES[wanted]}",
            hint=f"name a stage that leaves one: {', '.join(_of(wanted, left)) or 'there is none before it'}",
        )
    if place[0] == "examples" and kind != "sft":
        raise ConfigError(
            f"{where}: {label} = '@{stage.name}': what is kept there is for stage sft, not {kind}",
            hint="give a file of what this stage learns from",
        )


_ARTICLES: dict[Left, str] = {"policy": "a policy", "reward_model": "a reward model", "examples": "a file of examples"}


def _wanted(place: tuple[str, ...]) -> Left | None:
    if place[:2] in _POLICY_PLACES:
        return "policy"
    if place == ("rewards", "params", "path"):
        return "reward_model"
    return "examples" if place[:2] in _EXAMPLE_PLACES else None


def _of(wanted: Left, left: Mapping[str, Stage]) -> Iterator[str]:
    return (f"@{name}" for name, stage in left.items() if stage.leaves == wanted)


def _unknown(name: str, where: str, names: Sequence[str], earlier: Sequence[str]) -> ConfigError:
    if name in names:
        return ConfigError(f"{where}: @{name} comes later, or is itself", hint="name an earlier stage")
    hint = registry.nearest(name, earlier) if earlier else "there is no stage before it"
    return ConfigError(f"{where}: @{name}: no stage of that name", hint=hint)


def _left(folder: Path, recipe: Recipe) -> Path:
    if left_by(recipe.stage) == "examples":
        return folder / EXAMPLES_FILE
    return checkpoint_folder(folder, recipe.update.steps)


def _measure(file: PipelineFile, name: str, fragment: Tree, source: str) -> Recipe:
    where = f"{source}: measure.{name}"
    allowed = ("questions", "rewards", "rollout", "evaluate")
    if not _NAME.fullmatch(name) or name == BASE:
        raise ConfigError(f"{where}: {name!r} cannot be a folder's name here", hint="use only letters, digits, _ and -")
    wrong = next((key for key in fragment if key not in allowed), None)
    if wrong is not None:
        raise ConfigError(f"{where}.{wrong}: unknown key", hint=registry.nearest(wrong, allowed))
    if (stage := next((found for found in _values(fragment) if named_stage(found) is not None), None)) is not None:
        hint = "give the path of a model that is there, since the base is measured before any stage"
        raise ConfigError(f"{where}: {stage!r}: a measure names no stage", hint=hint)
    tree = {"seed": file.seed, "model": file.model.model_dump(), "update": {"steps": 1}, **fragment}
    return recipe_from(tree, where=where)


def _values(node: Any) -> Iterator[Any]:
    """Every plain value in a tree."""
    if isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from _values(inner)
    else:
        yield node
