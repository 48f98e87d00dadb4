"""QnA obeys the law book, its own locality, the official outputs and its options."""

import functools
import json
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attnlab.operators.base import MixerFactory
from attnlab.operators.qna import QnA
from tests.operators.contract import DIM, HEADS, OperatorLaws, assert_close, build, tokens

GOLDEN = Path(__file__).parents[2] / "golden"
OFFICIAL_NAMES = {
    "query": "query",
    "key.weight": "Wk",
    "value.weight": "to_v/kernel",
    "proj.weight": "to_out/kernel",
    "scale": "attn_scale_weights",
    "position_bias": "rpe_bias",
}


def qna(**options) -> MixerFactory:
    return functools.partial(QnA, **options)


class TestQnA(OperatorLaws):
    variants: ClassVar[dict[str, MixerFactory]] = {
        "default": QnA,
        "k5": qna(kernel_size=5),
        "one query": qna(num_queries=1),
        "three queries": qna(num_queries=3),
        "normal_elementwise": qna(attention_scale="normal_elementwise"),
        "posneg": qna(attention_scale="posneg"),
        "ones": qna(attention_scale="ones"),
        "avg": qna(attention_scale="avg"),
        "none": qna(attention_scale="none"),
        "absolute": qna(position="absolute"),
        "contextual": qna(position="contextual"),
        "no position": qna(position="none"),
        "free queries": qna(normalize_queries=False),
        "even window": qna(kernel_size=4),
        "dilated": qna(kernel_size=5, dilation=2),
    }


def test_weights_vanish_outside_the_window_and_add_up_to_the_fixed_scales() -> None:
    x = tokens((7, 5))
    for scale, total in (("none", 2), ("avg", 1)):
        layer = build(qna(attention_scale=scale, dilation=2), (7, 5), 2)
        weights = layer.token_weights(x, torch.tensor([2 * 3 + 2])).view(2, HEADS, 7, 5)
        inside = torch.zeros(7, 5, dtype=torch.bool)
        inside[2:7:2, 2:5:2] = True  # the window of token (4, 4) leaves the grid on the right
        assert (weights[..., inside] > 0).all()
        assert not weights[..., ~inside].any()
        expected = torch.full((2, HEADS), total, dtype=torch.float64)
        torch.testing.assert_close(weights.sum((-2, -1)), expected)


def test_weights_of_windows_without_a_token_are_zero() -> None:
    layer, x = build(qna(kernel_size=2, padding=3, dilation=4), (1, 11)), tokens((1, 11))
    assert layer.out_grid((1, 11)) == (3, 13)
    weights = layer.token_weights(x, torch.arange(39)).view(2, HEADS, 3, 13, 11)
    assert not weights[:, :, ::2].isnan().any()
    mixed = torch.einsum(
        "bhyxm,bmhd->byxhd", weights, layer.value(x).squeeze(1).unflatten(-1, (HEADS, -1))
    )
    assert_close(layer.proj(mixed.flatten(-2)), layer(x), 1e-12, "empty windows")
    assert (weights.abs().sum(-1) == 0).any()


@pytest.mark.parametrize(
    ("grid", "size", "stride"),
    [((7, 5), 3, 1), ((7, 5), 5, 2), ((5, 11), 7, 3), ((3, 5, 2), 3, 1), ((3, 7, 5), 3, 2)],
)
def test_locality_the_gradient_lives_on_the_window_exactly(grid, size, stride) -> None:
    layer = build(qna(kernel_size=size), grid, stride)
    x = tokens(grid, batch=1).requires_grad_()
    out = layer(x)
    positions = list(np.ndindex(*out.shape[1:-1]))
    for position in positions[:: max(1, len(positions) // 7)]:
        (grad,) = torch.autograd.grad(out[0, *position].sum(), x, retain_graph=True)
        expected = torch.zeros(grid, dtype=torch.bool)
        window = [
            slice(max(0, stride * i - size // 2), stride * i + size // 2 + 1) for i in position
        ]
        expected[tuple(window)] = True
        assert torch.equal(grad[0].abs().amax(-1) > 0, expected), position


@pytest.mark.parametrize("case", ["k3", "k3_stride2_widen", "k7"])
@pytest.mark.parametrize("how", ["fast", "stable", "reference"])
def test_official_layer_in_output_and_every_gradient(case, how) -> None:
    arrays = np.load(GOLDEN / f"qna_layer_{case}.npz")
    config = json.loads(str(arrays["config"]))
    layer = QnA(
        config["C"],
        config["heads"],
        arrays["x"].shape[1:3],
        config["stride"],
        out_dim=config["features"],
        kernel_size=config["kernel_size"],
        num_queries=config["n_queries"],
    )
    layer.stable = how == "stable"

    def ours(name: str, kind: str) -> Tensor:
        value = torch.from_numpy(arrays[f"{kind}/{OFFICIAL_NAMES[name]}"])
        return value.T if name.endswith("weight") else value.view(value.shape[-2:])

    layer.load_state_dict({name: ours(name, "param") for name in OFFICIAL_NAMES})
    x = torch.from_numpy(arrays["x"]).requires_grad_()
    out = layer.reference(x) if how == "reference" else layer(x)
    out.backward(torch.from_numpy(arrays["g"]))
    assert_close(out, torch.from_numpy(arrays["out"]), 2e-6, "output")
    assert_close(x.grad, torch.from_numpy(arrays["grad/x"]), 2e-6, "input")
    for name, parameter in layer.named_parameters():
        assert_close(parameter.grad, ours(name, "grad/param"), 2e-6, name)


def test_window_of_one_is_the_scaled_value() -> None:
    layer = build(qna(kernel_size=1, num_queries=3), (5, 3))
    x = tokens((5, 3))
    values = layer.value(x).unflatten(-1, (HEADS, -1))
    per_head = layer.scale.view(3, HEADS).sum(0)
    assert_close(layer(x), layer.proj((values * per_head[:, None]).flatten(-2)), 1e-12, "k=1")


def test_a_constant_added_to_the_bias_of_a_head_changes_nothing() -> None:
    layer, x = build(QnA, (7, 5)), tokens((7, 5))
    before = layer(x)
    with torch.no_grad():
        layer.position_bias.add_(torch.arange(2.0 * HEADS))
    assert_close(layer(x), before, 1e-12, "shifted bias")


def test_only_free_queries_depend_on_their_length() -> None:
    for normalize in (True, False):
        layer, x = build(qna(normalize_queries=normalize), (7, 5)), tokens((7, 5))
        before = layer(x)
        with torch.no_grad():
            layer.query.mul_(3)
        changed = (layer(x) - before).abs().max() / before.abs().max()
        assert (changed < 1e-5) == normalize


def test_absolute_position_is_the_product_of_query_and_embedding() -> None:
    absolute = build(qna(position="absolute"), (7, 5))
    relative = build(QnA, (7, 5))
    shared = {
        name: value for name, value in absolute.state_dict().items() if "position" not in name
    }
    unit = absolute.query.view(2, HEADS, -1)
    unit = unit / (unit.norm(dim=-1, keepdim=True) + 1e-6) / math.sqrt(DIM // HEADS)
    embedding = absolute.position_embedding.view(9, 2, HEADS, -1)
    bias = (unit * embedding).sum(-1).flatten(1)
    relative.load_state_dict(shared | {"position_bias": bias})
    x = tokens((7, 5))
    assert_close(absolute(x), relative(x), 1e-12, "absolute")


def test_contextual_position_is_one_linear_map_of_each_whole_scaled_query() -> None:
    contextual = build(qna(position="contextual", num_queries=2), (7, 5))
    relative = build(qna(num_queries=2), (7, 5))
    shared = {
        name: value for name, value in contextual.state_dict().items() if "position" not in name
    }
    bias = torch.empty(9, 2, HEADS, dtype=torch.float64)
    for query in range(2):
        heads = contextual.query[query].view(HEADS, -1)
        unit = [head / (head.norm() + 1e-6) / math.sqrt(DIM // HEADS) for head in heads]
        for offset, head in np.ndindex(9, HEADS):
            weight = contextual.position_map[offset, head]
            constant = contextual.position_constant[offset, head]
            bias[offset, query, head] = torch.cat(unit) @ weight + constant
    relative.load_state_dict(shared | {"position_bias": bias.detach().flatten(1)})
    x = tokens((7, 5))
    assert_close(contextual(x), relative(x), 1e-12, "contextual")
    maps = [layer.learnt_maps()["window"] for layer in (contextual, relative)]
    assert_close(*maps, 1e-12, "learnt maps")


@pytest.mark.parametrize("position", ["relative", "absolute", "contextual"])
def test_positions_start_without_effect_and_are_spared_weight_decay(position) -> None:
    torch.manual_seed(5)
    layer = QnA(DIM, HEADS, (7, 5), position=position).double()
    plain = QnA(DIM, HEADS, (7, 5), position="none").double()
    tables = dict(layer.named_parameters()).keys() - dict(plain.named_parameters()).keys()
    assert tables
    assert tables <= layer.no_weight_decay
    plain.load_state_dict(layer.state_dict(), strict=False)
    assert torch.equal(layer(tokens((7, 5))), plain(tokens((7, 5))))


@pytest.mark.parametrize("position", ["absolute", "contextual"])
def test_position_bias_keeps_its_precision_under_autocast(position) -> None:
    layer = build(qna(position=position), (7, 5)).float()
    with torch.no_grad():  # scores 0: all that is left of the window weights is the position bias
        layer.key.weight.zero_()
        layer.value.weight.copy_(torch.eye(DIM))
        layer.proj.weight.copy_(torch.eye(DIM))
    x = tokens((7, 5)).bfloat16().float()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert torch.equal(out, layer(x).bfloat16())


def test_attention_scales() -> None:
    def scale(mode: str, queries: int = 2) -> Tensor:
        return QnA(4, 2, (3, 3), attention_scale=mode, num_queries=queries).scale

    assert torch.equal(scale("ones"), torch.ones(9, 4))
    assert torch.equal(scale("posneg", 3), torch.tensor([[1.0, 1, 1, -1, -1, -1]]))
    assert torch.equal(scale("avg", 4), torch.full((1, 8), 0.25))
    assert torch.equal(scale("none"), torch.ones(1, 4))
    assert scale("normal").shape == (9, 4)
    assert scale("normal_elementwise").shape == (1, 4)
    learnt = {
        mode
        for mode in ("normal", "normal_elementwise", "ones", "posneg", "avg", "none")
        if isinstance(scale(mode), nn.Parameter)
    }
    assert learnt == {"normal", "normal_elementwise", "ones"}


def test_initial_values_and_parameter_count() -> None:
    torch.manual_seed(0)
    layer = QnA(96, 4, (5, 5), out_dim=128, kernel_size=7, num_queries=16)
    sigma = math.sqrt(1 / 32)
    assert layer.query.abs().max() <= 2 * sigma
    assert layer.query.std().item() == pytest.approx(0.8796 * sigma, rel=0.05)
    assert layer.scale.std().item() == pytest.approx(0.02, rel=0.05)
    assert not layer.position_bias.any()
    for linear, fan_in in ((layer.key, 96), (layer.value, 96), (layer.proj, 128)):
        assert linear.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.05)
    count = sum(parameter.numel() for parameter in layer.parameters())
    assert count == 2 * 96 * 128 + 128**2 + 16 * 128 + 2 * 49 * 16 * 4
    assert layer.no_weight_decay >= {"query", "scale", "position_bias", "position_embedding"}


@pytest.mark.parametrize("grid", [(7, 5), (3, 7, 5)])
def test_learnt_maps_are_the_offset_weights_of_each_head(grid) -> None:
    layer = build(qna(kernel_size=3), grid)
    maps = layer.learnt_maps()["window"]
    assert maps.shape == (2 * HEADS, 3, 3)
    assert not maps.requires_grad
    middle = 9 * (len(grid) - 2)  # the offsets of the middle frame start here
    row, column, index = 2, 1, 4
    offset = middle + 3 * row + column
    expected = layer.scale[offset, index] * layer.position_bias[offset, index].exp()
    assert maps[index, row, column].item() == pytest.approx(expected.item())


def test_even_window_with_given_padding() -> None:
    layer = build(qna(kernel_size=4, padding=2), (7, 5), 3)
    x = tokens((7, 5))
    assert layer.out_grid((7, 5)) == (3, 2)
    assert_close(layer(x), layer.reference(x), 1e-12, "even window")


def test_flops_are_those_of_the_defining_sums() -> None:
    layer = QnA(12, 3, (7, 5), 2, kernel_size=(3, 4))
    assert layer.uncounted_flops((7, 5)) == 2 * 4 * 3 * 12 * 2 * (12 + 3)
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(1, 7, 5, 12))
    folding, projections = 2 * 2 * 12 * 12, 2 * 35 * 12 * (6 + 12) + 2 * 4 * 3 * 12 * 12
    assert counter.get_total_flops() == folding + projections


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 0}, "kernel_size=0 must be"),
        ({"num_queries": 0}, "num_queries=0"),
        ({"padding": 3}, "padding=3"),
        ({"padding": -1}, "padding=-1"),
        ({"attention_scale": "softmax"}, "attention_scale='softmax'"),
        ({"attention_scale": "posneg", "num_queries": 1}, "columns=3"),
        ({"position": "rotary"}, "position='rotary'"),
        ({"dropout": 1.0}, "dropout=1.0 must lie in"),
        ({"dilation": (1, 2, 3)}, "dilation="),
    ],
)
def test_rejects_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        QnA(DIM, HEADS, (7, 5), **options)


def test_rejects_a_grid_smaller_than_a_window_without_padding() -> None:
    layer = QnA(DIM, HEADS, (7, 5), kernel_size=5, padding=0)
    with pytest.raises(ValueError, match=r"grid=\(7, 4\)"):
        layer(torch.zeros(1, 7, 4, DIM))
