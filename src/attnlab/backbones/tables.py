"""Tables over offsets or positions on grids other than the one they were learnt on."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def resize_table(
    table: Float[Tensor, "rows columns width"], grid: tuple[int, ...]
) -> Float[Tensor, "new_rows new_columns width"]:
    """Sample a table of one function per column of `width` on another grid of the same extent.

    Cells are squares whose values sit at their centres; new centres are interpolated by the cubic
    convolution of Keys (1981, a = -1/2), which keeps quadratics, and on a coarser grid it is
    widened to average what falls between. Weights are normalised where it meets the border, so
    constants stay. This is what the official code's fine-tuning does. On its own grid a table is
    returned as it is.

    Args:
        table: Values on the old grid.
        grid: (rows, columns) of the new one.
    """
    if tuple(table.shape[:2]) == grid:
        return table
    maps = table.movedim(-1, 0).unsqueeze(0)
    resized = F.interpolate(maps, size=list(grid), mode="bicubic", antialias=True)
    return resized.squeeze(0).movedim(0, -1)
