"""All samples of a data set on disk, listed once and kept beside what would make them stale."""

import hashlib
import io
import os
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from attnlab.data.cache import default_cache_dir
from attnlab.data.image.classes import check_classes, count_notes, is_wnid
from attnlab.data.image.layouts import Layout, find_layout
from attnlab.data.image.listing import Listing, Names, first
from attnlab.files import write_atomically

_VERSION = 1  # of the file
_SETTLED_S = 2  # a folder changed so recently may change again without showing it


class Index(NamedTuple):
    """What a data set consists of.

    Attributes:
        layout: How it lies on the disk, in words.
        classes: Names in the order of their indices.
        train: The training set.
        official: The validation set.
        notes: What is odd about it, though legal.
    """

    layout: str
    classes: tuple[str, ...]
    train: Listing
    official: Listing
    notes: tuple[str, ...]


def build_index(layout: Layout, num_classes: int | None) -> tuple[Index, list[str]]:
    """List a data set; the folders and files that this depends on are returned beside it.

    Raises:
        ValueError: The classes are not `num_classes` or differ between the splits, a class has no
            image, or an image is in two places.
    """
    classes = layout.train.classes() or []
    check_classes(classes, num_classes, layout.train, layout.official.classes())
    train, official = layout.train.find(classes), layout.official.find(classes)
    if all(is_wnid(name) for name in classes):
        _check_unique(train.listing.names, official.listing.names)
    counts = count_notes(layout.name, classes, train.listing, official.listing)
    notes = (*train.notes, *official.notes, *counts)
    index = Index(layout.name, tuple(classes), train.listing, official.listing, notes)
    return index, train.read + official.read


def _check_unique(train: Names, official: Names) -> None:
    """Raise if an image of ImageNet, whose names are unique, is there twice."""
    counts = Counter(PurePosixPath(name).stem for name in train)
    own = Counter(PurePosixPath(name).stem for name in official)
    both = sorted(counts.keys() & own.keys())
    if both:
        raise ValueError(f"{len(both)} images are in both splits: {first(both)}")
    twice = sorted(name for name, count in (counts + own).items() if count > 1)
    if twice:
        raise ValueError(f"{len(twice)} images are there more than once: {first(twice)}")


def read_index(root: Path, num_classes: int | None) -> Index:
    """Return the index of `root`, from the cache where nothing has changed since it was listed.

    The times and sizes of all folders and files that it was listed from are compared: a stat per
    class, not per image.

    Args:
        root: Folder with the data.
        num_classes: Number of classes expected; any when None.

    Raises:
        OSError: See `find_layout`.
        ValueError: See `find_layout` and `build_index`.
    """
    path = _cache_path(root)
    cached = _load(path, root)
    if cached is not None:
        check_classes(cached.classes, num_classes, cached.layout)
        return cached
    index, read = build_index(find_layout(root), num_classes)
    _save(path, root, index, read)
    return index


def _cache_path(root: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return default_cache_dir() / f"images-v{_VERSION}-{digest}.npz"


def _stamps(root: Path, read: Sequence[str]) -> Int64[np.ndarray, "paths 2"]:
    stats = [os.stat(root / path) for path in read]
    stamps = [(each.st_mtime_ns, each.st_size) for each in stats]
    return np.array(stamps, np.int64).reshape(-1, 2)


def _pack(prefix: str, names: Names) -> dict[str, np.ndarray]:
    return {f"{prefix}_joined": names.joined, f"{prefix}_ends": names.ends}


def _save(path: Path, root: Path, index: Index, read: list[str]) -> None:
    """Keep the index, unless a change could go unseen."""
    stamps = _stamps(root, read)
    if stamps[:, 0].max() > (time.time() - _SETTLED_S) * 1e9:
        return
    texts = {"layout": [index.layout], "classes": index.classes, "notes": index.notes, "read": read}
    arrays: dict[str, np.ndarray] = {"stamps": stamps}
    for prefix, strings in texts.items():
        arrays |= _pack(prefix, Names.of(strings))
    for prefix, listing in (("train", index.train), ("official", index.official)):
        arrays |= _pack(prefix, listing.names) | _pack(f"{prefix}_in", Names.of([listing.archive]))
        arrays |= {f"{prefix}_labels": listing.labels, f"{prefix}_spans": listing.spans}
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        warnings.warn(
            f"{path} cannot be written ({error}): every run lists {root} anew", stacklevel=2
        )


def _load(path: Path, root: Path) -> Index | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = dict(content)
        texts = {
            prefix: Names(arrays[f"{prefix}_joined"], arrays[f"{prefix}_ends"])
            for prefix in ("layout", "classes", "notes", "read", "train", "official")
        }
        if not np.array_equal(_stamps(root, texts["read"]), arrays["stamps"]):
            return None
        train, official = (
            Listing(
                texts[prefix],
                arrays[f"{prefix}_labels"],
                Names(arrays[f"{prefix}_in_joined"], arrays[f"{prefix}_in_ends"])[0],
                arrays[f"{prefix}_spans"],
            )
            for prefix in ("train", "official")
        )
    except Exception:  # a missing or damaged file; NumPy raises half a dozen types
        return None
    return Index(
        texts["layout"][0], tuple(texts["classes"]), train, official, tuple(texts["notes"])
    )
