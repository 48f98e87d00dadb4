"""Splits that are folders: one folder per class, or one folder and a file that names classes."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from attnlab.data.image.annotations import Annotation
from attnlab.data.image.listing import Found, Listing, first, relative

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm")


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder`, sorted; hidden ones are no classes."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name[0] != "." and entry.is_dir())


def images(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield this folder and those below it, each with its images, in sorted order.

    Hidden files are left out, such as the ``._*.JPEG`` that macOS leaves in archives.
    """
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == ".":
                continue
            if entry.name.lower().endswith(SUFFIXES):
                files.append(entry.name)
            elif entry.is_dir():
                folders.append(entry.name)
    yield str(folder), sorted(files)
    for below in sorted(folders):
        yield from images(folder / below)


class Folders:
    """A split with one folder per class; folders within them belong to the class.

    Args:
        root: Root of the data set.
        folder: Folder of the split.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder

    def __str__(self) -> str:
        return f"{relative(self.folder, self.root)}/<class>/"

    def classes(self) -> list[str]:
        """Return the names of the folders."""
        return class_folders(self.folder)

    def find(self, classes: Sequence[str]) -> Found:
        """List the images, class by class; see `Place`."""
        self._check(classes)
        names: list[str] = []
        labels: list[int] = []
        read, empty = [relative(self.folder, self.root)], []
        for label, name in enumerate(classes):
            before = len(names)
            for folder, files in images(self.folder / name):
                read.append(relative(Path(folder), self.root))
                names += [f"{read[-1]}/{file}" for file in files]
            labels += [label] * (len(names) - before)
            if len(names) == before:
                empty.append(f"{self.folder / name}")
        if empty:
            raise ValueError(
                f"{len(empty)} class folders hold no image: {first(empty)} (interrupted unpacking?)"
            )
        return Found(Listing.of_files(names, labels), read, [])

    def _check(self, classes: Sequence[str]) -> None:
        own = set(self.classes())
        missing = [name for name in classes if name not in own]
        extra = sorted(own.difference(classes))
        if missing or extra:
            raise ValueError(
                f"{self.folder} and the training set differ in their classes: "
                f"missing {first(missing) or 'none'}; extra {first(extra) or 'none'}"
            )


class FlatFolder:
    """A split whose images lie in one folder.

    Args:
        root: Root of the data set.
        folder: Folder of the images.
        annotation: Their classes.
    """

    def __init__(self, root: Path, folder: Path, annotation: Annotation) -> None:
        self.root = root
        self.folder = folder
        self.annotation = annotation

    def __str__(self) -> str:
        return f"{relative(self.folder, self.root)}/ labelled by {self.annotation.file.name}"

    def classes(self) -> None:
        """Say nothing: few images need not show all classes."""

    def find(self, classes: Sequence[str]) -> Found:
        """List the images in the order of their names; see `Place`."""
        folder = relative(self.folder, self.root)
        _, files = next(images(self.folder))
        labels, notes = self.annotation.labels(files, classes, str(self.folder))
        listing = Listing.of_files([f"{folder}/{file}" for file in files], labels)
        return Found(listing, [folder, *self.annotation.read(self.root)], notes)
