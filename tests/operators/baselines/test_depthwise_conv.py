"""Depth-wise convolution: the laws, its borders and orientation, and values by hand."""

from functools import partial
from typing import ClassVar

import pytest
import torch

from attnlab.operators.baselines import DepthwiseConv
from tests.operators.contract import DIM, HEADS, OperatorLaws, assert_close, build, tokens


class TestLaws(OperatorLaws):
    variants: ClassVar = {
        "kernel_1": partial(DepthwiseConv, kernel_size=1),
        "kernel_3": partial(DepthwiseConv, kernel_size=3),
        "kernel_7": DepthwiseConv,
    }


def identity_maps(grid: tuple[int, ...], dim: int, kernel_size: int) -> DepthwiseConv:
    """Return an operator that is its convolution alone."""
    mixer = DepthwiseConv(dim, 1, grid, kernel_size=kernel_size).double()
    with torch.no_grad():
        mixer.value.weight.copy_(torch.eye(dim))
        mixer.proj.weight.copy_(torch.eye(dim))
    return mixer


def test_values_by_hand_at_borders_and_in_orientation() -> None:
    mixer = identity_maps((2, 3), dim=1, kernel_size=3)
    kernel = [[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]
    with torch.no_grad():
        mixer.kernel[0, 0] = torch.tensor(kernel)
    x = torch.tensor([[1.0, 0, 0], [0, 0, 10]], dtype=torch.float64).view(1, 2, 3, 1)
    # Entry (u, v) reads the token at (row + u - 1, column + v - 1): a token at the top left is
    # seen by its right neighbour through the entry left of the centre, 4, and so on.
    expected = [[5.0, 4 + 90, 80], [2, 1 + 60, 50]]
    assert mixer(x)[0, :, :, 0].tolist() == expected
    assert mixer.reference(x)[0, :, :, 0].tolist() == expected


def test_each_channel_has_its_own_kernel_on_video() -> None:
    mixer = identity_maps((3, 5, 2), dim=2, kernel_size=3)
    with torch.no_grad():
        mixer.kernel.zero_()
        mixer.kernel[0, 0, 0, 1, 1] = 2.0  # channel 0: the token one frame earlier
        mixer.kernel[1, 0, 1, 2, 1] = 3.0  # channel 1: the token one row below
    x = tokens((3, 5, 2))[..., :2]
    expected = torch.zeros_like(x)
    expected[:, 1:, :, :, 0] = 2 * x[:, :-1, :, :, 0]
    expected[:, :, :-1, :, 1] = 3 * x[:, :, 1:, :, 1]
    torch.testing.assert_close(mixer(x), expected)


def test_a_token_reaches_half_a_kernel_and_no_further() -> None:
    mixer, x = build(partial(DepthwiseConv, kernel_size=3), (7, 5)), tokens((7, 5), batch=1)
    changed = x.clone()
    changed[0, 4, 0] += 1.0
    moved = (mixer(changed) - mixer(x)).abs().amax(-1)[0] > 1e-9
    expected = torch.zeros(7, 5, dtype=torch.bool)
    expected[3:6, 0:2] = True
    assert torch.equal(moved, expected)


def test_a_stride_keeps_every_other_token() -> None:
    mixer, dense = build(DepthwiseConv, (7, 5), stride=2), build(DepthwiseConv, (7, 5))
    x = tokens((7, 5))
    assert_close(mixer(x), dense(x)[:, ::2, ::2], 1e-12, "stride")


def test_maps_are_the_kernels() -> None:
    mixer = build(DepthwiseConv, (7, 5), out_dim=24)
    assert torch.equal(mixer.learnt_maps()["kernel"], mixer.kernel[:, 0])


@pytest.mark.parametrize("kernel_size", [0, 4, -3])
def test_rejects_kernels_without_a_centre(kernel_size: int) -> None:
    with pytest.raises(ValueError, match=f"kernel_size={kernel_size}"):
        DepthwiseConv(DIM, HEADS, (7, 5), kernel_size=kernel_size)
