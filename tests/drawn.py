"""Small pictures for tests: files of any format that Pillow writes."""

from io import BytesIO
from typing import Any

from PIL import Image as PIL


def file_of(
    mode: str = "RGB", size: tuple[int, int] = (6, 4), color: Any = "red", kind: str = "PNG", **how: Any
) -> bytes:
    """The file's bytes of a picture in one colour. how: Pillow's settings of the format."""
    buffer = BytesIO()
    PIL.new(mode, size, color).save(buffer, kind, **how)
    return buffer.getvalue()
