"""``python -m attnlab prepare ssv2``: webm files to tars of JPEG frames, which read much faster.

A tar holds the frames of up to a thousand videos; what lies beside it is said at `FrameTarReader`.
"""

import argparse
import io
import json
import multiprocessing
import os
import shutil
import sys
import tarfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
import torch
from jaxtyping import UInt8

from attnlab.data.streamed import UnreadableSampleError
from attnlab.data.transforms.crop import resize
from attnlab.data.video.annotations import annotation_files, require_unpacked
from attnlab.data.video.frames import TARS
from attnlab.data.video.readers import PyAVReader
from attnlab.files import write_atomically
from attnlab.messages import bad_input

UNREADABLE = "unreadable.txt"
"""File beside the tars: the videos that could not be converted, each with the reason."""

_PER_TAR = 1000
_BLOCK = 512  # bytes of a tar's header

Clip = tuple[str, str]  # id and address
Encoded = tuple[str, list[bytes] | str]  # id and JPEG files, or what is wrong


def encode_clip(clip: Clip, quality: int, height: int) -> Encoded:
    """Read a whole video and return its id and its frames as JPEG files, or what is wrong.

    Args:
        clip: Id and path of the video.
        quality: Of the JPEG files, 1 to 100.
        height: Frames that are higher are made so high.
    """
    name, path = clip
    try:
        frames = PyAVReader().clip(path, lambda count: range(count))
    except (UnreadableSampleError, OSError) as error:
        return name, str(error)
    return name, [
        simplejpeg.encode_jpeg(frame, quality, colorsubsampling="420")
        for frame in _lowered(frames, height)
    ]


def _lowered(
    frames: UInt8[np.ndarray, "frames h w 3"], height: int
) -> UInt8[np.ndarray, "frames new_h new_w 3"]:
    rows, columns = frames.shape[1:3]
    if rows <= height:
        return frames
    lowered = resize(frames, (height, max(1, round(columns * height / rows))))
    return np.ascontiguousarray(lowered)


def convert(
    source: Path, out: Path, quality: int = 90, height: int = 240, workers: int = 1
) -> tuple[int, list[str]]:
    """Convert all videos below `source` and copy their annotations, so that `out` is a root too.

    Tars that are whole are kept: after an interruption the same call continues.

    Args:
        source: Root with webm files and annotations.
        out: Root to write to; made if missing.
        quality: See `encode_clip`.
        height: See `encode_clip`.
        workers: Processes that decode and encode.

    Returns:
        The number of videos in the tars, and a line for each that could not be read.

    Raises:
        FileNotFoundError: There are no videos or no annotations.
        ValueError: `out` is `source`, or has tars of other videos or other arguments.
        OSError: A file cannot be written.
    """
    if out.resolve() == source.resolve():
        raise ValueError(f"out={str(out)!r} must not be the root: half of a copy would hide it")
    annotations = annotation_files(source)
    found = PyAVReader().find(source)
    if not found:
        require_unpacked(source)
    clips = sorted(found.items(), key=lambda clip: (len(clip[0]), clip[0]))
    folder = out / TARS
    folder.mkdir(parents=True, exist_ok=True)
    _require_same(folder, {"quality": quality, "height": height, "videos": len(clips)})
    for path in annotations.values():
        answers = path.with_name("test-answers.csv")
        for each in (path, answers):
            if each.is_file():
                target = out / each.relative_to(source)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(each, target)
    encode = partial(encode_clip, quality=quality, height=height)
    with _mapping(workers) as mapping:
        for number, first in enumerate(range(0, len(clips), _PER_TAR)):
            stem = folder / f"{number:05d}"
            if stem.with_suffix(".json").is_file():
                continue
            _write_tar(stem, mapping(encode, clips[first : first + _PER_TAR]))
            done = min(first + _PER_TAR, len(clips))
            print(f"{stem}.tar: {done:,} of {len(clips):,} videos", flush=True)
    unreadable = _add_unreadable(folder, ())
    return len(clips) - len(unreadable), unreadable


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Iterable[Encoded]]]:
    """Give `map`, by so many processes; order is kept."""
    if workers == 1:
        yield map
    else:
        with multiprocessing.Pool(workers, torch.set_num_threads, (1,)) as pool:
            yield partial(pool.imap, chunksize=4)


def _require_same(folder: Path, made_by: dict[str, int]) -> None:
    path = folder / "made_by.txt"
    said = ", ".join(f"{name} {value}" for name, value in made_by.items())
    if path.is_file() and path.read_text() != said:
        raise ValueError(f"{folder} was begun with {path.read_text()}, not with {said}")
    write_atomically(path, said)


def _add_unreadable(folder: Path, lines: Sequence[str]) -> list[str]:
    """Add lines to the list of unreadable videos; return all of it."""
    path = folder / UNREADABLE
    before = path.read_text().splitlines() if path.is_file() else []
    listed = list(dict.fromkeys([*before, *lines]))
    if listed:
        write_atomically(path, "".join(f"{line}\n" for line in listed))
    return listed


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name when all has been written."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_tar(stem: Path, encoded: Iterable[Encoded]) -> None:
    """Write a tar, its index and last its listing, without which it does not count."""
    places: list[tuple[int, int]] = []
    listing: dict[str, tuple[int, int]] = {}
    unreadable = []
    with (
        _replacing(stem.with_suffix(".tar")) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, frames in encoded:
            if isinstance(frames, str):
                unreadable.append(f"{name}: {frames}")
                continue
            listing[name] = len(places), len(frames)
            for number, content in enumerate(frames):
                member = tarfile.TarInfo(f"{name}/{number + 1:06d}.jpg")
                member.size = len(content)
                places.append((tar.offset + _BLOCK, len(content)))
                tar.addfile(member, io.BytesIO(content))
    write_atomically(stem.with_suffix(".index"), np.array(places, "<i8").tobytes())
    _add_unreadable(stem.parent, unreadable)
    write_atomically(stem.with_suffix(".json"), json.dumps(listing))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnlab prepare ssv2",
        description="Convert the webm files of Something-Something-V2 to tars of JPEG frames.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--root", type=Path, required=True, metavar="DIR", help="webm files and annotations")
    add("--out", type=Path, required=True, metavar="DIR", help="where to write; a root as well")
    add("--quality", type=int, default=90, metavar="N", help="of the JPEG files (default: 90)")
    add("--height", type=int, default=240, metavar="N", help="greatest height (default: 240)")
    add("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the command; `args` defaults to the process's arguments.

    Raises:
        SystemExit: With 2 and one line on stderr when an argument or the data are wrong.
    """
    options = _parser().parse_args(args)
    with bad_input(ValueError, OSError):
        if not 1 <= options.quality <= 100:
            raise ValueError(f"quality={options.quality} must be from 1 to 100")
        if options.height < 1 or options.workers < 1:
            raise ValueError(f"height={options.height} and workers={options.workers} must be >= 1")
        converted, unreadable = convert(
            options.root, options.out, options.quality, options.height, options.workers
        )
    print(f"{converted:,} videos; use with --data.root {options.out}")
    if unreadable:
        path = options.out / TARS / UNREADABLE
        print(f"{len(unreadable)} videos cannot be read: see {path}", file=sys.stderr)
