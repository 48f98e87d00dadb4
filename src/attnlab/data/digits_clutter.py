"""One handwritten digit among fragments of others on a photograph: the harder image data.

It is the base of the `clutter` profile and the default of experiments run by hand.
"""

import numpy as np
from jaxtyping import UInt8

from attnlab.data.composed import ComposedDataModule
from attnlab.data.composer import compose_clutter
from attnlab.data.sources import Split, load_scans, load_textures


class DigitsClutter(ComposedDataModule):
    """A digit in clutter; see `compose_clutter`, and `ComposedDataModule` for the arguments."""

    mean = 0.2831
    std = 0.2080

    def compose(
        self, split: Split, rng: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "count 1 32 32"], UInt8[np.ndarray, "count"]]:
        """Compose a split from its own scans and its own part of the photographs."""
        scans, labels = load_scans(split, self.data_seed)
        return compose_clutter(rng, scans, labels, load_textures(split), self.sizes[split])
