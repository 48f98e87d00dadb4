"""Random-resized crop of a whole batch of bytes at once, on its device."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from attnlab.data.batch.draws import Seeds, uniform
from attnlab.data.transforms.crop import TRIES, check_ranges

Pixels = UInt8[Tensor, "batch channels height width"]
Lengths = Int64[Tensor, "batch"]


class RandomResizedCrop:
    """Crops a random box and resizes it bicubically to the size of the image.

    The boxes are those of `attnlab.data.transforms.crop.random_resized_box`. Each direction is a
    matrix product with the weights of Pillow's antialiased filter; without Pillow's rounding
    between the two, bytes may differ from its own by 1.

    Args:
        scale: Least and largest area of the box, as a part of the image's.
        ratio: Least and largest width over height of the box.

    Raises:
        ValueError: A range is empty or not positive.
    """

    def __init__(
        self, scale: Sequence[float] = (0.08, 1.0), ratio: Sequence[float] = (3 / 4, 4 / 3)
    ) -> None:
        check_ranges(scale, ratio)
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)

    def __call__(self, pixels: Pixels, seeds: Seeds) -> Pixels:
        """Return the crops, of the size of `pixels`."""
        height, width = pixels.shape[2:]
        top, left, h, w = self.boxes(height, width, seeds)
        rows, columns = _filter(top, h, height), _filter(left, w, width)
        resized = rows[:, None] @ pixels.float() @ columns.transpose(1, 2)[:, None]
        return resized.round_().clamp_(0, 255).byte()

    def boxes(
        self, height: int, width: int, seeds: Seeds
    ) -> tuple[Lengths, Lengths, Lengths, Lengths]:
        """Return top, left, height and width of each sample's box.

        Args:
            height: Height of the images.
            width: Width of the images.
            seeds: One integer per sample.
        """
        (least, most), (narrow, wide) = self.scale, self.ratio
        draws = uniform(seeds, "resized_crop", 2 * TRIES + 2)
        area = draws[:, :TRIES].mul(most - least).add_(least).mul_(height * width)
        aspect = draws[:, TRIES:-2].mul(math.log(wide / narrow)).add_(math.log(narrow)).exp_()
        w, h = (area * aspect).sqrt_().round_().long(), (area / aspect).sqrt_().round_().long()
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        first = fits.int().argmax(1, keepdim=True)
        found = fits.gather(1, first)[:, 0]
        h = torch.where(found, h.gather(1, first)[:, 0], min(height, round(width / narrow)))
        w = torch.where(found, w.gather(1, first)[:, 0], min(width, round(height * wide)))
        top, left = (
            torch.where(found, (draws[:, at] * (room + 1)).long(), room // 2)
            for at, room in ((-2, height - h), (-1, width - w))
        )
        return top, left, h, w


def _filter(start: Lengths, length: Lengths, side: int) -> Float[Tensor, "batch {side} {side}"]:
    """Return the weights of each old pixel in each new one, for [start, start + length) resized.

    Keys' cubic kernel with a = -0.5, widened where the box is larger than the result; the weights
    of pixels outside the box are 0 and the others sum to 1.
    """
    place = torch.arange(side, device=start.device)
    scale = (length / side)[:, None, None]
    centre = start[:, None, None] + (place[:, None] + 0.5) * scale
    x = ((place + 0.5 - centre) / scale.clamp(min=1)).abs_()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    inside = (place >= start[:, None]) & (place < (start + length)[:, None])
    weights = torch.where(x < 1, near, far).masked_fill_((x >= 2) | ~inside[:, None], 0)
    return weights.div_(weights.sum(2, keepdim=True))
