"""ImageNet's own archives, read in place: offsets are listed once, nothing is unpacked."""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np

from attnlab.data.image.annotations import Annotation
from attnlab.data.image.folders import SUFFIXES
from attnlab.data.image.listing import Found, Listing, Names, first, relative

TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
_COMPLETE = {TRAIN_TAR: 147_897_477_120, VAL_TAR: 6_744_924_160}  # bytes


def _damaged(path: Path, error: Exception) -> ValueError:
    size, complete = path.stat().st_size, _COMPLETE.get(path.name)
    hint = f"; ImageNet's has {complete}: a truncated download?" if complete else ""
    return ValueError(f"{path} cannot be read ({error}); it has {size} bytes{hint}")


def _members(file: IO[bytes]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the regular files of an uncompressed archive, without keeping them."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]
            if member.isreg():
                yield archive, member


def _images(file: IO[bytes]) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of the images of an archive."""
    for _, member in _members(file):
        name = PurePosixPath(member.name).name
        if name[0] != "." and name.lower().endswith(SUFFIXES):
            yield name, member.offset_data, member.size


class TarOfTars:
    """The training archive, with one inner archive per class.

    Args:
        root: Root of the data set.
        path: The archive.
    """

    def __init__(self, root: Path, path: Path) -> None:
        self.root = root
        self.path = path

    def __str__(self) -> str:
        return relative(self.path, self.root)

    def classes(self) -> list[str]:
        """Return the names of the inner archives.

        Raises:
            ValueError: The archive is damaged.
        """
        try:
            with self.path.open("rb") as file:
                names = [PurePosixPath(member.name) for _, member in _members(file)]
        except tarfile.TarError as error:
            raise _damaged(self.path, error) from error
        return sorted(name.stem for name in names if name.suffix == ".tar")

    def find(self, classes: Sequence[str]) -> Found:
        """List the members of the inner archives, class by class; see `Place`."""
        indices = {name: index for index, name in enumerate(classes)}
        rows: list[tuple[int, str, int, int]] = []
        try:
            with self.path.open("rb") as file:
                for archive, member in _members(file):
                    label = indices.get(PurePosixPath(member.name).stem)
                    inner = archive.extractfile(member)
                    if label is None or inner is None:
                        continue
                    rows += [
                        (label, f"{classes[label]}/{name}", member.offset_data + offset, size)
                        for name, offset, size in _images(inner)
                    ]
        except tarfile.TarError as error:
            raise _damaged(self.path, error) from error
        present = {label for label, *_ in rows}
        empty = [f"{name}.tar" for name, label in indices.items() if label not in present]
        if empty:
            raise ValueError(f"{self.path}: archives without an image: {first(empty)}")
        return Found(_listing(self, sorted(rows)), [str(self)], [])


class FlatTar:
    """The validation archive, whose images' classes a file names.

    Args:
        root: Root of the data set.
        path: The archive.
        annotation: Classes of its images.
    """

    def __init__(self, root: Path, path: Path, annotation: Annotation) -> None:
        self.root = root
        self.path = path
        self.annotation = annotation

    def __str__(self) -> str:
        return f"{relative(self.path, self.root)} labelled by {self.annotation.file.name}"

    def classes(self) -> None:
        """Say nothing: few images need not show all classes."""

    def find(self, classes: Sequence[str]) -> Found:
        """List the members in the order of their names; see `Place`."""
        try:
            with self.path.open("rb") as file:
                members = sorted(_images(file))
        except tarfile.TarError as error:
            raise _damaged(self.path, error) from error
        files = [name for name, *_ in members]
        labels, notes = self.annotation.labels(files, classes, str(self.path))
        rows = [(label, *member) for label, member in zip(labels, members, strict=True)]
        archive = relative(self.path, self.root)
        return Found(_listing(self, rows), [archive, *self.annotation.read(self.root)], notes)


def _listing(place: TarOfTars | FlatTar, rows: list[tuple[int, str, int, int]]) -> Listing:
    names = Names.of([name for _, name, *_ in rows])
    labels = np.array([label for label, *_ in rows], np.int64)
    spans = np.array([span for _, _, *span in rows], np.int64).reshape(-1, 2)
    return Listing(names, labels, relative(place.path, place.root), spans)
