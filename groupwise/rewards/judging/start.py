"""An endpoint before the first judgement: waited for while it is away, refused where it refuses."""

import time
from typing import Any

import httpx2

from groupwise.errors import RewardError
from groupwise.rewards import host
from groupwise.rewards.judging.endpoint import (
    AWAY,
    LONGEST_WAIT,
    PROBE_SECONDS,
    Settings,
    headers_of,
    one_line,
    retry_after,
)

QUIET = 2
"""Attempts after the first before a pause is spoken of."""
SHORT_WAIT = 0.3
"""Seconds before each of them."""


def wait_for(settings: Settings) -> None:
    """Returns once the endpoint answers. While it is away (no connection, 429, 502, 503, 504) it waits and says so.

    Raises RewardError if it refuses the key or does not know the model, if the address is none, or if it is away for
    longer than settings.give_up_seconds.
    """
    started, since, tries = time.monotonic(), time.strftime("%H:%M:%S"), 0
    while (why := _away(settings)) is not None:
        said, asked_for = why
        waited, tries = time.monotonic() - started, tries + 1
        if settings.give_up_seconds is not None and waited > settings.give_up_seconds:
            raise RewardError(
                f"params.base_url = {settings.base_url!r}: away for more than {settings.give_up_seconds:g} s ({said})",
                hint="start the server, correct the address, or raise params.give_up_seconds",
            )
        paused = tries - QUIET
        delay = SHORT_WAIT if paused <= 0 else max(asked_for, min(LONGEST_WAIT, 2.0 ** (paused - 1)))
        spoken = paused > 0 and (delay < LONGEST_WAIT or tries % 10 == 0)
        line = f"paused: {settings.base_url} is away since {since} ({said}); tries again in {delay:.0f} s"
        host.patience(delay + 2 * PROBE_SECONDS, line if spoken else "")
        time.sleep(delay)
    if tries > QUIET:
        host.resumed(f"{settings.base_url} answers after {time.monotonic() - started:.0f} s")


def _away(settings: Settings) -> tuple[str, float] | None:
    """Why nobody answers, and how long the endpoint asks to wait; None: it answers. Raises RewardError: it refuses."""
    try:
        response = httpx2.get(f"{settings.base_url}/models", headers=headers_of(settings), timeout=PROBE_SECONDS)
        known = _models(response)
        if response.status_code in AWAY:
            return _busy(response)
        _check_key(settings, response)
        if not known or settings.model in known:
            return None  # some servers list no models, or not all of them
        return _tried(settings, known)
    except httpx2.InvalidURL as error:
        raise RewardError(f"params.base_url = {settings.base_url!r}: {one_line(error)}", hint="write it anew") from None
    except (httpx2.HTTPError, OSError) as error:
        return one_line(error), 0.0


def _tried(settings: Settings, known: list[str]) -> tuple[str, float] | None:
    """As `_away`, by a request to a model that the endpoint does not list: an alias may be known all the same."""
    body = {"model": settings.model, "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 1}
    path = f"{settings.base_url}/chat/completions"
    try:
        response = httpx2.post(path, json=body, headers=headers_of(settings), timeout=PROBE_SECONDS)
    except httpx2.TimeoutException:
        return None  # it works on it
    if response.status_code in AWAY:
        return _busy(response)
    _check_key(settings, response)
    if response.status_code == 404 or (response.status_code == 400 and "model" in response.text.lower()):
        raise RewardError(
            f"params.model = {settings.model!r}: {settings.base_url} does not know it (HTTP {response.status_code})",
            hint=f"it serves: {', '.join(known[:10])}",
        )
    return None


def _check_key(settings: Settings, response: Any) -> None:
    if response.status_code in (401, 403):
        raise RewardError(
            f"params.base_url = {settings.base_url!r}: the endpoint answers {response.status_code}",
            hint="name the environment variable with the right key: params.api_key_env",
        )


def _busy(response: Any) -> tuple[str, float]:
    return f"HTTP {response.status_code}", retry_after(response.headers.get("retry-after", ""))


def _models(response: Any) -> list[str]:
    """Names that the endpoint lists; [] if it lists none."""
    try:
        return [str(one["id"]) for one in response.json()["data"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
