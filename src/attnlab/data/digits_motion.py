"""A handwritten digit in motion: video whose classes are each other played backwards."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from attnlab.data.composed import ComposedDataModule
from attnlab.data.motion import TEMPLATES, compose_motion
from attnlab.data.sources import Split, load_scans, load_textures

SIDE = 32


class DigitsMotion(ComposedDataModule):
    """Clips [frames, 1, 32, 32] of eight classes; see `compose_motion`.

    Args:
        train_size: Training clips. Every second one is another one's reversal, of the opposite
            class, in this part as in the others.
        val_size: Validation clips.
        test_size: Test clips.
        frames: Frames of a clip.
        options: The other arguments of `ComposedDataModule`.

    Raises:
        ValueError: See `ComposedDataModule` and `compose_motion`.
    """

    num_classes = len(TEMPLATES)
    mean = 0.2576
    std = 0.1792

    def __init__(
        self,
        train_size: int = 2400,
        val_size: int = 400,
        test_size: int = 600,
        frames: int = 8,
        **options: Any,
    ) -> None:
        super().__init__(train_size, val_size, test_size, **options)
        if frames < 2:
            raise ValueError(f"{frames=} must be at least 2")
        self.input_shape = (frames, 1, SIDE, SIDE)

    def recipe(self, split: Split) -> dict[str, int]:
        """Return the number of clips and that of their frames."""
        return {**super().recipe(split), "frames": self.input_shape[0]}

    def compose(
        self, split: Split, rng: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "count frames 1 32 32"], UInt8[np.ndarray, "count"]]:
        """Compose a split from its own scans and its own part of the photographs."""
        scans, textures = load_scans(split, self.data_seed)[0], load_textures(split)
        return compose_motion(rng, scans, textures, self.sizes[split], self.input_shape[0], SIDE)
