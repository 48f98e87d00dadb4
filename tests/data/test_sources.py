import numpy as np
import pytest

from attnlab.data.sources import SPLITS, load_scans, load_textures


def _rows(split: str, data_seed: int) -> set[bytes]:
    return {scan.tobytes() for scan in load_scans(split, data_seed)[0]}


@pytest.mark.parametrize("data_seed", [0, 13])
def test_splits_share_no_scan(data_seed: int) -> None:
    rows = {split: _rows(split, data_seed) for split in SPLITS}
    assert {split: len(found) for split, found in rows.items()} == {
        "train": 1122,
        "val": 225,
        "test": 450,
    }
    assert len(set.union(*rows.values())) == 1797


def test_data_seed_chooses_validation_but_not_test_scans() -> None:
    assert _rows("test", 0) == _rows("test", 13)
    assert _rows("val", 0) != _rows("val", 13)
    assert _rows("val", 0) == _rows("val", 0)


@pytest.mark.parametrize("split", SPLITS)
def test_scans_span_all_grey_levels_and_classes(split: str) -> None:
    scans, labels = load_scans(split, 0)
    assert (scans.min(), scans.max()) == (0, 255)
    assert np.bincount(labels).min() >= len(labels) / 20


def test_scans_carry_their_own_labels() -> None:
    """A nearest-mean classifier, blind to the split, reads the test scans."""
    (train, train_labels), (test, test_labels) = load_scans("train", 0), load_scans("test", 0)
    means = np.stack([train[train_labels == digit].mean(axis=0) for digit in range(10)])
    distances = ((test[:, None].astype(float) - means) ** 2).sum(axis=(2, 3))
    assert (distances.argmin(axis=1) == test_labels).mean() > 0.85


def test_regions_tile_the_photographs() -> None:
    """The parts put side by side are nine full photographs, hence no two parts overlap."""
    train, val, test = (load_textures(split) for split in SPLITS)
    whole = np.concatenate([np.concatenate([train, val], axis=1), test], axis=2)
    assert whole.shape == (9, 256, 256)
    # Where a seam cuts a photograph the pixels on both sides are neighbours.
    seams = [(train[:, -1], val[:, 0]), (train[:, :, -1], test[:, :192, 0])]
    for one, other in seams:
        steps = np.abs(one.astype(int) - other.astype(int)).mean()
        strangers = np.abs(one.astype(int) - np.roll(other, 1, axis=0).astype(int)).mean()
        assert steps < strangers / 2
