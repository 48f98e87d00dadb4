"""The operator contract: the one thing every token mixer, backbone and study agrees on."""

import copy
import math
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Grid = tuple[int, ...]


class TokenMixer(nn.Module):
    """Mixes the tokens of a grid: ``[B, *grid, dim]`` to ``[B, *out_grid(grid), out_dim]``.

    A grid is (H, W) for images or (T, H, W) for video. Output token ``i`` sits on input token
    ``stride * i``, so every axis of ``n`` tokens leaves ``ceil(n / stride)``. An operator must
    accept any grid at call time; `grid` only sizes what it learns per position.

    Constructors of all operators start with ``(dim, heads, grid, stride=1, *, out_dim=None, ...)``
    (see `MixerFactory`), so that a backbone can build any of them without knowing which.

    Args:
        dim: Channels in.
        heads: Attention heads; must divide `out_dim`.
        grid: Size of the token grid, (H, W) or (T, H, W), in tokens.
        stride: Step between output tokens, the same on every axis.
        out_dim: Channels out; `dim` when None.

    Raises:
        ValueError: A size is not positive, the grid is not 2-D or 3-D, or `heads` does not
            divide `out_dim`.
    """

    no_weight_decay: ClassVar[frozenset[str]] = frozenset()
    """Names of this module's own parameters that weight decay must spare."""

    def __init__(
        self, dim: int, heads: int, grid: Grid, stride: int = 1, *, out_dim: int | None = None
    ) -> None:
        super().__init__()
        out_dim = dim if out_dim is None else out_dim
        for name, value in (("dim", dim), ("heads", heads), ("stride", stride)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if len(grid) not in (2, 3) or min(grid) < 1:
            raise ValueError(f"{grid=} must be (H, W) or (T, H, W), each at least 1")
        if out_dim < 1 or out_dim % heads:
            raise ValueError(f"{out_dim=} must be a positive multiple of {heads=}")
        self.dim = dim
        self.heads = heads
        self.grid = tuple(grid)
        self.stride = stride
        self.out_dim = out_dim

    def forward(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Mix the tokens by the fast form of the operator."""
        raise NotImplementedError

    def reference(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Compute what `forward` computes, by the defining sums, slowly and legibly."""
        raise NotImplementedError

    def out_grid(self, grid: Grid) -> Grid:
        """Return the grid of the output tokens for an input of `grid` tokens."""
        return tuple(math.ceil(size / self.stride) for size in grid)

    def inflate(self, frames: int, kernel_frames: int = 3) -> "TokenMixer":
        """Return this operator on clips (T, H, W), its weights a copy of those on images (H, W).

        On a clip of equal frames, however many, every frame of the result is what this operator
        gives on one of them.

        Args:
            frames: Tokens on the time axis that size what is learnt per position.
            kernel_frames: Tokens in time of a local operator whose window has a size per axis.

        Raises:
            ValueError: The operator has no such form, its grid is not (H, W), `stride` is not 1,
                or a number is below 1.
        """
        raise ValueError(f"{type(self).__name__} cannot be inflated to clips")

    def _copy_on_clips(self, frames: int, kernel_frames: int) -> "TokenMixer":
        """Return a copy on the grid (frames, H, W), all that is learnt still as on images."""
        if self.stride != 1 or len(self.grid) != 2:
            raise ValueError(
                f"to be inflated to clips, stride={self.stride} must be 1 and grid={self.grid} "
                "must be (H, W)"
            )
        if frames < 1 or kernel_frames < 1:
            raise ValueError(f"{frames=} and {kernel_frames=} must be at least 1")
        inflated = copy.deepcopy(self)
        inflated.grid = (frames, *self.grid)
        return inflated

    def token_weights(
        self, x: Float[Tensor, "batch *grid dim"], queries: Int[Tensor, " queries"]
    ) -> Float[Tensor, "batch heads queries keys"]:
        """Return the operator's kernel kappa over tokens, for chosen output tokens.

        kappa[b, h, n, m] is the weight of the value of input token m in head h's output at token
        n, before the output projection: ``y_n = Σ_m kappa_nm v_m`` in every head. An operator whose
        kernel differs between channels has a head per channel.

        Args:
            x: Tokens; the kernel may depend on them.
            queries: Row-major indices of output tokens, on the device of `x`.

        Returns:
            A row over all input tokens, row-major, for each of `queries`.

        Raises:
            ValueError: The operator has no such kernel, or an index is no output token's.
        """
        raise ValueError(f"{type(self).__name__} has no kernel over tokens")

    def _check_queries(self, grid: Grid, queries: Int[Tensor, " queries"]) -> None:
        tokens = math.prod(self.out_grid(grid))
        if len(queries) and not 0 <= queries.min() <= queries.max() < tokens:
            raise ValueError(f"queries={queries.tolist()} must lie in [0, {tokens})")

    def _out_coordinates(
        self, grid: Grid, queries: Int[Tensor, " queries"]
    ) -> Int[Tensor, "queries axes"]:
        """Return where the chosen output tokens of an input of `grid` tokens are on their grid.

        Raises:
            ValueError: An index is no output token's.
        """
        self._check_queries(grid, queries)
        return torch.stack(torch.unravel_index(queries, self.out_grid(grid)), dim=-1)

    def uncounted_flops(self, grid: Grid) -> int:
        """Return the forward FLOPs per sample that `torch.utils.flop_counter` cannot see.

        The counter knows matrix products, convolutions and fused attention; FFTs are added here.
        """
        return 0

    def learnt_maps(self) -> dict[str, Float[Tensor, "map height width"]]:
        """Return what the operator has learnt per relative or absolute position, as pictures."""
        return {}


@runtime_checkable  # so that beartype can check signatures in the test run
class MixerFactory(Protocol):
    """Builds a `TokenMixer` for one place in a network; every operator class is one."""

    def __call__(
        self, dim: int, heads: int, grid: Grid, stride: int = 1, *, out_dim: int | None = None
    ) -> TokenMixer:
        """Return a mixer from `dim` to `out_dim` channels on `grid`."""
