"""What a step is to reach beside its peers, and whether a run of the benchmark reached it."""

from collections.abc import Iterator

STEP = {("fixed", 100): 2.0, ("fixed", 512): 3.5, ("real", 100): 4.0, ("real", 512): 6.0}
"""(case, prompt tokens) -> how many times as fast as TRL a step is to be."""
SAMPLING, FLOOR, PEAK = 1.0, 0.75, 0.45
"""At least: tokens a second beside vLLM's, the fastest products' share of a step. At most: memory beside TRL's."""


def verdicts(measured: dict[tuple, dict], floors: dict[tuple, dict]) -> list[str]:
    """A line for each target that can be told from these medians: what, where, the figure, the target, met or missed.

    measured: (system, case, prompt_tokens, beta, threads) -> figures; floors: the same without the system.
    """
    lines = []
    for key in sorted((key for key in measured if key[0] == "groupwise"), key=str):
        case, prompt_tokens, beta, threads = key[1:]
        where = f"{case}, {prompt_tokens} prompt tokens, beta {beta:g}, {threads} thread{'s' * (threads > 1)}"
        for what, figure, target, at_least in _figures(measured, floors, key):
            met = figure >= target if at_least else figure <= target
            bound = "at least" if at_least else "at most"
            lines.append(f"{'met   ' if met else 'missed'}  {what}: {figure:.2f}, {bound} {target:g} ({where})")
    return lines


def _figures(
    measured: dict[tuple, dict], floors: dict[tuple, dict], key: tuple
) -> Iterator[tuple[str, float, float, bool]]:
    case, prompt_tokens, _, threads = key[1:]
    ours, trl = measured[key], measured.get(("trl", *key[1:]))
    vllm, floor = measured.get(("vllm", case, prompt_tokens, None, threads)), floors.get(key[1:])
    if trl is not None and (case, prompt_tokens) in STEP:
        yield "step's speed beside TRL's", trl["wall_s"] / ours["wall_s"], STEP[case, prompt_tokens], True
    if vllm is not None:
        yield "tokens a second beside vLLM's", ours["tokens_per_s"] / vllm["tokens_per_s"], SAMPLING, True
    if floor is not None and floor.get("floor_fastest_s"):
        yield "the fastest products' share of a step", floor["floor_fastest_s"] / ours["wall_s"], FLOOR, True
    if trl is not None:
        yield "peak memory beside TRL's", ours["peak_rss_bytes"] / trl["peak_rss_bytes"], PEAK, False
