"""Crops, flips and holes of whole batches, by coordinates painted into the pixels."""

import numpy as np
import pytest
import torch
from scipy import stats

from attnlab.data.batch.geometry import Cutout, RandomCrop, RandomFlip

HEIGHT, WIDTH = 11, 13


def _coordinates(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images whose channels are row + 1, column + 1 and number of the image; and seeds."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    number = torch.arange(batch)[:, None, None].expand(-1, HEIGHT, WIDTH) % 256
    planes = [(rows + 1).expand_as(number), (columns + 1).expand_as(number), number]
    return torch.stack(planes, 1).byte(), torch.arange(batch) * 31 + 5


def test_crops_are_shifts_with_black_outside() -> None:
    pixels, seeds = _coordinates(1700)
    found = RandomCrop(padding=2)(pixels, seeds)
    assert found.shape == pixels.shape
    assert found.is_contiguous()
    middle = found[:, :2, HEIGHT // 2, WIDTH // 2].int() - torch.tensor([6, 7])
    counts = np.bincount((5 * middle[:, 0] + middle[:, 1] + 12).numpy(), minlength=25)
    assert stats.chisquare(counts).pvalue > 1e-3  # all 25 shifts
    for image, shifted, (down, right) in zip(pixels[:99], found, middle.tolist(), strict=False):
        expected = torch.zeros(3, HEIGHT + 4, WIDTH + 4, dtype=torch.uint8)
        expected[:, 2:-2, 2:-2] = image
        down, right = down + 2, right + 2
        assert torch.equal(shifted, expected[:, down : down + HEIGHT, right : right + WIDTH])


def test_half_of_the_images_are_mirrored() -> None:
    pixels, seeds = _coordinates(2000)
    found = RandomFlip()(pixels, seeds)
    mirrored = found[:, 1, 0, 0] == WIDTH
    assert abs(mirrored.float().mean() - 0.5) < 4 * 0.5 / 2000**0.5
    assert torch.equal(found[mirrored], pixels[mirrored].flip(-1))
    assert torch.equal(found[~mirrored], pixels[~mirrored])
    assert torch.equal(RandomFlip(0)(pixels, seeds), pixels)
    assert torch.equal(RandomFlip(1)(pixels, seeds), pixels.flip(-1))


def test_cutout_covers_one_square_centred_anywhere() -> None:
    pixels, seeds = _coordinates(3000)
    found = Cutout(size=5, fill=77)(pixels + 100, seeds)
    covered = (found == 77).all(1)
    assert torch.equal(found, torch.where(covered[:, None], 77, pixels + 100))
    for axis, side in ((2, HEIGHT), (1, WIDTH)):
        line = covered.any(axis)
        first = line.int().argmax(1)
        length = line.sum(1)
        centre = torch.where(first > 0, first + 2, length - 3)
        assert stats.chisquare(np.bincount(centre.numpy(), minlength=side)).pvalue > 1e-3
        assert torch.equal(length, (centre + 3).clamp(max=side) - (centre - 2).clamp(min=0))
    assert torch.equal(covered.sum((1, 2)), covered.any(1).sum(1) * covered.any(2).sum(1))


@pytest.mark.parametrize("transform", [RandomCrop(3), RandomFlip(), Cutout(4)])
def test_a_sample_is_changed_by_its_own_seed(transform) -> None:
    pixels, seeds = _coordinates(50)
    whole = transform(pixels, seeds)
    assert torch.equal(transform(pixels[7:19], seeds[7:19]), whole[7:19])
    assert not torch.equal(transform(pixels, seeds + 1), whole)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="padding=-1 must not be negative"):
        RandomCrop(-1)
    with pytest.raises(ValueError, match=r"probability=1.2 must be in \[0, 1\]"):
        RandomFlip(1.2)
    with pytest.raises(ValueError, match="size=-1 must not be negative"):
        Cutout(-1)
    with pytest.raises(ValueError, match=r"fill=256 must be in 0 .. 255"):
        Cutout(3, 256)
