import numpy as np
import pytest
import torch
from torch import Tensor

from attnlab.operators.lisa.kernels import attention, features, linear_attention, pattern_scores

HEADS, GROUPS, QUERIES, KEYS, KEY_DIM = 6, 2, 5, 7, 3


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    q = torch.randn(2, HEADS, QUERIES, KEY_DIM, generator=generator, dtype=torch.float64)
    k = torch.randn(2, GROUPS, KEYS, KEY_DIM, generator=generator, dtype=torch.float64)
    return q, k, torch.linspace(0.5, 2, HEADS, dtype=torch.float64)


def entry(kernel: str, b: int, h: int, n: int, m: int) -> float:
    """Return a_nm of one sample and head, from the definition."""
    q, k, temperature = (t.numpy() for t in inputs())
    q, k, tau = q[b, h, n], k[b, h // (HEADS // GROUPS)], temperature[h]
    if kernel == "double_softmax":
        phi_q, phi_k = np.exp(tau * q), np.exp(k)
        return float(phi_q / phi_q.sum() @ (phi_k / phi_k.sum(0))[m])
    if kernel == "l2":
        return float(tau * q @ k[m] / np.sqrt((q @ q) * (k[m] @ k[m])) / KEYS)
    if kernel == "elu":
        phi = [np.where(z > 0, z + 1, np.exp(z)) for z in (tau * q, k)]
        return float(phi[0] @ phi[1][m] / (phi[0] @ phi[1].sum(0)))
    weights = np.exp(tau * k @ q / np.sqrt(KEY_DIM))
    return float(weights[m] / weights.sum())


@pytest.mark.parametrize("kernel", ["double_softmax", "l2", "elu", "softmax"])
def test_attention_kernel_by_hand(kernel: str) -> None:
    a = attention(*features(*inputs(), kernel))
    assert a.shape == (2, HEADS, QUERIES, KEYS)
    for b, h, n, m in [(0, 0, 0, 0), (1, 2, 4, 6), (0, 3, 1, 5), (1, 5, 3, 2)]:
        assert a[b, h, n, m].item() == pytest.approx(entry(kernel, b, h, n, m), rel=1e-12)


@pytest.mark.parametrize("kernel", ["double_softmax", "elu", "softmax"])
def test_attention_sums_to_one_without_a_sign(kernel: str) -> None:
    a = attention(*features(*inputs(), kernel))
    assert (a >= 0).all()
    assert (a.sum(-1) - 1).abs().max() < 1e-14


def test_l2_is_signed() -> None:
    a = attention(*features(*inputs(), "l2"))
    assert a.min() < 0 < a.max()


@pytest.mark.parametrize("kernel", ["double_softmax", "l2", "elu", "softmax"])
def test_linear_attention_sums_values_by_the_kernel(kernel: str) -> None:
    phi_q, phi_k = features(*inputs(), kernel)
    v = torch.randn(2, HEADS, KEYS, 4, dtype=torch.float64)
    a = attention(phi_q, phi_k)
    expected = (a.unsqueeze(-1) * v.unsqueeze(2)).sum(3)
    torch.testing.assert_close(linear_attention(phi_q, phi_k, v), expected)


def test_patterns_move_scores_by_at_most_their_largest_entry() -> None:
    """As sum_m a_nm = 1 and a >= 0: |s - prior| <= max |E|, reached by a constant table."""
    phi_q, phi_k = features(*inputs(), "double_softmax")
    prior = torch.randn(2, HEADS, QUERIES, 2, dtype=torch.float64)
    encoding = torch.randn(GROUPS, 2, QUERIES, KEYS, dtype=torch.float64)
    encoding[:, 1] = -0.7
    encoded_keys = torch.einsum("grnm,bgmc->bgrcn", encoding, phi_k)
    moved = (pattern_scores(phi_q, encoded_keys, prior, "identity") - prior).abs()
    assert 0 < moved[..., 0].max() <= encoding[:, 0].abs().max()
    torch.testing.assert_close(moved[..., 1], torch.full_like(moved[..., 1], 0.7))


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("identity", [0.5, -1.0, 2.0]),
        ("softmax", [0.175_290_392, 0.039_112_573, 0.785_597_035]),
        ("tanh", [0.462_117_157, -0.761_594_156, 0.964_027_580]),
    ],
)
def test_activation_acts_over_the_patterns_of_a_token(activation: str, expected: list) -> None:
    phi_q, encoded_keys = torch.ones(1, 1, 2, 1), torch.zeros(1, 1, 3, 1, 2)
    prior = torch.tensor([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]])[None, None]
    scores = pattern_scores(phi_q, encoded_keys, prior, activation)
    torch.testing.assert_close(scores[0, 0, 0], torch.tensor(expected))


def test_elu_sums_to_one_for_a_query_whose_elu_rounds_to_minus_one() -> None:
    q = torch.full((1, 1, 2, 3), -25.0)
    assert (torch.nn.functional.elu(q) == -1).all()
    a = attention(*features(q, torch.zeros(1, 1, 4, 3), torch.ones(1), "elu"))
    torch.testing.assert_close(a, torch.full((1, 1, 2, 4), 0.25))


def test_elu_survives_a_query_far_below_zero() -> None:
    q = torch.full((1, 1, 2, 3), -50.0, requires_grad=True)
    phi_q, _ = features(q, torch.zeros(1, 1, 4, 3), torch.ones(1), "elu")
    phi_q.sum().backward()
    assert phi_q.isfinite().all()
    assert q.grad is not None
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("kernel", ["double_softmax", "l2", "elu", "softmax"])
def test_features_are_not_rounded_by_autocast(kernel: str) -> None:
    q, k, temperature = (t.float() for t in inputs())
    expected = features(q, k, temperature, kernel)
    with torch.autocast("cpu", torch.bfloat16):
        actual = features(q, k, temperature, kernel)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])
