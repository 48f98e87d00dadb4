"""Videos whose frames were extracted as JPEG files: folders of them, or tars with an index."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attnlab.data.image.decode import decode
from attnlab.data.streamed import UnreadableSampleError
from attnlab.data.video.readers import VIDEO_FOLDERS, Choose, FrameReader, Frames, distinct

TARS = "frames-tar"
"""Folder of the tars, below the root."""

_FRAME = re.compile(r"(?:.*\D)?(\d+)\.jpe?g", re.IGNORECASE)
_LONG = np.dtype("<i8")


class FrameFolderReader(FrameReader):
    """Reads ``<id>/000001.jpg`` or ``<id>/img_00001.jpg``, decoding the frames wanted only."""

    def find(self, root: Path) -> dict[str, str]:
        """Return the folders; see `FrameReader`. What is in them is not looked at."""
        for folder in VIDEO_FOLDERS:
            directory = root / folder
            if not directory.is_dir():
                continue
            with os.scandir(directory) as entries:
                found = {e.name: e.path for e in entries if e.name.isdecimal() and e.is_dir()}
            if found:
                return found
        return {}

    def count(self, address: str) -> int:
        """Count the files; see `FrameReader`."""
        return len(_frame_files(address))

    def clip(self, address: str, choose: Choose) -> Frames:
        """Decode the files; see `FrameReader`."""
        paths = _frame_files(address)
        once, where = distinct(choose(len(paths)), len(paths))
        contents = [Path(paths[index]).read_bytes() for index in once]
        frames = _decode(contents, [os.path.basename(paths[index]) for index in once])
        return frames if where is None else frames[where]


def _frame_files(folder: str) -> list[str]:
    """Return a folder's frames in order, after a check that none between them is missing."""
    with os.scandir(folder) as entries:
        numbered = {
            int(match[1]): entry.path
            for entry in entries
            if (match := _FRAME.fullmatch(entry.name))
        }
    if not numbered:
        raise UnreadableSampleError("no frames: the folder holds no numbered .jpg file")
    first, last = min(numbered), max(numbered)
    if last - first + 1 != len(numbered):
        gap = next(number for number in range(first, last) if number not in numbered)
        raise UnreadableSampleError(
            f"{len(numbered)} frames numbered {first} to {last}: number {gap} is missing"
        )
    return [numbered[number] for number in range(first, last + 1)]


def _decode(contents: Sequence[bytes], names: Sequence[str]) -> Frames:
    """Decode files to frames of one size."""
    frames: np.ndarray | None = None
    for number, (content, name) in enumerate(zip(contents, names, strict=True)):
        try:
            frame = decode(content)
        except UnreadableSampleError as error:
            raise UnreadableSampleError(f"frame {name}: {error}") from error
        if frames is None:
            frames = np.empty((len(contents), *frame.shape), np.uint8)
        if frame.shape != frames.shape[1:]:
            height, width = frame.shape[:2]
            raise UnreadableSampleError(
                f"frame {name} is {height}x{width}, others are {frames.shape[1]}x{frames.shape[2]}"
            )
        frames[number] = frame
    assert frames is not None
    return frames


class FrameTarReader(FrameReader):
    """Reads the tars that ``python -m attnlab prepare ssv2`` writes.

    Beside each ``00000.tar`` lie ``00000.json``, which maps the ids in it to [first frame, number
    of frames], and ``00000.index``, where each of its frames has two 64-bit integers: offset and
    size in bytes. An address is the tar's path, the id, the first frame and the number of frames,
    with colons between.
    """

    def find(self, root: Path) -> dict[str, str]:
        """Return the clips of all whole tars; see `FrameReader`."""
        found: dict[str, str] = {}
        for listing in sorted((root / TARS).glob("*.json")):
            tar = listing.with_suffix(".tar")
            for name, (first, count) in json.loads(listing.read_bytes()).items():
                found[name] = f"{tar}:{name}:{first}:{count}"
        return found

    def count(self, address: str) -> int:
        """Return what the index says; see `FrameReader`."""
        return int(address.rsplit(":", 1)[1])

    def clip(self, address: str, choose: Choose) -> Frames:
        """Decode the members; see `FrameReader`."""
        tar, _, first, count = address.rsplit(":", 3)
        once, where = distinct(choose(int(count)), int(count))
        table = np.fromfile(
            tar.removesuffix(".tar") + ".index", _LONG, 2 * int(count), offset=16 * int(first)
        )
        if len(table) != 2 * int(count):
            raise UnreadableSampleError("the index beside the tar is cut off")
        with open(tar, "rb", buffering=0) as file:
            places = table.reshape(-1, 2)[once].tolist()
            contents = [os.pread(file.fileno(), size, offset) for offset, size in places]
        if [len(content) for content in contents] != [size for _, size in places]:
            raise UnreadableSampleError(f"the tar is cut off: {os.path.getsize(tar)} bytes")
        frames = _decode(contents, [f"{index + 1:06d}.jpg" for index in once])
        return frames if where is None else frames[where]
