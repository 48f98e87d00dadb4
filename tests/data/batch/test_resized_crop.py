"""Random-resized crop of whole batches, against Pillow and the crop of single samples."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from attnlab.data.batch.resized_crop import RandomResizedCrop
from attnlab.data.transforms.crop import random_resized_box

HEIGHT, WIDTH = 29, 37


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.8, 1.0)])
def test_crops_are_pillows(scale: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (40, HEIGHT, WIDTH, 3)).astype(np.uint8)
    seeds = torch.arange(40) * 17
    crop = RandomResizedCrop(scale)
    found = crop(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), seeds)
    boxes = torch.stack(crop.boxes(HEIGHT, WIDTH, seeds), 1).tolist()
    for image, (top, left, height, width), ours in zip(pixels, boxes, found, strict=True):
        box = (left, top, left + width, top + height)
        resized = Image.fromarray(image).crop(box).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        difference = np.abs(np.asarray(resized).transpose(2, 0, 1) - ours.numpy().astype(int))
        assert difference.mean() < 0.45  # Pillow rounds, and cuts overshoots, between directions
        assert np.quantile(difference, 0.97) <= 1


@pytest.mark.parametrize(("height", "width"), [(37, 53), (97, 19)])
def test_boxes_are_distributed_as_those_of_single_samples(height: int, width: int) -> None:
    crop = RandomResizedCrop()
    boxes = torch.stack(crop.boxes(height, width, torch.arange(9000)), 1).numpy()
    rng = np.random.default_rng(3)
    single = [random_resized_box(height, width, crop.scale, crop.ratio, rng) for _ in range(9000)]
    for ours, theirs in zip(boxes.T, np.array(single).T, strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
    assert (boxes[:, 0] + boxes[:, 2] <= height).all()
    assert (boxes[:, 1] + boxes[:, 3] <= width).all()


def test_the_whole_image_stays_as_it_is() -> None:
    pixels = torch.randint(0, 256, (3, 2, HEIGHT, WIDTH), dtype=torch.uint8)
    crop = RandomResizedCrop((1, 1), (WIDTH / HEIGHT, WIDTH / HEIGHT))
    assert torch.equal(crop(pixels, torch.arange(3)), pixels)


def test_bad_ranges_are_named() -> None:
    with pytest.raises(ValueError, match=r"scale=\(0, 1\) must"):
        RandomResizedCrop((0, 1))
