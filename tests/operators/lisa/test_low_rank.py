"""The operator with separable tables against the dense form of the tables they stand for."""

import math

import pytest
import torch
from torch import Tensor

from attnlab.operators.lisa import LiSA, dense, low_rank
from attnlab.operators.lisa.factors import full_tables, unpack
from attnlab.operators.lisa.tables import toeplitz
from tests.operators.contract import assert_close, gradients
from tests.operators.lisa.random_tables import ROWS, RPES, Grid, random, random_factors

BATCH = 2
GRIDS = [(7, 5), (1, 11), (3, 5, 2), (8, 6)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_convolve_multiplies_by_the_toeplitz_matrices(
    grid: Grid, stride: int, dtype: torch.dtype
) -> None:
    factors = [factor.to(dtype).requires_grad_() for factor in random_factors(grid)]
    x = random(ROWS, math.prod(grid), 5).to(dtype).requires_grad_()
    matrices = toeplitz(full_tables(factors), grid, stride)
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

    at = {"grid": grid, "stride": stride}
    for actual, expected in (
        (
            low_rank.pattern(*inputs, encoding, composing, activation, **at),
            dense.pattern(*inputs, full_tables(encoding), full_tables(composing), activation, **at),
        ),
        (
            low_rank.mask(*inputs, composing, activation, **at),
            dense.mask(*inputs, full_tables(composing), activation, **at),
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


@pytest.mark.parametrize("variant", ["pattern", "mask"])
def test_products_are_computed_again_rather_than_kept_beyond_the_budget(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers; what a backward keeps no longer grows with the number of tables."""
    grid = (7, 5)
    phi, prior = random(BATCH, 2, 35, 3).softmax(-1), random(BATCH, 2, 35, RPES)
    v = random(BATCH, 2, 35, 16).requires_grad_()
    factors = [factor.requires_grad_() for factor in random_factors(grid)]
    inputs = (phi, phi, v, prior, *([factors] if variant == "pattern" else []), factors)

    def run() -> tuple[list[Tensor], int]:
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = getattr(low_rank, variant)(*inputs, grid=grid)
        return [y, *torch.autograd.grad(y.sin().sum(), [v, *factors])], sum(kept.values())

    expected, kept = run()
    monkeypatch.setattr(low_rank, "KEPT_BYTES", 0)
    actual, kept_by_recomputing = run()
    assert all(map(torch.equal, actual, expected))
    assert kept_by_recomputing < kept / 3


@pytest.mark.parametrize("variant", ["pattern", "mask"])
@pytest.mark.parametrize("grid", [(7, 5), (3, 5, 2)])
def test_a_layer_is_fft_with_the_tables_multiplied_out(grid: tuple[int, ...], variant: str) -> None:
    """On the layer's grid and on another one, to which factors and tables are interpolated."""
    torch.manual_seed(1)
    options = {"variant": variant, "key_dim": 3}
    separable = LiSA(12, 3, grid, approximation="low_rank", rank=2, **options).double()
    whole = LiSA(12, 3, grid, **options).double()
    state = separable.state_dict()
    for name in {"composing", "encoding"} & state.keys():
        state[name] = full_tables(unpack(state[name], grid))
    whole.load_state_dict(state)
    for sizes in (grid, tuple(size + 2 for size in grid)):
        x = torch.randn(2, *sizes, 12, dtype=torch.float64)
        assert_close(separable(x), whole(x), 1e-10, f"on {sizes}")


@pytest.mark.parametrize("grid", [(13, 11), (3, 7, 5)])
def test_a_layer_equals_its_reference_in_float32(grid: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    mixer = LiSA(20, 5, grid, approximation="low_rank", rank=3)
    x = torch.randn(2, *grid, 20)
    expected, expected_grads = gradients(mixer.reference, mixer, x)
    actual, grads = gradients(mixer, mixer, x)
    assert actual.dtype == torch.float32
    assert_close(actual, expected, 5e-6, "output")
    for name, grad in grads.items():
        assert_close(grad, expected_grads[name], 5e-6, f"d{name}")
