"""The handwritten digits themselves: data for unit tests and runs of seconds."""

from collections.abc import Sequence
from os import PathLike

import numpy as np
from jaxtyping import UInt8

from attnlab.data.base import EmbeddedDataModule
from attnlab.data.composer import enlarge
from attnlab.data.pixels import BatchTransform
from attnlab.data.sources import Split, load_scans


class Digits8(EmbeddedDataModule):
    """Grey scans, ten classes: 1,122 for training, 225 for validation and 450 for testing.

    Args:
        side: Height and width of the images; the scans are 8x8, a larger side resizes them
            bicubically.
        batch_size: Images per batch.
        num_workers: Loader processes.
        data_seed: Determines which training scans are held out for validation.
        cache_dir: Where composed images are kept.
        batch_transforms: What changes a training batch, see `PixelDataModule`.

    Raises:
        ValueError: `side` is not 8, 16 or 32, or see `EmbeddedDataModule`.
    """

    mean = 0.3045
    std = 0.3757

    def __init__(
        self,
        side: int = 8,
        batch_size: int = 128,
        num_workers: int = 0,
        data_seed: int = 0,
        cache_dir: str | PathLike[str] | None = None,
        batch_transforms: Sequence[BatchTransform] = (),
    ) -> None:
        if side not in (8, 16, 32):
            raise ValueError(f"{side=} must be 8, 16 or 32")
        sizes: dict[Split, int] = {"train": 1122, "val": 225, "test": 450}
        super().__init__(sizes, batch_size, num_workers, data_seed, cache_dir, batch_transforms)
        self.input_shape = (1, side, side)

    def recipe(self, split: Split) -> dict[str, int]:
        """Return the number of images and their side."""
        return {**super().recipe(split), "side": self.input_shape[1]}

    def compose(
        self, split: Split, rng: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "count 1 side side"], UInt8[np.ndarray, "count"]]:
        """Return the scans of a split; nothing is drawn."""
        scans, labels = load_scans(split, self.data_seed)
        return enlarge(scans, self.input_shape[1])[:, None], labels
