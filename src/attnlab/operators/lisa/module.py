"""The LiSA layer: owns the parameters and picks the form that computes them."""

import math
import operator
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnlab.operators.base import Grid, TokenMixer
from attnlab.operators.init import lecun_linear
from attnlab.operators.lisa import kernels, spectral, weights
from attnlab.operators.lisa.cost import Sizes, cheapest, kind
from attnlab.operators.lisa.forms import TABLE_FORMS, Features, mix_dense, mix_spectral
from attnlab.operators.lisa.options import check_options
from attnlab.operators.lisa.parameterisation import Entries, Parameterisation, Separable
from attnlab.operators.lisa.reference import low_passed, structure_aware_attention
from attnlab.operators.lisa.remembered import Remembered
from attnlab.operators.lisa.spectral import table_spectra


class LiSA(TokenMixer):
    """Lightweight structure-aware attention on a 2-D or 3-D grid.

    An independent operator built from the abstracts of Kwon et al., "Lightweight Structure-Aware
    Attention for Visual Understanding" (arXiv 2211.16289); the equations are this project's. With
    the attention kernel a_nm, the offset d = p(n) - p(m) and learnt tables E, P over offsets::

        s_nr     = f(sum_m a_nm E_r[d] + q_n . w_r)       how strongly pattern r is present at n
        kappa_nm = sum_r s_nr P_r[d] + beta a_nm          the transformed kernel
        y_n      = W_O concat_heads sum_m kappa_nm v_m

    and in the variant ``mask``, with g = x W_g, kappa_nm = a_nm (sum_r f(g_nr) P_r[d] + beta).

    On another grid than `grid` the tables are interpolated, and P of the variant ``pattern``, a
    weight in a sum over tokens, shrinks as their number grows (a_nm does so by itself).

    Args:
        dim: Channels in.
        heads: Attention heads h; must divide `out_dim`.
        grid: Token grid the tables are sized for, (H, W) or (T, H, W).
        stride: Step between output tokens; keys and values sit on every token.
        out_dim: Channels of the values and of the output; `dim` when None.
        num_rpes: Number R of relative position embeddings; 0 leaves the content term beta a_nm.
        approximation: ``none`` (dense) and ``fft`` compute one function, ``auto`` is the faster by
            `cost.cheapest`; ``circular`` wraps round the grid, ``truncated`` keeps the tables' low
            frequencies, ``split`` lets RPE r act on its own 1/R of each head's channels,
            ``low_rank`` learns separable tables.
        kernel: Attention kernel a, see `kernels.features`; ``softmax`` is quadratic.
        variant: Tables composed with scores (``pattern``) or multiplied into a (``mask``).
        key_dim: Channels of a query and a key, per head.
        key_groups: Number g of keys and of tables E, each shared by h / g heads.
        activation: f, over one token's R scores.
        content: Whether the content term beta a_nm is there.
        query_weights: Whether the basic kernel q_n . w_r is there.
        kept_frequencies: Fraction kept on each axis by ``truncated``, in (0, 1].
        rank: Separable terms of a table of ``low_rank``.

    Raises:
        ValueError: A size or option is out of range, options contradict each other, or they leave
            nothing to compute.
    """

    no_weight_decay: ClassVar[frozenset[str]] = frozenset(
        {"encoding", "composing", "query_weight", "temperature", "content_gain"}
    )

    def __init__(
        self,
        dim: int,
        heads: int,
        grid: Grid,
        stride: int = 1,
        *,
        out_dim: int | None = None,
        num_rpes: int = 4,
        approximation: Literal[
            "auto", "none", "fft", "circular", "truncated", "split", "low_rank"
        ] = "auto",
        kernel: Literal["double_softmax", "l2", "elu", "softmax"] = "double_softmax",
        variant: Literal["pattern", "mask"] = "pattern",
        key_dim: int = 16,
        key_groups: int = 1,
        activation: Literal["identity", "softmax", "tanh"] = "identity",
        content: bool = True,
        query_weights: bool = True,
        kept_frequencies: float = 0.5,
        rank: int = 4,
    ) -> None:
        super().__init__(dim, heads, grid, stride, out_dim=out_dim)
        check_options(
            heads=heads,
            value_dim=self.out_dim // heads,
            num_rpes=num_rpes,
            approximation=approximation,
            kernel=kernel,
            variant=variant,
            key_dim=key_dim,
            key_groups=key_groups,
            activation=activation,
            content=content,
            query_weights=query_weights,
            kept_frequencies=kept_frequencies,
            rank=rank,
        )
        self.num_rpes, self.approximation = num_rpes, approximation
        self.kernel, self.variant, self.activation = kernel, variant, activation
        self.key_dim, self.key_groups = key_dim, key_groups
        self.content, self.query_weights = content, query_weights
        self.kept = kept_frequencies if approximation == "truncated" else 1.0
        self.periodic = approximation == "circular"
        self.split = approximation == "split" and num_rpes > 0
        separable = approximation == "low_rank"
        self.stored: Parameterisation = Separable(rank) if separable else Entries(self.periodic)
        self._cpu = kind("cpu")
        self._remembered: Remembered[dict[str, Tensor]] = Remembered()
        self._create_parameters()

    def _create_parameters(self) -> None:
        heads, groups, rpes = self.heads, self.key_groups, self.num_rpes
        self.to_q = lecun_linear(self.dim, heads * self.key_dim)
        self.to_k = lecun_linear(self.dim, groups * self.key_dim)
        self.to_v = lecun_linear(self.dim, self.out_dim)
        self.to_out = lecun_linear(self.out_dim, self.out_dim)
        self.temperature = nn.Parameter(torch.ones(heads))
        if self.content:
            self.content_gain = nn.Parameter(torch.ones(heads))
        if not rpes:
            return
        self.composing = nn.Parameter(self.stored.draw(heads, rpes, self.grid))
        if self.variant == "mask":
            self.to_gate = lecun_linear(self.dim, heads * rpes)
            return
        self.encoding = nn.Parameter(self.stored.draw(groups, rpes, self.grid))
        if self.query_weights:
            weight = torch.empty(heads, self.key_dim, rpes)
            nn.init.trunc_normal_(weight, std=0.02, a=-0.04, b=0.04)
            self.query_weight = nn.Parameter(weight)

    def forward(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Mix the tokens by the form that `approximation` names."""
        grid = tuple(map(operator.index, x.shape[1:-1]))  # compiled once per grid
        q, k, v, prior = self._project(x)
        phi_q, phi_k = kernels.features(q, k, self.temperature, self.kernel)
        terms = []
        if self.num_rpes:
            terms.append(self._mix(Features(phi_q, phi_k, v, prior), grid))
        if self.content:
            gain = self.content_gain[:, None, None]
            terms.append(kernels.linear_attention(gain * phi_q, phi_k, v))
        return self._merge(sum(terms[1:], terms[0]), grid)

    def reference(self, x: Float[Tensor, "batch *grid dim"]) -> Float[Tensor, "batch *out out_dim"]:
        """Compute the layer by the defining sums of `reference.structure_aware_attention`."""
        grid = tuple(x.shape[1:-1])
        how = self._defining(grid) | {"grid": grid, "stride": self.stride}
        return self._merge(structure_aware_attention(*self._project(x), **how), grid)

    @torch.no_grad()
    def token_weights(
        self, x: Float[Tensor, "batch *grid dim"], queries: Int[Tensor, " queries"]
    ) -> Float[Tensor, "batch heads queries keys"]:
        """Return kappa by form (a); with ``split`` a head per RPE, those of one head in a row."""
        grid = tuple(x.shape[1:-1])
        at = self.stride * self._out_coordinates(grid, queries)
        q, k, _, prior = self._project(x)
        chosen = q[:, :, queries], k, prior[:, :, queries]
        return weights.token_weights(*chosen, at, **self._defining(grid), grid=grid)

    def _defining(self, grid: Grid) -> dict[str, Any]:
        """Return what form (a) takes beside the tokens: the tables as they act, and options."""
        none = self.temperature.new_zeros(self.heads, 0, *(2 * n - 1 for n in grid))
        return {
            "encoding": None,
            "composing": none,
            **self._full_tables(grid),
            "temperature": self.temperature,
            "content_gain": self.content_gain if self.content else None,
            "kernel": self.kernel,
            "activation": self.activation,
            "split": self.split,
        }

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return q [B, h, n, c], k [B, g, m, c], v [B, h, m, d] and the prior [B, h, n, R]."""
        grid = x.shape[1:-1]
        if len(grid) != len(self.grid):
            raise ValueError(
                f"grid={tuple(grid)} must have the {len(self.grid)} axes of grid={self.grid}"
            )
        queries = x[:, *[slice(None, None, self.stride)] * len(grid)]
        q = kernels.per_head(self.to_q(queries), self.heads)
        k = kernels.per_head(self.to_k(x), self.key_groups)
        v = kernels.per_head(self.to_v(x), self.heads)
        if self.num_rpes and self.variant == "mask":
            prior = kernels.per_head(self.to_gate(queries), self.heads)
        elif self.num_rpes and self.query_weights:
            prior = torch.einsum("bhnc,hcr->bhnr", q, self.query_weight)
        else:
            prior = q.new_zeros(*q.shape[:3], self.num_rpes)
        return q, k, v, prior

    def _tables(self, grid: Grid) -> dict[str, Tensor]:
        """Return what is stored for `grid`: composing, and encoding in the variant ``pattern``."""
        # The sum over m gains tokens as the grid grows; sum_m a_nm E does not.
        shrink = math.prod(self.grid) / math.prod(grid) if self.variant == "pattern" else 1.0
        return {
            name: self.stored.resize(table, self.grid, grid, shrink if name == "composing" else 1.0)
            for name, table in self._learnt_tables().items()
        }

    def _full_tables(self, grid: Grid) -> dict[str, Tensor]:
        """Return the tables at all offsets, as they act."""
        tables = {name: self.stored.full(t, grid) for name, t in self._tables(grid).items()}
        if self.kept < 1:
            return {name: low_passed(table, grid, self.kept) for name, table in tables.items()}
        return tables

    def _form(self, grid: Grid, dtype: torch.dtype, device_type: str) -> str:
        """Return `approximation`, ``auto`` resolved."""
        if self.approximation != "auto":
            return self.approximation
        if self.kernel == "softmax":
            return "none"
        widths = self.heads, self.key_groups, self.key_dim, self.out_dim
        sizes = Sizes(grid, self.stride, self.num_rpes, *widths, self.variant)
        return cheapest(sizes, dtype, self._cpu if device_type == "cpu" else device_type)

    def _mix(self, features: Features, grid: Grid) -> Tensor:
        """Return the structure term by the form that `approximation` names or leaves open."""
        form = self._form(grid, features.v.dtype, features.v.device.type)
        if form in TABLE_FORMS:
            tables = self._tables(grid)
            mix = TABLE_FORMS[form]
            return mix(features, tables, self.activation, grid=grid, stride=self.stride)
        if torch.onnx.is_in_onnx_export():  # which has neither our operators nor complex numbers
            given = features, self._full_tables(grid), self.activation
            return mix_dense(*given, grid=grid, stride=self.stride, split=self.split)
        lattice = spectral.lattice(grid, self.stride, periodic=self.periodic, kept=self.kept)
        spectra = self._remembered.get(
            lattice,
            [*self._learnt_tables().values()],
            lambda: {n: table_spectra(t, lattice) for n, t in self._tables(grid).items()},
            changing=self.training or torch.is_grad_enabled(),
        )
        return mix_spectral(features, spectra, self.activation, lattice=lattice, split=self.split)

    def _merge(self, y: Tensor, grid: Grid) -> Tensor:
        """Concatenate the heads, put the tokens back on their grid and apply W_O."""
        tokens = self.to_out(y.transpose(1, 2).flatten(2))
        return torch.unflatten(tokens, 1, self.out_grid(grid))

    @torch.no_grad()
    def inflate(self, frames: int, kernel_frames: int = 3) -> TokenMixer:
        """Copy the tables over time; P of ``pattern``, a weight in a sum, shrinks accordingly.

        ``truncated`` cuts frequencies in time too, which leaves no copies, and is refused.
        """
        if self.approximation == "truncated":
            raise ValueError("LiSA with approximation='truncated' cannot be inflated to clips")
        inflated = self._copy_on_clips(frames, kernel_frames)
        for name, table in self._learnt_tables().items():
            shared = name == "composing" and self.variant == "pattern"
            gain = 1 / frames if shared else 1.0
            copies = self.stored.copy_over_time(table, self.grid, frames, gain)
            setattr(inflated, name, nn.Parameter(copies))
        return inflated

    def _learnt_tables(self) -> dict[str, Tensor]:
        names = ("composing", "encoding")
        return {name: getattr(self, name) for name in names if name in self._parameters}

    def uncounted_flops(self, grid: Grid) -> int:
        """Return the FLOPs of the FFTs and products of spectra, per sample and forward pass."""
        weight = self.to_v.weight
        if not self.num_rpes or self._form(grid, weight.dtype, weight.device.type) in TABLE_FORMS:
            return 0
        keys, values = self.key_groups * self.key_dim, self.out_dim
        if self.variant == "mask":
            keys, values = 0, self.key_dim * self.out_dim
        outputs = self.num_rpes * keys + (1 if self.split else self.num_rpes) * values
        return spectral.flops(grid, keys + values, outputs, periodic=self.periodic)

    @torch.no_grad()
    def learnt_maps(self) -> dict[str, Float[Tensor, "map height width"]]:
        """Return P and E, offset zero in the middle; of video the slice at temporal offset zero."""
        return {n: self.stored.pictures(t, self.grid) for n, t in self._learnt_tables().items()}

    def extra_repr(self) -> str:
        """Show the options that change what is computed."""
        return (
            f"grid={self.grid}, stride={self.stride}, num_rpes={self.num_rpes}, "
            f"approximation={self.approximation}, kernel={self.kernel}, variant={self.variant}"
        )
