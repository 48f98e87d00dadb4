"""The forms in which CIFAR is distributed: archives or folders, of pickles or of plain records."""

import hashlib
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from attnlab.data.download import Archive, check
from attnlab.data.pickles import load_arrays
from attnlab.data.roots import describe_missing

SHAPE = (3, 32, 32)
"""Channels, height and width; pixels are stored row by row, red before green before blue."""

Form = Literal["binary", "python"]
Part = Literal["train", "test"]


class Samples(NamedTuple):
    """Images and their classes."""

    pixels: UInt8[np.ndarray, "samples 3 32 32"]
    labels: Int64[np.ndarray, "samples"]


class Members(NamedTuple):
    """One form of a data set.

    Attributes:
        archive: The archive its authors offer.
        folder: The folder in it.
        files: Names of the files in the folder, by part.
    """

    archive: Archive
    folder: str
    files: Mapping[Part, tuple[str, ...]]


@dataclass(frozen=True)
class Layout:
    """What distinguishes one CIFAR from the other.

    Attributes:
        name: What the data set is called.
        label_counts: Number of classes of each label byte before the pixels of a record; the last
            one is the label. CIFAR-100 has the superclass before the class.
        label_key: Name of the labels in a pickle.
        sizes: Images published, by part.
        forms: Its forms; the first one is downloaded, since it needs no pickle.
        md5: MD5 of the published pickles.
    """

    name: str
    label_counts: tuple[int, ...]
    label_key: str
    sizes: Mapping[Part, int]
    forms: Mapping[Form, Members]
    md5: Mapping[str, str] = field(default_factory=dict)


class Contents(NamedTuple):
    """A whole data set.

    Attributes:
        train: The images to train on.
        test: Those to test on.
        notes: In what they differ from the published ones, a line each.
    """

    train: Samples
    test: Samples
    notes: list[str]


class Found(NamedTuple):
    """Where a data set lies, as an archive or as the folder of its files, and in which form."""

    path: Path
    form: Form
    packed: bool

    def __str__(self) -> str:
        return f"{self.form} {'archive' if self.packed else 'folder'} {self.path}"


_HOME = "https://www.cs.toronto.edu/~kriz/"
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_SIZES: Mapping[Part, int] = {"train": 50_000, "test": 10_000}

CIFAR10 = Layout(
    "CIFAR-10",
    label_counts=(10,),
    label_key="labels",
    sizes=_SIZES,
    forms={
        "binary": Members(
            Archive(
                _HOME + "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 170_052_171
            ),
            "cifar-10-batches-bin",
            {"train": tuple(f"{name}.bin" for name in _BATCHES), "test": ("test_batch.bin",)},
        ),
        "python": Members(
            Archive(
                _HOME + "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170_498_071
            ),
            "cifar-10-batches-py",
            {"train": _BATCHES, "test": ("test_batch",)},
        ),
    },
    md5={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
)

CIFAR100 = Layout(
    "CIFAR-100",
    label_counts=(20, 100),
    label_key="fine_labels",
    sizes=_SIZES,
    forms={
        "binary": Members(
            Archive(
                _HOME + "cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 168_513_733
            ),
            "cifar-100-binary",
            {"train": ("train.bin",), "test": ("test.bin",)},
        ),
        "python": Members(
            Archive(
                _HOME + "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437
            ),
            "cifar-100-python",
            {"train": ("train",), "test": ("test",)},
        ),
    },
    md5={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
)


def locate(root: Path, layout: Layout) -> Found | None:
    """Return where a data set lies below a root, folders before archives, or None."""
    for form, (_, folder, files) in layout.forms.items():
        for path in (root / folder, root):
            if (path / files["test"][0]).is_file():
                return Found(path, form, packed=False)
    for form, (archive, _, _) in layout.forms.items():
        if (root / archive.name).is_file():
            return Found(root / archive.name, form, packed=True)
    return None


def find(root: Path, layout: Layout) -> Found:
    """Return where a data set lies below a root.

    Raises:
        FileNotFoundError: It is not there; the message says what is accepted and what is there.
    """
    found = locate(root, layout)
    if found is None:
        names = [
            name
            for archive, folder, _ in layout.forms.values()
            for name in (folder + "/", archive.name)
        ]
        wanted = f"a folder with one of {', '.join(names)} (--data.download true fetches it)"
        raise FileNotFoundError(describe_missing(root, wanted))
    return found


def read(found: Found, layout: Layout) -> Contents:
    """Return all images, after the MD5 of an archive; a folder may hold fewer than published.

    Raises:
        ValueError: An archive or a file is damaged, or a label is no class.
        FileNotFoundError: A file is missing.
    """
    members = layout.forms[found.form]
    names = [name for files in members.files.values() for name in files]
    if found.packed:
        check(found.path, members.archive)
        contents = _unpack(found.path, members.folder, names)
    else:
        contents = {name: (found.path / name).read_bytes() for name in names}
    notes = [
        f"{name} has another MD5"
        for name in names
        if _differs(contents[name], layout.md5.get(name))
    ]
    read_file = read_records if found.form == "binary" else read_pickle
    parts: dict[Part, Samples] = {}
    for part, files in members.files.items():
        pieces = [read_file(contents[name], str(found.path / name), layout) for name in files]
        parts[part] = Samples(*map(np.concatenate, zip(*pieces, strict=True)))
        count, published = len(parts[part].labels), layout.sizes[part]
        if count != published:
            notes.append(f"{count:,} {part} images, not {published:,}")
    return Contents(parts["train"], parts["test"], notes)


def _unpack(path: Path, folder: str, names: Iterable[str]) -> dict[str, bytes]:
    """Return the files of an archive; nothing is written to disk."""
    wanted = {f"{folder}/{name}": name for name in names}
    contents = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            name = wanted.get(str(PurePosixPath(member.name)))
            stream = archive.extractfile(member) if name else None
            if name and stream:
                contents[name] = stream.read()
    missing = sorted(set(wanted.values()) - set(contents))
    if missing:
        raise FileNotFoundError(f"{path} has no {folder}/{missing[0]}")
    return contents


def _differs(content: bytes, md5: str | None) -> bool:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return md5 is not None and found != md5


def read_records(content: bytes, source: str, layout: Layout) -> Samples:
    """Return the images of a file of the binary form.

    Args:
        content: Records of one byte per label and 3,072 pixels.
        source: The file's path, for the message.
        layout: Of which data set.

    Raises:
        ValueError: The file does not consist of whole records, or a label is no class.
    """
    leading = len(layout.label_counts)
    length = leading + int(np.prod(SHAPE))
    if not content or len(content) % length:
        raise ValueError(
            f"{source} has {len(content):,} bytes, not a positive multiple of the {length:,} of a "
            f"{layout.name} record: truncated, or not {layout.name}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    for column, count in enumerate(layout.label_counts):
        _check_labels(records[:, column], count, source, layout.name)
    labels = records[:, leading - 1].astype(np.int64)
    return Samples(records[:, leading:].reshape(-1, *SHAPE), labels)


def read_pickle(content: bytes, source: str, layout: Layout) -> Samples:
    """Return the images of a file of the python form; nothing in it is executed.

    Args:
        content: A pickled dictionary of the images and their labels.
        source: The file's path, for the message.
        layout: Of which data set.

    Raises:
        ValueError: The file holds anything else, or a label is no class.
    """
    batch = load_arrays(content, source)
    if not isinstance(batch, dict) or not {"data", layout.label_key} <= batch.keys():
        raise ValueError(f"{source} must hold a dictionary with 'data' and {layout.label_key!r}")
    pixels, labels = batch["data"], np.asarray(batch[layout.label_key])
    width = int(np.prod(SHAPE))
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or labels.dtype.kind not in "iu"
    ):
        raise ValueError(f"{source} must hold 'data' as bytes and {layout.label_key!r} as integers")
    if pixels.shape != (len(labels), width) or labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"{source} must hold 'data' [images, {width}] and as many {layout.label_key!r}, "
            f"not {pixels.shape} and {labels.shape}"
        )
    _check_labels(labels, layout.label_counts[-1], source, layout.name)
    return Samples(pixels.reshape(-1, *SHAPE), labels.astype(np.int64))


def _check_labels(labels: np.ndarray, count: int, source: str, name: str) -> None:
    """Check all labels now: on a device a wrong one is an assertion without a name."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= count:
        raise ValueError(
            f"{source} has labels {low} to {high}, but those of {name} are 0 to {count - 1}"
        )
