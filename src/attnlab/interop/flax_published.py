"""Which of the published networks official arrays belong to."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from attnlab.backbones.qna_vit import QnAViT
from attnlab.interop.flax_state import flatten
from attnlab.models import qna_vit

_STEM = "StemBlock_0/conv_1x1/kernel"
_TABLE = "QnAStage_0/QnA_Block_1/FusedKQnA_0/rpe_bias"
_LOCAL = re.compile(r"LSAStage_2/MSA_Block_\d+/LayerNorm_0/scale")


class Published(NamedTuple):
    """A published network.

    Attributes:
        build: Its builder.
        head_heads: Attention heads of a QnA head, the official `qna_heads` of the last stage.
        width: Channels of the first stage; it and what follows tell the networks apart.
        window: Side of the QnA windows, in tokens.
        local_blocks: Window-attention blocks in the third stage.
    """

    build: Callable[..., QnAViT]
    head_heads: int
    width: int
    window: int
    local_blocks: int


PUBLISHED = {
    "qna_vit_tiny": Published(qna_vit.qna_vit_tiny, 64, 64, 3, 4),
    "qna_vit_tiny_7x7": Published(qna_vit.qna_vit_tiny_7x7, 64, 64, 7, 4),
    "qna_vit_small": Published(qna_vit.qna_vit_small, 64, 64, 3, 12),
    "qna_vit_base": Published(qna_vit.qna_vit_base, 48, 96, 3, 12),
}


def published_name(params: Mapping[str, Any]) -> str:
    """Return the published network that official arrays belong to.

    Told are the four networks from one another; whether all arrays fit is for `load_qna_vit`.

    Args:
        params: Official parameter name (slash-joined or nested) to array.

    Raises:
        ValueError: The arrays are not those of a published network.
    """
    arrays = flatten(params)
    for name in (_STEM, _TABLE):
        if not np.shape(arrays.get(name, 0)):
            raise ValueError(f"missing arrays: {name}, by which the published networks are told")
    width = np.shape(arrays[_STEM])[-1]
    window = math.isqrt(np.shape(arrays[_TABLE])[0])
    local_blocks = sum(_LOCAL.fullmatch(name) is not None for name in arrays)
    for name, network in PUBLISHED.items():
        if (network.width, network.window, network.local_blocks) == (width, window, local_blocks):
            return name
    raise ValueError(f"{width=}, {window=} and {local_blocks=} are those of no published network")
