"""Two handwritten digits side by side, named after the left one: data for the window size."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from attnlab.data.composed import ComposedDataModule
from attnlab.data.composer import compose_pair
from attnlab.data.sources import Split, load_scans


class DigitsPair(ComposedDataModule):
    """Two digits; see `compose_pair`, and `ComposedDataModule` for the arguments."""

    mean = 0.0868
    std = 0.2310

    def __init__(self, train_size: int = 8000, **options: Any) -> None:
        super().__init__(train_size, **options)

    def compose(
        self, split: Split, rng: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "count 1 32 32"], UInt8[np.ndarray, "count"]]:
        """Compose a split from its own scans."""
        return compose_pair(rng, *load_scans(split, self.data_seed), self.sizes[split])
