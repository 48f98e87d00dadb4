"""The peers compute one function: that of a loop over tokens, in output and every gradient."""

import math
import sys
import types

import pytest
import torch
from torch import Tensor

from attnlab.bench.local_attention import (
    FlexAttention,
    LocalAttention,
    MaskedAttention,
    Natten,
    SlidingAttention,
    UnfoldedAttention,
)

DIM, GRID = 64, (5, 7)
PLAIN = [UnfoldedAttention, SlidingAttention, MaskedAttention]


class Loop(LocalAttention):
    """The definition, token by token."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        reach, (rows, columns) = self.kernel_size // 2, self.grid
        out = torch.empty_like(q)
        for i in range(rows):
            for j in range(columns):
                window = (
                    slice(None),
                    slice(max(0, i - reach), i + reach + 1),
                    slice(max(0, j - reach), j + reach + 1),
                )
                keys, values = k[window].flatten(1, 2), v[window].flatten(1, 2)
                scores = torch.einsum("bhd,bnhd->bnh", q[:, i, j], keys) / math.sqrt(q.shape[-1])
                out[:, i, j] = torch.einsum("bnh,bnhd->bhd", scores.softmax(1), values)
        return out


def same(layer: type[LocalAttention], kernel_size: int) -> tuple[LocalAttention, LocalAttention]:
    torch.manual_seed(3)
    loop = Loop(DIM, GRID, kernel_size).double()
    peer = layer(DIM, GRID, kernel_size).double()
    peer.load_state_dict(loop.state_dict(), strict=True)
    return peer, loop


def tokens() -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(2, *GRID, DIM, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 13])
@pytest.mark.parametrize("layer", PLAIN)
def test_parity_with_the_loop(layer: type[LocalAttention], kernel_size: int) -> None:
    peer, loop = same(layer, kernel_size)
    assert peer.heads == 2
    results = []
    for module in (peer, loop):
        x = tokens().requires_grad_()
        out = module(x)
        wanted = [x, *module.parameters()]
        results.append([out, *torch.autograd.grad(out, wanted, torch.cos(tokens()))])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


# Uncompiled here: compilation changes how, not what, and takes ten seconds.
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.filterwarnings("ignore:return_lse is deprecated:FutureWarning")
def test_flex_attention_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    peer, loop = same(FlexAttention, 3)
    with torch.no_grad():
        torch.testing.assert_close(peer(tokens()), loop(tokens()), rtol=1e-9, atol=1e-10)


def test_natten_gets_tokens_with_heads_behind_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    natten = types.ModuleType("natten")

    def na2d(q: Tensor, k: Tensor, v: Tensor, kernel_size: int, torch_compile: bool) -> Tensor:
        assert kernel_size == 3
        assert not torch_compile
        dense, _ = same(MaskedAttention, kernel_size)
        return dense.attend(q, k, v)

    natten.na2d = na2d
    monkeypatch.setitem(sys.modules, "natten", natten)
    peer, loop = same(Natten, 3)
    torch.testing.assert_close(peer(tokens()), loop(tokens()), rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="kernel_size=7 must not exceed"):
        Natten(DIM, GRID, 7)


@pytest.mark.parametrize("layer", PLAIN)
def test_refuses_what_has_no_centre_or_no_heads(layer: type[LocalAttention]) -> None:
    with pytest.raises(ValueError, match="kernel_size=4"):
        layer(DIM, GRID, 4)
    with pytest.raises(ValueError, match="dim=40"):
        layer(40, GRID, 3)
