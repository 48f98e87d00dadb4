"""Stored outputs of the official code, and parameters drawn by the rule that made them."""

import json
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from scripts.make_qna_vit_golden import drawn

GOLDEN = Path(__file__).parents[1] / "golden"

Arrays = dict[str, np.ndarray]


def network_case(name: str) -> tuple[dict[str, Any], Arrays, np.ndarray, np.ndarray]:
    """Return a stored network's facts, parameters, images [B, H, W, 3] and logits."""
    arrays = np.load(GOLDEN / f"{name}.npz")
    meta = json.loads(str(arrays["meta"]))
    params = {path: drawn(meta["seed"], path, shape) for path, shape in meta["shapes"].items()}
    x = arrays["x"] if "x" in arrays else drawn(meta["seed"], "x", meta["x"])
    return meta, params, x, arrays["logits"]


def nested(params: Arrays) -> dict[str, Any]:
    """Return slash-joined names as nested mappings."""
    tree: dict[str, Any] = {}
    for name, array in params.items():
        *parents, last = name.split("/")
        level = tree
        for parent in parents:
            level = level.setdefault(parent, {})
        level[last] = array
    return tree


def write_train_state(path: Path, params: Arrays, tree: str = "params") -> Path:
    """Write a train state as Flax does: arrays are extension type 1, (shape, dtype, bytes)."""

    def packed(array: np.ndarray) -> msgpack.ExtType:
        content = (array.shape, array.dtype.name, array.tobytes())
        return msgpack.ExtType(1, msgpack.packb(content))

    encoded = {name: packed(array) for name, array in params.items()}
    state = {"step": 7, tree: nested(encoded), "opt_state": {"0": None}}
    path.write_bytes(msgpack.packb(state))
    return path
