"""Composed images on disk: one ``.npy`` matrix of bytes per split, whole or not there.

A row is one label byte followed by the pixels; the last row holds the SHA-256 of all rows before
it, so that a damaged file is told from a sound one.
"""

import hashlib
import io
import math
import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from attnlab.files import write_atomically

Images = UInt8[np.ndarray, "count *shape"]
Labels = UInt8[np.ndarray, "count"]


def default_cache_dir() -> Path:
    """Return the directory named by ATTNLAB_CACHE, or ``~/.cache/attnlab``."""
    return Path(os.environ.get("ATTNLAB_CACHE") or Path.home() / ".cache" / "attnlab")


def _digest(rows: UInt8[np.ndarray, "count width"]) -> UInt8[np.ndarray, "32"]:
    return np.frombuffer(hashlib.sha256(rows.data).digest(), np.uint8)


def write_records(path: Path, images: Images, labels: Labels) -> None:
    """Write a split so that a reader, or a second writer, never meets a part of it.

    Raises:
        OSError: The directory cannot be written or the disk is full.
    """
    rows = np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1)
    last = np.zeros((1, rows.shape[1]), np.uint8)
    last[0, :32] = _digest(rows)
    content = io.BytesIO()
    np.save(content, np.concatenate([rows, last]))
    write_atomically(path, content.getvalue())


def read_records(path: Path, shape: tuple[int, ...]) -> tuple[Images, Labels] | None:
    """Map a split into memory, copy-on-write.

    Args:
        path: File written by `write_records`.
        shape: Channels, height and width of an image; of a clip, the frames before them.

    Returns:
        Images [count, *shape] and labels [count], or None if the file is missing or damaged.
    """
    try:
        rows = np.load(path, mmap_mode="c", allow_pickle=False)
    except Exception:  # NumPy raises half a dozen types on bytes that are no array
        return None
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 1 + math.prod(shape):
        return None
    if not len(rows) or not np.array_equal(rows[-1, :32], _digest(rows[:-1])):
        return None
    return rows[:-1, 1:].reshape(-1, *shape), rows[:-1, 0]
