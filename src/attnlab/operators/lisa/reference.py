"""Structure-aware attention by its defining sums, O(N^2): what every faster form must equal."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.lisa.kernels import ACTIVATIONS

Queries = Float[Tensor, "batch heads queries key_dim"]
Keys = Float[Tensor, "batch heads keys key_dim"]
Map = Float[Tensor, "batch heads queries keys"]
PerHead = Float[Tensor, "heads 1 1"]


def _double_softmax(q: Queries, k: Keys, temperature: PerHead) -> Map:
    return (temperature * q).softmax(-1) @ k.softmax(-2).mT


def _l2(q: Queries, k: Keys, temperature: PerHead) -> Map:
    cosine: Tensor = q @ k.mT / (q.norm(dim=-1)[..., :, None] * k.norm(dim=-1)[..., None, :])
    return temperature * cosine / k.shape[-2]


def _elu(q: Queries, k: Keys, temperature: PerHead) -> Map:
    similarity = (F.elu(temperature * q) + 1) @ (F.elu(k) + 1).mT
    return similarity / similarity.sum(-1, keepdim=True)


def _softmax(q: Queries, k: Keys, temperature: PerHead) -> Map:
    return (temperature * (q @ k.mT) / math.sqrt(q.shape[-1])).softmax(-1)


ATTENTION_MAPS = {
    "double_softmax": _double_softmax,
    "l2": _l2,
    "elu": _elu,
    "softmax": _softmax,
}


def at_offsets(
    tables: Float[Tensor, "rows rpes *offsets"], grid: Grid, stride: int
) -> Float[Tensor, "rows rpes queries keys"]:
    """Return table[p(n) - p(m)] for every output token n, on input token ``stride * n``, and m."""
    keys = torch.cartesian_prod(*[torch.arange(size) for size in grid]).view(-1, len(grid))
    queries = keys[(keys % stride == 0).all(-1)]
    offset = queries[:, None] - keys[None]
    index = (offset + torch.tensor(grid) - 1).to(tables.device)
    return tables.movedim((0, 1), (-2, -1))[index.unbind(-1)].movedim((-2, -1), (0, 1))


def unwrap(
    tables: Float[Tensor, "rows rpes *size"], grid: Grid
) -> Float[Tensor, "rows rpes *offsets"]:
    """Read a periodic table, stored at (offset mod size), at all offsets of `grid`, centred."""
    for axis, size in enumerate(grid, 2):
        index = torch.arange(1 - size, size, device=tables.device) % tables.shape[axis]
        tables = tables.index_select(axis, index)
    return tables


def low_passed(
    tables: Float[Tensor, "rows rpes *offsets"], grid: Grid, kept: float
) -> Float[Tensor, "rows rpes *offsets"]:
    """Keep the lowest fraction `kept` of the frequencies of each axis of the 2H x 2W buffer."""
    for axis, size in enumerate(grid, 2):
        lines = tables.movedim(axis, -1)
        smooth = lines @ _low_pass(size, kept).to(lines)
        tables = smooth.movedim(-1, axis)
    return tables


def _low_pass(size: int, kept: float) -> Float[Tensor, "offsets offsets"]:
    """Return the projection of functions of offsets, zero at -H, on their lowest frequencies.

    It is the real part of transforming, dropping frequencies and transforming back, as a matrix.
    """
    frequencies = torch.arange(-size, size, dtype=torch.float64)
    keep = (frequencies.abs() <= math.ceil(kept * size)).double()
    offsets = torch.arange(2 * size - 1)
    kernel = (offsets[:, None] * frequencies * (math.pi / size)).cos() @ keep / (2 * size)
    return kernel[(offsets[:, None] - offsets).abs()]


def structure_aware_attention(
    q: Float[Tensor, "batch heads queries key_dim"],
    k: Float[Tensor, "batch groups keys key_dim"],
    v: Float[Tensor, "batch heads keys value_dim"],
    prior: Float[Tensor, "batch heads queries rpes"],
    encoding: Float[Tensor, "groups rpes *offsets"] | None,
    composing: Float[Tensor, "heads rpes *offsets"],
    temperature: Float[Tensor, " heads"],
    content_gain: Float[Tensor, " heads"] | None,
    *,
    grid: Grid,
    stride: int = 1,
    kernel: str = "double_softmax",
    activation: str = "identity",
    split: bool = False,
) -> Float[Tensor, "batch heads queries value_dim"]:
    """Compute form (a) of LiSA, term by term.

    With a_nm the attention kernel, d = p(n) - p(m) and f the activation over the R patterns::

        s_nr     = f(sum_m a_nm E_r[d] + prior_nr)
        kappa_nm = sum_r s_nr P_r[d] + beta a_nm               (variant pattern)
        kappa_nm = a_nm (sum_r f(prior_nr) P_r[d] + beta)      (variant mask: no `encoding`)
        y_n      = sum_m kappa_nm v_m

    The queries q sit at the output tokens, k and v at all; a group of keys serves h / g heads.
    The prior is q_n . w_r or the mask's x_n W_g; the tables E (`encoding`, None for the mask) and
    P (`composing`) run over the offsets -(H-1)..H-1 on each axis; tau is the temperature and beta
    the content gain, None for no content term. With `split`, P_r meets its own slice of v only.
    """
    shared = composing.shape[0] // k.shape[1]
    a = ATTENTION_MAPS[kernel](q, k.repeat_interleave(shared, dim=1), temperature[:, None, None])
    patterns = at_offsets(composing, grid, stride)
    if encoding is None:
        scores = ACTIVATIONS[activation](prior)
        kappa = torch.einsum("bhnm,bhnr,hrnm->bhrnm", a, scores, patterns)
    else:
        surroundings = at_offsets(encoding, grid, stride).repeat_interleave(shared, dim=0)
        encoded = torch.einsum("bhnm,hrnm->bhnr", a, surroundings)
        scores = ACTIVATIONS[activation](encoded + prior)
        kappa = torch.einsum("bhnr,hrnm->bhrnm", scores, patterns)
    if split:
        slices = torch.unflatten(v, -1, (composing.shape[1], -1))
        y = torch.einsum("bhrnm,bhmrd->bhnrd", kappa, slices).flatten(-2)
    else:
        y = kappa.sum(2) @ v
    return y if content_gain is None else y + content_gain[:, None, None] * a @ v
