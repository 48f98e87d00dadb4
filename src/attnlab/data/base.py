"""What the embedded data sets share: composition and cache."""

import hashlib
import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import UInt8
from lightning.pytorch.utilities import rank_zero_warn

from attnlab.data.cache import default_cache_dir, read_records, write_records
from attnlab.data.composer import COMPOSER_VERSION
from attnlab.data.memory import MemoryDataModule
from attnlab.data.pixels import BatchTransform
from attnlab.data.sources import SPLITS, Split


class EmbeddedDataModule(MemoryDataModule):
    """Images composed from the embedded files: composed once, cached, kept in memory as bytes.

    A subclass says what `compose` makes, and extends `recipe` by what that depends on besides the
    sizes and the data seed.

    Attributes:
        num_classes: Number of classes.
        input_shape: Channels, height and width of an image; of a clip, the frames before them.
        mean: Mean of the training images, in [0, 1].
        std: Standard deviation of the training images' pixels.

    Args:
        sizes: Number of images per split.
        batch_size: Images per batch.
        num_workers: Loader processes.
        data_seed: Determines the data, whatever the seed of the run.
        cache_dir: Where composed images are kept; by default the directory that the environment
            variable ATTNLAB_CACHE names, or ``~/.cache/attnlab``.
        batch_transforms: What changes a training batch, see `PixelDataModule`.

    Raises:
        ValueError: A size or `batch_size` is not positive, or `num_workers` or `data_seed` is
            negative.
    """

    num_classes: int = 10
    input_shape: tuple[int, ...] = (1, 32, 32)
    mean: ClassVar[float]
    std: ClassVar[float]

    def __init__(
        self,
        sizes: dict[Split, int],
        batch_size: int,
        num_workers: int,
        data_seed: int,
        cache_dir: str | PathLike[str] | None,
        batch_transforms: Sequence[BatchTransform] = (),
    ) -> None:
        super().__init__(
            (self.mean,), (self.std,), batch_size, num_workers, batch_transforms=batch_transforms
        )
        for split, size in sizes.items():
            if size < 1:
                raise ValueError(f"{split}_size={size} must be at least 1")
        if data_seed < 0:
            raise ValueError(f"{data_seed=} must not be negative")
        self.sizes = sizes
        self.data_seed = data_seed
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()

    def recipe(self, split: Split) -> dict[str, int]:
        """Return what determines a split's images, besides the data seed."""
        return {"count": self.sizes[split]}

    def compose(
        self, split: Split, rng: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "count *shape"], UInt8[np.ndarray, "count"]]:
        """Compose a split's images and labels from the embedded files."""
        raise NotImplementedError

    def compose_split(
        self, split: Split
    ) -> tuple[UInt8[np.ndarray, "count *shape"], UInt8[np.ndarray, "count"]]:
        """Compose a split with its own random stream, so that no split's size moves another."""
        return self.compose(split, np.random.default_rng([self.data_seed, SPLITS.index(split)]))

    def cache_path(self, split: Split) -> Path:
        """Return the file of a split, named after a hash of all that determines its content."""
        key = {**self.recipe(split), "seed": self.data_seed, "version": COMPOSER_VERSION}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        return self.cache_dir / f"{type(self).__name__}-{split}-{digest}.npy"

    def prepare_data(self) -> None:
        """Compose the splits that the cache lacks; warn if it cannot be written."""
        for split in SPLITS:
            path = self.cache_path(split)
            if read_records(path, self.input_shape) is None:
                try:
                    write_records(path, *self.compose_split(split))
                except OSError as error:
                    rank_zero_warn(
                        f"cache_dir={str(self.cache_dir)!r} cannot be written ({error}): every "
                        "run composes its images anew"
                    )
                    return

    def setup(self, stage: str) -> None:
        """Load all splits, from the cache where it holds them."""
        for split in SPLITS:
            cached = read_records(self.cache_path(split), self.input_shape)
            images, labels = cached or self.compose_split(split)
            self.records[split] = torch.from_numpy(images), torch.from_numpy(labels).long()
