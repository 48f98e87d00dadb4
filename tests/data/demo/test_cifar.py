"""The small CIFAR trees."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from attnlab.data.demo.cifar import write


def _files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_the_tree_is_that_of_the_binary_archive(tmp_path: Path):
    write(tmp_path, train=23, test=7)
    sizes = {name: len(content) for name, content in _files(tmp_path).items()}
    folder = "cifar-10-batches-bin"
    assert sizes.pop(f"{folder}/batches.meta.txt") > 0
    expected = {f"{folder}/data_batch_{n}.bin": 3073 * (5 if n <= 3 else 4) for n in range(1, 6)}
    assert sizes == expected | {f"{folder}/test_batch.bin": 3073 * 7}


def test_the_superclass_precedes_the_class(tmp_path: Path):
    write(tmp_path, train=113, test=7, classes=100)
    folder = tmp_path / "cifar-100-binary"
    assert {path.name for path in folder.iterdir()} == {
        "train.bin",
        "test.bin",
        "coarse_label_names.txt",
        "fine_label_names.txt",
    }
    records = np.fromfile(folder / "train.bin", np.uint8).reshape(113, 3074)
    assert np.array_equal(records[:, 0], records[:, 1] // 5)
    assert records[:, 1].max() > 90
    names = [
        len((folder / f"{kind}_label_names.txt").read_text().split("\n")) - 1
        for kind in ("coarse", "fine")
    ]
    assert names == [20, 100]


@pytest.mark.parametrize("classes", [10, 100])
def test_both_forms_hold_the_same_images(tmp_path: Path, classes: int):
    write(tmp_path, train=23, test=7, classes=classes)
    write(tmp_path, train=23, test=7, classes=classes, form="python")
    folder, name, leading = {
        10: ("cifar-10-batches-py", "test_batch", ["labels"]),
        100: ("cifar-100-python", "test", ["coarse_labels", "fine_labels"]),
    }[classes]
    batch = pickle.loads((tmp_path / folder / name).read_bytes())
    labels = np.array([batch[key] for key in leading]).T
    records = np.concatenate([labels, batch["data"]], axis=1).astype(np.uint8)
    binary = folder.replace("-py", "-bin") if classes == 10 else "cifar-100-binary"
    assert records.tobytes() == (tmp_path / binary / f"{name}.bin").read_bytes()


def test_a_seed_gives_the_same_bytes_and_another_others(tmp_path: Path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        write(tmp_path / name, seed, train=11, test=3)
    assert _files(tmp_path / "one") == _files(tmp_path / "same")
    one, other = (_files(tmp_path / name) for name in ("one", "other"))
    assert [name for name in one if one[name] == other[name]] == [
        "cifar-10-batches-bin/batches.meta.txt"
    ]


def test_classes_are_balanced_and_told_by_shape_not_by_colour(tmp_path: Path):
    write(tmp_path, train=2000, test=1000)
    folder = tmp_path / "cifar-10-batches-bin"
    train = np.concatenate(
        [np.fromfile(folder / f"data_batch_{n}.bin", np.uint8) for n in range(1, 6)]
    ).reshape(-1, 3073)
    test = np.fromfile(folder / "test_batch.bin", np.uint8).reshape(-1, 3073)
    assert np.ptp(np.bincount(train[:, 0], minlength=10)) == 0

    def guessed_right(features) -> float:
        """Return the accuracy of the nearest class mean."""
        (known, labels), (asked, truth) = ((features(part), part[:, 0]) for part in (train, test))
        means = np.stack([known[labels == label].mean(0) for label in range(10)])
        distance = ((asked[:, None] - means) ** 2).sum(-1)
        return float((distance.argmin(1) == truth).mean())

    def colours(records: np.ndarray) -> np.ndarray:
        return records[:, 1:].reshape(-1, 3, 1024).mean(-1)

    def shapes(records: np.ndarray) -> np.ndarray:
        grey = records[:, 1:].reshape(-1, 3, 1024).mean(1)
        return (grey - grey.mean(1, keepdims=True)) / grey.std(1, keepdims=True)

    assert guessed_right(colours) < 0.2
    assert guessed_right(shapes) > 0.4


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"classes": 20}, "classes=20 must be 10 or 100"),
        ({"form": "matlab"}, "form='matlab' must be one of binary, python"),
        ({"train": 4}, "train=4 must be at least 5, the number of files"),
        ({"test": 0, "classes": 100}, "test=0 must be at least 1, the number of files"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path: Path, sizes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, **sizes)
