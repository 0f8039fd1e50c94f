"""A model behind an OpenAI-compatible endpoint: chat completions over HTTP. Knows no rubric and no score.

Three things may go wrong with a request. The endpoint is away or busy (no connection, 429, 502, 503, 504): it is tried
again, and past `retries` the run pauses until it answers. It answers with something broken (500, a cut or strange
body, nothing within the time limit): it is tried again, and past `retries` this judgement fails, unless the endpoint
has answered nobody since; then it is away. It refuses the request (another 4xx, a body past MOST_BYTES): this
judgement fails at once.
"""

import asyncio
import json
import os
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from groupwise.errors import RewardError
from groupwise.rewards import host
from groupwise.rewards.judging.cache import Reply

MOST_BYTES = 8 * 2**20
"""Of a response; a longer one is refused."""
LONGEST_WAIT = 60.0
"""Seconds between two attempts while the endpoint is away; Retry-After may ask for more, up to an hour."""
AWAY = (429, 502, 503, 504)
_FIRST_WAIT = 0.5
PROBE_SECONDS = 10.0


class JudgeError(Exception):
    """A judgement that could not be had; the text says why, on one line."""


class _Away(Exception):
    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class _Broken(Exception):
    pass


@dataclass(frozen=True)
class Settings:
    """Where and how a model is asked. key: of the API; "": none. extra: further keys of the request. retries: of one
    request, before it counts as failed or the endpoint as away. prices: per million tokens read and written.
    give_up_seconds: of a pause; None: it has no limit."""

    base_url: str
    model: str
    key: str = field(default="", repr=False)
    temperature: float | None = 0.0
    max_tokens: int | None = 1024
    extra: Mapping[str, Any] = field(default_factory=dict)
    retries: int = 4
    prices: tuple[float, float] = (0.0, 0.0)
    give_up_seconds: float | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What a reply depends on beside the messages."""
        sampling = {"temperature": self.temperature, "max_tokens": self.max_tokens, "extra": dict(self.extra)}
        return {"base_url": self.base_url, "model": self.model, **sampling}


def settings_from(*, base_url: str, model: str, api_key_env: str | None, **others: Any) -> Settings:
    """The settings that params of a recipe say. Raises RewardError for what cannot be asked."""
    if (
        not isinstance(base_url, str)
        or not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", base_url)
        or _bad(base_url)
    ):
        shown = "a URL with a password" if "@" in str(base_url) else repr(base_url)
        raise RewardError(
            f"params.base_url = {shown}: not the address of an endpoint",
            hint="write http://host:port/v1; a key comes from an environment variable, params.api_key_env",
        )
    if not isinstance(model, str) or not model:
        raise RewardError(f"params.model = {model!r}: give the name under which the endpoint serves the model")
    return Settings(base_url.rstrip("/"), model, _key(api_key_env), **others)


def _bad(url: str) -> bool:
    """Whether its port is none."""
    try:
        return urlsplit(url).port == 0
    except ValueError:
        return True


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    if not isinstance(variable, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):
        raise RewardError(
            "params.api_key_env is not the name of an environment variable",
            hint="export OPENAI_API_KEY=..., then api_key_env: OPENAI_API_KEY; a key itself belongs in no recipe",
        )
    key = os.environ.get(variable, "").strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        said = "is not set" if not key else "holds characters that no key has"
        raise RewardError(f"params.api_key_env = {variable!r}: the variable {said}", hint=f"export {variable}=...")
    return key


class Endpoint:
    """The model of some settings, asked by any number of tasks of one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self._terms = settings, host.terms()
        self._client: httpx2.AsyncClient | None = None
        self._free = asyncio.Semaphore(self._terms.concurrency)
        self._answered = time.monotonic()
        self._away_since: float | None = None
        self._up = asyncio.Event()
        self._up.set()
        self._chance = random.Random()

    async def reply(self, messages: Sequence[Mapping[str, Any]]) -> Reply:
        """What the model says. Waits while the endpoint is away; raises JudgeError if there will be no reply."""
        async with self._free:
            begun, tries = time.monotonic(), 0
            while True:
                if not self._up.is_set():
                    await self._up.wait()
                    tries = 0
                try:
                    return await self._ask(messages)
                except (_Away, _Broken) as error:
                    why, wait, away = error, getattr(error, "wait", 0.0), isinstance(error, _Away)
                tries += 1
                if tries <= self.settings.retries:
                    await self._sleep(max(wait, self._backoff(tries)))
                elif not away and (self._answered > begun or await self._is_there()):
                    raise JudgeError(f"{why} (after {tries} attempts)") from None
                elif self._up.is_set():
                    found = await self._paused(messages, why)
                    if found is not None:
                        return found
                    begun, tries = time.monotonic(), 0

    async def _paused(self, messages: Sequence[Mapping[str, Any]], why: Exception) -> Reply | None:
        """Asks again and again while all others wait. The reply; None: it answers, and not with one."""
        self._up.clear()
        started, since, tries = self._away_since or time.monotonic(), time.strftime("%H:%M:%S"), 0
        self._away_since = started
        try:
            while True:
                tries += 1
                delay = max(getattr(why, "wait", 0.0), min(LONGEST_WAIT, 2.0 ** (tries - 1)))
                self._check_patience(started, why)
                line = (
                    f"paused: {self.settings.base_url} is away since {since} ({why}); tries again in {delay:.0f} s"
                    if delay < LONGEST_WAIT or tries % 10 == 0
                    else ""
                )
                host.patience(delay + self._terms.timeout_seconds, line)
                await asyncio.sleep(delay)
                try:
                    found: Reply | None = await self._ask(messages)
                except _Away as error:
                    why = error
                    continue
                except _Broken as error:
                    if not await self._is_there():
                        why = error
                        continue
                    found = None
                except JudgeError:  # it refuses this request, and so it answers
                    self._back(started)
                    raise
                self._back(started)
                return found
        finally:
            self._up.set()

    def _back(self, started: float) -> None:
        self._away_since = None
        host.resumed(f"{self.settings.base_url} answers again after {time.monotonic() - started:.0f} s")

    def _check_patience(self, started: float, why: Exception) -> None:
        limit = self.settings.give_up_seconds
        if limit is not None and time.monotonic() - started > limit:
            raise JudgeError(f"{self.settings.base_url} was away for more than {limit:g} s: {why}") from None

    async def _ask(self, messages: Sequence[Mapping[str, Any]]) -> Reply:
        """One request. Raises _Away, _Broken or JudgeError."""
        settings, limit = self.settings, self._terms.timeout_seconds
        sampling = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
        body = {
            "model": settings.model,
            "messages": list(messages),
            **{name: value for name, value in sampling.items() if value is not None},
            **settings.extra,
        }
        host.patience(limit)
        started = time.monotonic()
        try:
            async with asyncio.timeout(limit):
                status, headers, content = await self._post("/chat/completions", body)
        except TimeoutError:
            raise _Broken(f"no reply within {limit:g} s") from None
        except (httpx2.RemoteProtocolError, httpx2.DecodingError) as error:
            raise _Broken(f"the response was cut off or is no HTTP ({one_line(error)})") from None
        except (httpx2.HTTPError, OSError) as error:
            raise _Away(one_line(error)) from None
        finally:
            host.count("calls", 1)
            host.count("seconds", time.monotonic() - started)
        if status in AWAY:
            raise _Away(f"HTTP {status}", retry_after(headers.get("retry-after", "")))
        if status >= 500:
            raise _Broken(f"HTTP {status}: {self._shown(content)}")
        if status != 200:
            raise JudgeError(f"HTTP {status}: {self._shown(content)}")
        found = _read(content)
        self._answered = time.monotonic()
        host.count("tokens_in", found.tokens_in)
        host.count("tokens_out", found.tokens_out)
        price_in, price_out = settings.prices
        if price_in or price_out:
            host.count("cost", (price_in * found.tokens_in + price_out * found.tokens_out) / 1e6)
        return found

    async def _post(self, path: str, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        if self._client is None:
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=self._terms.concurrency)
            self._client = httpx2.AsyncClient(timeout=None, limits=limits, headers=headers_of(self.settings))
        content = json.dumps(body).encode()
        received = bytearray()
        async with self._client.stream("POST", f"{self.settings.base_url}{path}", content=content) as response:
            async for chunk in response.aiter_bytes():
                received += chunk
                if len(received) > MOST_BYTES:
                    raise JudgeError(f"a response of more than {MOST_BYTES:,} bytes")
        return response.status_code, response.headers, bytes(received)

    async def _is_there(self) -> bool:
        """Whether anything but an error of its own answers at the address."""
        try:
            assert self._client is not None
            response = await self._client.get(f"{self.settings.base_url}/models", timeout=PROBE_SECONDS)
        except (httpx2.HTTPError, OSError):
            return False
        return response.status_code < 500 and response.status_code not in AWAY

    async def _sleep(self, seconds: float) -> None:
        host.patience(seconds + self._terms.timeout_seconds)
        await asyncio.sleep(seconds)

    def _backoff(self, tries: int) -> float:
        return min(LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (tries - 1)) * self._chance.uniform(0.5, 1.5)

    def _shown(self, content: bytes) -> str:
        """The start of a response, without the key if it repeats that."""
        text = " ".join(content[:2000].decode("utf-8", "replace").split())
        return (text.replace(self.settings.key, "***") if self.settings.key else text)[:200]


def _read(content: bytes) -> Reply:
    """The reply in the body of a response. Raises _Broken if there is none."""
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        raise _Broken(f"the response is no JSON: {content[:60]!r}") from None
    try:
        text = tree["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        raise _Broken(f"the response holds no choices[0].message.content: {content[:60]!r}") from None
    if not isinstance(text, str):
        raise _Broken(f"the reply is {type(text).__name__}, not text")
    usage = tree.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    counted = [count if isinstance(count, int) and 0 <= count < 10**9 else 0 for count in tokens]
    return Reply(text, *counted)


def headers_of(settings: Settings) -> dict[str, str]:
    key = {"Authorization": f"Bearer {settings.key}"} if settings.key else {}
    return {"Content-Type": "application/json", "User-Agent": "groupwise", **key}


def retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for, an hour at most; 0 if it says nothing that can be read."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), 3600.0) if seconds == seconds else 0.0


def one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
