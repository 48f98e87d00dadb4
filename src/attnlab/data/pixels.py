"""What all data modules share: bytes to normalised floats on the device, then batch transforms."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import lightning as L
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from attnlab.data.keys import KeySampler

Batch = tuple[Tensor, Tensor]
KeyedBatch = tuple[Tensor, Tensor, Tensor]


@runtime_checkable
class BatchTransform(Protocol):
    """Changes a training batch on its device, by the samples' seeds alone.

    Untyped, because jsonargparse asks implementations for the same annotations otherwise.
    """

    def __call__(self, pixels: Any, targets: Any, seeds: Any) -> Any:
        """Return new pixels and targets, two tensors.

        Args:
            pixels: Normalised images [B, C, H, W] or clips [B, T, C, H, W].
            targets: Probabilities [B, classes].
            seeds: One 63-bit integer per sample [B] (int64): all randomness must derive from them.
        """


class PixelDataModule(L.LightningDataModule):
    """Loaders give (bytes, labels, seeds); training sees (normalised floats, targets).

    The bytes are images [B, C, H, W] or clips [B, T, C, H, W], the labels [B] int64, and the
    seeds [B] int64 those of `keys.sample_seed`.

    Attributes:
        num_classes: Number of classes; known before any disk access.
        input_shape: Shape of a sample, (C, H, W) or (T, C, H, W); known before any disk access.
        batch_size: Samples per batch and process; subclasses set it.

    Args:
        mean: Mean of the training pixels, per channel, in [0, 1].
        std: Standard deviation of the training pixels, per channel.
        batch_transforms: What changes a training batch after normalisation, in order.

    Raises:
        ValueError: `mean` and `std` differ in length, or a `std` is not positive.
    """

    num_classes: int
    input_shape: tuple[int, ...]
    batch_size: int

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        batch_transforms: Sequence[BatchTransform] = (),
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean or min(std) <= 0:
            raise ValueError(f"{mean=} and {std=} must have one value per channel, std positive")
        scale = [1 / (255 * deviation) for deviation in std]
        shift = [average / deviation for average, deviation in zip(mean, std, strict=True)]
        self._scale, self._shift = (torch.tensor(each).view(-1, 1, 1) for each in (scale, shift))
        self.batch_transforms = tuple(batch_transforms)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return bytes [..., C, H, W] as float32: ``(x / 255 - mean) / std``."""
        scale, shift = self._scale.to(pixels.device), self._shift.to(pixels.device)
        return pixels.float().mul_(scale).sub_(shift)

    def sampler(self, size: int, train: bool, repeats: int = 1) -> KeySampler:
        """Return this process's share of a split.

        Args:
            size: Samples of the split.
            train: Whether it is the training split.
            repeats: Uses of every sample drawn, see `KeySampler`.

        Raises:
            ValueError: A training batch is larger than the share.
        """
        replicas, rank, seed = 1, 0, torch.initial_seed()
        if self.trainer is not None:
            replicas, rank = self.trainer.world_size, self.trainer.global_rank
            # One order for all processes, even where the user wants no seed.
            seed = self.trainer.strategy.broadcast(seed)
        sampler = KeySampler(size, train, seed, repeats, replicas, rank)
        if train and len(sampler) < self.batch_size:
            raise ValueError(
                f"batch_size={self.batch_size} must not exceed the {len(sampler)} training samples"
                + (f" of each of {replicas} processes" if replicas > 1 else "")
            )
        return sampler

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Normalise the pixels; in training apply the batch transforms, to one-hot targets."""
        pixels, targets, seeds = batch
        pixels = self.normalize(pixels)
        if self.batch_transforms and self.trainer is not None and self.trainer.training:
            targets = one_hot(targets, self.num_classes).to(pixels.dtype)
            for transform in self.batch_transforms:
                pixels, targets = transform(pixels, targets, seeds)
        if self.trainer is not None:  # of weights in half precision, which take no other pixels
            pixels, targets = self.trainer.precision_plugin.convert_input((pixels, targets))
        return pixels, targets
