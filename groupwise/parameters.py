"""Parameters of the objective's functions that have a key in a recipe: range and meaning. Loads no torch.

A function reads those that its signature names, keyword-only: `clip(..., *, clip_low, clip_high)`.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import Field


@dataclass(frozen=True)
class Parameter:
    """A number's meaning and its bounds; ge, le: the bound is in; gt, in place of ge: it is out."""

    meaning: str
    ge: float = 0.0
    gt: float | None = None
    le: float = 1e9

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the most that it may be."""
        return self.ge if self.gt is None else self.gt + 1e-6, self.le


PARAMETERS = {
    "clip_low": Parameter(
        "Lower epsilon: the ratio's lower bound is 1 - clip_low; for `geometric_clip`, the bound of its "
        "logarithm. None: the preset's, else the loss's default.",
    ),
    "clip_high": Parameter(
        "Upper epsilon: the ratio's upper bound is 1 + clip_high; for `geometric_clip`, the bound of its "
        "logarithm. None: the preset's, else the loss's default.",
    ),
    "dual_clip": Parameter(
        "c of the loss `dual_clip`: the most that a token with A < 0 adds, in units of |A|. None: 3, the paper's.", gt=1
    ),
    "tau_pos": Parameter("Temperature of the loss `soft_gate` where A > 0. None: 1.0, the paper's.", gt=0),
    "tau_neg": Parameter("Temperature of the loss `soft_gate` where A < 0. None: 1.05, the paper's.", gt=0),
    "correction_low": Parameter("Lower bound of the correction's weight pi / sampler. None: 0."),
    "correction_high": Parameter("Upper bound of the correction's weight. None: 2.", gt=0),
}
"""By name, which is the recipe's key below `objective` too."""


def parameter(name: str) -> Any:
    """The field of a recipe's section for a parameter: unset, or within its bounds."""
    row = PARAMETERS[name]
    return Field(default=None, description=row.meaning, ge=row.ge if row.gt is None else None, gt=row.gt, le=row.le)
