"""The dense sums block by block: never more of an N x N array at once than fits a cache.

The backward builds each block of the kernel again.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from attnlab.operators.base import Grid
from attnlab.operators.lisa.shapes import KeyFeatures, Output, QueryFeatures
from attnlab.operators.lisa.spread import At, Geometry, gather, spread

Encoding = Float[Tensor, "groups rpes *offsets"]
Scores = Float[Tensor, "batch heads queries rpes"]
EncodedKeys = Float[Tensor, "batch groups queries rpes features"]


class Inputs(NamedTuple):
    """What `forward` sums; `backward` returns the gradients in the same places.

    Attributes:
        scores: s, ``[batch, heads, queries, rpes]``.
        values: v, ``[batch, heads, keys, value_dim]``.
        tables: P over offsets, ``[heads, rpes, *offsets]``.
        phi_q: Query features, ``[batch, heads, queries, features]``, None without attention.
        phi_k: Key features, ``[batch, groups, keys, features]``, likewise.
    """

    scores: Tensor
    values: Tensor
    tables: Tensor
    phi_q: Tensor | None = None
    phi_k: Tensor | None = None

    def zeros(self) -> "Inputs":
        """Return zeros to add gradients to; of values, head by head, what is to be filled."""
        others = self._replace(values=self.values[:0])
        rest: Any = (None if item is None else item.new_zeros(item.shape) for item in others)
        values = self.values.new_empty(self.values.transpose(0, 1).shape).transpose(0, 1)
        return Inputs(*rest)._replace(values=values)

    def features(self, geometry: Geometry, at: At) -> tuple[Tensor, Tensor]:
        """Return the query and key features of a block."""
        assert self.phi_q is not None
        assert self.phi_k is not None
        group = at[1] * self.phi_k.shape[1] // self.phi_q.shape[1]
        return geometry.by_row(self.phi_q)[at], self.phi_k[at[0], group]


class Room:
    """Memory for products, by name: new memory for each would cost more than they do."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._memory: dict[str, Tensor] = {}

    def product(self, name: str, left: Tensor, right: Tensor) -> Tensor:
        """Return the product, in memory that the next of its name will overwrite."""
        shape = (left.shape[0], left.shape[1], right.shape[2])
        size = math.prod(shape)
        if name not in self._memory or len(self._memory[name]) < size:
            self._memory[name] = self._like.new_empty(size)
        out: Tensor = torch.bmm(left, right, out=self._memory[name][:size].view(shape))
        return out


def forward(inputs: Inputs, grid: Grid, stride: int) -> Output:
    """Return sum_m kappa_nm v_m, kappa_nm = sum_r s_nr P_r[d], times a_nm if there are features."""
    geometry = Geometry.of(inputs.tables, grid, stride)
    scores, values = geometry.by_row(inputs.scores), inputs.values
    batch, heads, _, value_dim = values.shape
    out = values.new_empty(batch, geometry.rows, geometry.inner, heads, value_dim)
    room = Room(values)
    for part in spread(inputs.tables, geometry):
        for at, seen in part.blocks(geometry, batch):
            kappa = room.product("kappa", scores[at].transpose(0, 1), part.spread[seen])
            kappa = kappa.transpose(0, 1)
            if inputs.phi_q is not None:
                kappa *= _attention(*inputs.features(geometry, at))
            samples, head, row, queries = at
            out[samples, row, queries, head] = room.product("out", kappa, values[samples, head])
    return out.flatten(1, 2).transpose(1, 2)


def backward(grad_out: Output, inputs: Inputs, grid: Grid, stride: int) -> Inputs:
    """Return the gradients of the inputs."""
    geometry = Geometry.of(inputs.tables, grid, stride)
    grads = inputs.zeros()
    scores, of_scores = geometry.by_row(inputs.scores), geometry.by_row(grads.scores)
    grad_out, values, room = geometry.by_row(grad_out), inputs.values, Room(inputs.values)
    for part in spread(inputs.tables, geometry):
        of_part = torch.zeros_like(part.spread)
        for at, seen in part.blocks(geometry, len(values)):
            weights, grad, each = part.spread[seen], grad_out[at], scores[at].transpose(0, 1)
            kappa = room.product("kappa", each, weights).transpose(0, 1)
            of_kappa = room.product("of_kappa", grad, values[at[:2]].mT)
            if inputs.phi_q is not None:
                features = (*inputs.features(geometry, at), *grads.features(geometry, at))
                kappa, of_kappa = _through_attention(kappa, of_kappa, *features)
            first = part.first == at[2] == 0
            grads.values[at[:2]].baddbmm_(kappa.mT, grad, beta=0 if first else 1)
            by_query = of_kappa.transpose(0, 1)
            of_scores[at] = room.product("of_scores", by_query, weights.mT).transpose(0, 1)
            of_part[seen] += room.product("of_weights", each.mT, by_query)
        gather(of_part, part, geometry, grads.tables)
    return grads


def _attention(
    phi_q: Float[Tensor, "batch queries features"], phi_k: Float[Tensor, "batch keys features"]
) -> Float[Tensor, "batch queries keys"]:
    return phi_q @ phi_k.mT


def _through_attention(
    structure: Tensor, of_kappa: Tensor, phi_q: Tensor, phi_k: Tensor, of_q: Tensor, of_k: Tensor
) -> tuple[Tensor, Tensor]:
    """Return kappa and the gradient of `structure`; add to those of the features."""
    attention, of_attention = _attention(phi_q, phi_k), of_kappa * structure
    of_q += of_attention @ phi_k
    of_k += of_attention.mT @ phi_q
    return attention * structure, attention * of_kappa


def encode(
    phi_q: QueryFeatures, phi_k: KeyFeatures, tables: Encoding, grid: Grid, stride: int
) -> tuple[Scores, EncodedKeys]:
    """Return phi_q . (E_r * phi_k), and E_r * phi_k = sum_m E_r[d] phi_k[m]."""
    geometry = Geometry.of(tables, grid, stride)
    columns, (groups, rpes) = _columns(phi_k), tables.shape[:2]
    shape = (len(phi_k), groups, geometry.rows, geometry.inner, rpes, phi_k.shape[-1])
    encoded = phi_k.new_empty(shape)
    for part in spread(tables, geometry):
        for (_, group, row, queries), seen in part.blocks(geometry, 1):
            weights = part.spread[seen]
            found = weights.flatten(0, 1) @ columns[group]
            found = found.view(*weights.shape[:2], len(phi_k), phi_k.shape[-1])
            encoded[:, group, row, queries] = found.movedim(2, 0)
    encoded = encoded.flatten(2, 3)
    scores = _by_token(phi_q, groups) @ encoded.mT
    return scores.transpose(2, 3).flatten(1, 2), encoded


def encode_backward(
    grad_scores: Scores,
    phi_q: QueryFeatures,
    phi_k: KeyFeatures,
    tables: Encoding,
    encoded: EncodedKeys,
    grid: Grid,
    stride: int,
) -> tuple[QueryFeatures, KeyFeatures, Encoding]:
    """Return the gradients of the features and of the tables."""
    geometry = Geometry.of(tables, grid, stride)
    columns, of_tables = _columns(phi_k), tables.new_zeros(tables.shape)
    of_columns = torch.zeros_like(columns)
    by_token = _by_token(grad_scores, len(columns))
    of_phi_q = (by_token @ encoded).transpose(2, 3).flatten(1, 2)
    of_encoded = geometry.by_row(by_token.mT @ _by_token(phi_q, len(columns)))
    for part in spread(tables, geometry):
        of_part = torch.zeros_like(part.spread)
        for (_, group, row, queries), seen in part.blocks(geometry, 1):
            grad = of_encoded[:, group, row, queries].movedim(0, 2).flatten(2).flatten(0, 1)
            of_columns[group].addmm_(part.spread[seen].flatten(0, 1).mT, grad)
            of_part[seen] += (grad @ columns[group].mT).view_as(of_part[seen])
        gather(of_part, part, geometry, of_tables)
    of_phi_k = of_columns.view(*columns.shape[:2], *phi_k.shape[::3]).permute(2, 0, 1, 3)
    return of_phi_q, of_phi_k, of_tables


def _columns(keys: KeyFeatures) -> Float[Tensor, "groups keys columns"]:
    """Return the features of all samples side by side."""
    return keys.permute(1, 2, 0, 3).flatten(2).contiguous()


def _by_token(
    queries: Float[Tensor, "batch heads queries width"], groups: int
) -> Float[Tensor, "batch groups queries shared width"]:
    """Return what the heads of a group have at each token, beside each other."""
    return torch.unflatten(queries, 1, (groups, -1)).transpose(2, 3)
