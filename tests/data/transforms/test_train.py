"""What training sees: one draw for all frames, by the generator alone."""

import pickle

import numpy as np
import pytest
import torch

from attnlab.data.streamed import SampleTransform
from attnlab.data.transforms.crop import random_resized_box, resize, to_planes
from attnlab.data.transforms.train import TrainTransform

EVERYTHING = {
    "size": 23,
    "auto_augment": "rand-m9-n4-mstd0.5-inc1",
    "color_jitter": 0.4,
    "simclr_jitter": 0.3,
    "interpolation": "random",
}


@pytest.fixture
def clip() -> np.ndarray:
    """Five frames without anything in common."""
    return np.random.default_rng(2).integers(0, 256, (5, 41, 53, 3)).astype(np.uint8)


def test_all_frames_share_one_draw(clip: np.ndarray) -> None:
    transform: SampleTransform = TrainTransform(**EVERYTHING)
    for seed in range(30):
        found = transform(clip, np.random.default_rng(seed))
        assert found.shape == (5, 3, 23, 23)
        assert found.is_contiguous()
        for frame, expected in zip(clip, found, strict=True):
            alone = transform(frame[None], np.random.default_rng(seed))[0]
            assert torch.equal(alone, expected)


def test_an_empty_policy_is_none(clip: np.ndarray) -> None:
    found, expected = (
        TrainTransform(19, auto_augment=policy)(clip, np.random.default_rng(4))
        for policy in ("", None)
    )
    assert torch.equal(found, expected)


def test_workers_may_be_sent_a_pickle(clip: np.ndarray) -> None:
    """As all are where processes are spawned: by macOS, Windows and Python 3.14."""
    transform = TrainTransform(**EVERYTHING)
    sent = pickle.loads(pickle.dumps(transform))
    for seed in range(9):
        found, expected = (each(clip, np.random.default_rng(seed)) for each in (sent, transform))
        assert torch.equal(found, expected)


def test_the_same_seed_gives_the_same_bytes_whatever_came_before(clip: np.ndarray) -> None:
    transform = TrainTransform(**EVERYTHING)
    first = [transform(clip, np.random.default_rng(seed)) for seed in range(20)]
    again = [TrainTransform(**EVERYTHING)(clip, np.random.default_rng(seed)) for seed in range(20)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({found.numpy().tobytes() for found in first}) == 20


def test_without_augmentation_it_is_a_resized_crop_and_a_flip(clip: np.ndarray) -> None:
    transform = TrainTransform(size=19, scale=(0.2, 0.5), ratio=(0.9, 1.3))
    flips = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        box = random_resized_box(41, 53, (0.2, 0.5), (0.9, 1.3), rng)
        crop = resize(clip, (19, 19), box)
        found = transform(clip, np.random.default_rng(seed))
        flipped = torch.equal(found, torch.from_numpy(to_planes(crop, flip=True)))
        assert flipped or torch.equal(found, torch.from_numpy(to_planes(crop)))
        flips += flipped
    assert 10 < flips < 30


@pytest.mark.parametrize(("flip", "step"), [(0.0, 1), (1.0, -1)])
def test_flips_happen_never_or_always(clip: np.ndarray, flip: float, step: int) -> None:
    transform = TrainTransform(size=41, scale=(1, 1), ratio=(53 / 41, 53 / 41), flip=flip)
    found = transform(clip, np.random.default_rng(0))
    expected = to_planes(resize(clip, (41, 41)))[..., ::step]
    assert np.array_equal(found.numpy(), expected)


def test_each_augmentation_changes_something(clip: np.ndarray) -> None:
    plain = TrainTransform(size=23)(clip, np.random.default_rng(1))
    for name in ("auto_augment", "color_jitter", "simclr_jitter"):
        value = "rand-m9-n2-p1-inc1" if name == "auto_augment" else 0.9
        changed = TrainTransform(size=23, **{name: value})(clip, np.random.default_rng(1))
        assert not torch.equal(changed, plain), name


def test_files_that_may_not_be_written_are_no_matter(clip: np.ndarray) -> None:
    transform = TrainTransform(size=23, scale=(1, 1), ratio=(53 / 41, 53 / 41))
    expected = transform(clip, np.random.default_rng(3))
    clip.flags.writeable = False
    assert torch.equal(transform(clip, np.random.default_rng(3)), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size=0 must be at least 1"),
        ({"flip": 1.5}, r"flip=1.5 must be in \[0, 1\]"),
        ({"scale": (0.5, 0.1)}, "scale="),
        ({"ratio": (2, 1)}, "ratio="),
        ({"auto_augment": "original"}, "policy='original' must"),
        ({"color_jitter": -0.1}, "brightness=-0.1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainTransform(**arguments)
