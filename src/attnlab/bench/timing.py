"""Timing side by side: every round runs each contestant once, so that a noisy machine hits all."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

SHORTEST_S = 0.005
"""A shorter call is repeated until the sample is this long: clocks and launches would dominate."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a number of samples."""

    median: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the interquartile range."""
        return (self.high - self.low) / 2


def spread(samples: Sequence[float]) -> Spread:
    """Return median and quartiles; one sample is its own spread.

    Raises:
        ValueError: There are no samples.
    """
    if not samples:
        raise ValueError("no samples")
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0], 1)
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, low, high, len(samples))


def ratios(samples: Sequence[float], unit: Sequence[float]) -> list[float]:
    """Return samples in units of those that ran in the same round, as far as both go."""
    return [mine / other for mine, other in zip(samples, unit, strict=False)]


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Return the mean duration of `repeats` calls, one right after the other."""
    synchronise(device)
    begun = time.perf_counter()
    for _ in range(repeats):
        call()
    synchronise(device)
    return (time.perf_counter() - begun) / repeats


def interleave(
    calls: Mapping[str, Callable[[], object]],
    device: torch.device,
    rounds: int,
    budget_s: float,
) -> dict[str, list[float]]:
    """Return the seconds per call of each contestant, one sample per round.

    Each round starts with another contestant. One that has used up `budget_s` leaves, but not
    before the third round, so that the samples of all begin in the same rounds. Contestants must
    have run before: nothing is warmed up here.

    Args:
        calls: What to time, by name.
        device: Where the work is done.
        rounds: Samples at most.
        budget_s: Seconds that one contestant may take.
    """
    repeats = {
        name: max(1, min(1000, math.ceil(SHORTEST_S / max(seconds(call, device), 1e-9))))
        for name, call in calls.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds):
        start = turn % len(names) if names else 0
        for name in names[start:] + names[:start]:
            spent = sum(samples[name]) * repeats[name]
            if turn < 3 or spent < budget_s:
                samples[name].append(seconds(calls[name], device, repeats[name]))
    return samples
