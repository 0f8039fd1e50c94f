"""What must be finite before weights change: the loss, and the gradient of each. Changes nothing."""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite

from torch import Tensor, nn

from groupwise.errors import RunError
from groupwise.model.finite import finite, first_unsound

Named = Callable[[], Iterable[tuple[str, nn.Parameter]]]
"""Gives parameters with their names, as `Module.named_parameters` does."""
_HINT = "resume with a lower update.learning_rate or objective.kl_coef, or look at the metrics of the steps before"


def check_loss(loss: float, *, step: int, of: Mapping[str, Tensor | None]) -> None:
    """Raises RunError with the step and the first part that is not finite, unless the loss is. of: parts by name."""
    if isfinite(loss):
        return
    found = next(
        (f"{name}: {first_unsound(part)}" for name, part in of.items() if part is not None and not finite(part)), ""
    )
    why = f" ({found})" if found else ", too large for a 32-bit float"
    raise RunError(f"step {step}: the loss is {loss}{why}; no weight was changed", hint=_HINT)


def check_gradient(norm: float, named: Named, *, step: int, terms: str = "") -> None:
    """Raises RunError with the step and the parameter whose gradient is not finite, or largest, unless the norm is.

    terms: what the message says of the loss.
    """
    if isfinite(norm):
        return
    found = {name: parameter for name, parameter in named() if parameter.grad is not None}
    gradients = {name: parameter.grad for name, parameter in found.items() if parameter.grad is not None}
    worst = next((name for name, gradient in gradients.items() if not finite(gradient)), None)
    if worst is None:  # the sum of the squares is too large for a 32-bit float
        worst = max(gradients, key=lambda name: float(gradients[name].abs().max()))
        size = f"up to {float(gradients[worst].abs().max()):.3g}"
    else:
        size = first_unsound(gradients[worst])
    broken = "" if finite(found[worst]) else f", a weight that holds {first_unsound(found[worst])}"
    raise RunError(
        f"step {step}: the gradient's norm is {norm} ({size} in that of {worst}{broken}{terms}); no weight was changed",
        hint=_HINT,
    )
