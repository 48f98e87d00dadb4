"""The composers, on scans whose grey level tells their class: class k is uniformly 20 (k + 1)."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from attnlab.data.composer import compose_clutter, compose_pair, draw_balanced, enlarge, paste

LABELS = np.repeat(np.arange(10, dtype=np.uint8), np.arange(1, 11))
SCANS = np.broadcast_to((20 * (LABELS + 1))[:, None, None], (len(LABELS), 8, 8)).astype(np.uint8)
BLACK = np.zeros((1, 32, 32), np.uint8)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_enlarge_keeps_position_and_level() -> None:
    assert np.array_equal(enlarge(SCANS, 8), SCANS)
    assert np.array_equal(enlarge(SCANS, 13), np.repeat(SCANS[:, :1, :1], 169).reshape(-1, 13, 13))
    corner = np.zeros((1, 8, 8), np.uint8)
    corner[0, 0, 7] = 255
    assert np.unravel_index(enlarge(corner, 11)[0].argmax(), (11, 11)) == (0, 10)


def test_draw_balanced_reaches_every_scan(rng: np.random.Generator) -> None:
    chosen = draw_balanced(rng, LABELS, 2003)
    assert set(np.bincount(LABELS[chosen])) == {200, 201}
    assert set(chosen) == set(range(len(LABELS)))


def test_draw_balanced_copes_with_any_order(rng: np.random.Generator) -> None:
    shuffled = rng.permutation(LABELS)
    assert set(np.bincount(shuffled[draw_balanced(rng, shuffled, 1009)])) == {100, 101}


def test_paste_covers_exactly_the_window(rng: np.random.Generator) -> None:
    canvas = rng.integers(256, size=(3, 11, 13)).astype(np.uint8)
    patches = rng.integers(256, size=(3, 2, 5)).astype(np.uint8)
    top, left = np.array([0, 4, 9]), np.array([8, 3, 0])
    expected = canvas.copy()
    for image, patch, row, column in zip(expected, patches, top, left, strict=True):
        image[row : row + 2, column : column + 5] = patch
    paste(canvas, patches, top, left)
    assert np.array_equal(canvas, expected)


def _boxes(image: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Return (left, top, level, area) of the two 12-pixel boxes, from the left."""
    columns = np.flatnonzero(image.any(axis=0))
    edges = (columns[0], columns[-1] - 11)
    found = []
    for left in edges:
        rows, ink = np.flatnonzero(image[:, left]), image[:, left : left + 12]
        found.append((int(left), int(rows[0]), int(ink.max()), int((ink > 0).sum())))
    return found


def test_pair_is_named_after_its_left_digit(rng: np.random.Generator) -> None:
    images, labels = compose_pair(rng, SCANS, LABELS, 1999)
    boxes = np.array([_boxes(image[0]) for image in images])  # [image, digit, property]
    left, top, level, area = (boxes[..., i] for i in range(4))
    assert np.array_equal(level[:, 0], 20 * (labels.astype(int) + 1))
    assert (area == 144).all()
    assert set(left[:, 1] - left[:, 0]) == set(range(12, 21))
    assert (set(left[:, 0]), set(left[:, 1])) == (set(range(9)), set(range(12, 21)))
    assert set(top.ravel()) == set(range(21))
    assert abs(np.corrcoef(top.T)[0, 1]) < 0.1
    together = np.zeros((10, 10))
    np.add.at(together, (labels, level[:, 1] // 20 - 1), 1)
    assert together.min() >= 5  # of 20 expected: the right digit ignores the left one
    assert np.ptp(together.sum(axis=0)) <= 1


def _digit_box(image: np.ndarray, level: int) -> tuple[int, int, int]:
    """Return (side, top, left) of the largest square of one grey level."""
    for side in range(16, 10, -1):
        full = (sliding_window_view(image == level, (side, side))).all(axis=(2, 3))
        if full.any():
            return side, *(int(i) for i in np.argwhere(full)[0])
    raise AssertionError("no digit")


def test_clutter_is_named_after_its_digit_and_nothing_else_tells(rng: np.random.Generator) -> None:
    images, labels = compose_clutter(rng, SCANS, LABELS, BLACK, 2999)
    boxes = []
    fragment_levels = np.zeros((10, 10))
    for image, label in zip(images[:, 0], labels, strict=True):
        side, top, left = _digit_box(image, 20 * (int(label) + 1))
        boxes.append((side, top, left, top + side, left + side))
        image[top : top + side, left : left + side] = 0
        fragment_levels[label] += np.bincount(image[image > 0] // 20 - 1, minlength=10)
    boxes = np.array(boxes)
    assert set(boxes[:, 0]) == set(range(11, 16))
    assert (boxes[:, 1:3].min(), boxes[:, 3:].max()) == (0, 32)
    assert np.unique(boxes[:, 1]).size == np.unique(boxes[:, 2]).size == 22
    # The scans of class k are k + 1 of 55: so are the fragments', whatever the label.
    share = fragment_levels / fragment_levels.sum(axis=1, keepdims=True)
    assert np.abs(share - np.arange(1, 11) / 55).max() < 0.04  # 4 s.d.
    assert 50 < fragment_levels.sum() / len(images) < 125  # of 5 x 25 pixels, less what is covered


def test_clutter_shows_a_window_of_a_photograph_at_three_fifths(rng: np.random.Generator) -> None:
    textures = rng.integers(256, size=(2, 34, 37)).astype(np.uint8)
    images, _ = compose_clutter(rng, np.zeros_like(SCANS), LABELS, textures, 499)
    windows = sliding_window_view(textures, (32, 32), axis=(1, 2)).reshape(-1, 32 * 32)
    expected = {(window * 0.6 + 1e-9).astype(np.uint8).tobytes() for window in windows}
    assert {image.tobytes() for image in images} == expected


def test_ink_shows_where_it_is_brighter_than_the_photograph(rng: np.random.Generator) -> None:
    white = np.full((1, 32, 32), 255, np.uint8)
    images, labels = compose_clutter(rng, SCANS, LABELS, white, 97)
    assert images.min() == 153
    for image, label in zip(images[:, 0], labels, strict=True):
        assert (image == 20 * (int(label) + 1)).any() == (label >= 7)
