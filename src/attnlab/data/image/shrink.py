"""``python -m attnlab prepare imagenet``: a copy with smaller images, for runs of many epochs.

Most of what a training image costs is decoding it, and that goes with its pixels. Crops of a copy
are not those of the original: where a random crop covers few pixels of the original, it covers
fewer of the copy, and is enlarged. Accuracies differ slightly; say so beside a number.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from torch.utils.data import DataLoader, Dataset

from attnlab.data.image.decode import decode
from attnlab.data.image.index import read_index
from attnlab.data.image.listing import Listing
from attnlab.data.image.source import ImageSource
from attnlab.data.progress import Progress
from attnlab.data.streamed import UnreadableSampleError
from attnlab.data.transforms.crop import resize_short_side
from attnlab.files import write_atomically
from attnlab.messages import bad_input

FAILED = 1
SETTINGS, FAILURES = "prepared.json", "failures.txt"
_CHUNK = 16
_JPEG = (".jpg", ".jpeg")


class Done(NamedTuple):
    """What became of an image: ``shrunk``, ``copied``, ``kept`` from before, or ``failed``."""

    outcome: str
    name: str
    reason: str = ""


class Shrink(Dataset[Done]):
    """Writes the smaller form of an image when it is asked for.

    Args:
        source: The images.
        targets: Where each goes.
        side: Short side of the copy, in pixels; smaller images are not enlarged.
        quality: Of the JPEG files, 1 to 100.
    """

    def __init__(
        self, source: ImageSource, targets: Sequence[Path], side: int, quality: int
    ) -> None:
        self.source = source
        self.targets = targets
        self.side = side
        self.quality = quality

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Done:
        """Write one image, unless it is there already."""
        name, target = self.source.name(index), self.targets[index]
        if target.exists():
            return Done("kept", name)
        try:
            content = self.source.content(index)
            pixels = decode(content)
        except (UnreadableSampleError, OSError) as error:
            return Done("failed", name, str(error))
        small = min(pixels.shape[:2]) <= self.side
        if small and name.lower().endswith(_JPEG) and content.startswith(b"\xff\xd8"):
            write_atomically(target, content, sync=False)
            return Done("copied", name)
        if not small:
            pixels = np.ascontiguousarray(resize_short_side(pixels[None], self.side)[0])
        encoded = simplejpeg.encode_jpeg(pixels, self.quality, colorsubsampling="420")
        write_atomically(target, encoded, sync=False)
        return Done("shrunk", name)


def targets(folder: Path, classes: Sequence[str], listing: Listing) -> list[Path]:
    """Return where the images of a split go: a folder per class, the names as they are.

    Raises:
        ValueError: Two images of a class would share a name.
    """
    paths = []
    for name, label in zip(listing.names, listing.labels.tolist(), strict=True):
        path = folder / classes[label] / Path(name).name
        paths.append(path if path.suffix.lower() in _JPEG else path.with_suffix(".jpg"))
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise ValueError(f"{len(twice)} names are there more than once in a class: {twice[0]}")
    return paths


def prepare(root: Path, out: Path, side: int, quality: int, workers: int) -> Counter[str]:
    """Write the copy; call it again to continue one that was interrupted.

    Args:
        root: The original, in any layout.
        out: Where the copy goes: ``train/<class>/`` and ``val/<class>/``.
        side: Short side of the copy, in pixels.
        quality: Of the JPEG files, 1 to 100.
        workers: Processes.

    Returns:
        How many images were ``shrunk``, ``copied``, ``kept`` and ``failed``.

    Raises:
        OSError: `root` does not hold the data, or `out` cannot be written.
        ValueError: The data are not complete, or `out` holds a copy made otherwise.
    """
    if out.resolve() == root.resolve():
        raise ValueError(f"out={str(out)!r} must not be the root itself")
    index = read_index(root, None)
    _check_settings(out, {"root": str(root.resolve()), "resize": side, "quality": quality})
    counts: Counter[str] = Counter()
    failures = []
    for split, listing in (("train", index.train), ("val", index.official)):
        paths = targets(out / split, index.classes, listing)
        for name in index.classes:
            (out / split / name).mkdir(parents=True, exist_ok=True)
        progress = Progress(split, len(paths))
        images = Shrink(ImageSource(root, listing), paths, side, quality)
        for chunk in DataLoader(images, _CHUNK, num_workers=workers, collate_fn=list):
            for done in chunk:
                counts[done.outcome] += 1
                if done.outcome == "failed":
                    failures.append(f"{done.name}: {done.reason}\n")
                progress.step(len(failures))
    write_atomically(out / FAILURES, "".join(failures))
    return counts


def _check_settings(out: Path, settings: dict[str, Any]) -> None:
    path = out / SETTINGS
    if path.exists():
        before = json.loads(path.read_text())
        if before != settings:
            raise ValueError(
                f"{out} holds a copy made with {before}, not with {settings}; choose another --out"
            )
    elif out.exists() and any(out.iterdir()):
        raise ValueError(f"out={str(out)!r} holds other files; choose an empty directory")
    else:
        write_atomically(path, json.dumps(settings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnlab prepare imagenet",
        description="Copy images in classes, in any layout that the data module reads, with a "
        "short side of at most N pixels. Run it again to continue.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--root", type=Path, required=True, metavar="DIR", help="the original")
    add("--out", type=Path, required=True, metavar="DIR", help="where the copy goes")
    add("--resize", type=int, default=384, metavar="N", help="short side (default: 384)")
    add("--quality", type=int, default=95, metavar="N", help="of the JPEG files (default: 95)")
    add("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the command; `args` defaults to the process's arguments.

    Raises:
        SystemExit: With 1 when images could not be read; with 2 and one line on stderr when an
            argument or the data are wrong.
    """
    options = _parser().parse_args(args)
    with bad_input(ValueError, OSError):
        if not 1 <= options.quality <= 100:
            raise ValueError(f"quality={options.quality} must be from 1 to 100")
        if options.resize < 1 or options.workers < 0:
            raise ValueError(
                f"resize={options.resize} must be at least 1, workers={options.workers} at least 0"
            )
        counts = prepare(
            options.root, options.out, options.resize, options.quality, options.workers
        )
    print(
        f"{counts['shrunk']:,} images made smaller, {counts['copied']:,} copied, "
        f"{counts['kept']:,} there before; use with --data.root {options.out}"
    )
    if counts["failed"]:
        path = options.out / FAILURES
        print(f"{counts['failed']:,} images cannot be read: see {path}", file=sys.stderr)
        raise SystemExit(FAILED)
