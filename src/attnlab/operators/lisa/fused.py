"""Launches the fused dense sums: on a GPU, or in Triton's interpreter where that is asked for.

Import it only where it is used: Triton takes long to import, and is not there on every platform.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.lisa.blocked import Inputs
from attnlab.operators.lisa.spread import Geometry, Part, gather
from attnlab.operators.lisa.triton_kernels import key_kernel, mix_kernel, query_kernel
from attnlab.operators.lisa.triton_tables import table_kernel

_TOKENS = 64  # queries, and keys at most, of a tile
_WEIGHTS = 128  # keys times RPEs of a tile: those weights are held at once
_CHANNELS = 128  # channels times samples: those sums are held at once
_WIDE = 2**13  # sums at once that four warps have no registers for
_SAMPLES = 4  # at most, that share the weights that are looked up
_PROGRAMS = 2**12  # some for every multiprocessor
_SHARES_BYTES = 2**25  # of all programs' shares of the gradient of the tables: 32 MiB


def forward(
    inputs: Inputs, grid: Grid, stride: int
) -> Float[Tensor, "batch heads queries value_dim"]:
    """Return sum_m kappa_nm v_m, kappa_nm = sum_r s_nr P_r[d], times a_nm if there are features.

    A token's heads lie side by side.
    """
    batch, heads, queries, _ = inputs.scores.shape
    out = inputs.values.new_empty(batch, queries, heads, inputs.values.shape[-1])
    return _mix(_dense(inputs), out.transpose(1, 2), grid, stride, scored=True)


def backward(
    grad: Float[Tensor, "batch heads queries value_dim"], inputs: Inputs, grid: Grid, stride: int
) -> Inputs:
    """Return the gradients of the inputs."""
    inputs, grad = _dense(inputs), _packed(grad)
    scores, values, _, phi_q, phi_k = inputs
    of_scores, of_phi_q = (
        torch.empty_like(scores),
        None if phi_q is None else phi_q.new_empty(phi_q.shape),
    )
    constants = _constants(inputs, scores.shape[1], grid, stride)
    programs = _programs(constants, len(values), scores.shape[2], 0)
    with torch.cuda.device_of(values):  # type: ignore[no-untyped-call]
        query_kernel[programs](
            *inputs, grad, of_scores, of_phi_q,
            _steps(scores, values, phi_q, phi_k, grad, of_scores, of_phi_q), len(values),
            **constants,
        )  # fmt: skip
    of_values, of_phi_k = _of_keys(grad, inputs, grid, stride, scored=True)
    of_tables = _of_tables(grad, inputs, grid, stride, scored=True)
    return Inputs(of_scores, of_values, of_tables, of_phi_q, of_phi_k)


def encode(
    phi_q: Float[Tensor, "batch heads queries features"],
    phi_k: Float[Tensor, "batch groups keys features"],
    tables: Float[Tensor, "groups rpes *offsets"],
    grid: Grid,
    stride: int,
) -> tuple[
    Float[Tensor, "batch heads queries rpes"],
    Float[Tensor, "batch groups queries rpes features"],
]:
    """Return phi_q . (E_r * phi_k), and E_r * phi_k: that of each table as if it were a head's."""
    groups, rpes = tables.shape[:2]
    shape = (len(phi_k), groups * rpes, phi_q.shape[2], phi_k.shape[-1])
    out = phi_k.new_empty(shape, dtype=torch.float32)
    out = _mix(_of_one(phi_k, tables), out, grid, stride, scored=False)
    encoded = torch.unflatten(out, 1, (groups, rpes)).transpose(2, 3)
    queries = torch.unflatten(phi_q, 1, (groups, -1))
    scores = torch.einsum("bgpnc,bgnrc->bgpnr", queries.to(encoded.dtype), encoded)
    return scores.flatten(1, 2), encoded


def encode_backward(
    grad: Float[Tensor, "batch heads queries rpes"],
    phi_q: Float[Tensor, "batch heads queries features"],
    phi_k: Float[Tensor, "batch groups keys features"],
    tables: Float[Tensor, "groups rpes *offsets"],
    encoded: Float[Tensor, "batch groups queries rpes features"],
    grid: Grid,
    stride: int,
) -> tuple[
    Float[Tensor, "batch heads queries features"],
    Float[Tensor, "batch groups keys features"],
    Float[Tensor, "groups rpes *offsets"],
]:
    """Return the gradients of the features and of the tables."""
    groups = len(tables)
    grouped = torch.unflatten(grad.to(encoded.dtype), 1, (groups, -1))
    queries = torch.unflatten(phi_q.to(encoded.dtype), 1, (groups, -1))
    of_phi_q = torch.einsum("bgpnr,bgnrc->bgpnc", grouped, encoded).flatten(1, 2)
    of_encoded = torch.einsum("bgpnr,bgpnc->bgrnc", grouped, queries).flatten(1, 2)
    inputs, of_encoded = _of_one(phi_k, tables), of_encoded.to(phi_k.dtype).contiguous()
    of_phi_k, _ = _of_keys(of_encoded, inputs, grid, stride, scored=False)
    of_tables = _of_tables(of_encoded, inputs, grid, stride, scored=False)
    return of_phi_q, of_phi_k, of_tables.view(tables.shape)


def _of_one(phi_k: Tensor, tables: Tensor) -> Inputs:
    """Return inputs whose every table is alone, without scores."""
    single = tables.flatten(0, 1).unsqueeze(1).contiguous()
    return Inputs(phi_k.new_empty(0), _packed(phi_k), single)


def _mix(inputs: Inputs, out: Tensor, grid: Grid, stride: int, *, scored: bool) -> Tensor:
    scores, values, _, phi_q, phi_k = inputs
    constants = _constants(inputs, out.shape[1], grid, stride)
    programs = _programs(constants, len(out), out.shape[2], 0)
    with torch.cuda.device_of(values):  # type: ignore[no-untyped-call]
        mix_kernel[programs](
            *inputs, out, _steps(scores, values, phi_q, phi_k, out), len(out),
            **constants, SCORED=scored,
        )  # fmt: skip
    return out


def _of_keys(
    grad: Tensor, inputs: Inputs, grid: Grid, stride: int, *, scored: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of values and key features, summed over the heads that share them."""
    scores, values, _, phi_q, phi_k = inputs
    heads, keys = grad.shape[1], values.shape[2]
    kind = values.dtype if heads == values.shape[1] else torch.float32
    of_values = values.new_empty(len(values), keys, heads, values.shape[-1], dtype=kind)
    of_values, of_phi_k = of_values.transpose(1, 2), None
    if phi_k is not None:
        of_phi_k = phi_k.new_empty(len(values), heads, keys, phi_k.shape[-1], dtype=torch.float32)
    constants = _constants(inputs, heads, grid, stride)
    many, few, *rest = constants["BLOCK"]
    constants["BLOCK"] = (few, many, *rest)
    with torch.cuda.device_of(values):  # type: ignore[no-untyped-call]
        key_kernel[_programs(constants, len(values), keys, 1)](
            *inputs, grad, of_values, of_phi_k,
            _steps(scores, values, phi_q, phi_k, grad, of_values, of_phi_k), len(values),
            **constants, SCORED=scored,
        )  # fmt: skip
    if heads != values.shape[1]:
        of_values = torch.unflatten(of_values, 1, (values.shape[1], -1)).sum(2)
    if of_phi_k is not None and phi_k is not None:
        of_phi_k = torch.unflatten(of_phi_k, 1, (phi_k.shape[1], -1)).sum(2)
    return of_values, of_phi_k


def _of_tables(
    grad: Tensor, inputs: Inputs, grid: Grid, stride: int, *, scored: bool
) -> Float[Tensor, "heads rpes *offsets"]:
    """Return the gradient of the tables: shares of programs, added up in a fixed order."""
    scores, values, tables, phi_q, phi_k = inputs
    constants = _constants(inputs, grad.shape[1], grid, stride)
    (_, _, width), (heads, rpes) = constants["GRID"], tables.shape[:2]
    count, offsets = -(-width // stride), tables[0, 0].numel() // (2 * width - 1)
    block = [min(_TOKENS // 2, max(16, _power_of_two(size))) for size in (count, width)]
    constants |= {"BLOCK": (*block, 1, *constants["BLOCK"][3:]), "num_warps": 4}
    tiles = heads * offsets * math.ceil(count / block[0]) * math.ceil(width / block[1])
    most = min(_PROGRAMS // tiles, _SHARES_BYTES // (4 * heads * count * rpes * offsets * width))
    each = max(1, math.ceil(len(values) / max(1, most)))
    many = math.ceil(len(values) / each)
    shares = values.new_empty(many, heads, count, rpes, offsets * width, dtype=torch.float32)
    with torch.cuda.device_of(values):  # type: ignore[no-untyped-call]
        table_kernel[(tiles * many,)](
            scores, values, phi_q, phi_k, grad, shares,
            _steps(scores, values, phi_q, phi_k, grad), len(values), each,
            **constants, SCORED=scored,
        )  # fmt: skip
    of_tables = torch.zeros_like(tables, dtype=torch.float32)
    rows = of_tables.view(heads, rpes, offsets, -1)
    total = shares.sum(0)
    gather(total, Part(total, 0, count), Geometry((1, width), stride), rows)
    return of_tables


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _constants(inputs: Inputs, heads: int, grid: Grid, stride: int) -> dict[str, Any]:
    """Return the constants that all kernels share; images are videos of one frame."""
    rpes, value_dim = inputs.tables.shape[1], inputs.values.shape[-1]
    features = 1 if inputs.phi_k is None else inputs.phi_k.shape[-1]
    groups = heads if inputs.phi_k is None else inputs.phi_k.shape[1]
    channels = max(16, _power_of_two(value_dim))
    tokens = min(_TOKENS, max(16, _power_of_two(math.prod(grid))))
    keys = min(tokens, max(16, _WEIGHTS // _power_of_two(rpes)))
    samples = min(_SAMPLES, max(1, _CHANNELS // channels), _power_of_two(len(inputs.values)))
    if inputs.phi_k is not None:
        samples = 1
    return {
        "GRID": ((1,) * (3 - len(grid)) + tuple(grid)),
        "STRIDE": stride,
        "SHAPE": (rpes, value_dim, features, heads // inputs.values.shape[1], heads // groups),
        "BLOCK": (tokens, keys, samples, channels, max(16, _power_of_two(features))),
        "HEADS": heads,
        "MASKED": inputs.phi_k is not None,
        "num_warps": 8 if tokens * samples * channels >= _WIDE else 4,
        "num_stages": 2,
    }


def _programs(constants: dict[str, Any], batch: int, tokens: int, axis: int) -> tuple[int]:
    block = constants["BLOCK"]
    samples = math.ceil(batch / block[2])
    return (math.ceil(tokens / block[axis]) * samples * constants["HEADS"],)


def _dense(inputs: Inputs) -> Inputs:
    """Return inputs whose channels are dense in memory, in types that can be multiplied."""
    kind = inputs.values.dtype
    phi_q, phi_k = (
        None if item is None else _packed(item.to(kind)) for item in (inputs.phi_q, inputs.phi_k)
    )
    scores, values = _packed(inputs.scores), _packed(inputs.values)
    return Inputs(scores, values, inputs.tables.contiguous(), phi_q, phi_k)


def _packed(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _steps(*tensors: Tensor | None) -> tuple[tuple[int, ...], ...]:
    """Return the steps between samples, heads and tokens of each, 0 where there is none."""
    return tuple(
        (0, 0, 0) if tensor is None or tensor.ndim < 4 else tensor.stride()[:3]
        for tensor in tensors
    )
