"""The forms of QnA's window sums: each is the reference, on any grid and with any window."""

import functools
import math

import pytest
import torch
from torch import Tensor

from attnlab.operators.qna import convolution, depthwise
from attnlab.operators.qna.functional import (
    attend,
    attend_by_convolution,
    merge_heads,
    project,
    scale_queries,
)
from attnlab.operators.qna.window import Window
from tests.operators.contract import assert_close
from tests.operators.qna.problems import GEOMETRIES, by_reference, errors, window_problem

FORMS = {
    "automatic": attend,
    "stable": functools.partial(attend, stable=True),
    "plain": attend_by_convolution,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("grid", "window"), GEOMETRIES)
@pytest.mark.parametrize("masked", [False, True])
def test_every_form_is_the_reference(form, grid, window, masked) -> None:
    found = errors(form, window_problem(grid, window, masked=masked), window)
    assert max(found.values()) <= 1e-12, found


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("queries", [1, 3])
def test_any_number_of_queries(form, queries) -> None:
    window = Window.build(2, 5)
    found = errors(form, window_problem((7, 5), window, queries=queries), window)
    assert max(found.values()) <= 1e-12, found


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_one_scale_for_all_offsets(form) -> None:
    window = Window.build(2, 3)
    problem = window_problem((7, 5), window)
    problem[3] = problem[3][:1].detach().requires_grad_()
    found = errors(form, problem, window)
    assert max(found.values()) <= 1e-12, found


def test_kernel_gradient_of_images_that_share_a_convolution(monkeypatch) -> None:
    window = Window.build(2, 5, 2)
    monkeypatch.setattr(convolution, "_CHUNK", 5 * 7 * 11 * 18)  # five and three images
    monkeypatch.setattr(depthwise, "_CHUNK", 2 * 7 * 11 * 18)  # two, two, one
    found = errors(attend, window_problem((7, 11), window, batch=8), window)
    assert max(found.values()) <= 1e-12, found


@pytest.mark.parametrize("options", [{}, {"stable": True}, {"dropout": 0.3}])
def test_gradcheck(options) -> None:
    window = Window.build(2, (3, 2), dilation=(2, 1))

    def deterministic(*problem: Tensor) -> Tensor:
        torch.manual_seed(0)  # the same attention weights are dropped at each call
        return attend(*problem, window, **options)

    problem = window_problem((4, 3), window, batch=1)
    assert torch.autograd.gradcheck(deterministic, problem)


def test_dropout_drops_single_weights_and_keeps_their_mean() -> None:
    window = Window.build(2, 1)
    values = torch.ones(1, 101, 97, 1, 1)
    scores, bias, scale = torch.zeros(1, 101, 97, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    torch.manual_seed(0)
    out = attend(scores, values, bias, scale, window, dropout=0.2)
    assert set(out.unique().tolist()) == {0.0, 1.25}
    assert out.mean().item() == pytest.approx(1, abs=0.02)  # 4 deviations of 0.005
    window = Window.build(2, 3)
    problem = [tensor.detach() for tensor in window_problem((5, 3), window, batch=1)]
    draws = torch.stack([attend(*problem, window, dropout=0.2) for _ in range(600)])
    deviation = draws.std(0) / math.sqrt(600)
    assert ((draws.mean(0) - by_reference(*problem, window)).abs() <= 5 * deviation).all()
    assert not torch.equal(draws[0], draws[1])


def test_nothing_of_the_size_of_the_window_is_kept_for_the_backward() -> None:
    kept = {}
    for size in (3, 13):
        window = Window.build(2, size)
        storages: dict[int, int] = {}

        def pack(tensor: Tensor, storages=storages) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        problem = window_problem((31, 29), window)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            attend(*problem, window)
        kept[size] = sum(storages.values()) - 2 * problem[2].nbytes  # bias and scale are the rest
    assert kept[3] == kept[13]
    scores, values = problem[:2]
    # Inputs, one inverse per score, the output and the term of one of two queries.
    assert kept[13] == 2 * scores.nbytes + 3 * values.nbytes


def test_queries_are_divided_by_norm_and_root_of_the_head_width() -> None:
    query = torch.tensor([[3.0, 4.0, 0.0, 2.0]])
    unit = scale_queries(query, heads=2, normalize=True)
    expected = torch.tensor([[[0.6, 0.8], [0.0, 1.0]]]) / math.sqrt(2)
    assert torch.allclose(unit, expected, atol=1e-6)
    free = scale_queries(query, heads=2, normalize=False)
    assert torch.allclose(free, query.view(1, 2, 2) / math.sqrt(2))


def test_projections_keep_the_channels_of_their_weights() -> None:
    torch.manual_seed(1)
    x, key, value, bias = (torch.randn(shape) for shape in ((2, 7, 5, 11), (6, 11), (6, 11), 6))
    query = torch.randn(2, 3, 2)
    scores, values = project(x, query, key, value, bias)
    assert_close(values.flatten(-2), x @ value.T + bias, 1e-6, "values")
    keys = (x @ key.T).unflatten(-1, (3, 2))
    assert_close(scores, torch.einsum("b...hd,lhd->b...lh", keys, query), 1e-6, "scores")
    own, _ = project(x, torch.stack([query, -2 * query]), key, value)
    assert_close(own[1], -2 * scores[1], 1e-6, "scores of a sample's own queries")
    weight, shift = torch.randn(13, 6), torch.randn(13)
    for mixed in (values, values.contiguous()):  # as a CPU stores them, and as CUDA does
        merged = merge_heads(mixed, weight, shift)
        assert_close(merged, values.flatten(-2) @ weight.T + shift, 1e-6, "merged")
