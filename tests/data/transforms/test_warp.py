"""Warps against Pillow's, on an image that is not square."""

import numpy as np
import pytest
from PIL import Image

from attnlab.data.transforms import warp

HEIGHT, WIDTH = 43, 59
FILL = (1, 99, 254)
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
FACTORS = (0.0, 0.01373, -0.29318, 0.30174, 0.44931, -0.45117, 1.20713, -2.51129)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Noise beside saturated areas [H, W, 3]."""
    noise = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    noise[:20, 10:40] = 255
    noise[30:, 30:] = 0
    return noise


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(
    ("ours", "matrix"),
    [
        (warp.shear_x, lambda factor: (1, factor, 0, 0, 1, 0)),
        (warp.shear_y, lambda factor: (1, 0, 0, factor, 1, 0)),
        (warp.translate_x, lambda factor: (1, 0, factor * WIDTH, 0, 1, 0)),
        (warp.translate_y, lambda factor: (1, 0, 0, 0, 1, factor * HEIGHT)),
    ],
)
def test_warps_are_pillows(pixels: np.ndarray, factor: float, name: str, ours, matrix) -> None:
    expected = Image.fromarray(pixels).transform(
        (WIDTH, HEIGHT), Image.Transform.AFFINE, matrix(factor), FILTERS[name], fillcolor=FILL
    )
    found = ours(pixels.transpose(2, 0, 1), factor, name, FILL)
    difference = np.abs(found.astype(int) - np.asarray(expected).transpose(2, 0, 1))
    assert found.flags.c_contiguous
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.003  # single precision: whole numbers met from below


@pytest.mark.parametrize("degrees", [0.0, -0.3, 17.9, -30.0])
@pytest.mark.parametrize("name", FILTERS)
def test_rotations_are_pillows(pixels: np.ndarray, degrees: float, name: str) -> None:
    expected = Image.fromarray(pixels).rotate(degrees, FILTERS[name], fillcolor=FILL)
    found = warp.rotate(pixels.transpose(2, 0, 1), degrees, name, FILL)
    assert np.array_equal(found, np.asarray(expected).transpose(2, 0, 1))


def test_each_row_moves_by_its_own_shift(pixels: np.ndarray) -> None:
    frame = pixels.transpose(2, 0, 1).copy()
    shifts = np.zeros(HEIGHT)
    shifts[5], shifts[11] = 3, -2
    found = warp.shift_rows(frame, shifts, "bicubic", FILL)
    expected = frame.copy()
    expected[:, 5, :-3], expected[:, 5, -3:] = frame[:, 5, 3:], np.array(FILL)[:, None]
    expected[:, 11, 2:], expected[:, 11, :2] = frame[:, 11, :-2], np.array(FILL)[:, None]
    assert np.array_equal(found, expected)
