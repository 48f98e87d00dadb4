"""The demo tree: the same for a seed, disjoint splits, and as odd as the original."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnlab.data.demo.imagenet import LAYOUTS, write
from attnlab.data.image.classes import imagenet_wnids


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_a_seed_determines_every_byte(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write(tmp_path / name, seed=seed, classes=3, train=5, val=2)
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    assert not set(first.values()) & set(other.values())


def test_sizes_and_names(tmp_path: Path) -> None:
    write(tmp_path, classes=7, train=11, val=5)
    files = contents(tmp_path)
    for wnid in imagenet_wnids()[:7]:
        assert sum(name.startswith(f"train/{wnid}/{wnid}_") for name in files) == 11
        assert sum(name.startswith(f"val/{wnid}/ILSVRC2012_val_000000") for name in files) == 5
    assert len(files) == 7 * 16
    numbers = sorted(int(name[-13:-5]) for name in files if name.startswith("val"))
    assert numbers == list(range(1, 36))
    images = [Image.open(io.BytesIO(content)) for content in files.values()]
    heights = {image.height for image in images}
    ratios = [image.width / image.height for image in images]
    assert min(heights) >= 64
    assert max(heights) <= 96
    assert len(heights) > 20
    assert min(ratios) < 0.8 < 1.25 < max(ratios) < 1.34
    kinds = [(image.format, image.mode) for image in images]
    assert kinds.count(("JPEG", "CMYK")) == kinds.count(("PNG", "RGB")) == 1
    assert kinds.count(("JPEG", "L")) == 77 // 7 + 35 // 7


def test_without_odd_files(tmp_path: Path) -> None:
    write(tmp_path, classes=2, train=3, val=1, odd=False)
    images = [Image.open(io.BytesIO(content)) for content in contents(tmp_path).values()]
    assert {(image.format, image.mode) for image in images} == {("JPEG", "RGB")}


def test_with_many_classes_the_hue_tells_those_of_one_digit_apart(tmp_path: Path) -> None:
    write(tmp_path, classes=21, train=5, val=1, odd=False)
    hues = []
    for wnid in (imagenet_wnids()[place] for place in (0, 10, 20)):  # all show a zero
        ink = []
        for path in (tmp_path / "train" / wnid).iterdir():
            hsv = np.asarray(Image.open(path).convert("HSV")).reshape(-1, 3)
            ink.append(hsv[(hsv[:, 1] > 100) & (hsv[:, 2] > 180), 0])
        hues.append(np.median(np.concatenate(ink)) / 255)
    assert [int(3 * hue) for hue in hues] == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, r"classes=0 must be in 1\.\.1000"),
        ({"classes": 1001}, r"classes=1001 must be in 1\.\.1000"),
        ({"train": 0}, "train=0 and val=10 must be at least 1"),
        ({"layout": "lmdb"}, f"layout='lmdb' must be one of {', '.join(LAYOUTS)}"),
    ],
)
def test_arguments_are_checked(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "tree", **options)
    assert not (tmp_path / "tree").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="holds files; choose an empty directory"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
