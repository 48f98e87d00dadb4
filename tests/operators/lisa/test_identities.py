"""Every identity of the derivation, against sums written out by hand."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from attnlab.operators.lisa import LiSA
from tests.operators.contract import assert_close, gradients

DIM, HEADS, KEY_DIM, RPES = 6, 2, 5, 3
GRIDS = [(5, 3), (2, 3, 4)]
Array = NDArray[np.float64]


@pytest.fixture(params=GRIDS, ids=str)
def grid(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return request.param


@pytest.fixture(params=["none", "fft"])
def approximation(request: pytest.FixtureRequest) -> str:
    return request.param


def layer(grid: tuple[int, ...], approximation: str, **options: object) -> LiSA:
    """Build a layer away from its initial values whose W_O shows the heads side by side."""
    torch.manual_seed(7)
    options = {"num_rpes": RPES, "key_dim": KEY_DIM, **options}
    mixer = LiSA(DIM, HEADS, grid, approximation=approximation, **options).double()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
        mixer.to_out.weight.copy_(torch.eye(DIM))
    return mixer.requires_grad_(False)


def tokens(grid: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(1, *grid, DIM, generator=generator, dtype=torch.float64)


def project(mixer: LiSA, x: Tensor, name: str, heads: int) -> Array:
    """Return one sample's projection as [heads, *grid, channels]."""
    weight = getattr(mixer, name).weight.numpy()
    projected = x[0].numpy() @ weight.T
    return np.moveaxis(projected.reshape(*projected.shape[:-1], heads, -1), -2, 0)


def by_head(y: Tensor) -> Array:
    return np.moveaxis(y[0].numpy().reshape(*y.shape[1:-1], HEADS, -1), -2, 0)


def softmax(x: Array, axis: int | tuple[int, ...]) -> Array:
    weights = np.exp(x - x.max(axis, keepdims=True))
    return weights / weights.sum(axis, keepdims=True)


def convolve(table: Array, x: Array) -> Array:
    """Return sum_m table[p(n) - p(m)] x[m], offset by offset; x is [*grid, channels]."""
    grid, y = x.shape[:-1], np.zeros_like(x)
    positions = list(itertools.product(*map(range, grid)))
    for n, m in itertools.product(positions, positions):
        offset = tuple(a - b + size - 1 for a, b, size in zip(n, m, grid, strict=True))
        y[n] += table[offset] * x[m]
    return y


def attention_map(mixer: LiSA, x: Tensor) -> Array:
    """Return the double-softmax kernel a as [heads, tokens, tokens]."""
    q, k = project(mixer, x, "to_q", HEADS), project(mixer, x, "to_k", 1)[0]
    temperature = mixer.temperature.numpy().reshape(HEADS, 1, 1)
    phi_q = softmax(temperature * q.reshape(HEADS, -1, KEY_DIM), -1)
    return phi_q @ softmax(k.reshape(-1, KEY_DIM), 0).T


def test_constant_encoding_is_a_static_global_convolution(grid, approximation) -> None:
    mixer, x = layer(grid, approximation, content=False, query_weights=False), tokens(grid)
    mixer.encoding.fill_(1)
    v, tables = project(mixer, x, "to_v", HEADS), mixer.composing.numpy().sum(1)
    expected = np.stack([convolve(tables[h], v[h]) for h in range(HEADS)])
    np.testing.assert_allclose(by_head(mixer(x)), expected, rtol=1e-10, atol=1e-12)


def test_no_encoding_is_the_position_lambda(grid, approximation) -> None:
    mixer, x = layer(grid, approximation, content=False), tokens(grid)
    mixer.encoding.zero_()
    q, v = project(mixer, x, "to_q", HEADS), project(mixer, x, "to_v", HEADS)
    scores, tables = mixer.query_weight.numpy(), mixer.composing.numpy()
    expected = np.zeros_like(v)
    for h, r in itertools.product(range(HEADS), range(RPES)):
        expected[h] += (q[h] @ scores[h, :, r])[..., None] * convolve(tables[h, r], v[h])
    np.testing.assert_allclose(by_head(mixer(x)), expected, rtol=1e-10, atol=1e-12)


def test_delta_composing_weights_each_token_by_its_scores(grid, approximation) -> None:
    mixer, x = layer(grid, approximation, content=False), tokens(grid)
    mixer.composing.zero_()
    mixer.composing[(..., *(size - 1 for size in grid))] = 1
    a, q = attention_map(mixer, x), project(mixer, x, "to_q", HEADS)
    encoding, positions = mixer.encoding.numpy()[0], list(itertools.product(*map(range, grid)))
    scores = (q.reshape(HEADS, -1, KEY_DIM) @ mixer.query_weight.numpy()).sum(-1)
    for (i, n), (j, m) in itertools.product(enumerate(positions), enumerate(positions)):
        offset = tuple(s - t + size - 1 for s, t, size in zip(n, m, grid, strict=True))
        scores[:, i] += a[:, i, j] * encoding[(slice(None), *offset)].sum()
    expected = scores.reshape(HEADS, *grid, 1) * project(mixer, x, "to_v", HEADS)
    np.testing.assert_allclose(by_head(mixer(x)), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("switched_off", ["composing", "rpes"])
def test_no_patterns_leave_efficient_linear_attention(grid, approximation, switched_off) -> None:
    """P = 0 and R = 0 are one function: softmax(q) (softmax(k)^T v), content only."""
    options = {"num_rpes": 0} if switched_off == "rpes" else {}
    mixer, x = layer(grid, approximation, **options), tokens(grid)
    mixer.content_gain.fill_(1)
    if switched_off == "composing":
        mixer.composing.zero_()
    v = project(mixer, x, "to_v", HEADS).reshape(HEADS, -1, DIM // HEADS)
    expected = (attention_map(mixer, x) @ v).reshape(HEADS, *grid, -1)
    np.testing.assert_allclose(by_head(mixer(x)), expected, rtol=1e-10, atol=1e-12)


def test_mask_multiplies_the_attention_kernel(grid, approximation) -> None:
    mixer, x = layer(grid, approximation, variant="mask"), tokens(grid)
    a, gates = attention_map(mixer, x), project(mixer, x, "to_gate", HEADS)
    v, tables = project(mixer, x, "to_v", HEADS), mixer.composing.numpy()
    positions = list(itertools.product(*map(range, grid)))
    expected = np.zeros_like(v)
    for (i, n), (j, m) in itertools.product(enumerate(positions), enumerate(positions)):
        offset = tuple(s - t + size - 1 for s, t, size in zip(n, m, grid, strict=True))
        for h in range(HEADS):
            structure = gates[h][n] @ tables[(h, slice(None), *offset)]
            gain = structure + mixer.content_gain[h].item()
            expected[h][n] += a[h, i, j] * gain * v[h][m]
    np.testing.assert_allclose(by_head(mixer(x)), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", ["pattern", "mask"])
def test_circular_shifts_with_its_input_and_fft_does_not(grid, variant) -> None:
    x, axes = tokens(grid), tuple(range(1, len(grid) + 1))
    shift = (1, 2, -1)[: len(grid)]
    errors = {}
    for approximation in ("circular", "fft"):
        mixer = layer(grid, approximation, variant=variant)
        shifted = mixer(x.roll(shift, axes)).roll([-s for s in shift], axes)
        errors[approximation] = ((shifted - mixer(x)).abs().max() / mixer(x).abs().max()).item()
    assert errors["circular"] < 1e-12
    assert errors["fft"] > 1e-2


@pytest.mark.parametrize("variant", ["pattern", "mask"])
def test_circular_is_the_exact_form_with_wrapped_tables(grid, variant) -> None:
    """In the output and all gradients; a periodic entry gathers those of its aliases."""
    circular = layer(grid, "circular", variant=variant).requires_grad_()
    exact = layer(grid, "none", variant=variant).requires_grad_()
    state, x = circular.state_dict(), tokens(grid)
    full = list(itertools.product(*(range(1 - size, size) for size in grid)))
    tables = [name for name in ("encoding", "composing") if name in state]
    for name in tables:
        wrapped = torch.empty_like(exact.state_dict()[name])
        for d in full:
            entry = tuple(i % size for i, size in zip(d, grid, strict=True))
            centred = tuple(i + size - 1 for i, size in zip(d, grid, strict=True))
            wrapped[(..., *centred)] = state[name][(..., *entry)]
        state[name] = wrapped
    exact.load_state_dict(state)
    expected, expected_grads = gradients(exact, exact, x)
    for name in tables:
        gathered = torch.zeros_like(circular.get_parameter(name))
        for d in full:
            entry = tuple(i % size for i, size in zip(d, grid, strict=True))
            centred = tuple(i + size - 1 for i, size in zip(d, grid, strict=True))
            gathered[(..., *entry)] += expected_grads[name][(..., *centred)]
        expected_grads[name] = gathered
    actual, grads = gradients(circular, circular, x)
    assert_close(actual, expected, 1e-10, "output")
    for name, grad in grads.items():
        assert_close(grad, expected_grads[name], 1e-9, f"d{name}")


@pytest.mark.parametrize("variant", ["pattern", "mask"])
def test_split_gives_each_pattern_its_own_channels(grid, variant) -> None:
    split = layer(grid, "split", variant=variant, content=False)
    whole = layer(grid, "none", variant=variant, content=False)
    x, expected = tokens(grid), np.zeros((HEADS, *grid, RPES))
    for r in range(RPES):  # three channels a head, one for each pattern
        whole.load_state_dict(split.state_dict())
        whole.composing[:, torch.arange(RPES) != r] = 0
        expected[..., r] = by_head(whole(x))[..., r]
    np.testing.assert_allclose(by_head(split(x)), expected, rtol=1e-10, atol=1e-12)


def test_truncated_is_fft_when_every_frequency_is_kept(grid) -> None:
    whole, kept = layer(grid, "fft"), layer(grid, "truncated", kept_frequencies=1.0)
    part = layer(grid, "truncated", kept_frequencies=0.4)
    x = tokens(grid)
    assert_close(kept(x), whole(x), 1e-12, "all frequencies")
    assert (part(x) - whole(x)).abs().max() > 1e-2 * whole(x).abs().max()


def test_fft_equals_correlation_with_the_flipped_table_at_mid_size() -> None:
    """On 28 x 30 tokens, without an array of N x N: depth-wise correlations as the oracle."""
    size = (28, 30)
    mixer, x = layer(size, "fft", num_rpes=2).requires_grad_(), tokens(size)

    def correlate(tables: Tensor, maps: Tensor) -> Tensor:
        """Return [R, channels, H, W] for tables [R, ...] and maps [channels, H, W]."""
        flipped = tables.flip(-1, -2)[:, None]
        y = F.conv2d(maps[:, None], flipped, padding=(size[0] - 1, size[1] - 1))
        return y.transpose(0, 1)

    def oracle(x: Tensor) -> Tensor:
        maps = x[0].movedim(-1, 0).flatten(1)
        q, v = ((m.weight @ maps).unflatten(0, (HEADS, -1)) for m in (mixer.to_q, mixer.to_v))
        phi_k = (mixer.to_k.weight @ maps).softmax(-1)
        encoded = correlate(mixer.encoding[0], phi_k.unflatten(-1, size)).flatten(-2)
        heads = []
        for h in range(HEADS):
            phi_q = (mixer.temperature[h] * q[h]).softmax(0)
            scores = (phi_q * encoded).sum(1) + mixer.query_weight[h].T @ q[h]
            composed = correlate(mixer.composing[h], v[h].unflatten(-1, size)).flatten(-2)
            content = (v[h] @ phi_k.T) @ phi_q
            heads.append((scores[:, None] * composed).sum(0) + mixer.content_gain[h] * content)
        y = mixer.to_out.weight @ torch.cat(heads)
        return y.unflatten(-1, size).movedim(0, -1)[None]

    expected, expected_grads = gradients(oracle, mixer, x)
    actual, grads = gradients(mixer, mixer, x)
    assert_close(actual, expected, 1e-10, "output")
    for name, grad in grads.items():
        assert_close(grad, expected_grads[name], 1e-9, f"d{name}")
