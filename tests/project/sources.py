"""The package's own source text, for tests about how it is built."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def package_sources() -> dict[str, str]:
    """Text of every module of the package by its dotted name; a package's own name stands for its __init__."""
    sources = {}
    for file in sorted((ROOT / "groupwise").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[name] = file.read_text(encoding="utf-8")
    return sources
