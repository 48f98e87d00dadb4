"""What the input benchmark compares, and what is asked of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attnlab.bench.input_contest import Entry, Result

PLAIN, AUGMENTED, CIFAR, CLIPS = "images", "images+randaugment", "cifar", "clips"

STAGES = "stages"
STEPS = {
    "decode": "decode: Pillow, libjpeg-turbo",
    "crop": "random-resized crop, 224, bicubic: Pillow, torch on bytes",
    "randaugment": "RandAugment: timm on Pillow, bytes in planes",
    "tensor": "ToTensor and Normalize to floats; bytes to planes and flip",
    "collate": "collate 64: floats, bytes",
}
"""Steps of the pipelines, as their processes know them and as tables call them."""


def _images(suffix: str) -> list[Entry]:
    return [
        Entry(f"torchvision floats{suffix}", "torchvision ImageFolder + DataLoader", ours=False),
        Entry(f"torchvision bytes{suffix}", "torchvision, to bytes alone", ours=False),
        Entry(f"timm floats{suffix}", "timm create_loader, prefetcher", ours=False),
        Entry(f"timm bytes{suffix}", "timm, to bytes alone", ours=False),
        Entry(f"bytes{suffix}", "attnlab, to bytes: the device normalises", ours=True),
        Entry(f"floats{suffix}", "attnlab, normalised on this core too", ours=True),
    ]


RACES: Mapping[str, Sequence[Entry]] = {
    PLAIN: _images(""),
    AUGMENTED: _images("+randaugment"),
    STAGES: [
        Entry(f"stage {step}", label, ours)
        for step, label in STEPS.items()
        for ours in (False, True)
    ],
    CIFAR: [
        Entry("cifar", "Pillow: crop, flip, ToTensor, Normalize, one by one", ours=False),
        Entry("cifar", "attnlab: the same, in batches of bytes", ours=True),
    ],
    CLIPS: [
        Entry("clips", "torchcodec, exact, from webm", ours=False),
        Entry("clips", "attnlab, PyAV, from webm", ours=True),
        Entry("frames", "attnlab, from a tar of JPEG frames", ours=True),
    ],
}
"""Contestants by race, the unit of the ratios first."""


@dataclass(frozen=True)
class Goal:
    """One number that is asked for.

    Attributes:
        name: Which goal it belongs to.
        about: What the number is.
        value: What was measured.
        bound: What is asked for.
        least: Whether the bound is the least allowed, not the most.
        unit: Of both.
    """

    name: str
    about: str
    value: float
    bound: float
    least: bool
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether the value is on the right side of the bound."""
        return self.value >= self.bound if self.least else self.value <= self.bound


def quotient(results: Sequence[Result], over: str, under: str) -> float | None:
    """Return the least time of one contestant over that of another; None where one is missing.

    Args:
        results: Of one race.
        over: Name of the contestant above the bar; a peer's begins with ``peer:``.
        under: Name of that below.
    """
    best = {
        result.entry.name if result.entry.ours else f"peer:{result.entry.name}": result.best
        for result in results
    }
    return best[over] / best[under] if over in best and under in best else None


_QUOTIENTS = (
    ("G1", "torchvision over ours, no RandAugment", PLAIN, "torchvision floats", "bytes", 2.2),
    ("G1", "timm with prefetcher over ours, no RandAugment", PLAIN, "timm floats", "bytes", 2.2),
    ("G2", "torchvision over ours, RandAugment", AUGMENTED, "torchvision floats", "bytes", 2.2),
    ("G2", "timm with prefetcher over ours, RandAugment", AUGMENTED, "timm floats", "bytes", 2.2),
    ("G3", "Pillow one by one over ours in batches, CIFAR", CIFAR, "cifar", "cifar", 6.0),
)


def goals(races: Mapping[str, Sequence[Result]]) -> list[Goal]:
    """Return the goals of the races that were run, as ratios of the least CPU times."""
    found = []
    for name, about, race, peer, own, bound in _QUOTIENTS:
        suffix = "+randaugment" if race == AUGMENTED else ""
        value = quotient(races.get(race, ()), f"peer:{peer}{suffix}", f"{own}{suffix}")
        if value is not None:
            found.append(Goal(name, about, value, bound, least=True))
    clips = races.get(CLIPS, ())
    reader, frames = quotient(clips, "clips", "peer:clips"), quotient(clips, "clips", "frames")
    if reader is not None:
        about = "our webm reader over torchcodec, exact"
        found.append(Goal("G4", about, reader, 1.05, least=False))
    if frames is not None:
        found.append(Goal("G4", "our webm reader over JPEG frames", frames, 4.0, least=True))
    return found
