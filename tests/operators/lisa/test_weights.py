"""LiSA's kernel over tokens against its definition, read off with one-hot values."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from attnlab.operators.base import MixerFactory, TokenMixer
from attnlab.operators.lisa import LiSA
from tests.operators.contract import DIM, HEADS, assert_close, build, tokens

RPES = 2


def kernel_by_one_hot_values(make: MixerFactory, grid: tuple[int, ...], slices: int) -> tuple:
    """Return a layer, an input and its kernel: what `reference` makes of the value e_m at m.

    The layer has a channel per head, slice and token; W_V and W_O are stepped over.
    """
    count = math.prod(grid)
    mixer = build(make, grid, 2, out_dim=HEADS * slices * count)
    one_hot = torch.eye(count, dtype=torch.float64).repeat(1, HEADS * slices)
    mixer.to_v.register_forward_hook(lambda *_: one_hot.expand(2, -1, -1).unflatten(1, grid))
    mixer.to_out.register_forward_hook(lambda _, inputs, __: inputs[0])
    x = tokens(grid)
    kernel = mixer.reference(x).flatten(1, -2).unflatten(-1, (HEADS * slices, count))
    return mixer, x, kernel.transpose(1, 2)


@pytest.mark.parametrize("grid", [(5, 3), (2, 3, 5)])
@pytest.mark.parametrize("variant", ["pattern", "mask"])
@pytest.mark.parametrize("approximation", ["none", "fft", "circular", "truncated", "split"])
def test_is_the_kernel_of_the_definition(
    approximation: str, variant: str, grid: tuple[int, ...]
) -> None:
    make = partial(
        LiSA, num_rpes=RPES, approximation=approximation, variant=variant, activation="tanh"
    )
    slices = RPES if approximation == "split" else 1
    mixer, x, expected = kernel_by_one_hot_values(make, grid, slices)
    weights = mixer.token_weights(x, torch.arange(expected.shape[2]))
    assert expected.abs().amax((0, 2, 3)).min() > 0
    assert_close(weights, expected, 1e-12, "kernel")


@pytest.mark.parametrize("kernel", ["double_softmax", "l2", "elu", "softmax"])
def test_is_the_kernel_of_the_definition_for_every_attention_kernel(kernel: str) -> None:
    make = partial(LiSA, num_rpes=RPES, approximation="none", kernel=kernel, key_groups=HEADS)
    mixer, x, expected = kernel_by_one_hot_values(make, (5, 3), 1)
    assert_close(mixer.token_weights(x, torch.arange(6)), expected, 1e-12, "kernel")


def content_only(**options) -> TokenMixer:
    return LiSA(DIM, HEADS, (7, 5), num_rpes=0, **options).double()


@pytest.mark.parametrize("kernel", ["double_softmax", "elu"])
def test_content_weights_add_up_to_the_content_gain(kernel: str) -> None:
    mixer = content_only(kernel=kernel)
    gains = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    with torch.no_grad():
        mixer.content_gain.copy_(gains)
    totals: Tensor = mixer.token_weights(tokens((7, 5)), torch.arange(35)).sum(-1)
    torch.testing.assert_close(totals, gains.view(1, HEADS, 1).expand(2, -1, 35))
