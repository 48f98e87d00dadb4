"""What the embedded data sets share: cache, loaders, shuffling and normalisation."""

import hashlib
import json
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import torch
from jaxtyping import UInt8
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from attnlab.data.cache import default_cache_dir, read_records, write_records
from attnlab.data.composer import COMPOSER_VERSION
from attnlab.data.sources import SPLITS, Split

Batch = tuple[Tensor, Tensor]


class Records(TensorDataset):
    """Images and labels in memory, fetched a batch at a time."""

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        """Return one whole batch, which spares Python a call per sample."""
        batch: tuple[Tensor, ...] = self[indices]
        return batch


class EpochShuffle(RandomSampler):
    """A permutation per epoch that depends on the global seed and the epoch alone.

    Unlike a draw from the global generator it does not depend on how many numbers the model's
    initialisation took, so runs of one seed see one order whatever they train, and a resumed run
    continues with the order of its epoch.

    Args:
        records: The data to shuffle.
    """

    def __init__(self, records: Records) -> None:
        super().__init__(records, generator=torch.Generator())
        self.seed = torch.initial_seed()
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of `epoch`; the Trainer calls this."""
        state = np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)
        self.generator.manual_seed(int(state[0]))


def _as_is(batch: Any) -> Any:
    """Collate what `Records` has fetched as a whole already."""
    return batch


class EmbeddedDataModule(L.LightningDataModule):
    """Images composed from the embedded files: composed once, cached, kept in memory as bytes.

    Loaders give images [B, C, H, W] uint8 and labels [B] int64; `on_after_batch_transfer` turns
    the images into normalised float32 on the device. A subclass says what `compose` makes, and
    extends `recipe` by what that depends on besides the sizes and the data seed.

    Attributes:
        num_classes: Number of classes.
        input_shape: Channels, height and width of an image.
        mean: Mean of the training images, in [0, 1].
        std: Standard deviation of the training images' pixels.

    Args:
        sizes: Number of images per split.
        batch_size: Images per batch. Training drops the last partial batch, so that all steps
            cost the same.
        num_workers: Loader processes; 0 is fastest, since a batch is a single indexing.
        data_seed: Determines the data, whatever the seed of the run.
        cache_dir: Where composed images are kept; by default the directory that the environment
            variable ATTNLAB_CACHE names, or ``~/.cache/attnlab``.

    Raises:
        ValueError: A size or `batch_size` is not positive, or `num_workers` or `data_seed` is
            negative.
    """

    num_classes: int = 10
    input_shape: tuple[int, int, int] = (1, 32, 32)
    mean: ClassVar[float]
    std: ClassVar[float]

    def __init__(
        self,
        sizes: dict[Split, int],
        batch_size: int,
        num_workers: int,
        data_seed: int,
        cache_dir: str | PathLike[str] | None,
    ) -> None:
        super().__init__()
        for split, size in sizes.items():
            if size < 1:
                raise ValueError(f"{split}_size={size} must be at least 1")
        if batch_size < 1:
            raise ValueError(f"{batch_size=} must be at least 1")
        if num_workers < 0 or data_seed < 0:
            raise ValueError(f"{num_workers=} and {data_seed=} must not be negative")
        self.sizes = sizes
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.data_seed = data_seed
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
        self.records: dict[Split, Records] = {}

    def recipe(self, split: Split) -> dict[str, int]:
        """Return what determines a split's images, besides the data seed."""
        return {"count": self.sizes[split]}

    def compose(
        self, split: Split, rng: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "count channels height width"], UInt8[np.ndarray, "count"]]:
        """Compose a split's images and labels from the embedded files."""
        raise NotImplementedError

    def compose_split(
        self, split: Split
    ) -> tuple[UInt8[np.ndarray, "count channels height width"], UInt8[np.ndarray, "count"]]:
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
            self.records[split] = Records(torch.from_numpy(images), torch.from_numpy(labels).long())

    def _loader(self, split: Split) -> DataLoader[tuple[Tensor, ...]]:
        records = self.records[split]
        train = split == "train"
        if train and len(records) < self.batch_size:
            raise ValueError(
                f"batch_size={self.batch_size} must not exceed the {len(records)} training images"
            )
        return DataLoader(
            records,
            batch_size=self.batch_size,
            sampler=EpochShuffle(records) if train else None,
            drop_last=train,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=_as_is,
        )

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the training images, shuffled by the global seed, in full batches."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the validation images, held out of the training scans and backgrounds."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the test images."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return the test images, with their labels."""
        return self._loader("test")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Return the batch with images as normalised float32: ``(x / 255 - mean) / std``."""
        images, labels = batch
        return images.float().mul_(1 / (255 * self.std)).sub_(self.mean / self.std), labels
