"""The annotation files of Something-Something-V2, under both names in circulation, and checks."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int64

from attnlab.data.roots import describe_missing

Published = Literal["train", "validation"]

LAYOUTS = (
    "20bn-something-something-v2/<id>.webm, or a folder or tars of its frames, beside "
    "something-something-v2-{labels,train,validation}.json or "
    "labels/{labels,train,validation}.json"
)
"""What a root may hold, in words."""

_NAMES = ("something-something-v2-{}.json", "{}.json")
_FOLDERS = ("", "labels", "annotations")
_LABELS_PACKAGE = "20bn-something-something-download-package-labels.zip"
_SHOWN = 10
_TOLERATED = 0.001  # part of the videos that may be without an annotation, or the reverse
_ZIP, _GZIP = b"PK", b"\x1f\x8b"


class Labelled(NamedTuple):
    """The videos of one part and their classes, in the order of its file."""

    ids: list[str]
    labels: Int64[np.ndarray, " videos"]


class Annotations(NamedTuple):
    """All that the annotation files say.

    Attributes:
        classes: Template, without brackets, of every class, by its index.
        parts: Training and validation videos.
        test: Ids of the test videos, whose classes are not here.
    """

    classes: list[str]
    parts: dict[Published, Labelled]
    test: list[str]


def annotation_files(root: Path) -> dict[str, Path]:
    """Return the paths of the labels, train, validation and test files, whichever names they have.

    The test file may be missing.

    Raises:
        FileNotFoundError: Another is.
    """
    places = [(root / folder, name) for folder in _FOLDERS for name in _NAMES]
    for folder, name in places:
        if (folder / name.format("labels")).is_file():
            files = {
                part: folder / name.format(part)
                for part in ("labels", "train", "validation", "test")
            }
            for part in ("train", "validation"):
                if not files[part].is_file():
                    raise FileNotFoundError(f"{files['labels']} is there, {files[part]} is not")
            return files
    package = root / _LABELS_PACKAGE
    if package.is_file():
        raise FileNotFoundError(f"{package} is not unpacked: unzip {package} -d {root}")
    raise FileNotFoundError(describe_missing(root, LAYOUTS))


def read_annotations(root: Path, num_classes: int) -> Annotations:
    """Read and check the annotations below a root.

    A class is what labels.json says for the template without its brackets. The order of the
    templates is never used: sorted without brackets 89 of the 174 would change places.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: One is damaged, a class is out of range or unknown, or a video occurs twice.
    """
    files = annotation_files(root)
    classes = _read_classes(files["labels"], num_classes)
    parts: dict[Published, Labelled] = {
        "train": _read_part(files["train"], classes, files["labels"]),
        "validation": _read_part(files["validation"], classes, files["labels"]),
    }
    test: list[str] = []
    if files["test"].is_file():
        test = [str(record["id"]) for record in _records(files["test"], ("id",))]
    named: dict[str, list[str]] = {part: labelled.ids for part, labelled in parts.items()}
    named["test"] = test
    for part, ids in named.items():
        twice = [name for name, uses in Counter(ids).items() if uses > 1]
        if twice:
            raise ValueError(f"{files[part]}: {_listed(twice, 'id')} occur repeatedly")
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        both = set(named[first]).intersection(named[second])
        if both:
            shown = _listed(sorted(both, key=_by_number), "id")
            raise ValueError(f"{shown} are both in {files[first]} and in {files[second]}")
    return Annotations(sorted(classes, key=classes.__getitem__), parts, test)


def match_videos(
    annotations: Annotations, found: Iterable[str], root: Path
) -> tuple[set[str], str | None]:
    """Compare the annotations with the videos there are.

    Returns:
        The ids of annotated videos that are missing, and a warning about these and those without
        annotation, or None.

    Raises:
        FileNotFoundError: More than a thousandth is missing, or without annotation.
    """
    there = set(found)
    annotated = {name for part in annotations.parts.values() for name in part.ids}
    missing = annotated - there
    spare = there - annotated - set(annotations.test)
    said = []
    if missing:
        shown = _listed(sorted(missing, key=_by_number), "annotation")
        said.append(f"of {len(annotated):,}, {shown} are without a video")
    if spare:
        shown = _listed(sorted(spare, key=_by_number), "video")
        hint = "" if annotations.test else " (there is no annotation file of the test videos)"
        said.append(f"of {len(there):,}, {shown} are without an annotation{hint}")
    if not said:
        return missing, None
    message = f"{root}: {'; '.join(said)}"
    if len(missing) > _TOLERATED * len(annotated) or len(spare) > _TOLERATED * len(there):
        raise FileNotFoundError(message)
    return missing, message


def require_unpacked(root: Path) -> None:
    """Say how to unpack the archive where there is one and no video.

    The parts are a gzipped tar cut into pieces; what is downloaded now may be these or a zip of
    them, whatever the names say, so the first bytes decide.

    Raises:
        FileNotFoundError: In any case.
    """
    parts = sorted(
        path
        for path in (root.glob("20bn-something-something-*") if root.is_dir() else ())
        if path.is_file() and path.name != _LABELS_PACKAGE
    )
    if not parts:
        raise FileNotFoundError(describe_missing(root, LAYOUTS))
    with parts[0].open("rb") as file:
        start = file.read(2)
    if start == _ZIP:
        command = (
            f"cd {root} && for part in {' '.join(part.name for part in parts)}; do unzip $part; "
            "done, then concatenate the parts that came out: "
            "cat 20bn-something-something-v2-?? | tar xz"
        )
    elif start == _GZIP:
        command = f"cd {root} && cat {' '.join(part.name for part in parts)} | tar xz"
    else:
        raise FileNotFoundError(
            f"{parts[0]} starts with {start.hex(' ')!r}, neither a zip nor a gzipped tar: "
            "download it anew"
        )
    raise FileNotFoundError(f"{len(parts)} archive parts in {root} are not unpacked: {command}")


def _read_classes(path: Path, num_classes: int) -> dict[str, int]:
    content = _json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must map templates to classes")
    if len(content) != num_classes:
        raise ValueError(f"{path} has {len(content)} classes, but {num_classes=}")
    try:
        classes = {template: int(index) for template, index in content.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    for template, index in classes.items():
        if not 0 <= index < num_classes:
            raise ValueError(f"{path}: class {index} of {template!r} is not in [0, {num_classes})")
    if len(set(classes.values())) < num_classes:
        twice = next(index for index, uses in Counter(classes.values()).items() if uses > 1)
        raise ValueError(f"{path}: class {twice} has several templates")
    return classes


def _read_part(path: Path, classes: dict[str, int], labels: Path) -> Labelled:
    records = _records(path, ("id", "template"))
    templates = [str(record["template"]).replace("[", "").replace("]", "") for record in records]
    unknown = sorted({template for template in templates if template not in classes})
    if unknown:
        raise ValueError(f"{path}: {_listed(unknown, 'template')} are not in {labels}")
    if not records:
        raise ValueError(f"{path} has no videos")
    ids = [str(record["id"]) for record in records]
    return Labelled(ids, np.array([classes[template] for template in templates], np.int64))


def _records(path: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    records = _json(path)
    if not isinstance(records, list):
        raise ValueError(f"{path} must be a list of records")
    for number, record in enumerate(records):
        if not isinstance(record, dict) or any(field not in record for field in fields):
            raise ValueError(f"{path}: record {number} lacks {' or '.join(fields)}: {record!r:.80}")
    return records


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON, perhaps cut off: {error}") from error


def _listed(names: Sequence[str], kind: str) -> str:
    """Return a count and the first ten."""
    rest = ", ..." if len(names) > _SHOWN else ""
    plural = "s" if len(names) != 1 else ""
    return f"{len(names):,} {kind}{plural} ({', '.join(names[:_SHOWN])}{rest})"


def _by_number(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 0), name
