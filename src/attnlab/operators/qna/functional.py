"""QnA's steps as functions: queries, projections, and the sums over windows."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.qna.convolution import shift_to_fit
from attnlab.operators.qna.op import qna_attend
from attnlab.operators.qna.sums import Inputs, precision
from attnlab.operators.qna.window import Window


def scale_queries(
    query: Float[Tensor, "*batch queries width"], heads: int, normalize: bool
) -> Float[Tensor, "*batch queries heads head_dim"]:
    """Split into heads, divide by the Euclidean norm if asked, then by sqrt(head_dim)."""
    query = torch.unflatten(query, -1, (heads, -1))
    if normalize:
        query = query / (torch.linalg.vector_norm(query, dim=-1, keepdim=True) + 1e-6)
    return query / math.sqrt(query.shape[-1])


def project(
    x: Float[Tensor, "batch *grid dim"],
    query: Float[Tensor, "*samples queries heads head_dim"],
    key_weight: Float[Tensor, "width dim"],
    value_weight: Float[Tensor, "width dim"],
    value_bias: Float[Tensor, "width"] | None = None,
) -> tuple[Float[Tensor, "batch *grid queries heads"], Float[Tensor, "batch *grid heads head_dim"]]:
    """Return the scores and the values of all tokens, by one matrix product for shared queries.

    The queries are the same for all tokens, so they are folded into the key projection: the score
    ``q . (W_k x)`` is ``(W_k' q) . x`` and keys never exist. On a CPU values are stored heads
    innermost, as `attend` reads them fastest there.
    """
    queries, heads, head_dim = query.shape[-3:]
    keys = torch.unflatten(key_weight, 0, (heads, head_dim))
    folded = torch.einsum("...lhd,hdc->...lhc", query, keys).flatten(-3, -2)
    innermost = x.device.type == "cpu"
    if innermost:
        value_weight = _heads_innermost(value_weight.t(), heads).t()
        value_bias = None if value_bias is None else _heads_innermost(value_bias, heads)
    if query.ndim == 3:
        both = F.linear(x, torch.cat([folded, value_weight]))
        scores, values = torch.split(both, [queries * heads, heads * head_dim], dim=-1)
    else:
        scores, values = torch.einsum("b...c,bkc->b...k", x, folded), F.linear(x, value_weight)
    if value_bias is not None:
        values = values + value_bias
    scores = torch.unflatten(scores, -1, (queries, heads))
    if innermost:
        return scores, torch.unflatten(values, -1, (head_dim, heads)).mT
    return scores, torch.unflatten(values, -1, (heads, head_dim))


def merge_heads(
    mixed: Float[Tensor, "batch *out heads head_dim"],
    weight: Float[Tensor, "out_dim width"],
    bias: Float[Tensor, "out_dim"] | None = None,
) -> Float[Tensor, "batch *out out_dim"]:
    """Return the output projection, of the channels in the order in which they are stored."""
    if mixed.is_contiguous():
        return F.linear(mixed.flatten(-2), weight, bias)
    return F.linear(mixed.mT.flatten(-2), _heads_innermost(weight, mixed.shape[-2]), bias)


def _heads_innermost(
    channels: Float[Tensor, "*rest width"], heads: int
) -> Float[Tensor, "*rest width"]:
    return torch.unflatten(channels, -1, (heads, -1)).mT.flatten(-2)


def attend(
    scores: Float[Tensor, "batch *grid queries heads"],
    values: Float[Tensor, "batch *grid heads head_dim"],
    bias: Float[Tensor, "offsets queries heads"],
    scale: Float[Tensor, "#offsets queries heads"],
    window: Window,
    *,
    stable: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch *out heads head_dim"]:
    """Return ``sum_l sum_n scale[n - i] softmax_n(scores + bias[n - i]) values`` of each window i.

    Exponentials are taken in float32 or better, outside autocast. Scores of -inf count for
    nothing. An exported program has `attend_by_convolution`, which needs no operator of ours.

    Args:
        scores: Score of every token for every query and head.
        values: Values, shared by the queries.
        bias: Position bias per offset of the window.
        scale: Weight after the softmax, per offset or one for all.
        window: Geometry of the windows.
        stable: Whether all samples go offset by offset on a CPU, not only those that need it.
        dropout: Probability of dropping each attention weight.

    Raises:
        ValueError: The padded grid is smaller than one window.
    """
    window.count(tuple(scores.shape[1:-2]))
    if torch.compiler.is_exporting() and not dropout:
        return attend_by_convolution(scores, values, bias, scale, window)
    seed = torch.randint(2**62, ()) if dropout else None
    inputs = (scores, values, bias, scale)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    out: Tensor = qna_attend(*inputs, seed, window.flat, stable, dropout, keep)[0]
    return out


def attend_by_convolution(
    scores: Float[Tensor, "batch *grid queries heads"],
    values: Float[Tensor, "batch *grid heads head_dim"],
    bias: Float[Tensor, "offsets queries heads"],
    scale: Float[Tensor, "#offsets queries heads"],
    window: Window,
) -> Float[Tensor, "batch *out heads head_dim"]:
    """Sum the windows by two depth-wise convolutions, in plain PyTorch, differentiable throughout.

    Exact where `shift_to_fit` finds that scores fit; there is no other form to turn to.
    """
    (queries, heads), head_dim = scores.shape[-2:], values.shape[-1]
    kind = values.dtype
    scores, values, bias, scale = Inputs(scores, values, bias, scale).to(precision(values))
    convolve = F.conv2d if len(window.size) == 2 else F.conv3d

    def correlate(maps: Tensor, kernel: Tensor) -> Tensor:
        weight = kernel.t().reshape(-1, 1, *window.size)
        padded = F.pad(maps.movedim(-1, 1), window.pads(0))
        out = convolve(
            padded, weight, stride=window.stride, dilation=window.dilation, groups=len(weight)
        )
        return out.movedim(1, -1)

    with torch.no_grad():
        shift, _ = shift_to_fit(scores, bias)
        shift = shift.view(shift.shape[0], *[1] * len(window.size), queries, heads)
    exps, offset = (scores - shift).exp(), bias.exp()
    weighted = exps.unsqueeze(-1) * values.unsqueeze(-3)
    denominator = correlate(exps.flatten(-2), offset.flatten(1))
    above = (offset * scale).flatten(1).repeat_interleave(head_dim, 1)
    numerator = correlate(weighted.flatten(-3), above)
    denominator = torch.unflatten(denominator, -1, (queries, heads, 1))
    numerator = torch.unflatten(numerator, -1, (queries, heads, head_dim))
    empty = denominator == 0
    return (numerator / denominator.masked_fill(empty, 1.0)).sum(-3).to(kind)
