"""Parts that every backbone shares: patch embedding, drop path, the MLP and the pre-norm block."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attnlab.operators.base import TokenMixer
from attnlab.operators.init import lecun_linear, lecun_normal_


def patch_grid(image_size: int | tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Return how many patches an image has, those begun included: (rows, columns).

    Args:
        image_size: Side of a square image, or (height, width), in pixels.
        patch_size: Side of the patches, in pixels.

    Raises:
        ValueError: `patch_size` or a side of `image_size` is below 1.
    """
    rows, columns = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(rows, columns, patch_size) < 1:
        raise ValueError(f"{image_size=} and {patch_size=} must be at least 1 pixel")
    return math.ceil(rows / patch_size), math.ceil(columns / patch_size)


class PatchEmbed(nn.Conv2d):
    """Linear embedding of square patches; images of any size are padded with zeros.

    The padding is on the right and at the bottom, to a multiple of the patch. Weights start lecun
    normal, biases 0.

    Attributes:
        grid: Patches of an image of `image_size`, (rows, columns).

    Args:
        in_channels: Channels of the images.
        width: Channels of the tokens.
        patch_size: Side of the patches, in pixels.
        image_size: Side of the square images, or (height, width), in pixels, that sizes `grid`.
        bias: Whether the embedding has a bias.

    Raises:
        ValueError: `patch_size` or a side of `image_size` is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        patch_size: int,
        image_size: int | tuple[int, int],
        bias: bool = True,
    ) -> None:
        grid = patch_grid(image_size, patch_size)
        super().__init__(in_channels, width, patch_size, patch_size, bias=bias)
        self.grid = grid
        lecun_normal_(self.weight, in_channels * patch_size**2)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch rows columns features"]:
        """Return one token per patch, on the grid of ``ceil(size / patch_size)`` patches."""
        below, right = (-side % self.kernel_size[0] for side in images.shape[-2:])
        # Channels last before the convolution, so that the tokens come out contiguous: the first
        # stage's norms and sums would run on strides otherwise.
        padded = F.pad(images, (0, right, 0, below)).contiguous(memory_format=torch.channels_last)
        return super().forward(padded).movedim(1, -1)


def drop_path_rates(last: float, blocks: int) -> Iterator[float]:
    """Yield the rate of each block in the order of execution, from 0 up to `last`."""
    return (last * block / max(blocks - 1, 1) for block in range(blocks))


class DropPath(nn.Module):
    """Drops a residual branch per sample (stochastic depth, Huang et al. 2016).

    Args:
        rate: Probability of dropping, in [0, 1). Survivors are divided by ``1 - rate``.

    Raises:
        ValueError: `rate` lies outside [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"{rate=} must lie in [0, 1)")
        self.rate = rate

    def forward(self, x: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch *rest"]:
        """Return `x` with whole samples zeroed in training, unchanged in evaluation."""
        if self.rate == 0 or not self.training:
            return x
        keep = torch.empty(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x * keep.bernoulli_(1 - self.rate).div_(1 - self.rate)

    def extra_repr(self) -> str:
        """Show the rate."""
        return f"rate={self.rate}"


class Mlp(nn.Sequential):
    """Token-wise MLP: linear, GELU, linear; weights lecun normal, biases 0.

    Args:
        dim: Channels in and out.
        ratio: Width of the hidden layer over `dim`.
        gelu: ``tanh`` for the tanh approximation, ``none`` for the exact function.
    """

    def __init__(self, dim: int, ratio: float = 4.0, gelu: str = "none") -> None:
        hidden = int(dim * ratio)
        super().__init__(
            lecun_linear(dim, hidden, bias=True),
            nn.GELU(approximate=gelu),
            lecun_linear(hidden, dim, bias=True),
        )


class Block(nn.Module):
    """Pre-norm residual block: ``y = s(x) + drop(mix(norm(x)))``, ``y + drop(mlp(norm(y)))``.

    With a `skip` (a strided projection, QnA's down-sampling block) s is that projection of the
    un-normalised input and the mixing branch is never dropped; otherwise s is the identity.

    Args:
        mixer: The token mixer; its `out_dim` is the width of the block's output.
        drop_path: Rate of stochastic depth.
        mlp_ratio: Width of the MLP's hidden layer over the block's width.
        gelu: GELU form, see `Mlp`.
        skip: Projection of the skip branch, channels last, or None for the identity.
    """

    def __init__(
        self,
        mixer: TokenMixer,
        drop_path: float = 0.0,
        mlp_ratio: float = 4.0,
        gelu: str = "none",
        skip: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(mixer.dim, eps=1e-6)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(mixer.out_dim, eps=1e-6)
        self.mlp = Mlp(mixer.out_dim, mlp_ratio, gelu)
        self.skip = nn.Identity() if skip is None else skip
        self.mix_drop = DropPath(drop_path if skip is None else 0.0)
        self.mlp_drop = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Mix tokens, then channels."""
        x = self.skip(x) + self.mix_drop(self.mixer(self.norm1(x)))
        out: Tensor = x + self.mlp_drop(self.mlp(self.norm2(x)))
        return out
