"""Boxes against timm's, resizing against Pillow's."""

import numpy as np
import PIL
import pytest
from data.transforms.goldens import golden
from PIL import Image
from scipy import stats

from attnlab.data.transforms.crop import (
    Box,
    check_ranges,
    random_resized_box,
    resize,
    resize_short_side,
    to_planes,
)

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def _frames(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, (*shape, 3)).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 90)])
def test_boxes_are_distributed_as_timms(rng: np.random.Generator, height: int, width: int) -> None:
    timms = golden(f"crops/{height}x{width}")
    ours = np.array([random_resized_box(height, width, SCALE, RATIO, rng) for _ in range(9000)])
    whole = width, round(width / RATIO[0])  # the box of the tall image when none of ten fits
    for boxes in (timms, ours):
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 0] + boxes[:, 2] <= height).all()
        assert (boxes[:, 1] + boxes[:, 3] <= width).all()
    statistics = {
        "area": lambda box: box[:, 2] * box[:, 3],
        "ratio": lambda box: np.log(box[:, 3] / box[:, 2]),
        "top": lambda box: box[:, 0],
        "left": lambda box: box[:, 1],
        "bottom": lambda box: height - box[:, 0] - box[:, 2],
    }
    for name, statistic in statistics.items():
        found = stats.ks_2samp(statistic(timms.astype(int)), statistic(ours))
        assert found.pvalue > 1e-3, name
    if height > width:
        falls = [(boxes[:, 3:1:-1] == whole).all(1) for boxes in (timms, ours)]
        error = (falls[0].var() / len(timms) + falls[1].var() / len(ours)) ** 0.5
        assert falls[0].mean() > 0.1
        assert abs(falls[0].mean() - falls[1].mean()) < 3.5 * error


def test_an_image_too_wide_falls_back_to_its_centre(rng: np.random.Generator) -> None:
    assert random_resized_box(12, 1201, (1, 1), RATIO, rng) == Box(0, (1201 - 16) // 2, 12, 16)
    assert random_resized_box(1201, 12, (1, 1), RATIO, rng) == Box((1201 - 16) // 2, 0, 16, 12)
    assert random_resized_box(11, 13, (0.999, 1), (1, 1), rng) == Box(0, 1, 11, 11)


def test_a_box_never_vanishes(rng: np.random.Generator) -> None:
    boxes = {random_resized_box(1, 2, (0.08, 1), RATIO, rng) for _ in range(300)}
    assert boxes == {Box(0, 0, 1, 1), Box(0, 1, 1, 1), Box(0, 0, 1, 2)}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (211, 307, (97, 89)),
        (37, 53, (97, 101)),
        (97, 61, (41, 131)),
        (149, 127, (97, 101)),
        (151, 127, (97, 101)),
    ],
)
def test_resizing_equals_pillows(
    rng: np.random.Generator, name: str, height: int, width: int, size: tuple[int, int]
) -> None:
    frames = _frames(rng, 2, height, width)
    for box in (None, Box(5, 3, height - 11, width - 17)):
        found = resize(frames, size, box, name)
        for before, after in zip(frames, found, strict=True):
            image = Image.fromarray(before)
            if box is not None:
                top, left, h, w = box
                image = image.crop((left, top, left + w, top + h))
            columns_first = image.height - size[0] > 2 * max(0, image.width - size[1])
            between = (image.width, size[0]) if columns_first else (size[1], image.height)
            expected = image.resize(between, FILTERS[name]).resize(size[::-1], FILTERS[name])
            if int(PIL.__version__.partition(".")[0]) >= 13:
                assert image.resize(size[::-1], FILTERS[name]) == expected
            difference = np.abs(after.astype(int) - np.asarray(expected))
            assert difference.mean() < 0.02
            assert difference.max() <= 2


def test_resizing_sees_nothing_outside_the_box(rng: np.random.Generator) -> None:
    frames, box = _frames(rng, 1, 31, 43), Box(7, 11, 13, 17)
    other = np.zeros_like(frames)
    inside = np.s_[:, 7:20, 11:28]
    other[inside] = frames[inside]
    assert np.array_equal(resize(frames, (5, 9), box), resize(other, (5, 9), box))


def test_frames_that_may_not_be_written_are_copied(rng: np.random.Generator) -> None:
    frames = _frames(rng, 1, 31, 43)
    expected = resize(frames, (5, 9))
    frames.flags.writeable = False
    assert np.array_equal(resize(frames, (5, 9)), expected)  # torch would warn


@pytest.mark.parametrize(
    ("shape", "expected"), [((41, 61), (32, 47)), ((67, 43), (49, 32)), ((7, 7), (32, 32))]
)
def test_the_long_side_is_rounded_down(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    frames = np.zeros((2, *shape, 3), np.uint8)
    assert resize_short_side(frames, 32).shape == (2, *expected, 3)


def test_planes_are_contiguous_and_mirrored(rng: np.random.Generator) -> None:
    frames = _frames(rng, 2, 5, 7)
    assert np.array_equal(to_planes(frames), frames.transpose(0, 3, 1, 2))
    assert np.array_equal(to_planes(frames, flip=True), frames.transpose(0, 3, 1, 2)[..., ::-1])
    assert to_planes(frames, flip=True).flags.c_contiguous


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (((0, 1), RATIO), r"scale=\(0, 1\) must be two ascending areas in \(0, 1\]"),
        (((0.5, 1.1), RATIO), "scale="),
        (((0.8, 0.7), RATIO), "scale="),
        (((1,), RATIO), "scale="),
        ((SCALE, (2, 1)), r"ratio=\(2, 1\) must be two ascending positive ratios"),
        ((SCALE, (0, 1)), "ratio="),
    ],
)
def test_bad_ranges_are_named(ranges: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_ranges(*ranges)
