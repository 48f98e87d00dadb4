"""Global filter: a learnt circular convolution over the whole grid (GFNet, Rao et al. 2021)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from attnlab.operators.base import Grid, TokenMixer
from attnlab.operators.baselines.grids import strided
from attnlab.operators.grids import ravel, token_coordinates
from attnlab.operators.init import lecun_linear


def hermitian(spectrum: Complex[Tensor, "*half dim"], grid: Grid) -> Complex[Tensor, "*half dim"]:
    """Return the nearest half spectrum that a real kernel can have.

    The frequencies 0 and n/2 of the last axis hold their own conjugates. Inverse real transforms
    differ in what they make of input that contradicts itself there: on the CPU they drop the
    contradiction, which is what this does, on CUDA the result is undefined (pytorch #154496).
    """
    outer = tuple(range(len(grid) - 1))
    mirrored = spectrum.flip(outer).roll([1] * len(outer), outer).conj()
    column = torch.arange(spectrum.shape[-2], device=spectrum.device)[:, None]
    own = (column == 0) | (2 * column == grid[-1])
    return torch.where(own, (spectrum + mirrored) / 2, spectrum)


def spatial_kernel(
    spectrum: Complex[Tensor, "*half dim"], grid: Grid
) -> Float[Tensor, "*grid dim"]:
    """Return the real kernel of a half spectrum, offset zero at index ``n // 2`` of each axis."""
    axes = tuple(range(len(grid)))
    kernel: Tensor = torch.fft.fftshift(torch.fft.irfftn(spectrum, s=grid, dim=axes), dim=axes)
    return kernel


def resample_spectrum(
    spectrum: Complex[Tensor, "*half dim"], grid: Grid, new_grid: Grid
) -> Complex[Tensor, "*new_half dim"]:
    """Interpolate a filter to the frequencies of another grid.

    The interpolant is the trigonometric one: the kernel, whose size in tokens stays, is padded
    with zeros or cropped round offset zero. GFNet interpolates the real and imaginary parts
    bicubically as if frequencies were pixels, which ignores that they wrap around.
    """
    axes = tuple(range(len(grid)))
    before = [new // 2 - old // 2 for old, new in zip(grid, new_grid, strict=True)]
    after = [new - old - b for old, new, b in zip(grid, new_grid, before, strict=True)]
    sides = [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair]
    kernel = F.pad(spatial_kernel(spectrum, grid), (0, 0, *sides))
    new_spectrum: Tensor = torch.fft.rfftn(torch.fft.ifftshift(kernel, dim=axes), dim=axes)
    return new_spectrum


class GlobalFilter(TokenMixer):
    """Circular convolution by Fourier transform: ``y = irfft(filter ⊙ rfft(x))``, per channel.

    As in GFNet there is no projection round it. Only where ``out_dim != dim`` a linear map without
    bias follows, which GFNet's patch merging would do outside. With a `stride` only every
    stride-th token is kept. On another grid than it was built for the kernel keeps its size in
    tokens, see `resample_spectrum`.

    The transforms run in float32 (float64 for float64 tokens) outside autocast.

    Args:
        dim: Channels in.
        heads: Only validated: every channel has its own filter.
        grid: (H, W) or (T, H, W), at which the filter is learnt.
        stride: Step between output tokens.
        out_dim: Channels out; `dim` when None.

    Attributes:
        filter: ``[*grid[:-1], grid[-1] // 2 + 1, dim, 2]``, real and imaginary parts.

    Raises:
        ValueError: As `TokenMixer`.
    """

    def __init__(
        self, dim: int, heads: int, grid: Grid, stride: int = 1, *, out_dim: int | None = None
    ) -> None:
        super().__init__(dim, heads, grid, stride, out_dim=out_dim)
        self.filter = nn.Parameter(0.02 * torch.randn(*grid[:-1], grid[-1] // 2 + 1, dim, 2))
        self.proj = nn.Identity() if self.out_dim == dim else lecun_linear(dim, self.out_dim)

    def forward(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Multiply the spectra; O(N log N) in the number of tokens."""
        grid = tuple(x.shape[1:-1])
        axes = tuple(range(1, x.ndim - 1))
        with torch.autocast(x.device.type, enabled=False):
            spectrum = self._spectrum_on(grid)
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            out = torch.fft.irfftn(torch.fft.rfftn(wide, dim=axes) * spectrum, s=grid, dim=axes)
        mixed: Tensor = self.proj(strided(out, self.stride).to(x.dtype))
        return mixed

    def _spectrum(self) -> Complex[Tensor, "*half dim"]:
        parts = self.filter.to(torch.promote_types(self.filter.dtype, torch.float32))
        return hermitian(torch.view_as_complex(parts), self.grid)

    def _spectrum_on(self, grid: Grid) -> Complex[Tensor, "*half dim"]:
        spectrum = self._spectrum()
        return spectrum if grid == self.grid else resample_spectrum(spectrum, self.grid, grid)

    def inflate(self, frames: int, kernel_frames: int = 3) -> TokenMixer:
        """Filter frame by frame at first: the filter is the same at all frequencies in time."""
        inflated = self._copy_on_clips(frames, kernel_frames)
        inflated.filter = nn.Parameter(self.filter.detach().repeat(frames, 1, 1, 1, 1))
        return inflated

    def reference(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Sum the Fourier series of the kernel, then shift and add the grid once per offset."""
        grid = torch.tensor(self.grid, device=x.device)
        new_grid = torch.tensor(x.shape[1:-1], device=x.device)
        at = token_coordinates(self.grid, x.device)
        frequency = token_coordinates((*self.grid[:-1], self.grid[-1] // 2 + 1), x.device)
        angle = 2 * math.pi * (at[:, None] * frequency / grid.to(x.dtype)).sum(-1)
        # A half spectrum stands for the conjugate half too, but for the columns that are their own.
        own = (frequency[:, -1] == 0) | (2 * frequency[:, -1] == grid[-1])
        real, imag = (torch.where(own, 1, 2)[:, None, None] * self.filter.flatten(0, -3)).unbind(-1)
        kernel = (angle.cos() @ real - angle.sin() @ imag) / len(at)

        offsets = (at + grid // 2) % grid - grid // 2
        fits = ((offsets >= -(new_grid // 2)) & (offsets < (new_grid + 1) // 2)).all(-1)
        out = torch.zeros((), dtype=x.dtype, device=x.device)
        for offset, weight in zip(offsets[fits].tolist(), kernel[fits], strict=True):
            out = out + weight * x.roll(offset, tuple(range(1, x.ndim - 1)))
        mixed: Tensor = self.proj(strided(out, self.stride))
        return mixed

    @torch.no_grad()
    def token_weights(
        self, x: Float[Tensor, "batch *grid dim"], queries: Int[Tensor, " queries"]
    ) -> Float[Tensor, "batch heads queries keys"]:
        """Return the kernel of each channel of `x`, a head of its own, shifted round the grid."""
        grid = tuple(x.shape[1:-1])
        at = self.stride * self._out_coordinates(grid, queries)
        kernel = spatial_kernel(self._spectrum_on(grid), grid).flatten(0, -2).t().to(x.dtype)
        middle = torch.tensor([size // 2 for size in grid], device=x.device)
        offsets = at[:, None] - token_coordinates(grid, x.device) + middle
        wrapped = offsets % torch.tensor(grid, device=x.device)
        return kernel[:, ravel(wrapped, grid)].expand(x.shape[0], -1, -1, -1)

    def uncounted_flops(self, grid: Grid) -> int:
        """Count two real transforms per channel and the product of their spectra.

        A real transform of M tokens is taken as ``2.5 M log2 M``, a complex product as 6. What
        resampling the filter to another grid costs is left out: it is paid once per batch.
        """
        tokens = math.prod(grid)
        products = math.prod(grid[:-1]) * (grid[-1] // 2 + 1)
        return round(self.dim * (2 * 2.5 * tokens * math.log2(tokens) + 6 * products))

    def learnt_maps(self) -> dict[str, Float[Tensor, "map height width"]]:
        """Return the kernel of each channel, centred; on video, one picture per time offset too."""
        kernel = spatial_kernel(self._spectrum().detach(), self.grid).movedim(-1, 0)
        return {"kernel": kernel.reshape(-1, *self.grid[-2:])}
