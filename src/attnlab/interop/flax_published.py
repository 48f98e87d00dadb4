"""Which of the published networks official arrays belong to."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from attnlab.backbones.qna_vit import QnAViT
from attnlab.interop.flax_arrays import qna_vit_slots
from attnlab.interop.flax_state import flatten
from attnlab.models import qna_vit
from attnlab.tasks.heads import PooledClassifier

PUBLISHED: dict[str, tuple[Callable[..., QnAViT], int]] = {
    "qna_vit_tiny": (qna_vit.qna_vit_tiny, 64),
    "qna_vit_tiny_7x7": (qna_vit.qna_vit_tiny_7x7, 64),
    "qna_vit_small": (qna_vit.qna_vit_small, 64),
    "qna_vit_base": (qna_vit.qna_vit_base, 48),
}
"""Name to builder, and to the attention heads that a QnA head of that network has."""


def published_name(params: Mapping[str, Any]) -> str:
    """Return the published network whose arrays these are most like, by name and shape.

    Whether all of them fit is for `load_qna_vit` to say.

    Args:
        params: Official parameter name (slash-joined or nested) to array.

    Raises:
        ValueError: No array is one of a published network.
    """
    found = {(name, np.shape(array)) for name, array in flatten(params).items()}
    alike = {}
    for name, (build, _) in PUBLISHED.items():
        with torch.device("meta"):
            slots = qna_vit_slots(PooledClassifier(build(), num_classes=1))
        expected = {(official, slot.shape) for official, slot in slots.items()}
        alike[name] = len(found & expected) / len(found | expected)
    best = max(alike, key=alike.__getitem__)
    if not alike[best]:
        raise ValueError(f"none of the {len(found)} arrays is one of {', '.join(PUBLISHED)}")
    return best
