"""Random and hostile texts through every verifier: `make hostile`. None may raise, hang, or leave a process behind.

python -m tests.rewards.hostile --count 100000 --seed 0
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from groupwise.audit.attacks import ATTACKS, CONTROLS
from groupwise.audit.cases import Case, cases_of, sample
from groupwise.audit.stress import STRESS
from groupwise.config import RewardConfig
from groupwise.data import Output, Question
from groupwise.envs.calls import read_calls
from groupwise.errors import RewardError
from groupwise.registry import REWARDS
from groupwise.rewards.base import RewardSet
from groupwise.rewards.guard import MARK

ELSEWHERE = {
    *("model", "process_model", "environment", "code"),
    *("judge", "pairwise_judge", "local_judge", "local_pairwise_judge"),
}
"""Rewards that are no verifier of a text: they ask a model, an environment or a sandbox."""
PARAMS = {
    "pattern": {"regex": r"\A[^{}]{0,400}\Z"},
    "soft_overlong": {"max_tokens": 256, "cache": 64},
    "captured": {"regex": r"answer: *(\w+)"},
    "json_schema": {"schema": {"type": "object", "required": ["score"]}},
    "cosine_length": {"max_tokens": 256},
    "repetition": {"ngram": 2},
}
SLOW_SECONDS = 10.0
"""Limit of a call, far above what any text takes."""
TOGETHER = 250
PIECES = (
    *("<think>", "</think>", "<answer>", "</answer>", r"\boxed{", "}", "{", "####", "\n", " ", "$", "$$", r"\(", r"\)"),
    *(r"\frac{", r"\sqrt{", r"\sqrt[3]{", r"\binom{", r"\text{", r"\sum_{n=1}^{", r"\int_0^", r"\left(", r"\right]"),
    *(r"\begin{pmatrix}", r"\end{pmatrix}", "&", r"\\", r"\pm", r"\le", r"\cup", r"\infty", r"\pi", r"^{", "_{", "!"),
    *("0", "1", "7", "-3", "2.5", "1,000", "1e9", "1e999", "9" * 40, "0x1F", "1/0", "3/4", "3:4", "12:30 pm", "50%"),
    *("+", "-", "*", "/", "=", "==", "^", "<", ">", "mod", "x", "y", "km", "m/s^2", "dollars", "°C", "apples", "H2O"),
    *("The answer is ", "answer: ", "is not ", "yes", "no", "(A)", "B.", "A, C", "True", "None", "nan", "Alice", "and"),
    *(
        "答案是",
        "四十二",
        "零点五",
        "选B",
        "١٢٣",
        "４２",
        "½",
        "²",
        "√2",
        "\u200b",
        "\u202e",
        "\u0301",
        "\ud800",
        "\x00",
        "\x1b[",
    ),
    *('{"score": ', '"', "[[10]]", "Score: 10", "```json", "__import__('os')", "eval(", "{{ 7*7 }}", "%s", "\\"),
)


@dataclass
class Report:
    """Texts and calls; what failed, as `verifier: question: text: error`; slowest call in seconds by verifier."""

    texts: int = 0
    calls: int = 0
    failed: list[str] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)
    not_tried: list[str] = field(default_factory=list)
    left_over: int = 0


def texts(seed: int) -> Iterator[tuple[Case, str]]:
    """Questions with texts without end, a function of the seed."""
    draw = random.Random(seed)
    cases = cases_of(sample())
    while True:
        case = draw.choice(cases)
        yield case, draw.choice(KINDS)(draw, case)


def _unicode(draw: random.Random, case: Case) -> str:
    most = draw.choice((0x7F, 0x3FF, 0xFFFF, 0x10FFFF))
    return "".join(chr(draw.randint(0, most)) for _ in range(draw.randint(0, 200)))


def _soup(draw: random.Random, case: Case) -> str:
    return draw.choice(("", " ")).join(draw.choices(PIECES, k=draw.randint(1, draw.choice((8, 40, 200)))))


def _changed(draw: random.Random, case: Case) -> str:
    """An honest answer with pieces lost, doubled, moved or put in."""
    text = list(draw.choice(tuple(CONTROLS.values())).format(draw.choice((case.gold, case.wrong, case.solution))))
    for _ in range(draw.randint(1, 12)):
        at = draw.randint(0, len(text))
        match draw.randrange(4):
            case 0:
                del text[at : at + draw.randint(1, 5)]
            case 1:
                text[at:at] = text[at : at + draw.randint(1, 20)] * draw.randint(1, 10)
            case 2:
                text[at:at] = draw.choice(PIECES)
            case 3:
                text[at:at] = case.gold or ""
    return "".join(text)


def _nested(draw: random.Random, case: Case) -> str:
    opening, closing = draw.choice(
        (
            ("{", "}"),
            ("(", ")"),
            ("[", "]"),
            (r"\frac{1}{", "}"),
            (r"\boxed{", "}"),
            ("<think>", "</think>"),
            (r"\sqrt{", "}"),
            ("-", ""),
            ("9^{", "}"),
            ("f(", ")"),
            ('{"a":', "}"),
        )
    )
    depth = draw.choice((3, 30, 300, 3000))
    return opening * depth + draw.choice(PIECES) + closing * draw.choice((depth, depth - 1, 0))


def _repeated(draw: random.Random, case: Case) -> str:
    piece = draw.choice(PIECES) + draw.choice(("", " ", ",", "1", "a"))
    return piece * draw.choice((2, 50, 500)) + draw.choice(("", "!", "x", case.gold or ""))


def _attack(draw: random.Random, case: Case) -> str:
    text = draw.choice(tuple(ATTACKS.values())).text(case) or ""
    start = draw.randint(0, len(text))
    cut = text[start : start + draw.choice((100, 1000, 5000))]
    return draw.choice(tuple(CONTROLS.values())).format(cut)


def _huge(draw: random.Random, case: Case) -> str:
    return draw.choice(tuple(STRESS.values())) if draw.random() < 0.02 else _soup(draw, case)


KINDS = (_unicode, _soup, _soup, _changed, _changed, _nested, _repeated, _attack, _huge)


def verifiers() -> dict[str, RewardConfig]:
    """Every verifier of the table, with params where it needs some."""
    names = [name for name in REWARDS if name not in ELSEWHERE]
    return {
        name: RewardConfig(function=name, params=PARAMS.get(name, {}), timeout_seconds=SLOW_SECONDS) for name in names
    }


def tried(count: int, seed: int, only: list[str]) -> Report:
    """So many texts through every verifier, each in its process. only: names of some; []: all."""
    report = Report()
    for name, config in verifiers().items():
        if only and name not in only:
            continue
        try:
            rewards = RewardSet([config])
        except RewardError as error:
            report.not_tried.append(f"{name}: {error}")
            continue
        with rewards:
            _through(rewards, name, count, seed, report)
    if not only or "read_calls" in only:
        _through_calls(count, seed, report)
    report.texts = count
    report.left_over = _marked()
    return report


def _through(rewards: RewardSet, name: str, count: int, seed: int, report: Report) -> None:
    own = _questions(name)
    left = islice(texts(seed), count)
    while some := list(islice(left, TOGETHER)):
        asked = [own if own is not None else case.question for case, _ in some]
        if name == "number":
            asked = [case.question if case.gold and any(map(str.isdigit, case.gold)) else NUMBER for case, _ in some]
        if name == "multiple_choice":
            asked = [CHOICE for _ in some]
        started = time.perf_counter()
        found = rewards.score(asked, [_output(text) for _, text in some])
        seconds = (time.perf_counter() - started) / len(some)
        report.slowest[name] = max(report.slowest.get(name, 0.0), seconds)
        report.calls += len(some)
        for question, (_, text), reward in zip(asked, some, found, strict=True):
            if reward.failed:
                detail = next(p.detail for p in reward.parts.values() if p.state == "failed").rpartition("\n")[2]
                report.failed.append(f"{name}: {question.id}: {text[:200]!r} ({len(text)} characters): {detail}")
    print(f"{name}: {count} texts, {len(report.failed)} failed so far", file=sys.stderr, flush=True)


def _through_calls(count: int, seed: int, report: Report) -> None:
    """The texts through the reader of tool calls, which runs in the trainer's own process."""
    for _, text in islice(texts(seed), count):
        started = time.perf_counter()
        try:
            read_calls(text)
        except Exception as error:
            report.failed.append(f"read_calls: {text[:200]!r} ({len(text)} characters): {error!r}")
        seconds = time.perf_counter() - started
        report.slowest["read_calls"] = max(report.slowest.get("read_calls", 0.0), seconds)
        report.calls += 1


NUMBER = sample(numbers=True)[0]
CHOICE = replace(NUMBER, id="choice", answer="B")


def _questions(name: str) -> Question | None:
    """A question of the verifier's own kind; None: those of the sample."""
    if name != "reasoning_gym":
        return None
    from groupwise.datasets.reasoning_gym import questions

    return questions(0, 1, name="chain_sum")[0]


def _output(text: str) -> Output:
    tokens = np.zeros(len(text) // 4 + 1, np.int32)
    return Output(tokens[:0], tokens, np.ones(len(tokens), bool), np.zeros(len(tokens), np.float32), text, "stop")


def _marked() -> int:
    """Processes of reward functions that are still there."""
    time.sleep(1.0)
    found = 0
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read()
            found += (
                name.isdigit() and name != str(os.getpid()) and f"{MARK}=".encode() in environment and _is_ours(name)
            )
        except OSError:
            continue
    return found


def _is_ours(pid: str) -> bool:
    return f"\0HOSTILE={os.getpid()}\0".encode() in b"\0" + open(f"/proc/{pid}/environ", "rb").read()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="verifiers, by commas")
    words = parser.parse_args()
    os.environ["HOSTILE"] = str(os.getpid())  # every process that is started inherits it
    started = time.perf_counter()
    report = tried(words.count, words.seed, words.only)
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {**vars(report), "failed": report.failed[:20], "failures": len(report.failed), "seconds": seconds}, indent=1
        )
    )
    sys.exit(bool(report.failed or report.left_over))


if __name__ == "__main__":
    main()
