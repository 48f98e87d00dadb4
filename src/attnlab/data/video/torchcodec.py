"""Frames of a video file through torchcodec, an optional package."""

import importlib
import re
import struct
from pathlib import Path
from typing import Any

from attnlab.data.streamed import UnreadableSampleError
from attnlab.data.video.readers import (
    Choose,
    FrameReader,
    Frames,
    distinct,
    find_files,
    require_complete,
    sniff_webm,
)

# Elements of a webm's Info: what precedes the video, hence within the first bytes.
_HEADER = 4096
_DURATION = re.compile(rb"\x44\x89(?:\x88(?P<double>.{8})|\x84(?P<single>.{4}))", re.DOTALL)
_SCALE = re.compile(rb"\x2a\xd7\xb1\x83(.{3})", re.DOTALL)


class TorchCodecReader(FrameReader):
    """Decodes ``<id>.webm`` by torchcodec in its exact mode, in one thread.

    The frames are those of `PyAVReader`, bit for bit, at about the same cost.

    Raises:
        ImportError: torchcodec, or the FFmpeg libraries that it needs, cannot be loaded.
    """

    def __init__(self) -> None:
        try:
            importlib.import_module("torchcodec.decoders")
        except (ImportError, RuntimeError, OSError) as error:
            reason = str(error).strip().split("\n", 1)[0]
            raise ImportError(
                "TorchCodecReader needs torchcodec (pip install 'attnlab[torchcodec]') and the "
                f"shared libraries of FFmpeg: {reason}"
            ) from error

    def find(self, root: Path) -> dict[str, str]:
        """Return the webm files; see `FrameReader`."""
        return find_files(root, ".webm")

    def count(self, address: str) -> int:
        """Count the packets; see `FrameReader`."""
        try:
            return int(_open(address).metadata.num_frames)
        except RuntimeError as error:
            raise _unreadable(error) from error

    def clip(self, address: str, choose: Choose) -> Frames:
        """Decode; see `FrameReader`."""
        try:
            decoder = _open(address)
            count = int(decoder.metadata.num_frames)
            once, where = distinct(choose(count), count)
            frames: Frames = decoder.get_frames_at(once.tolist()).data.numpy()
        except RuntimeError as error:
            raise _unreadable(error) from error
        return frames if where is None else frames[where]


def _unreadable(error: RuntimeError) -> UnreadableSampleError:
    return UnreadableSampleError(f"cannot be decoded: {' '.join(str(error).split())[:200]}")


def _announced(path: str) -> float | None:
    """Return the duration in a webm's header in seconds: torchcodec keeps it to itself."""
    with open(path, "rb") as file:
        header = file.read(_HEADER)
    scale, duration = _SCALE.search(header), _DURATION.search(header)
    if duration is None:
        return None
    number = duration["double"] or duration["single"]
    (ticks,) = struct.unpack(">d" if len(number) == 8 else ">f", number)
    nanoseconds = int.from_bytes(scale[1], "big") if scale else 1_000_000
    return float(ticks) * nanoseconds / 1e9


def _open(path: str) -> Any:
    sniff_webm(path)
    decoder = importlib.import_module("torchcodec.decoders").VideoDecoder(
        path, seek_mode="exact", num_ffmpeg_threads=1, dimension_order="NHWC", device="cpu"
    )
    told = decoder.metadata
    require_complete(
        told.num_frames or 0,
        _announced(path),
        told.average_fps_from_header,
        told.end_stream_seconds_from_content,
    )
    return decoder
