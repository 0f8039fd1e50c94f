"""Pictures as pixels: checked, opened, made small. The one file that knows Pillow; knows no rows and no models.

A picture is one still image in RGB. Its EXIF orientation is applied. What is transparent shows white, as in Idefics's
and Llama's processors and vLLM; 16-bit grey is brought to 8 bits. Animations, and floats and 32-bit grey, which have
no agreed range, are refused.
"""

import base64
import hashlib
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from groupwise.data import Image
from groupwise.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as Drawing

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
"""What is read, by Pillow's names. Not EPS: Pillow hands it to another program."""
MAX_PIXELS = 178_956_970
"""Pixels beyond which Pillow takes a file for a decompression bomb."""
THUMBNAIL_SIDE = 192
"""Pixels of a thumbnail's longer side, at most."""
THUMBNAIL_BYTES = 16_384
"""Bytes of a thumbnail, at most."""
_KINDS = "PNG, JPEG, WebP, GIF, BMP, TIFF, PPM or AVIF"
_TAG = 0x0112  # EXIF's orientation
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""EXIF orientation -> Pillow's transposition that undoes it."""
_SERVED = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_QUALITIES = (80, 60, 40, 20, 10, 5)


def digest_of(data: bytes) -> str:
    """What a picture is known by: BLAKE2b of its file's bytes, 24 hex digits."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def checked(image: Image, data: bytes, place: str) -> Image:
    """The picture with its size, if it is a whole one, from its header and its end. data: its file's bytes.

    PNG: the checksums of all chunks; JPEG: its end marker; WebP: its length. Other formats, and whatever fails this,
    are decoded. Raises DataError, beginning with `place`, for what `opened` would refuse, but for damage inside a JPEG
    or WebP, which only decoding finds.
    """
    found = _header(data, place)
    size = _turned_size(found, data)
    sound = _SOUND.get(str(found.format))
    if sound is None or not sound(data):
        _decoded(found, place)
    return replace(image, size=size)


def size_of(image: Image) -> tuple[int, int]:
    """Width and height in pixels, turned as EXIF says, from the header alone. Raises DataError as `opened` does."""
    if image.size is not None:
        return image.size
    data = read(image)
    return _turned_size(_header(data, image.name), data)


def opened(image: Image) -> "Drawing":
    """The picture in RGB, turned as EXIF says.

    Raises DataError if its file is gone, has changed, is broken, or is none of FORMATS; ConfigError without Pillow.
    """
    data = read(image)
    found = _header(data, image.name)
    turn = _TURNS.get(_orientation(found, data))
    _decoded(found, image.name)
    return _rgb(found if turn is None else found.transpose(_pillow().Transpose(turn)))


def thumbnail(image: Image) -> bytes:
    """A small copy, PNG if that has at most half of THUMBNAIL_BYTES, else JPEG. Raises as `opened` does."""
    data = read(image)
    found = _header(data, image.name)
    turn = _TURNS.get(_orientation(found, data))
    if found.mode == "RGB":
        found.draft("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE))  # a JPEG is decoded small
    _decoded(found, image.name)
    small = _rgb(found)
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    if turn is not None:
        small = small.transpose(_pillow().Transpose(turn))
    drawn = _encoded(small, "PNG", optimize=True)
    if len(drawn) <= THUMBNAIL_BYTES // 2:
        return drawn
    sizes = (_encoded(small, "JPEG", quality=quality) for quality in _QUALITIES)
    return next(drawn for drawn in sizes if len(drawn) <= THUMBNAIL_BYTES)


def data_url(image: Image) -> str:
    """The picture for a model behind an endpoint: its own file if that is RGB as any server reads it, else a PNG.

    Raises as `opened` does."""
    data = read(image)
    found = _header(data, image.name)
    plain = found.format in _SERVED and found.mode == "RGB" and _TURNS.get(_orientation(found, data)) is None
    kind = _SERVED[str(found.format)] if plain and not found.has_transparency_data else "image/png"
    if kind == "image/png" and not (plain and found.format == "PNG"):
        data = _encoded(opened(image), "PNG")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def own_url(image: Image) -> str:
    """The picture's own file as a data: URL. Raises as `opened` does."""
    data = read(image)
    kind = _pillow().MIME.get(_header(data, image.name).format, "application/octet-stream")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def png_of(drawing: "Drawing", place: str) -> bytes:
    """A picture in memory as a PNG file, in RGB and turned as its EXIF says. Raises DataError."""
    turn = _TURNS.get(_orientation(drawing, b"eXIf"))
    _check_mode(drawing, place)
    _decoded(drawing, place)
    return _encoded(_rgb(drawing if turn is None else drawing.transpose(_pillow().Transpose(turn))), "PNG")


def png_of_pixels(pixels: "np.ndarray") -> bytes:
    """[height, width, 3] bytes of RGB as a PNG file. Raises ConfigError without Pillow."""
    return _encoded(_pillow().fromarray(pixels), "PNG")


def blank(size: tuple[int, int]) -> "Drawing":
    """A black picture of that width and height. Raises ConfigError without Pillow."""
    drawing: Drawing = _pillow().new("RGB", size)
    return drawing


def is_drawing(value: object) -> bool:
    """True for a picture in memory: Pillow's."""
    return any(kind.__module__.startswith("PIL.") for kind in type(value).__mro__) and hasattr(value, "mode")


def read(image: Image) -> bytes:
    """The bytes of a picture's file. Raises DataError if it is gone or has others than when it was found."""
    if image.data is not None:
        return image.data
    if image.file is None:
        raise DataError(f"picture {image.name}: its file is not known, only its digest", hint="give the file again")
    try:
        data = Path(image.file).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"picture {image.file}: {reason}", hint="put the file back") from None
    if image.digest and digest_of(data) != image.digest:
        raise DataError(f"picture {image.file}: not the file that it was", hint="put the file back, or start anew")
    return data


def _header(data: bytes, place: str) -> "Drawing":
    """The picture with nothing decoded. Raises DataError for what is no picture, or is none of those that are read."""
    pillow = _pillow()
    try:
        found: Drawing = pillow.open(BytesIO(data), formats=FORMATS)
        width, height = found.size
        frames = 1 if found.format == "MPO" else _frames(found)
    except pillow.DecompressionBombError:
        raise DataError(f"{place}: more than {MAX_PIXELS} pixels", hint="save it smaller") from None
    except Exception as error:  # whatever a format's reader raises on bytes that are not its own
        what = f"it begins with {data[:12]!r}" if isinstance(error, pillow.UnidentifiedImageError) else error
        raise DataError(f"{place}: not a picture that can be read: {what}", hint=f"save it as {_KINDS}") from None
    if width * height > MAX_PIXELS:
        raise DataError(f"{place}: {width} x {height} pixels, more than {MAX_PIXELS}", hint="save it smaller")
    if frames > 1:
        raise DataError(f"{place}: {found.format} of several frames", hint="save the one that is meant as a file")
    _check_mode(found, place)
    return found


def _frames(found: "Drawing") -> int:
    animated = bool(getattr(found, "is_animated", False))  # n_frames would read all of them
    found.seek(0)
    return 2 if animated else 1


def _check_mode(found: "Drawing", place: str) -> None:
    if found.mode in ("I", "F", "LAB"):
        what = {"I": "32-bit grey", "F": "floats", "LAB": "Lab colours"}[found.mode]
        raise DataError(f"{place}: pixels are {what}, of no agreed range", hint="save it with 8 bits in RGB or grey")


def _decoded(found: "Drawing", place: str) -> None:
    try:
        found.load()
    except Exception as error:
        raise DataError(f"{place}: a broken picture: {error}", hint="save or copy the file again") from None


def _orientation(found: "Drawing", data: bytes) -> int:
    """EXIF's, 1 to 8; 1 where there is none or it cannot be read, and for a TIFF, which Pillow turns by itself."""
    if found.format == "TIFF":
        return 1
    if found.format == "PNG" and b"eXIf" not in data and "exif" not in found.info:
        return 1  # getexif() would decode the picture to look behind it
    try:
        return int(found.getexif().get(_TAG, 1))
    except Exception:  # a broken block of EXIF turns nothing, as in a viewer
        return 1


def _turned_size(found: "Drawing", data: bytes) -> tuple[int, int]:
    width, height = found.size
    return (height, width) if _orientation(found, data) in (5, 6, 7, 8) else (width, height)


def _rgb(found: "Drawing") -> "Drawing":
    if found.mode.startswith("I;16"):
        import numpy as np  # where it is needed: every reward function's process imports this file

        grey = (np.asarray(found).astype(np.uint16) >> 8).astype(np.uint8)
        return _pillow().fromarray(grey).convert("RGB")
    if not found.has_transparency_data:
        return found.convert("RGB")
    shown = found.convert("RGBA")
    white = _pillow().new("RGBA", shown.size, "white")
    white.alpha_composite(shown)
    return white.convert("RGB")


def _encoded(drawing: "Drawing", kind: str, **settings: object) -> bytes:
    buffer = BytesIO()
    drawing.save(buffer, kind, **settings)
    return buffer.getvalue()


def _whole_png(data: bytes) -> bool:
    """All chunks up to IEND, each with its checksum."""
    start = 8
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4])
        if data[end : end + 4] != zlib.crc32(memoryview(data)[start + 4 : end]).to_bytes(4):
            return False
        if data[start + 4 : start + 8] == b"IEND":
            return True
        start = end + 4
    return False


def _whole_jpeg(data: bytes) -> bool:
    """An end marker behind the start of a scan: within a scan no such bytes occur, in a preview before it they may."""
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF and data[start + 1] != 0xDA:
        start += 2 + int.from_bytes(data[start + 2 : start + 4])
    return data.find(b"\xff\xd9", start) >= 0


def _whole_webp(data: bytes) -> bool:
    return len(data) >= 8 + int.from_bytes(data[4:8], "little")


_SOUND: Mapping[str, Callable[[bytes], bool]] = {
    "PNG": _whole_png,
    "JPEG": _whole_jpeg,
    "MPO": _whole_jpeg,
    "WEBP": _whole_webp,
}
"""By format: whether a file's end is there, told without decoding it."""


@cache
def _pillow() -> ModuleType:
    try:
        import PIL.Image
    except ImportError as error:
        hint = 'pip install "groupwise[vision]"; without pictures: ignore_columns: [images]'
        raise ConfigError(f"pictures: the package pillow cannot be imported: {error}", hint=hint) from None
    # Beyond half of MAX_PIXELS it warns; a scan of 10,000 x 10,000 is no bomb.
    warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)
    return PIL.Image
