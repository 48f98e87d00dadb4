"""The way in from the official QnA code (JAX/Flax): its parameters in this package's networks.

Names, shapes and options are those of the official code. Flax keeps dense kernels as (in, out),
convolution kernels as (height, width, in, out) and images channels last.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnlab.backbones.blocks import Block, drop_path_rates
from attnlab.backbones.qna_vit import QnAViT
from attnlab.interop.flax_arrays import fill, qna_slots, qna_vit_slots
from attnlab.interop.flax_config import LAYER, POSITIONS, VIT, VIT_STAGES
from attnlab.interop.flax_heads import (
    HEADS,
    OFFICIAL_HEADS,
    Head,
    head_factory,
    named_head,
    stored_classes,
)
from attnlab.interop.flax_options import plain, read_options
from attnlab.interop.flax_published import PUBLISHED, published_name
from attnlab.interop.flax_state import flatten, read_train_state
from attnlab.interop.no_init import NoRandomInit
from attnlab.operators.baselines import WindowAttention
from attnlab.operators.qna import QnA
from attnlab.tasks.heads import PooledClassifier

__all__ = [
    "BatchScaledPositions",
    "load_qna_layer",
    "load_qna_vit",
    "published_name",
    "read_train_state",
]

Config = str | np.ndarray | Mapping[str, Any]
ImageSize = int | tuple[int, int]


class BatchScaledPositions(nn.Module):
    """Multiplies every absolute position embedding by the number of images in the batch.

    The official code does so: it sums the product of query and embedding over the batch, in which
    all queries are the same. Its outputs therefore depend on the batch size, and weights trained
    with one batch size are right for that size only.

    Args:
        network: Network with `QnA` layers of absolute position.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch *out"]:
        """Return the network's output for embeddings times the batch size."""
        scaled = {
            name: x.shape[0] * parameter
            for name, parameter in self.network.named_parameters()
            if name.endswith("position_embedding")
        }
        out: Tensor = torch.func.functional_call(self.network, scaled, (x,))
        return out


def load_qna_layer(config: Config, params: Mapping[str, Any]) -> nn.Module:
    """Return the official `FusedKQnA` layer, a module on [B, H, W, C].

    Args:
        config: The official layer's options and ``C``, its input channels; or their JSON, also as
            the array of it that `numpy.load` returns.
        params: Official parameter name (slash-joined or nested) to array.

    Returns:
        A `QnA`; with ``absolute_pos`` it is wrapped in `BatchScaledPositions`. The position bias of
        ``scale_rpe_bias`` is stored divided, a key bias is left out (it cancels in the softmax).

    Raises:
        ValueError: An option is unknown, missing or not supported, or an array is missing, surplus
            or mis-shaped.
    """
    options = read_options(config, LAYER)
    dim, width, use_bias = options["C"], options["features"], options["use_bias"]
    layer = QnA(
        dim,
        options["heads"],
        (options["kernel_size"], options["kernel_size"]),
        options["stride"],
        out_dim=width,
        kernel_size=options["kernel_size"],
        num_queries=options["n_queries"],
        attention_scale=options["attn_scale"],
        position=POSITIONS[options["pos_embedding_type"]],
        normalize_queries=options["normalize_q"],
        padding=options["padding"],
    )
    layer.value = nn.Linear(dim, width, bias=use_bias)
    layer.out_dim = options["out_features"] or width
    layer.proj = nn.Linear(width, layer.out_dim, bias=use_bias)
    fill(qna_slots(layer), params)
    if options["scale_rpe_bias"] and layer.position == "relative":
        with torch.no_grad():
            layer.position_bias.div_((width / options["heads"]) ** 0.5)
    return BatchScaledPositions(layer) if layer.position == "absolute" else layer


def load_qna_vit(
    config: Config,
    params: Mapping[str, Any],
    num_classes: int | None = None,
    *,
    image_size: ImageSize | None = None,
    head: Head | None = None,
) -> nn.Module:
    """Return an official QnA-ViT, a module from images [B, 3, H, W] to logits.

    Args:
        config: Published name, ``qna_vit_tiny`` for example, or the official configuration or its
            JSON.
        params: Official parameter name (slash-joined or nested) to array, as `read_train_state`
            returns.
        num_classes: Number of logits; as many as the arrays hold when None.
        image_size: Side of the square images, or (height, width), in pixels, that the network is
            to be built for. Tables of the arrays over other windows or maps are then resized, see
            `resize_table`: those of local windows, which for a published name grow with the
            images, and those of a QnA head, whose window is the map. When None every window is
            the arrays' own, and another is an error.
        head: Classification head; when None, what a configuration says, or ``gap`` for a name.

    Returns:
        A `PooledClassifier` in evaluation mode; with ``absolute_pos`` it is wrapped in
        `BatchScaledPositions`.

    Raises:
        ValueError: The name or an option is unknown, missing or not supported, an array is
            missing, surplus or mis-shaped, or a published name comes with the arrays of a QnA
            head, which ``qna`` and ``qna+mean`` share, and no `head`.
    """
    config, arrays = plain(config), flatten(params)
    if head is not None and head not in HEADS:
        raise ValueError(f"{head=} must be one of {', '.join(HEADS)}")
    with NoRandomInit():
        classifier = _classifier(config, arrays, num_classes, image_size, head)
    fill(qna_vit_slots(classifier), arrays, resize=image_size is not None)
    absolute = any("position_embedding" in name for name, _ in classifier.named_parameters())
    return (BatchScaledPositions(classifier) if absolute else classifier).eval()


def _classifier(
    config: Config,
    arrays: Mapping[str, Any],
    num_classes: int | None,
    image_size: ImageSize | None,
    head: Head | None,
) -> PooledClassifier:
    """Return the network that `load_qna_vit` fills."""
    size: ImageSize = 224 if image_size is None else image_size
    if isinstance(config, str) and not config.lstrip().startswith("{"):
        if config not in PUBLISHED:
            raise ValueError(f"{config=} must be one of {', '.join(PUBLISHED)}, or a mapping")
        backbone = PUBLISHED[config].build(image_size=size)
        head = head or named_head(arrays)
        heads = PUBLISHED[config].head_heads
    else:
        options = read_options(config, VIT)
        backbone = _backbone(options, size)
        head = head or OFFICIAL_HEADS[options["classification_head_type"]]
        heads = options["qna_heads"][-1]
    pool = head_factory(head, heads, arrays if image_size is None else None)
    classes = stored_classes(arrays) if num_classes is None else num_classes
    return PooledClassifier(backbone, classes, pool)


def _backbone(options: Mapping[str, Any], image_size: ImageSize) -> QnAViT:
    """Return the network of an official configuration."""
    stages = options["n_stages"]
    staged = {name: options[name][:stages] for name in VIT_STAGES}
    for name, values in staged.items():
        if len(values) < stages:
            raise ValueError(f"{name}={values} must name one value for each of {stages} stages")
    layer = functools.partial(
        QnA,
        num_queries=options["qna_num_queries"],
        attention_scale=options["qna_attention_scale"],
        position=POSITIONS[options["qna_pos_embedding_type"]],
    )
    backbone = QnAViT(
        [
            functools.partial(layer, kernel_size=size, normalize_queries=normalize)
            for size, normalize in zip(
                staged["qna_receptive_field"], staged["qna_normalize_q"], strict=True
            )
        ],
        [functools.partial(WindowAttention, window_size=size) for size in staged["lsa_window"]],
        image_size=image_size,
        width=options["base_dim"],
        depths=staged["qna_layers"],
        heads=staged["qna_heads"],
        local_depths=staged["lsa_layers"],
        local_heads=staged["lsa_heads"],
        drop_path=options["drop_path"],
    )
    if not options["drop_path_downsample"]:
        _spare_strided_blocks(backbone, options["drop_path"])
    return backbone


def _spare_strided_blocks(backbone: QnAViT, drop_path: float) -> None:
    """Drop nothing in the blocks of stride 2; the rates grow over the other blocks alone."""
    blocks = [module for module in backbone.modules() if isinstance(module, Block)]
    strided = [block for block in blocks if block.mixer.stride > 1]
    for block in strided:
        block.mlp_drop.rate = 0.0
    rates = drop_path_rates(drop_path, len(blocks) - len(strided))
    for block in blocks:
        if block not in strided:
            block.mix_drop.rate = block.mlp_drop.rate = next(rates)
