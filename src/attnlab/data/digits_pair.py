"""Two handwritten digits side by side, named after the left one: data for the window size."""

from os import PathLike

import numpy as np
from jaxtyping import UInt8

from attnlab.data.base import EmbeddedDataModule
from attnlab.data.composer import compose_pair
from attnlab.data.sources import Split, load_scans


class DigitsPair(EmbeddedDataModule):
    """Grey 32x32 images, ten classes; see `compose_pair` and `EmbeddedDataModule`.

    Args:
        train_size: Training images, from 1,122 scans.
        val_size: Validation images, from 225 other scans.
        test_size: Test images, from 450 other scans.
        batch_size: Images per batch.
        num_workers: Loader processes.
        data_seed: Determines the data, whatever the seed of the run.
        cache_dir: Where composed images are kept.

    Raises:
        ValueError: See `EmbeddedDataModule`.
    """

    mean = 0.0868
    std = 0.2310

    def __init__(
        self,
        train_size: int = 8000,
        val_size: int = 1000,
        test_size: int = 1500,
        batch_size: int = 128,
        num_workers: int = 0,
        data_seed: int = 0,
        cache_dir: str | PathLike[str] | None = None,
    ) -> None:
        sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
        super().__init__(sizes, batch_size, num_workers, data_seed, cache_dir)

    def compose(
        self, split: Split, rng: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "count 1 32 32"], UInt8[np.ndarray, "count"]]:
        """Compose a split from its own scans."""
        return compose_pair(rng, *load_scans(split, self.data_seed), self.sizes[split])
