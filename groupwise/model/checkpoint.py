"""Checkpoints: a Hugging Face folder plus the optimizer and the run's state, written whole or not at all.

A checkpoint is the export: AutoModelForCausalLM and AutoTokenizer load the folder as it is, AutoModelForImageTextToText
and AutoProcessor that of a model that reads pictures. Safetensors and JSON only, never pickle. Knows nothing of steps
beyond a folder's name, nor of what the state means.
"""

import errno
import fcntl
import glob
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model

from groupwise.atomic import sync
from groupwise.errors import CheckpointError
from groupwise.model.lora import FOLDER, is_adapted, merged_weights, write_adapters
from groupwise.model.manifest import DAMAGED, MANIFEST, checked, forget, read_manifest, write_manifest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

NOTHING: Mapping[str, torch.nn.Module] = MappingProxyType({})
_STATE = "state.json"
_OPTIMIZER = "optimizer.safetensors"
_GROUPS = "optimizer.json"
_SETTINGS = "resume with the model and the settings that the run started with"
_BESIDE_WEIGHTS = 64 * 2**20  # bytes for the tokenizer and the configs; the largest tokenizers take about 40 MB


def checkpoint_folder(run_dir: Path, step: int) -> Path:
    """Where the checkpoint of a step is kept."""
    return run_dir / "checkpoints" / f"step-{step:06d}"


def save_checkpoint(
    folder: Path,
    *,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase | ProcessorMixin",
    optimizer: torch.optim.Optimizer | None,
    state: Mapping[str, Any],
    beside: Mapping[str, torch.nn.Module] = NOTHING,
) -> None:
    """Writes a checkpoint beside its place and renames it there once it is on the disk.

    A kill at any moment leaves what was in `folder` before or the new checkpoint, and at most a hidden folder that the
    next look removes. state: JSON values (a tuple comes back as a list). beside: other modules by name (a critic), in
    files of their own. Raises CheckpointError, with the bytes needed and free, if it cannot be written; what was there
    before is then untouched.
    """
    described = json.dumps(dict(state), indent=1)  # first: what is not JSON is found before anything is written
    needed = bytes_needed(model, *beside.values(), with_optimizer=optimizer is not None)
    parent = folder.parent
    partial = parent / f".partial-{folder.name}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _alone(parent, folder.name):
            require_space(parent, needed)
            partial.mkdir()
            _write_model(partial, model)
            if is_adapted(model):
                write_adapters(partial / FOLDER, model)
            tokenizer.save_pretrained(partial)
            for name, module in beside.items():
                save_model(module, str(partial / f"{name}.safetensors"))
            if optimizer is not None:
                _write_optimizer(partial, optimizer, _named(model, beside))
            (partial / _STATE).write_text(described, encoding="utf-8")
            write_manifest(partial)
            _put_in_place(partial, folder)
    except Exception as error:
        # The tokenizers library raises a bare Exception where a disk is full; a subclass is a bug's and goes on.
        if not isinstance(error, OSError | SafetensorError) and type(error) is not Exception:
            raise
        raise CheckpointError(
            f"{folder}: checkpoint not written ({error}): {needed:,} bytes needed, {_free(parent):,} free",
            hint="earlier checkpoints are untouched; free some space or repair the disk, then resume",
        ) from error


def load_state(folder: Path) -> dict[str, Any]:
    """The state that was saved with a checkpoint. Raises CheckpointError if its file is missing or damaged."""
    file = checked(folder, _STATE)
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: not readable ({error})", hint=DAMAGED) from None
    if not isinstance(state, dict) or not isinstance(state.get("step", 0), int):
        raise CheckpointError(f"{file}: not the state of a run", hint=DAMAGED)
    return state


def load_beside(folder: Path, name: str, module: torch.nn.Module) -> None:
    """Puts the weights that were saved beside the model's under this name into a module of the same shape.

    Raises CheckpointError if the file is missing, damaged or another module's.
    """
    file = checked(folder, f"{name}.safetensors")
    try:
        load_model(module, file)
    except RuntimeError as error:
        lines = str(error).strip().splitlines()
        raise CheckpointError(f"{file}: not the weights of this {name} ({lines[-1]})", hint=_SETTINGS) from None


def load_optimizer(
    folder: Path,
    optimizer: torch.optim.Optimizer,
    *,
    model: torch.nn.Module,
    beside: Mapping[str, torch.nn.Module] = NOTHING,
) -> None:
    """Puts the saved moments, step counts and settings into an optimizer of the same parameters, matched by name.

    Raises CheckpointError if a file is missing or damaged, or if a name or a shape is not that of the model.
    """
    named = _named(model, beside)
    groups = json.loads(checked(folder, _GROUPS).read_text(encoding="utf-8"))
    tensors = load_file(checked(folder, _OPTIMIZER))
    names = _names(optimizer, named)
    _require_same(folder, [group["params"] for group in groups], names, "grouped differently")
    shapes = {name: parameter.shape for name, parameter in named.items()}
    index = {name: position for position, name in enumerate(name for group in names for name in group)}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, slot = key.rpartition("/")
        if tensor.ndim:  # the step count has no shape
            _require_same(folder, [[f"{key} {list(tensor.shape)}"]], [[f"{key} {list(shapes[name])}"]], "")
        moments.setdefault(index[name], {})[slot] = tensor
    settings = [
        {key: tuple(value) if isinstance(now.get(key), tuple) else value for key, value in group.items()}
        | {"params": [index[name] for name in group["params"]]}
        for group, now in zip(groups, optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": moments, "param_groups": settings})


def check_checkpoint(folder: Path) -> None:
    """Raises CheckpointError naming the first file that is missing, truncated or not what was saved."""
    for name in read_manifest(folder):
        checked(folder, name)


def latest_checkpoint(run_dir: Path) -> Path | None:
    """The newest checkpoint of a run; None if there is none. Clears away what a killed save has left."""
    parent = run_dir / "checkpoints"
    if not parent.is_dir():
        return None
    with _lock(parent) as held:
        if held:  # else a save is under way, and what lies there is its own
            _tidy(parent, "step-*")
    found = steps_in(parent)
    return found[-1] if found else None


def drop_optimizer(folder: Path) -> None:
    """Leaves of a checkpoint what a model is loaded from: the moments take twice its room, and go.

    A kill at any moment leaves a whole checkpoint, with the moments or without."""
    forget(folder, (_OPTIMIZER, _GROUPS))
    for name in (_OPTIMIZER, _GROUPS):
        (folder / name).unlink(missing_ok=True)


def prune(run_dir: Path, keep: int, *, spare: Path | None = None) -> None:
    """Removes all but the newest `keep` checkpoints of a run; the newest always stays, and so does `spare`."""
    parent = run_dir / "checkpoints"
    if not parent.is_dir():
        return
    with _lock(parent) as held:
        if not held:
            return
        for folder in steps_in(parent)[: -max(keep, 1)]:
            if folder != spare:
                folder.rename(parent / f".partial-{folder.name}")  # a kill from here on leaves no half of a checkpoint
        _tidy(parent, "step-*")


def bytes_needed(*modules: torch.nn.Module, with_optimizer: bool) -> int:
    """Bytes that a checkpoint takes on the disk, rounded up: tied weights once, two moments per trained weight."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    buffers = [buffer for module in modules for buffer in module.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in [*parameters, *buffers])
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    moments = sum(2 * parameter.numel() * parameter.element_size() for parameter in trained)
    return weights + with_optimizer * moments + _BESIDE_WEIGHTS


def require_space(path: Path, needed: int) -> None:
    """Raises CheckpointError with both numbers if the disk of a path, which need not exist, has too few bytes free."""
    free = _free(path)
    if free < needed:
        raise CheckpointError(
            f"{path}: not enough disk for a checkpoint: {needed:,} bytes needed, {free:,} free",
            hint="free some space, keep fewer checkpoints (run.keep_checkpoints) or name another disk (run.root)",
        )


def _free(path: Path) -> int:
    place = path.absolute()
    return shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free


def _write_model(folder: Path, model: "PreTrainedModel") -> None:
    """Weights, adapters merged into them, and configs; the generation config goes down as it is.

    transformers refuses to save one with sampling flags but without do_sample, which many published models have.
    """
    from transformers import GenerationConfig

    merged: dict[str, Any] = {"state_dict": merged_weights(model)} if is_adapted(model) else {}
    generation = getattr(model, "generation_config", None)  # a classifier has none
    if generation is None:
        model.save_pretrained(folder, **merged)
        return
    model.generation_config = GenerationConfig()
    try:
        model.save_pretrained(folder, **merged)
    finally:
        model.generation_config = generation
    generation.to_json_file(folder / "generation_config.json", use_diff=True)


def _write_optimizer(folder: Path, optimizer: torch.optim.Optimizer, named: Mapping[str, torch.nn.Parameter]) -> None:
    tensors: dict[str, torch.Tensor] = {}
    groups: list[dict[str, Any]] = []
    for group, names in zip(optimizer.param_groups, _names(optimizer, named), strict=True):
        groups.append({**group, "params": names})
        for name, parameter in zip(names, group["params"], strict=True):
            for slot, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{name}/{slot}"] = value.detach().contiguous()
    save_file(tensors, folder / _OPTIMIZER)
    (folder / _GROUPS).write_text(json.dumps(groups, indent=1), encoding="utf-8")


def _named(model: torch.nn.Module, beside: Mapping[str, torch.nn.Module]) -> dict[str, torch.nn.Parameter]:
    """The model's parameters by their names, and those of what is beside it behind its name."""
    others = [(f"{name}.{key}", value) for name, module in beside.items() for key, value in module.named_parameters()]
    return dict([*model.named_parameters(), *others])


def _names(optimizer: torch.optim.Optimizer, named: Mapping[str, torch.nn.Parameter]) -> list[list[str]]:
    """Names of the parameters of each group of the optimizer, in its order; a tied weight has its first name."""
    known = {id(parameter): name for name, parameter in named.items()}
    return [[known[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups]


def _require_same(folder: Path, saved: list[list[str]], now: list[list[str]], otherwise: str) -> None:
    if saved != now:
        apart = {name for group in saved for name in group} ^ {name for group in now for name in group}
        raise CheckpointError(
            f"{folder}: its optimizer is not this model's: {', '.join(sorted(apart)[:4]) or otherwise}",
            hint=_SETTINGS,
        )


def steps_in(parent: Path) -> Sequence[Path]:
    """Checkpoints in a folder, oldest first; one without a manifest was not written by us, or not to its end."""
    named = [(re.fullmatch(r"step-(\d+)", folder.name), folder) for folder in parent.iterdir()]
    found = [(int(match[1]), folder) for match, folder in named if match and (folder / MANIFEST).is_file()]
    return [folder for _, folder in sorted(found)]


def _put_in_place(partial: Path, folder: Path) -> None:
    """Renames, once every byte is on the disk. A full folder cannot be renamed over: the old one steps aside first."""
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    if folder.exists():
        folder.rename(folder.parent / f".replaced-{folder.name}")
    partial.rename(folder)
    sync(folder.parent)


def _tidy(parent: Path, names: str) -> None:
    """Removes what a killed or failed save left of these checkpoints, and puts back one it had moved aside."""
    pattern = names if names == "step-*" else glob.escape(names)
    for replaced in parent.glob(f".replaced-{pattern}"):
        folder = parent / replaced.name.removeprefix(".replaced-")
        if folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            replaced.rename(folder)
    for partial in parent.glob(f".partial-{pattern}"):
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _alone(parent: Path, name: str) -> Iterator[None]:
    """The right to write one checkpoint, with nothing left over from it before and after."""
    with _lock(parent) as held:
        if not held:
            raise CheckpointError(f"{parent / name}: another process is saving a checkpoint in {parent}")
        _tidy(parent, name)
        try:
            yield
        finally:
            _tidy(parent, name)


@contextmanager
def _lock(parent: Path) -> Iterator[bool]:
    """Holds a folder's lock, which dies with the process; yields False if another holds it."""
    descriptor = os.open(parent, os.O_RDONLY)
    held = True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Where a file system has no locks at all, that nobody else saves here is the user's word.
        held = error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    try:
        yield held
    finally:
        os.close(descriptor)
