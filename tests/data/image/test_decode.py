"""Every kind of file that ImageNet's folders are known to hold, and those that downloads leave."""

import io
import warnings
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from attnlab.data.image.decode import decode
from attnlab.data.streamed import UnreadableSampleError


def photo(height: int = 37, width: int = 53) -> Image.Image:
    """Smooth colours, so that chroma subsampling and colour spaces show in the values."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def by_pillow(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


ORDINARY = {
    "4:2:0": encode(photo()),
    "4:4:4": encode(photo(), subsampling=0, quality=95),
    "progressive": encode(photo(), progressive=True, quality=40),
    "grey": encode(photo().convert("L")),
    "one pixel": encode(photo(1, 1)),
}


@pytest.mark.parametrize("content", ORDINARY.values(), ids=ORDINARY.keys())
def test_ordinary_jpegs_are_pillows_to_the_bit_without_pillow(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = by_pillow(content)
    monkeypatch.setattr(Image, "open", None)
    pixels = decode(content)
    assert (pixels.dtype, pixels.shape) == (np.uint8, expected.shape)
    np.testing.assert_array_equal(pixels, expected)


def _ycck() -> bytes:
    content = bytearray(encode(photo().convert("CMYK")))
    marker = content.index(b"\xff\xee\x00\x0eAdobe")
    content[marker + 15] = 2  # the transform byte: YCCK instead of CMYK
    return bytes(content)


def _broken_exif() -> bytes:
    tags = Image.Exif()
    tags[274] = 6  # an orientation, which must not turn the image
    content = bytearray(encode(photo(), exif=tags))
    start = content.index(b"Exif")
    content[start + 10 : start + 14] = b"\xff" * 4
    return bytes(content)


def _damaged_in_the_middle() -> bytes:
    content = bytearray(encode(photo()))
    content[900:905] = b"\xff\x00\x12\xff\xd3"
    with pytest.raises(ValueError, match="Corrupt JPEG"):
        simplejpeg.decode_jpeg(bytes(content))
    return bytes(content)


ODD = {
    "CMYK": encode(photo().convert("CMYK")),
    "YCCK": _ycck(),
    "PNG named JPEG": encode(photo(), "PNG"),
    "palette with transparency": encode(photo().convert("P"), "PNG", transparency=b"\x00\x07"),
    "grey PNG": encode(photo().convert("L"), "PNG"),
    "broken EXIF": _broken_exif(),
    "damaged in the middle": _damaged_in_the_middle(),
    "bytes after the end": encode(photo()) + b"padding",
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_odd_files_are_what_pillow_makes_of_them(content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = by_pillow(content)
    pixels = decode(content)
    assert pixels.shape == (37, 53, 3)
    np.testing.assert_array_equal(pixels, expected)


def test_cmyk_colours_are_not_inverted() -> None:
    difference = decode(ODD["CMYK"]).astype(int) - np.asarray(photo())
    assert np.abs(difference).mean() < 6


@pytest.mark.parametrize(
    ("kind", "keep"), [("JPEG", 0.05), ("JPEG", 0.5), ("JPEG", 0.999), ("PNG", 0.05), ("PNG", 0.9)]
)
def test_cut_files_are_refused(kind: str, keep: float) -> None:
    whole = encode(photo(), kind)
    cut = whole[: int(keep * len(whole))]
    with pytest.raises(UnreadableSampleError, match=f"cannot be decoded, {len(cut)} bytes: ."):
        decode(cut)


def test_cut_jpeg_is_named_truncated() -> None:
    with pytest.raises(UnreadableSampleError, match="truncated"):
        decode(ORDINARY["4:4:4"][:-300])


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><html>", b"\n <HTML><title>404", b'<?xml version="1.0"?>', b'{"e":1}']
)
def test_web_page_saved_as_image(page: bytes) -> None:
    with pytest.raises(UnreadableSampleError, match=r"web page.*starts with b'.*download it anew"):
        decode(page + b" not found" * 9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"empty file \(0 bytes\)"),
        (b"\xff\xd8\xff" + bytes(range(256)), "no image format .*starts with ff d8 ff 00 01 02"),
        (b"\x1f\x8b\x08\x00 an archive", "no image format .*starts with 1f 8b 08"),
    ],
    ids=["empty", "garbage behind a JPEG's first bytes", "archive"],
)
def test_other_files_are_refused_in_one_line(content: bytes, message: str) -> None:
    with pytest.raises(UnreadableSampleError, match=message) as caught:
        decode(content)
    assert "\n" not in str(caught.value)


def test_a_header_that_claims_too_many_pixels() -> None:
    content = bytearray(encode(photo()))
    size = content.index(b"\xff\xc0") + 5
    content[size : size + 4] = b"\xff\x00\xff\x00"
    with pytest.raises(UnreadableSampleError, match="4261478400 pixels"):
        decode(bytes(content))


def test_random_damage_is_refused_or_survived() -> None:
    rng = np.random.default_rng(0)
    shapes, messages = [], []
    for _ in range(200):
        content = bytearray([*ORDINARY.values(), *ODD.values()][rng.integers(13)])
        for place in rng.integers(len(content), size=3):
            content[place] = rng.integers(256)
        try:
            shapes.append(decode(bytes(content)).ndim)
        except UnreadableSampleError as error:
            messages.append(str(error))
    assert set(shapes) == {3}
    assert len(messages) > 20
    assert not any("\n" in message for message in messages)
