"""Files for the input benchmark: JPEGs like ImageNet's, webm clips like Something-Something's."""

import io
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from attnlab.data.image.classes import imagenet_wnids
from attnlab.data.sources import load_textures

CLIP_FRAMES, CLIP_RATE, CLIP_SIDES = 43, 12, (240, 427)
"""Median length, frame rate and a common size of Something-Something-V2."""

JPEG_QUALITY = 94
NOISE, CLIP_NOISE = 9.5, 4.0
"""Standard deviation of the sensor noise in grey levels: JPEGs have 95 kB on average then."""

CLIP_BITS_PER_S = 200_000
"""About the mean of Something-Something-V2: 20 GB for 220,847 clips."""


def write_images(directory: Path, count: int, copies: int, classes: int = 10, seed: int = 0) -> int:
    """Write a folder per class, of which ``directory/train`` holds all images and ``val`` a few.

    An image is a photograph of the embedded ones, enlarged, tinted by another and noisy. Widths
    and heights are near 500 and 375, every fifth upright.

    Args:
        directory: Where to; must not hold a tree yet.
        count: Distinct images.
        copies: Names of each in its class, by hard links, so that an epoch is long enough.
        classes: Folders.
        seed: Determines the bytes.

    Returns:
        Bytes of all distinct images.
    """
    rng, total = np.random.default_rng(seed), 0
    photographs = np.concatenate([load_textures("train"), load_textures("test")[:, :192]], axis=0)
    for index in range(count):
        name = imagenet_wnids()[index % classes]
        first = directory / "train" / name / f"{name}_{index}.JPEG"
        first.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_photograph(photographs, rng, upright=index % 5 == 4)).save(
            first, quality=JPEG_QUALITY
        )
        total += first.stat().st_size
        for copy in range(1, copies):
            os.link(first, first.with_name(f"{name}_{index + copy * count}.JPEG"))
        if index < 2 * classes:
            held_out = directory / "val" / name / f"ILSVRC2012_val_{index + 1:08d}.JPEG"
            held_out.parent.mkdir(parents=True, exist_ok=True)
            os.link(first, held_out)
    return total


def _photograph(
    photographs: UInt8[np.ndarray, "photographs rows columns"],
    rng: np.random.Generator,
    upright: bool,
) -> UInt8[np.ndarray, "height width 3"]:
    height, width = int(rng.integers(340, 411)), int(rng.integers(470, 531))
    height, width = (width, height) if upright else (height, width)
    planes = [_enlarged(photographs, rng, height, width, least=least) for least in (0.7, 0.3, 0.3)]
    light, *tints = planes
    # Chroma from other photographs, weaker than the light, as in nature.
    colour = np.stack([light + 0.25 * (tint - 128) for tint in (*tints, 256 - tints[0])], axis=-1)
    return np.clip(colour + rng.normal(0, NOISE, colour.shape), 0, 255).astype(np.uint8)


def _enlarged(
    photographs: UInt8[np.ndarray, "photographs rows columns"],
    rng: np.random.Generator,
    height: int,
    width: int,
    least: float,
) -> np.ndarray:
    """Return a random part of a random photograph, at least a share `least` of its sides."""
    photograph = photographs[rng.integers(len(photographs))]
    rows, columns = (int(side * rng.uniform(least, 1)) for side in photograph.shape)
    top = int(rng.integers(photograph.shape[0] - rows + 1))
    left = int(rng.integers(photograph.shape[1] - columns + 1))
    part = Image.fromarray(photograph[top : top + rows, left : left + columns])
    return np.asarray(part.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def write_tree(directory: Path, classes: int, images: int) -> None:
    """Write a tree of `classes` folders with `images` names each, of one tiny file per class.

    Its validation set has one image per class. Only names are needed: nothing is decoded.
    """
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "JPEG")
    for label, name in enumerate(imagenet_wnids()[:classes]):
        folder, held_out = directory / "train" / name, directory / "val" / name
        folder.mkdir(parents=True)
        held_out.mkdir(parents=True)
        first = folder / f"{name}_0.JPEG"
        first.write_bytes(content.getvalue())
        for index in range(1, images):
            os.link(first, folder / f"{name}_{index}.JPEG")
        os.link(first, held_out / f"ILSVRC2012_val_{label + 1:08d}.JPEG")


def write_clips(directory: Path, count: int, seed: int = 0) -> list[Path]:
    """Write VP9 clips of a part of a photograph that moves under noise, with annotations.

    Args:
        directory: Where to; the clips go to its folder ``videos``.
        count: Clips.
        seed: Determines the frames.
    """
    (directory / "videos").mkdir(parents=True, exist_ok=True)
    for part in ("labels", "train", "validation"):
        # What converts the clips copies them unread.
        (directory / f"something-something-v2-{part}.json").write_text("{}")
    rng, paths = np.random.default_rng(seed), []
    photographs = np.concatenate([load_textures("train"), load_textures("test")[:, :192]], axis=0)
    for index in range(count):
        paths.append(directory / "videos" / f"{index + 1}.webm")
        _write_clip(paths[-1], photographs, rng)
    return paths


def _write_clip(
    path: Path,
    photographs: UInt8[np.ndarray, "photographs rows columns"],
    rng: np.random.Generator,
) -> None:
    height, width = CLIP_SIDES
    scene = np.stack([_enlarged(photographs, rng, 300, 500, least=0.5) for _ in range(3)], axis=-1)
    start = rng.uniform(0, 1, 2) * (300 - height, 500 - width)
    end = rng.uniform(0, 1, 2) * (300 - height, 500 - width)
    with av.open(path, "w") as container:
        options = {"deadline": "realtime", "cpu-used": "8"}
        stream = container.add_stream("libvpx-vp9", CLIP_RATE, options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate, stream.time_base = CLIP_BITS_PER_S, Fraction(1, CLIP_RATE)
        for turn in range(CLIP_FRAMES):
            top, left = (start + (end - start) * turn / (CLIP_FRAMES - 1)).astype(int)
            view = scene[top : top + height, left : left + width]
            pixels = np.clip(view + rng.normal(0, CLIP_NOISE, view.shape), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
