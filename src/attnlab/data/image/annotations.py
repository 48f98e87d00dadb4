"""Files that say the classes of images lying in one folder or one archive."""

import csv
import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import scipy.io

from attnlab.data.image.listing import first, relative

GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
DEVKIT = "ILSVRC2012_devkit_t12"
SOLUTION = "LOC_val_solution.csv"
ACCEPTED = f"{SOLUTION}, {DEVKIT}.tar.gz, or its {GROUND_TRUTH} with {META}"


class Annotation:
    """The class of every image of a split, by the image's name without suffix.

    Images are matched by name, not by position: a missing file must not move the labels of those
    behind it.

    Args:
        file: File that says so.
        wnids: Class of each image.
        others: Other files that were read.
    """

    def __init__(self, file: Path, wnids: dict[str, str], others: Sequence[Path] = ()) -> None:
        self.file = file
        self.wnids = wnids
        self.others = others

    def read(self, root: Path) -> list[str]:
        """Return the files that this was read from."""
        return [relative(path, root) for path in (self.file, *self.others)]

    def labels(
        self, files: Iterable[str], classes: Sequence[str], place: str
    ) -> tuple[list[int], list[str]]:
        """Return the class indices of images.

        Args:
            files: Names of the images.
            classes: Class names in the order of their indices.
            place: What holds the images.

        Returns:
            The indices, and a note on images that are missing.

        Raises:
            ValueError: An image has no class, or its class is not one of `classes`.
        """
        stems = [PurePosixPath(file).stem for file in files]
        unknown = [stem for stem in stems if stem not in self.wnids]
        if unknown:
            raise ValueError(
                f"{self.file} has no class for {len(unknown)} images of {place}: {first(unknown)}"
            )
        indices = {name: index for index, name in enumerate(classes)}
        wrong = sorted({self.wnids[stem] for stem in stems} - indices.keys())
        if wrong:
            raise ValueError(
                f"{self.file} names {len(wrong)} classes that are not among the {len(classes)} of "
                f"the training set: {first(wrong)}"
            )
        missing = sorted(self.wnids.keys() - set(stems))
        notes = [
            f"{place} lacks {len(missing)} of the {len(self.wnids)} images that {self.file.name} "
            f"names: {first(missing)}"
        ]
        return [indices[self.wnids[stem]] for stem in stems], notes if missing else []


def _add(wnids: dict[str, str], file: Path, line: int, image: str, wnid: str) -> None:
    if image in wnids:
        raise ValueError(f"{file} line {line}: {image} is there twice")
    wnids[image] = wnid


def read_solution(file: Path) -> Annotation:
    """Read Kaggle's ``ImageId,PredictionString``; the class is the string's first word.

    Raises:
        ValueError: A line has another form, or an image is there twice.
    """
    wnids: dict[str, str] = {}
    with file.open(newline="", encoding="utf-8") as lines:
        rows = csv.reader(lines)
        if next(rows, None) != ["ImageId", "PredictionString"]:
            raise ValueError(f"{file} line 1 must be 'ImageId,PredictionString'")
        for line, row in enumerate(rows, 2):
            if len(row) != 2 or not row[1].split():
                raise ValueError(f"{file} line {line}: must be 'image,class x y x y', not {row}")
            _add(wnids, file, line, row[0], row[1].split()[0])
    return Annotation(file, wnids)


def read_tiny(file: Path) -> Annotation:
    """Read Tiny-ImageNet's ``val_annotations.txt``: file, class and box, divided by tabs.

    Raises:
        ValueError: A line has another form, or an image is there twice.
    """
    wnids: dict[str, str] = {}
    for line, text in enumerate(file.read_text("utf-8").splitlines(), 1):
        cells = text.split("\t")
        if len(cells) < 2:
            raise ValueError(f"{file} line {line}: must be file, class and box, not {text!r}")
        _add(wnids, file, line, PurePosixPath(cells[0]).stem, cells[1])
    return Annotation(file, wnids)


def _parse_devkit(file: Path, truth: str, meta: IO[bytes]) -> dict[str, str]:
    try:
        mat = scipy.io.loadmat(meta, squeeze_me=True)  # type: ignore[arg-type]
        synsets = np.atleast_1d(mat["synsets"])
        leaves = synsets[synsets["num_children"] == 0]
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in leaves}
    except Exception as error:  # scipy raises a dozen types on bytes it does not expect
        raise ValueError(f"{META} of {file} cannot be read: {error}") from error
    images: dict[str, str] = {}
    for line, text in enumerate(truth.split(), 1):
        if not text.isdecimal() or int(text) not in wnids:
            raise ValueError(
                f"{file} line {line}: label {text} is not in {min(wnids)}..{max(wnids)}"
            )
        images[f"ILSVRC2012_val_{line:08d}"] = wnids[int(text)]
    return images


def read_devkit(truth: Path) -> Annotation:
    """Read the ground truth of the devkit: line i is the ILSVRC2012_ID of image i.

    That number is no class index; `META`, beside the file, says whose class it is.

    Raises:
        ValueError: A label is out of range, or `META` cannot be read.
        FileNotFoundError: `META` is missing.
    """
    meta = truth.with_name(META)
    if not meta.is_file():
        raise FileNotFoundError(f"{meta} is missing: {GROUND_TRUTH} cannot be read without it")
    with meta.open("rb") as file:
        return Annotation(truth, _parse_devkit(truth, truth.read_text("utf-8"), file), [meta])


def read_packed_devkit(archive: Path) -> Annotation:
    """Read the two files of the devkit from its archive; see `read_devkit`.

    Raises:
        ValueError: See `read_devkit`, or the archive is damaged.
    """
    contents = {}
    try:
        with tarfile.open(archive) as members:
            for member in members:
                data = members.extractfile(member)
                if data is not None:
                    contents[PurePosixPath(member.name).name] = data.read()
        truth, meta = contents[GROUND_TRUTH].decode(), contents[META]
    except KeyError as error:
        raise ValueError(f"{archive} holds no {error.args[0]}") from error
    except (tarfile.TarError, EOFError, OSError) as error:
        size = archive.stat().st_size
        raise ValueError(f"{archive} ({size} bytes) cannot be read: {error}") from error
    return Annotation(archive, _parse_devkit(archive, truth, io.BytesIO(meta)))


def find_annotation(folders: Sequence[Path]) -> Annotation | None:
    """Read what says the classes of ImageNet's validation images, from the first place that has it.

    Args:
        folders: Where to look.

    Raises:
        ValueError: It is damaged.
        FileNotFoundError: A part is missing.
    """
    for folder in folders:
        if (folder / SOLUTION).is_file():
            return read_solution(folder / SOLUTION)
        for below in ("", "data", "devkit", "devkit/data", f"{DEVKIT}/data", DEVKIT):
            if (folder / below / GROUND_TRUTH).is_file():
                return read_devkit(folder / below / GROUND_TRUTH)
        if (folder / f"{DEVKIT}.tar.gz").is_file():
            return read_packed_devkit(folder / f"{DEVKIT}.tar.gz")
    return None
