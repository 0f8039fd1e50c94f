"""Checks that imports go down only. Reads source text, so an import inside a function counts too; imports nothing."""

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

LAYERS = {
    0: (
        *("errors", "activity", "stop", "names", "data", "config", "recipe_file", "places", "atomic", "registry"),
        *("hub", "metrics", "markdown", "terminal", "statistics", "strict_json", "openmp"),
        *("functions", "parameters", "marked", "sandbox", "pictures", "contents", "fetched"),
    ),
    1: ("objective", "rewards", "datasets", "envs", "agents", "record"),
    2: ("model", "engines", "selection"),
    3: ("rollout", "learn"),
    4: ("run",),
    5: ("stages",),
    6: ("pipeline", "evaluation", "compare", "audit", "train_process", "insight", "dashboard", "api", "cli"),
}
LAYER = {part: layer for layer, parts in LAYERS.items() for part in parts}
TORCH = {"torch", "transformers", "peft", "accelerate", "vllm"}  # what loads torch
# "": groupwise itself
TORCH_FREE = {"", *LAYERS[0], "rewards", "datasets", "envs", "agents", "record", "selection"}
TORCH_FREE |= {"dashboard", "audit", "cli"}
TORCH_ALLOWED = {"groupwise.rewards.model", "groupwise.rewards.judging.local"}
IN_ONE_FILE = ("ray", "vllm", "peft", "PIL", "torch.distributed")


def violations(sources: Mapping[str, str]) -> list[str]:
    """Every broken rule as one line `module: what`. sources: text of each module by its dotted name."""
    imports = {module: _imports(module, text) for module, text in sources.items()}
    found = [f"{module}: {what}" for module in imports for what in _of_module(module, imports[module])]
    for library in IN_ONE_FILE:
        users = sorted(module for module in imports if any(_is_in(name, library) for name in imports[module]))
        if len(users) > 1:
            found.append(f"{', '.join(users)}: {library} is imported in more than one file")
    return found + _cycles(imports)


def _of_module(module: str, imports: set[str]) -> Iterator[str]:
    own = _part(module)
    if own and own not in LAYER:
        yield f"{own} has no layer; give it one in tests/project/layers.py"
        return
    for name in sorted(imports):
        root = name.partition(".")[0]
        if not root:
            yield f"imports {name}; write the whole name, which says the layer"
        elif root == "groupwise":
            yield from _of_ours(module, own, name)
        elif own in TORCH_FREE and root in TORCH and module not in TORCH_ALLOWED:
            yield f"imports {name}; {own or 'groupwise'} is free of torch"
        elif own == "objective" and root != "torch" and root not in sys.stdlib_module_names:
            yield f"imports {name}; objective knows torch and groupwise.errors only"


def _of_ours(module: str, own: str, name: str) -> Iterator[str]:
    other = _part(name)
    if other not in LAYER or not own:  # a dunder of groupwise itself; or groupwise itself, which may name anything
        return
    if module in TORCH_ALLOWED and other in ("model", "objective"):
        return  # a reward that is a model, in a process of its own
    if LAYER[other] > LAYER[own]:
        yield f"imports {name}, which is above it (layer {LAYER[other]} from {LAYER[own]})"
    elif other != own and LAYER[own] == LAYER[other] == 1:
        yield f"imports {name}; packages of layer 1 do not know each other"
    elif own == "stages" and other == own and module.split(".")[2:3] != name.split(".")[2:3]:
        yield f"imports {name}; no stage imports another"
    elif own == "objective" and other not in ("errors", own):
        yield f"imports {name}; objective knows torch and groupwise.errors only"
    elif own == "dashboard" and LAYER[other] > 0 and other not in ("record", own):
        yield f"imports {name}; the dashboard knows layer 0 and record only"


def _cycles(imports: Mapping[str, set[str]]) -> list[str]:
    """Within a layer too, parts import each other one way only."""
    graph: dict[str, set[str]] = {}
    for module, names in imports.items():
        own = _part(module)
        others = {_part(name) for name in names if name.startswith("groupwise.")}
        if own in LAYER:
            graph.setdefault(own, set()).update(others & LAYER.keys() - {own})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [f"{' -> '.join(error.args[1])}: imports go round"]
    return []


def _part(name: str) -> str:
    """`rewards` of groupwise.rewards.answer; empty for groupwise itself and its dunders."""
    second = name.partition(".")[2].partition(".")[0]
    return "" if second.startswith("__") else second


def _is_in(name: str, library: str) -> bool:
    return name == library or name.startswith(library + ".")


def _imports(module: str, text: str) -> set[str]:
    """Dotted names that the module imports, anywhere in it; `from a import b` counts as a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text, filename=module)):
        match node:
            case ast.Import(names=names):
                found.update(alias.name for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                found.update(f"{'.' * level}{source or ''}.{alias.name}" for alias in names)
            case ast.Call(func=ast.Name(id="__import__" | "import_module"), args=[ast.Constant(value=str(name)), *_]):
                found.add(name)
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="torch"), attr="distributed"):  # `import torch` gives it away
                found.add("torch.distributed")
    return found
