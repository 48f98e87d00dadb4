"""QnA with masks, dropout, conditions and more tokens out than in."""

import functools

import pytest
import torch
from torch import Tensor

from attnlab.operators.base import MixerFactory
from attnlab.operators.qna import ConditionedQnA, QnA, UpsamplingQnA
from tests.operators.contract import DIM, assert_close, build, gradients, tokens

GRID = (7, 5)


def some_ignored(grid=GRID) -> Tensor:
    generator = torch.Generator().manual_seed(43)
    ignored = torch.rand(2, *grid, generator=generator) < 0.5
    ignored[1, :4] = True  # windows without any token
    return ignored


CONDITION = torch.randn(2, 5, generator=torch.Generator().manual_seed(47), dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "grid", "arguments"),
    [
        (QnA, GRID, {"key_padding_mask": some_ignored()}),
        (functools.partial(ConditionedQnA, condition_dim=5), GRID, {"condition": CONDITION}),
        (
            functools.partial(ConditionedQnA, condition_dim=5, position="none", kernel_size=(2, 3)),
            GRID,
            {"condition": CONDITION, "key_padding_mask": some_ignored()},
        ),
        (UpsamplingQnA, GRID, {"key_padding_mask": some_ignored()}),
        (functools.partial(UpsamplingQnA, factor=3, num_queries=1, kernel_size=4), GRID, {}),
        (functools.partial(UpsamplingQnA, attention_scale="ones"), (3, 5, 2), {}),
    ],
)
def test_variants_are_their_reference_in_output_and_every_gradient(make, grid, arguments) -> None:
    mixer, x = build(make, grid), tokens(grid)
    expected, expected_grads = gradients(lambda x: mixer.reference(x, **arguments), mixer, x)
    actual, grads = gradients(lambda x: mixer(x, **arguments), mixer, x)
    assert actual.shape == (2, *mixer.out_grid(grid), DIM)
    assert_close(actual, expected, 1e-12, "output")
    for name, grad in grads.items():
        assert expected_grads[name].any(), name
        assert_close(grad, expected_grads[name], 1e-11, name)


def test_without_a_condition_the_kernel_is_that_of_the_learned_queries() -> None:
    layer, x = build(functools.partial(ConditionedQnA, condition_dim=5), GRID), tokens(GRID)
    weights = layer.token_weights(x, torch.arange(35))
    values = layer.value(x).flatten(1, 2).unflatten(-1, (weights.shape[1], -1))
    mixed = torch.einsum("bhnm,bmhd->bnhd", weights, values).flatten(2)
    assert_close(layer.proj(mixed).view_as(x), layer(x), 1e-12, "kernel")


def test_kernels_of_places_inside_a_token_are_not_shown() -> None:
    with pytest.raises(ValueError, match="UpsamplingQnA does not show its kernel over tokens"):
        build(UpsamplingQnA, GRID).token_weights(tokens(GRID), torch.tensor([0]))


def test_ignored_tokens_count_for_nothing() -> None:
    layer, x, ignored = build(QnA, GRID), tokens(GRID), some_ignored()
    out = layer(x, ignored)
    other = x.clone()
    other[ignored] = 1e3
    assert torch.equal(layer(other, ignored), out)
    reached = torch.nn.functional.max_pool2d((~ignored).double().unsqueeze(1), 3, 1, 1)[:, 0] > 0
    assert (~reached).any()
    assert torch.equal(out.abs().amax(-1) > 0, reached)
    cropped = torch.ones(2, *GRID, dtype=torch.bool)
    cropped[:, :4, :3] = False  # as a smaller image in a larger batch
    assert_close(layer(x, cropped)[:, :4, :3], layer(x[:, :4, :3].contiguous()), 1e-12, "cropped")


def test_a_condition_moves_the_queries_of_its_sample_alone() -> None:
    layer = build(functools.partial(ConditionedQnA, condition_dim=5), GRID)
    x = tokens(GRID)
    out = layer(x, condition=CONDITION)
    plain = build(QnA, GRID)
    own = {name: value for name, value in layer.state_dict().items() if name != "condition"}
    for sample, condition in enumerate(CONDITION):
        query = layer.query + (layer.condition @ condition).view_as(layer.query)
        plain.load_state_dict(own | {"query": query})
        assert_close(out[sample], plain(x)[sample], 1e-12, f"sample {sample}")
    plain.load_state_dict(own)
    assert torch.equal(layer(x), plain(x))


def test_conditions_start_without_effect_and_learn() -> None:
    layer = ConditionedQnA(DIM, 3, GRID, condition_dim=5).double()
    x = tokens(GRID)
    out = layer(x, condition=CONDITION)
    assert_close(out, layer(x), 1e-12, "initial")
    out.square().sum().backward()
    assert layer.condition.grad.any()


@pytest.mark.parametrize("factor", [2, 3])
def test_upsampling_places_the_token_of_each_set_inside_its_window_s_token(factor) -> None:
    make: MixerFactory = functools.partial(UpsamplingQnA, factor=factor, num_queries=3)
    layer, x = build(make, GRID), tokens(GRID)
    out = layer(x)
    assert out.shape == (2, 7 * factor, 5 * factor, DIM)
    plain = build(functools.partial(QnA, num_queries=3), GRID)
    own = layer.state_dict()
    for place in range(factor**2):
        queries = slice(3 * place, 3 * place + 3)
        columns = slice(9 * place, 9 * place + 9)
        plain.load_state_dict(
            own
            | {"query": own["query"][queries]}
            | {name: own[name][:, columns] for name in ("scale", "position_bias")}
        )
        row, column = divmod(place, factor)
        assert_close(out[:, row::factor, column::factor], plain(x), 1e-12, f"place {place}")
    assert layer.uncounted_flops(GRID) == factor**2 * plain.uncounted_flops(GRID)


def test_dropout_acts_in_training_alone() -> None:
    layer, x = build(functools.partial(QnA, dropout=0.5), GRID), tokens(GRID)
    assert_close(layer(x), layer.reference(x), 1e-12, "evaluation")
    layer.train()
    assert not torch.equal(layer(x), layer(x))
    torch.manual_seed(0)
    out = layer(x)
    torch.manual_seed(0)
    assert torch.equal(layer(x), out)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (ConditionedQnA, {"condition_dim": 0}, "condition_dim=0 must be at least 1"),
        (ConditionedQnA, {"condition_dim": 2, "position": "absolute"}, "position='absolute' must"),
        (UpsamplingQnA, {"factor": 0}, "factor=0 must be at least 1"),
        (UpsamplingQnA, {"stride": 2}, "stride=2 must be 1"),
        (UpsamplingQnA, {"num_queries": 0}, "num_queries=0 must be at least 1"),
        (UpsamplingQnA, {"attention_scale": "avg"}, "attention_scale='avg' must not depend"),
    ],
)
def test_refuses(make, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        make(DIM, 3, GRID, **options)
