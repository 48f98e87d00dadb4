"""LisaViT in the three sizes of DeiT, wired with LiSA; another `mixer` swaps the operator.

LiSA's equations and these sizes are this project's own construction from the published abstracts,
not a reproduction of the paper's networks.
"""

from attnlab.backbones.lisa_vit import LisaViT
from attnlab.operators.base import Grid, MixerFactory, TokenMixer
from attnlab.operators.lisa import LiSA


def lisa(
    dim: int, heads: int, grid: Grid, stride: int = 1, *, out_dim: int | None = None
) -> TokenMixer:
    """Return LiSA as the named sizes use it: four RPEs, one group of 16-channel keys."""
    return LiSA(
        dim,
        heads,
        grid,
        stride,
        out_dim=out_dim,
        num_rpes=4,
        approximation="auto",
        key_dim=16,
        key_groups=1,
    )


def lisa_vit_tiny(
    mixer: MixerFactory = lisa,
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 16,
    in_channels: int = 3,
    drop_path: float = 0.1,
    absolute_position: bool = False,
) -> LisaViT:
    """Return the tiny size: 192 channels, 3 heads; see `LisaViT` for the arguments."""
    return LisaViT(
        mixer,
        image_size=image_size,
        patch_size=patch_size,
        in_channels=in_channels,
        width=192,
        depth=12,
        heads=3,
        mlp_ratio=4.0,
        drop_path=drop_path,
        absolute_position=absolute_position,
    )


def lisa_vit_small(
    mixer: MixerFactory = lisa,
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 16,
    in_channels: int = 3,
    drop_path: float = 0.1,
    absolute_position: bool = False,
) -> LisaViT:
    """Return the small size: 384 channels, 6 heads; see `LisaViT` for the arguments."""
    return LisaViT(
        mixer,
        image_size=image_size,
        patch_size=patch_size,
        in_channels=in_channels,
        width=384,
        depth=12,
        heads=6,
        mlp_ratio=4.0,
        drop_path=drop_path,
        absolute_position=absolute_position,
    )


def lisa_vit_base(
    mixer: MixerFactory = lisa,
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 16,
    in_channels: int = 3,
    drop_path: float = 0.1,
    absolute_position: bool = False,
) -> LisaViT:
    """Return the base size: 768 channels, 12 heads; see `LisaViT` for the arguments."""
    return LisaViT(
        mixer,
        image_size=image_size,
        patch_size=patch_size,
        in_channels=in_channels,
        width=768,
        depth=12,
        heads=12,
        mlp_ratio=4.0,
        drop_path=drop_path,
        absolute_position=absolute_position,
    )
