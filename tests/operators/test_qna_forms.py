"""The forms of QnA's window sums: each is the reference, on any grid and for extreme scores."""

import torch
from torch import Tensor

from attnlab.operators.qna.functional import (
    attend_by_convolution,
    attend_by_matrix,
    attend_stably,
)
from attnlab.operators.qna.reference import qna_reference

FORMS = [attend_by_convolution, attend_by_matrix, attend_stably]


def window_problem(grid, size, queries=2, heads=3, head_dim=2) -> list[Tensor]:
    """Return scores, values, bias and scale, in float64, all with gradient."""
    generator = torch.Generator().manual_seed(31)
    offsets = size ** len(grid)
    shapes = [
        (2, *grid, queries, heads),
        (2, *grid, heads, head_dim),
        (offsets, queries, heads),
        (offsets, queries, heads),
    ]
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]


def by_reference(scores, values, bias, scale, *sizes) -> Tensor:
    """Give the reference the keys that have these scores with unit queries."""
    queries, heads = scores.shape[-2:]
    keys = scores.transpose(-1, -2)  # query l is unit vector l: head_dim equals queries
    query = torch.eye(queries, dtype=scores.dtype).unsqueeze(1).expand(-1, heads, -1)
    return qna_reference(keys, values, query, bias, scale, *sizes)


def extreme_scores(form, amplitude: float) -> tuple[Tensor, Tensor]:
    """Return a form's float32 result, and the float64 truth, for two regions of +-amplitude."""
    shape = (2, 11, 7, 1, 1)
    scores = torch.full(shape, amplitude)
    scores[:, 6:] = -amplitude
    values = torch.randn(shape, generator=torch.Generator().manual_seed(6))
    bias, scale = torch.zeros(9, 1, 1), torch.ones(9, 1, 1)
    truth = by_reference(*(t.double() for t in (scores, values, bias, scale)), 3, 1, 1)
    return form(scores, values, bias, scale, 3, 1, 1), truth.float()
