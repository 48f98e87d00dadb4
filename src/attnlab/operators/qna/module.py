"""The QnA layer: parameters and options."""

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attnlab.operators.base import Grid, TokenMixer
from attnlab.operators.init import lecun_linear
from attnlab.operators.qna.functional import attend, merge_heads, project, scale_queries
from attnlab.operators.qna.reference import qna_reference
from attnlab.operators.qna.weights import token_weights
from attnlab.operators.qna.window import Window


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
        grid: (H, W) or (T, H, W); only its rank matters.
        stride: Step between output tokens.
        out_dim: Channels of keys, values and output; `dim` when None.
        kernel_size: Tokens of the window per axis; one number for a square or a cube. An even
            window reaches one token further behind its centre than before it.
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
        padding: Empty tokens around the grid; half the window when None. Any other leaves
            ``(n + 2 * padding - dilation * (k - 1) - 1) // stride + 1`` tokens per axis.
        dilation: Tokens between the entries of a window, per axis or one number.
        dropout: Probability of dropping each attention weight in training. Exact, but slow: one
            pass over all tokens for each offset of the window.

    Attributes:
        stable: Whether a CPU sums all samples offset by offset, not only those whose scores
            demand it; False. See the README for what is exact.

    Raises:
        ValueError: An option is unknown or out of its range, `padding` is not less than the
            window's extent, ``posneg`` has an odd number to halve, or as `TokenMixer`.
    """

    stable: bool = False

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
        kernel_size: int | tuple[int, ...] = 3,
        num_queries: int = 2,
        attention_scale: Literal[
            "normal", "normal_elementwise", "posneg", "ones", "avg", "none"
        ] = "normal",
        position: Literal["relative", "absolute", "contextual", "none"] = "relative",
        normalize_queries: bool = True,
        padding: int | tuple[int, ...] | None = None,
        dilation: int | tuple[int, ...] = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, heads, grid, stride, out_dim=out_dim)
        if num_queries < 1:
            raise ValueError(f"{num_queries=} must be at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"{dropout=} must lie in [0, 1)")
        self.window = Window.build(len(self.grid), kernel_size, stride, padding, dilation)
        self.kernel_size = kernel_size
        self.num_queries = num_queries
        self.attention_scale = attention_scale
        self.normalize_queries = normalize_queries
        self.position = position
        self.dropout = dropout

        width, offsets = self.out_dim, self.window.offsets
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

    def forward(
        self,
        x: Float[Tensor, "batch *grid dim"],
        key_padding_mask: Bool[Tensor, "batch *grid"] | None = None,
    ) -> Float[Tensor, "batch *out out_dim"]:
        """Sum the windows in linear memory, the exponentials in float32 or better.

        Args:
            x: Tokens.
            key_padding_mask: True for tokens that no window shall see, as in
                `torch.nn.MultiheadAttention`. A window without any other token gives 0.
        """
        return self._attend(x, self._queries(), key_padding_mask)

    def _queries(self) -> Float[Tensor, "queries heads head_dim"]:
        return scale_queries(self.query, self.heads, self.normalize_queries)

    def _attend(
        self,
        x: Float[Tensor, "batch *grid dim"],
        query: Float[Tensor, "*samples queries heads head_dim"],
        ignored: Bool[Tensor, "batch *grid"] | None,
    ) -> Float[Tensor, "batch *out out_dim"]:
        scores, values = project(x, query, self.key.weight, self.value.weight, self.value.bias)
        if ignored is not None:
            scores = scores.masked_fill(ignored[..., None, None], -math.inf)
        with torch.autocast(x.device.type, enabled=False):
            bias, scale = self._window_weights(query)
            mixed = self._sum(scores, values, bias, scale)
        return merge_heads(mixed, self.proj.weight, self.proj.bias)

    def reference(
        self,
        x: Float[Tensor, "batch *grid dim"],
        key_padding_mask: Bool[Tensor, "batch *grid"] | None = None,
    ) -> Float[Tensor, "batch *out out_dim"]:
        """Gather and mask every window, with materialised keys; never drops."""
        return self._attend_by_definition(x, self._queries(), key_padding_mask)

    def _attend_by_definition(
        self,
        x: Float[Tensor, "batch *grid dim"],
        query: Float[Tensor, "*samples queries heads head_dim"],
        ignored: Bool[Tensor, "batch *grid"] | None,
    ) -> Float[Tensor, "batch *out out_dim"]:
        bias, scale = self._window_weights(query)
        keys, values = (
            torch.unflatten(tokens, -1, (self.heads, -1)) for tokens in (self.key(x), self.value(x))
        )
        query = query if query.ndim == 4 else query.unsqueeze(0)
        mixed = self._sum_by_definition(keys, values, query, bias, scale, ignored)
        out: Tensor = self.proj(mixed.flatten(-2))
        return out

    def _sum(
        self,
        scores: Float[Tensor, "batch *grid queries heads"],
        values: Float[Tensor, "batch *grid heads head_dim"],
        bias: Float[Tensor, "offsets queries heads"],
        scale: Float[Tensor, "#offsets queries heads"],
    ) -> Float[Tensor, "batch *out heads head_dim"]:
        dropout = self.dropout if self.training else 0.0
        return attend(scores, values, bias, scale, self.window, stable=self.stable, dropout=dropout)

    def _sum_by_definition(
        self,
        keys: Float[Tensor, "batch *grid heads head_dim"],
        values: Float[Tensor, "batch *grid heads head_dim"],
        query: Float[Tensor, "#batch queries heads head_dim"],
        bias: Float[Tensor, "offsets queries heads"],
        scale: Float[Tensor, "#offsets queries heads"],
        ignored: Bool[Tensor, "batch *grid"] | None,
    ) -> Float[Tensor, "batch *out heads head_dim"]:
        return qna_reference(keys, values, query, bias, scale, self.window, ignored)

    def _window_weights(
        self, query: Float[Tensor, "*samples queries heads head_dim"]
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
            bias = query.new_zeros(self.window.offsets, *columns)
        return bias, torch.unflatten(self.scale, -1, columns)

    def inflate(self, frames: int, kernel_frames: int = 3) -> TokenMixer:
        """Attend in windows of `kernel_frames` frames, all tables copied over their frames.

        Copies leave the attention of each frame what it was, divided by the number of frames that
        the window has inside the clip. The queries stay.
        """
        inflated = self._copy_on_clips(frames, kernel_frames)
        assert isinstance(inflated, QnA)
        inflated.window = self.window.on_clips(kernel_frames)
        inflated.kernel_size = inflated.window.size
        for name in self.no_weight_decay - {"query"}:
            table = self._parameters.get(name)
            if table is not None and len(table) == self.window.offsets:
                copies = table.detach().repeat(kernel_frames, *[1] * (table.ndim - 1))
                setattr(inflated, name, nn.Parameter(copies))
        return inflated

    @torch.no_grad()
    def token_weights(
        self, x: Float[Tensor, "batch *grid dim"], queries: Int[Tensor, " queries"]
    ) -> Float[Tensor, "batch heads queries keys"]:
        """Return the kernels of each head's learned queries, added up; nothing is dropped."""
        at = self._out_coordinates(tuple(x.shape[1:-1]), queries)
        query = self._queries()
        scores, _ = project(x, query, self.key.weight, self.value.weight)
        return token_weights(scores, *self._window_weights(query), self.window, at)

    def out_grid(self, grid: Grid) -> Grid:
        """Return one token per window."""
        return self.window.count(grid)

    def uncounted_flops(self, grid: Grid) -> int:
        """Return the products and sums over the windows, which are one operator of our own."""
        per_offset = self.num_queries * (self.out_dim + self.heads)
        return 2 * math.prod(self.window.count(grid)) * self.window.offsets * per_offset

    def learnt_maps(self) -> dict[str, Float[Tensor, "map height width"]]:
        """Return scale * exp(bias) of every query's heads, the middle frame of video windows."""
        bias, scale = self._window_weights(self._queries())
        weights = (bias.exp() * scale).detach().flatten(1).t()
        maps = torch.unflatten(weights, -1, self.window.size)
        return {"window": maps if maps.ndim == 3 else maps[:, self.window.size[0] // 2]}
