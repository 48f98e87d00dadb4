"""What the data sets composed of several scans share: their sizes, on 32x32 pixels."""

from collections.abc import Sequence
from os import PathLike

from attnlab.data.base import EmbeddedDataModule
from attnlab.data.pixels import BatchTransform
from attnlab.data.sources import Split


class ComposedDataModule(EmbeddedDataModule):
    """Grey 32x32 images, ten classes, as many as asked for; see `EmbeddedDataModule`.

    A subclass says what `compose` makes, and the `mean` and `std` of its default training images.

    Args:
        train_size: Training images, from 1,122 scans.
        val_size: Validation images, from 225 other scans.
        test_size: Test images, from 450 other scans.
        batch_size: Images per batch.
        num_workers: Loader processes.
        data_seed: Determines the data, whatever the seed of the run.
        cache_dir: Where composed images are kept.
        batch_transforms: What changes a training batch, see `PixelDataModule`.

    Raises:
        ValueError: See `EmbeddedDataModule`.
    """

    def __init__(
        self,
        train_size: int = 6000,
        val_size: int = 1000,
        test_size: int = 1500,
        batch_size: int = 128,
        num_workers: int = 0,
        data_seed: int = 0,
        cache_dir: str | PathLike[str] | None = None,
        batch_transforms: Sequence[BatchTransform] = (),
    ) -> None:
        sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
        super().__init__(sizes, batch_size, num_workers, data_seed, cache_dir, batch_transforms)
