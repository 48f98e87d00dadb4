"""Frames of a video file: what every reader offers, and the one over PyAV.

A reader keeps no file open between calls. A decoder that is opened before a worker is forked gives
wrong frames in it, without any error.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Int64, UInt8

from attnlab.data.image.decode import is_text
from attnlab.data.streamed import UnreadableSampleError

Frames = UInt8[np.ndarray, "frames height width 3"]
Choose = Callable[[int], Sequence[int] | Int64[np.ndarray, " frames"]]
"""From the number of frames in a video to the indices of those wanted, in any order."""

VIDEO_FOLDERS = (
    "20bn-something-something-v2",
    "videos/20bn-something-something-v2",
    "videos",
    "20bn-something-something-v2-frames",
    "frames",
    "rawframes",
    "",
)
"""Where videos or their frames are looked for, below the root."""

COMPLETE = 0.9
"""Part of its announced frames below which a video counts as cut off."""

_EBML = b"\x1a\x45\xdf\xa3"
_MICROSECOND = 1_000_000  # FFmpeg's unit of a container's duration


class FrameReader(ABC):
    """Finds videos below a directory and reads frames of them."""

    @abstractmethod
    def find(self, root: Path) -> dict[str, str]:
        """Return the address of every video below `root` by its id; empty if there is none."""

    @abstractmethod
    def clip(self, address: str, choose: Choose) -> Frames:
        """Read the frames that `choose` wants of the number there are.

        Raises:
            UnreadableSampleError: The video is damaged.
            OSError: It cannot be opened.
            ValueError: An index is not one of the video's frames.
        """

    @abstractmethod
    def count(self, address: str) -> int:
        """Return the number of frames; the errors are those of `clip`."""

    def read(self, address: str, indices: Sequence[int]) -> Frames:
        """Read the frames of some indices, in their order; an index may occur repeatedly."""
        return self.clip(address, lambda count: indices)

    def check(self, address: str) -> str | None:
        """Decode a whole video and return what is wrong with it, or None."""
        try:
            self.clip(address, lambda count: range(count))
        except (UnreadableSampleError, OSError) as error:
            return str(error)
        return None


def distinct(
    indices: Sequence[int] | Int64[np.ndarray, " frames"], count: int
) -> tuple[Int64[np.ndarray, " distinct"], Int64[np.ndarray, " frames"] | None]:
    """Return each index once, increasing, and where among these the wanted ones are.

    The latter is None if they are the former already, which spares a copy of the frames.

    Raises:
        ValueError: An index is not in [0, count), or there is none.
    """
    wanted = np.asarray(indices, dtype=np.int64)
    if not len(wanted) or wanted.min() < 0 or wanted.max() >= count:
        raise ValueError(f"indices={wanted.tolist()} must be in [0, {count})")
    once, where = np.unique(wanted, return_inverse=True)
    return once, None if len(once) == len(wanted) and (once == wanted).all() else where


def find_files(root: Path, suffix: str) -> dict[str, str]:
    """Return the files of a suffix in the first of `VIDEO_FOLDERS` that has any, by stem."""
    for folder in VIDEO_FOLDERS:
        directory = root / folder
        if not directory.is_dir():
            continue
        with os.scandir(directory) as entries:
            found = {
                entry.name[: -len(suffix)]: entry.path
                for entry in entries
                if entry.name.endswith(suffix) and not entry.name.startswith(".")
            }
        if found:
            return found
    return {}


def sniff_webm(path: str) -> None:
    """Tell by the first bytes that a file is no webm.

    Raises:
        UnreadableSampleError: It is not, with what it is instead.
        OSError: It cannot be opened.
    """
    with open(path, "rb", buffering=0) as file:
        start = file.read(64) or b""
    if start.startswith(_EBML):
        return
    if not start:
        raise UnreadableSampleError("empty file (0 bytes)")
    if is_text(start):
        raise UnreadableSampleError(
            f"a text or web page saved as a video (starts with {start[:24]!r}): download it anew"
        )
    raise UnreadableSampleError(f"no webm (starts with {start[:4].hex(' ')}, not 1a 45 df a3)")


def require_complete(
    count: int, duration: float | None, rate: float | None, end: float | None
) -> None:
    """Tell that a video was cut off, which decoders do not notice.

    It has too few frames for its duration and frame rate, and these end too early; a video of
    variable frame rate satisfies the former alone. Without a duration nothing can be told.

    Args:
        count: Frames there are.
        duration: What the header announces, in seconds.
        rate: Frames per second.
        end: Where the last frame ends, in seconds.

    Raises:
        UnreadableSampleError: It was.
    """
    if not count:
        raise UnreadableSampleError("no frames: cut off behind the header")
    if not duration or not rate or end is None:
        return
    if count < COMPLETE * duration * rate and end < COMPLETE * duration:
        raise UnreadableSampleError(
            f"cut off: {count} frames of {round(duration * rate)} "
            f"({duration:.2f} s at {rate:.4g} frames per second) that its header announces"
        )


class PyAVReader(FrameReader):
    """Decodes ``<id>.webm`` in one thread from the start to the last frame wanted.

    There is one key frame in a video of Something-Something, so seeking would gain nothing.
    """

    def find(self, root: Path) -> dict[str, str]:
        """Return the webm files; see `FrameReader`."""
        return find_files(root, ".webm")

    def count(self, address: str) -> int:
        """Count the packets, without decoding; see `FrameReader`."""
        with _Opened(address) as (container, stream):
            return len(_packets(container, stream))

    def clip(self, address: str, choose: Choose) -> Frames:
        """Decode; see `FrameReader`."""
        with _Opened(address) as (container, stream):
            packets = _packets(container, stream)
            once, where = distinct(choose(len(packets)), len(packets))
            frames = _decode(stream.codec_context, packets, once)
        return frames if where is None else frames[where]

    def check(self, address: str) -> str | None:
        """Decode all frames; see `FrameReader`."""
        try:
            self.clip(address, lambda count: [count - 1])
        except (UnreadableSampleError, OSError) as error:
            return str(error)
        return None


class _Opened:
    """An open container and its video stream; FFmpeg's errors become `UnreadableSampleError`."""

    def __init__(self, path: str) -> None:
        sniff_webm(path)
        self.path = path
        self.container: Any = None

    def __enter__(self) -> tuple[Any, Any]:
        try:
            self.container = av.open(self.path, metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise self._unreadable(error) from error
        stream = next(iter(self.container.streams.video), None)
        if stream is None or stream.codec_context is None:
            self.container.close()
            raise UnreadableSampleError("no video stream of a known codec")
        stream.thread_type = "NONE"  # its threads and those of a loader's worker hang together
        stream.codec_context.thread_count = 1
        return self.container, stream

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.container.close()
        if isinstance(error, av.error.FFmpegError):
            raise self._unreadable(error) from error

    def _unreadable(self, error: av.error.FFmpegError) -> UnreadableSampleError:
        size = os.path.getsize(self.path)
        return UnreadableSampleError(f"cannot be decoded, {size} bytes: {error.strerror}")


def _packets(container: Any, stream: Any) -> list[Any]:
    """Return the stream's packets, one per frame: the header does not say how many there are."""
    packets = [packet for packet in container.demux(stream) if packet.size]
    duration = container.duration / _MICROSECOND if container.duration else None
    end = None
    if packets and packets[-1].pts is not None:
        end = float((packets[-1].pts + (packets[-1].duration or 0)) * stream.time_base)
    rate = float(stream.average_rate) if stream.average_rate else None
    require_complete(len(packets), duration, rate, end)
    return packets


def _decoded(codec: Any, packets: Sequence[Any]) -> Iterator[Any]:
    for packet in packets:
        yield from codec.decode(packet)
    yield from codec.decode(None)


def _decode(codec: Any, packets: Sequence[Any], once: Int64[np.ndarray, " distinct"]) -> Frames:
    """Decode up to the last index and convert the frames of `once` only."""
    wanted = iter(once.tolist())
    reformatter = VideoReformatter()  # shared by the frames: its tables cost as much as a frame
    pixels: np.ndarray | None = None
    following, done, decoded = next(wanted), 0, 0
    for frame in _decoded(codec, packets):
        if decoded == following:
            if pixels is None:
                pixels = np.empty((len(once), frame.height, frame.width, 3), np.uint8)
            height, width = pixels.shape[1:3]
            rgb = reformatter.reformat(frame, width, height, format="rgb24", threads=1)
            plane: Any = rgb.planes[0]
            rows = np.frombuffer(plane, np.uint8).reshape(height, -1)  # padded
            pixels[done] = rows[:, : 3 * width].reshape(height, width, 3)
            done += 1
            if done == len(once):
                return pixels
            following = next(wanted)
        decoded += 1
    raise UnreadableSampleError(f"only {decoded} of {len(packets)} frames can be decoded")
