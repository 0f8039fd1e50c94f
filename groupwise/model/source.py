"""What a model's path stands for: a folder or a hub name that transformers loads. Refuses what is no model.

A run's folder is its newest checkpoint, and RUN/best the one that `run.keep_best` kept. An adapter's folder is its base
with the adapter merged into it, a GGUF file its weights as fp32; both are written once to the cache, since every other
part of groupwise reads whole folders.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from groupwise import hub, registry
from groupwise.errors import ModelError
from groupwise.model.builtin import cached

NO_MODEL = (
    "give a folder with config.json and *.safetensors, a run's or an adapter's folder, a .gguf file, a hub name, or "
    "one of `groupwise list models`"
)
ADAPTER = "adapter_config.json"
_BY_KIND = {
    "run": "groupwise.model.saved:sound_checkpoint",
    "best": "groupwise.model.saved:best_checkpoint",
    "adapter": "groupwise.model.lora:write_merged",
    "gguf": "groupwise.model.builtin:write_dequantised",
}
"""What reads each kind; by name, since these read models themselves."""


def source_of(path: str, *, seed: int, where: str, trust: bool | None = None) -> str:
    """The folder or hub name that transformers loads for a path. where: the setting and its value.

    seed: of a model made on the spot. trust: whether code in a model's folder may run; None: such a folder is refused.
    Raises ModelError for what is no model.
    """
    place = Path(path)
    if path in registry.MODELS:
        return str(registry.load(registry.MODELS, path)(seed))
    if place.is_file():
        return _of_file(place, where)
    if place.name == "best" and is_run(place.parent) and not place.exists():
        return _saved(place.parent, "best", where)
    if not place.exists() and (path.count("/") != 1 or path[0] in "./~"):
        raise ModelError(f"{where}: no such folder or built-in model", hint=registry.nearest(path, registry.MODELS))
    if not place.exists():
        hub.go_offline_if_unreachable()
        check_code(path, where=where, trust=trust)
        return path
    if (place / "config.json").is_file():
        _check_weights(place, where)
        check_code(path, where=where, trust=trust)
        return path
    if (place / ADAPTER).is_file():
        return _merged(place, seed=seed, where=where, trust=trust)
    if is_run(place) or place.name == "checkpoints":
        return _saved(place.parent if place.name == "checkpoints" else place, "run", where)
    raise ModelError(f"{where}: no config.json there", hint=NO_MODEL)


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / "recipe.yaml").is_file() or (folder / "checkpoints").is_dir()


def check_code(source: str, *, where: str, trust: bool | None) -> None:
    """Raises ModelError if a model comes with code of its own and it was not said whether to run it."""
    if trust is not None:
        return
    for file in ("config.json", "tokenizer_config.json"):
        found = _read_json(source, file).get("auto_map")
        if found:
            named = next(iter(found.values())) if isinstance(found, dict) else found
            raise ModelError(
                f"{where}: its {file} asks for code of its own (auto_map: {named})",
                hint="trust_remote_code=true (model. or params.) runs it with all your rights; false takes the class "
                "that transformers has",
            )


def _read_json(source: str, file: str) -> dict[str, Any]:
    """A JSON file of a model, on the disk or on the hub; {} if there is none or it is none."""
    from transformers.utils import cached_file

    try:
        place = cached_file(source, file, _raise_exceptions_for_missing_entries=False)
        facts = json.loads(Path(place).read_text(encoding="utf-8")) if place else {}
    except (OSError, ValueError):  # facts by who loads it
        return {}
    return facts if isinstance(facts, dict) else {}


def _check_weights(folder: Path, where: str) -> None:
    if not any(file.suffix in (".safetensors", ".bin", ".pt", ".pth") for file in folder.iterdir()):
        other = next((file.name for file in folder.iterdir() if file.suffix == ".gguf"), None)
        raise ModelError(
            f"{where}: no weights (*.safetensors) beside its config.json",
            hint=f"give the file itself, {folder / other}" if other else "give the folder of a whole model",
        )


def _saved(run: Path, kind: str, where: str) -> str:
    checkpoint = registry.load(_BY_KIND, kind)(run)
    if checkpoint is None and kind == "best":
        raise ModelError(
            f"{where}: the run has kept no best checkpoint", hint=f"set run.keep_best there, or give {run}"
        )
    if checkpoint is None:
        raise ModelError(f"{where}: the run has no checkpoint yet", hint="train it first, or give its model.path")
    return str(checkpoint)


def _of_file(file: Path, where: str) -> str:
    if file.suffix == ".gguf":
        facts = file.stat()
        name = f"gguf-{_digest(str(file.absolute()), facts.st_size, facts.st_mtime_ns)}"
        return str(cached(name, lambda folder: registry.load(_BY_KIND, "gguf")(folder, file, where=where)))
    hint = "a recipe stands before the settings: groupwise train FILE" if file.suffix in (".yaml", ".yml") else NO_MODEL
    raise ModelError(f"{where}: a file of this kind is no model", hint=hint)


def _merged(adapter: Path, *, seed: int, where: str, trust: bool | None) -> str:
    """The folder of an adapter's base with the adapter in it."""
    base = _read_json(str(adapter), ADAPTER).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{where}: its {ADAPTER} names no base model", hint="write base_model_name_or_path into it")
    if Path(base).is_dir() and Path(base).resolve() == adapter.resolve():
        raise ModelError(f"{where}: its {ADAPTER} names itself as its base", hint="write the base model's path into it")
    below = source_of(base, seed=seed, where=f"{where}, base_model_name_or_path = {base!r}", trust=trust)
    files = sorted(file for folder in (adapter, Path(below)) if folder.is_dir() for file in folder.iterdir())
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    name = f"merged-{_digest(str(adapter.absolute()), below, *facts)}"
    write = registry.load(_BY_KIND, "adapter")
    return str(cached(name, lambda folder: write(folder, adapter, base=below, where=where, trust=trust)))


def _digest(*facts: object) -> str:
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()
