"""A small tree of real JPEGs in the forms in which ImageNet is distributed, for a first run."""

import colorsys
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import scipy.io
from jaxtyping import UInt8
from PIL import Image

from attnlab.data.image.annotations import DEVKIT, GROUND_TRUTH, META, SOLUTION
from attnlab.data.image.classes import imagenet_wnids
from attnlab.data.image.tars import TRAIN_TAR, VAL_TAR
from attnlab.data.sources import Split, load_scans, load_textures

Layout = Literal["folders", "flat", "kaggle", "tar", "tiny"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_FRAGMENTS = 4
_QUALITY = 90


class DemoImage(NamedTuple):
    """One file: its number within its split, its class and its content."""

    number: int
    label: int
    content: bytes


def write(
    directory: Path,
    seed: int = 0,
    classes: int = 10,
    train: int = 40,
    val: int = 10,
    layout: Layout = "folders",
    odd: bool = True,
) -> None:
    """Write images of one handwritten digit each, on a photograph among fragments of others.

    Images are 64 to 96 pixels high and up to a third wider or narrower; the digits and photographs
    of the two splits differ. Class c shows the digit c mod 10; with more than ten classes the
    digit's hue says the rest. The folders have names of ImageNet's first classes.

    Args:
        directory: Where to; it is made if need be.
        seed: Determines every byte.
        classes: Number of classes, up to 1,000.
        train: Training images per class.
        val: Validation images per class.
        layout: Class folders, ``flat`` validation images with the devkit, Kaggle's tree, ImageNet's
            archives, or Tiny-ImageNet's tree.
        odd: Whether one training image is in CMYK and one is a PNG named ``.JPEG``, as in ImageNet.

    Raises:
        ValueError: An argument is out of range.
        FileExistsError: `directory` holds something.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"{layout=} must be one of {', '.join(LAYOUTS)}")
    if not 1 <= classes <= len(imagenet_wnids()):
        raise ValueError(f"{classes=} must be in 1..{len(imagenet_wnids())}")
    if train < 1 or val < 1:
        raise ValueError(f"{train=} and {val=} must be at least 1")
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"{str(directory)!r} holds files; choose an empty directory")
    wnids = imagenet_wnids()[:classes]
    images = {
        "train": _compose("train", seed, classes, train, odd),
        "val": _compose("test", seed, classes, val, odd=False),
    }
    writers = {
        "folders": _write_folders,
        "flat": _write_flat,
        "kaggle": _write_kaggle,
        "tar": _write_tars,
        "tiny": _write_tiny,
    }
    writers[layout](directory, wnids, images)


def _compose(split: Split, seed: int, classes: int, count: int, odd: bool) -> Iterator[DemoImage]:
    """Yield the images of a split, the classes in a random order."""
    rng = np.random.default_rng([seed, ("train", "test").index(split)])
    scans, digits = load_scans(split, data_seed=0)
    textures = load_textures(split)
    labels = rng.permutation(np.repeat(np.arange(classes), count))
    for number, label in enumerate(labels.tolist(), 1):
        scan = scans[rng.choice(np.flatnonzero(digits == label % 10))]
        others = scans[rng.integers(len(scans), size=_FRAGMENTS)]
        hues = (classes + 9) // 10
        hue = rng.random() if hues == 1 else (label // 10 + 0.5 * rng.random()) / hues
        pixels = _draw(rng, scan, others, textures[rng.integers(len(textures))], hue)
        image = Image.fromarray(pixels)
        kind = "JPEG"
        if odd and number == 1:
            image = image.convert("CMYK")
        elif odd and number == 2:
            kind = "PNG"
        elif number % 7 == 0 and hues == 1:
            image = image.convert("L")
        content = io.BytesIO()
        image.save(content, kind, quality=_QUALITY)
        yield DemoImage(number, label, content.getvalue())


def _draw(
    rng: np.random.Generator,
    scan: UInt8[np.ndarray, "8 8"],
    others: UInt8[np.ndarray, "fragments 8 8"],
    photograph: UInt8[np.ndarray, "rows columns"],
    hue: float,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw one image: a tinted part of a photograph, fragments of digits, and a digit over all."""
    height = int(rng.integers(64, 97))
    width = int(height * rng.uniform(3 / 4, 4 / 3))
    part = min(photograph.shape)
    top, left = (int(rng.integers(side - part // 2 + 1)) for side in photograph.shape)
    window = photograph[top : top + part // 2, left : left + part // 2]
    grey = np.asarray(Image.fromarray(window).resize((width, height)), np.float32)
    canvas = 0.6 * grey[..., None] * rng.uniform(0.6, 1, size=3).astype(np.float32)
    short = min(height, width)
    for other in others:
        piece = other[1:7, 1:7]
        _lay(rng, canvas, piece, short // 5, rng.random())
    _lay(rng, canvas, scan, int(short * rng.uniform(0.5, 0.75)), hue)
    return canvas.astype(np.uint8)


def _lay(
    rng: np.random.Generator,
    canvas: np.ndarray,
    ink: UInt8[np.ndarray, "rows columns"],
    side: int,
    hue: float,
) -> None:
    """Blend ink of a hue over a random place of the canvas."""
    cover = Image.fromarray(ink).resize((side, side), Image.Resampling.BICUBIC)
    alpha = np.asarray(cover, np.float32)[..., None] / 255
    top, left = (int(rng.integers(extent - side + 1)) for extent in canvas.shape[:2])
    colour = 255 * np.array(colorsys.hsv_to_rgb(hue, 0.6, 1), np.float32)
    place = canvas[top : top + side, left : left + side]
    place[:] = place * (1 - alpha) + colour * alpha


Images = dict[str, Iterator[DemoImage]]
Wnids = tuple[str, ...]


def _put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _train_name(wnid: str, image: DemoImage) -> str:
    return f"{wnid}_{image.number}.JPEG"


def _val_name(image: DemoImage) -> str:
    return f"ILSVRC2012_val_{image.number:08d}.JPEG"


def _write_train(base: Path, wnids: Wnids, images: Images) -> None:
    for image in images["train"]:
        wnid = wnids[image.label]
        _put(base / "train" / wnid / _train_name(wnid, image), image.content)


def _write_folders(directory: Path, wnids: Wnids, images: Images) -> None:
    _write_train(directory, wnids, images)
    for image in images["val"]:
        _put(directory / "val" / wnids[image.label] / _val_name(image), image.content)


def _write_flat(directory: Path, wnids: Wnids, images: Images) -> None:
    _write_train(directory, wnids, images)
    labels = []
    for image in images["val"]:
        _put(directory / "val" / _val_name(image), image.content)
        labels.append(image.label)
    for name, content in _devkit(wnids, labels).items():
        _put(directory / DEVKIT / "data" / name, content)


def _devkit(wnids: Wnids, labels: list[int]) -> dict[str, bytes]:
    """Return the files of the devkit; as in ImageNet's, its numbers are not in the wnids' order."""
    count = len(wnids)
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    synsets = np.zeros((count + 1, 1), fields)
    for place, wnid in enumerate(reversed(wnids)):
        synsets[place, 0] = (place + 1, wnid, 0)
    synsets[count, 0] = (count + 1, "n00001740", 2)  # inner nodes have numbers too
    meta = io.BytesIO()
    scipy.io.savemat(meta, {"synsets": synsets})  # type: ignore[arg-type]
    truth = "".join(f"{count - label}\n" for label in labels)
    return {GROUND_TRUTH: truth.encode(), META: meta.getvalue()}


def _write_kaggle(directory: Path, wnids: Wnids, images: Images) -> None:
    base = directory / "ILSVRC" / "Data" / "CLS-LOC"
    _write_train(base, wnids, images)
    lines = ["ImageId,PredictionString"]
    for image in images["val"]:
        _put(base / "val" / _val_name(image), image.content)
        lines.append(f"{_val_name(image)[:-5]},{wnids[image.label]} 1 2 30 40 ")
    _put(directory / SOLUTION, "\n".join([*lines, ""]))
    _put(directory / "LOC_synset_mapping.txt", "".join(f"{wnid} a digit\n" for wnid in wnids))


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _write_tars(directory: Path, wnids: Wnids, images: Images) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    by_class: dict[str, list[DemoImage]] = {wnid: [] for wnid in wnids}
    for image in images["train"]:
        by_class[wnids[image.label]].append(image)
    with tarfile.open(directory / TRAIN_TAR, "w") as archive:
        for wnid, members in by_class.items():
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as inner:
                for image in members:
                    _add(inner, _train_name(wnid, image), image.content)
            _add(archive, f"{wnid}.tar", content.getvalue())
    labels = []
    with tarfile.open(directory / VAL_TAR, "w") as archive:
        for image in images["val"]:
            _add(archive, _val_name(image), image.content)
            labels.append(image.label)
    with tarfile.open(directory / f"{DEVKIT}.tar.gz", "w:gz") as archive:
        for name, data in _devkit(wnids, labels).items():
            _add(archive, f"{DEVKIT}/data/{name}", data)


def _write_tiny(directory: Path, wnids: Wnids, images: Images) -> None:
    for image in images["train"]:
        folder = directory / "train" / wnids[image.label]
        _put(folder / "images" / _train_name(folder.name, image), image.content)
        _put(folder / f"{folder.name}_boxes.txt", "")
    lines = []
    for image in images["val"]:
        name = f"val_{image.number - 1}.JPEG"
        _put(directory / "val" / "images" / name, image.content)
        lines.append(f"{name}\t{wnids[image.label]}\t0\t32\t44\t62\n")
    _put(directory / "val" / "val_annotations.txt", "".join(lines))
    _put(directory / "wnids.txt", "".join(f"{wnid}\n" for wnid in reversed(wnids)))
