"""Reads the msgpack train states that Flax writes, as data: nothing in the file is executed."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_ARRAY = 1  # Flax's msgpack extension type of an array: (shape, dtype name, bytes)
_DTYPES = frozenset({"float16", "float32", "float64", "int32", "int64", "uint32", "bool"})


def read_train_state(path: str | Path, tree: str = "params") -> dict[str, np.ndarray]:
    """Return the parameters of a Flax train state, by their slash-joined names.

    Args:
        path: File as `flax.training.checkpoints` writes it (msgpack); step and optimiser state are
            left out.
        tree: Name of the map of parameters in it: ``params``, or that of an average of them, say
            ``ema_params``, where a trainer has kept one.

    Returns:
        Parameter name, ``QnAStage_0/QnA_Block_1/FusedKQnA_0/Wk`` for example, to array.

    Raises:
        ImportError: The package `msgpack` is not installed.
        OSError: The file cannot be read.
        ValueError: The file is truncated or no Flax train state.
    """
    try:
        import msgpack
    except ImportError as error:
        raise ImportError("reading Flax checkpoints needs msgpack: pip install msgpack") from error
    content = Path(path).read_bytes()
    try:
        state = msgpack.unpackb(content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is truncated or no Flax train state ({error})") from error
    if not isinstance(state, dict) or not isinstance(state.get(tree), dict):
        raise ValueError(f"{path} is no Flax train state: it has no map named {tree}")
    return {name: _decode(leaf, f"{path}: {name}") for name, leaf in flatten(state[tree]).items()}


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Join the keys of nested mappings by slashes; a flat mapping is returned as it is."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{name}": leaf for name, leaf in flatten(value).items()}
        else:
            flat[str(key)] = value
    return flat


def _decode(leaf: Any, what: str) -> np.ndarray:
    """Return the array of a msgpack extension value."""
    import msgpack

    if not isinstance(leaf, msgpack.ExtType) or leaf.code != _ARRAY:
        raise ValueError(f"{what} is no array")
    try:
        shape, dtype, content = msgpack.unpackb(leaf.data)
        if dtype not in _DTYPES or len(content) != math.prod(shape) * np.dtype(dtype).itemsize:
            raise ValueError(f"{shape=} and {dtype=} do not describe {len(content)} bytes")
        return np.frombuffer(content, dtype).reshape(shape)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what} is no array ({error})") from error
