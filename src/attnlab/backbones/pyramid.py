"""Pyramid of four resolutions for any operator, in the widths and depths that its user gives."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attnlab.backbones.base import Backbone
from attnlab.backbones.blocks import Block, PatchEmbed, drop_path_rates
from attnlab.backbones.features import FeatureInfo
from attnlab.operators.base import Grid, MixerFactory
from attnlab.operators.init import lecun_linear


class PatchMerge(nn.Module):
    """Joins every 2 x 2 tokens into one: concatenation, LayerNorm, linear map without bias.

    Liu et al., "Swin Transformer", ICCV 2021. An odd grid is padded with zeros below and on the
    right. Axes before the last three are left alone, so that clips merge frame by frame.

    Args:
        dim: Channels in.
        out_dim: Channels out.
    """

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=1e-6)
        self.linear = lecun_linear(4 * dim, out_dim)

    def forward(
        self, x: Float[Tensor, "*batch rows columns dim"]
    ) -> Float[Tensor, "*batch out_rows out_columns out_dim"]:
        """Return half as many tokens, rounded up, along rows and columns."""
        rows, columns = x.shape[-3:-1]
        x = F.pad(x, (0, 0, 0, columns % 2, 0, rows % 2))
        corners = [x[..., i::2, j::2, :] for j in range(2) for i in range(2)]
        merged: Tensor = self.linear(self.norm(torch.cat(corners, dim=-1)))
        return merged


class Pyramid(Backbone):
    """Patch embedding, then stages of pre-norm blocks with a `PatchMerge` between them.

    `forward_features` returns the maps before they are merged, of strides 4, 8, 16 and 32 with
    patches of 4 pixels. Images of any size are taken; they are padded with zeros on the right and
    at the bottom, and the operators adapt to the grid.

    Args:
        mixer: Builds the operator of each block from (dim, heads, grid).
        image_size: Side of the square images, or (height, width), in pixels, that size what the
            operators learn per position.
        patch_size: Side of the square patches, in pixels.
        in_channels: Channels of the images.
        widths: Channels of each stage.
        depths: Blocks of each stage.
        heads: Attention heads of each stage.
        mlp_ratio: Width of the MLPs' hidden layers over that of their block.
        drop_path: Rate of stochastic depth in the last block; it grows linearly from 0.
        out_indices: Stages whose maps `forward_features` returns, in increasing order; -1 is the
            last one; all stages when None.

    Raises:
        ValueError: A size is below 1, the lists per stage differ in length, or as the operators,
            `DropPath` and `FeatureInfo` say.
    """

    def __init__(
        self,
        mixer: MixerFactory,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        in_channels: int = 3,
        widths: tuple[int, ...] = (64, 128, 320, 512),
        depths: tuple[int, ...] = (3, 4, 8, 3),
        heads: tuple[int, ...] = (1, 2, 5, 8),
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        out_indices: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        stages = len(widths)
        if not stages or {len(depths), len(heads)} != {stages} or min(depths) < 1:
            raise ValueError(f"{widths=}, {depths=} and {heads=}: one number per stage, at least 1")
        self.num_features = widths[-1]
        self.feature_info = FeatureInfo(
            widths,
            [patch_size * 2**i for i in range(stages)],
            [f"stages.{i}" for i in range(stages)],
            range(stages) if out_indices is None else out_indices,
        )
        self.patch_embed = PatchEmbed(in_channels, widths[0], patch_size, image_size)
        self.grid: Grid = self.patch_embed.grid
        rates = drop_path_rates(drop_path, sum(depths))
        self.stages = nn.ModuleList()
        for stage, (dim, count, depth) in enumerate(zip(widths, heads, depths, strict=True)):
            if stage:
                self.grid = tuple(math.ceil(size / 2) for size in self.grid)
            blocks = [
                Block(mixer(dim, count, self.grid), next(rates), mlp_ratio) for _ in range(depth)
            ]
            self.stages.append(nn.Sequential(*blocks))
        self.merges = nn.ModuleList(PatchMerge(dim, out_dim) for dim, out_dim in pairwise(widths))
        self.norm = nn.LayerNorm(self.num_features, eps=1e-6)

    def forward(
        self, images: Float[Tensor, "batch *clip channels height width"]
    ) -> Float[Tensor, "batch *times rows columns features"]:
        """Return the last stage's normalised tokens."""
        x = self.stages[0](self.patch_embed(images))
        for merge, stage in zip(self.merges, list(self.stages)[1:], strict=True):
            x = stage(merge(x))
        features: Tensor = self.norm(x)
        return features

    def forward_features(
        self, images: Float[Tensor, "batch *clip channels height width"]
    ) -> list[Float[Tensor, "batch _width *_grid"]]:
        """Return the tokens of the stages chosen, before they are merged, channels first."""
        x, maps = self.patch_embed(images), []
        for index, stage in enumerate(self.stages):
            x = stage(self.merges[index - 1](x) if index else x)
            if index in self.feature_info.out_indices:
                maps.append(x.movedim(-1, 1))
            if index == self.feature_info.out_indices[-1]:
                break
        return maps
