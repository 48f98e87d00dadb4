"""Which sample, in which epoch: all that its augmentation depends on besides the run's seed."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch.utils.data import DataLoader, DistributedSampler

_MASK = 2**64 - 1

Bits = TypeVar("Bits", int, NDArray[Any])


class SampleKey(NamedTuple):
    """One use of one sample.

    Attributes:
        epoch: Epoch of the run, from 0.
        sample: Position of the sample in its data set.
        repeat: Which of its repetitions within the epoch, from 0.
    """

    epoch: int
    sample: int
    repeat: int = 0


def as_key(key: SampleKey | int) -> SampleKey:
    """Return a key as it is, and for a mere position its use in epoch 0.

    Positions come from samplers that Lightning puts in the place of `KeySampler`, which it does
    under ``overfit_batches``.
    """
    return key if isinstance(key, SampleKey) else SampleKey(0, key)


def mix(value: Bits) -> Bits:
    """Scramble 64 bits, each element its own: splitmix64 (Steele, Lea and Flood 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def sample_seed(seed: int, key: SampleKey) -> int:
    """Return 63 bits for one use of one sample, whichever process asks.

    Args:
        seed: Seed of the run.
        key: The sample and its epoch.
    """
    value = mix(seed & _MASK)
    for part in key:
        value = mix(value ^ part)
    return value >> 1


def sample_seeds(seed: int, keys: Sequence[SampleKey]) -> Int64[np.ndarray, "keys"]:
    """Return `sample_seed` of every key, at once."""
    parts = np.asarray(keys, np.uint64).reshape(-1, len(SampleKey._fields))
    value = np.full(len(parts), mix(seed & _MASK), np.uint64)
    for part in parts.T:
        value = mix(value ^ part)
    return (value >> 1).astype(np.int64)


class KeySampler(DistributedSampler[SampleKey]):
    """Yields the keys of one epoch, in an order that depends on the seed and the epoch alone.

    Unlike a draw from the global generator the order does not depend on how many numbers the
    model's initialisation took, so runs of one seed see one order whatever they train, and a
    resumed run continues with the order of its epoch. Processes take turns along the order; in
    training those left over are dropped, so that all take the same number of steps, while an
    evaluation neither drops nor repeats any. Lightning leaves a `DistributedSampler` as it is.

    With `repeats`, every sample drawn is used so many times in a row, each with an augmentation of
    its own; an epoch keeps its length and sees fewer distinct samples (repeated augmentation,
    Hoffer et al. 2020). One process makes all uses, where DeiT spreads them over several: the same
    samples meet in a step of all processes, and what is decoded once can serve all uses.

    Args:
        size: Number of samples.
        train: Whether to shuffle.
        seed: Seed of the order.
        repeats: Uses of a sample in an epoch, in training.
        num_replicas: Number of processes.
        rank: Which of them this is.

    Raises:
        ValueError: `repeats` is below 1, or `rank` is not one of the processes.
    """

    def __init__(
        self,
        size: int,
        train: bool,
        seed: int,
        repeats: int = 1,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if repeats < 1:
            raise ValueError(f"{repeats=} must be at least 1")
        super().__init__(range(size), num_replicas, rank)  # type: ignore[arg-type]
        self.size = size
        self.train = train
        self.seed = seed
        self.repeats = repeats if train else 1
        self.skip = 0
        """Keys that the next pass leaves out at its beginning; the one after it, none."""

    def order(self) -> torch.Tensor:
        """Return the samples of this epoch, over all processes [size]."""
        if not self.train:
            return torch.arange(self.size)
        state = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)
        return torch.randperm(self.size, generator=torch.Generator().manual_seed(int(state[0])))

    def __iter__(self) -> Iterator[SampleKey]:
        first, self.skip = self.skip, 0
        order = self.order().tolist()
        for turn in range(first, len(self)):
            draw, repeat = divmod(turn, self.repeats)
            yield SampleKey(self.epoch, order[draw * self.num_replicas + self.rank], repeat)

    def __len__(self) -> int:
        spare = 0 if self.train else self.num_replicas - 1 - self.rank
        return (self.size + spare) // self.num_replicas


class LazyLoader(DataLoader[Any]):
    """A `DataLoader` that asks for the keys of an epoch not before its first batch is wanted.

    Lightning makes the first iterator of a resumed run before it tells the sampler the epoch, and
    workers would begin at once, with epoch 0.

    A pass can be left and taken up again in another process, at the batch after the last one that
    was handed out; what workers had fetched ahead is fetched anew. Taking up draws nothing from
    torch's generator, where beginning a pass does.
    """

    _handed = 0  # batches of this pass, those before it was taken up included
    _begun = False  # whether there was a pass before, in whichever process
    _first = 0
    _silent = False

    def state_dict(self) -> dict[str, Any]:
        """Return where the pass is."""
        return {"batches": self._handed, "begun": self._begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin the next pass where that of `state_dict` was; 0 batches: at the beginning."""
        self._first = state_dict["batches"]
        self._begun = self._first > 0 or state_dict["begun"]
        # Loaders whose workers persist draw the seed of these once in their life.
        self._silent = self._first > 0 or (self._begun and self.persistent_workers)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        first, silent = self._first, self._silent
        self._first, self._silent, self._handed, self._begun = 0, False, first, True
        keyed = isinstance(self.sampler, KeySampler)
        if isinstance(self.sampler, KeySampler):
            self.sampler.skip = first * (self.batch_size or 1)
        with torch.random.fork_rng(devices=[], enabled=silent):
            batches = super().__iter__()
        # Lightning has samplers of its own under `overfit_batches`: their batches are passed over.
        for batch in itertools.islice(batches, 0 if keyed else first, None):
            self._handed += 1
            yield batch
