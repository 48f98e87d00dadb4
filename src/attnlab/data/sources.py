"""The two embedded files, cut into parts that no two splits share.

Sources and licences: ``assets/ATTRIBUTION.md``; built by ``scripts/make_embedded_data.py``.
"""

from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_ASSETS = Path(__file__).with_name("assets")
_VAL_SCANS = 225  # of the 1,347 training scans: one in six

# Test backgrounds are the right halves of the photographs; the left halves are for training, but
# for their lowest quarter, which is validation's: [photograph, row, column].
_REGIONS = {
    "train": np.s_[:, :192, :128],
    "val": np.s_[:, 192:, :128],
    "test": np.s_[:, :, 128:],
}


def load_scans(
    split: Split, data_seed: int
) -> tuple[UInt8[np.ndarray, "scans 8 8"], UInt8[np.ndarray, "scans"]]:
    """Return a split's handwritten digits, as grey levels 0 to 255, and their values.

    The 450 test scans are fixed. The other 1,347 are divided into 1,122 for training and 225 for
    validation by `data_seed`.
    """
    with np.load(_ASSETS / "digits.npz") as digits:
        images, labels = digits["images"], digits["labels"]
        held_in, test = digits["train"], digits["test"]
    # A stream of its own: the composers draw from [data_seed, 0], [data_seed, 1], ...
    order = np.random.default_rng([data_seed, len(SPLITS)]).permutation(held_in)
    chosen = {"train": order[_VAL_SCANS:], "val": order[:_VAL_SCANS], "test": test}[split]
    return (images[chosen].astype(np.uint16) * 255 // 16).astype(np.uint8), labels[chosen]


def load_textures(split: Split) -> UInt8[np.ndarray, "photographs rows columns"]:
    """Return a split's part of the nine grey photographs."""
    with np.load(_ASSETS / "textures.npz") as textures:
        photographs: np.ndarray = textures["images"]
    return photographs[_REGIONS[split]]
