"""A pickle may hold arrays and nothing that runs."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from attnlab.data.pickles import load_arrays

DATA = np.arange(6, dtype=np.uint8).reshape(2, 3) * 51

# What Python 2 with NumPy 1 wrote of {"data": [[0, 51, 102], [153, 204, 255]], "labels": [7, 3]}.
FROM_PYTHON_2 = (
    b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b"
    b"\x87R(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff"
    b"\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\x00\x33\x66\x99\xcc\xfftbU\x06labels](K\x07K\x03eu."
)


def test_python_2_pickles_are_read():
    batch = load_arrays(FROM_PYTHON_2, "batch")
    assert list(batch) == ["data", "labels"]
    assert batch["data"].dtype == np.uint8
    assert np.array_equal(batch["data"], DATA)
    assert batch["labels"] == [7, 3]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("core", ["core", "_core"])
def test_every_protocol_and_numpy_is_read(protocol: int, core: str):
    batch = {"data": DATA, "labels": [7, 3], "name": "x", "order": np.asfortranarray(DATA)}
    content = pickle.dumps(batch, protocol)
    if protocol < 4:  # later ones store the length of the name
        content = content.replace(b"numpy._core.", f"numpy.{core}.".encode())
    again = load_arrays(content, "batch")
    assert (again["labels"], again["name"]) == ([7, 3], "x")
    assert np.array_equal(again["data"], DATA)
    assert np.array_equal(again["order"], DATA)


class _Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.mkdir, ("{}",), "posix.mkdir"),
        (os.system, ("mkdir {}",), "posix.system"),
        (exec, ("import os; os.mkdir('{}')",), "exec"),
        (np.ndarray.tofile, (DATA, "{}"), "getattr"),
    ],
)
def test_a_malicious_pickle_executes_nothing(
    tmp_path: Path, function, arguments: tuple, name: str, protocol: int
):
    marker = tmp_path / "made"
    filled = (each.format(marker) if isinstance(each, str) else each for each in arguments)
    content = pickle.dumps({"data": _Call(function, *filled)}, protocol)
    with pytest.raises(ValueError, match=rf"batch is no pickle of arrays: .*{name}; nothing was"):
        load_arrays(content, "batch")
    assert not marker.exists()
    pickle.loads(content)
    assert marker.exists()  # it was a threat


def test_damage_is_one_line():
    for content in (b"", FROM_PYTHON_2[:60], b"<!DOCTYPE html>\n<html>", b"\x80\x02cos\nsystem\n."):
        with pytest.raises(
            ValueError, match=r"^batch is no pickle of arrays: .*; nothing was exec"
        ):
            load_arrays(content, "batch")


def test_text_is_encoded_as_latin_1_only():
    content = pickle.dumps(_Call(__import__("_codecs").encode, "x", "rot13"), 2)
    with pytest.raises(ValueError, match="encodes text as 'rot13'"):
        load_arrays(content, "batch")
