"""Random brightness, contrast, saturation and hue, drawn once for all frames of a clip."""

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from attnlab.data.transforms import recolour
from attnlab.data.transforms.crop import Planes

Change = Callable[[recolour.Frame], recolour.Frame]


def shift_hue(frame: recolour.Frame, turns: float) -> recolour.Frame:
    """Turn the hue by a part of the colour circle, in Pillow's 8-bit HSV, as torchvision does."""
    image = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0))).convert("HSV")
    hsv = np.array(image)
    hsv[..., 0] += np.uint8(int(turns * 255) % 256)
    turned = Image.fromarray(hsv, "HSV").convert("RGB")
    return np.ascontiguousarray(np.asarray(turned).transpose(2, 0, 1))


def to_grey(frame: recolour.Frame) -> recolour.Frame:
    """Return the grey levels in every channel."""
    return np.broadcast_to(recolour.luma(frame).astype(np.uint8), frame.shape)


class ColorJitter:
    """Changes colours by random factors, in random order: torchvision's on Pillow images.

    A strength s draws a factor uniform in [max(0, 1 - s), 1 + s]; hue h turns by up to h of a full
    circle either way. At strength 0 a property stays as it is.

    Args:
        brightness: Strength of the blend with black.
        contrast: Strength of the blend with the mean grey level.
        saturation: Strength of the blend with the grey levels.
        hue: Largest turn of the hue, in [0, 0.5].
        probability: Part of the samples that are changed.
        grey: Part of the samples that lose all colour, afterwards.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.0,
        probability: float = 1.0,
        grey: float = 0.0,
    ) -> None:
        if min(brightness, contrast, saturation) < 0:
            raise ValueError(f"{brightness=}, {contrast=}, {saturation=} must not be negative")
        if not 0 <= hue <= 0.5:
            raise ValueError(f"{hue=} must be in [0, 0.5]")
        if not (0 <= probability <= 1 and 0 <= grey <= 1):
            raise ValueError(f"{probability=} and {grey=} must be in [0, 1]")
        self.strengths = {
            recolour.brightness: brightness,
            recolour.contrast: contrast,
            recolour.colour: saturation,
        }
        self.hue = hue
        self.probability = probability
        self.grey = grey

    def draw(self, rng: np.random.Generator) -> list[Change]:
        """Return what to do to a sample, in order."""
        changes: list[Change] = []
        if rng.random() < self.probability:
            for change, strength in self.strengths.items():
                if strength:
                    factor = rng.uniform(max(0, 1 - strength), 1 + strength)
                    changes.append(partial(change, factor=factor))
            if self.hue:
                changes.append(partial(shift_hue, turns=rng.uniform(-self.hue, self.hue)))
            changes = [changes[place] for place in rng.permutation(len(changes))]
        if rng.random() < self.grey:
            changes.append(to_grey)
        return changes

    def __call__(self, frames: Planes, rng: np.random.Generator) -> Planes:
        """Return the frames after one draw of changes, the same for all."""
        changes = self.draw(rng)
        if not changes:
            return frames
        out = np.empty_like(frames)
        for before, after in zip(frames, out, strict=True):
            for change in changes:
                before = change(before)
            after[:] = before
        return out


def simclr_jitter(strength: float) -> ColorJitter:
    """Return SimCLR's jitter (Chen et al. 2020, appendix A) of a strength, with its grey images.

    Eight samples in ten are jittered, by 0.8 of the strength and 0.2 of it for the hue; two in ten
    lose their colour. Contrast and saturation blend as in torchvision; SimCLR's own code takes the
    mean of each channel for the one and scales S of HSV for the other.

    Args:
        strength: 1 in SimCLR; 0.3 in the official QnA recipe.
    """
    part = 0.8 * strength
    return ColorJitter(part, part, part, 0.2 * strength, probability=0.8, grey=0.2)
