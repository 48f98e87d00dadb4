"""Factors against the tables they stand for, and against numpy's decomposition."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from attnlab.operators.lisa import tables as rpe
from attnlab.operators.lisa.factors import (
    copy_over_time,
    factorise,
    full_tables,
    gaussian_factors,
    pack,
    resize,
    separable_terms,
    unpack,
)
from tests.operators.lisa.random_tables import RANK, ROWS, RPES, Grid, random_factors, random_tables

GRIDS = [(7, 5), (1, 11), (3, 5, 2), (8, 6)]


def test_full_tables_are_sums_of_products() -> None:
    t, u, v = factors = random_factors((3, 5, 2))
    tables = full_tables(factors)
    assert tables.shape == (ROWS, RPES, 5, 9, 3)
    expected = sum(t[1, 2, i, 4] * u[1, 2, i, 7] * v[1, 2, i, 0] for i in range(RANK))
    assert tables[1, 2, 4, 7, 0].item() == pytest.approx(expected.item(), rel=1e-12)
    expected = sum(u[0, 1, i, 3] * v[0, 1, i, 2] for i in range(RANK))
    flat = full_tables([u, v])
    assert flat[0, 1, 3, 2].item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_packed_factors_are_one_tensor_and_split_again(grid: Grid) -> None:
    factors = random_factors(grid)
    packed = pack(factors)
    assert packed.shape == (ROWS, RPES, RANK, sum(2 * size - 1 for size in grid))
    assert all(map(torch.equal, unpack(packed, grid), factors))


def test_initial_factors_give_tables_like_the_full_ones() -> None:
    torch.manual_seed(1)
    grid = (9, 12)
    for rank in (1, 4):
        drawn = gaussian_factors(64, 3, rank, grid)
        tables = full_tables(unpack(drawn, grid))
        like = rpe.gaussian_tables(64, 3, grid, periodic=False)
        for r, width in enumerate((1, math.sqrt(6), 6)):  # log-spaced from 1 to 12 / 2
            for dy, dx in ((0, 0), (1, 0), (0, -1), (1, 2)):
                envelope = math.exp(-(dy**2 + dx**2) / (2 * width**2))
                entry = (slice(None), r, dy + 8, dx + 11)
                assert tables[entry].std().item() == pytest.approx(0.0176 * envelope, rel=0.4)
            ratio = tables[:, r].square().mean() / like[:, r].square().mean()
            assert ratio.sqrt().item() == pytest.approx(1, rel=0.15)
    video = gaussian_factors(64, 1, 4, (5, 3, 7))
    tables = full_tables(unpack(video, (5, 3, 7)))
    like = rpe.gaussian_tables(64, 1, (5, 3, 7), periodic=False)
    assert (tables.std() / like.std()).item() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize(("old", "new"), [((7, 5), (9, 4)), ((3, 5, 2), (4, 5, 7))])
def test_resize_of_factors_is_resize_of_their_tables(old: Grid, new: Grid) -> None:
    factors = random_factors(old)
    resized = full_tables(resize(factors, old, new))
    expected = rpe.resize(full_tables(factors), old, new, periodic=False)
    torch.testing.assert_close(resized, expected, rtol=1e-11, atol=1e-12)


def test_copies_over_time_are_equal_at_every_offset_in_time() -> None:
    factors = random_factors((7, 5))
    tables = full_tables(copy_over_time(factors, 3))
    assert tables.shape == (ROWS, RPES, 5, 13, 9)
    for at_time in tables.unbind(2):
        torch.testing.assert_close(at_time, full_tables(factors))


@pytest.mark.parametrize("grid", [(7, 5), (1, 11), (3, 5, 2)], ids=str)
def test_all_separable_terms_add_up_to_the_tables(grid: Grid) -> None:
    tables = random_tables(grid)
    terms = separable_terms(tables)
    torch.testing.assert_close(full_tables(terms), tables, rtol=1e-11, atol=1e-11)
    norms = torch.stack([term.norm(dim=-1) for term in terms]).prod(0)
    assert all((a >= b - 1e-12).all() for a, b in pairwise(norms.unbind(2)))
    # Orthogonal terms: the squares of their norms add up to that of the table.
    torch.testing.assert_close(norms.square().sum(2), tables.flatten(2).square().sum(2))


def test_first_terms_are_the_best_table_of_their_rank() -> None:
    tables = random_tables((7, 5))
    u, weights, v = np.linalg.svd(tables.numpy())
    for rank in (1, 3, 9):
        factors, _ = factorise(tables, rank)
        best = (u[..., :rank] * weights[..., None, :rank]) @ v[..., :rank, :]
        np.testing.assert_allclose(full_tables(factors), best, atol=1e-12)


@pytest.mark.parametrize(("grid", "rank"), [((7, 5), 3), ((5, 8), 1), ((3, 5, 2), 1)], ids=str)
def test_factorise_reproduces_a_table_of_that_rank(grid: Grid, rank: int) -> None:
    tables = full_tables(random_factors(grid, rank=rank))
    factors, error = factorise(tables, rank)
    assert [factor.shape[2] for factor in factors] == [rank] * len(grid)
    torch.testing.assert_close(full_tables(factors), tables, rtol=1e-10, atol=1e-10)
    assert (error < 1e-10).all()
    if rank > 1:
        assert (factorise(tables, rank - 1)[1] > 0.1).all()


def test_factorise_fills_up_with_zero_terms() -> None:
    tables = random_tables((1, 11))
    factors, error = factorise(tables, 4)
    assert [factor.shape for factor in factors] == [(ROWS, RPES, 4, 1), (ROWS, RPES, 4, 21)]
    torch.testing.assert_close(full_tables(factors), tables)
    assert (error < 1e-12).all()


def test_factorise_rejects_rank_zero() -> None:
    with pytest.raises(ValueError, match="rank=0 must be at least 1"):
        factorise(random_tables((2, 2)), 0)
