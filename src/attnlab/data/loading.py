"""The data module over streamed data: loaders, workers, and what is done about failures."""

import gc
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from attnlab.data.keys import LazyLoader, SampleKey, as_key
from attnlab.data.pixels import BatchTransform, KeyedBatch, PixelDataModule
from attnlab.data.sources import Split
from attnlab.data.streamed import Failure, OnError, StreamedDataset, UnreadableSampleError, collate

Collated = tuple[KeyedBatch | None, list[Failure]]
"""What could be read of a batch, if anything, and what could not."""

_ALLOWED, _ALLOWED_SHARE = 10, 0.001  # samples skipped in an epoch: so many, or so large a part
_SPLITS_OF_STAGE: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


def _settle(worker: int) -> None:
    """Keep a worker's collector off what it inherits: marking it would copy page after page."""
    gc.freeze()


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Watched(Dataset[Any]):
    """A data set whose workers note what they work on, for the message when one dies.

    Args:
        dataset: The data set.
        workers: Number of loader processes.
    """

    def __init__(self, dataset: StreamedDataset, workers: int) -> None:
        self.dataset = dataset
        self.current = torch.full((max(1, workers),), -1).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey | int) -> tuple[Tensor, int, int] | Failure:
        """Note the sample, then return it; see `as_key`."""
        key = as_key(key)
        worker = get_worker_info()
        self.current[0 if worker is None else worker.id] = key.sample
        return self.dataset[key]

    def names(self) -> str:
        """Return which sample each worker began last."""
        begun = [index for index in self.current.tolist() if index >= 0]
        return ", ".join(self.dataset.source.name(index) for index in begun) or "none"


def _nothing(failures: Sequence[Failure], whole: str) -> UnreadableSampleError:
    name, reason = failures[0]
    return UnreadableSampleError(
        f"none of the {len(failures)} samples of {whole} could be read; the first is "
        f"{name}: {reason}"
    )


def without_empty(batches: Iterable[Collated]) -> Iterator[Collated]:
    """Leave out batches of which nothing could be read; their failures go with a neighbour's.

    Raises:
        UnreadableSampleError: Nothing could be read of any.
    """
    held: KeyedBatch | None = None
    failures: list[Failure] = []
    for batch, failed in batches:
        if batch is not None and held is not None:
            yield held, failures
            failures = []
        held = held if batch is None else batch
        failures = failures + failed
    if held is not None:
        yield held, failures
    elif failures:
        raise _nothing(failures, "a split")


class Loader(LazyLoader):
    """A loader that says which samples its workers had in hand when one of them died.

    In evaluation it leaves out empty batches, see `without_empty`. In training these are an error,
    for all processes must take the same number of steps.
    """

    def __iter__(self) -> Iterator[Collated]:  # type: ignore[override]
        batches = self._watched(super().__iter__())
        return batches if self.drop_last else without_empty(batches)

    def _watched(self, batches: Iterator[Collated]) -> Iterator[Collated]:
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "worker" not in str(error):
                    raise
                assert isinstance(self.dataset, Watched)
                raise RuntimeError(
                    f"{error}; last samples begun: {self.dataset.names()}"
                ) from error
            yield batch


class StreamedDataModule(PixelDataModule):
    """Loaders over `StreamedDataset`s, one per split, that `open_split` of a subclass builds.

    Under ``on_error: skip`` a sample that cannot be read is left out of its batch and counted;
    more than a thousandth of what a process reads of a split in one epoch (and more than ten), or
    a whole training batch, is an error all the same. No sample is ever replaced by another one.

    Attributes:
        skipped: For each split the samples that this process skipped in its latest epoch: name to
            reason.

    Args:
        mean: Mean of the training pixels, per channel, in [0, 1].
        std: Their standard deviation.
        batch_size: Samples per batch and process. Training drops the last partial batch.
        num_workers: Loader processes; the machine's cores, at most eight, when None.
        on_error: What happens at a sample that cannot be read: ``raise`` or ``skip``.
        batch_transforms: What changes a training batch on the device, see `PixelDataModule`.
        repeats: Uses of every sample drawn, see `KeySampler`.

    Raises:
        ValueError: `batch_size` or `repeats` is below 1, `num_workers` is negative, or `on_error`
            is unknown.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        batch_size: int,
        num_workers: int | None = None,
        on_error: OnError = "raise",
        batch_transforms: Sequence[BatchTransform] = (),
        repeats: int = 1,
    ) -> None:
        super().__init__(mean, std, batch_transforms)
        if batch_size < 1 or repeats < 1:
            raise ValueError(f"{batch_size=} and {repeats=} must be at least 1")
        if num_workers is not None and num_workers < 0:
            raise ValueError(f"{num_workers=} must not be negative")
        if on_error not in get_args(OnError):
            raise ValueError(f"{on_error=} must be one of {', '.join(get_args(OnError))}")
        self.batch_size = batch_size
        self.num_workers = min(8, available_cores()) if num_workers is None else num_workers
        self.on_error: OnError = on_error
        self.repeats = repeats
        self.datasets: dict[Split, StreamedDataset] = {}
        self.skipped: dict[Split, dict[str, str]] = {}
        self._epochs: dict[Split, int] = {}

    def open_split(self, split: Split) -> StreamedDataset:
        """Return the samples of a split; they are indexed here, and no pixel is read."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Index the splits that `stage` needs."""
        for split in _SPLITS_OF_STAGE[stage]:
            if split not in self.datasets:
                self.datasets[split] = self.open_split(split)

    def _loader(self, split: Split) -> Loader:
        dataset, train = self.datasets[split], split == "train"
        return Loader(
            Watched(dataset, self.num_workers),
            batch_size=self.batch_size,
            sampler=self.sampler(len(dataset), train, self.repeats),
            drop_last=train,
            num_workers=self.num_workers,
            persistent_workers=train and self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
            worker_init_fn=_settle,
        )

    def train_dataloader(self) -> Loader:
        """Return the training samples, shuffled by the run's seed, in full batches."""
        return self._loader("train")

    def val_dataloader(self) -> Loader:
        """Return the validation samples."""
        return self._loader("val")

    def test_dataloader(self) -> Loader:
        """Return the test samples."""
        return self._loader("test")

    def predict_dataloader(self) -> Loader:
        """Return the test samples, with their labels."""
        return self._loader("test")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Count what was skipped.

        Raises:
            UnreadableSampleError: Too much was, or a whole batch.
        """
        pixels, failures = batch
        self._count(failures)
        if pixels is None:
            raise _nothing(failures, "a batch")
        return pixels

    def _count(self, failures: Sequence[Failure]) -> None:
        split = self._split()
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        if self._epochs.get(split) != epoch:
            self._epochs[split], self.skipped[split] = epoch, {}
        skipped = self.skipped[split]
        for name, reason in failures:
            if name not in skipped:  # in every process: each reads other samples
                warnings.warn(f"skipped {name}: {reason}", stacklevel=2)
            skipped[name] = reason
        size = len(self.datasets[split])
        if self.trainer is not None:
            size = -(-size // self.trainer.world_size)
        allowed = max(_ALLOWED, int(_ALLOWED_SHARE * size))
        if len(skipped) > allowed:
            raise UnreadableSampleError(
                f"{len(skipped)} of {size} samples could not be read, more than the {allowed} that "
                "on_error='skip' allows; `python -m attnlab validate-data` lists them"
            )

    def counts(self) -> dict[str, Any]:
        """Return what this process has skipped so far, for a checkpoint."""
        return {
            "skipped": {key: dict(of) for key, of in self.skipped.items()},
            "epochs": dict(self._epochs),
        }

    def restore_counts(self, counts: dict[str, Any]) -> None:
        """Go on from the `counts` of a checkpoint."""
        self.skipped, self._epochs = counts["skipped"], counts["epochs"]

    def _split(self) -> Split:
        """Return what the trainer is reading."""
        trainer = self.trainer
        if trainer is None or trainer.training:
            return "train"
        return "val" if trainer.validating or trainer.sanity_checking else "test"
