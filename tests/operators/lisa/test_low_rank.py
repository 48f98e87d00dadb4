"""Separable tables against the dense Toeplitz matrices of the tables they stand for."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from attnlab.operators.lisa import dense, low_rank
from attnlab.operators.lisa.bounds import operator_norm_bound, separable_bound, truncation_bound
from attnlab.operators.lisa.reference import low_passed
from attnlab.operators.lisa.tables import gaussian_tables, resize, toeplitz

ROWS, RPES, RANK, BATCH = 2, 3, 4, 2
GRIDS = [(7, 5), (1, 11), (3, 5, 2), (8, 6)]
Grid = tuple[int, ...]


def random_factors(grid: Grid, rows: int = ROWS, rank: int = RANK) -> list[Tensor]:
    generator = torch.Generator().manual_seed(11)
    return [
        torch.randn(rows, RPES, rank, 2 * size - 1, generator=generator, dtype=torch.float64)
        for size in grid
    ]


def random_tables(grid: Grid) -> Tensor:
    generator = torch.Generator().manual_seed(13)
    sizes = (2 * size - 1 for size in grid)
    return torch.randn(ROWS, RPES, *sizes, generator=generator, dtype=torch.float64)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def spectral_norm(tables: Tensor, grid: Grid) -> Tensor:
    """Return ||T(P)||_2 of every table, of the dense matrix."""
    return torch.linalg.matrix_norm(toeplitz(tables, grid), 2)


def test_full_tables_are_sums_of_products() -> None:
    t, u, v = factors = random_factors((3, 5, 2))
    tables = low_rank.full_tables(factors)
    assert tables.shape == (ROWS, RPES, 5, 9, 3)
    expected = sum(t[1, 2, i, 4] * u[1, 2, i, 7] * v[1, 2, i, 0] for i in range(RANK))
    assert tables[1, 2, 4, 7, 0].item() == pytest.approx(expected.item(), rel=1e-12)
    expected = sum(u[0, 1, i, 3] * v[0, 1, i, 2] for i in range(RANK))
    flat = low_rank.full_tables([u, v])
    assert flat[0, 1, 3, 2].item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_packed_factors_are_one_tensor_and_split_again(grid: Grid) -> None:
    factors = random_factors(grid)
    packed = low_rank.pack(factors)
    assert packed.shape == (ROWS, RPES, RANK, sum(2 * size - 1 for size in grid))
    assert all(map(torch.equal, low_rank.unpack(packed, grid), factors))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_convolve_multiplies_by_the_toeplitz_matrices(
    grid: Grid, stride: int, dtype: torch.dtype
) -> None:
    factors = [factor.to(dtype).requires_grad_() for factor in random_factors(grid)]
    x = random(ROWS, math.prod(grid), 5).to(dtype).requires_grad_()
    matrices = toeplitz(low_rank.full_tables(factors), grid, stride)
    expected = torch.einsum("grnm,gmc->rgnc", matrices, x)
    actual = torch.stack(list(low_rank.convolve(x, factors, grid, stride)))
    tolerance = 1e-12 if dtype == torch.float64 else 5e-6
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()
    cotangent = random(*expected.shape).to(dtype)
    wanted, got = (torch.autograd.grad(y, [x, *factors], cotangent) for y in (expected, actual))
    for actual, expected in zip(got, wanted, strict=True):
        assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("activation", ["identity", "softmax"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("grid", GRIDS[:3], ids=str)
def test_pattern_and_mask_equal_the_dense_form(grid: Grid, stride: int, activation: str) -> None:
    heads, groups, keys = 4, 2, math.prod(grid)
    queries = math.prod(-(-size // stride) for size in grid)
    inputs = [
        random(BATCH, heads, queries, 3),
        random(BATCH, groups, keys, 3),
        random(BATCH, heads, keys, 5),
        random(BATCH, heads, queries, RPES),
    ]
    encoding, composing = random_factors(grid, groups), random_factors(grid, heads)
    leaves = [x.requires_grad_() for x in (*inputs, *encoding, *composing)]

    def spread(factors: list[Tensor]) -> Tensor:
        return toeplitz(low_rank.full_tables(factors), grid, stride)

    at = {"grid": grid, "stride": stride}
    for actual, expected in (
        (
            low_rank.pattern(*inputs, encoding, composing, activation, **at),
            dense.pattern(*inputs, spread(encoding), spread(composing), activation),
        ),
        (
            low_rank.mask(*inputs, composing, activation, **at),
            dense.mask(*inputs, spread(composing), activation),
        ),
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
        cotangent = random(*expected.shape)
        got, wanted = (
            torch.autograd.grad(y, leaves, cotangent, materialize_grads=True, allow_unused=True)
            for y in (actual, expected)
        )
        for actual_grad, expected_grad in zip(got, wanted, strict=True):
            torch.testing.assert_close(actual_grad, expected_grad, rtol=1e-9, atol=1e-9)


def test_initial_factors_give_tables_like_the_full_ones() -> None:
    torch.manual_seed(1)
    grid = (9, 12)
    for rank in (1, 4):
        drawn = low_rank.gaussian_factors(64, 3, rank, grid)
        tables = low_rank.full_tables(low_rank.unpack(drawn, grid))
        like = gaussian_tables(64, 3, grid, periodic=False)
        for r, width in enumerate((1, math.sqrt(6), 6)):  # log-spaced from 1 to 12 / 2
            for dy, dx in ((0, 0), (1, 0), (0, -1), (1, 2)):
                envelope = math.exp(-(dy**2 + dx**2) / (2 * width**2))
                entry = (slice(None), r, dy + 8, dx + 11)
                assert tables[entry].std().item() == pytest.approx(0.0176 * envelope, rel=0.4)
            ratio = tables[:, r].square().mean() / like[:, r].square().mean()
            assert ratio.sqrt().item() == pytest.approx(1, rel=0.15)
    video = low_rank.gaussian_factors(64, 1, 4, (5, 3, 7))
    tables = low_rank.full_tables(low_rank.unpack(video, (5, 3, 7)))
    like = gaussian_tables(64, 1, (5, 3, 7), periodic=False)
    assert (tables.std() / like.std()).item() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize(("old", "new"), [((7, 5), (9, 4)), ((3, 5, 2), (4, 5, 7))])
def test_resize_of_factors_is_resize_of_their_tables(old: Grid, new: Grid) -> None:
    factors = random_factors(old)
    resized = low_rank.full_tables(low_rank.resize(factors, old, new))
    expected = resize(low_rank.full_tables(factors), old, new, periodic=False)
    torch.testing.assert_close(resized, expected, rtol=1e-11, atol=1e-12)


def test_copies_over_time_are_equal_at_every_offset_in_time() -> None:
    factors = random_factors((7, 5))
    tables = low_rank.full_tables(low_rank.copy_over_time(factors, 3))
    assert tables.shape == (ROWS, RPES, 5, 13, 9)
    for at_time in tables.unbind(2):
        torch.testing.assert_close(at_time, low_rank.full_tables(factors))


@pytest.mark.parametrize("grid", [(7, 5), (1, 11), (3, 5, 2)], ids=str)
def test_all_separable_terms_add_up_to_the_tables(grid: Grid) -> None:
    tables = random_tables(grid)
    terms = low_rank.separable_terms(tables)
    torch.testing.assert_close(low_rank.full_tables(terms), tables, rtol=1e-11, atol=1e-11)
    norms = torch.stack([term.norm(dim=-1) for term in terms]).prod(0)
    assert all((a >= b - 1e-12).all() for a, b in pairwise(norms.unbind(2)))
    # Orthogonal terms: the squares of their norms add up to that of the table.
    torch.testing.assert_close(norms.square().sum(2), tables.flatten(2).square().sum(2))


def test_first_terms_are_the_best_table_of_their_rank() -> None:
    tables = random_tables((7, 5))
    u, weights, v = np.linalg.svd(tables.numpy())
    for rank in (1, 3, 9):
        factors, _ = low_rank.factorise(tables, rank)
        best = (u[..., :rank] * weights[..., None, :rank]) @ v[..., :rank, :]
        np.testing.assert_allclose(low_rank.full_tables(factors), best, atol=1e-12)


@pytest.mark.parametrize(("grid", "rank"), [((7, 5), 3), ((5, 8), 1), ((3, 5, 2), 1)], ids=str)
def test_factorise_reproduces_a_table_of_that_rank(grid: Grid, rank: int) -> None:
    tables = low_rank.full_tables(random_factors(grid, rank=rank))
    factors, error = low_rank.factorise(tables, rank)
    assert [factor.shape[2] for factor in factors] == [rank] * len(grid)
    torch.testing.assert_close(low_rank.full_tables(factors), tables, rtol=1e-10, atol=1e-10)
    assert (error < 1e-10).all()
    if rank > 1:
        assert (low_rank.factorise(tables, rank - 1)[1] > 0.1).all()


def test_factorise_fills_up_with_zero_terms() -> None:
    tables = random_tables((1, 11))
    factors, error = low_rank.factorise(tables, 4)
    assert [factor.shape for factor in factors] == [(ROWS, RPES, 4, 1), (ROWS, RPES, 4, 21)]
    torch.testing.assert_close(low_rank.full_tables(factors), tables)
    assert (error < 1e-12).all()


def test_factorise_rejects_rank_zero() -> None:
    with pytest.raises(ValueError, match="rank=0 must be at least 1"):
        low_rank.factorise(random_tables((2, 2)), 0)


@pytest.mark.parametrize("grid", [(7, 5), (3, 5, 2)], ids=str)
def test_low_rank_errs_by_no_more_than_its_bounds(grid: Grid) -> None:
    """Both bounds hold for the true spectral norm, fall as the rank grows and end at zero."""
    tables = random_tables(grid)
    terms = low_rank.separable_terms(tables)
    full = terms[0].shape[2]
    bounds, tails = [], []
    for rank in range(1, full + 1):
        factors, bound = low_rank.factorise(tables, rank)
        tail = separable_bound([term[:, :, rank:] for term in terms])
        error = spectral_norm(tables - low_rank.full_tables(factors), grid)
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
