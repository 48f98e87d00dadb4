"""Random erasing of normalised samples, on their device."""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from attnlab.data.batch.draws import Seeds, bits_at, keys, to_normal, uniform
from attnlab.data.pixels import Batch

TRIES = 10
"""Boxes drawn before a sample is left as it is."""


class RandomErasing:
    """Fills a box of some samples with noise (Zhong et al. 2020), as timm does.

    Area uniform, aspect ratio log-uniform; after ten boxes that do not fit the sample stays whole.
    All frames of a clip share the box.

    Args:
        probability: Part of the samples that are erased.
        mode: ``pixel`` fills with standard normal noise, ``color`` with one normal number per box,
            channel and frame, ``const`` with 0, the mean of normalised pixels.
        min_area: Least area of a box, as a part of the image's.
        max_area: Largest area.
        min_aspect: Least height over width; its inverse is the largest.
        count: Boxes per sample, among which the area is divided.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        probability: float = 0.25,
        mode: Literal["pixel", "color", "const"] = "pixel",
        min_area: float = 0.02,
        max_area: float = 1 / 3,
        min_aspect: float = 0.3,
        count: int = 1,
    ) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"{probability=} must be in [0, 1]")
        if mode not in ("pixel", "color", "const"):
            raise ValueError(f"{mode=} must be pixel, color or const")
        if not 0 < min_area <= max_area <= 1:
            raise ValueError(f"{min_area=} and {max_area=} must ascend in (0, 1]")
        if not 0 < min_aspect <= 1:
            raise ValueError(f"{min_aspect=} must be in (0, 1]")
        if count < 1:
            raise ValueError(f"{count=} must be at least 1")
        self.probability = probability
        self.mode = mode
        self.area = (min_area / count, max_area / count)
        self.min_aspect = min_aspect
        self.count = count

    def __call__(self, pixels: Tensor, targets: Tensor, seeds: Seeds) -> Batch:
        """Return the samples [B, C, H, W] or [B, T, C, H, W], changed in place, and `targets`."""
        pixels = pixels.contiguous()
        for box in range(self.count):
            mask = self.boxes(pixels.shape[-2], pixels.shape[-1], seeds, box)
            self._fill(pixels, mask, keys(seeds, f"erasing/fill{box}"))
        return pixels, targets

    def boxes(
        self, height: int, width: int, seeds: Seeds, box: int = 0
    ) -> Bool[Tensor, "batch {height} {width}"]:
        """Return which pixels of each sample are erased.

        Args:
            height: Height of the images.
            width: Width of the images.
            seeds: One integer per sample.
            box: Which of the sample's boxes.
        """
        chosen = uniform(seeds, "erasing", 1) < self.probability
        draws = uniform(seeds, f"erasing/box{box}", 2 * TRIES + 2)
        low, high = self.area
        area = draws[:, :TRIES].mul(high - low).add_(low).mul_(height * width)
        steepest = -math.log(self.min_aspect)
        aspect = draws[:, TRIES:-2].mul(2 * steepest).sub_(steepest).exp_()
        h, w = (area * aspect).sqrt_().round_(), (area / aspect).sqrt_().round_()
        fits = (h < height) & (w < width)
        first = fits.int().argmax(1, keepdim=True)
        chosen = chosen & fits.gather(1, first)
        inside = []
        for at, side, lengths in ((-2, height, h), (-1, width, w)):
            length = lengths.gather(1, first)
            start = (draws[:, at, None] * (side - length + 1)).floor_()
            place = torch.arange(side, device=seeds.device)
            inside.append((place >= start) & (place < start + length))
        return (inside[0] & chosen)[:, :, None] & inside[1][:, None]

    def _fill(
        self,
        pixels: Float[Tensor, "batch *planes height width"],
        mask: Bool[Tensor, "batch height width"],
        start: Seeds,
    ) -> None:
        """Set what lies under `mask`, in every plane; `start` is where each sample's noise does."""
        erased, flat = mask.flatten(1), pixels.view(len(pixels), -1, mask[0].numel())
        if pixels.device.type == "cpu":  # only what is erased; elsewhere its extent is not awaited
            sample, place = erased.nonzero(as_tuple=True)
            values = self._values(flat, start[sample, None, None], place[:, None, None])
            flat[sample, :, place] = values[..., 0]
        else:
            place = torch.arange(flat.shape[2], device=flat.device)
            values = self._values(flat, start[:, None, None], place)
            flat.copy_(torch.where(erased[:, None], values, flat))

    def _values(
        self,
        flat: Float[Tensor, "batch planes places"],
        start: Int64[Tensor, "samples 1 1"],
        place: Int64[Tensor, "*shape"],
    ) -> Float[Tensor, "samples planes #places"]:
        """Return what to fill in at some places of some samples, in every plane."""
        plane = torch.arange(flat.shape[1], device=flat.device)[:, None] * flat.shape[2]
        if self.mode == "const":
            return flat.new_zeros(len(start), len(plane), 1)
        position = plane + place if self.mode == "pixel" else plane
        return to_normal(bits_at(start, position)).to(flat.dtype)
