"""What a wrong version of the objective is: one place of one file, changed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    """Below the package."""
    old: str
    """Occurs exactly once in the file."""
    new: str
