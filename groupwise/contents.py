"""Pictures as messages carry them: found wherever they are given, digested and checked. Decodes none; knows no rows.

A picture is a path; a file:, data: or http: URL; base64; bytes; a picture in memory (Pillow's); or a mapping with one
of these, as Parquet's {"bytes", "path"} and the parts of OpenAI's, Anthropic's and transformers' messages.
"""

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from groupwise.data import Image
from groupwise.errors import DataError, excerpt
from groupwise.fetched import fetched
from groupwise.pictures import checked, digest_of, is_drawing, own_url, png_of

PICTURES = ("image", "image_url", "input_image")
"""Types of parts that are pictures: transformers' and Anthropic's, OpenAI's two."""
TEXTS = ("text", "input_text", "output_text")
"""Types of parts that are text."""
MOST_BYTES = 500_000_000
"""Bytes of a picture's file, at most."""
FORMS = 'give a path, a data: URL, or {"bytes": ..., "path": ...}'
_SOURCES = ("bytes", "image", "image_url", "url", "base64", "source", "path")
# detail: OpenAI's class of price; how large a model sees a picture is model.max_pixels's to say
_BESIDE = ("type", "cache_control", "detail", "media_type", "digest")
_BASE64 = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0A")
"""How base64 of a PNG, JPEG, GIF, WebP, BMP and TIFF begins."""


@dataclass(frozen=True)
class Place:
    """Where pictures may be. folder: that paths are relative to; None: no path is read. fetch: remote ones are fetched;
    else refused, with `remedy`."""

    folder: str | None
    fetch: bool = False
    remedy: str = "save the picture and give its path"


def image_of(given: Any, where: str, place: Place) -> Image:
    """The picture that is given. where: in words, for errors. Raises DataError if it is none, or not a whole one."""
    if isinstance(given, Mapping):
        return _of_mapping(given, where, place)
    if isinstance(given, bytes | bytearray):
        return _of_bytes(bytes(given), where)
    if is_drawing(given):
        return _of_bytes(png_of(given, where), where)
    if not isinstance(given, str) or not given.strip():
        raise DataError(f"{where} = {excerpt(given)}: no picture", hint=FORMS)
    if given[:5].lower() == "data:":
        return _of_bytes(_of_url(given, where), where)
    if given.lower().startswith(("http://", "https://")):
        if not place.fetch:
            raise DataError(f"{where} = {excerpt(given)}: not fetched", hint=place.remedy)
        return _of_remote(given, where)
    if given.startswith(_BASE64) and len(given) >= 64 and not _is_file(given, place):
        return _of_bytes(_decoded(given, where), where)
    if place.folder is None:
        raise DataError(f"{where} = {excerpt(given)}: paths are not read here", hint="give a data: URL")
    local = given
    if given.startswith("file:"):
        local = unquote(given.removeprefix("file:").removeprefix("//localhost").removeprefix("//"))
    return _of_file(Path(os.path.abspath(Path(place.folder) / local)), given, where)


def picture_in(part: Mapping[str, Any], where: str, place: Place) -> Image | None:
    """The picture of a part whose type is one of PICTURES; None where it names none."""
    if not any(_there(part.get(name)) for name in _SOURCES):
        _check_keys(part, where)
        return None
    return _of_mapping(part, where, place)


def part_of(image: Image) -> dict[str, str]:
    """A picture as a part that `picture_in` reads again from any folder: by its file, else with its bytes.

    Its digest is with it: a file that is another by then is refused."""
    source = image.file or own_url(image)
    return {"type": "image", "image": source, "digest": image.digest}


def parts_of(content: Sequence[Any], where: str, place: Place) -> list[str | Image]:
    """Text and pictures of a content that is a list of parts, texts or pictures in memory. Raises DataError."""
    return [_part(part, f"{where}[{number}]", place) for number, part in enumerate(content)]


def _part(part: Any, where: str, place: Place) -> str | Image:
    if isinstance(part, str | Image):
        return part
    if is_drawing(part):
        return image_of(part, where, place)
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if kind in TEXTS and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind not in PICTURES:
        raise DataError(f"{where}: a part of type {kind!r}", hint="give text or a picture")
    found = picture_in(part, where, place)
    if found is None:
        raise DataError(f"{where} = {excerpt(dict(part))}: names no picture", hint=FORMS)
    return found


def _of_mapping(given: Mapping[str, Any], where: str, place: Place) -> Image:
    found = _within(given, where, place)
    if given.get("digest") not in (None, "", found.digest):
        raise DataError(f"{where}: {found.name} is not the picture that it was", hint="put the file back")
    return found


def _within(given: Mapping[str, Any], where: str, place: Place) -> Image:
    if given.get("type") == "base64":  # Anthropic's source
        _check_keys(given, where, ("data",))
        return _of_bytes(_decoded(given.get("data"), where), where)
    _check_keys(given, where)
    there = [name for name in _SOURCES if _there(given.get(name))]
    if not there:
        raise DataError(f"{where} = {excerpt(dict(given))}: no picture", hint=FORMS)
    source = given[there[0]]
    if there[0] == "bytes":
        name = given.get("path") or given.get("url") or ""
        data = _decoded(source, where) if isinstance(source, str) else source
        return _of_bytes(data, where, reference=str(name))
    if len(there) > 1 and not (there[0] == "image" and _is_drawn(source)):
        raise DataError(f"{where}: both {there[0]} and {there[1]}", hint="give the picture once")
    if there[0] == "base64":
        return _of_bytes(_decoded(source, where), where)
    return image_of(source, where, place)


def _is_drawn(source: Any) -> bool:
    return is_drawing(source) or isinstance(source, bytes)


def _there(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and not value)


def _check_keys(given: Mapping[str, Any], where: str, more: Sequence[str] = ()) -> None:
    known = (*_SOURCES, *_BESIDE, *more)
    unread = next((key for key, value in given.items() if key not in known and _there(value)), None)
    if unread is not None:
        hint = "set model.min_pixels and model.max_pixels" if "pixels" in unread or "resized" in unread else "drop it"
        raise DataError(f"{where}.{unread} = {excerpt(given[unread])}: not read", hint=hint)


def _of_bytes(data: Any, where: str, reference: str = "") -> Image:
    if not isinstance(data, bytes):
        raise DataError(f"{where} = {excerpt(data)}: no bytes", hint=FORMS)
    if not data:
        raise DataError(f"{where}: a picture of no bytes", hint=FORMS)
    return checked(Image(reference, digest_of(data), data=data), data, where)


def _of_file(file: Path, given: str, where: str) -> Image:
    try:
        there = os.stat(file)
        if not file.is_file():
            raise DataError(f"{file}: not a file")
        found = _looked_at(str(file), given, there.st_mtime_ns, there.st_size)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{where} = {excerpt(given)}: {file}: {reason}", hint=FORMS) from None
    except DataError as error:
        raise DataError(f"{where} = {excerpt(given)}: {error.message}", hint=error.hint or FORMS) from None
    return found


@lru_cache(maxsize=10_000)
def _looked_at(file: str, given: str, _changed: int, size: int) -> Image:
    """A picture's file as it is, looked at once though many rows name it."""
    if size > MOST_BYTES:
        raise DataError(f"{file}: {size:,} bytes, more than {MOST_BYTES:,}", hint="save it smaller")
    data = Path(file).read_bytes()
    if not data:
        raise DataError(f"{file}: a picture of no bytes", hint="save or copy the file again")
    return checked(Image(given, digest_of(data), file=file), data, file)


def _of_remote(url: str, where: str) -> Image:
    try:
        file = fetched(url)
    except DataError as error:
        raise DataError(f"{where} = {excerpt(url)}: {error.message}", hint=error.hint) from None
    try:
        return _of_file(file, url, where)
    except DataError:  # such as a page of a server that is being mended: not to be kept
        file.unlink(missing_ok=True)
        raise


def _is_file(given: str, place: Place) -> bool:
    try:
        return place.folder is not None and len(given) < 4096 and (Path(place.folder) / given).is_file()
    except (OSError, ValueError):
        return False


def _of_url(url: str, where: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise DataError(f"{where} = {excerpt(url)}: no base64", hint='begin it with "data:image/png;base64,"')
    return _decoded(body, where)


def _decoded(text: Any, where: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (AttributeError, TypeError, binascii.Error, ValueError) as error:
        raise DataError(f"{where} = {excerpt(text)}: no base64: {error}", hint=FORMS) from None
