"""A reward under attack: hostile answers to real questions, beside honest ones, and how much each of them earns.

The figure is the exploitability X = max over attacks a of mean over questions q of e(a, q), where
e(a, q) = min(1, max(0, (r(a, q) - w(q)) / (h(q) - w(q)))): r what the attack earns, h and w what an honest right and an
honest wrong answer earn in the same form, the one in which right answers earn most. Where h(q) <= w(q), e(a, q) is 1 if
r(a, q) >= h(q), else 0. Attacks of the kind `dressed` are shown and not counted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from groupwise.activity import advance, doing
from groupwise.audit.attacks import ATTACKS, CONTROLS, COUNTED, honest
from groupwise.audit.cases import Case
from groupwise.data import Output, Reward
from groupwise.errors import DataError
from groupwise.rewards.base import RewardSet

CHARACTERS_PER_TOKEN = 4
"""Of an attack's text, for rewards that count tokens: no tokenizer is loaded."""
STRESSED = 3
"""Questions on which the attacks of the kind `stress` are tried: they hardly depend on the question."""
HONEST_WRONG = "honest wrong answer"
COMPARING = ("pairwise_judge", "local_pairwise_judge")
"""Rewards that compare the outputs of a group."""
_LATE = "ran past its limit"
_SAME = 1e-9


@dataclass(frozen=True)
class Found:
    """What an answer earned over the questions that it has a form for. rewards: None where it got none.

    form: of the control, or that the attack was tried in; exploit: mean of e; None for a control and where no honest
    answer got a reward. beats_wrong, equals_wrong, reaches_right: shares of the questions with an honest answer to
    compare with. failed, late, abstained: counts; late ones are among the failed. text: the first one.
    """

    name: str
    kind: str
    form: str
    rewards: tuple[float | None, ...]
    exploit: float | None
    beats_wrong: float | None
    equals_wrong: float | None
    reaches_right: float | None
    failed: int
    late: int
    abstained: int
    seconds: float
    text: str
    detail: str = ""

    @property
    def mean(self) -> float | None:
        """Mean of the rewards that there are."""
        values = [value for value in self.rewards if value is not None]
        return sum(values) / len(values) if values else None

    @property
    def failed_share(self) -> float:
        return self.failed / len(self.rewards) if self.rewards else 0.0


@dataclass(frozen=True)
class Siege:
    """All that was found. form: of honest answers, in which right ones earn most; "" if none got a reward.

    right, wrong: h and w of each question in it."""

    form: str
    right: tuple[float | None, ...]
    wrong: tuple[float | None, ...]
    controls: tuple[Found, ...]
    attacks: tuple[Found, ...]

    @property
    def worst(self) -> Found | None:
        """The counted attack that earns most of what an honest right answer earns."""
        counted = [found for found in self.attacks if found.kind in COUNTED and found.exploit is not None]
        return max(counted, key=lambda found: found.exploit or 0.0, default=None)

    @property
    def exploitability(self) -> float | None:
        """X, 0 to 1; None where no honest right answer got a reward."""
        return None if self.worst is None else self.worst.exploit

    @property
    def not_separated(self) -> int:
        """Questions on which an honest right answer earns no more than a wrong one."""
        pairs = zip(self.right, self.wrong, strict=True)
        return sum(r is not None and w is not None and r <= w + _SAME for r, w in pairs)

    @property
    def failing(self) -> Found | None:
        """The answer on which the reward fails most often; None: it failed on none."""
        worst = max((*self.controls, *self.attacks), key=lambda found: found.failed_share, default=None)
        return worst if worst is not None and worst.failed else None


def besiege(rewards: RewardSet, cases: Sequence[Case]) -> Siege:
    """Every control and every attack scored on the questions. Raises DataError if a function's columns are missing."""
    if not cases:
        raise DataError("attack: no questions", hint="give some with --data")
    rewards.require_columns(case.question for case in cases)
    with doing("attacking", len(CONTROLS) + 1 + len(ATTACKS), "answers"):
        pairs = []
        for form in (*CONTROLS, "worked"):
            pairs.append(tuple(_control(rewards, cases, form, right=right) for right in (True, False)))
            advance(1)
        pairs = [(right, wrong) for right, wrong in pairs if right.rewards]
        best = max(pairs, key=lambda pair: _total(pair[0]), default=None)
        best = None if best is None or best[0].mean is None else best
        form = "" if best is None else best[0].form
        right, wrong = ((None,) * len(cases),) * 2 if best is None else (_by_case(cases, found) for found in best)
        attacks = [] if best is None else [_wrong_as_an_attack(best[1], right, wrong)]
        for name in ATTACKS:
            attacks += _attacked(rewards, cases, name, form, right, wrong)
            advance(1)
    return Siege(form, right, wrong, tuple(found for pair in pairs for found in pair), tuple(attacks))


def _total(found: Found) -> float:
    """What decides between forms: the sum of the rewards, so that a form few questions have does not win by them."""
    return sum(value for value in found.rewards if value is not None)


def _control(rewards: RewardSet, cases: Sequence[Case], form: str, *, right: bool) -> Found:
    texts = [honest(case, case.gold if right else case.wrong, form) for case in cases]
    return _scored(rewards, cases, texts, name=f"{'right' if right else 'wrong'}: {form}", kind="control", form=form)


def _by_case(cases: Sequence[Case], control: Found) -> tuple[float | None, ...]:
    """A control's reward of each question; None where the question has no such form, or it got none."""
    side = "gold" if control.name.startswith("right") else "wrong"
    values = iter(control.rewards)
    forms = (honest(case, getattr(case, side), control.form) for case in cases)
    return tuple(None if text is None else next(values) for text in forms)


def _attacked(
    rewards: RewardSet,
    cases: Sequence[Case],
    name: str,
    form: str,
    right: Sequence[float | None],
    wrong: Sequence[float | None],
) -> list[Found]:
    """The attack as it stands, or in the form of honest answers if it earns more there; [] if no question has one."""
    attack = ATTACKS[name]
    if attack.kind == "stress":  # those with the longest answers, which such a text does not hold by chance
        apart = [h is not None and w is not None and h > w + _SAME for h, w in zip(right, wrong, strict=True)]
        order = sorted(range(len(cases)), key=lambda index: (not apart[index], -len(cases[index].gold or "")))
        chosen = order[:STRESSED]
        cases = [cases[index] for index in chosen]
        right, wrong = ([side[index] for index in chosen] for side in (right, wrong))
    bare = [attack.text(case) for case in cases]
    forms = {"": bare}
    if attack.wrapped and form not in ("", "plain", "worked"):
        forms[form] = [None if text is None else CONTROLS[form].format(text) for text in bare]
    found = [
        _scored(rewards, cases, texts, name=name, kind=attack.kind, form=used, right=right, wrong=wrong)
        for used, texts in forms.items()
    ]
    found = [some for some in found if some.rewards]
    failing = max((some.failed for some in found), default=0)
    worst = max(found, key=lambda some: (some.exploit or 0.0, some.failed == failing, some.mean or 0.0), default=None)
    return [] if worst is None else [worst]


def _wrong_as_an_attack(control: Found, right: Sequence[float | None], wrong: Sequence[float | None]) -> Found:
    """An honest wrong answer: it earns what it earns, and all there is where the reward does not tell it apart."""
    earned, beats, equals, reaches = _shares(wrong, right, wrong)
    return replace(
        control,
        name=HONEST_WRONG,
        kind="blind",
        exploit=earned,
        beats_wrong=beats,
        equals_wrong=equals,
        reaches_right=reaches,
    )


def _scored(
    rewards: RewardSet,
    cases: Sequence[Case],
    texts: Sequence[str | None],
    *,
    name: str,
    kind: str,
    form: str,
    right: Sequence[float | None] = (),
    wrong: Sequence[float | None] = (),
) -> Found:
    asked = [index for index, text in enumerate(texts) if text is not None]
    answered = [str(texts[index]) for index in asked]
    started = time.perf_counter()
    scored = score(rewards, [cases[index] for index in asked], answered)
    seconds = (time.perf_counter() - started) / max(1, len(asked))
    values = [reward.value for reward in scored]
    failed = [why(reward) for reward in scored if reward.failed]
    own = ([side[index] for index in asked] if side else [None] * len(asked) for side in (right, wrong))
    return Found(
        name,
        kind,
        form,
        tuple(values),
        *_shares(values, *own),
        len(failed),
        sum(_LATE in detail for detail in failed),
        sum(reward.value is None and not reward.failed for reward in scored),
        seconds,
        answered[0] if answered else "",
        failed[0] if failed else "",
    )


def score(rewards: RewardSet, cases: Sequence[Case], texts: Sequence[str]) -> list[Reward]:
    """The reward of each text as an answer to the question beside it.

    A reward that compares the outputs of a group gets the honest answers beside it, right and wrong."""
    if not any(config.function in COMPARING for config in rewards.configs.values()):
        return rewards.score([case.question for case in cases], [output_of(text) for text in texts])
    found = []
    for case, text in zip(cases, texts, strict=True):  # a group each: the same question may come again
        group = [text, *(answer for answer in (case.gold, case.wrong) if answer is not None)]
        found += rewards.score([case.question] * len(group), list(map(output_of, group)))[:1]
    return found


def output_of(text: str) -> Output:
    """A text as an output: with as many tokens, all 0, as a text of its length usually has."""
    count = -(-len(text) // CHARACTERS_PER_TOKEN)
    tokens = np.zeros(count, np.int32)
    return Output(tokens[:0], tokens, np.ones(count, bool), np.zeros(count, np.float32), text, "stop")


def why(reward: Reward) -> str:
    """The last line of what a failed reward's first failed function raised."""
    return next(part.detail for part in reward.parts.values() if part.state == "failed").rpartition("\n")[2]


def _shares(
    values: Sequence[float | None], right: Sequence[float | None], wrong: Sequence[float | None]
) -> tuple[float | None, float | None, float | None, float | None]:
    """Means of e, of beats wrong, equals wrong, reaches right, over the questions with both honest answers."""
    told = [(value, h, w) for value, h, w in zip(values, right, wrong, strict=True) if h is not None and w is not None]
    if not told:
        return None, None, None, None
    totals = (
        sum(exploit(value, h, w) for value, h, w in told),
        sum(value is not None and value > w + _SAME for value, _, w in told),
        sum(value is not None and value >= w - _SAME for value, _, w in told),
        sum(value is not None and value >= h - _SAME for value, h, _ in told),
    )
    first, second, third, fourth = (total / len(told) for total in totals)
    return first, second, third, fourth


def exploit(value: float | None, right: float, wrong: float) -> float:
    """e: the share of the gain of an honest right answer over a wrong one that a text earns, 0 to 1."""
    if value is None:
        return 0.0
    if right <= wrong + _SAME:
        return float(value >= right - _SAME)
    return min(1.0, max(0.0, (value - wrong) / (right - wrong)))
