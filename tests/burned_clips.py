"""Small VP9 videos whose frames carry their own number in coarse black and white blocks."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

HEIGHT, WIDTH, BLOCK, BITS = 48, 72, 24, 6


def burned_frame(number: int, shade: int = 255) -> np.ndarray:
    """Return a frame of 2x3 blocks, each a bit of `number`: white of some shade for 1."""
    bits = [shade if number >> bit & 1 else 0 for bit in range(BITS)]
    coarse = np.array(bits, np.uint8).reshape(2, 3)
    grey = coarse.repeat(BLOCK, 0).repeat(BLOCK, 1)
    return np.repeat(grey[..., None], 3, -1)


def numbers(frames: np.ndarray) -> list[int]:
    """Read the numbers off frames [T, H, W, 3], whatever their size."""
    height, width = frames.shape[1] // 2, frames.shape[2] // 3
    middle = frames[:, height // 2 :: height, width // 2 :: width].mean(-1)[:, :2, :3]
    return ((middle > 100).reshape(len(frames), -1) @ (1 << np.arange(BITS))).tolist()


def write_webm(
    path: Path, count: int, times: Sequence[int] | None = None, live: bool = False
) -> Path:
    """Write `count` frames at 12 per second, or at `times` in twelfths of a second."""
    options = {"live": "1"} if live else {}
    with av.open(str(path), "w", format="webm", container_options=options) as container:
        stream = container.add_stream("libvpx-vp9", rate=12)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.gop_size = 9999
        stream.options = {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"}
        stream.codec_context.thread_count = 1
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(burned_frame(number), format="rgb24")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, 12)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
