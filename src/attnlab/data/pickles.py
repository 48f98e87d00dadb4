"""Pickles of arrays, read without giving them the power to run anything."""

import io
import pickle
from typing import Any

import numpy as np


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, by which Python 3 writes bytes into old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


def _from_buffer(
    buffer: bytes | bytearray, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any
) -> np.ndarray:
    """Stand in for `numpy.core.numeric._frombuffer`, by which protocol 5 writes arrays."""
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}
for _core in ("numpy.core", "numpy._core"):  # as NumPy 1 and NumPy 2 write it
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = np.empty(0).__reduce__()[0]
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _ArrayUnpickler(pickle.Unpickler):
    """Knows numbers, text, containers and arrays, and looks nothing else up."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def load_arrays(content: bytes, source: str) -> Any:
    """Return what a pickle of arrays holds; text of Python 2 is read as Latin-1.

    Args:
        content: The pickle.
        source: Where it comes from, for the message.

    Raises:
        ValueError: It is damaged, or holds anything but arrays, numbers, text and containers. Then
            nothing of it was run.
    """
    try:
        return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises almost any kind
        raise ValueError(
            f"{source} is no pickle of arrays: {str(error) or type(error).__name__}; nothing was "
            "executed"
        ) from error
