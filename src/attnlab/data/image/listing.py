"""The samples of one split as a few arrays, which forked workers share without copying."""

from collections.abc import Iterator, Sequence
from os import fsdecode, fsencode
from pathlib import Path
from typing import NamedTuple, Protocol, overload

import numpy as np
from jaxtyping import Int64, UInt8


class Names(Sequence[str]):
    """Strings in one array: a list of a million would be copied by every worker that counts it.

    Args:
        joined: The strings' bytes, one after the other.
        ends: Where each of them ends.
    """

    def __init__(self, joined: UInt8[np.ndarray, " bytes"], ends: Int64[np.ndarray, " count"]):
        self.joined = joined
        self.ends = ends

    @classmethod
    def of(cls, strings: Sequence[str]) -> "Names":
        """Pack strings; those of file names may hold bytes that are no UTF-8."""
        encoded = [fsencode(each) for each in strings]
        ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        start = self.ends[index - 1] if index else 0
        return fsdecode(self.joined[start : self.ends[index]].tobytes())

    def __iter__(self) -> Iterator[str]:
        joined, start = self.joined.tobytes(), 0
        for end in self.ends.tolist():
            yield fsdecode(joined[start:end])
            start = end


class Listing(NamedTuple):
    """Where the samples of one split are.

    Attributes:
        names: Paths of the files from the root, or within the archive.
        labels: Class indices.
        archive: Path of the archive from the root; empty for files.
        spans: Where each sample begins in the archive, and its length in bytes; none for files.
    """

    names: Names
    labels: Int64[np.ndarray, " samples"]
    archive: str
    spans: Int64[np.ndarray, "spans 2"]

    @classmethod
    def of_files(cls, names: Sequence[str], labels: Sequence[int]) -> "Listing":
        """List files."""
        spans = np.zeros((0, 2), np.int64)
        return cls(Names.of(names), np.array(labels, np.int64), "", spans)


class Found(NamedTuple):
    """What listing a split gave.

    Attributes:
        listing: Its samples.
        read: The folders and files that it was read from, from the root: a change of one of
            them makes it stale.
        notes: What is odd about it, though legal.
    """

    listing: Listing
    read: list[str]
    notes: list[str]


class Place(Protocol):
    """A split as it lies on the disk."""

    def __str__(self) -> str:
        """Return what is shown of it."""

    def classes(self) -> list[str] | None:
        """Return the names of its classes, sorted, or None where it does not say."""

    def find(self, classes: Sequence[str]) -> Found:
        """List its samples.

        Args:
            classes: Names in the order of their indices.

        Raises:
            ValueError: A sample's class is not among them, or a class has no sample.
        """


def first(names: Sequence[str], limit: int = 10) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def relative(path: Path, root: Path) -> str:
    """Return a path as it is stored: from the root where it lies below it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
