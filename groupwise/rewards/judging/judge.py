"""Judges as reward functions: a model behind an endpoint that grades each output, or compares those of a group."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from groupwise.data import Image, Question
from groupwise.errors import RewardError
from groupwise.pictures import data_url
from groupwise.registry import nearest
from groupwise.rewards import host
from groupwise.rewards.answer import answer_text
from groupwise.rewards.judging.cache import FILE, Cache, Reply, key_of
from groupwise.rewards.judging.endpoint import Endpoint, JudgeError, Settings, settings_from
from groupwise.rewards.judging.pairs import SCORES, Won, inconsistent, pairs_of
from groupwise.rewards.judging.prompts import Chat, chat, corrected, of_choice, of_grades, with_pictures
from groupwise.rewards.judging.replies import Unreadable, choice, grades, score, share
from groupwise.rewards.judging.rubric import OF_ONE, OF_TWO, Rubric, load_rubric
from groupwise.rewards.judging.start import wait_for
from groupwise.rewards.seen import images_of

T = TypeVar("T")
Scored = dict[str, Any] | BaseException | None
"""Of one output: the score and what belongs to it, why it could not be judged, or nothing to say."""


class Judge:
    """The grade that a model behind an OpenAI-compatible endpoint gives each output by a rubric, 0 to 1.

    sum_c w_c (g_c - low) / (high - low) / sum_c w_c over the rubric's criteria. base_url, model: the endpoint, asked by
    chat completions. rubric: a file (docs/judges.md). api_key_env: environment variable with the key. temperature,
    max_tokens: of the reply; null leaves them out of the request. extra: further keys of the request. retries: of a
    request that went wrong. rereads: further replies where one holds no grade. price_in, price_out: per million tokens.
    cache: file of replies; null: in the run's folder. give_up_seconds: longest pause; null: no limit. images: whether
    the model is sent the question's pictures.
    """

    limits_itself = True

    def __init__(
        self,
        *,
        rubric: str,
        base_url: str,
        model: str,
        api_key_env: str | None = None,
        temperature: float | None = 0.0,
        max_tokens: int | None = 1024,
        extra: Mapping[str, Any] | None = None,
        retries: int = 4,
        rereads: int = 2,
        images: bool = False,
        price_in: float = 0.0,
        price_out: float = 0.0,
        cache: str | None = None,
        give_up_seconds: float | None = None,
    ) -> None:
        self._rubric, self._images = load_rubric(rubric, OF_ONE), yes_or_no("images", images)
        settings = endpoint_settings(
            base_url, model, api_key_env, temperature, max_tokens, extra, retries, price_in, price_out, give_up_seconds
        )
        self._asked = Asked(Endpoint(settings).reply, settings.identity, rereads=rereads, cache=_cache(cache))

    async def __call__(self, texts: Sequence[str], questions: Sequence[Question]) -> list[Scored]:
        return await graded(self._asked, self._rubric, texts, questions, shown=_urls if self._images else _nothing)


class PairwiseJudge:
    """How often a model behind an endpoint prefers an output to others of its group, 0 to 1.

    Each pair is judged in both orders, against a judge that goes by the place. scores: `win_rate`, the mean share of
    wins, or `bradley_terry`, the expected share against an average output. pairs_per_output: pairs that an output is
    in; null: all. Other params as for `judge`. An output without siblings has no score.
    """

    limits_itself = True

    def __init__(
        self,
        *,
        rubric: str,
        base_url: str,
        model: str,
        scores: str = "win_rate",
        pairs_per_output: int | None = None,
        api_key_env: str | None = None,
        temperature: float | None = 0.0,
        max_tokens: int | None = 1024,
        extra: Mapping[str, Any] | None = None,
        retries: int = 4,
        rereads: int = 2,
        images: bool = False,
        price_in: float = 0.0,
        price_out: float = 0.0,
        cache: str | None = None,
        give_up_seconds: float | None = None,
    ) -> None:
        self._rubric, self._pairing = load_rubric(rubric, OF_TWO), pairing(scores, pairs_per_output)
        self._images = yes_or_no("images", images)
        settings = endpoint_settings(
            base_url, model, api_key_env, temperature, max_tokens, extra, retries, price_in, price_out, give_up_seconds
        )
        self._asked = Asked(Endpoint(settings).reply, settings.identity, rereads=rereads, cache=_cache(cache))

    async def __call__(self, texts: Sequence[str], questions: Sequence[Question]) -> list[Scored]:
        shown = _urls if self._images else _nothing
        return await compared(self._asked.choice, self._rubric, self._pairing, texts, questions, shown=shown)


class Asked:
    """A judge that is asked at most once for the same: replies are kept, and equal requests wait for one.

    reply: asks the model. identity: what its replies depend on beside the messages."""

    def __init__(
        self,
        reply: Callable[[Chat], Awaitable[Reply]],
        identity: Mapping[str, Any],
        *,
        rereads: int,
        cache: Cache,
    ) -> None:
        self._reply, self._identity, self._rereads = reply, identity, whole("rereads", rereads, least=0)
        self._cache = cache
        self._under_way: dict[bytes, asyncio.Future[Any]] = {}

    async def read(self, messages: Chat, read: Callable[[str], T], *, reply: str) -> T:
        """What `read` makes of the judge's reply, which is asked for again while it is Unreadable.

        reply: what the judge is told of its reply. Raises JudgeError if there is none that can be read."""
        key = key_of(self._identity, messages)
        if key in self._under_way:
            host.count("cached", 1)
            found: T = await asyncio.shield(self._under_way[key])
            return found
        task = self._under_way[key] = asyncio.ensure_future(self._once(messages, read, reply))
        try:
            return await task
        finally:
            del self._under_way[key]

    async def choice(self, messages: Chat) -> float:
        """1 if the first of two is chosen, 0 if the second, 0.5 if neither."""
        return await self.read(messages, choice, reply=of_choice())

    async def _once(self, messages: Chat, read: Callable[[str], T], reply: str) -> T:
        why, said = "", ""
        for _ in range(1 + self._rereads):
            key = key_of(self._identity, messages)
            kept = self._cache.get(key)
            host.count("cached", kept is not None)
            found = await self._reply(messages) if kept is None else kept
            if kept is None:  # also one that cannot be read: it was paid for, and the next one answers it
                self._cache.put(key, found)
            try:
                return read(found.text)
            except Unreadable as error:
                why, said = str(error), found.text
                host.count("unread", 1)
                messages = corrected(messages, said[:2000], why, reply=reply)
        raise JudgeError(f"no grade in {1 + self._rereads} replies: {why}; the last begins {said[:80]!r}")


Shown = Callable[[Question], Sequence[str]]
"""Data URLs of the pictures of a question that a judge is sent."""


def _nothing(question: Question) -> Sequence[str]:
    return ()


def _urls(question: Question) -> Sequence[str]:
    return [_url(image) for image in images_of(question)]


@lru_cache(maxsize=16)
def _url(image: Image) -> str:
    return data_url(image)


async def graded(
    asked: Asked,
    rubric: Rubric,
    texts: Sequence[str],
    questions: Sequence[Question],
    *,
    shown: Shown = _nothing,
) -> list[Scored]:
    """The score of each output, with the share of each criterion where there are several."""

    async def one(text: str, question: Question) -> dict[str, Any]:
        messages = chat(rubric, {**given(rubric, question), "output": text}, reply=of_grades(rubric))
        messages = with_pictures(messages, shown(question))
        found = await asked.read(messages, lambda reply: grades(rubric, reply), reply=of_grades(rubric))
        more = {name: share(rubric, grade) for name, grade in found.items()} if len(found) > 1 else {}
        return {"score": score(rubric, found), **more}

    return await _all([one(text, question) for text, question in zip(texts, questions, strict=True)])


Pairing = tuple[Callable[[int, Won], list[float | None]], int | None]


async def compared(
    judged: Callable[[Chat], Awaitable[float]],
    rubric: Rubric,
    pairing_: Pairing,
    texts: Sequence[str],
    questions: Sequence[Question],
    *,
    reply: str | None = None,
    shown: Shown = _nothing,
) -> list[Scored]:
    """The score of each output of one question by its pairs. judged: share of the first of two in a conversation.
    reply: what the judge is told of its reply; None: a choice at its end.

    Equal texts are a draw, which nobody is asked about. A pair that could not be judged counts for neither output; an
    output all of whose pairs failed has failed."""
    scores, per_output = pairing_
    count, question = len(texts), questions[0]
    if count < 2:
        return [None] * count

    async def in_order(first: int, second: int) -> float:
        if texts[first] == texts[second]:
            return 0.5
        pair = {**given(rubric, question), "first": texts[first], "second": texts[second]}
        return await judged(with_pictures(chat(rubric, pair, reply=reply or of_choice()), shown(question)))

    pairs = pairs_of(count, per_output)
    forth = await _all([in_order(i, j) for i, j in pairs] + [in_order(j, i) for i, j in pairs])
    ahead = [None if isinstance(share, BaseException) else float(share) for share in forth[: len(pairs)]]
    back = [None if isinstance(share, BaseException) else 1.0 - float(share) for share in forth[len(pairs) :]]
    won = {pair: (a + b) / 2 for pair, a, b in zip(pairs, ahead, back, strict=True) if a is not None and b is not None}
    found, differing = scores(count, won), inconsistent(ahead, back)
    why = next((share for share in forth if isinstance(share, BaseException)), None)
    return [why if value is None else {"score": value, "inconsistent": differing} for value in found]


def pairing(scores: str, per_output: int | None) -> Pairing:
    """How pairs are chosen and scored. Raises RewardError for a name or a number that is none."""
    if scores not in SCORES:
        raise RewardError(f"params.scores = {scores!r}: no such name", hint=nearest(str(scores), SCORES))
    return SCORES[scores], None if per_output is None else whole("pairs_per_output", per_output, least=1)


def endpoint_settings(
    base_url: str,
    model: str,
    api_key_env: str | None,
    temperature: float | None,
    max_tokens: int | None,
    extra: Mapping[str, Any] | None,
    retries: int,
    price_in: float,
    price_out: float,
    give_up_seconds: float | None,
) -> Settings:
    """The params of a recipe that say where and how a model is asked; returns once something answers there.

    Raises RewardError for what is out of range, unless it is the endpoint's to refuse."""
    for name, value in (("temperature", temperature), ("price_in", price_in), ("price_out", price_out)):
        _number(name, value, least=0.0)
    _number("give_up_seconds", give_up_seconds, least=0.0)
    taken = {"model", "messages", "stream", "temperature", "max_tokens"} & set(extra or {})
    if extra is not None and (not isinstance(extra, Mapping) or taken):
        what = f"{sorted(taken)[0]!r} has its own param, or must not be set" if taken else "not keys with values"
        raise RewardError(f"params.extra: {what}", hint="extra: {reasoning_effort: low}")
    settings = settings_from(
        base_url=base_url,
        model=model,
        api_key_env=api_key_env,
        temperature=temperature,
        max_tokens=None if max_tokens is None else whole("max_tokens", max_tokens, least=1),
        extra=dict(extra or {}),
        retries=whole("retries", retries, least=0),
        prices=(float(price_in or 0.0), float(price_out or 0.0)),
        give_up_seconds=give_up_seconds,
    )
    wait_for(settings)
    return settings


def whole(name: str, value: Any, *, least: int) -> int:
    """A param that is a whole number, `least` or more. Raises RewardError if it is none."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 10**9:
        raise RewardError(f"params.{name} = {value!r}: give a whole number, {least} or more")
    return value


def yes_or_no(name: str, value: Any) -> bool:
    """A param that is true or false. Raises RewardError if it is neither."""
    if not isinstance(value, bool):
        raise RewardError(f"params.{name} = {value!r}: give true or false")
    return value


def _cache(path: str | None) -> Cache:
    """The cache in a file of the user's, or else in the run's folder, where there is one."""
    folder = host.terms().folder
    return Cache(Path(path) if path else None if folder is None else folder / FILE)


def _number(name: str, value: Any, *, least: float) -> None:
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or not value >= least):
        raise RewardError(f"params.{name} = {value!r}: give a number, {least:g} or more")


def given(rubric: Rubric, question: Question) -> dict[str, str]:
    """Question and answer as the rubric's texts. Raises ValueError if it wants an answer and there is none."""
    answer = answer_text(question.answer, where=f"question {question.id!r}") if rubric.wants_answer else ""
    return {"question": question.text, "answer": answer}


async def _all(calls: Sequence[Awaitable[Any]]) -> list[Any]:
    """What each gives, or why it gives nothing."""
    return list(await asyncio.gather(*calls, return_exceptions=True))
