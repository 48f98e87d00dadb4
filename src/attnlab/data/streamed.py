"""Data read from disk sample by sample, in worker processes, with failures that are counted."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from attnlab.data.keys import SampleKey, sample_seed
from attnlab.data.pixels import KeyedBatch

OnError = Literal["raise", "skip"]


class UnreadableSampleError(Exception):
    """A sample that cannot be decoded; the message is one line that says what is wrong."""


class Failure(NamedTuple):
    """A sample that was skipped."""

    name: str
    reason: str


class Source(Protocol):
    """The samples of one split on disk: paths and labels only, so that workers may be forked."""

    labels: Int64[np.ndarray, " samples"]
    """Class indices."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def name(self, index: int) -> str:
        """Return what identifies a sample to its user: a path, or archive and member."""

    def read(self, index: int, rng: np.random.Generator) -> UInt8[np.ndarray, "frames h w 3"]:
        """Open, decode and close a sample; an image is one frame.

        Raises:
            UnreadableSampleError: It cannot be decoded.
            OSError: It cannot be opened.
        """

    def check(self, index: int) -> str | None:
        """Read a sample whole and return what is wrong with it, or None."""


class Part:
    """Some samples of a source, in an order of their own: a `Source` again.

    Args:
        source: The whole.
        indices: Which samples of it.
    """

    def __init__(self, source: Source, indices: Int64[np.ndarray, " samples"]) -> None:
        self.source = source
        self.indices = indices
        self.labels = source.labels[indices]

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """Return the sample's name in the whole."""
        return self.source.name(int(self.indices[index]))

    def read(self, index: int, rng: np.random.Generator) -> UInt8[np.ndarray, "frames h w 3"]:
        """Read the sample from the whole."""
        return self.source.read(int(self.indices[index]), rng)

    def check(self, index: int) -> str | None:
        """Check the sample in the whole."""
        return self.source.check(int(self.indices[index]))


class SampleTransform(Protocol):
    """Crops, flips and recolours one sample, by one draw for all its frames."""

    # No shapes here: jsonargparse compares types, of which jaxtyping makes a new one each time.
    def __call__(self, frames: Any, rng: np.random.Generator) -> Any:
        """Return what the network sees.

        Args:
            frames: uint8 ndarray [frames, height, width, 3].
            rng: Source of all randomness.

        Returns:
            A contiguous uint8 Tensor [frames, 3, size, size].
        """


class StreamedDataset(Dataset[Any]):
    """Samples of a source, transformed, each by a generator seeded from (seed, epoch, index).

    Args:
        source: Where they come from.
        transform: What the network sees of them.
        seed: Seed of the run.
        on_error: Whether an unreadable sample raises or becomes a `Failure`.
        still: Whether samples are images, whose one frame leaves without its axis.
    """

    def __init__(
        self,
        source: Source,
        transform: SampleTransform,
        seed: int,
        on_error: OnError,
        still: bool,
    ) -> None:
        self.source = source
        self.transform = transform
        self.seed = seed
        self.on_error = on_error
        self.still = still

    def __len__(self) -> int:
        return len(self.source)

    def load(self, key: SampleKey, rng: np.random.Generator) -> tuple[Tensor, int]:
        """Return the bytes [C, H, W] or [T, C, H, W] of a sample and its label.

        Raises:
            UnreadableSampleError: It cannot be decoded.
            OSError: It cannot be opened.
        """
        frames = self.transform(self.source.read(key.sample, rng), rng)
        return frames[0] if self.still else frames, int(self.source.labels[key.sample])

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, int, int] | Failure:
        """Return (bytes, label, seed), or why not.

        Raises:
            UnreadableSampleError: The sample cannot be read and `on_error` is ``raise``.
        """
        seed = sample_seed(self.seed, key)
        rng = np.random.Generator(np.random.Philox(key=seed))
        try:
            return *self.load(key, rng), seed
        except (UnreadableSampleError, OSError) as error:
            name = self.source.name(key.sample)
            if self.on_error == "skip":
                return Failure(name, str(error))
            raise UnreadableSampleError(f"sample {key.sample}, {name}: {error}") from error


def collate(
    samples: Sequence[tuple[Tensor, int, int] | Failure],
) -> tuple[KeyedBatch | None, list[Failure]]:
    """Stack what could be read, None where nothing could, beside what could not."""
    failures = [sample for sample in samples if isinstance(sample, Failure)]
    good = [sample for sample in samples if not isinstance(sample, Failure)]
    if not good:
        return None, failures
    pixels, labels, seeds = zip(*good, strict=True)
    # Stacks in shared memory when in a worker. From its own, a batch would be copied there, and the
    # holes that batches leave in the heap would let every worker grow to twice its size.
    stacked: Tensor = default_collate(list(pixels))
    return (stacked, torch.tensor(labels), torch.tensor(seeds)), failures
