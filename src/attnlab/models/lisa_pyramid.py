"""Pyramids wired with LiSA, in two sizes; another `mixer` swaps the operator.

LiSA's equations and these sizes are this project's own construction from the published abstracts,
not a reproduction of the paper's networks.
"""

import math

from attnlab.backbones.pyramid import Pyramid
from attnlab.operators.base import Grid, MixerFactory, TokenMixer
from attnlab.operators.lisa import LiSA

LARGEST_DENSE = 20 * 20
"""Tokens up to which the dense form is the faster one of the same function, by measurement."""


def lisa_by_size(
    dim: int, heads: int, grid: Grid, stride: int = 1, *, out_dim: int | None = None
) -> TokenMixer:
    """Return LiSA with four RPEs and one group of 16-channel keys, dense on small grids only."""
    return LiSA(
        dim,
        heads,
        grid,
        stride,
        out_dim=out_dim,
        num_rpes=4,
        approximation="none" if math.prod(grid) <= LARGEST_DENSE else "fft",
        key_dim=16,
    )


def lisa_pyramid_small(
    mixer: MixerFactory = lisa_by_size,
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 4,
    in_channels: int = 3,
    drop_path: float = 0.1,
    out_indices: tuple[int, ...] = (0, 1, 2, 3),
) -> Pyramid:
    """Return the small size: 3, 4, 8 and 3 blocks; see `Pyramid` for the arguments."""
    return Pyramid(
        mixer,
        image_size=image_size,
        patch_size=patch_size,
        in_channels=in_channels,
        widths=(64, 128, 320, 512),
        depths=(3, 4, 8, 3),
        heads=(1, 2, 5, 8),
        mlp_ratio=4.0,
        drop_path=drop_path,
        out_indices=out_indices,
    )


def lisa_pyramid_base(
    mixer: MixerFactory = lisa_by_size,
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 4,
    in_channels: int = 3,
    drop_path: float = 0.3,
    out_indices: tuple[int, ...] = (0, 1, 2, 3),
) -> Pyramid:
    """Return the base size: 5, 8, 20 and 7 blocks; see `Pyramid` for the arguments."""
    return Pyramid(
        mixer,
        image_size=image_size,
        patch_size=patch_size,
        in_channels=in_channels,
        widths=(64, 128, 320, 512),
        depths=(5, 8, 20, 7),
        heads=(1, 2, 5, 8),
        mlp_ratio=4.0,
        drop_path=drop_path,
        out_indices=out_indices,
    )
