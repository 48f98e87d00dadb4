"""Samples that are left out by name: what `validate-data` writes, data modules read."""

from pathlib import Path

import numpy as np
from jaxtyping import Int64
from lightning.pytorch.utilities import rank_zero_info

from attnlab.data.streamed import Source


def kept(source: Source, exclude: Path) -> Int64[np.ndarray, " kept"]:
    """Return the indices of the samples that an exclude list leaves.

    Args:
        source: The samples.
        exclude: File with one name per line, as `Source.name` gives it; lines that begin with ``#``
            and empty ones do not count.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not exclude.is_file():
        raise FileNotFoundError(
            f"exclude={str(exclude)!r} does not exist; `python -m attnlab validate-data` writes one"
        )
    lines = (line.strip() for line in exclude.read_text("utf-8").splitlines())
    names = {line for line in lines if line and line[0] != "#"}
    keep = [index for index in range(len(source)) if source.name(index) not in names]
    if len(keep) < len(source):
        rank_zero_info(f"{exclude}: {len(source) - len(keep)} of {len(source)} samples left out")
    return np.array(keep, np.int64)
