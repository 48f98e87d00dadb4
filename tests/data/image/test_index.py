"""The list of images is kept, and made anew as soon as anything that it depends on changes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from attnlab.data.image import index as index_module
from attnlab.data.image import layouts
from attnlab.data.image.annotations import DEVKIT, GROUND_TRUTH
from attnlab.data.image.classes import imagenet_wnids
from attnlab.data.image.index import read_index
from attnlab.data.image.listing import Names
from attnlab.data.image.source import ImageSource

Tree = Callable[..., Path]
WNID = "n01440764"


def age(root: Path, seconds: int = 60) -> None:
    """Set all times back: a folder that changed just now may change again unseen."""
    for path in (root, *root.rglob("*")):
        time = path.stat().st_mtime - seconds
        os.utime(path, (time, time))


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Every root that was listed from the disk."""
    calls: list[Path] = []
    find = layouts.find_layout

    def counting(root: Path) -> layouts.Layout:
        calls.append(root)
        return find(root)

    monkeypatch.setattr(index_module, "find_layout", counting)
    return calls


@pytest.mark.parametrize("layout", ["folders", "flat", "kaggle", "tar", "tiny"])
def test_the_kept_list_is_the_one_that_was_made(
    tree: Tree, layout: str, listed: list[Path]
) -> None:
    root = tree(layout)
    age(root)
    made, kept = read_index(root, 3), read_index(root, 3)
    assert listed == [root]
    assert kept[:2] == made[:2]
    assert kept.notes == made.notes
    for one, other in ((made.train, kept.train), (made.official, kept.official)):
        assert list(one.names) == list(other.names)
        assert one.archive == other.archive
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.spans, other.spans)
    assert ImageSource(root, kept.train).content(7) == ImageSource(root, made.train).content(7)


def _new_image(root: Path) -> None:
    (root / "train" / WNID / f"{WNID}_99.JPEG").touch()


def _no_image(root: Path) -> None:
    next((root / "val").glob("*.JPEG")).unlink()


def _other_label(root: Path) -> None:
    path = root / DEVKIT / "data" / GROUND_TRUTH
    path.write_text("1\n" * 9)


@pytest.mark.parametrize("change", [_new_image, _no_image, _other_label])
def test_a_change_makes_it_stale(
    tree: Tree, listed: list[Path], change: Callable[[Path], None]
) -> None:
    root = tree("flat")
    age(root)
    before = read_index(root, 3)
    change(root)
    after = read_index(root, 3)
    assert listed == [root, root]
    sizes = [(len(each.train.labels), each.official.labels.tolist()) for each in (before, after)]
    assert sizes[0] != sizes[1]


def test_notes_are_kept_too(tree: Tree) -> None:
    root = tree("flat")
    _no_image(root)
    age(root)
    assert read_index(root, 3).notes == read_index(root, 3).notes != ()


def test_what_changed_just_now_is_not_kept(tree: Tree, listed: list[Path], own_cache: Path) -> None:
    root = tree("folders")
    read_index(root, 3)
    read_index(root, 3)
    assert listed == [root, root]
    assert not any(own_cache.iterdir())


def test_a_damaged_list_is_made_anew(tree: Tree, listed: list[Path], own_cache: Path) -> None:
    root = tree("folders")
    age(root)
    read_index(root, 3)
    (path,) = own_cache.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    assert len(read_index(root, 3).train.labels) == 15
    assert listed == [root, root]


def test_a_kept_list_is_checked_for_the_number_of_classes(tree: Tree) -> None:
    root = tree("folders")
    age(root)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"num_classes=4, but .* has 3 classes"):
            read_index(root, 4)
        read_index(root, 3)


def test_a_cache_that_cannot_be_written_is_a_warning(
    tree: Tree, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree("folders")
    age(root)
    own_cache.with_name("file").touch()
    monkeypatch.setenv("ATTNLAB_CACHE", str(own_cache.with_name("file")))
    with pytest.warns(UserWarning, match=r"cannot be written .*: every run lists .*folders anew"):
        index = read_index(root, 3)
    assert len(index.train.labels) == 15


def test_starting_on_a_listed_set_reads_no_class_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, wnid in enumerate(imagenet_wnids(), 1):
        for split, name in (
            ("train", f"{wnid}_1.JPEG"),
            ("val", f"ILSVRC2012_val_{number:08d}.JPEG"),
        ):
            folder = tmp_path / split / wnid
            folder.mkdir(parents=True)
            (folder / name).touch()
    age(tmp_path)
    read_index(tmp_path, 1000)
    monkeypatch.setattr(os, "scandir", None)
    monkeypatch.setattr(os, "listdir", None)
    index = read_index(tmp_path, 1000)
    assert index.classes == imagenet_wnids()
    assert index.train.labels.tolist() == list(range(1000))


def test_packed_names() -> None:
    strings = ["", "train/a.JPEG", "näher\udcff.png", "x"]
    names = Names.of(strings)
    assert list(names) == strings
    assert [names[0], names[-1], names[-3]] == ["", "x", "train/a.JPEG"]
    assert names[1:3] == strings[1:3]
    assert names[::-2] == strings[::-2]
    for index in (4, -5):
        with pytest.raises(IndexError):
            names[index]
    assert len(Names.of([])) == 0
