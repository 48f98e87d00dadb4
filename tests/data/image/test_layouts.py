"""Every form in which the images are distributed gives the same images and labels."""

import csv
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attnlab.data.demo.imagenet import LAYOUTS, Layout, write
from attnlab.data.image.annotations import DEVKIT, GROUND_TRUTH, META, SOLUTION
from attnlab.data.image.classes import imagenet_wnids
from attnlab.data.image.index import Index, build_index
from attnlab.data.image.layouts import find_layout
from attnlab.data.image.listing import Listing
from attnlab.data.image.source import ImageSource
from attnlab.data.image.tars import TRAIN_TAR, VAL_TAR

Tree = Callable[..., Path]
WNIDS = ("n01440764", "n01443537", "n01484850")
TRUTH = f"{DEVKIT}/data/{GROUND_TRUTH}"


def index_of(root: Path, num_classes: int = 3) -> Index:
    return build_index(find_layout(root), num_classes)[0]


def labelled(root: Path, listing: Listing) -> set[tuple[bytes, int]]:
    source = ImageSource(root, listing)
    return {(source.content(i), int(source.labels[i])) for i in range(len(source))}


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[tuple[bytes, int]]]:
    """What any layout must give, told from the folders' names alone."""
    root = tmp_path_factory.mktemp("folders")
    write(root, seed=1, classes=3, train=5, val=3)
    return {
        split: {
            (path.read_bytes(), WNIDS.index(path.parent.name)) for path in root.glob(f"{split}/*/*")
        }
        for split in ("train", "val")
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_images_and_labels(
    tree: Tree, layout: Layout, expected: dict[str, set[tuple[bytes, int]]]
) -> None:
    root = tree(layout)
    index = index_of(root)
    assert index.classes == WNIDS
    assert len(index.train.labels) == len(expected["train"]) == 15
    assert len(index.official.labels) == len(expected["val"]) == 9
    assert labelled(root, index.train) == expected["train"]
    assert labelled(root, index.official) == expected["val"]
    assert index.train.labels.dtype == np.int64
    assert index.notes == ()


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("folders", "class folders: train/<class>/, val/<class>/"),
        ("flat", f"class folders: train/<class>/, val/ labelled by {GROUND_TRUTH}"),
        ("kaggle", "Kaggle's tree: ILSVRC/Data/CLS-LOC/train/<class>/, "
                   f"ILSVRC/Data/CLS-LOC/val/ labelled by {SOLUTION}"),
        ("tar", f"archives: {TRAIN_TAR}, {VAL_TAR} labelled by {DEVKIT}.tar.gz"),
        ("tiny", "Tiny-ImageNet: train/<class>/, val/images/ labelled by val_annotations.txt"),
    ],
)  # fmt: skip
def test_the_layout_is_named(tree: Tree, layout: Layout, name: str) -> None:
    assert find_layout(tree(layout)).name == name


def test_names_are_paths_from_the_root(tree: Tree) -> None:
    root = tree("folders")
    source = ImageSource(root, index_of(root).official)
    assert [source.name(i) for i in range(9)] == sorted(
        path.relative_to(root).as_posix() for path in root.glob("val/*/*")
    )
    root = tree("tar")
    source = ImageSource(root, index_of(root).train)
    assert re.fullmatch(rf"{TRAIN_TAR}/n01440764/n01440764_\d+\.JPEG", source.name(0))


@pytest.mark.parametrize(
    ("layout", "folder"),
    [("flat", "val"), ("kaggle", "ILSVRC/Data/CLS-LOC/val"), ("tiny", "val/images")],
)
def test_a_missing_validation_file_does_not_move_the_labels_behind_it(
    tree: Tree, layout: Layout, folder: str, expected: dict[str, set[tuple[bytes, int]]]
) -> None:
    root = tree(layout)
    lost = sorted((root / folder).iterdir())[1]
    content = lost.read_bytes()
    lost.unlink()
    index = index_of(root)
    assert labelled(root, index.official) == {
        each for each in expected["val"] if each[0] != content
    }
    (note,) = index.notes
    assert f"lacks 1 of the 9 images that {index.layout.split()[-1]} names: {lost.stem}" in note


def test_a_flat_folder_takes_kaggles_csv_too(
    tree: Tree, expected: dict[str, set[tuple[bytes, int]]]
) -> None:
    root, kaggle = tree("flat"), tree("kaggle")
    shutil.rmtree(root / DEVKIT)
    shutil.copy(kaggle / SOLUTION, root)
    index = index_of(root)
    assert labelled(root, index.official) == expected["val"]


@pytest.mark.parametrize("inner", ["ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_a_root_within_kaggles_tree_finds_the_csv_above(tree: Tree, inner: str) -> None:
    assert len(index_of(tree("kaggle") / inner).official.labels) == 9


def test_unpacked_training_folders_with_the_validation_archive(
    tree: Tree, expected: dict[str, set[tuple[bytes, int]]]
) -> None:
    root = tree("tar")
    shutil.copytree(tree("folders") / "train", root / "train")
    (root / TRAIN_TAR).unlink()
    index = index_of(root)
    assert labelled(root, index.train) == expected["train"]
    assert labelled(root, index.official) == expected["val"]


@pytest.mark.parametrize("folder", ["test", "validation"])
def test_any_image_folder(tree: Tree, folder: str) -> None:
    root = tree("folders")
    (root / "val").rename(root / folder)
    for old, new in zip(WNIDS, ("2", "10", "ant"), strict=True):
        for split in ("train", folder):
            (root / split / old).rename(root / split / new)
    nested = root / "train" / "ant" / "more"
    nested.mkdir()
    first = sorted((root / "train" / "ant").glob("*.JPEG"))[0]
    first.rename(nested / "again.PNG")
    index = index_of(root)
    assert index.classes == ("10", "2", "ant")
    assert index.train.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert index.train.names[14] == "train/ant/more/again.PNG"


def test_hidden_entries_and_other_files_are_no_samples(tree: Tree) -> None:
    root = tree("folders")
    (root / "train" / ".ipynb_checkpoints").mkdir()
    (root / "train" / WNIDS[0] / "._n01440764_1.JPEG").write_bytes(b"left by macOS")
    (root / "train" / WNIDS[0] / "Thumbs.db").write_bytes(b"left by Windows")
    index = index_of(root)
    assert (index.classes, len(index.train.labels)) == (WNIDS, 15)


def test_missing_root_says_what_is_accepted_and_what_lies_beside_it(tree: Tree) -> None:
    root = tree("folders")
    for name in "abcdef":
        (root.parent / name).mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        find_layout(root.parent / "foldrs")
    message = str(caught.value)
    assert f"root='{root.parent}/foldrs' does not exist; accepted: train/<class>/" in message
    assert "holds a/, b/, c/, d/, e/ and 2 more" in message
    assert message.endswith(f"did you mean '{root}'?")
    assert "\n" not in message


def test_empty_root_and_a_file_as_root(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty' is empty; accepted: .*Tiny-ImageNet"):
        find_layout(tmp_path / "empty")
    (tmp_path / "file.tar").touch()
    with pytest.raises(FileNotFoundError, match=r"file.tar' is a file; accepted: "):
        find_layout(tmp_path / "file.tar")


@pytest.mark.parametrize(
    ("archive", "command"),
    [("tiny-imagenet-200.zip", "unzip -q {} -d {}"), ("val.tar.gz", "tar -xf {} -C {}")],
)
def test_an_archive_of_a_missing_split_is_named_with_the_command(
    tree: Tree, archive: str, command: str
) -> None:
    root = tree("folders")
    shutil.rmtree(root / "val")
    (root / archive).touch()
    expected = command.format(root / archive, root)
    with pytest.raises(FileNotFoundError, match=f"no validation images.*{re.escape(expected)}"):
        find_layout(root)


def test_missing_splits_without_an_archive(tree: Tree) -> None:
    root = tree("folders")
    shutil.rmtree(root / "train")
    with pytest.raises(FileNotFoundError, match=r"no class folders train/.* it holds val\. Acc"):
        find_layout(root)


def test_inner_archives_left_in_train(tree: Tree) -> None:
    root = tree("folders")
    shutil.rmtree(root / "train")
    (root / "train").mkdir()
    for wnid in WNIDS:
        (root / "train" / f"{wnid}.tar").touch()
    with pytest.raises(FileNotFoundError, match=r"but 3 archives: .*for f in \*\.tar; do"):
        find_layout(root)


@pytest.mark.parametrize("layout", ["flat", "tar", "kaggle"])
def test_nothing_says_the_classes(tree: Tree, layout: Layout) -> None:
    root = tree(layout)
    for name in (DEVKIT, f"{DEVKIT}.tar.gz", SOLUTION):
        if (root / name).is_dir():
            shutil.rmtree(root / name)
        (root / name).unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError, match=f"nothing says the classes .*{SOLUTION}, {DEVKIT}"):
        find_layout(root)


def test_ground_truth_without_meta(tree: Tree) -> None:
    root = tree("flat")
    (root / DEVKIT / "data" / META).unlink()
    with pytest.raises(FileNotFoundError, match=r"meta\.mat is missing"):
        find_layout(root)


@pytest.mark.parametrize("label", ["4", "0", "-1", "cat"])
def test_label_out_of_range(tree: Tree, label: str) -> None:
    root = tree("flat")
    lines = (root / TRUTH).read_text().splitlines()
    lines[4] = label
    (root / TRUTH).write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"{GROUND_TRUTH} line 5: label {label} is not in 1\.\.3"):
        find_layout(root)


def test_damaged_meta(tree: Tree) -> None:
    root = tree("flat")
    (root / DEVKIT / "data" / META).write_bytes(b"<html>" * 50)
    with pytest.raises(ValueError, match=r"meta\.mat of .* cannot be read: "):
        find_layout(root)


def _rows(root: Path) -> list[list[str]]:
    with (root / SOLUTION).open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.pop(0), "line 1 must be 'ImageId,PredictionString'"),
        (lambda rows: rows.append(rows[3]), r"line 11: ILSVRC2012_val_\d+ is there twice"),
        (lambda rows: rows[6].pop(), "line 7: must be 'image,class x y x y', not"),
        (lambda rows: rows.pop(5), r"has no class for 1 images of .*val: ILSVRC2012_val_0000000\d"),
        (
            lambda rows: rows[2].__setitem__(1, "n99999999 1 2 3 4"),
            "names 1 classes that are not among the 3 of the training set: n99999999",
        ),
    ],
    ids=["header", "twice", "short line", "image without class", "unknown class"],
)
def test_wrong_csv(tree: Tree, change: Callable[[list[list[str]]], object], message: str) -> None:
    root = tree("kaggle")
    rows = _rows(root)
    change(rows)
    with (root / SOLUTION).open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(ValueError, match=rf"{SOLUTION}.* {message}"):
        index_of(root)


def test_validation_folders_are_those_of_training(tree: Tree) -> None:
    root = tree("folders")
    (root / "val" / WNIDS[1]).rename(root / "val" / "n02000000")
    with pytest.raises(ValueError, match=r"val .*differ .*missing n01443537; extra n02000000"):
        index_of(root)


def test_empty_class_folders_are_named(tree: Tree) -> None:
    root = tree("folders")
    for path in (root / "train" / WNIDS[1]).iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"1 class folders hold no image: .*train/n01443537 "):
        index_of(root)


def test_an_image_in_both_splits_or_twice(tree: Tree) -> None:
    root = tree("folders")
    image = next((root / "val" / WNIDS[0]).iterdir())
    copy = root / "train" / WNIDS[0] / image.name
    shutil.copy(image, copy)
    with pytest.raises(ValueError, match=f"1 images are in both splits: {image.stem}"):
        index_of(root)
    copy.rename(root / "val" / WNIDS[1] / image.name)
    with pytest.raises(ValueError, match=f"1 images are there more than once: {image.stem}"):
        index_of(root)


@pytest.fixture
def thousand(tmp_path: Path) -> Path:
    """The names of a set with all classes; no image is read here."""
    for split, name in (("train", "{}_1.JPEG"), ("val", "ILSVRC2012_val_{:08d}.JPEG")):
        for number, wnid in enumerate(imagenet_wnids(), 1):
            folder = tmp_path / split / wnid
            folder.mkdir(parents=True)
            (folder / name.format(number if split == "val" else wnid)).touch()
    return tmp_path


def test_wrong_number_of_imagenets_classes(thousand: Path) -> None:
    index = index_of(thousand, 1000)
    assert index.classes == imagenet_wnids()
    assert index.notes == (
        "the training set has 1,000 images, that of ImageNet has 1,281,167",
        "the validation set has 1,000 images, that of ImageNet has 50,000",
    )
    for split in ("train", "val"):
        (thousand / split / "stray").mkdir()
    with pytest.raises(
        ValueError,
        match=r"num_classes=1000, but train/<class>/ has 1001 .*missing none; extra stray \(a fold",
    ):
        index_of(thousand, 1000)
    (thousand / "train" / "stray").rmdir()
    shutil.rmtree(thousand / "train" / "n02119789")
    with pytest.raises(ValueError, match=r"has 999 .*missing n02119789; extra none \(interrupted"):
        index_of(thousand, 1000)


def test_wrong_number_of_other_classes(tree: Tree) -> None:
    root = tree("folders")
    with pytest.raises(ValueError, match=r"num_classes=7, but .* has 3 classes: n01440764, n014"):
        index_of(root, 7)
    shutil.rmtree(root / "train" / WNIDS[2])
    with pytest.raises(ValueError, match=r"num_classes=3, but .* 2 classes: missing n01484850;"):
        index_of(root, 3)


def test_cut_archive(tree: Tree) -> None:
    root = tree("tar")
    with (root / TRAIN_TAR).open("r+b") as file:
        file.truncate(20_000)
    with pytest.raises(ValueError, match=r"tar cannot be read .*; it has 20000 bytes; .* 14789747"):
        index_of(root)


def test_archive_of_a_class_without_images(tree: Tree) -> None:
    root = tree("tar")
    (root / "empty.tar").write_bytes(b"\0" * 10240)
    with tarfile.open(root / TRAIN_TAR, "a") as archive:
        archive.add(root / "empty.tar", "n01491361.tar")
    with pytest.raises(ValueError, match=r"without an image: n01491361\.tar"):
        index_of(root, 4)
