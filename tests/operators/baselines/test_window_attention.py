"""Window attention: the laws, its locality, and the layout official weights rely on."""

from functools import partial
from typing import ClassVar

import pytest
import torch

from attnlab.operators.base import TokenMixer
from attnlab.operators.baselines import WindowAttention
from attnlab.operators.baselines.window_attention import (
    attend_by_head,
    attend_fused,
    window_merge,
    window_partition,
)
from tests.operators.contract import DIM, HEADS, OperatorLaws, assert_close, build, tokens

make = partial(WindowAttention, window_size=3)


class TestLaws(OperatorLaws):
    variants: ClassVar = {
        "window_2": partial(WindowAttention, window_size=2),
        "window_3": make,
        "window_larger_than_grid": partial(WindowAttention, window_size=13),
    }

    def values(self, mixer: TokenMixer, x: torch.Tensor) -> torch.Tensor:
        return mixer.qkv(x).unflatten(-1, (HEADS, 3, -1))[..., 2, :].flatten(-2)


def test_weights_add_up_to_one_inside_the_window_and_vanish_outside() -> None:
    mixer, x = build(make, (7, 5), 2), tokens((7, 5))
    at_4_2 = 2 * 3 + 1  # output token (2, 1) of 4 x 3, in the window of rows 3..5, columns 0..2
    weights = mixer.token_weights(x, torch.tensor([at_4_2])).view(2, HEADS, 7, 5)
    inside = torch.zeros(7, 5, dtype=torch.bool)
    inside[3:6, 0:3] = True
    assert (weights[..., inside] > 0).all()
    assert not weights[..., ~inside].any()
    torch.testing.assert_close(weights.sum((-2, -1)), torch.ones(2, HEADS, dtype=torch.float64))


def test_parity_in_float32_with_padding_on_both_axes() -> None:
    mixer, x = build(make, (7, 5)).float(), tokens((7, 5)).float()
    assert_close(mixer(x), mixer.reference(x), 2e-6, "float32")


def test_a_token_reaches_its_window_and_nothing_else() -> None:
    mixer, x = build(make, (7, 5)), tokens((7, 5), batch=1)
    changed = x.clone()
    changed[0, 4, 2] += 1.0  # the window of rows 3..5 and columns 0..2
    moved = (mixer(changed) - mixer(x)).abs().amax(-1)[0] > 1e-6
    expected = torch.zeros(7, 5, dtype=torch.bool)
    expected[3:6, 0:3] = True
    assert torch.equal(moved, expected)


def test_both_forms_agree_in_output_and_every_gradient() -> None:
    heads, width, tokens_in_window = 3, 5, 2 * 3
    torch.manual_seed(11)
    qkv = torch.randn(2, 7, tokens_in_window, 3 * heads * width).double().requires_grad_()
    bias = torch.randn(heads, tokens_in_window, tokens_in_window).double().requires_grad_()
    results = []
    for attend in (attend_by_head, attend_fused):
        out = attend(qkv, bias, (2, 3), (14, 3))
        grads = torch.autograd.grad(out, (qkv, bias), torch.cos(out.detach() + out.shape[1]))
        results.append((out, *grads))
    for by_head, fused, what in zip(*results, ("output", "dqkv", "dbias"), strict=True):
        assert_close(by_head, fused, 1e-12, what)


def test_exports_for_any_batch_with_whole_and_cut_windows() -> None:
    mixer = build(make, (7, 5)).float()
    x = tokens((7, 5)).float()
    exported = torch.export.export(mixer, (x,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    more = tokens((7, 5), batch=5).float()
    assert_close(exported.module()(more), mixer(more), 2e-6, "exported")


def test_hand_made_bias_and_values() -> None:
    """With q = k = 0 the weights are softmax of the bias alone; channels trace who is read."""
    mixer = WindowAttention(1, 1, (1, 2), window_size=2).double()
    with torch.no_grad():
        mixer.qkv.weight.copy_(torch.tensor([[0.0], [0.0], [1.0]]))
        mixer.proj.weight.fill_(1.0)
        # Row (dy + 1) * 3 + dx + 1 at dy = 0, dx = x_query - x_key = -1, 0, 1 is 3, 4, 5.
        mixer.bias_table[3:6, 0] = torch.tensor([3.0, 1.0, 2.0]).log()
    x = torch.tensor([10.0, 100.0], dtype=torch.float64).view(1, 1, 2, 1)
    first = (1 * 10 + 3 * 100) / 4  # the query left of its key has dx = -1
    second = (2 * 10 + 1 * 100) / 3
    torch.testing.assert_close(mixer(x).flatten(), torch.tensor([first, second]).double())
    torch.testing.assert_close(mixer.reference(x), mixer(x))


def test_qkv_is_laid_out_per_head() -> None:
    """With one token per window attention returns v, found at rows [2d:3d] of each head's 3d."""
    mixer, x = build(partial(WindowAttention, window_size=1), (2, 3)), tokens((2, 3))
    d = DIM // HEADS
    values = mixer.qkv.weight.view(HEADS, 3, d, DIM)[:, 2].reshape(DIM, DIM)
    assert_close(mixer(x), x @ values.T @ mixer.proj.weight.T, 1e-12, "values")


def test_scale_is_one_over_root_of_head_width() -> None:
    mixer = WindowAttention(4, 1, (1, 2), window_size=2).double()
    with torch.no_grad():
        mixer.qkv.weight.copy_(torch.eye(4).repeat(3, 1))
        mixer.proj.weight.copy_(torch.eye(4))
    x = torch.zeros(1, 1, 2, 4, dtype=torch.float64)
    x[0, 0, 0, 0], x[0, 0, 1, 1] = 2.0, 2.0  # q·k = 4 with itself, 0 with the other
    weight = 1 / (1 + torch.tensor(-4 / 2.0).exp().item())
    torch.testing.assert_close(
        mixer(x)[0, 0, 0], torch.tensor([2 * weight, 2 - 2 * weight, 0, 0]).double()
    )


@pytest.mark.parametrize(("grid", "window"), [((4, 9), (2, 3)), ((3, 10, 4), (1, 5, 2))])
def test_merge_undoes_partition(grid: tuple[int, ...], window: tuple[int, ...]) -> None:
    x = torch.randn(2, *grid, 3)
    assert torch.equal(window_merge(window_partition(x, window), window, grid), x)


def test_second_window_holds_the_second_columns() -> None:
    x = torch.arange(24).view(1, 4, 6, 1)
    assert window_partition(x, (2, 3))[0, :, :, 0].tolist() == [
        [0, 1, 2, 6, 7, 8],
        [3, 4, 5, 9, 10, 11],
        [12, 13, 14, 18, 19, 20],
        [15, 16, 17, 21, 22, 23],
    ]


def test_initialisation_and_parameter_layout() -> None:
    torch.manual_seed(5)
    mixer = WindowAttention(96, 6, (14, 14), out_dim=192, window_size=14)
    shapes = {name: tuple(p.shape) for name, p in mixer.named_parameters()}
    assert shapes == {
        "bias_table": (27**2, 6),
        "qkv.weight": (3 * 192, 96),
        "proj.weight": (192, 192),
    }
    assert not mixer.bias_table.any()
    for weight, fan_in in ((mixer.qkv.weight, 96), (mixer.proj.weight, 192)):
        assert weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.02)
        assert weight.abs().max().item() <= 2 / 0.87962566103423978 * fan_in**-0.5


def test_pictures_show_the_table_of_each_head() -> None:
    mixer = build(make, (7, 5))
    maps = mixer.learnt_maps()["bias_table"]
    assert maps.shape == (HEADS, 5, 5)
    assert torch.equal(maps[1, 2, 4], mixer.bias_table[2 * 5 + 4, 1])


def test_rejects_an_empty_window() -> None:
    with pytest.raises(ValueError, match="window_size=0"):
        WindowAttention(DIM, HEADS, (7, 5), window_size=0)
