"""Measures of kernels, pair by pair and against closed forms."""

import itertools
import math

import pytest
import torch
from torch.nn.functional import cosine_similarity as cosine

from attnlab.analysis import kernels
from attnlab.operators.baselines import DepthwiseConv, SelfAttention


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_heads_are_compared_pair_by_pair():
    kappa = noise(3, 5, 7)
    kappa[1] += kappa[0]
    pairs = [cosine(kappa[i], kappa[j]).mean() for i, j in itertools.combinations(range(3), 2)]
    assert kernels.similarity_of_heads(kappa) == pytest.approx(torch.stack(pairs).mean().item())
    assert math.isnan(kernels.similarity_of_heads(kappa[:1]))
    assert kernels.similarity_of_heads(torch.stack([kappa[0], -3 * kappa[0]])) == pytest.approx(-1)


def test_zero_rows_take_no_part():
    kappa = noise(3, 5, 7)
    alone = kernels.similarity_of_heads(kappa[:2])
    kappa[2] = 0
    assert kernels.similarity_of_heads(kappa) == pytest.approx(alone)
    kappa[:, 4] = 0
    known = kernels.similarity_of_heads(kappa[:2, :4])
    assert kernels.similarity_of_heads(kappa) == pytest.approx(known)
    torch.testing.assert_close(
        kernels.similarity_of_queries(kappa[:2]), kernels.similarity_of_queries(kappa[:2, :4])
    )
    torch.testing.assert_close(kernels.entropy(kappa[:2]), kernels.entropy(kappa[:2, :4]))
    assert kernels.similarity_of_queries(kappa)[2].isnan()
    assert kernels.entropy(kappa)[2].isnan()
    assert kernels.effective_rank(kappa)[2].isnan()


def test_layers_are_compared_over_all_pairs_of_heads():
    first, second = noise(2, 5, 7), noise(3, 5, 7, seed=1)
    second[2] += first[1]
    pairs = [cosine(a, b).mean() for a in first for b in second]
    found = kernels.similarity_of_layers(kernels.pooled_rows(first), kernels.pooled_rows(second))
    assert found == pytest.approx(torch.stack(pairs).mean().item())
    swapped = kernels.pooled_rows(second[[2, 0, 1]])
    assert kernels.similarity_of_layers(kernels.pooled_rows(first), swapped) == pytest.approx(found)


def test_queries_are_compared_pair_by_pair():
    kappa = noise(2, 5, 7) + 0.5
    for head, found in zip(kappa, kernels.similarity_of_queries(kappa), strict=True):
        pairs = [cosine(a, b, dim=0) for a, b in itertools.combinations(head, 2)]
        assert found.item() == pytest.approx(torch.stack(pairs).mean().item(), abs=1e-6)
    same = noise(2, 1, 7).expand(-1, 5, -1)
    torch.testing.assert_close(kernels.similarity_of_queries(same), torch.ones(2))


def relative_by_definition(kappa, queries, grid, stride, out_grid):
    """Cosines over shared offsets, a pair of queries counting by how many those are."""

    def offsets(query):
        at = [stride * c for c in divmod(query, out_grid[1])]
        keys = itertools.product(range(grid[0]), range(grid[1]))
        return {(r - at[0], c - at[1]): index for index, (r, c) in enumerate(keys)}

    total = weight = 0.0
    for i, j in itertools.combinations(range(len(queries)), 2):
        first, second = offsets(queries[i]), offsets(queries[j])
        shared = sorted(first.keys() & second.keys())
        a = kappa[i, [first[d] for d in shared]]
        b = kappa[j, [second[d] for d in shared]]
        total += len(shared) * cosine(a, b, dim=0).item()
        weight += len(shared)
    return total / weight


@pytest.mark.parametrize("stride", [1, 2])
def test_queries_seen_from_their_own_places(stride):
    grid, out_grid = (3, 5), (3, 5) if stride == 1 else (2, 3)
    queries = torch.tensor([0, 2, 3, 5])
    kappa = noise(2, 4, 15) + 0.3
    found = kernels.relative_similarity_of_queries(kappa, queries, grid, out_grid, stride)
    expected = [
        relative_by_definition(head, queries.tolist(), grid, stride, out_grid) for head in kappa
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize(("grid", "stride"), [((5, 7), 1), ((7, 5), 2), ((3, 2, 5), 1)])
def test_a_convolution_is_alike_from_everywhere(grid, stride):
    torch.manual_seed(0)
    mixer = DepthwiseConv(2, 1, grid, stride, kernel_size=3)
    out_grid = mixer.out_grid(grid)
    queries = torch.arange(math.prod(out_grid))
    with torch.no_grad():
        kappa = mixer.token_weights(noise(1, *grid, 2), queries)[0]
    place = (queries, grid, out_grid, stride)
    torch.testing.assert_close(
        kernels.relative_similarity_of_queries(kappa, *place), torch.ones(2), rtol=0, atol=1e-5
    )
    assert (kernels.similarity_of_queries(kappa) < 0.6).all()


def test_attention_without_positions_is_not_alike_from_everywhere():
    torch.manual_seed(0)
    mixer = SelfAttention(6, 2, (5, 7))
    with torch.no_grad():
        kappa = mixer.token_weights(4 * noise(1, 5, 7, 6), torch.arange(35))[0]
    place = (torch.arange(35), (5, 7), (5, 7), 1)
    assert (kernels.relative_similarity_of_queries(kappa, *place) < 0.9).all()


def test_entropy_of_known_rows():
    one_hot = torch.eye(5)[:3]
    uniform = torch.full((3, 5), -0.7)
    skewed = torch.tensor([[3.0, -1, 0, 0, 0]] * 3)
    expected = [0, math.log(5), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))]
    found = kernels.entropy(torch.stack([one_hot, uniform, skewed]))
    torch.testing.assert_close(found, torch.tensor(expected))


def test_effective_rank_of_known_matrices():
    turn = torch.linalg.qr(noise(5, 5)).Q
    ones = torch.ones(5, 7)
    wide = torch.cat([turn, torch.zeros(5, 2)], dim=1)  # five equal singular values
    two = torch.zeros(5, 7)
    two[0, 3], two[4, 1] = 3, 1
    skewed = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    found = kernels.effective_rank(torch.stack([ones, wide, two, -4 * two]))
    torch.testing.assert_close(found, torch.tensor([1, 5, skewed, skewed]), rtol=1e-3, atol=1e-3)


def test_what_is_not_finite_has_no_measure():
    kappa = noise(2, 4, 6)
    kappa[1, 2, 3] = math.nan
    grid = ((2, 3), (2, 3), 1)
    rank = kernels.effective_rank(kappa)
    torch.testing.assert_close(rank[:1], kernels.effective_rank(kappa[:1]))
    relative = kernels.relative_similarity_of_queries(kappa, torch.arange(4), *grid)
    queries = kernels.similarity_of_queries(kappa)
    for found in (rank, relative, queries, kernels.entropy(kappa)):
        assert found.isnan().tolist() == [False, True]
    assert math.isnan(kernels.similarity_of_heads(kappa))
    kappa[1] = math.inf
    assert kernels.effective_rank(kappa)[1].isnan()


def test_spaced_indices():
    assert kernels.spaced(5, 7).tolist() == [0, 1, 2, 3, 4]
    assert kernels.spaced(11, 3).tolist() == [0, 5, 10]
    assert kernels.spaced(11, 1).tolist() == [0]
    assert len(set(kernels.spaced(197, 196).tolist())) == 196
    with pytest.raises(ValueError, match="most=0 must be at least 1"):
        kernels.spaced(5, 0)
