"""Samples that are left out by name: what `validate-data` writes, data modules read."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from lightning.pytorch.utilities import rank_zero_info


def kept(names: Iterable[str], exclude: Path) -> Int64[np.ndarray, " kept"]:
    """Return the indices of the samples that an exclude list leaves.

    Args:
        names: Those of the samples, in order.
        exclude: File with one name per line, as `Source.name` gives it; lines that begin with
            ``#`` and empty ones do not count.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not exclude.is_file():
        raise FileNotFoundError(
            f"exclude={str(exclude)!r} does not exist; `python -m attnlab validate-data` writes one"
        )
    text = exclude.read_text("utf-8", errors="surrogateescape")  # names may be no UTF-8
    lines = (line.strip() for line in text.split("\n"))
    left_out = {line for line in lines if line and line[0] != "#"}
    keep = np.array([name.strip() not in left_out for name in names], bool)
    if not keep.all():
        rank_zero_info(f"{exclude}: {(~keep).sum()} of {len(keep)} samples left out")
    return np.flatnonzero(keep)
