"""Self-attention: the laws, its blindness to positions, and values by hand."""

import math
from typing import ClassVar

import pytest
import torch

from attnlab.operators.base import TokenMixer
from attnlab.operators.baselines import SelfAttention, WindowAttention
from tests.operators.contract import DIM, HEADS, OperatorLaws, assert_close, build, tokens


class TestLaws(OperatorLaws):
    variants: ClassVar = {"self_attention": SelfAttention}

    def values(self, mixer: TokenMixer, x: torch.Tensor) -> torch.Tensor:
        return mixer.key_value(x).chunk(2, dim=-1)[1]


@pytest.mark.parametrize("grid", [(7, 5), (3, 5, 2)])
def test_weights_of_every_query_add_up_to_one(grid: tuple[int, ...]) -> None:
    mixer, x = build(SelfAttention, grid, 2), 30 * tokens(grid)
    weights = mixer.token_weights(x, torch.arange(math.prod(mixer.out_grid(grid))))
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_permutes_with_its_tokens() -> None:
    mixer, x = build(SelfAttention, (7, 5)), tokens((7, 5))
    order = torch.randperm(35, generator=torch.Generator().manual_seed(2))

    def shuffle(y: torch.Tensor) -> torch.Tensor:
        return y.flatten(1, 2)[:, order].view_as(y)

    assert_close(mixer(shuffle(x)), shuffle(mixer(x)), 1e-12, "permutation")


@pytest.mark.parametrize("grid", [(7, 5), (3, 5, 2)])
def test_is_window_attention_with_one_window_and_no_bias(grid: tuple[int, ...]) -> None:
    attention, x = build(SelfAttention, grid), tokens(grid)
    window = WindowAttention(DIM, HEADS, grid, window_size=7).double()
    q, (k, v) = attention.query.weight, attention.key_value.weight.chunk(2)
    per_head = [weight.view(HEADS, DIM // HEADS, DIM) for weight in (q, k, v)]
    with torch.no_grad():
        window.qkv.weight.copy_(torch.cat(per_head, dim=1).flatten(0, 1))
        window.proj.weight.copy_(attention.proj.weight)
    assert_close(window(x), attention(x), 1e-12, "one window")


def test_weights_by_hand() -> None:
    """Identity maps, two tokens: the weight on itself is sigmoid((q·q - q·k) / √d)."""
    mixer = SelfAttention(4, 1, (1, 2)).double()
    with torch.no_grad():
        mixer.query.weight.copy_(torch.eye(4))
        mixer.key_value.weight.copy_(torch.eye(4).repeat(2, 1))
        mixer.proj.weight.copy_(torch.eye(4))
    x = torch.zeros(1, 1, 2, 4, dtype=torch.float64)
    x[0, 0, 0, 0], x[0, 0, 1, 1] = 2.0, 3.0
    first, second = torch.tensor([4 / 2, 9 / 2], dtype=torch.float64).sigmoid().tolist()
    expected = [[2 * first, 3 * (1 - first), 0, 0], [2 * (1 - second), 3 * second, 0, 0]]
    torch.testing.assert_close(mixer(x)[0, 0], torch.tensor(expected, dtype=torch.float64))


def test_a_stride_keeps_every_other_query_and_all_keys() -> None:
    mixer, x = build(SelfAttention, (7, 5), stride=2), tokens((7, 5))
    dense = build(SelfAttention, (7, 5))
    assert_close(mixer(x), dense(x)[:, ::2, ::2], 1e-12, "stride")


def test_parameters_are_four_square_maps() -> None:
    mixer = SelfAttention(10, 2, (7, 5), out_dim=14)
    assert sum(p.numel() for p in mixer.parameters()) == 10 * 3 * 14 + 14 * 14
