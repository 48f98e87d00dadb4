"""Depth-wise convolution between two point-wise maps: local mixing with static weights."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnlab.operators.base import Grid, TokenMixer
from attnlab.operators.grids import ravel, token_coordinates
from attnlab.operators.init import lecun_linear, lecun_normal_


class DepthwiseConv(TokenMixer):
    """Depth-wise convolution of k tokens along each axis: local attention, its weights fixed.

    ``u = x W_in``, ``z[n] = Σ_δ K[δ] ⊙ u[stride·n + δ]`` over offsets δ of at most ``(k - 1) / 2``
    on each axis (cross-correlation; tokens outside the grid count as zero), ``y = z W_out``.
    There is no activation in between and no bias, so that it differs from the attention
    operators only in where its weights come from.

    Args:
        dim: Channels in.
        heads: Only validated: every channel has its own kernel.
        grid: (H, W) or (T, H, W); only its number of axes sizes the kernel.
        stride: Step between output tokens.
        out_dim: Channels out, and of the convolution; `dim` when None.
        kernel_size: Odd number of tokens k along each side of the kernel.

    Raises:
        ValueError: `kernel_size` is even or below 1, or as `TokenMixer`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        grid: Grid,
        stride: int = 1,
        *,
        out_dim: int | None = None,
        kernel_size: int = 7,
    ) -> None:
        super().__init__(dim, heads, grid, stride, out_dim=out_dim)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"{kernel_size=} must be odd and at least 1")
        self.kernel_size = kernel_size
        self.value = lecun_linear(dim, self.out_dim)
        self.kernel = nn.Parameter(torch.empty(self.out_dim, 1, *[kernel_size] * len(grid)))
        lecun_normal_(self.kernel, kernel_size ** len(grid))
        self.proj = lecun_linear(self.out_dim, self.out_dim)

    def forward(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Convolve all channels at once, one group each."""
        convolve = F.conv2d if x.ndim == 4 else F.conv3d
        out = convolve(
            self.value(x).movedim(-1, 1),
            self.kernel,
            stride=self.stride,
            padding=self.kernel_size // 2,
            groups=self.out_dim,
        )
        mixed: Tensor = self.proj(out.movedim(1, -1))
        return mixed

    def inflate(self, frames: int, kernel_frames: int = 3) -> TokenMixer:
        """Convolve with a cube of k tokens whose middle frame is the kernel, the others zero.

        Copies in all k frames would not do: the zeros before and after the clip count.
        """
        inflated = self._copy_on_clips(frames, kernel_frames)
        reach = self.kernel_size // 2
        cube = F.pad(self.kernel.detach().unsqueeze(2), (0, 0, 0, 0, reach, reach))
        inflated.kernel = nn.Parameter(cube)
        return inflated

    def reference(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Sum the shifted grid over all offsets, one at a time."""
        axes = x.ndim - 2
        reach = self.kernel_size // 2
        padded = F.pad(self.value(x), (0, 0, *[reach] * (2 * axes)))
        out = torch.zeros((), dtype=x.dtype, device=x.device)
        offsets = itertools.product(range(self.kernel_size), repeat=axes)
        for offset, weight in zip(offsets, self.kernel.flatten(1).unbind(1), strict=True):
            starts = zip(offset, x.shape[1:-1], strict=True)
            shifted = padded[:, *(slice(at, at + size, self.stride) for at, size in starts)]
            out = out + shifted * weight
        mixed: Tensor = self.proj(out)
        return mixed

    @torch.no_grad()
    def token_weights(
        self, x: Float[Tensor, "batch *grid dim"], queries: Int[Tensor, " queries"]
    ) -> Float[Tensor, "batch heads queries keys"]:
        """Return the kernel of each channel, a head of its own, at each of the output tokens."""
        grid = tuple(x.shape[1:-1])
        at = self.stride * self._out_coordinates(grid, queries)
        entries = token_coordinates(grid, x.device) - at[:, None] + self.kernel_size // 2
        inside = ((entries >= 0) & (entries < self.kernel_size)).all(-1)
        read = ravel(entries, tuple(self.kernel.shape[2:])).where(inside, 0)
        weights = self.kernel.flatten(1)[:, read].masked_fill(~inside, 0.0)
        return weights.expand(x.shape[0], -1, -1, -1)

    def learnt_maps(self) -> dict[str, Float[Tensor, "map height width"]]:
        """Return the kernel of each channel; on video, one picture per offset in time too."""
        kernel = self.kernel.detach()
        return {"kernel": kernel.reshape(-1, *kernel.shape[-2:])}
