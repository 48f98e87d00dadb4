"""Attention kernels as feature maps: a_nm = phi_q[n] . phi_k[m], the normalisation included."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Queries = Float[Tensor, "batch heads queries key_dim"]
Keys = Float[Tensor, "batch groups keys key_dim"]
PerHead = Float[Tensor, " heads"]
QueryFeatures = Float[Tensor, "#batch heads queries features"]
KeyFeatures = Float[Tensor, "#batch groups keys features"]


def per_head(
    x: Float[Tensor, "batch *grid channels"], heads: int
) -> Float[Tensor, "batch {heads} tokens width"]:
    """Split the channels of tokens, in row-major order, among the heads."""
    return torch.unflatten(x.flatten(1, -2), -1, (heads, -1)).transpose(1, 2)


def _grouped(queries: Tensor, groups: int) -> Tensor:
    """Split the heads into the groups that share a key."""
    return torch.unflatten(queries, 1, (groups, -1))


def _double_softmax(q: Tensor, k: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    return (temperature * q).softmax(-1), k.softmax(-2)


def _l2(q: Tensor, k: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    return temperature / k.shape[-2] * F.normalize(q, dim=-1), F.normalize(k, dim=-1)


def _elu_plus_one(x: Tensor) -> Tensor:
    # Not F.elu: it loses exp(x) below -17 in float32, and the strides of its gradient are not those
    # that compilers foresee for heads that lie side by side (PyTorch 2.13).
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def _elu(q: Tensor, k: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    phi_q, phi_k = _elu_plus_one(temperature * q), _elu_plus_one(k)
    total = torch.einsum("bgpnc,bgc->bgpn", _grouped(phi_q, k.shape[1]), phi_k.sum(-2))
    # Far below zero, exp and its gradient vanish: such a query attends to nothing, not to NaN.
    return phi_q / total.flatten(1, 2).unsqueeze(-1).clamp_min(1e-15), phi_k


def _softmax(q: Tensor, k: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    # No finite feature map exists: the rows of the map stand in for it, with one-hot keys.
    logits = torch.einsum("bgpnc,bgmc->bgpnm", _grouped(q, k.shape[1]), k).flatten(1, 2)
    one_hot = torch.eye(k.shape[-2], dtype=q.dtype, device=q.device)
    return (temperature * logits / math.sqrt(q.shape[-1])).softmax(-1), one_hot.expand(
        1, k.shape[1], -1, -1
    )


FEATURE_MAPS: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "double_softmax": _double_softmax,
    "l2": _l2,
    "elu": _elu,
    "softmax": _softmax,
}

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda scores: scores,
    "softmax": lambda scores: scores.softmax(-1),
    "tanh": torch.tanh,
}


def features(
    q: Queries, k: Keys, temperature: PerHead, kernel: str
) -> tuple[QueryFeatures, KeyFeatures]:
    """Return phi_q and phi_k of the attention kernel a_nm = phi_q[n] . phi_k[m].

    ===============  ==============================  ======================  ===========
    kernel           phi_q[n]                        phi_k[m]                sum_m a_nm
    ===============  ==============================  ======================  ===========
    double_softmax   softmax over channels of tau q  softmax over the tokens  1
    l2               tau q / (|q| N)                 k / |k|                  any, signed
    elu              elu(tau q) + 1, over its sum    elu(k) + 1               1
    softmax          row n of softmax(tau qk/sqrt c) one-hot m (N features)   1
    ===============  ==============================  ======================  ===========

    The exponentials and sums run in float32 at least; the result has the type of `q`.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    with torch.autocast(q.device.type, enabled=False):
        phi_q, phi_k = FEATURE_MAPS[kernel](
            q.to(wide), k.to(wide), temperature.to(wide)[:, None, None]
        )
    return phi_q.to(q.dtype), phi_k.to(q.dtype)


def attention(
    phi_q: QueryFeatures, phi_k: KeyFeatures
) -> Float[Tensor, "batch heads queries keys"]:
    """Return the attention kernel a as a matrix per head."""
    grouped = _grouped(phi_q, phi_k.shape[1])
    return torch.einsum("bgpnc,bgmc->bgpnm", grouped, phi_k).flatten(1, 2)


def linear_attention(
    phi_q: QueryFeatures, phi_k: KeyFeatures, v: Float[Tensor, "batch heads keys value_dim"]
) -> Float[Tensor, "batch heads queries value_dim"]:
    """Return sum_m a_nm v_m, summed over m before n meets it: O(N)."""
    groups = phi_k.shape[1]
    summary = torch.einsum("bgmc,bgpmd->bgpcd", phi_k, _grouped(v, groups))
    return torch.einsum("bgpnc,bgpcd->bgpnd", _grouped(phi_q, groups), summary).flatten(1, 2)


def pattern_scores(
    phi_q: QueryFeatures,
    encoded_keys: Float[Tensor, "#batch groups rpes features queries"],
    prior: Float[Tensor, "batch heads queries rpes"],
    activation: str,
) -> Float[Tensor, "batch heads queries rpes"]:
    """Return s = f(phi_q . (E_r * phi_k) + prior): how strongly each pattern is present at n."""
    grouped = _grouped(phi_q, encoded_keys.shape[1])
    encoded = torch.einsum("bgpnc,bgrcn->bgpnr", grouped, encoded_keys).flatten(1, 2)
    return ACTIVATIONS[activation](encoded + prior)
