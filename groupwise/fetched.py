"""Remote pictures: fetched once, for data that asks for it, and kept. Knows no rows."""

import hashlib
from pathlib import Path

from groupwise.atomic import write_whole
from groupwise.errors import DataError
from groupwise.places import cache_folder

SECONDS = 20.0
"""Limit on connecting, and on each wait for more bytes."""
MOST_BYTES = 50_000_000
"""Bytes of a picture that is fetched, at most."""
_REDIRECTS = 5
_HINT = "save the picture and give its path"


def fetched(url: str) -> Path:
    """The file of a remote picture, under the cache's folder by the hash of its URL; fetched if it is not there yet.

    A run that is resumed thus sees the same picture. Raises DataError if it cannot be fetched, or is too large.
    """
    kept = cache_folder() / "pictures" / hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    if not kept.is_file():
        data = _body(url)
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, data)
        except OSError as error:
            raise DataError(
                f"{kept}: a fetched picture cannot be kept: {error.strerror}", hint="set GROUPWISE_CACHE"
            ) from None
    return kept


def _body(url: str) -> bytes:
    import httpx2

    try:
        client = httpx2.Client(timeout=SECONDS, follow_redirects=True, max_redirects=_REDIRECTS)
        with client, client.stream("GET", url) as response:
            if response.status_code != 200:
                raise DataError(f"{url} answers {response.status_code} {response.reason_phrase}", hint=_HINT)
            found = bytearray()
            for piece in response.iter_bytes():
                found += piece
                if len(found) > MOST_BYTES:
                    raise DataError(f"{url}: more than {MOST_BYTES:,} bytes", hint=_HINT)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        raise DataError(f"{url} cannot be fetched: {error or type(error).__name__}", hint=_HINT) from None
    return bytes(found)
