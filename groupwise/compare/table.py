"""What a comparison came to, as plain values for a program and as Markdown for a person. Runs and reads nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from groupwise.compare.figures import Difference, RunFigures, VariantFigures, difference, variant_figures
from groupwise.compare.plan import Plan
from groupwise.markdown import table
from groupwise.statistics.seeds import Mean

Runs = Mapping[tuple[str, int], RunFigures]
"""The finished runs by variant and seed."""
Failures = Mapping[tuple[str, int], str]
"""Why the failed ones failed."""
FEW_SEEDS = 5


def content(plan: Plan, runs: Runs, failures: Failures) -> dict[str, Any]:
    """Everything that compare.json holds."""
    by_variant = _by_variant(plan, runs)
    first, *others = by_variant
    return {
        "recipe": plan.source,
        "overrides": list(plan.overrides),
        "kept": plan.kept,
        "seeds": list(plan.seeds),
        "steps": plan.steps,
        "outputs_per_step": plan.outputs_per_step,
        "intervals": "95 %, Student's t over seeds",
        "variants": [
            {**asdict(variant_figures(variant.name, by_variant[variant.name])), "overrides": list(variant.overrides)}
            for variant in plan.variants
        ],
        "differences": [
            asdict(difference(name, by_variant[name], to=first, others=by_variant[first])) for name in others
        ],
        "runs": [
            {
                "variant": pair.variant,
                "seed": pair.seed,
                "folder": str(pair.folder),
                "state": _state(runs, failures, (pair.variant, pair.seed)),
                "reason": failures.get((pair.variant, pair.seed)),
                "figures": asdict(runs[key]) if (key := (pair.variant, pair.seed)) in runs else None,
            }
            for pair in plan.pairs
        ],
    }


def markdown(plan: Plan, runs: Runs, failures: Failures) -> str:
    """The tables and what is to be known about them."""
    by_variant = _by_variant(plan, runs)
    variants = [variant_figures(name, found) for name, found in by_variant.items()]
    first, *others = by_variant
    differences = [difference(name, by_variant[name], to=first, others=by_variant[first]) for name in others]
    parts = [_head(plan), _learned(variants, plan), _cost(variants)]
    if differences:
        parts.append(_differences(differences))
    return "\n\n".join([*parts, _each(plan, runs, failures), _notes(plan, runs)])


def _by_variant(plan: Plan, runs: Runs) -> dict[str, dict[int, RunFigures]]:
    return {
        variant.name: {seed: runs[variant.name, seed] for seed in plan.seeds if (variant.name, seed) in runs}
        for variant in plan.variants
    }


def _state(runs: Runs, failures: Failures, key: tuple[str, int]) -> str:
    return "finished" if key in runs else "failed" if key in failures else "to do"


def _head(plan: Plan) -> str:
    seeds = ", ".join(map(str, plan.seeds))
    lines = [
        f"{Path(plan.source).name}, every run {plan.steps} steps of {plan.outputs_per_step} outputs = "
        f"{plan.steps * plan.outputs_per_step:,} outputs; {_counted(len(plan.seeds), 'seed')}: {seeds}."
    ]
    if plan.overrides:
        lines.append(f"Set for all: {_code(plan.overrides)}.")
    if plan.kept:
        lines.append(f"Set by the recipe, whatever the preset: {_code(f'{k}={v}' for k, v in plan.kept.items())}.")
    lines += [
        f"{variant.name}: {_code(variant.overrides)}."
        for variant in plan.variants
        if variant.overrides != (f"objective.preset={variant.name}",)
    ]
    return "\n".join(lines)


def _learned(variants: Sequence[VariantFigures], plan: Plan) -> str:
    rows = [
        [
            variant.name,
            f"{len(variant.seeds)} of {len(plan.seeds)}",
            _plain(variant.accuracy_before.value, "{:.1%}"),
            _share(variant.accuracy_after),
            _number(variant.reward_end),
        ]
        for variant in variants
    ]
    return table(["variant", "seeds", "right before", "right after (95 %)", "reward at the end (95 %)"], rows)


def _cost(variants: Sequence[VariantFigures]) -> str:
    rows = [
        [
            variant.name,
            _plain(variant.tokens.value, "{:,.0f}"),
            _plain(variant.length_end.value, "{:.1f}"),
            _plain(variant.seconds_per_step.value, "{:.2f}"),
            _gib(variant.peak_memory),
        ]
        for variant in variants
    ]
    heads = ["variant", "tokens sampled a run", "mean length at the end, tokens", "seconds a step", "peak memory, GiB"]
    return table(heads, rows)


def _differences(differences: Sequence[Difference]) -> str:
    rows = [
        [
            f"{found.variant} - {found.to}",
            str(len(found.seeds)),
            _points(found.accuracy_after),
            _verdict(found.accuracy_excludes_zero),
            _number(found.reward_end, sign="+"),
            _verdict(found.reward_excludes_zero),
        ]
        for found in differences
    ]
    heads = [
        "difference, same seeds",
        "seeds",
        "right after, points (95 %)",
        "excludes 0",
        "reward (95 %)",
        "excludes 0",
    ]
    return table(heads, rows)


def _each(plan: Plan, runs: Runs, failures: Failures) -> str:
    rows = []
    for pair in plan.pairs:
        key = pair.variant, pair.seed
        found = runs.get(key)
        if found is None:
            rows.append([pair.label, _state(runs, failures, key), *["-"] * 6])
            continue
        rows.append(
            [
                pair.label,
                _plain(found.accuracy_before, "{:.1%}"),
                _plain(found.accuracy_after, "{:.1%}"),
                _plain(found.reward_end, "{:.3f}"),
                f"{found.outputs:,}",
                f"{found.tokens:,}",
                f"{found.seconds_per_step:.2f}",
                _gib(found.peak_memory),
            ]
        )
    heads = ["run", "before", "after", "reward", "outputs", "tokens", "s a step", "GiB"]
    shown = table(heads, rows)
    failed = [f"- {variant}/seed-{seed} failed: {reason}" for (variant, seed), reason in failures.items()]
    return "\n".join([shown, *(["", *failed] if failed else [])])


def _notes(plan: Plan, runs: Runs) -> str:
    end = -(-plan.steps // 10)
    lines = [
        "right: held-out questions answered right, greedy. "
        f"At the end: mean of the last {_counted(end, 'step')} of {plan.steps}."
    ]
    sampled = {run.outputs for run in runs.values()}
    if len(sampled) > 1:
        lines.append(
            f"Not equal samples: runs sampled {min(sampled):,} to {max(sampled):,} outputs, since groups without "
            "signal were sampled again; compare them in the picture, whose axis is outputs sampled."
        )
    if len(plan.seeds) == 1:
        lines.append("1 seed: no interval; another seed may well turn the order round.")
        return "\n".join(lines)
    few = "; with so few they are wide, and one that includes 0 does not say that two variants are equal"
    lines.append(
        f"Intervals are over the {len(plan.seeds)} seeds, by Student's t{few if len(plan.seeds) < FEW_SEEDS else ''}."
    )
    if len(plan.variants) > 2:
        lines.append(f"Of {len(plan.variants) - 1} differences, each has one chance in twenty to exclude 0 by luck.")
    return "\n".join(lines)


def _share(mean: Mean) -> str:
    return _with_ends(mean, "{:.1%}", 1.0)


def _points(mean: Mean) -> str:
    return _with_ends(mean, "{:+.1f}", 100.0)


def _number(mean: Mean, sign: str = "") -> str:
    return _with_ends(mean, f"{{:{sign}.3f}}", 1.0)


def _with_ends(mean: Mean, form: str, factor: float) -> str:
    if mean.value is None:
        return "-"
    value = form.format(mean.value * factor)
    if mean.low is None or mean.high is None:
        return f"{value} (1 seed)" if mean.n == 1 else value
    if mean.low == mean.high:
        return f"{value} (no spread)"
    return f"{value} ({form.format(mean.low * factor)} to {form.format(mean.high * factor)})"


def _plain(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _gib(size: float | None) -> str:
    return _plain(None if size is None else size / 2**30, "{:.2f}")


def _verdict(excludes: bool | None) -> str:
    return "-" if excludes is None else "yes" if excludes else "no"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
