"""The options of the official QnA layer and network, and what of each is supported."""

from typing import Literal

from attnlab.interop.flax_heads import OFFICIAL_HEADS
from attnlab.interop.flax_options import flag, integer, odd, one_of, per_stage, rate

POSITIONS: dict[str, Literal["relative", "absolute", "none"]] = {
    "relative_pos": "relative",
    "absolute_pos": "absolute",
    "none": "none",
}
_SCALES = ("normal", "normal_elementwise", "posneg", "ones", "avg", "none")

LAYER = {
    "C": integer(),
    "features": integer(),
    "heads": integer(),
    "kernel_size": integer(),
    "stride": integer(),
    "padding": integer(0),
    "out_features": integer(default=None),
    "use_bias": flag(False),
    "pos_embedding_type": one_of(*POSITIONS),
    "attn_scale": one_of(*_SCALES),
    "normalize_q": flag(True),
    "qna_normalize_stop_grads": one_of(False),
    "n_queries": integer(default=2),
    "precision": one_of(None),
    "scale_rpe_bias": flag(False),
}

VIT_STAGES = {
    "qna_heads": per_stage(integer()),
    "qna_layers": per_stage(integer(0)),
    "qna_receptive_field": per_stage(odd()),
    "qna_normalize_q": per_stage(flag()),
    "lsa_heads": per_stage(integer()),
    "lsa_layers": per_stage(integer(0)),
    "lsa_window": per_stage(integer()),
}
VIT = VIT_STAGES | {
    "base_dim": integer(),
    "n_stages": integer(default=4),
    "qna_num_queries": integer(default=2),
    "qna_attention_scale": one_of(*_SCALES),
    "qna_pos_embedding_type": one_of(*POSITIONS),
    "drop_path": rate(0.0),
    "drop_path_downsample": flag(False),
    "classification_head_type": one_of(*OFFICIAL_HEADS),
    # Only these values are supported; the official code itself ignores some of the others.
    "activation_fn": one_of("gelu"),
    "layer_scale": one_of(None),
    "lsa_attention_dropout": one_of(0.0),
    "lsa_pos_embedding_type": one_of("relative_pos"),
    "mlp_dropout": one_of(0.0),
    "mlp_ratio": one_of(4),
    "qna_attention_dropout": one_of(0.0),
    "qna_down_skip": one_of("conv1x1"),
    "qna_implementation": one_of("fused_efficient"),
    "qna_normalize_stop_grads": one_of(False),
    "stem_type": one_of("patch"),
}
