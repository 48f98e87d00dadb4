"""The way in from the official QnA code (JAX/Flax): its parameters in this package's networks.

Names, shapes and options are those of the official code. Flax keeps dense kernels as (in, out),
convolution kernels as (height, width, in, out) and images channels last.
"""

import functools
from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnlab.backbones.qna_vit import QnAViT
from attnlab.interop.flax_arrays import fill, qna_slots, qna_vit_slots
from attnlab.interop.flax_state import read_train_state
from attnlab.models import qna_vit
from attnlab.operators.baselines import WindowAttention
from attnlab.operators.qna import QnA
from attnlab.tasks.heads import PooledClassifier

__all__ = ["BatchScaledPositions", "load_qna_layer", "load_qna_vit", "read_train_state"]

_PUBLISHED = {
    "qna_vit_tiny": qna_vit.qna_vit_tiny,
    "qna_vit_tiny_7x7": qna_vit.qna_vit_tiny_7x7,
    "qna_vit_small": qna_vit.qna_vit_small,
    "qna_vit_base": qna_vit.qna_vit_base,
}
_POSITIONS: dict[str, Literal["relative", "absolute", "none"]] = {
    "relative_pos": "relative",
    "absolute_pos": "absolute",
    "none": "none",
}
_SCALES = ("normal", "normal_elementwise", "posneg", "ones", "avg", "none")

_LAYER_REQUIRED = ("C", "features", "heads", "kernel_size", "stride", "padding")
_LAYER_DEFAULTS = {
    "out_features": None,
    "use_bias": False,
    "pos_embedding_type": "relative_pos",
    "attn_scale": "normal",
    "normalize_q": True,
    "qna_normalize_stop_grads": False,
    "n_queries": 2,
    "scale_rpe_bias": False,
}

_VIT_REQUIRED = (
    "base_dim",
    "qna_heads",
    "qna_layers",
    "qna_receptive_field",
    "qna_normalize_q",
    "lsa_heads",
    "lsa_layers",
    "lsa_window",
)
_VIT_DEFAULTS = {
    "n_stages": 4,
    "qna_num_queries": 2,
    "qna_attention_scale": "normal",
    "qna_pos_embedding_type": "relative_pos",
    "drop_path": 0.0,
    "drop_path_downsample": False,
}
# Options of which only this value is supported; the official code itself ignores some others.
_VIT_FIXED = {
    "activation_fn": "gelu",
    "classification_head_type": "gap",
    "layer_scale": None,
    "lsa_attention_dropout": 0.0,
    "lsa_pos_embedding_type": "relative_pos",
    "mlp_dropout": 0.0,
    "mlp_ratio": 4,
    "qna_attention_dropout": 0.0,
    "qna_down_skip": "conv1x1",
    "qna_implementation": "fused_efficient",
    "qna_normalize_stop_grads": False,
    "stem_type": "patch",
}


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


def load_qna_layer(config: Mapping[str, Any], params: Mapping[str, Any]) -> nn.Module:
    """Return the official `FusedKQnA` layer, a module on [B, H, W, C].

    Args:
        config: The official layer's options and ``C``, its input channels.
        params: Official parameter name (slash-joined or nested) to array.

    Returns:
        A `QnA`; with ``absolute_pos`` it is wrapped in `BatchScaledPositions`. The position bias of
        ``scale_rpe_bias`` is stored divided, a key bias is left out (it cancels in the softmax).

    Raises:
        ValueError: An option is unknown, missing or not supported, or an array is missing, surplus
            or mis-shaped.
    """
    options = _complete(config, _LAYER_REQUIRED, _LAYER_DEFAULTS)
    for name in ("C", "features", "heads", "kernel_size", "stride", "padding", "n_queries"):
        if not isinstance(options[name], int):
            raise ValueError(f"{name}={options[name]!r} must be an integer")
    _only(options, "qna_normalize_stop_grads", [False])
    _only(options, "pos_embedding_type", _POSITIONS)
    _only(options, "attn_scale", _SCALES)
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
        position=_POSITIONS[options["pos_embedding_type"]],
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
    config: str | Mapping[str, Any], params: Mapping[str, Any], num_classes: int
) -> nn.Module:
    """Return an official QnA-ViT, a module from images [B, 3, H, W] to logits.

    Args:
        config: Published name, ``qna_vit_tiny`` for example, or the official configuration.
        params: Official parameter name (slash-joined or nested) to array, as `read_train_state`
            returns.
        num_classes: Number of logits.

    Returns:
        A `PooledClassifier` in evaluation mode; with ``absolute_pos`` it is wrapped in
        `BatchScaledPositions`.

    Raises:
        ValueError: The name or an option is unknown, missing or not supported, or an array is
            missing, surplus or mis-shaped.
    """
    if isinstance(config, str):
        if config not in _PUBLISHED:
            raise ValueError(f"{config=} must be one of {', '.join(_PUBLISHED)}, or a mapping")
        backbone = _PUBLISHED[config]()
    else:
        backbone = _backbone(config)
    classifier = PooledClassifier(backbone, num_classes)
    fill(qna_vit_slots(classifier), params)
    absolute = any("position_embedding" in name for name, _ in classifier.named_parameters())
    return (BatchScaledPositions(classifier) if absolute else classifier).eval()


def _backbone(config: Mapping[str, Any]) -> QnAViT:
    """Return the network of an official configuration."""
    options = _complete(config, _VIT_REQUIRED, _VIT_DEFAULTS | _VIT_FIXED)
    for name, value in _VIT_FIXED.items():
        _only(options, name, [value])
    _only(options, "qna_pos_embedding_type", _POSITIONS)
    _only(options, "qna_attention_scale", _SCALES)
    if options["drop_path"] > 0:
        _only(options, "drop_path_downsample", [True])
    stages = options["n_stages"]
    per_stage = {name: tuple(options[name])[:stages] for name in _VIT_REQUIRED[1:]}
    for name, values in per_stage.items():
        if len(values) < stages:
            raise ValueError(f"{name}={values} must name one value for each of {stages} stages")
    layer = functools.partial(
        QnA,
        num_queries=options["qna_num_queries"],
        attention_scale=options["qna_attention_scale"],
        position=_POSITIONS[options["qna_pos_embedding_type"]],
    )
    return QnAViT(
        [
            functools.partial(layer, kernel_size=size, normalize_queries=normalize)
            for size, normalize in zip(
                per_stage["qna_receptive_field"], per_stage["qna_normalize_q"], strict=True
            )
        ],
        [functools.partial(WindowAttention, window_size=size) for size in per_stage["lsa_window"]],
        width=options["base_dim"],
        depths=per_stage["qna_layers"],
        heads=per_stage["qna_heads"],
        local_depths=per_stage["lsa_layers"],
        local_heads=per_stage["lsa_heads"],
        drop_path=options["drop_path"],
    )


def _complete(
    config: Mapping[str, Any], required: Collection[str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options with defaults filled in, none of them missing or unknown."""
    options = dict(defaults) | dict(config)
    for name in required:
        if name not in config:
            raise ValueError(f"option {name} is missing")
    if unknown := options.keys() - {*required, *defaults}:
        raise ValueError(f"unknown option {sorted(unknown)[0]}={config[sorted(unknown)[0]]!r}")
    return options


def _only(options: Mapping[str, Any], name: str, allowed: Collection[Any]) -> None:
    """Refuse any other value of an option."""
    if options[name] not in list(allowed):
        listed = ", ".join(repr(value) for value in allowed)
        raise ValueError(f"{name}={options[name]!r} is not supported, only {listed}")
