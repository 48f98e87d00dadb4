"""ImageNet-1k (Russakovsky et al. 2015) and whatever else is a set of images in classes."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from attnlab.data.exclude import kept
from attnlab.data.held_out import SelectOn, check_selection, hold_out
from attnlab.data.image.index import Index, read_index
from attnlab.data.image.source import ImageSource
from attnlab.data.loading import StreamedDataModule
from attnlab.data.pixels import BatchTransform
from attnlab.data.sources import Split
from attnlab.data.streamed import OnError, Part, SampleTransform, StreamedDataset
from attnlab.data.transforms.evaluate import EvalTransform
from attnlab.data.transforms.train import TrainTransform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SPLIT_SEED = 0  # the held-out images are the same in every run


class ImageNet(StreamedDataModule):
    """Images on disk in any layout of `image.layouts`, ImageNet's or another set's.

    The official validation set is the test set. Validation images are held out of the training
    set, a share of every class and always the same ones, unless `select_on` is ``official``. The
    classes are in the order of their sorted names.

    Args:
        root: Folder with the data.
        num_classes: Number of classes; the disk must agree.
        train_transform: What training sees of an image; `TrainTransform` when None. Its `size` is
            that of `input_shape`.
        eval_transform: What evaluation sees of it; `EvalTransform` when None.
        batch_size: Images per batch and process.
        num_workers: Loader processes; the machine's cores, at most eight, when None.
        val_size: Training images held out for validation; a hundredth, but at least one per class,
            when None.
        select_on: ``held_out``, or ``official``: validate on the official validation set and train
            on the whole training set.
        repeats: Uses of every image drawn, see `KeySampler`.
        on_error: What happens at an image that cannot be read: ``raise`` or ``skip``.
        batch_transforms: What changes a training batch on its device.
        exclude: File with the names of images to leave out, one per line.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        root: str | PathLike[str],
        num_classes: int = 1000,
        train_transform: SampleTransform | None = None,
        eval_transform: SampleTransform | None = None,
        batch_size: int = 128,
        num_workers: int | None = None,
        val_size: int | None = None,
        select_on: SelectOn = "held_out",
        repeats: int = 1,
        on_error: OnError = "raise",
        batch_transforms: Sequence[BatchTransform] = (),
        exclude: str | PathLike[str] | None = None,
    ) -> None:
        super().__init__(
            MEAN,
            STD,
            batch_size=batch_size,
            num_workers=num_workers,
            on_error=on_error,
            batch_transforms=batch_transforms,
            repeats=repeats,
        )
        if num_classes < 1:
            raise ValueError(f"{num_classes=} must be at least 1")
        check_selection(select_on, val_size)
        self.root = Path(root).expanduser()
        self.num_classes = num_classes
        self.train_transform = TrainTransform() if train_transform is None else train_transform
        self.eval_transform = EvalTransform() if eval_transform is None else eval_transform
        size = getattr(self.train_transform, "size", None)
        if not isinstance(size, int):
            raise ValueError(f"{train_transform=} must have a size, in pixels")
        self.input_shape = (3, size, size)
        self.val_size = val_size
        self.select_on: SelectOn = select_on
        self.exclude = None if exclude is None else Path(exclude).expanduser()
        self._index: Index | None = None

    def prepare_data(self) -> None:
        """List the images once, for all processes, where the list is not kept already."""
        self._index = read_index(self.root, self.num_classes)

    @property
    def index(self) -> Index:
        """All images.

        Raises:
            OSError: `root` does not hold the data.
            ValueError: The data are not complete or contradict each other.
        """
        if self._index is None:
            self._index = read_index(self.root, self.num_classes)
        return self._index

    def setup(self, stage: str) -> None:
        """Show what was found and open the splits that `stage` needs."""
        if not self.datasets:
            index = self.index
            rank_zero_info(
                f"{self.root}: {index.layout}; {len(index.classes):,} classes, "
                f"{len(index.train.labels):,} training and {len(index.official.labels):,} "
                "validation images"
            )
            for note in index.notes:
                rank_zero_warn(note)
        super().setup(stage)

    def open_split(self, split: Split) -> StreamedDataset:
        """Return the images of a split."""
        official = split == "test" or (split == "val" and self.select_on == "official")
        images = ImageSource(self.root, self.index.official if official else self.index.train)
        chosen = np.arange(len(images))
        if not official and self.select_on == "held_out":
            size = self.val_size or max(self.num_classes, len(images) // 100)
            chosen = hold_out(images.labels, size, _SPLIT_SEED)[split == "val"]
        if self.exclude is not None:  # afterwards: what is left out moves no other image
            chosen = np.intersect1d(chosen, kept(images.names(), self.exclude))
        source = images if len(chosen) == len(images) else Part(images, chosen)
        transform = self.train_transform if split == "train" else self.eval_transform
        seed = torch.initial_seed()
        return StreamedDataset(source, transform, seed, self.on_error, still=True)

    def notes(self) -> Sequence[str]:
        """Return what is odd about the data set as a whole, though legal."""
        return self.index.notes
