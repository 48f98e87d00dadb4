"""Every change of colour against Pillow's, byte for byte."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from attnlab.data.transforms import recolour

FACTORS = (0.0, 0.1, 0.37, 0.9, 1.0, 1.13, 1.81, 2.0)


def _images() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (53, 61, 3)).astype(np.uint8)
    narrow = (noise // 3 + np.array([0, 41, 170], np.uint8)).astype(np.uint8)
    skewed = (noise.astype(int) ** 3 // 255**2).astype(np.uint8)
    flat = np.broadcast_to(np.array([0, 255, 77], np.uint8), (53, 61, 3)).copy()
    flat[..., 1] = noise[..., 1]
    return {"noise": noise, "narrow": narrow, "skewed": skewed, "flat": flat, "tiny": noise[:2, :3]}


IMAGES = _images()


@pytest.fixture(params=IMAGES)
def pair(request: pytest.FixtureRequest) -> tuple[np.ndarray, Image.Image]:
    """A frame [3, H, W] and the same for Pillow."""
    pixels = IMAGES[request.param]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), Image.fromarray(pixels)


def _assert_same(frame: np.ndarray, image: Image.Image) -> None:
    assert np.array_equal(frame, np.asarray(image).transpose(2, 0, 1))


def test_invert(pair: tuple[np.ndarray, Image.Image]) -> None:
    _assert_same(recolour.invert(pair[0]), ImageOps.invert(pair[1]))


@pytest.mark.parametrize("bits", range(1, 9))
def test_posterize(pair: tuple[np.ndarray, Image.Image], bits: int) -> None:
    _assert_same(recolour.posterize(pair[0], bits), ImageOps.posterize(pair[1], bits))


@pytest.mark.parametrize("threshold", [0, 1, 26, 128, 255, 256])
def test_solarize(pair: tuple[np.ndarray, Image.Image], threshold: int) -> None:
    _assert_same(recolour.solarize(pair[0], threshold), ImageOps.solarize(pair[1], threshold))


@pytest.mark.parametrize("amount", [0, 7, 110, 128])
def test_solarize_add(pair: tuple[np.ndarray, Image.Image], amount: int) -> None:
    table = [min(255, level + amount) if level < 128 else level for level in range(256)]
    _assert_same(recolour.solarize_add(pair[0], amount), pair[1].point(table * 3))


def test_autocontrast(pair: tuple[np.ndarray, Image.Image]) -> None:
    _assert_same(recolour.autocontrast(pair[0]), ImageOps.autocontrast(pair[1]))


def test_equalize(pair: tuple[np.ndarray, Image.Image]) -> None:
    _assert_same(recolour.equalize(pair[0]), ImageOps.equalize(pair[1]))


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(
    ("ours", "pillows"),
    [
        (recolour.brightness, ImageEnhance.Brightness),
        (recolour.contrast, ImageEnhance.Contrast),
        (recolour.colour, ImageEnhance.Color),
        (recolour.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_blends(pair: tuple[np.ndarray, Image.Image], factor: float, ours, pillows) -> None:
    _assert_same(ours(pair[0], factor), pillows(pair[1]).enhance(factor))


def test_the_grey_levels_are_exact_for_all_colours_of_a_lattice() -> None:
    levels = np.array([0, 1, 2, 83, 127, 128, 211, 254, 255], np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
    expected = np.asarray(Image.fromarray(colours).convert("L"))
    assert np.array_equal(recolour.luma(colours.transpose(2, 0, 1)), expected)


def test_the_frame_itself_never_changes(pair: tuple[np.ndarray, Image.Image]) -> None:
    before = pair[0].copy()
    recolour.autocontrast(pair[0])
    recolour.equalize(pair[0])
    recolour.sharpness(pair[0], 1.7)
    recolour.colour(pair[0], 0.3)
    assert np.array_equal(pair[0], before)
