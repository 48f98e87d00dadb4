"""Data kept in memory as bytes, fetched a batch at a time."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from attnlab.data.keys import LazyLoader, SampleKey, as_key, sample_seeds
from attnlab.data.pixels import Batch, BatchTransform, KeyedBatch, PixelDataModule
from attnlab.data.sources import Split

Records = tuple[UInt8[Tensor, "samples *shape"], Int64[Tensor, "samples"]]
"""The samples of a split, and their labels."""


@runtime_checkable
class PixelTransform(Protocol):
    """Changes a training batch of bytes, by the samples' seeds alone.

    Untyped, because jsonargparse asks implementations for the same annotations otherwise.
    """

    def __call__(self, pixels: Any, seeds: Any) -> Any:
        """Return new bytes, a tensor like `pixels`.

        Args:
            pixels: Images [B, C, H, W] uint8.
            seeds: One 63-bit integer per sample [B] (int64): all randomness must derive from them.
        """


class MemoryDataset(Dataset[KeyedBatch]):
    """Samples in memory, fetched by their keys.

    Args:
        records: The samples and their labels.
        seed: Seed of the run, from which those of the samples derive.
    """

    def __init__(self, records: Records, seed: int) -> None:
        self.pixels, self.labels = records
        self.seed = seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, keys: Sequence[SampleKey | int]) -> KeyedBatch:
        """Return one whole batch, which spares Python a call per sample; see `as_key`."""
        uses = [as_key(key) for key in keys]
        index = torch.tensor([use.sample for use in uses])
        pixels, labels = self.pixels.index_select(0, index), self.labels[index]
        return pixels, labels, torch.from_numpy(sample_seeds(self.seed, uses))


def _as_is(batch: Any) -> Any:
    """Collate what `MemoryDataset` has fetched as a whole already."""
    return batch


class MemoryDataModule(PixelDataModule):
    """Loaders over `records`, which `setup` of a subclass fills.

    Attributes:
        records: The samples and labels of each split.

    Args:
        mean: Mean of the training pixels, per channel, in [0, 1].
        std: Their standard deviation.
        batch_size: Samples per batch and process. Training drops the last partial batch, so that
            all steps cost the same.
        num_workers: Loader processes; 0 is fastest, since a batch is a single indexing.
        pixel_transforms: What changes the bytes of a training batch on the device, in order.
        batch_transforms: What changes it after normalisation, see `PixelDataModule`.

    Raises:
        ValueError: `batch_size` is below 1 or `num_workers` negative.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        num_workers: int,
        pixel_transforms: Sequence[PixelTransform] = (),
        batch_transforms: Sequence[BatchTransform] = (),
    ) -> None:
        super().__init__(mean, std, batch_transforms)
        if batch_size < 1:
            raise ValueError(f"{batch_size=} must be at least 1")
        if num_workers < 0:
            raise ValueError(f"{num_workers=} must not be negative")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.pixel_transforms = tuple(pixel_transforms)
        self.records: dict[Split, Records] = {}

    def dataset(self, split: Split, seed: int) -> MemoryDataset:
        """Return what the loader of a split fetches from.

        Args:
            split: The split.
            seed: Seed of the run.
        """
        return MemoryDataset(self.records[split], seed)

    def _loader(self, split: Split) -> LazyLoader:
        train = split == "train"
        sampler = self.sampler(len(self.records[split][1]), train)
        return LazyLoader(
            self.dataset(split, sampler.seed),
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=train,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=_as_is,
        )

    def train_dataloader(self) -> LazyLoader:
        """Return the training samples, shuffled by the run's seed, in full batches."""
        return self._loader("train")

    def val_dataloader(self) -> LazyLoader:
        """Return the validation samples."""
        return self._loader("val")

    def test_dataloader(self) -> LazyLoader:
        """Return the test samples."""
        return self._loader("test")

    def predict_dataloader(self) -> LazyLoader:
        """Return the test samples, with their labels."""
        return self._loader("test")

    def on_after_batch_transfer(self, batch: KeyedBatch, dataloader_idx: int) -> Batch:
        """Change the bytes in training, then normalise; see `PixelDataModule`."""
        pixels, labels, seeds = batch
        if self.trainer is not None and self.trainer.training:
            for transform in self.pixel_transforms:
                pixels = transform(pixels, seeds)
        return super().on_after_batch_transfer((pixels, labels, seeds), dataloader_idx)
