"""Bounds against the true spectral norms of dense Toeplitz matrices."""

import math
from itertools import pairwise

import pytest
import torch

from attnlab.operators.lisa.bounds import operator_norm_bound, separable_bound, truncation_bound
from attnlab.operators.lisa.factors import factorise, full_tables, separable_terms
from attnlab.operators.lisa.reference import low_passed
from tests.operators.lisa.random_tables import Grid, random_tables, spectral_norm


@pytest.mark.parametrize("grid", [(7, 5), (3, 5, 2)], ids=str)
def test_low_rank_errs_by_no_more_than_its_bounds(grid: Grid) -> None:
    """Both bounds hold for the true spectral norm, fall as the rank grows and end at zero."""
    tables = random_tables(grid)
    terms = separable_terms(tables)
    full = terms[0].shape[2]
    bounds, tails = [], []
    for rank in range(1, full + 1):
        factors, bound = factorise(tables, rank)
        tail = separable_bound([term[:, :, rank:] for term in terms])
        error = spectral_norm(tables - full_tables(factors), grid)
        assert (error <= bound * (1 + 1e-12) + 1e-12).all()
        assert (bound <= tail * (1 + 1e-12) + 1e-12).all()
        if rank < full:
            assert (error > 0.2 * bound).all()
        bounds.append(bound)
        tails.append(tail)
    for falling in (torch.stack(tails), torch.stack(bounds)[:: max(1, (full - 1) // 4)]):
        assert (falling[:-1] > falling[1:]).all()
    assert bounds[-1].max() < 1e-12
    assert tails[-1].max() == 0


@pytest.mark.parametrize("grid", [(5, 7), (3, 5, 2)], ids=str)
def test_truncated_errs_by_no_more_than_its_bound(grid: Grid) -> None:
    tables = random_tables(grid)
    falling = []
    for kept in (0.1, 0.5, 0.8, 1.0):
        bound = truncation_bound(tables, grid, kept)
        error = spectral_norm(tables - low_passed(tables, grid, kept), grid)
        assert (error <= bound * (1 + 1e-12) + 1e-12).all()
        if kept <= 0.5:
            assert (error > 0.25 * bound).all()
        falling.append(bound)
    assert all((a >= b).all() for a, b in pairwise(falling))
    assert (falling[0] > falling[2]).any()
    assert falling[-1].max() == 0


def test_bounds_are_attained_by_what_they_are_exact_for() -> None:
    """A table of one entry shifts; of a constant one |P^(0)| is the sum."""
    delta = torch.zeros(1, 1, 9, 5)
    delta[0, 0, 6, 1] = -1
    assert operator_norm_bound(delta, (5, 3)).item() == pytest.approx(1, rel=1e-6)
    assert operator_norm_bound(torch.ones(1, 1, 9, 5), (5, 3)).item() == pytest.approx(45, rel=1e-6)
    factors = [torch.ones(1, 1, 1, 9), torch.full((1, 1, 1, 5), -2.0)]
    assert separable_bound(factors).item() == pytest.approx(90, rel=1e-6)
    cosine = torch.cos(math.pi / 5 * 4 * torch.arange(-4, 5)).view(1, 1, 9, 1)
    assert truncation_bound(cosine, (5, 1), 0.9).item() == 0
