"""QnA-ViT, the pyramid of Arar, Shamir and Bermano (CVPR 2022), for any pair of operators."""

import functools
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from attnlab.backbones.base import Backbone
from attnlab.backbones.blocks import Block, PatchEmbed, drop_path_rates
from attnlab.backbones.features import FeatureInfo
from attnlab.operators.base import Grid, MixerFactory
from attnlab.operators.init import lecun_linear


def per_stage(mixer: MixerFactory | Sequence[MixerFactory], stages: int) -> Sequence[MixerFactory]:
    """Return one factory for each stage.

    Raises:
        ValueError: There is a sequence, and it has another length.
    """
    if not isinstance(mixer, Sequence):
        return [mixer] * stages
    if len(mixer) != stages:
        raise ValueError(f"{len(mixer)} mixers were given for {stages=}")
    return mixer


class StridedProjection(nn.Module):
    """Linear projection of every `stride`-th token: a strided 1 x 1 convolution without bias.

    Args:
        dim: Channels in.
        out_dim: Channels out.
        stride: Step between the tokens kept, on both axes.
    """

    def __init__(self, dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.linear = lecun_linear(dim, out_dim)

    def forward(
        self, x: Float[Tensor, "batch *times rows columns dim"]
    ) -> Float[Tensor, "batch *times out_rows out_columns out_dim"]:
        """Return ``ceil(size / stride)`` rows and columns."""
        projected: Tensor = self.linear(x[..., :: self.stride, :: self.stride, :])
        return projected


class Stage(nn.Module):
    """One resolution: local blocks, then blocks, then the one that leaves for the next stage.

    Args:
        local_blocks: Blocks of the local mixer (window attention as published).
        blocks: Blocks of the mixer (QnA as published).
        downsample: Block that halves the grid and doubles the width, or None in the last stage.
    """

    def __init__(
        self, local_blocks: Sequence[Block], blocks: Sequence[Block], downsample: Block | None
    ) -> None:
        super().__init__()
        self.local_blocks = nn.Sequential(*local_blocks)
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def mix(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *grid dim"]:
        """Apply the blocks that keep the resolution, in order."""
        mixed: Tensor = self.blocks(self.local_blocks(x))
        return mixed

    def leave(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Apply the block that leaves for the next stage; the last stage's tokens stay."""
        return x if self.downsample is None else self.downsample(x)

    def forward(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Apply all blocks in order."""
        return self.leave(self.mix(x))


def _pyramid(
    widths: Sequence[int], patch_size: int, out_indices: Sequence[int] | None
) -> FeatureInfo:
    stages = range(len(widths))
    # A stage's own module ends behind its down-sampling block, its map before it.
    names = [f"stages.{i}.blocks" for i in stages]
    reductions = [patch_size * 2**i for i in stages]
    return FeatureInfo(widths, reductions, names, stages if out_indices is None else out_indices)


class QnAViT(Backbone):
    """Patch embedding and stages of pre-norm blocks of falling resolution and rising width.

    Stage i has width ``width * 2**i`` and runs ``local_depths[i]`` blocks of the local mixer, then
    ``depths[i]`` of the mixer, then, but in the last stage, one of the mixer with stride 2, twice
    the width and twice the heads, whose skip is a strided 1 x 1 convolution of the un-normalised
    input. Stochastic depth grows linearly over all blocks in this order. The stem has no norm and
    there is no position embedding. Images of any size are taken; they are padded with zeros on the
    right and at the bottom to a multiple of the patch, and the operators adapt to the grid. Small
    images (8 to 32 pixels) want a `patch_size` of 1 or 2.

    Linear layers and convolutions start lecun normal, their biases 0; operators initialise
    themselves.

    Args:
        mixer: Builds the mixer of each block from (dim, heads, grid, stride, out_dim); or one
            builder per stage.
        local_mixer: Likewise for the local blocks; not needed where there are none.
        image_size: Side of the square images, or (height, width), in pixels, that size what the
            operators learn per position.
        patch_size: Side of the square patches, in pixels.
        in_channels: Channels of the images.
        width: Channels of the first stage.
        depths: Blocks of the mixer per stage, those with stride 2 not counted.
        heads: Their attention heads per stage.
        local_depths: Blocks of the local mixer per stage.
        local_heads: Their attention heads per stage.
        mlp_ratio: Width of the MLPs' hidden layers over that of their block.
        drop_path: Rate of stochastic depth in the last block.
        out_indices: Stages whose tokens `forward_features` returns as maps, in increasing order;
            -1 is the last one; all stages when None.

    Raises:
        ValueError: A size is below 1, the lists per stage differ in length, local blocks have no
            mixer, or as the operators, `DropPath` and `FeatureInfo` say.
    """

    def __init__(
        self,
        mixer: MixerFactory | Sequence[MixerFactory],
        local_mixer: MixerFactory | Sequence[MixerFactory] | None = None,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        in_channels: int = 3,
        width: int = 64,
        depths: tuple[int, ...] = (2, 3, 2, 0),
        heads: tuple[int, ...] = (8, 16, 32, 64),
        local_depths: tuple[int, ...] = (0, 0, 4, 2),
        local_heads: tuple[int, ...] = (2, 4, 8, 16),
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        out_indices: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        stages = len(depths)
        if not stages or {len(heads), len(local_depths), len(local_heads)} != {stages}:
            raise ValueError(f"{depths=}, {heads=}, {local_depths=}, {local_heads=}: not as long")
        mixers = per_stage(mixer, stages)
        if local_mixer is None and any(local_depths):
            raise ValueError(f"{local_depths=} need a local_mixer")
        local_mixers = per_stage(mixer if local_mixer is None else local_mixer, stages)
        widths = [width * 2**i for i in range(stages)]
        self.num_features = widths[-1]
        self.feature_info = _pyramid(widths, patch_size, out_indices)
        self.patch_embed = PatchEmbed(in_channels, width, patch_size, image_size, bias=False)

        block = functools.partial(Block, mlp_ratio=mlp_ratio, gelu="tanh")
        rates = drop_path_rates(drop_path, sum(depths) + sum(local_depths) + stages - 1)
        self.grid: Grid = self.patch_embed.grid
        self.stages = nn.ModuleList()
        for i, dim in enumerate(widths):
            local_blocks = [
                block(local_mixers[i](dim, local_heads[i], self.grid), next(rates))
                for _ in range(local_depths[i])
            ]
            blocks = [
                block(mixers[i](dim, heads[i], self.grid), next(rates)) for _ in range(depths[i])
            ]
            downsample = None
            if i < stages - 1:
                strided = mixers[i](dim, 2 * heads[i], self.grid, 2, out_dim=2 * dim)
                downsample = block(strided, next(rates), skip=StridedProjection(dim, 2 * dim, 2))
                self.grid = strided.out_grid(self.grid)
            self.stages.append(Stage(local_blocks, blocks, downsample))
        self.norm = nn.LayerNorm(self.num_features, eps=1e-6)

    def forward(
        self, images: Float[Tensor, "batch *clip channels height width"]
    ) -> Float[Tensor, "batch *times rows columns features"]:
        """Return the last stage's normalised tokens."""
        x = self.patch_embed(images)
        for stage in self.stages:
            x = stage(x)
        features: Tensor = self.norm(x)
        return features

    def forward_features(
        self, images: Float[Tensor, "batch *clip channels height width"]
    ) -> list[Float[Tensor, "batch _width *_grid"]]:
        """Return the tokens of the stages chosen, before they leave, channels first.

        With patches of 4 pixels the strides are 4, 8, 16 and 32. The final norm is not applied.
        """
        x, maps = self.patch_embed(images), []
        for index, stage in enumerate(self.stages):
            assert isinstance(stage, Stage)
            x = stage.mix(x)
            if index in self.feature_info.out_indices:
                maps.append(x.movedim(-1, 1))
            if index == self.feature_info.out_indices[-1]:
                break
            x = stage.leave(x)
        return maps
