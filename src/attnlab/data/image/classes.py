"""Are the classes on the disk those that were asked for, and is the set complete?"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from attnlab.data.image.listing import Listing, Place, first

_WNIDS = Path(__file__).parents[1] / "assets" / "imagenet_wnids.txt"
_FULL = {"ImageNet": (1_281_167, 50_000), "Tiny-ImageNet": (100_000, 10_000)}


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """Return the 1,000 classes of ImageNet-1k in the order of their indices."""
    return tuple(_WNIDS.read_text().split())


def is_wnid(name: str) -> bool:
    """Return whether a class is named as WordNet's synsets are: n and eight digits."""
    return re.fullmatch(r"n\d{8}", name) is not None


def check_classes(
    classes: Sequence[str],
    num_classes: int | None,
    place: Place | str,
    official: Sequence[str] | None = None,
) -> None:
    """Compare the classes found with those expected.

    Args:
        classes: Names found in the training set, sorted.
        num_classes: How many are expected; any when None.
        place: Where they were found.
        official: Names found in the validation set, if it says.

    Raises:
        ValueError: Their number differs; the message names those missing and those too many
            where ImageNet's list or the validation set says which they are.
    """
    if num_classes in (None, len(classes)):
        return
    message = f"{num_classes=}, but {place} has {len(classes)} classes"
    for reference in (imagenet_wnids(), official or ()):
        known = set(reference)
        if len(known) == num_classes and 2 * len(known.intersection(classes)) > len(classes):
            missing = sorted(known.difference(classes))
            extra = sorted(set(classes) - known)
            hint = "interrupted unpacking?" if missing else "a folder that is no class?"
            raise ValueError(
                f"{message}: missing {first(missing) or 'none'}; extra {first(extra) or 'none'} "
                f"({hint})"
            )
    raise ValueError(f"{message}: {first(classes)}")


def count_notes(
    layout: str, classes: Sequence[str], train: Listing, official: Listing
) -> list[str]:
    """Return in which splits of a known set images are missing or too many; subsets are legal."""
    kind = "ImageNet" if tuple(classes) == imagenet_wnids() else ""
    if layout.startswith("Tiny-ImageNet") and len(classes) == 200:
        kind = "Tiny-ImageNet"
    return [
        f"the {split} set has {len(listing.labels):,} images, that of {kind} has {full:,}"
        for split, listing, full in zip(
            ("training", "validation"), (train, official), _FULL.get(kind, ()), strict=False
        )
        if len(listing.labels) != full
    ]
