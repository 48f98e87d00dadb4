"""Cross-covariance attention: the laws, what it cannot see, and values by hand."""

import math
from typing import ClassVar

import pytest
import torch

from attnlab.operators.baselines import CrossCovariance
from tests.operators.contract import OperatorLaws, assert_close, build, tokens


class TestLaws(OperatorLaws):
    variants: ClassVar = {"cross_covariance": CrossCovariance}
    shows_weights = False  # no token weighs another's values, only channels do


def plain(heads: int = 1) -> CrossCovariance:
    """Return the operator on one row of tokens of 4 channels, every linear map the identity."""
    mixer = CrossCovariance(4, heads, (1, 2)).double()
    with torch.no_grad():
        mixer.query_key.weight.copy_(torch.eye(4).repeat(2, 1))
        mixer.value.weight.copy_(torch.eye(4))
        mixer.proj.weight.copy_(torch.eye(4))
    return mixer


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_weights_by_hand(temperature: float) -> None:
    """Two channels a head: the weight on itself is sigmoid(τ (1 - cos)) of their angle."""
    mixer = plain(heads=2)
    with torch.no_grad():
        mixer.temperature[1] = temperature
    # as columns over three tokens: lengths 3 and 5 with product 12; lengths 13 and 1, product 5
    columns = [[1, 2, 2], [0, 0, 5], [3, 4, 12], [1 / 3, 2 / 3, -2 / 3]]
    x = torch.tensor(columns, dtype=torch.float64).T.view(1, 1, 3, 4)
    angles = [(2 * 5) / (3 * 5), (3 / 3 + 8 / 3 - 24 / 3) / 13]
    own = [1 / (1 + math.exp(-(1 - angles[0]))), 1 / (1 + math.exp(-temperature * (1 - angles[1])))]
    for token in range(3):
        for head in (0, 1):
            first, second = (columns[2 * head + i][token] for i in (0, 1))
            mixed = [own[head] * first + (1 - own[head]) * second]
            mixed += [own[head] * second + (1 - own[head]) * first]
            torch.testing.assert_close(mixer(x)[0, 0, token, 2 * head :][:2].tolist(), mixed)


def test_permutes_with_its_tokens() -> None:
    mixer, x = build(CrossCovariance, (7, 5)), tokens((7, 5))
    shuffle = torch.randperm(35, generator=torch.Generator().manual_seed(2))
    shuffled = x.flatten(1, 2)[:, shuffle].view_as(x)
    expected = mixer(x).flatten(1, 2)[:, shuffle].view_as(x)
    assert_close(mixer(shuffled), expected, 1e-12, "permutation")


def test_does_not_see_how_loud_the_queries_and_keys_are() -> None:
    """Their columns have unit length, so that only the values keep the scale of the tokens."""
    mixer, x = build(CrossCovariance, (7, 5)), tokens((7, 5))
    assert_close(mixer(3 * x), 3 * mixer(x), 1e-12, "scale")


def test_a_stride_keeps_all_tokens_in_the_channels_attention() -> None:
    mixer, x = build(CrossCovariance, (7, 5), stride=2), tokens((7, 5))
    dense = build(CrossCovariance, (7, 5))
    assert_close(mixer(x), dense(x)[:, ::2, ::2], 1e-12, "stride")
    changed = x.clone()
    changed[:, 1, 1] += 1  # no output token sits there
    assert ((mixer(changed) - mixer(x)).abs().amax((0, -1)) > 1e-6).all()


def test_parameters_are_four_square_maps_and_a_temperature_per_head() -> None:
    mixer = CrossCovariance(10, 2, (7, 5), out_dim=14)
    assert sum(p.numel() for p in mixer.parameters()) == 10 * 3 * 14 + 14 * 14 + 2
