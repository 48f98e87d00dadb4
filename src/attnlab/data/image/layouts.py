"""Which of the forms in which image classification sets are distributed lies at a root."""

import difflib
import os
import shlex
from pathlib import Path
from typing import NamedTuple

from attnlab.data.image.annotations import ACCEPTED, Annotation, find_annotation, read_tiny
from attnlab.data.image.folders import FlatFolder, Folders, class_folders
from attnlab.data.image.listing import Place, first
from attnlab.data.image.tars import TRAIN_TAR, VAL_TAR, FlatTar, TarOfTars
from attnlab.data.roots import describe_missing

_KAGGLE = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
_OFFICIAL = ("val", "validation", "valid", "test")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
LAYOUTS = (
    "train/<class>/ with val/<class>/, or with a flat val/ and the devkit or LOC_val_solution.csv; "
    f"Kaggle's ILSVRC/Data/CLS-LOC/; {TRAIN_TAR} with {VAL_TAR}; Tiny-ImageNet"
)


class Layout(NamedTuple):
    """A data set as it lies on the disk.

    Attributes:
        name: What is shown of it.
        train: Its training set, which names the classes.
        official: Its validation set.
    """

    name: str
    train: Place
    official: Place


def find_layout(root: Path) -> Layout:
    """Tell which layout lies at `root`; of a split in several forms, folders come first.

    Raises:
        FileNotFoundError: There is none, or a part of it is missing.
        ValueError: A file that names the classes of the validation images is damaged.
    """
    _check_root(root)
    base = next((root / each for each in _KAGGLE if (root / each).is_dir()), root)
    train, official = _find_train(root, base), _find_official(root, base)
    if base != root:
        name = "Kaggle's tree"
    elif (base / "val" / "val_annotations.txt").is_file():
        name = "Tiny-ImageNet"
    elif isinstance(train, TarOfTars) and isinstance(official, FlatTar):
        name = "archives"
    else:
        name = "class folders"
    return Layout(f"{name}: {train}, {official}", train, official)


def _listed(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name[0] != ".")


def _check_root(root: Path) -> None:
    if root.is_dir() and _listed(root):
        return
    message, above = describe_missing(root, LAYOUTS), root.absolute().parent
    if not root.exists() and above.is_dir():
        for close in difflib.get_close_matches(root.name, _listed(above), 1):
            message += f"; did you mean {str(root.parent / close)!r}?"
    raise FileNotFoundError(message)


def _missing(root: Path, base: Path, what: str) -> FileNotFoundError:
    """Say which archive to unpack, or what the root holds instead."""
    for folder in dict.fromkeys((root, base)):
        for name in _listed(folder):
            if name.lower().endswith(_ARCHIVES) and name not in (TRAIN_TAR, VAL_TAR):
                file, into = shlex.quote(str(folder / name)), shlex.quote(str(folder))
                command = f"unzip -q {file} -d {into}"
                if not name.lower().endswith(".zip"):
                    command = f"tar -xf {file} -C {into}"
                return FileNotFoundError(
                    f"root={str(root)!r} has no {what}, but {name}: unpack it with `{command}`"
                )
    return FileNotFoundError(
        f"root={str(root)!r} has no {what}; it holds {first(_listed(base), 5)}. Accepted: {LAYOUTS}"
    )


def _find_train(root: Path, base: Path) -> Place:
    folder, archive = base / "train", root / TRAIN_TAR
    if folder.is_dir():
        if class_folders(folder):
            return Folders(root, folder)
        inner = [name for name in _listed(folder) if name.endswith(".tar")]
        if inner and not archive.is_file():
            raise FileNotFoundError(
                f"{folder} holds no class folder but {len(inner)} archives: unpack each into its "
                f"own with `cd {shlex.quote(str(folder))} && for f in *.tar; do "
                'mkdir -p "${f%.tar}" && tar -xf "$f" -C "${f%.tar}"; done`'
            )
    if archive.is_file():
        return TarOfTars(root, archive)
    raise _missing(root, base, f"class folders train/<class>/ and no {TRAIN_TAR}")


def _find_official(root: Path, base: Path) -> Place:
    for name in _OFFICIAL:
        folder = base / name
        if not folder.is_dir():
            continue
        if (folder / "val_annotations.txt").is_file():
            annotation = read_tiny(folder / "val_annotations.txt")
            return FlatFolder(root, folder / "images", annotation)
        if class_folders(folder):
            return Folders(root, folder)
        if _listed(folder) and name != "test":  # of Kaggle's flat test/ no classes are known
            annotation = _annotation(root, base, f"the images in {folder}")
            return FlatFolder(root, folder, annotation)
    if (root / VAL_TAR).is_file():
        return FlatTar(root, root / VAL_TAR, _annotation(root, base, f"the images in {VAL_TAR}"))
    raise _missing(root, base, f"validation images in val/ and no {VAL_TAR}")


def _annotation(root: Path, base: Path, images: str) -> Annotation:
    places = [root, base]
    while places[-1].absolute().name in ("CLS-LOC", "Data", "ILSVRC"):
        places.append(places[-1].absolute().parent)
    annotation = find_annotation(places)
    if annotation is None:
        raise FileNotFoundError(
            f"nothing says the classes of {images}: put one of {ACCEPTED} into {root}"
        )
    return annotation
