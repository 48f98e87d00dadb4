"""Pyramids wired with LiSA, in two sizes; another `mixer` swaps the operator.

LiSA's equations and these sizes are this project's own construction from the published abstracts,
not a reproduction of the paper's networks.
"""

from attnlab.backbones.pyramid import Pyramid
from attnlab.models.lisa_vit import lisa
from attnlab.operators.base import MixerFactory


def lisa_pyramid_small(
    mixer: MixerFactory = lisa,
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
    mixer: MixerFactory = lisa,
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
