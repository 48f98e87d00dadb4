"""Frames of a video file through torchcodec, an optional package."""

import importlib
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


def _open(path: str) -> Any:
    sniff_webm(path)
    decoder = importlib.import_module("torchcodec.decoders").VideoDecoder(
        path, seek_mode="exact", num_ffmpeg_threads=1, dimension_order="NHWC", device="cpu"
    )
    told = decoder.metadata
    require_complete(
        told.num_frames or 0,
        told.duration_seconds_from_header,
        told.average_fps_from_header,
        told.end_stream_seconds_from_content,
    )
    return decoder
