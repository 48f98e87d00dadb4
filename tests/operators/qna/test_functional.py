"""The forms of QnA's window sums: each is the reference, on any grid and for extreme scores."""

import math

import pytest
import torch
from torch import Tensor

from attnlab.operators.qna.functional import (
    attend,
    attend_by_convolution,
    attend_by_matrix,
    attend_stably,
    scale_queries,
)
from attnlab.operators.qna.reference import qna_reference
from tests.operators.contract import assert_close

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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("grid", "size", "stride", "padding"),
    [
        ((7, 5), 1, 1, 0),
        ((7, 5), 3, 1, 1),
        ((5, 11), 7, 2, 3),
        ((3, 5), 13, 1, 6),  # larger than the grid
        ((7, 5), 4, 3, 2),  # even
        ((11, 7), 5, 2, 0),
        ((5, 7), 3, 1, 2),  # outer windows hold one token only
        ((3, 7, 5), 3, 2, 1),
    ],
)
def test_every_form_is_the_reference(form, grid, size, stride, padding) -> None:
    problem = window_problem(grid, size)
    expected = by_reference(*problem, size, stride, padding)
    actual = form(*problem, size, stride, padding)
    assert_close(actual, expected, 1e-12, "output")
    cotangent = torch.randn_like(expected)
    grads = torch.autograd.grad(actual, problem, cotangent)
    expected_grads = torch.autograd.grad(expected, problem, cotangent)
    for name, grad, wanted in zip("svbc", grads, expected_grads, strict=True):
        # With a window of one token the softmax is constant: scores and bias get no gradient.
        scale = max(wanted.abs().max().item(), 1.0)
        assert (grad - wanted).abs().max().item() <= 1e-12 * scale, name


def test_small_grids_are_summed_by_matrix_and_others_by_convolution() -> None:
    small, large = window_problem((8, 7), 7), window_problem((13, 11), 7)
    assert torch.equal(attend(*small, 7, 1, 3), attend_by_matrix(*small, 7, 1, 3))
    assert torch.equal(attend(*large, 7, 1, 3), attend_by_convolution(*large, 7, 1, 3))


def test_queries_are_divided_by_norm_and_root_of_the_head_width() -> None:
    query = torch.tensor([[3.0, 4.0, 0.0, 2.0]])
    unit = scale_queries(query, heads=2, normalize=True)
    expected = torch.tensor([[[0.6, 0.8], [0.0, 1.0]]]) / math.sqrt(2)
    assert torch.allclose(unit, expected, atol=1e-6)
    free = scale_queries(query, heads=2, normalize=False)
    assert torch.allclose(free, query.view(1, 2, 2) / math.sqrt(2))


def extreme_scores(form, amplitude: float) -> tuple[Tensor, Tensor]:
    """Return a form's float32 result, and the float64 truth, for two regions of +-amplitude."""
    shape = (2, 11, 7, 1, 1)
    scores = torch.full(shape, amplitude)
    scores[:, 6:] = -amplitude
    values = torch.randn(shape, generator=torch.Generator().manual_seed(6))
    bias, scale = torch.zeros(9, 1, 1), torch.ones(9, 1, 1)
    truth = by_reference(*(t.double() for t in (scores, values, bias, scale)), 3, 1, 1)
    return form(scores, values, bias, scale, 3, 1, 1), truth.float()


@pytest.mark.parametrize("form", FORMS[:2])
def test_fast_forms_hold_two_regions_of_sixty(form) -> None:
    out, truth = extreme_scores(form, 60.0)
    assert_close(out, truth, 1e-6, "regions of 60")


@pytest.mark.parametrize("amplitude", [60.0, 300.0, 1e4])
def test_stable_form_holds_any_scores(amplitude) -> None:
    out, truth = extreme_scores(attend_stably, amplitude)
    assert_close(out, truth, 1e-6, f"regions of {amplitude}")
