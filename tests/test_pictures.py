"""Pictures as pixels: each kind of file is read right or refused in one line, and most of it without decoding."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image as PIL
from PIL import ImageCms

from groupwise.data import Image
from groupwise.errors import ConfigError, DataError
from groupwise.pictures import (
    THUMBNAIL_BYTES,
    THUMBNAIL_SIDE,
    checked,
    digest_of,
    is_drawing,
    opened,
    png_of,
    size_of,
    thumbnail,
)
from tests.drawn import file_of


def of(data):
    return Image("", digest_of(data), data=data)


def noisy(size, kind, **how):
    buffer = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    PIL.fromarray(pixels).save(buffer, kind, **how)
    return buffer.getvalue()


def frames(kind, count=2):
    buffer = BytesIO()
    first, *rest = [PIL.new("RGB", (4, 4), (60 * n, 0, 0)) for n in range(count)]
    first.save(buffer, kind, save_all=True, append_images=rest)
    return buffer.getvalue()


def turned(kind, value, size=(6, 4)):
    """Left half red, right half blue, with an EXIF orientation."""
    drawing = PIL.new("RGB", size, "blue")
    drawing.paste("red", (0, 0, size[0] // 2, size[1]))
    exif = PIL.Exif()
    exif[0x0112] = value
    buffer = BytesIO()
    drawing.save(buffer, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


GREY16 = PIL.fromarray(np.full((4, 6), 0x80FF, np.uint16))


def keyed():
    """A palette of black alone, which is transparent."""
    drawing = PIL.new("P", (6, 4), 0)
    drawing.putpalette([0, 0, 0, 9, 9, 9])
    buffer = BytesIO()
    drawing.save(buffer, "PNG", transparency=0)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "pixel"),
    [
        (file_of(), (255, 0, 0)),
        (file_of(kind="BMP"), (255, 0, 0)),
        (file_of(kind="TIFF"), (255, 0, 0)),
        (file_of(kind="GIF"), (255, 0, 0)),
        (file_of(kind="PPM"), (255, 0, 0)),
        (file_of(kind="WEBP", lossless=True), (255, 0, 0)),
        (file_of("L", color=90), (90, 90, 90)),
        (file_of("1", color=1), (255, 255, 255)),
        (file_of("CMYK", color=(0, 0, 0, 0), kind="JPEG"), (255, 255, 255)),
        (file_of("RGBA", color=(0, 0, 0, 0)), (255, 255, 255)),  # transparent black shows white
        (file_of("RGBA", color=(0, 0, 0, 255)), (0, 0, 0)),
        (file_of("RGBA", color=(200, 0, 0, 127)), (228, 128, 128)),  # 200*127/255 + 255*128/255 = 227.6; 128
        (file_of("LA", color=(0, 0)), (255, 255, 255)),
        (keyed(), (255, 255, 255)),
        (file_of("RGB", color=(1, 2, 3), transparency=(1, 2, 3)), (255, 255, 255)),
        (png_of(GREY16, "p"), (128, 128, 128)),  # 0x80ff >> 8
    ],
)
def test_a_picture_is_read_in_rgb_and_what_is_transparent_shows_white(data, pixel):
    found = checked(of(data), data, "p")
    drawing = opened(found)
    assert (drawing.mode, drawing.size, found.size, drawing.getpixel((1, 1))) == ("RGB", (6, 4), (6, 4), pixel)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(("value", "red_at"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")])
def test_exif_turns_the_picture_its_size_and_its_thumbnail(kind, value, red_at):
    data = turned(kind, value, (64, 32))
    upright = (64, 32) if value in (1, 3) else (32, 64)
    assert checked(of(data), data, "p").size == size_of(of(data)) == upright
    small = PIL.open(BytesIO(thumbnail(of(data)))).convert("RGB")
    for drawing in (opened(of(data)), small):
        width, height = drawing.size
        assert drawing.size == upright
        at = {"left": (2, 9), "right": (width - 3, 9), "top": (9, 2), "bottom": (9, height - 3)}[red_at]
        red, _, blue = drawing.getpixel(at)
        assert red > 200 > 60 > blue


def test_exif_behind_the_pixels_of_a_png_and_a_broken_block_of_it():
    data = turned("PNG", 6)
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4])]
    moved = data.replace(chunk, b"")
    moved = moved[:-12] + chunk + moved[-12:]
    assert size_of(of(moved)) == opened(of(moved)).size == (4, 6)
    broken = turned("JPEG", 6).replace(b"Exif\0\0MM\0*", b"Exif\0\0??\0*").replace(b"Exif\0\0II*\0", b"Exif\0\0??*\0")
    assert size_of(of(broken)) == opened(of(broken)).size == (6, 4)


PHOTO = noisy((40, 30), "JPEG")
LARGE = file_of("1", (15_000, 15_000), 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"just some text", "not a picture that can be read: it begins with b'just some te'"),
        (b"", "not a picture that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "save it as PNG, JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture that can be read"),
        (b"\x89PNG\r\n\x1a\n", "not a picture that can be read"),
        (noisy((40, 30), "PNG")[:-60], "a broken picture"),
        (noisy((40, 30), "PNG")[:40], "not a picture that can be read"),
        (PHOTO[: len(PHOTO) // 2], "a broken picture: .*truncated"),
        (noisy((40, 30), "WEBP")[:-40], "."),
        (noisy((40, 30), "BMP")[:-40], "a broken picture"),
        (noisy((40, 30), "TIFF")[:-400], "."),
        (noisy((40, 30), "GIF")[:-300], "a broken picture"),
        (frames("GIF"), "GIF of several frames; save the one"),
        (frames("PNG"), "PNG of several frames"),
        (frames("WEBP"), "WEBP of several frames"),
        (frames("TIFF"), "TIFF of several frames"),
        (file_of("F", color=0.5, kind="TIFF"), "pixels are floats"),
        (file_of("I", color=70_000, kind="TIFF"), "pixels are 32-bit grey"),
        (LARGE, "more than 178956970 pixels; save it smaller|15000 x 15000 pixels"),
    ],
)
def test_what_is_no_whole_still_picture_is_refused_when_it_is_found(data, message):
    with pytest.raises(DataError, match=rf"^q\.jsonl:3: images: .*{message}"):
        checked(of(data), data, "q.jsonl:3: images")
    assert len(data) < 100_000  # the bomb too, so that only its header can tell


def test_a_flipped_byte_within_a_png_is_found_without_decoding_it():
    data = bytearray(noisy((40, 30), "PNG"))
    data[len(data) // 2] ^= 1
    with pytest.raises(DataError, match="broken"):
        checked(of(bytes(data)), bytes(data), "p")


def test_a_jpeg_cut_behind_its_preview_is_found_though_the_preview_has_an_end():
    preview = b"\xff\xe1" + (len(PHOTO) + 2).to_bytes(2) + PHOTO
    data = PHOTO[:2] + preview + PHOTO[2:]
    assert checked(of(data), data, "p").size == (40, 30)
    with pytest.raises(DataError, match="broken"):
        checked(of(data[:-200]), data[:-200], "p")
    behind = data + b"a maker's trailer"
    assert checked(of(behind), behind, "p").size == (40, 30)


@pytest.mark.parametrize(
    "data", [noisy((400, 300), "JPEG"), noisy((3000, 2), "PNG"), file_of(), file_of("RGBA", (900, 300), (9, 9, 9, 0))]
)
def test_a_thumbnail_is_small_in_sides_and_bytes_and_never_larger_than_the_picture(data):
    small = thumbnail(of(data))
    drawing = PIL.open(BytesIO(small))
    whole = opened(of(data))
    assert len(small) <= THUMBNAIL_BYTES
    assert max(drawing.size) == min(THUMBNAIL_SIDE, max(whole.size))


def test_a_file_that_changed_or_went_since_it_was_found_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(file_of())
    image = Image("a.png", digest_of(file_of()), file=str(path))
    assert opened(image).size == (6, 4)
    path.write_bytes(file_of(color="blue"))
    with pytest.raises(DataError, match="not the file that it was"):
        opened(image)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.png: No such file or directory; put the file back"):
        opened(image)
    with pytest.raises(DataError, match="its file is not known"):
        opened(Image("a.png", image.digest))


def test_a_drawing_in_memory_becomes_a_file_in_rgb():
    profile = ImageCms.createProfile("sRGB")
    assert profile is not None
    for mode, color in (("CMYK", (0, 255, 255, 0)), ("RGBA", (255, 0, 0, 255)), ("YCbCr", (76, 84, 255))):
        drawing = PIL.new(mode, (3, 2), color)
        data = png_of(drawing, "p")
        red, green, blue = opened(of(data)).getpixel((0, 0))
        assert is_drawing(drawing)
        assert (red > 250, green < 5, blue < 5) == (True, True, True)
    assert not is_drawing("a.png")
    with pytest.raises(DataError, match=r"^reply: pixels are floats"):
        png_of(PIL.new("F", (3, 2)), "reply")


def test_without_pillow_one_line_says_what_to_install(monkeypatch):
    from groupwise import pictures

    pictures._pillow.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(ConfigError, match=r'pillow cannot be imported: .*; pip install "groupwise\[vision\]"'):
        opened(of(file_of()))
    pictures._pillow.cache_clear()
