"""The clips of `compose_motion`, on scans and photographs that are easily told apart."""

import numpy as np
import pytest

from attnlab.data import digits_motion
from attnlab.data.digits_motion import DigitsMotion
from attnlab.data.motion import TEMPLATES, compose_motion
from attnlab.data.sources import SPLITS

WHITE = np.full((3, 8, 8), 255, np.uint8)
BLACK = np.zeros((2, 40, 41), np.uint8)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def _boxes(clips: np.ndarray) -> np.ndarray:
    """Return (top, left, bottom, right) of the ink in every frame: [clip, frame, side]."""
    ink = clips[:, :, 0] > 0
    edges = []
    for axis in (3, 2):
        line = ink.any(axis=axis)
        size = line.shape[-1]
        edges.append((line.argmax(-1), size - line[..., ::-1].argmax(-1)))
    (top, bottom), (left, right) = edges
    return np.stack([top, left, bottom, right], axis=-1)


def _named(clips: np.ndarray, labels: np.ndarray) -> set[tuple[bytes, int]]:
    return {(clip.tobytes(), int(label)) for clip, label in zip(clips, labels, strict=True)}


def test_eight_classes_in_pairs() -> None:
    assert len(set(TEMPLATES)) == DigitsMotion.num_classes == 8
    assert all("[something]" in template for template in TEMPLATES)


def test_the_digit_moves_as_its_template_says(rng: np.random.Generator) -> None:
    clips, labels = compose_motion(rng, WHITE, BLACK, 1200, 5, 32)
    assert clips.shape == (1200, 5, 1, 32, 32)
    boxes = _boxes(clips)
    steps = np.diff(boxes, axis=1)  # [clip, step, side]
    travel = boxes[:, -1] - boxes[:, 0]
    size = boxes[..., 2:] - boxes[..., :2]
    for label, axis, sign in ((0, 1, 1), (1, 1, -1), (2, 0, -1), (3, 0, 1)):
        own = labels == label
        assert (sign * steps[own][..., axis] > 0).all()
        assert (abs(travel[own][:, axis]).min(), abs(travel[own][:, 1 - axis]).max()) == (8, 2)
        assert set(np.unique(size[own])) == set(range(11, 16))
        assert (size[own] == size[own][:, :1]).all()
        assert (boxes[own].min(), boxes[own].max()) == (0, 32)
    for label, sign in ((4, 1), (5, -1)):
        own = labels == label
        grown = sign * (size[own][:, -1] - size[own][:, 0])
        assert grown.min() >= 6
        assert set(np.unique(size[own][:, :: sign * 4][:, 0])) == {8, 9, 10}
        centre = (boxes[own][..., :2] + boxes[own][..., 2:]) / 2
        assert np.ptp(centre, axis=1).max() <= 1


def test_the_digit_vanishes_under_the_cover_and_comes_back(rng: np.random.Generator) -> None:
    clips, labels = compose_motion(rng, WHITE, BLACK, 400, 4, 32)
    ink = (clips > 0).sum(axis=(2, 3, 4))
    covering = ink[labels == 6]
    assert set(np.unique(covering[:, 0])) == {side**2 for side in range(11, 16)}
    assert (np.diff(covering, axis=1) <= 0).all()
    assert (covering[:, 2] < covering[:, 0]).all()
    assert (covering[:, -1] == 0).all()
    uncovering = ink[labels == 7][:, ::-1]
    assert sorted(uncovering.tolist()) == sorted(covering.tolist())


def test_covers_are_photographs_and_come_from_all_sides(rng: np.random.Generator) -> None:
    levels = np.array([100, 200], np.uint8)
    textures = np.broadcast_to(levels[:, None, None], (2, 34, 34))
    clips, labels = compose_motion(rng, 0 * WHITE, textures, 1600, 3, 32)
    covers = (
        clips[labels == 6][:, :, 0]
        != np.median(clips[labels == 6], axis=(1, 2, 3, 4))[:, None, None, None]
    )
    seen = covers[covers.any(axis=(1, 2, 3))]
    assert 70 < len(seen) < 130  # half of the backgrounds are the other photograph
    assert set(np.unique(clips)) == {60, 120}
    directions = set()
    for middle, last in seen[:, 1:]:
        step = np.argwhere(last).mean(axis=0) - np.argwhere(middle).mean(axis=0)
        directions.add(tuple(np.sign(step)))
    assert directions == {(0, 1), (0, -1), (1, 0), (-1, 0)}


def test_the_background_trembles_by_a_pixel_in_every_direction(rng: np.random.Generator) -> None:
    columns = np.broadcast_to(np.arange(0, 250, 5, dtype=np.uint8), (1, 50, 50))
    for textures in (columns, columns.transpose(0, 2, 1)):
        clips, labels = compose_motion(rng, 0 * WHITE, textures, 300, 6, 32)
        level = clips[labels < 6][..., 0, 0].squeeze(-1).astype(int) // 3  # 5 x 3 / 5 a pixel
        assert set(np.unique(level - level.min(axis=1, keepdims=True))) == {0, 1, 2}


@pytest.mark.parametrize("split", SPLITS)
def test_every_clip_has_its_reversal_in_the_paired_class(split: str) -> None:
    clips, labels = DigitsMotion(**{f"{split}_size": 88}).compose_split(split)
    here = {(clip.tobytes(), int(label)) for clip, label in zip(clips, labels, strict=True)}
    assert len(here) == 88
    assert {
        (clip[::-1].tobytes(), int(label) ^ 1) for clip, label in zip(clips, labels, strict=True)
    } == here
    assert set(np.bincount(labels)) == {11}
    assert (np.diff(labels.astype(int)) % 8 == 1).mean() < 0.3


def test_who_ignores_the_order_of_frames_names_half_of_the_clips_at_best() -> None:
    clips, labels = DigitsMotion(test_size=96).compose_split("test")
    names: dict[bytes, list[int]] = {}
    for clip, label in zip(clips, labels, strict=True):
        names.setdefault(b"".join(sorted(frame.tobytes() for frame in clip)), []).append(int(label))
    best = sum(max(np.bincount(labels)) for labels in names.values())
    assert best == len(clips) // 2


def test_an_odd_count_leaves_one_clip_alone(rng: np.random.Generator) -> None:
    clips, labels = compose_motion(rng, WHITE, BLACK, 13, 3, 32)
    assert (len(clips), len(labels)) == (13, 13)
    ((_, label),) = _named(clips, labels) - _named(clips[:, ::-1], labels ^ 1)
    assert label % 2 == 0


def test_each_split_shows_its_own_scans_and_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = {split: np.full((2, 8, 8), 150 + 30 * i, np.uint8) for i, split in enumerate(SPLITS)}
    parts = {split: np.full((1, 34, 34), 50 * i + 60, np.uint8) for i, split in enumerate(SPLITS)}
    monkeypatch.setattr(digits_motion, "load_scans", lambda split, seed: (scans[split], None))
    monkeypatch.setattr(digits_motion, "load_textures", parts.get)
    data = DigitsMotion(train_size=8, val_size=8, test_size=8)
    seen = [set(np.unique(data.compose_split(split)[0])) for split in SPLITS]
    assert seen == [{36, 150}, {66, 180}, {96, 210}]


def test_lengths_grow_with_the_side(rng: np.random.Generator) -> None:
    clips, labels = compose_motion(rng, WHITE, np.zeros((1, 70, 70), np.uint8), 800, 3, 64)
    boxes = _boxes(clips[labels == 0])
    assert set(np.unique(boxes[..., 2] - boxes[..., 0])) == set(range(22, 32))
    assert (boxes[:, -1, 1] - boxes[:, 0, 1]).min() in (16, 17)


def test_frames_and_seed_make_other_data_and_another_cache() -> None:
    sizes = {"train_size": 12, "val_size": 12, "test_size": 12}
    data, longer = DigitsMotion(**sizes), DigitsMotion(**sizes, frames=5)
    assert (data.input_shape, longer.input_shape) == ((8, 1, 32, 32), (5, 1, 32, 32))
    assert longer.compose_split("val")[0].shape == (12, 5, 1, 32, 32)
    assert data.cache_path("val") != longer.cache_path("val")
    again = DigitsMotion(**sizes).compose_split("val")
    assert all(map(np.array_equal, again, data.compose_split("val")))


def test_batches_are_normalised_clips_with_labels(tmp_path) -> None:
    data = DigitsMotion(train_size=16, val_size=9, test_size=8, batch_size=7, cache_dir=tmp_path)
    data.prepare_data()
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    pixels, labels = data.on_after_batch_transfer(batch, 0)[:2]
    assert pixels.shape == (7, 8, 1, 32, 32)
    expected = (data.compose_split("val")[0][:7] / 255 - data.mean) / data.std
    assert np.allclose(pixels.numpy(), expected, atol=1e-5)
    assert labels.tolist() == data.compose_split("val")[1][:7].tolist()


@pytest.mark.parametrize(
    ("frames", "side", "message"),
    [
        (1, 32, "frames=1 must be at least 2, and side=32 from 16 to 38"),
        (8, 15, "frames=8 must be at least 2, and side=15 from 16 to 38"),
        (8, 39, "side=39 from 16 to 38"),
    ],
)
def test_sizes_that_cannot_be_are_named(
    rng: np.random.Generator, frames: int, side: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compose_motion(rng, WHITE, BLACK, 4, frames, side)


def test_a_clip_of_one_frame_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="frames=1 must be at least 2"):
        DigitsMotion(frames=1)
