"""The images of one split as a `Source`: read from files or from an archive."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from attnlab.data.image.decode import decode
from attnlab.data.image.listing import Listing
from attnlab.data.streamed import UnreadableSampleError


class ImageSource:
    """Images on disk, each opened, decoded and closed when asked for.

    Args:
        root: Root of the data set.
        listing: Which images.
    """

    def __init__(self, root: Path, listing: Listing) -> None:
        self.root = str(root)
        self.listing = listing
        self.labels = listing.labels

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Return the image's path from the root, through its archive if it lies in one."""
        return os.path.join(self.listing.archive, self.listing.names[index])

    def names(self) -> Iterator[str]:
        """Yield the names of all images."""
        return (os.path.join(self.listing.archive, name) for name in self.listing.names)

    def content(self, index: int) -> bytes:
        """Return the file of an image, still encoded.

        Raises:
            OSError: It cannot be opened or read.
        """
        if not self.listing.archive:
            with open(os.path.join(self.root, self.listing.names[index]), "rb") as file:
                return file.read()
        offset, size = self.listing.spans[index].tolist()
        with open(os.path.join(self.root, self.listing.archive), "rb", buffering=0) as file:
            file.seek(offset)
            return file.read(size)

    def read(self, index: int, rng: np.random.Generator) -> UInt8[np.ndarray, "1 height width 3"]:
        """Decode an image; see `Source`."""
        return decode(self.content(index))[None]

    def check(self, index: int) -> str | None:
        """Decode an image and return what is wrong with it, or None."""
        try:
            decode(self.content(index))
        except (UnreadableSampleError, OSError) as error:
            return str(error)
        return None
