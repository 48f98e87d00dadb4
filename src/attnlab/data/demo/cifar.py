"""Handwritten digits in colour, written as the files of CIFAR-10 or CIFAR-100."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from attnlab.data.cifar_files import CIFAR10, CIFAR100, Form, Layout, Part
from attnlab.data.composer import draw_balanced, paste_scans
from attnlab.data.sources import load_scans
from attnlab.files import write_atomically

_SIDE = 32
_PARTS: tuple[Part, ...] = ("train", "test")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_BRIGHT = 128  # ink is at least so bright in every channel, and the ground at most


def write(
    directory: Path,
    seed: int = 0,
    train: int = 1000,
    test: int = 200,
    classes: int = 10,
    form: Form = "binary",
) -> None:
    """Write a small CIFAR in a form in which the real one is distributed, extracted.

    Of CIFAR-10 an image shows one digit. Of CIFAR-100 it shows two, which are the two figures of
    its class; five consecutive classes make a superclass. Ink and ground have any colour.

    Args:
        directory: Root to write to; made if missing.
        seed: Determines all images.
        train: Training images.
        test: Test images, from other scans.
        classes: 10 or 100.
        form: ``binary`` records or ``python`` pickles.

    Raises:
        ValueError: There are too few images for the files, or `classes` or `form` is unknown.
        OSError: The files cannot be written.
    """
    if classes not in (10, 100):
        raise ValueError(f"{classes=} must be 10 or 100")
    layout = CIFAR10 if classes == 10 else CIFAR100
    if form not in layout.forms:
        raise ValueError(f"{form=} must be one of {', '.join(layout.forms)}")
    members = layout.forms[form]
    for part, count in zip(_PARTS, (train, test), strict=True):
        files = members.files[part]
        if count < len(files):
            raise ValueError(f"{part}={count} must be at least {len(files)}, the number of files")
        rng = np.random.default_rng([seed, classes, _PARTS.index(part)])
        pixels, labels = _compose(rng, part, count, digits=len(layout.label_counts))
        for name, *own in zip(
            files, *(np.array_split(each, len(files)) for each in (pixels, labels)), strict=True
        ):
            encode = _records if form == "binary" else _pickled
            write_atomically(directory / members.folder / name, encode(layout, name, *own))
    _write_names(directory / members.folder, layout, form)


def _compose(
    rng: np.random.Generator, part: Part, count: int, digits: int
) -> tuple[UInt8[np.ndarray, "{count} 3072"], Integer[np.ndarray, "{count}"]]:
    """Return coloured images of one or two digits, and the number that these make."""
    scans, values = load_scans(part, data_seed=0)
    ink = np.zeros((count, _SIDE, _SIDE), np.uint8)
    labels = np.zeros(count, np.int64)
    room = _SIDE // digits
    for place in range(digits):
        chosen = draw_balanced(rng, values, count)
        side = rng.integers(room - 4, room + 1, size=count)
        top, left = rng.integers(_SIDE - side + 1), rng.integers(room - side + 1)
        used, which = np.unique(chosen, return_inverse=True)  # few, when few images are wanted
        paste_scans(ink, scans[used], which, side, top, place * room + left)
        labels = 10 * labels + values[chosen]
    bright, dark = (
        rng.integers(low, low + _BRIGHT, size=(count, 3, 1)).astype(np.uint16)
        for low in (256 - _BRIGHT, 0)
    )
    cover = ink.reshape(count, 1, -1).astype(np.uint16)  # 255 * 255 is the largest sum below
    pixels = (bright * cover + dark * (255 - cover)) // 255
    return pixels.astype(np.uint8).reshape(count, -1), labels


def _superclasses(layout: Layout, labels: Integer[np.ndarray, "count"]) -> np.ndarray:
    superclasses, classes = layout.label_counts
    return labels * superclasses // classes


def _records(
    layout: Layout,
    name: str,
    pixels: UInt8[np.ndarray, "count 3072"],
    labels: Integer[np.ndarray, "count"],
) -> bytes:
    leading = [labels] if len(layout.label_counts) == 1 else [_superclasses(layout, labels), labels]
    return np.column_stack([*leading, pixels]).astype(np.uint8).tobytes()


def _pickled(
    layout: Layout,
    name: str,
    pixels: UInt8[np.ndarray, "count 3072"],
    labels: Integer[np.ndarray, "count"],
) -> bytes:
    batch: dict[str, Any] = {
        "data": pixels,
        layout.label_key: labels.tolist(),
        "batch_label": name,
        "filenames": [f"{name}_{number:05d}.png" for number in range(len(labels))],
    }
    if len(layout.label_counts) > 1:
        batch["coarse_labels"] = _superclasses(layout, labels).tolist()
    return pickle.dumps(batch, protocol=2)  # that of the published files


def _write_names(folder: Path, layout: Layout, form: Form) -> None:
    """Write the classes' names where the published files have them."""
    if len(layout.label_counts) == 1:
        names = {"label_names": list(_DIGITS)}
        text = {"batches.meta.txt": "label_names"}
    else:
        names = {
            "coarse_label_names": [f"{5 * group} to {5 * group + 4}" for group in range(20)],
            "fine_label_names": [f"{left} {right}" for left in _DIGITS for right in _DIGITS],
        }
        text = {f"{key}.txt": key for key in names}
    if form == "python":
        meta = "batches.meta" if len(layout.label_counts) == 1 else "meta"
        write_atomically(folder / meta, pickle.dumps(names, protocol=2))
        return
    for file, key in text.items():
        write_atomically(folder / file, "\n".join(names[key]) + "\n")
