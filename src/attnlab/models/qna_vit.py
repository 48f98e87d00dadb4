"""The four QnA-ViT of Arar, Shamir and Bermano (CVPR 2022), every number visible.

They expect 224 x 224 pixels and take any size. The mixers can be swapped, for a study; None stands
for window attention in the published windows.
"""

import functools
from collections.abc import Sequence

from attnlab.backbones.qna_vit import QnAViT
from attnlab.operators.base import MixerFactory
from attnlab.operators.baselines import WindowAttention
from attnlab.operators.qna import QnA


def window_attention(*window_sizes: int) -> Sequence[MixerFactory]:
    """Return a factory of window attention for each stage."""
    return [functools.partial(WindowAttention, window_size=size) for size in window_sizes]


def qna_vit_tiny(
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 4,
    drop_path: float = 0.05,
    mixer: MixerFactory = QnA,
    local_mixer: MixerFactory | None = None,
) -> QnAViT:
    """Return QnA-ViT tiny: 15.7 M parameters with 1000 classes, 2.46 GMACs, 81.7 % published."""
    return QnAViT(
        mixer,
        local_mixer or window_attention(7, 7, 14, 7),
        image_size=image_size,
        patch_size=patch_size,
        width=64,
        depths=(2, 3, 2, 0),
        heads=(8, 16, 32, 64),
        local_depths=(0, 0, 4, 2),
        local_heads=(2, 4, 8, 16),
        drop_path=drop_path,
    )


def qna_vit_tiny_7x7(
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 4,
    drop_path: float = 0.05,
    mixer: MixerFactory | None = None,
    local_mixer: MixerFactory | None = None,
) -> QnAViT:
    """Return tiny with 7 x 7 windows in QnA: 15.8 M parameters, 2.54 GMACs, 82.0 % published."""
    return QnAViT(
        mixer or functools.partial(QnA, kernel_size=7),
        local_mixer or window_attention(7, 7, 14, 7),
        image_size=image_size,
        patch_size=patch_size,
        width=64,
        depths=(2, 3, 2, 0),
        heads=(8, 16, 32, 64),
        local_depths=(0, 0, 4, 2),
        local_heads=(2, 4, 8, 16),
        drop_path=drop_path,
    )


def qna_vit_small(
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 4,
    drop_path: float = 0.2,
    mixer: MixerFactory = QnA,
    local_mixer: MixerFactory | None = None,
) -> QnAViT:
    """Return QnA-ViT small: 25.0 M parameters with 1000 classes, 4.41 GMACs, 83.2 % published."""
    return QnAViT(
        mixer,
        local_mixer or window_attention(7, 7, 14, 7),
        image_size=image_size,
        patch_size=patch_size,
        width=64,
        depths=(2, 3, 6, 0),
        heads=(8, 16, 32, 64),
        local_depths=(0, 0, 12, 2),
        local_heads=(2, 4, 8, 16),
        drop_path=drop_path,
    )


def qna_vit_base(
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 4,
    drop_path: float = 0.5,
    mixer: MixerFactory = QnA,
    local_mixer: MixerFactory | None = None,
) -> QnAViT:
    """Return QnA-ViT base: 55.7 M parameters with 1000 classes, 9.60 GMACs, 83.9 % published."""
    return QnAViT(
        mixer,
        local_mixer or window_attention(7, 7, 14, 7),
        image_size=image_size,
        patch_size=patch_size,
        width=96,
        depths=(2, 3, 6, 0),
        heads=(6, 12, 24, 48),
        local_depths=(0, 0, 12, 2),
        local_heads=(3, 6, 12, 24),
        drop_path=drop_path,
    )
