"""The figures of an evaluation as Markdown, from the plain values that eval.json holds. Measures nothing."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from groupwise.markdown import table
from groupwise.statistics.intervals import figure_in, shown

Content = Mapping[str, Any]
Cell = Callable[[Mapping[str, Any]], str]
"""A figure {value, low, high} as a table shows it."""


def markdown(content: Content) -> str:
    """The table of figures, beside another model's if there is one; accuracy against tokens; how it was made."""
    parts = [_head(content), _figures(content)]
    if content["against"]:
        parts.append(_changes(content["against"]["changes"]))
    if content["curve"]:
        parts.append(_curve(content))
    return "\n\n".join([*parts, _origin(content)])


def _head(content: Content) -> str:
    asked, other = content["questions"], content["against"]
    questions = "held-out questions" if asked["heldout"] else f"questions of {asked['source']}"
    count = content["n"] + content["unjudged"]
    if not other:
        return f"{_name(content)}, {count} {questions} (95 % intervals)"
    return f"A: {_name(content)}\nB: {_name(other)}\n\n{count} {questions} (95 % intervals)"


def _name(content: Content) -> str:
    return f"{content['model']}, after {content['steps']} steps" if content["run"] else str(content["model"])


def _figures(content: Content) -> str:
    other = content["against"]
    if not other:
        return table(["figure", "value"], [[name, cell(figure_in(content, key))] for name, key, cell in _rows(content)])
    rows = []
    for name, key, cell in _rows(content):
        difference = other["differences"].get(key)
        points = _number if cell is _number else _points
        apart = points(difference) if difference else "-"
        rows.append([name, cell(figure_in(content, key)), cell(figure_in(other["figures"], key)), apart])
    return table(["figure", "A", "B", "A - B, same questions"], rows)


def _rows(content: Content) -> list[tuple[str, str, Cell]]:
    """(name, key, how it is shown) of each figure that is there."""
    names = {"accuracy": "right, greedy", "format": "format, greedy"}
    names |= {key: _sampled_name(key, content) for key in content if "@" in key and "/" not in key}
    rows: list[tuple[str, str, Cell]] = [(name, key, shown) for key, name in names.items() if key in content]
    rows += [(f"{key}, greedy", key, _number) for key in content if key.startswith("reward/")]
    rows += [("mean length, tokens", "length", _plain("{:.1f}")), ("cut at the limit", "truncated", _plain("{:.1%}"))]
    return [*rows, ("could not be judged", "unjudged", _plain("{}"))] if content["unjudged"] else rows


def _sampled_name(key: str, content: Content) -> str:
    if key.startswith("maj@"):
        return f"{key} = cons@{key.partition('@')[2]} (majority vote)"
    return f"{key} by {content['best_of']}" if key.startswith("best@") else key


def _changes(found: Mapping[str, Any]) -> str:
    return (
        f"Greedy, question by question: both right {found['both_right']}, only A right {found['only_a_right']}, "
        f"only B right {found['only_b_right']}, both wrong {found['both_wrong']}; "
        f"McNemar's exact p = {found['mcnemar_p']:.3g}.\n"
        "A - B: in points where the figure is a share; an interval that holds 0 does not say that A and B are equal."
    )


def _curve(content: Content) -> str:
    rows = [
        [point["method"], str(point["n"]), f"{point['tokens']:,.1f}", shown(point), str(point["questions"])]
        for point in content["curve"]
    ]
    heads = ["answer", "samples or simulations", "sampled tokens a question", "right (95 %)", "questions judged"]
    lines = [
        table(heads, rows),
        "",
        "majority: the most frequent final answer; best: the sample that the reward puts first. Tokens: all that were "
        "sampled for the one answer; a prompt's are not counted.",
    ]
    search, correct = content["search"], content["correct"]
    if search:
        lines.append(
            f"search: {search['method']} guided by {search['guide']}, {search['width']} continuations where the tree "
            f"grows, steps end with {search['separator']!r}, {search['max_steps']} at most, "
            f"c_puct {search['c_puct']:g}."
        )
    if correct in (content["best_of"], search["guide"] if search else None):
        lines.append(f"{correct} is what says whether an answer is right: choosing by it needs the right answer.")
    return "\n".join(lines)


def _origin(content: Content) -> str:
    sampling, versions = content["sampling"], content["versions"]
    drawn = ", ".join(f"{name} {sampling[name]:g}" for name in ("temperature", "top_k", "top_p", "min_p"))
    template = content["chat_template"]
    facts = {
        "questions": f"{content['questions']['source']}, {content['questions']['count']}",
        "answers": f"1 greedy and {content['samples']} sampled a question ({drawn}), at most "
        f"{sampling['max_new_tokens']} tokens, stop {list(sampling['stop'])}, seed {content['seed']}",
        "right": f"reward {content['correct']} is 1; rewards: "
        + ", ".join(f"{label} ({function})" for label, function in content["rewards"].items()),
        "question template": repr(content["question_template"] or "none"),
        "system prompt": repr(content["system"] or "none"),
        "chat template": f"of {template['from']}, sha256 {template['sha256'][:12]}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "date": content["date"],
    }
    other = content["against"] or {"seen_in_training": None}
    for name, seen in (("trained on", content["seen_in_training"]), ("trained on, B", other["seen_in_training"])):
        if seen:
            facts[name] = f"{seen} of the questions, which makes them no test of what was learned"
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def _number(figure: Mapping[str, Any]) -> str:
    if _missing(figure["value"]):
        return "-"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _points(figure: Mapping[str, Any]) -> str:
    if _missing(figure["value"]):
        return "-"
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * figure[key] for key in ("value", "low", "high")))


def _plain(form: str) -> Cell:
    return lambda figure: "-" if _missing(figure["value"]) else form.format(figure["value"])


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)
