"""Isotropic vision transformer (DeiT-like) for any operator; LiSA's host network."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attnlab.backbones.base import Backbone
from attnlab.backbones.blocks import Block, PatchEmbed, drop_path_rates
from attnlab.backbones.features import FeatureInfo
from attnlab.operators.base import MixerFactory


def resize_positions(
    table: Float[Tensor, "1 rows columns width"], grid: tuple[int, int]
) -> Float[Tensor, "1 new_rows new_columns width"]:
    """Interpolate a position table bicubically to another grid."""
    if table.shape[1:3] == grid:
        return table
    channels_first = table.movedim(-1, 1)
    return F.interpolate(channels_first, size=grid, mode="bicubic").movedim(1, -1)


class LisaViT(Backbone):
    """Patch embedding, `depth` pre-norm blocks of one width round the given operator, final norm.

    The sizes are DeiT's (Touvron et al. 2021), but there is no class token: the task's head pools
    globally. Images of any size are taken; they are padded with zeros on the right and at the
    bottom to a multiple of the patch, and the operators adapt to the grid. Small images (8 to 32
    pixels) want a `patch_size` of 1, 2 or 4.

    The patch embedding and the MLPs start lecun normal, unlike DeiT's deviation of 0.02, which at
    widths below its own leaves branches too weak to learn in short runs; operators initialise
    themselves.

    Args:
        mixer: Builds the operator of each block from (dim, heads, grid).
        image_size: Side of the square images, or (height, width), in pixels, that size what the
            operators and the position table learn per position.
        patch_size: Side of the square patches, in pixels.
        in_channels: Channels of the images.
        width: Channels of every block.
        depth: Number of blocks.
        heads: Attention heads of every block.
        mlp_ratio: Width of the MLPs' hidden layers over `width`.
        drop_path: Rate of stochastic depth in the last block; it grows linearly from 0.
        absolute_position: Whether to add a learnt position table to the embedded patches,
            interpolated bicubically for other grids.
        out_indices: Blocks whose tokens `forward_features` returns as maps, in increasing order;
            -1 is the last one.

    Raises:
        ValueError: A size is below 1, or as the operator, `DropPath` and `FeatureInfo` say.
    """

    no_weight_decay: ClassVar[frozenset[str]] = frozenset({"position"})

    def __init__(
        self,
        mixer: MixerFactory,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        absolute_position: bool = False,
        out_indices: tuple[int, ...] = (-1,),
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"{depth=} must be at least 1")
        self.num_features = width
        self.patch_embed = PatchEmbed(in_channels, width, patch_size, image_size)
        self.grid = grid = self.patch_embed.grid
        names = [f"blocks.{index}" for index in range(depth)]
        self.feature_info = FeatureInfo([width] * depth, [patch_size] * depth, names, out_indices)
        self.position = nn.Parameter(torch.empty(1, *grid, width)) if absolute_position else None
        if self.position is not None:
            nn.init.trunc_normal_(self.position, std=0.02)
        rates = drop_path_rates(drop_path, depth)
        blocks = [Block(mixer(width, heads, grid), rate, mlp_ratio) for rate in rates]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def _embed(
        self, images: Float[Tensor, "batch *clip channels height width"]
    ) -> Float[Tensor, "batch *times rows columns features"]:
        x: Tensor = self.patch_embed(images)
        if self.position is not None:
            x = x + resize_positions(self.position, (x.shape[-3], x.shape[-2]))
        return x

    def forward(
        self, images: Float[Tensor, "batch *clip channels height width"]
    ) -> Float[Tensor, "batch *times rows columns features"]:
        """Return the normalised tokens on the grid of ``ceil(size / patch_size)`` patches."""
        features: Tensor = self.norm(self.blocks(self._embed(images)))
        return features

    def forward_features(
        self, images: Float[Tensor, "batch *clip channels height width"]
    ) -> list[Float[Tensor, "batch features *times rows columns"]]:
        """Return the tokens of the blocks chosen, all of one stride, channels first."""
        x, maps = self._embed(images), []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.feature_info.out_indices:
                maps.append(x.movedim(-1, 1))
            if index == self.feature_info.out_indices[-1]:
                break
        return maps
