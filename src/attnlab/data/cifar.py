"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), kept in memory and augmented in batches."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from attnlab.data import cifar_files
from attnlab.data.batch.geometry import RandomCrop, RandomFlip
from attnlab.data.cifar_files import Layout, Samples
from attnlab.data.download import download
from attnlab.data.held_out import SelectOn, check_selection, hold_out
from attnlab.data.keys import SampleKey
from attnlab.data.memory import MemoryDataModule, MemoryDataset, PixelTransform, Records
from attnlab.data.pixels import BatchTransform, KeyedBatch
from attnlab.data.sources import Split
from attnlab.data.transforms.rand_augment import RandAugment


class AugmentedDataset(MemoryDataset):
    """Samples whose bytes are changed as they are fetched, the whole batch and then one by one.

    Args:
        records: The samples and their labels.
        seed: Seed of the run.
        transforms: What changes a batch.
        augment: What then changes each image.
    """

    def __init__(
        self,
        records: Records,
        seed: int,
        transforms: Sequence[PixelTransform],
        augment: RandAugment,
    ) -> None:
        super().__init__(records, seed)
        self.transforms = transforms
        self.augment = augment

    def __getitems__(self, keys: Sequence[SampleKey | int]) -> KeyedBatch:
        """Return one whole batch."""
        pixels, labels, seeds = super().__getitems__(keys)
        for transform in self.transforms:
            pixels = transform(pixels, seeds)
        images = pixels.numpy()
        for image, seed in zip(images, seeds.tolist(), strict=True):
            rng = np.random.Generator(np.random.Philox(key=seed))
            image[:] = self.augment(image[None], rng)[0]
        return pixels, labels, seeds


class CIFAR(MemoryDataModule):
    """What the two have in common: files, splits and augmentation; use `CIFAR10` or `CIFAR100`.

    The test set is the published one. Validation images are held out of the training set, a share
    of every class, unless `select_on` is ``official``.

    Args:
        root: Folder with the data as an archive or extracted, as pickles or as binary records.
        batch_size: Images per batch and process.
        num_workers: Loader processes; 0 is fastest without `auto_augment`.
        val_size: Training images held out for validation; a tenth when None, which is 5,000.
        data_seed: Determines which, whatever the seed of the run.
        select_on: ``held_out``, or ``official``: validate on the test set and train on the whole
            training set.
        download: Whether to fetch the data if `root` lacks them.
        pixel_transforms: What changes the bytes of a training batch on its device; when None, a
            random crop after padding by 4 pixels and a flip of every second image.
        auto_augment: Policy of `RandAugment` such as ``rand-m9-mstd0.5-inc1``, or None. It works
            image by image after `pixel_transforms`, and so both move into the loader processes.
        batch_transforms: What changes it after normalisation.

    Raises:
        ValueError: An argument is out of range.
    """

    layout: ClassVar[Layout]
    mean: ClassVar[tuple[float, float, float]]
    std: ClassVar[tuple[float, float, float]]
    input_shape = cifar_files.SHAPE

    def __init__(
        self,
        root: str | PathLike[str],
        batch_size: int = 128,
        num_workers: int = 0,
        val_size: int | None = None,
        data_seed: int = 0,
        select_on: SelectOn = "held_out",
        download: bool = False,
        pixel_transforms: Sequence[PixelTransform] | None = None,
        auto_augment: str | None = None,
        batch_transforms: Sequence[BatchTransform] = (),
    ) -> None:
        standard: Sequence[PixelTransform] = (RandomCrop(4), RandomFlip(0.5))
        changes = standard if pixel_transforms is None else pixel_transforms
        on_device = changes if auto_augment is None else ()
        super().__init__(self.mean, self.std, batch_size, num_workers, on_device, batch_transforms)
        self.fetch_transforms = tuple(changes)
        fill = [round(255 * value) for value in self.mean]
        self.augment = None if auto_augment is None else RandAugment(auto_augment, fill=fill)
        check_selection(select_on, val_size)
        if data_seed < 0:
            raise ValueError(f"{data_seed=} must not be negative")
        self.root = Path(root).expanduser()
        self.val_size = val_size
        self.data_seed = data_seed
        self.select_on: SelectOn = select_on
        self.download = download
        self._notes: list[str] = []
        self.num_classes = self.layout.label_counts[-1]

    def dataset(self, split: Split, seed: int) -> MemoryDataset:
        """Return what the loader of a split fetches from; see `MemoryDataModule`."""
        if split == "train" and self.augment is not None:
            records = self.records[split]
            return AugmentedDataset(records, seed, self.fetch_transforms, self.augment)
        return super().dataset(split, seed)

    def prepare_data(self) -> None:
        """Fetch the data if that is wanted and needed.

        Raises:
            ConnectionError: They cannot be fetched.
            ValueError: What came is not the published archive.
        """
        if self.download and cifar_files.locate(self.root, self.layout) is None:
            archive = next(iter(self.layout.forms.values())).archive
            rank_zero_info(f"downloading {archive.url} to {self.root}")
            download(archive, self.root)

    def setup(self, stage: str) -> None:
        """Read all images and divide them.

        Raises:
            FileNotFoundError: `root` does not hold the data.
            ValueError: A file is damaged, a label is no class, or `val_size` is too large.
        """
        if self.records:
            return
        found = cifar_files.find(self.root, self.layout)
        train, test, self._notes = cifar_files.read(found, self.layout)
        rank_zero_info(
            f"{self.layout.name}: {found}, {len(train.labels):,} training and "
            f"{len(test.labels):,} test images"
        )
        if self._notes:
            rank_zero_warn(
                f"{found.path} differs from the published {self.layout.name}: "
                + "; ".join(self._notes)
            )
        self.records["test"] = _records(test)
        if self.select_on == "official":
            self.records["train"], self.records["val"] = _records(train), self.records["test"]
        else:
            size = max(1, len(train.labels) // 10) if self.val_size is None else self.val_size
            rest, held_out = hold_out(train.labels, size, self.data_seed)
            self.records["train"] = _records(train, rest)
            self.records["val"] = _records(train, held_out)

    def notes(self) -> Sequence[str]:
        """Return in what the data differ from the published ones, for `validate-data`."""
        return self._notes


def _records(samples: Samples, chosen: np.ndarray | slice = np.s_[:]) -> Records:
    return torch.from_numpy(samples.pixels[chosen]), torch.from_numpy(samples.labels[chosen])


class CIFAR10(CIFAR):
    """60,000 photographs of ten classes; see `CIFAR` for the arguments."""

    layout = cifar_files.CIFAR10
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)


class CIFAR100(CIFAR):
    """60,000 photographs of a hundred classes; see `CIFAR` for the arguments."""

    layout = cifar_files.CIFAR100
    mean = (0.5071, 0.4867, 0.4408)
    std = (0.2675, 0.2565, 0.2761)
