"""Window problems with a truth: scores, values, bias and scale, and what they sum to."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from attnlab.operators.qna.reference import qna_reference
from attnlab.operators.qna.window import Window

GEOMETRIES = [
    ((7, 5), Window.build(2, 1, padding=0)),
    ((7, 5), Window.build(2, 3)),
    ((5, 11), Window.build(2, 7, 2)),
    ((3, 5), Window.build(2, 13)),  # larger than the grid
    ((5, 3), Window.build(2, (3, 12), dilation=(1, 2))),  # columns that are widened
    ((5, 17), Window.build(2, (2, 10), padding=(0, 1))),
    ((7, 5), Window.build(2, 4, 3, 2)),
    ((11, 7), Window.build(2, 5, 2, 0)),
    ((5, 7), Window.build(2, 3, padding=2)),  # outer windows hold one token only
    ((7, 11), Window.build(2, (2, 5))),  # even on one axis: uneven padding
    ((11, 7), Window.build(2, (6, 3), 2, dilation=(1, 2))),
    ((2, 13), Window.build(2, (2, 3), dilation=3)),  # windows without any token
    ((3, 7, 5), Window.build(3, 3, 2)),
    ((4, 7, 5), Window.build(3, (2, 3, 5), dilation=(1, 2, 1))),
]


def window_problem(
    grid, window: Window, queries=2, heads=3, head_dim=2, batch=2, masked=False
) -> list[Tensor]:
    """Return scores, values, bias and scale, in float64, all with gradient."""
    generator = torch.Generator().manual_seed(31)
    shapes = [
        (batch, *grid, queries, heads),
        (batch, *grid, heads, head_dim),
        (window.offsets, queries, heads),
        (window.offsets, queries, heads),
    ]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    if masked:
        ignored = torch.rand(batch, *grid, 1, 1, generator=generator) < 0.6
        tensors[0] = tensors[0].masked_fill(ignored, -math.inf)
    return [tensor.requires_grad_() for tensor in tensors]


def by_reference(scores, values, bias, scale, window: Window) -> Tensor:
    """Give the reference the keys that have these scores with unit queries."""
    (queries, heads), head_dim = scores.shape[-2:], values.shape[-1]
    width = max(queries, head_dim)
    ignored = scores.isneginf().flatten(-2).all(-1)
    keys = F.pad(scores.masked_fill(ignored[..., None, None], 0.0).mT, (0, width - queries))
    values = F.pad(values, (0, width - head_dim))
    query = torch.eye(queries, width, dtype=scores.dtype).unsqueeze(1).expand(-1, heads, -1)
    out = qna_reference(keys, values, query.unsqueeze(0), bias, scale, window, ignored)
    return out[..., :head_dim]


def errors(form, problem: list[Tensor], window: Window, kind=torch.float64) -> dict[str, float]:
    """Return the largest error of a form's output and gradients over the truth's largest value.

    The form computes in `kind`, the truth in float64 from the same inputs.
    """
    inputs = [tensor.detach().to(kind) for tensor in problem]
    ours = [tensor.clone().requires_grad_() for tensor in inputs]
    theirs = [tensor.double().requires_grad_() for tensor in inputs]
    out, truth = form(*ours, window), by_reference(*theirs, window)
    cotangent = torch.randn(truth.shape, generator=torch.Generator().manual_seed(37)).to(kind)
    grads = torch.autograd.grad(out, ours, cotangent)
    expected = torch.autograd.grad(truth, theirs, cotangent.double())
    found = {}
    for name, actual, wanted in zip(
        ("out", "scores", "values", "bias", "scale"),
        (out, *grads),
        (truth, *expected),
        strict=True,
    ):
        # With windows of one token the softmax is constant: scores and bias get no gradient.
        largest = max(wanted.abs().max().item(), 1.0 if window.offsets == 1 else 0.0)
        found[name] = (actual.double() - wanted).abs().max().item() / largest
    return found
