"""Where each array of the official QnA code belongs in this package's modules."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attnlab.backbones.blocks import Block
from attnlab.backbones.qna_vit import QnAViT, Stage, StridedProjection
from attnlab.backbones.tables import resize_table
from attnlab.interop.flax_state import flatten
from attnlab.operators.base import Grid
from attnlab.operators.baselines import WindowAttention
from attnlab.operators.qna import QnA
from attnlab.tasks.heads import PooledClassifier, QnAPool

HEAD = "ClassificationHead_0"


@dataclass(frozen=True)
class Slot:
    """One official array: its shape there, and the parameter it becomes.

    Attributes:
        shape: Official shape.
        parameter: The parameter to fill; None if the array is read for nothing.
        axes: Order in which the official axes are taken before they are reshaped.
        grid: Grid of offsets or positions that the array is a table over; None if it is none.
        axis: Axis along which the table runs over that grid, row-major.
    """

    shape: tuple[int, ...]
    parameter: Tensor | None
    axes: tuple[int, ...] | None = None
    grid: Grid | None = None
    axis: int = 0

    def resized(self, array: np.ndarray) -> np.ndarray:
        """Return a table over another square grid sampled on this one, all else as it is."""
        if self.grid is None or array.ndim != len(self.shape):
            return array
        side = math.isqrt(array.shape[self.axis])
        expected = [*self.shape[: self.axis], side**2, *self.shape[self.axis + 1 :]]
        if not side or list(array.shape) != expected or self.grid == (side, side):
            return array
        table = torch.from_numpy(array.astype(np.float32)).view(side, side, -1)
        return resize_table(table, self.grid).reshape(self.shape).numpy()


Slots = dict[str, Slot]


def _listed(names: set[str], most: int = 3) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def fill(slots: Slots, params: Mapping[str, Any], resize: bool = False) -> None:
    """Copy every array into its parameter.

    Args:
        slots: Where each array belongs.
        params: Official parameter name (slash-joined or nested) to array.
        resize: Whether tables over other windows or maps are resized, see `resize_table`.

    Raises:
        ValueError: An array is missing, surplus or of another shape.
    """
    arrays = flatten(params)
    for what, names in (("missing", slots.keys() - arrays), ("surplus", arrays.keys() - slots)):
        if names:
            raise ValueError(f"{what} arrays: {_listed(names)}")
    for name, slot in slots.items():
        array = np.asarray(arrays[name])
        if resize:
            array = slot.resized(array)
        if array.shape != slot.shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {slot.shape}")
        if slot.parameter is not None:
            if slot.axes is not None:
                array = array.transpose(slot.axes)
            values = torch.from_numpy(array.astype(np.float32, order="C"))
            with torch.no_grad():
                slot.parameter.copy_(values.view(slot.parameter.shape))


def prefixed(prefix: str, slots: Slots) -> Slots:
    """Put a module's name before those of its arrays."""
    return {f"{prefix}/{name}": slot for name, slot in slots.items()}


def square(cells: int) -> Grid:
    """Return the grid of a square table, as all official ones are."""
    side = math.isqrt(cells)
    return side, side


def linear_slots(linear: nn.Linear) -> Slots:
    """Return the arrays of a dense layer."""
    slots = {"kernel": Slot((linear.in_features, linear.out_features), linear.weight, (1, 0))}
    if linear.bias is not None:
        slots["bias"] = Slot((linear.out_features,), linear.bias)
    return slots


def norm_slots(norm: nn.LayerNorm) -> Slots:
    """Return the arrays of a layer norm."""
    shape = tuple(norm.normalized_shape)
    return {"scale": Slot(shape, norm.weight), "bias": Slot(shape, norm.bias)}


def convolution_slots(weight: Tensor) -> Slots:
    """Return the array of a convolution without bias, or of a linear layer that stands for it."""
    width, dim, *sides = weight.shape
    rows, columns = sides or (1, 1)
    return {"kernel": Slot((rows, columns, dim, width), weight, (3, 2, 0, 1))}


def qna_slots(layer: QnA) -> Slots:
    """Return the arrays of a QnA layer; a key bias, `Wk_b`, cancels in the softmax."""
    width = layer.query.shape[1]
    slots = {
        "query": Slot((layer.num_queries, width), layer.query),
        "Wk": Slot((layer.dim, width), layer.key.weight, (1, 0)),
        **prefixed("to_v", linear_slots(layer.value)),
        **prefixed("to_out", linear_slots(layer.proj)),
    }
    if layer.value.bias is not None:
        slots["Wk_b"] = Slot((layer.heads, width // layer.heads), None)
    if isinstance(layer.scale, nn.Parameter):
        split = (layer.num_queries, layer.heads)
        columns = split if layer.attention_scale == "ones" else (layer.scale.shape[1],)
        name = "attn_scale_pos" if layer.attention_scale == "ones" else "attn_scale_weights"
        offsets = layer.scale.shape[0]
        # One weight for all offsets is no table.
        grid = None if layer.attention_scale == "normal_elementwise" else square(offsets)
        slots[name] = Slot((1, 1, offsets, *columns), layer.scale, grid=grid, axis=2)
    for name, own in (
        ("rpe_bias", "position_bias"),
        ("absolute_pos_embedding", "position_embedding"),
    ):
        if hasattr(layer, own):
            parameter = layer.get_parameter(own)
            grid = square(parameter.shape[0])
            slots[name] = Slot(tuple(parameter.shape), parameter, grid=grid)
    return slots


def window_attention_slots(layer: WindowAttention) -> Slots:
    """Return the arrays of window attention."""
    table = layer.bias_table
    return {
        **prefixed("to_qkv", linear_slots(layer.qkv)),
        **prefixed("to_out", linear_slots(layer.proj)),
        "RelativePositionalEmbedding_0/rpe_bias": Slot(
            tuple(table.shape), table, grid=square(table.shape[0])
        ),
    }


def block_slots(block: nn.Module) -> Slots:
    """Return the arrays of a block of either mixer."""
    assert isinstance(block, Block)
    mixer = block.mixer
    if isinstance(mixer, QnA):
        slots = prefixed("FusedKQnA_0", qna_slots(mixer))
    else:
        assert isinstance(mixer, WindowAttention)
        slots = prefixed("MultiHeadSelfAttention_0", window_attention_slots(mixer))
    slots |= prefixed("LayerNorm_0", norm_slots(block.norm1))
    slots |= prefixed("LayerNorm_1", norm_slots(block.norm2))
    dense = [module for module in block.mlp if isinstance(module, nn.Linear)]
    for index, linear in enumerate(dense):
        slots |= prefixed(f"MlpBlock_0/Dense_{index}", linear_slots(linear))
    if isinstance(block.skip, StridedProjection):
        slots |= prefixed("Conv_0", convolution_slots(block.skip.linear.weight))
    return slots


def pool_slots(pool: nn.Module) -> Slots:
    """Return the arrays of a head's pool: none for the mean, those of one layer for QnA."""
    if not isinstance(pool, QnAPool):
        return {}
    query, table = pool.query, pool.scale
    grid, columns = tuple(table.shape[:2]), table.shape[2]
    cells = math.prod(grid)
    return {
        "query": Slot(tuple(query.shape), query),
        "Wk": Slot((query.shape[1], query.shape[1]), pool.key.weight, (1, 0)),
        **prefixed("to_v", linear_slots(pool.value)),
        **prefixed("to_out", linear_slots(pool.proj)),
        "attn_scale_weights": Slot((1, 1, cells, columns), table, grid=grid, axis=2),
        "rpe_bias": Slot((cells, columns), pool.position_bias, grid=grid),
    }


def head_slots(norm: nn.LayerNorm, pool: nn.Module, head: nn.Linear) -> Slots:
    """Return the arrays of an official head, to which the final norm belongs."""
    return {
        **prefixed("LayerNorm_0", norm_slots(norm)),
        **prefixed("FusedKQnA_0", pool_slots(pool)),
        **prefixed("head_logits", linear_slots(head)),
    }


def qna_vit_slots(classifier: PooledClassifier) -> Slots:
    """Return the arrays of a whole network: a `QnAViT` with its head."""
    backbone = classifier.backbone
    assert isinstance(backbone, QnAViT)
    slots = {
        **prefixed("StemBlock_0/conv_1x1", convolution_slots(backbone.patch_embed.weight)),
        **prefixed(HEAD, head_slots(backbone.norm, classifier.pool, classifier.head)),
    }
    for index, stage in enumerate(backbone.stages):
        assert isinstance(stage, Stage)
        numbered = [
            (f"LSAStage_{index}/MSA_Block_", stage.local_blocks),
            (f"QnAStage_{index}/QnA_Block_", stage.blocks),
        ]
        blocks = {
            f"{prefix}{n}": block
            for prefix, members in numbered
            for n, block in enumerate(members, start=1)
        }
        if stage.downsample is not None:
            number = len(stage.blocks) + 1
            blocks[f"QnAStage_{index}/QnA_Block_{number}_stride_2"] = stage.downsample
        for name, block in blocks.items():
            slots |= prefixed(name, block_slots(block))
    return slots
