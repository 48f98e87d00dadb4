from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from attnlab.data.cache import default_cache_dir, read_records, write_records

SHAPE = (2, 5, 7)


@pytest.fixture
def records() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    images = rng.integers(256, size=(11, *SHAPE)).astype(np.uint8)
    return images, rng.integers(10, size=11).astype(np.uint8)


@pytest.fixture
def path(tmp_path: Path, records: tuple[np.ndarray, np.ndarray]) -> Path:
    path = tmp_path / "cache" / "records.npy"
    write_records(path, *records)
    return path


def test_round_trip(path: Path, records: tuple[np.ndarray, np.ndarray]) -> None:
    found = read_records(path, SHAPE)
    assert found is not None
    assert all(np.array_equal(one, other) for one, other in zip(found, records, strict=True))
    assert [entry.name for entry in path.parent.iterdir()] == ["records.npy"]


def test_writes_into_what_was_read_stay_in_memory(path: Path) -> None:
    before = path.read_bytes()
    found = read_records(path, SHAPE)
    assert found is not None
    found[0][:] = 0
    assert path.read_bytes() == before


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        _flip,
        lambda data: data[:20] + b"((((" + data[24:],
        lambda data: b"<html>not found</html>" * 100,
    ],
    ids=["empty", "half", "one byte short", "one bit", "header", "another file"],
)
def test_damage_is_noticed_and_mended(
    path: Path, records: tuple[np.ndarray, np.ndarray], damage: Callable[[bytes], bytes]
) -> None:
    path.write_bytes(damage(path.read_bytes()))
    assert read_records(path, SHAPE) is None
    write_records(path, *records)
    assert read_records(path, SHAPE) is not None


@pytest.mark.parametrize("shape", [(1, 5, 7), (2, 5, 8)])
def test_records_of_another_shape_do_not_count(path: Path, shape: tuple[int, int, int]) -> None:
    assert read_records(path, shape) is None


def test_arrays_of_another_kind_do_not_count(tmp_path: Path) -> None:
    for name, array in (("rows", np.zeros((0, 71), np.uint8)), ("floats", np.zeros((9, 71)))):
        np.save(tmp_path / f"{name}.npy", array)
        assert read_records(tmp_path / f"{name}.npy", SHAPE) is None


def test_a_failed_write_leaves_nothing_behind(
    path: Path, records: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_records(path, *records)
    assert [entry.name for entry in path.parent.iterdir()] == ["records.npy"]
    assert path.read_bytes() == before


def test_default_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ATTNLAB_CACHE", raising=False)
    assert default_cache_dir() == tmp_path / ".cache" / "attnlab"
    monkeypatch.setenv("ATTNLAB_CACHE", str(tmp_path / "elsewhere"))
    assert default_cache_dir() == tmp_path / "elsewhere"
