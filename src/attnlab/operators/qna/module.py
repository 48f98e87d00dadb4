"""The QnA layer: parameters, options and the choice of the form that is computed."""

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnlab.operators.base import Grid, TokenMixer
from attnlab.operators.init import lecun_linear
from attnlab.operators.qna.functional import (
    attend,
    attend_stably,
    project,
    scale_queries,
    window_count,
)
from attnlab.operators.qna.reference import qna_reference

_FORMS = {"fast": attend, "stable": attend_stably}


def _normal(*shape: int) -> Tensor:
    return nn.init.normal_(torch.empty(shape), std=0.02)


# Columns are query-major: query * heads + head.
_LEARNT_SCALES: dict[str, Callable[[int, int], Tensor]] = {
    "normal": lambda offsets, columns: _normal(offsets, columns),
    "normal_elementwise": lambda offsets, columns: _normal(1, columns),
    "ones": torch.ones,
}
_FIXED_SCALES: dict[str, Callable[[int, int], Tensor]] = {
    "posneg": lambda queries, heads: torch.tensor([1.0, -1.0]).repeat_interleave(
        queries * heads // 2
    ),
    "avg": lambda queries, heads: torch.full((queries * heads,), 1 / queries),
    "none": lambda queries, heads: torch.ones(queries * heads),
}


class QnA(TokenMixer):
    """Query and attend: learned queries aggregate the window around every token.

    Arar, Shamir, Bermano, "Learned Queries for Efficient Local Attention", CVPR 2022. The window of
    output token i is centred on input token ``stride * i``; tokens outside the grid count for
    nothing. The L queries share the values and their results are summed.

    Args:
        dim: Channels in.
        heads: Attention heads.
        grid: (H, W) or (T, H, W); only its rank matters, windows are cubes on video.
        stride: Step between output tokens.
        out_dim: Channels of keys, values and output; `dim` when None.
        kernel_size: Side k of the window in tokens.
        num_queries: Learned queries L.
        attention_scale: Signed weight on the normalised attention: ``normal`` (one per offset,
            query and head, initial deviation 0.02), ``normal_elementwise`` (one per query and
            head), ``ones`` (per offset, initially 1), or fixed: ``posneg`` (+1 for the first half
            of all queries' heads, -1 for the second), ``avg`` (1 / L), ``none`` (1).
        position: Bias on the scores: ``relative`` (one per offset, query and head),
            ``absolute`` (the product of the query with an embedding per offset), ``contextual`` (a
            linear map of all heads of the scaled query, Wu et al. 2021, arXiv 2107.14222), or
            ``none``. All are initially 0.
        normalize_queries: Whether queries are divided by their norm.
        padding: Empty tokens around the grid; (k - 1) / 2 when None. Any other leaves
            ``(n + 2 * padding - k) // stride + 1`` tokens per axis.
        numerics: ``fast`` overflows where a score exceeds 88 and divides zero by zero where a whole
            window lies below -100; ``stable`` never does, and is slower. See the README.

    Raises:
        ValueError: An option is unknown, `kernel_size` is even without a given `padding`, `padding`
            does not lie in [0, kernel_size), ``posneg`` has an odd number to halve, or as
            `TokenMixer`.
    """

    no_weight_decay: ClassVar[frozenset[str]] = frozenset(
        {
            "query",
            "scale",
            "position_bias",
            "position_embedding",
            "position_map",
            "position_constant",
        }
    )

    def __init__(
        self,
        dim: int,
        heads: int,
        grid: Grid,
        stride: int = 1,
        *,
        out_dim: int | None = None,
        kernel_size: int = 3,
        num_queries: int = 2,
        attention_scale: Literal[
            "normal", "normal_elementwise", "posneg", "ones", "avg", "none"
        ] = "normal",
        position: Literal["relative", "absolute", "contextual", "none"] = "relative",
        normalize_queries: bool = True,
        padding: int | None = None,
        numerics: Literal["fast", "stable"] = "fast",
    ) -> None:
        super().__init__(dim, heads, grid, stride, out_dim=out_dim)
        if kernel_size < 1 or num_queries < 1:
            raise ValueError(f"{kernel_size=} and {num_queries=} must be at least 1")
        if padding is None and kernel_size % 2 == 0:
            raise ValueError(f"{kernel_size=} must be odd, so that a window has a centre")
        padding = (kernel_size - 1) // 2 if padding is None else padding
        if not 0 <= padding < kernel_size:
            raise ValueError(f"{padding=} must lie in [0, kernel_size), {kernel_size=}")
        if numerics not in _FORMS:
            raise ValueError(f"{numerics=} must be one of {', '.join(_FORMS)}")
        self.kernel_size = kernel_size
        self.num_queries = num_queries
        self.attention_scale = attention_scale
        self.normalize_queries = normalize_queries
        self.padding = padding
        self.position = position
        self.numerics = numerics

        width, offsets = self.out_dim, kernel_size ** len(self.grid)
        sigma = math.sqrt(heads / width)
        self.query = nn.Parameter(torch.empty(num_queries, width))
        nn.init.trunc_normal_(self.query, std=sigma, a=-2 * sigma, b=2 * sigma)
        self.key, self.value = lecun_linear(dim, width), lecun_linear(dim, width)
        self.proj = lecun_linear(width, width)
        self._add_scale(attention_scale, offsets)
        self._add_position(position, offsets)

    def _add_scale(self, mode: str, offsets: int) -> None:
        columns = self.num_queries * self.heads
        if mode in _LEARNT_SCALES:
            self.scale = nn.Parameter(_LEARNT_SCALES[mode](offsets, columns))
        elif mode in _FIXED_SCALES:
            fixed = _FIXED_SCALES[mode](self.num_queries, self.heads)
            self.register_buffer("scale", fixed.unsqueeze(0), persistent=False)
        else:
            allowed = ", ".join([*_LEARNT_SCALES, *_FIXED_SCALES])
            raise ValueError(f"attention_scale={mode!r} must be one of {allowed}")
        if self.scale.shape[-1] != columns:
            raise ValueError(f"attention_scale={mode!r} needs an even queries * heads, {columns=}")

    def _add_position(self, mode: str, offsets: int) -> None:
        queries, heads, width = self.num_queries, self.heads, self.out_dim
        if mode == "relative":
            self.position_bias = nn.Parameter(torch.zeros(offsets, queries * heads))
        elif mode == "absolute":
            self.position_embedding = nn.Parameter(torch.zeros(offsets, queries, width))
        elif mode == "contextual":
            self.position_map = nn.Parameter(torch.zeros(offsets, heads, width))
            self.position_constant = nn.Parameter(torch.zeros(offsets, heads))
        elif mode != "none":
            raise ValueError(f"position={mode!r} must be relative, absolute, contextual or none")

    def forward(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Sum the windows in linear memory, the exponentials in float32 or better."""
        query = scale_queries(self.query, self.heads, self.normalize_queries)
        scores, values = project(x, query, self.key.weight, self.value.weight, self.value.bias)
        precise = torch.promote_types(values.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            bias, scale = self._window_weights(query)
            mixed = _FORMS[self.numerics](
                scores.to(precise),
                values.to(precise),
                bias.to(precise),
                scale.to(precise),
                *self._windows,
            )
        out: Tensor = self.proj(mixed.flatten(-2).to(values.dtype))
        return out

    def reference(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Gather and mask every window, with materialised keys."""
        query = scale_queries(self.query, self.heads, self.normalize_queries)
        bias, scale = self._window_weights(query)
        keys, values = (
            torch.unflatten(tokens, -1, (self.heads, -1)) for tokens in (self.key(x), self.value(x))
        )
        mixed = qna_reference(keys, values, query, bias, scale, *self._windows)
        out: Tensor = self.proj(mixed.flatten(-2))
        return out

    @property
    def _windows(self) -> tuple[int, int, int]:
        return self.kernel_size, self.stride, self.padding

    def _window_weights(
        self, query: Float[Tensor, "queries heads head_dim"]
    ) -> tuple[Float[Tensor, "offsets queries heads"], Float[Tensor, "#offsets queries heads"]]:
        """Return bias and scale per offset of the window."""
        columns = (self.num_queries, self.heads)
        if self.position == "relative":
            bias = torch.unflatten(self.position_bias, -1, columns)
        elif self.position == "absolute":
            embedding = torch.unflatten(self.position_embedding, -1, query.shape[1:])
            bias = torch.einsum("lhd,olhd->olh", query, embedding)
        elif self.position == "contextual":
            bias = torch.einsum("lw,ohw->olh", query.flatten(1), self.position_map)
            bias = bias + self.position_constant.unsqueeze(1)
        else:
            bias = query.new_zeros(self.kernel_size ** len(self.grid), *columns)
        return bias, torch.unflatten(self.scale, -1, columns)

    def out_grid(self, grid: Grid) -> Grid:
        """Return one token per window."""
        return window_count(grid, *self._windows)

    def uncounted_flops(self, grid: Grid) -> int:
        """Return the products and sums of the stable form, which calls no counted kernel."""
        if self.numerics == "fast":
            return 0
        offsets = math.prod(self.kernel_size for _ in grid)
        per_offset = self.num_queries * (self.out_dim + self.heads)
        return 2 * math.prod(self.out_grid(grid)) * offsets * per_offset

    def learnt_maps(self) -> dict[str, Float[Tensor, "map height width"]]:
        """Return scale * exp(bias) of every query's heads, the middle frame of video windows."""
        query = scale_queries(self.query, self.heads, self.normalize_queries)
        bias, scale = self._window_weights(query)
        weights = (bias.exp() * scale).detach().flatten(1).t()
        maps = torch.unflatten(weights, -1, [self.kernel_size] * len(self.grid))
        return {"window": maps if maps.ndim == 3 else maps[:, self.kernel_size // 2]}
