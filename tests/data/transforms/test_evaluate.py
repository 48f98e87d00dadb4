"""Test crops against timm's, and where several of them lie."""

import numpy as np
import pytest
from data.transforms.goldens import golden

from attnlab.data.transforms.evaluate import EvalTransform


def _frames(height: int, width: int, count: int = 1) -> np.ndarray:
    rng = np.random.default_rng(height)
    return rng.integers(0, 256, (count, height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(41, 61), (67, 43), (19, 23)])
def test_the_crop_is_timms(height: int, width: int) -> None:
    found = EvalTransform(28)(_frames(height, width), np.random.default_rng(0))
    assert found.shape == (1, 3, 28, 28)
    assert found.is_contiguous()
    difference = np.abs(found[0].numpy().astype(int) - golden(f"eval/{height}x{width}"))
    assert difference.mean() < 0.02
    assert difference.max() <= 1


def test_nothing_is_drawn() -> None:
    rng = np.random.default_rng(0)
    EvalTransform(5)(_frames(7, 11), rng)
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("upright", [False, True])
def test_three_crops_lie_along_the_long_side(upright: bool) -> None:
    frames = _frames(13, 31, count=2)
    if upright:
        frames = frames.swapaxes(1, 2).copy()
    views = EvalTransform(13, crop_ratio=1, crops=3)(frames, np.random.default_rng(0))
    assert views.is_contiguous()
    views = views.unflatten(0, (3, -1)).numpy()
    planes = frames.transpose(0, 3, 1, 2)
    for view, start in zip(views, (0, 9, 18), strict=True):
        part = np.s_[start : start + 13]
        assert np.array_equal(view, planes[:, :, part] if upright else planes[..., part])


def test_the_middle_crop_is_the_single_one() -> None:
    frames = _frames(29, 47, count=2)
    one = EvalTransform(11)(frames, np.random.default_rng(0))
    views = EvalTransform(11, crops=5)(frames, np.random.default_rng(0)).unflatten(0, (5, 2))
    assert (views[2] == one).all()
    assert not (views[1] == one).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size=0 and crops=1 must be at least 1"),
        ({"crops": 0}, "size=224 and crops=0 must be at least 1"),
        ({"crop_ratio": 1.01}, r"crop_ratio=1.01 must be in \(0, 1\]"),
        ({"crop_ratio": 0.0}, "crop_ratio=0.0 must"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvalTransform(**arguments)
