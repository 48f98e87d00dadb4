"""Scores of any size: what is exact, what stays finite; samples never affect each other."""

import functools
import math

import pytest
import torch
from torch import Tensor

from attnlab.operators.qna import QnA, by_sample, convolution, offsets
from attnlab.operators.qna.functional import attend, attend_by_convolution
from attnlab.operators.qna.window import Window
from tests.operators.contract import assert_close, build, tokens
from tests.operators.qna.problems import errors, window_problem

STABLE = functools.partial(attend, stable=True)
WINDOW = Window.build(2, 5)
GRID = (11, 7)


def scores_up_to(amplitude: float, batch: int = 2) -> list[Tensor]:
    """Return a window problem whose scores fill [-amplitude, amplitude]."""
    problem = window_problem(GRID, WINDOW, batch=batch)
    generator = torch.Generator().manual_seed(41)
    scores = torch.rand(problem[0].shape, generator=generator, dtype=torch.float64)
    problem[0] = (2 * amplitude * scores - amplitude).requires_grad_()
    return problem


def two_regions(amplitude: float) -> list[Tensor]:
    """Return a window problem with scores around +amplitude above and -amplitude below."""
    problem = window_problem(GRID, WINDOW)
    sign = torch.ones(GRID[0], 1, 1, 1, dtype=torch.float64)
    sign[6:] = -1
    problem[0] = (problem[0].detach() + amplitude * sign).requires_grad_()
    return problem


@pytest.mark.parametrize("amplitude", [30, 100, 300])
@pytest.mark.parametrize("form", [attend, STABLE], ids=["automatic", "stable"])
@pytest.mark.parametrize("make", [scores_up_to, two_regions])
def test_exact_in_float32_for_scores_up_to_300(make, form, amplitude) -> None:
    found = errors(form, make(amplitude), WINDOW, torch.float32)
    assert max(found.values()) <= 1e-6, found


def test_two_regions_of_sixty_without_noise() -> None:
    problem = two_regions(0)
    problem[0] = (60 * problem[0].detach().sign()).requires_grad_()
    problem[2] = torch.zeros_like(problem[2]).requires_grad_()
    for form in (attend, STABLE, attend_by_convolution):
        found = errors(form, problem, WINDOW, torch.float32)
        assert max(found.values()) <= 1e-6, found


@pytest.mark.parametrize("low", [-58, -20, 65, 1000])
def test_scores_that_fit_are_summed_by_convolution_exactly(low, monkeypatch) -> None:
    """A map moves only as a whole, and only where that does not round its scores."""
    monkeypatch.setattr(by_sample.offsets, "forward", None)  # nothing may need it
    problem = scores_up_to(28)
    problem[0] = (problem[0].detach() + low + 28).float().double().requires_grad_()
    problem[2] = problem[2].detach().clamp(-2, 2).requires_grad_()
    for form in (attend, attend_by_convolution):
        found = errors(form, problem, WINDOW, torch.float32)
        assert found["out"] <= 2e-7, found
        assert max(found.values()) <= 2e-6, found


def test_wide_biases_are_as_exact_as_wide_scores() -> None:
    problem = window_problem(GRID, WINDOW)
    problem[2] = (100 * problem[2].detach()).requires_grad_()
    found = errors(attend, problem, WINDOW)
    assert max(found.values()) <= 1e-12, found


def test_only_the_samples_that_need_it_are_summed_offset_by_offset(monkeypatch) -> None:
    problem = [tensor.detach() for tensor in scores_up_to(20, batch=5)]
    problem[0][[1, 4]] *= 10
    summed, exact = [], offsets.forward

    def spy(inputs, window):
        summed.append(inputs.scores.clone())
        return exact(inputs, window)

    monkeypatch.setattr(by_sample.offsets, "forward", spy)
    attend(*problem, WINDOW)
    assert len(summed) == 1
    assert torch.equal(summed[0], problem[0][[1, 4]])


def test_masked_scores_do_not_make_a_sample_wide() -> None:
    scores, _, bias, _ = (tensor.detach() for tensor in scores_up_to(10))
    scores[0, :5] = -math.inf
    scores[1] = -math.inf
    shift, wide = convolution.shift_to_fit(scores, bias)
    assert not wide.any()
    assert torch.equal(shift, torch.zeros_like(shift))


@pytest.mark.parametrize("factor", [1, 200])
def test_one_image_200_times_too_bright_leaves_the_others_bit_identical(factor) -> None:
    layer = build(functools.partial(QnA, kernel_size=5, normalize_queries=False), GRID).float()
    x = tokens(GRID, batch=3).float()
    others = x[[0, 2]].requires_grad_()
    alone = layer(others)
    alone.square().sum().backward()
    bright = x.clone()
    bright[1] *= factor
    bright.requires_grad_()
    out = layer(bright)
    out.square().sum().backward()
    assert torch.equal(out[[0, 2]], alone)
    assert torch.equal(bright.grad[[0, 2]], others.grad)
    assert out.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    assert_close(out[1], layer.double().reference(bright[1:2].double())[0].float(), 2e-5, "bright")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("spread", [1, 100])
def test_autocast_training_stays_finite(kind, spread) -> None:
    torch.manual_seed(4)
    layer = QnA(12, 3, GRID, kernel_size=5)
    with torch.no_grad():
        layer.key.weight.mul_(spread)  # scores up to about 300: exp overflows float16 above 11
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    x = tokens(GRID).float()
    for _ in range(5):
        with torch.autocast("cpu", kind):
            out = layer(x)
        assert out.dtype == kind
        optimizer.zero_grad()
        out.float().square().mean().backward()
        assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
        optimizer.step()
    after = list(layer.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("factor", [1, 200])
def test_inference_gives_what_training_gives(factor) -> None:
    layer = build(functools.partial(QnA, num_queries=3, normalize_queries=False), GRID)
    x = factor * tokens(GRID)
    out = layer(x)
    with torch.no_grad():
        assert_close(layer(x), out, 1e-14, "inference")


def test_half_precision_module_keeps_its_type_and_exponentials_in_float32() -> None:
    layer = build(functools.partial(QnA, normalize_queries=False), (7, 5)).half()
    with torch.no_grad():
        layer.key.weight.mul_(20)  # scores far above 11, where float16 exponentials overflow
    x = tokens((7, 5)).half()
    out = layer(x)
    assert out.dtype == torch.float16
    assert_close(out.double(), layer.double().reference(x.double()), 0.02, "float16")
