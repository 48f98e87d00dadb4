"""Random erasing against timm's record, and what it fills in."""

import numpy as np
import pytest
import torch
from data.transforms.goldens import golden
from scipy import stats

from attnlab.data.batch.draws import keys
from attnlab.data.batch.erasing import RandomErasing
from attnlab.data.pixels import BatchTransform

HEIGHT, WIDTH = 61, 47


def _boxes(masks: torch.Tensor) -> np.ndarray:
    """Return (top, left, height, width) of each rectangular mask; zeros where it is empty."""
    rows, columns = masks.any(2).int(), masks.any(1).int()
    assert torch.equal(rows.sum(1) * columns.sum(1), masks.sum((1, 2)))
    sides = [rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)]
    return torch.stack(sides, 1).numpy()


def test_boxes_are_distributed_as_timms() -> None:
    ours = _boxes(RandomErasing().boxes(HEIGHT, WIDTH, torch.arange(20_000)))
    timms = golden("erasing").astype(int)
    shares = [np.bincount(boxes[:, 2] > 0, minlength=2) for boxes in (ours, timms)]
    assert stats.chi2_contingency(np.stack(shares)).pvalue > 1e-3
    ours, timms = (boxes[boxes[:, 2] > 0] for boxes in (ours, timms))
    statistics = {
        "area": lambda box: box[:, 2] * box[:, 3],
        "ratio": lambda box: np.log(box[:, 2] / box[:, 3]),
        "top": lambda box: box[:, 0],
        "left": lambda box: box[:, 1],
        "bottom": lambda box: HEIGHT - box[:, 0] - box[:, 2],
    }
    for name, statistic in statistics.items():
        assert stats.ks_2samp(statistic(ours), statistic(timms)).pvalue > 1e-3, name


def test_area_is_divided_among_the_boxes() -> None:
    erasing, seeds = RandomErasing(1, min_area=0.2, max_area=0.2, count=4), torch.arange(200)
    masks = [erasing.boxes(HEIGHT, WIDTH, seeds, box) for box in range(4)]
    for mask in masks:
        assert mask.float().mean((1, 2)).sub(0.05).abs().max() < 0.005
    assert not torch.equal(masks[0], masks[1])
    found, _ = erasing(torch.ones(200, 1, HEIGHT, WIDTH), torch.eye(200), seeds)
    assert torch.equal((found != 1)[:, 0], torch.stack(masks).any(0))


@pytest.mark.parametrize("frames", [(), (5,)])
@pytest.mark.parametrize("mode", ["pixel", "color", "const"])
def test_the_box_is_filled_and_the_rest_stays(mode: str, frames: tuple) -> None:
    erasing: BatchTransform = RandomErasing(0.5, mode=mode)
    pixels, seeds = torch.full((40, *frames, 3, 23, 29), 9.0), torch.arange(40) + 3
    targets = torch.randn(40, 7)
    found, labels = erasing(pixels.clone(), targets, seeds)
    assert labels is targets
    mask = erasing.boxes(23, 29, seeds)
    assert 10 < mask.any(2).any(1).sum() < 30
    assert torch.equal((found != 9).flatten(1, -3).all(1), mask)  # the same box in all frames
    assert torch.equal((found != 9).flatten(1, -3).any(1), mask)
    for sample, inside in zip(found, mask, strict=True):
        planes = sample[..., inside].flatten(0, -2)
        if not inside.any():
            continue
        if mode == "pixel":
            assert len(planes.unique()) > 0.99 * planes.numel()
        if mode == "color":
            assert torch.equal(planes, planes[:, :1].expand_as(planes))
            assert len(planes.unique()) == len(planes)
        if mode == "const":
            assert not planes.any()


@pytest.mark.parametrize("mode", ["pixel", "color"])
def test_noise_is_standard_normal(mode: str) -> None:
    pixels = torch.full((600, 3, 13, 11), 9.0)
    found, _ = RandomErasing(1, mode=mode)(pixels, torch.eye(600), torch.arange(600))
    drawn = found[found != 9].unique().numpy()
    assert stats.kstest(drawn, stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("mode", ["pixel", "color"])
def test_what_cuda_fills_in_is_what_the_cpu_does(mode: str) -> None:
    erasing, seeds = RandomErasing(1, mode=mode), torch.arange(30) + 7
    pixels = torch.full((30, 2, 3, 13, 11), 9.0)
    found, _ = erasing(pixels.clone(), torch.eye(30), seeds)
    start = keys(seeds, "erasing/fill0")[:, None, None]
    everywhere = erasing._values(pixels.view(30, 6, 143), start, torch.arange(143))
    mask = erasing.boxes(13, 11, seeds)[:, None, None]
    everywhere = everywhere.expand(30, 6, 143).view_as(pixels)
    assert torch.equal(found, torch.where(mask, everywhere, pixels))


def test_a_sample_is_changed_by_its_own_seed() -> None:
    pixels, seeds = torch.randn(30, 3, 13, 11), torch.arange(30) + 7
    whole, _ = RandomErasing(0.5)(pixels.clone(), torch.eye(30), seeds)
    part, _ = RandomErasing(0.5)(pixels[4:19].clone(), torch.eye(15), seeds[4:19])
    assert torch.equal(part, whole[4:19])
    other, _ = RandomErasing(0.5)(pixels.clone(), torch.eye(30), seeds + 1)
    assert not torch.equal(other, whole)


def test_boxes_that_never_fit_leave_the_sample_whole() -> None:
    erasing = RandomErasing(1, min_area=1, max_area=1)
    assert not erasing.boxes(7, 5, torch.arange(100)).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probability": 1.5}, r"probability=1.5 must be in \[0, 1\]"),
        ({"mode": "rand"}, "mode='rand' must be pixel, color or const"),
        ({"min_area": 0.5}, "min_area=0.5 and max_area=0.333"),
        ({"min_aspect": 3}, r"min_aspect=3 must be in \(0, 1\]"),
        ({"count": 0}, "count=0 must be at least 1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomErasing(**arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("mode", ["pixel", "color", "const"])
def test_cuda_erases_the_same(mode: str) -> None:
    pixels, seeds = torch.randn(64, 2, 3, 23, 29), torch.arange(64)
    erasing = RandomErasing(0.5, mode=mode, count=2)
    expected, _ = erasing(pixels.clone(), torch.eye(64), seeds)
    found, _ = erasing(pixels.cuda(), torch.eye(64).cuda(), seeds.cuda())
    different = (found.cpu() - expected).abs() > 1e-4
    assert different.float().mean() < 1e-4  # a box may round to another side
