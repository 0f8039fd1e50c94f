"""The table of a benchmark's results, of step.json alone: medians of the repeats, and what they are to each other.

python -m benchmarks.table benchmarks/results/step.json --markdown
"""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.targets import verdicts

NAMED = ("case", "prompt_tokens", "beta", "threads")
NAMED_HEADINGS = ("case", "prompt", "beta", "threads")
GIB = 2**30


def table(results: dict, *, layout: Callable[[Sequence[str], list[list[str]]], str] | None = None) -> str:
    """The machine, the seconds of every system, our ratios to the peers and to the floor, and what failed."""
    layout = layout or plain
    measured = medians([row for row in results["rows"] if not row.get("error")])
    floors = {tuple(floor[name] for name in NAMED): floor for floor in results["floors"] if not floor.get("error")}
    parts = [_machine(results["machine"]), layout(*_seconds(measured)), layout(*_ratios(measured, floors))]
    parts += ["\n".join(["Targets:", *reached])] if (reached := verdicts(measured, floors)) else []
    failed = [row for row in [*results["rows"], *results["floors"]] if row.get("error")]
    parts += [f"failed: {row['system']} {[row[name] for name in NAMED]}: {row['error']}" for row in failed]
    return "\n\n".join(parts)


def medians(rows: list[dict]) -> dict[tuple, dict]:
    """For each system and case the median of each figure: (system, case, prompt_tokens, beta, threads) -> figures."""
    together: dict[tuple, list[dict]] = {}
    for row in rows:
        together.setdefault((row["system"], *(row[name] for name in NAMED)), []).append(row)
    names = ("sample_s", "update_s", "wall_s", "cpu_s", "tokens_per_s", "peak_rss_bytes", "floor_s", "startup_s")
    return {
        key: {name: _median(row[name] for row in same) for name in names} | {"runs": len(same)}
        for key, same in together.items()
    }


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _seconds(measured: dict[tuple, dict]) -> tuple[list[str], list[list[str]]]:
    headings = [*NAMED_HEADINGS, "system", "runs", "sample s", "update s", "step s", "CPU s", "tokens/s", "peak GiB"]
    lines = []
    for key, row in sorted(measured.items(), key=lambda item: _order(item[0])):
        peak = row["peak_rss_bytes"]
        figures = [_text(row[name], 1) for name in ("sample_s", "update_s", "wall_s", "cpu_s", "tokens_per_s")]
        named = [_named(value) for value in key[1:]]
        lines.append([*named, key[0], str(row["runs"]), *figures, _text(peak / GIB, 2), _text(row["startup_s"], 0)])
    return [*headings, "start s"], lines


def _ratios(measured: dict[tuple, dict], floors: dict[tuple, dict]) -> tuple[list[str], list[list[str]]]:
    headings = [*NAMED_HEADINGS, "step: TRL/ours", "peak: ours/TRL", "tokens/s: ours/vLLM", "floor s"]
    headings += ["sample: floor", "update: floor", "step: floor", "step: fastest floor"]
    lines = []
    for key in sorted((key for key in measured if key[0] == "groupwise"), key=_order):
        case, prompt_tokens, _, threads = key[1:]
        ours, trl = measured[key], measured.get(("trl", *key[1:]), {})
        vllm = measured.get(("vllm", case, prompt_tokens, None, threads), {})
        floor = floors.get(key[1:], {})
        lines.append(
            [_named(value) for value in key[1:]]
            + [_text(_share(trl.get("wall_s"), ours["wall_s"]), 2)]
            + [_text(_share(ours["peak_rss_bytes"], trl.get("peak_rss_bytes")), 2)]
            + [_text(_share(ours["tokens_per_s"], vllm.get("tokens_per_s")), 2), _text(floor.get("floor_s"), 1)]
            + [_percent(_share(floor.get("sample_s"), ours["sample_s"]))]
            + [_percent(_share(floor.get("update_s"), ours["update_s"]))]
            + [_percent(_share(floor.get("floor_s"), ours["wall_s"]))]
            + [_percent(_share(floor.get("floor_fastest_s"), ours["wall_s"]))]
        )
    return headings, lines


def _order(key: tuple) -> tuple:
    system, case, prompt_tokens, beta, threads = key
    return threads, case, prompt_tokens, -1.0 if beta is None else beta, system


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part and whole else None


def _named(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _machine(hardware: dict) -> str:
    versions = "; ".join(
        f"{system}: " + ", ".join(f"{name} {version}" for name, version in found.items())
        for system, found in hardware["versions"].items()
    )
    memory = hardware["memory_bytes"] / GIB
    processor = f"{hardware['cpu']} ({hardware['vectors']}), {hardware['cores']} cores, {memory:.0f} GiB"
    return f"{hardware['date']}, {processor}\n{versions}"


def plain(headings: Sequence[str], lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    rows = [headings, *lines]
    return "\n".join("  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)) for row in rows)


def markdown(headings: Sequence[str], lines: list[list[str]]) -> str:
    rule = ["---:"] * len(headings)
    return "\n".join("| " + " | ".join(row) + " |" for row in [headings, rule, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    print(table(json.loads(arguments.results.read_text()), layout=markdown if arguments.markdown else plain))


if __name__ == "__main__":
    main()
