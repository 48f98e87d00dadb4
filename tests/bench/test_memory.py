"""The meters on functions whose bytes are known."""

import pytest
import torch
from torch import Tensor, nn

from attnlab.bench.memory import inference_call, peak_bytes, saved_bytes, training_call

CPU = torch.device("cpu")
KIB = 1024


class Cube(torch.autograd.Function):
    """x³, saving x and a square that nobody else holds."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        square = x * x
        ctx.save_for_backward(x, square)
        return square * x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        x, square = ctx.saved_tensors
        return grad * (2 * square + x * x)


@pytest.mark.parametrize(
    ("function", "tensors"),
    [
        (lambda x: x.exp(), 1),  # its own result
        (lambda x: x + 1, 0),
        (lambda x: x.exp().cos(), 1),  # one storage, kept by both
        (lambda x: x.t().sin() + x.flatten().cos().view(13, 7), 1),  # two views of one storage
        (Cube.apply, 2),
    ],
    ids=["result", "nothing", "shared", "views", "custom"],
)
def test_saved_bytes_count_every_storage_once(function, tensors: int) -> None:
    x = torch.randn(7, 13, requires_grad=True)
    assert saved_bytes(lambda: function(x)) == tensors * 7 * 13 * 4


def test_saved_bytes_leave_parameters_out() -> None:
    linear, x = nn.Linear(11, 5), torch.randn(3, 11, requires_grad=True)
    assert saved_bytes(lambda: linear(x), linear.parameters()) == 3 * 11 * 4
    assert saved_bytes(lambda: linear(x)) == (3 * 11 + 5 * 11) * 4


def test_saved_bytes_see_through_no_grad_around_them() -> None:
    x = torch.randn(7, requires_grad=True)
    with torch.no_grad():
        assert saved_bytes(lambda: x.exp()) == 7 * 4


def test_peak_is_the_most_that_lived_at_a_time() -> None:
    def call() -> Tensor:
        first = torch.empty(3 * KIB, dtype=torch.uint8)
        second = torch.empty(5 * KIB, dtype=torch.uint8)
        del first
        third = torch.empty(2 * KIB, dtype=torch.uint8)  # 7 KiB live here, 8 before
        del second, third
        return torch.empty(7 * KIB, dtype=torch.uint8)

    assert peak_bytes(call, CPU) == 8 * KIB
    held = torch.empty(64 * KIB)  # what was there before does not count
    assert peak_bytes(call, CPU) == 8 * KIB
    assert len(held) == 64 * KIB


def test_peak_counts_what_an_operator_allocates_inside() -> None:
    x = torch.randn(64, 32).t()
    flat = torch.randn(1, 64 * 32)
    # A transposed operand of this product is first copied; only the result is seen from outside.
    result = 4
    copied = peak_bytes(lambda: torch.nn.functional.linear(x.reshape(1, -1), flat), CPU)
    assert copied == 32 * 64 * 4 + result


def test_peak_counts_the_buffers_of_a_padded_transform() -> None:
    maps = torch.randn(3, 11, 13)
    padded, spectrum = 3 * 22 * 26 * 4, 3 * 22 * (26 // 2 + 1) * 8
    there = peak_bytes(lambda: torch.fft.rfft2(maps, s=(22, 26)), CPU)
    assert there == padded + spectrum
    spectra = torch.fft.rfft2(maps, s=(22, 26))
    back = peak_bytes(lambda: torch.fft.irfft2(spectra, s=(22, 26)), CPU)
    # One axis is transformed at a time, and what the last one overwrites may be copied once more.
    assert spectrum + padded <= back <= 2 * spectrum + padded


def test_training_call_differentiates_input_and_parameters() -> None:
    linear, x = nn.Linear(5, 3), torch.randn(2, 5)
    grads = training_call(linear, x)()
    assert [tuple(grad.shape) for grad in grads] == [(2, 5), (3, 5), (3,)]
    assert len(training_call(linear, x, to_input=False)()) == 2
    assert not x.requires_grad


def test_inference_call_builds_no_graph() -> None:
    assert inference_call(nn.Linear(5, 3), torch.randn(2, 5))().grad_fn is None
