"""What every function of an objective must do, tried on a small batch: those of the tables, and a user's own.

A contract of a kind (loss, advantage, aggregate, kl_estimator, correction) is a row of `CONTRACTS`: what it claims, and
a function of a `Case` that says what is wrong, with the numbers, or "". Training counts on each of them.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from groupwise.errors import DataError
from groupwise.objective.small_batch import SPOILS, advantage_inputs, batch, spoiled
from groupwise.objective.surrogate import INPUTS, called

TOLERANCE = 1e-9
"""Absolute and relative, of float64 sums taken in another order."""


@dataclass(frozen=True)
class Case:
    """A function of one kind with the values of its own parameters. edges: other values that are in range."""

    kind: str
    function: Callable[..., Tensor]
    settings: Mapping[str, Any]
    edges: Sequence[Mapping[str, Any]] = ()

    def __call__(self, inputs: Mapping[str, Any], **settings: Any) -> Tensor:
        """The function's tensor. TypeError if it gives anything else."""
        found = called(self.function, {**self.settings, **settings, **{k: inputs[k] for k in INPUTS[self.kind]}})
        if not isinstance(found, Tensor):
            raise TypeError(f"it gives {type(found).__name__}, not a tensor")
        return found

    def slopes(self, inputs: Mapping[str, Any], by: str, **settings: Any) -> tuple[Tensor, Tensor]:
        """The values, and the derivative of their sum by one of the inputs."""
        at = inputs[by].clone().requires_grad_()
        values = self({**inputs, by: at}, **settings)
        return values.detach(), torch.autograd.grad(values.sum(), at)[0]

    @property
    def by(self) -> str:
        """The input that the policy's weights reach."""
        return {"aggregate": "per_token", "correction": "log_weight"}.get(self.kind, "logprobs")

    def marked(self, mark: str) -> bool:
        return bool(getattr(self.function, mark, False))


def checked(case: Case) -> Iterator[tuple[str, str]]:
    """Each contract of the function's kind, with what breaks it, or "". Only the first if it cannot be called."""
    fault = signature_fault(case.function)
    yield "names its inputs and parameters", fault
    if fault:
        return
    for claim, contract in CONTRACTS[case.kind].items():
        try:
            yield claim, contract(case)
        except Exception as error:  # whatever a user's function raises
            yield claim, f"{type(error).__name__}: {' '.join(str(error).split())}"


def broken(case: Case) -> Iterator[tuple[str, str]]:
    """The contracts that a function breaks, each with what is wrong."""
    return ((claim, what) for claim, what in checked(case) if what)


def signature_fault(function: Callable[..., Any]) -> str:
    """Why a function cannot be given its inputs by name; "" if it can."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return "it does not tell its parameters"
    nameless = [str(p) for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY)]
    return f"it is given what it names, and {', '.join(nameless)} names nothing" if nameless else ""


def _shaped(case: Case) -> str:
    inputs = batch()
    values, shape = case(inputs), () if case.kind == "aggregate" else tuple(inputs["mask"].shape)
    if tuple(values.shape) != shape:
        return f"the shape is {list(values.shape)}, not {list(shape)}"
    given = inputs["rewards" if case.kind == "advantage" else case.by].dtype
    narrow = case({k: v.float() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in inputs.items()})
    if (values.dtype, narrow.dtype) != (given, torch.float32):
        return f"of float64 and float32 it makes {values.dtype} and {narrow.dtype}"
    return "" if bool(values.isfinite().all()) else _first(~values.isfinite(), values, "a finite number")


def _repeated(case: Case) -> str:
    inputs = batch()
    before = {name: part.clone() for name, part in inputs.items() if isinstance(part, Tensor)}
    first, second = case(inputs), case(inputs)
    changed = [name for name, part in before.items() if not torch.equal(part.nan_to_num(7), inputs[name].nan_to_num(7))]
    if changed:
        return f"it changes {changed[0]}, which others read after it"
    return "" if torch.equal(first, second) else _first(first != second, second, f"{_at(first, first != second)} again")


def _blind_outside(case: Case) -> str:
    """Values inside the mask do not depend on what is outside; outside they are 0."""
    inputs = batch()
    expected = case(inputs)
    outside = ~inputs["mask"]
    if case.kind != "aggregate" and bool(expected[outside].any()):
        return f"outside the mask: {_first(outside & (expected != 0), expected, '0')}"
    for value in SPOILS:
        try:
            found = case(spoiled(inputs, value))
        except DataError:  # an advantage may refuse what no reward can be
            continue
        if not torch.equal(found, expected):
            return (
                f"with {value} outside the mask: {_first(found != expected, found, _at(expected, found != expected))}"
            )
    return ""


def _no_slope_outside(case: Case) -> str:
    inputs = batch()
    for value in SPOILS:
        _, slope = case.slopes(spoiled(inputs, value), case.by)
        wrong = ~inputs["mask"] & (slope != 0) | ~slope.isfinite()
        if bool(wrong.any()):
            return f"with {value} outside the mask the gradient: {_first(wrong, slope, '0')}"
    return ""


def _nothing_without_advantage(case: Case) -> str:
    inputs = batch()
    inputs["advantages"] = torch.zeros_like(inputs["advantages"])
    for what, found in zip(("value", "gradient"), case.slopes(inputs, case.by), strict=True):
        if bool(found.any()):
            return f"with every advantage 0 the {what}: {_first(found != 0, found, '0')}"
    return ""


def _order_of_outputs(case: Case) -> str:
    inputs, order = batch(), torch.tensor([4, 1, 5, 0, 3, 2])
    rows = len(order)
    shuffled = {k: v[order] if isinstance(v, Tensor) and v.shape[:1] == (rows,) else v for k, v in inputs.items()}
    if "group" in shuffled:
        shuffled["group"] = 9 - 4 * shuffled["group"]
    expected = case(inputs)
    return _apart(case(shuffled), expected if case.kind == "aggregate" else expected[order], "in another order")


def _cuts(case: Case) -> str:
    """The parts of a batch give what the whole does; so does a batch with more padding."""
    inputs = batch()
    whole, parts = case(inputs), [case(_rows(inputs, rows)) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))]
    if case.kind == "aggregate":
        return _apart(torch.stack(parts).sum(), whole, "cut into micro-batches and added up")
    padded = {k: torch.nn.functional.pad(v, (0, 2)) if _is_per_token(v) else v for k, v in inputs.items()}
    return _apart(torch.cat(parts), whole, "cut into micro-batches") or _apart(
        case(padded)[:, : whole.shape[1]], whole, "with two more columns of padding"
    )


def _alone(case: Case) -> str:
    """One token's log-probability moves no other output; and no other token of its own, unless that is marked.

    By differences, not by a second derivative: what is held constant in the gradient is a dependence too.
    """
    inputs = batch()

    def found(given: Mapping[str, Any]) -> tuple[Tensor, ...]:
        if case.kind == "correction":
            return (case(given, **_unbounded(case)),)
        return case.slopes(given, case.by, **_within(case))

    before = found(inputs)
    for output, token in inputs["mask"].nonzero().tolist():
        moved = inputs[case.by].clone()
        moved[output, token] += 0.01
        for value, expected in zip(found({**inputs, case.by: moved}), before, strict=True):
            for other, place in (value != expected).nonzero().tolist():
                if other != output:
                    return f"token {token} of output {output} moves token {place} of output {other}"
                if place != token and not case.marked("over_whole_output"):
                    return (
                        f"token {token} of output {output} moves its token {place} by "
                        f"{float(value[other, place] - expected[other, place]):.3g}; mark it with "
                        "groupwise.objective.losses.over_whole_output"
                    )
    return ""


def _own_advantage(case: Case) -> str:
    inputs = batch()
    other = inputs["advantages"].clone()
    other[0, 4] *= 2

    def slope(advantages: Tensor) -> Tensor:
        return case.slopes({**inputs, "advantages": advantages}, case.by, **_within(case))[1][0, 0]

    before, after = (slope(given) for given in (inputs["advantages"], other))
    if before == after or case.marked("one_advantage"):
        return ""
    return (
        f"the gradient at an output's first token is {float(before):.6g}, and {float(after):.6g} with its last token's "
        "advantage doubled; mark it with groupwise.objective.losses.one_advantage"
    )


def _edges(case: Case) -> str:
    for settings in case.edges:
        for what, found in zip(("value", "gradient"), case.slopes(batch(), case.by, **settings), strict=True):
            if not bool(found.isfinite().all()):
                text = ", ".join(f"{name} = {value:g}" for name, value in settings.items())
                return f"with {text} the {what}: {_first(~found.isfinite(), found, 'a finite number')}"
    return ""


def _linear(case: Case) -> str:
    inputs, other = batch(), batch()["ref_logprobs"]
    x, y = case(inputs), case({**inputs, "per_token": other})
    both = case({**inputs, "per_token": 3 * inputs["per_token"] - 2 * other})
    return _apart(both, 3 * x - 2 * y, "3 x - 2 y in place of x and y")


def _zero_at_equality(case: Case) -> str:
    inputs = batch()
    found = case({**inputs, "ref_logprobs": inputs["logprobs"]})
    return _first(found != 0, found, "0") if bool(found.any()) else ""


def _one_on_policy(case: Case) -> str:
    inputs = batch()
    inputs["log_weight"], expected = torch.zeros_like(inputs["log_weight"]), inputs["mask"].double()
    found = case(inputs)
    return "" if torch.equal(found, expected) else _first(found != expected, found, _at(expected, found != expected))


def _constant(case: Case) -> str:
    inputs = batch()
    found = case({**inputs, "log_weight": inputs["log_weight"].requires_grad_()})
    if bool((found < 0).any()):
        return _first(found < 0, found, "0 or more")
    return "it has a gradient; give it log_weight.detach()" if found.requires_grad else ""


def _equal_rewards(case: Case) -> str:
    inputs = batch()
    found = case({**inputs, **advantage_inputs(torch.full((6,), 0.1, dtype=torch.float64), inputs)})
    return "" if bool(found.isfinite().all()) else _first(~found.isfinite(), found, "a finite number")


def _missing_reward(case: Case) -> str:
    inputs = batch()
    rewards, mask = inputs["rewards"].clone(), inputs["mask"].clone()
    rewards[1], mask[1] = math.nan, False
    found = case({**inputs, **advantage_inputs(rewards, {**inputs, "mask": mask}), "mask": mask})
    if not bool(found.isfinite().all()):
        return f"output 1 has no reward: {_first(~found.isfinite(), found, 'a finite number')}"
    return f"output 1 has no reward, and {_first(found[1:2] != 0, found[1:2], '0')}" if bool(found[1].any()) else ""


_SAME = {"gives the same again and changes nothing": _repeated}
_ROWS = {"does not depend on the order of outputs": _order_of_outputs, "does not depend on cuts": _cuts}
_SHAPE = {"gives finite numbers, [B, T], as precise as its inputs": _shaped}
_ALONE = {"moves each token by itself, or is marked over_whole_output": _alone}
_MASK = {"is 0 outside the mask and reads nothing there, nan included": _blind_outside}
CONTRACTS: dict[str, dict[str, Callable[[Case], str]]] = {
    "loss": {
        **_SHAPE,
        **_SAME,
        **_MASK,
        "has no gradient outside the mask": _no_slope_outside,
        "adds nothing where the advantage is 0": _nothing_without_advantage,
        **_ROWS,
        **_ALONE,
        "reads each token's own advantage, or is marked one_advantage": _own_advantage,
        "is finite at the ends of its parameters' ranges": _edges,
    },
    "advantage": {
        **_SHAPE,
        **_SAME,
        **_MASK,
        "knows no order of outputs and no names of groups": _order_of_outputs,
        "is finite where all rewards are equal": _equal_rewards,
        "is 0 for an output without a reward, and finite for the others": _missing_reward,
    },
    "aggregate": {
        "gives one finite number, as precise as its inputs": _shaped,
        **_SAME,
        "reads nothing outside the mask, nan included": _blind_outside,
        "has no gradient outside the mask": _no_slope_outside,
        "does not depend on the order of outputs": _order_of_outputs,
        "is the sum over any cut of the batch": _cuts,
        "is linear": _linear,
    },
    "kl_estimator": {
        **_SHAPE,
        **_SAME,
        **_ROWS,
        "moves each token by itself": _alone,
        "is 0 where policy and reference agree": _zero_at_equality,
    },
    "correction": {
        **_SHAPE,
        **_SAME,
        **_MASK,
        **_ROWS,
        **_ALONE,
        "is 1 at each token of the policy's own outputs": _one_on_policy,
        "is never negative and held constant in the gradient": _constant,
    },
}
"""By kind: each claim and what tries it."""


def _unbounded(case: Case) -> dict[str, float]:
    free = {"correction_low": 0.0, "correction_high": math.inf}
    return {name: value for name, value in free.items() if name in case.settings}


def _within(case: Case) -> dict[str, float]:
    """Bounds that some of the batch's ratios lie within, where a function has the keys."""
    return {name: 0.4 for name in ("clip_low", "clip_high") if name in case.settings}


def _rows(inputs: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    return {k: v[rows] if isinstance(v, Tensor) and v.dim() and len(v) == 6 else v for k, v in inputs.items()}


def _is_per_token(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 2 and value.shape[1] == 5


def _apart(found: Tensor, expected: Tensor, how: str) -> str:
    """How two tensors differ by more than rounding; "" if they do not."""
    wrong = ~torch.isclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
    return f"{how}: {_first(wrong, found, _at(expected, wrong))}" if bool(wrong.any()) else ""


def _first(wrong: Tensor, values: Tensor, expected: str) -> str:
    """The first entry that is wrong: where it is, its value and the one it should have."""
    place = wrong.nonzero()[0].tolist()
    where = f"output {place[0]}, token {place[1]}" if len(place) == 2 else "the number"
    return f"{where} is {_at(values, wrong)}, not {expected}"


def _at(values: Tensor, wrong: Tensor) -> str:
    return f"{float(values.detach()[tuple(wrong.nonzero()[0].tolist())]):.6g}"
