"""Mixup and cutmix of a batch with itself, on its device."""

import torch
from jaxtyping import Float
from torch import Tensor

from attnlab.data.batch.draws import Seeds, beta, integers, uniform
from attnlab.data.pixels import Batch


class Mixing:
    """Blends each sample with the one at its mirrored place in the batch, or pastes a box of it.

    Mixup (Zhang et al. 2018): ``l x_i + (1 - l) x_j`` with l from Beta(mixup, mixup). Cutmix (Yun
    et al. 2019): a box of x_j, of (1 - l) of the area before it is clipped, with l from
    Beta(cutmix, cutmix). Targets mix by the part of the pixels that remains. One draw for the whole
    batch, from the seed of its first sample, and for all frames of a clip: timm's batch mode, where
    sample i meets sample B - 1 - i. In an odd batch the one in the middle stays as it is.

    Label smoothing is left to the loss: smoothing mixed targets equals mixing smoothed ones.

    Args:
        mixup: Parameter of mixup's distribution; 0 for no mixup.
        cutmix: Parameter of cutmix's distribution; 0 for no cutmix.
        switch: Probability of cutmix where there are both.
        probability: Part of the batches that are mixed.

    Raises:
        ValueError: An argument is out of range, or both methods are off.
    """

    def __init__(
        self,
        mixup: float = 0.8,
        cutmix: float = 1.0,
        switch: float = 0.5,
        probability: float = 1.0,
    ) -> None:
        if min(mixup, cutmix) < 0 or mixup == cutmix == 0:
            raise ValueError(f"{mixup=} and {cutmix=} must not be negative, and not both 0")
        if not (0 <= switch <= 1 and 0 <= probability <= 1):
            raise ValueError(f"{switch=} and {probability=} must be in [0, 1]")
        self.mixup = mixup
        self.cutmix = cutmix
        self.switch = switch if mixup and cutmix else float(mixup == 0)
        self.probability = probability

    def __call__(self, pixels: Tensor, targets: Tensor, seeds: Seeds) -> Batch:
        """Return mixed pixels and targets.

        Args:
            pixels: Normalised images [B, C, H, W] or clips [B, T, C, H, W].
            targets: Probabilities [B, classes].
            seeds: One integer per sample [B].

        Raises:
            ValueError: `targets` are not probabilities.
        """
        if targets.ndim != 2 or not targets.is_floating_point():
            raise ValueError(
                f"targets of shape {tuple(targets.shape)} must be probabilities [batch, classes]"
            )
        height, width = pixels.shape[-2:]
        kept = self.draw(height, width, seeds[:1])
        others = pixels.flip(0)
        mixed = torch.lerp(others, pixels, kept.to(pixels.dtype), out=others)
        return mixed, torch.lerp(targets.flip(0), targets, kept.mean().to(targets.dtype))

    def draw(self, height: int, width: int, seed: Seeds) -> Float[Tensor, "height width"]:
        """Return which part of each pixel is a sample's own, in [0, 1].

        Nothing is copied back from the device to decide between the methods.

        Args:
            height: Height of the images.
            width: Width of the images.
            seed: One integer [1].
        """
        mixed, cut = uniform(seed, "mixing", 2)[0]
        kept = torch.ones(height, width, device=seed.device)
        if self.switch < 1:
            kept = beta(seed, "mixing/mixup", self.mixup) * kept
        if self.switch > 0:
            box = _outside_box(height, width, 1 - beta(seed, "mixing/cutmix", self.cutmix), seed)
            kept = torch.where(cut < self.switch, box, kept)
        return torch.where(mixed < self.probability, kept, 1.0)


def _outside_box(
    height: int, width: int, area: Float[Tensor, "1"], seed: Seeds
) -> Float[Tensor, "{height} {width}"]:
    """Return 0 in a box of a part `area` of the image, centred at any pixel and clipped, else 1."""
    inside = []
    for name, side in (("y", height), ("x", width)):
        length = (side * area.sqrt()).long()
        start = integers(seed, f"mixing/{name}", side) - length // 2
        place = torch.arange(side, device=seed.device)
        inside.append((place >= start) & (place < start + length))
    return 1 - (inside[0][:, None] & inside[1]).float()
