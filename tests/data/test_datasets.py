"""The guarantees of the embedded data sets."""

import hashlib
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from numpy.lib.stride_tricks import sliding_window_view

from attnlab.data import digits_clutter
from attnlab.data.base import EmbeddedDataModule
from attnlab.data.composer import enlarge
from attnlab.data.digits8 import Digits8
from attnlab.data.digits_clutter import DigitsClutter
from attnlab.data.digits_motion import DigitsMotion
from attnlab.data.digits_pair import DigitsPair
from attnlab.data.sources import SPLITS, load_scans

CLASSES = {
    "digits8": Digits8,
    "digits_clutter": DigitsClutter,
    "digits_motion": DigitsMotion,
    "digits_pair": DigitsPair,
}
COMPOSED = ["digits_clutter", "digits_motion", "digits_pair"]

# SHA-256 of images and labels of the default data. If it must change, raise COMPOSER_VERSION and
# expect all published figures to move; a new NumPy or Pillow that changes it does the same.
GOLDEN = {
    ("digits8", "train"): "ce84a3ba6d26a4062f95e3b4dd68bfe7d9d032f8977e6b0007c51319b9d9c3d7",
    ("digits8", "val"): "6e766988eaa97986aa66d9666db532f1865ab0138eaf9833aba9599b6d603b64",
    ("digits8", "test"): "dce6f022a54e6f97992615d00df8c2a22f7fef6a8aab4bcc6bc75b87df73f96f",
    ("digits_clutter", "train"): "9fe32feea4b5e4e5edbe6e8f362166f630880c364b68e0a96b8ed2e83f4e5bb0",
    ("digits_clutter", "val"): "4d0a2441b82c11f995a75aaf3afb2f4fb53b9005be1794ba8597502a5442cb84",
    ("digits_clutter", "test"): "7f9f93dce03a94b38e97654ab47faace35da57b69d2c80a86029acfc7f6df140",
    ("digits_motion", "train"): "9da8eb53780fca7ff6b2c33981bc1ff18239838effe31262867001f3f0bac9ca",
    ("digits_motion", "val"): "69cf827fda51644efe1fab6957e83da9aeb4daf6cd743dfc6f37d541bd55b385",
    ("digits_motion", "test"): "dc3d28e5118dda063c6e65905856aa6ffca9e9431815afd89e3ac36368b47f4e",
    ("digits_pair", "train"): "bfaeffd159acd2bb30fdd507c24f8914eedc1bf984bca8dee7cac9dd68fef334",
    ("digits_pair", "val"): "bc84dba2a5bd56ac07ad28f2168eee29695ea601f28ca965a64189e85144c667",
    ("digits_pair", "test"): "8e686f1bf4ebe9853289a82c977dffd9b1ee78e189d92fef993782b9016bf9ae",
}


@pytest.mark.parametrize("name", CLASSES)
def test_default_data_are_the_published_bytes(name: str) -> None:
    data = CLASSES[name]()
    for split in SPLITS:
        images, labels = data.compose_split(split)
        digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
        assert (split, digest) == (split, GOLDEN[name, split])


@pytest.mark.parametrize("name", COMPOSED)
def test_another_data_seed_gives_other_data(name: str) -> None:
    sizes = {"train_size": 31, "val_size": 31, "test_size": 31}
    one, other = CLASSES[name](**sizes), CLASSES[name](**sizes, data_seed=1)
    for split in SPLITS:
        assert (one.compose_split(split)[0] != other.compose_split(split)[0]).mean() > 0.1


@pytest.mark.parametrize("name", ["digits_clutter", "digits_pair"])
def test_labels_are_balanced_and_shuffled(name: str) -> None:
    for split, size in (("train", 601), ("val", 101), ("test", 157)):
        labels = CLASSES[name](**{f"{split}_size": size}).compose_split(split)[1]
        assert len(labels) == size
        assert np.ptp(np.bincount(labels, minlength=10)) <= 1
        assert (np.diff(labels.astype(int)) % 10 == 1).mean() < 0.3


@pytest.mark.parametrize("name", CLASSES)
def test_mean_and_deviation_are_those_of_the_training_images(name: str) -> None:
    data = CLASSES[name]()
    images = data.compose_split("train")[0] / 255
    assert (round(images.mean(), 4), round(images.std(), 4)) == (data.mean, data.std)


def _statistics(images: np.ndarray) -> torch.Tensor:
    """Return mean, deviation, their squares and product per image."""
    pixels = torch.from_numpy(images).flatten(1).double() / 255
    mean, std = pixels.mean(1), pixels.std(1)
    return torch.stack([mean, std, mean**2, std**2, mean * std], dim=1)


def _logistic_accuracy(data: EmbeddedDataModule) -> float:
    """Return the test accuracy of a logistic regression on the images' statistics."""
    (train, train_labels), (test, test_labels) = map(data.compose_split, ("train", "test"))
    features, seen = _statistics(train), _statistics(test)
    centre, scale = features.mean(0), features.std(0)
    weight = torch.zeros(data.num_classes, 5, dtype=torch.double, requires_grad=True)
    bias = torch.zeros(data.num_classes, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")
    targets = torch.from_numpy(train_labels).long()

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = (features - centre) / scale @ weight.T + bias
        value = torch.nn.functional.cross_entropy(logits, targets) + 1e-5 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    guesses = ((seen - centre) / scale @ weight.T + bias).argmax(1)
    return float((guesses == torch.from_numpy(test_labels)).double().mean())


@pytest.mark.parametrize(
    ("data", "ceiling"),
    [(DigitsClutter(), 0.15), (DigitsMotion(), 0.25), (DigitsPair(), 0.25)],
    ids=["clutter", "motion", "pair"],
)
def test_brightness_and_contrast_do_not_tell_the_class(
    data: EmbeddedDataModule, ceiling: float
) -> None:
    assert _logistic_accuracy(data) < ceiling


def test_the_probe_finds_a_class_that_brightness_tells() -> None:
    """The same regression reads more from the plain scans, so its failure above means something."""
    assert _logistic_accuracy(Digits8()) > 0.2


def _sightings(images: np.ndarray, sides: range, split: str) -> list[list[tuple[int, int]]]:
    """Return, per image, (left edge, class) of each scan of `split` found to the last pixel."""
    scans, labels = load_scans(split, 0)
    known = [
        {
            scan.tobytes(): int(label)
            for scan, label in zip(enlarge(scans, side), labels, strict=True)
        }
        for side in sides
    ]
    found: list[list[tuple[int, int]]] = []
    for image in images[:, 0]:
        here = []
        for side, scans_of_side in zip(sides, known, strict=True):
            windows = sliding_window_view(image, (side, side))
            for top, left in np.ndindex(windows.shape[:2]):
                label = scans_of_side.get(windows[top, left].tobytes())
                if label is not None:
                    here.append((left, label))
        found.append(sorted(here))
    return found


@pytest.mark.parametrize("split", SPLITS)
def test_pair_shows_two_scans_of_its_split_and_names_the_left(split: str) -> None:
    images, labels = DigitsPair(**{f"{split}_size": 41}).compose_split(split)
    for sightings, label in zip(_sightings(images, range(12, 13), split), labels, strict=True):
        (left, value), (right, _) = sightings
        assert value == label
        assert right - left >= 12
    for other in set(SPLITS) - {split}:
        assert not any(_sightings(images, range(12, 13), other))


@pytest.mark.parametrize("split", SPLITS)
def test_clutter_shows_one_scan_of_its_split(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    black = np.zeros((1, 32, 32), np.uint8)
    monkeypatch.setattr(digits_clutter, "load_textures", lambda split: black)
    images, labels = DigitsClutter(**{f"{split}_size": 17}).compose_split(split)
    sightings = _sightings(images, range(11, 16), split)
    assert [[value for _, value in here] for here in sightings] == [[label] for label in labels]
    for other in set(SPLITS) - {split}:
        assert not any(_sightings(images, range(11, 16), other))


def test_clutter_takes_each_split_s_background_from_its_own_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = {split: np.full((1, 32, 32), 50 * i + 60, np.uint8) for i, split in enumerate(SPLITS)}
    monkeypatch.setattr(digits_clutter, "load_textures", parts.get)
    data = DigitsClutter(train_size=3, val_size=3, test_size=3)
    assert [int(data.compose_split(split)[0].min()) for split in SPLITS] == [36, 66, 96]


@pytest.mark.parametrize("side", [16, 32])
def test_digits8_resizes_without_moving(side: int) -> None:
    small, labels = Digits8().compose_split("val")
    large, same = Digits8(side=side).compose_split("val")
    assert large.shape == (225, 1, side, side)
    assert np.array_equal(labels, same)
    shrunk = large.reshape(225, 8, side // 8, 8, side // 8).mean(axis=(2, 4))
    assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.99


def test_digits8_names_a_side_it_cannot_have() -> None:
    with pytest.raises(ValueError, match="side=12 must be 8, 16 or 32"):
        Digits8(side=12)


@pytest.mark.parametrize("name", CLASSES)
def test_yaml_builds_it(name: str, tmp_path: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    path = f"attnlab.data.{name}.{CLASSES[name].__name__}"
    arguments = {"batch_size": 7, "cache_dir": str(tmp_path)}
    config = parser.parse_object({"data": {"class_path": path, "init_args": arguments}})
    data = parser.instantiate_classes(config).data
    assert type(data) is CLASSES[name]
    assert (data.batch_size, data.cache_dir) == (7, tmp_path)


@pytest.mark.parametrize(("name", "train_size"), [("digits_clutter", 6000), ("digits_pair", 8000)])
def test_yaml_reaches_every_argument_of_the_common_constructor(name: str, train_size: int) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    path = f"attnlab.data.{name}.{CLASSES[name].__name__}"
    arguments = {"val_size": 13, "test_size": 17, "num_workers": 1, "data_seed": 5}
    config = parser.parse_object({"data": {"class_path": path, "init_args": arguments}})
    data = parser.instantiate_classes(config).data
    assert data.sizes == {"train": train_size, "val": 13, "test": 17}
    assert (data.num_workers, data.data_seed, data.batch_size) == (1, 5, 128)
