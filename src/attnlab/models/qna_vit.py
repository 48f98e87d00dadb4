"""The four QnA-ViT of Arar, Shamir and Bermano (CVPR 2022), every number visible.

They are published for 224 x 224 pixels and take any size. All builders share these arguments:

- `image_size`: side of the square images, or (height, width), in pixels; the windows of local
  attention cover the part of the longer side that the published ones cover of 224 pixels, which in
  stages 3 and 4 is the whole map. Large images that vary in size, as in detection, want the
  default, whose windows stay those of 224 pixels on images of any size.
- `patch_size`: side of the patches in pixels; 1 or 2 for images of 32 x 32.
- `in_channels`: channels of the images.
- `drop_path`: rate of stochastic depth in the last block.
- `mixer`, `local_mixer`: operators to put in place of QnA and window attention, for a study.
- `out_indices`: stages whose maps `forward_features` returns.
"""

import functools
import math
from collections.abc import Sequence

from attnlab.backbones.blocks import patch_grid
from attnlab.backbones.qna_vit import QnAViT
from attnlab.operators.base import MixerFactory
from attnlab.operators.baselines import WindowAttention
from attnlab.operators.qna import QnA

PUBLISHED_TOKENS = 56  # along a side: 224 pixels in patches of 4


def window_attention(
    image_size: int | tuple[int, int], patch_size: int, *published: int
) -> Sequence[MixerFactory]:
    """Return a factory of window attention for each stage.

    Args:
        image_size: Side of the square images, or (height, width), in pixels.
        patch_size: Side of the patches, in pixels.
        published: Side of each stage's windows at 224 pixels, in tokens; it grows and shrinks with
            the longer side of the image.

    Raises:
        ValueError: `patch_size` or a side of `image_size` is below 1.
    """
    tokens = max(patch_grid(image_size, patch_size))
    return [
        functools.partial(WindowAttention, window_size=math.ceil(size * tokens / PUBLISHED_TOKENS))
        for size in published
    ]


def qna_vit_tiny(
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 4,
    in_channels: int = 3,
    drop_path: float = 0.05,
    mixer: MixerFactory = QnA,
    local_mixer: MixerFactory | None = None,
    out_indices: tuple[int, ...] = (0, 1, 2, 3),
) -> QnAViT:
    """Return QnA-ViT tiny: 15.7 M parameters with 1000 classes, 2.46 GMACs, 81.7 % published."""
    return QnAViT(
        mixer,
        local_mixer or window_attention(image_size, patch_size, 7, 7, 14, 7),
        image_size=image_size,
        patch_size=patch_size,
        in_channels=in_channels,
        width=64,
        depths=(2, 3, 2, 0),
        heads=(8, 16, 32, 64),
        local_depths=(0, 0, 4, 2),
        local_heads=(2, 4, 8, 16),
        drop_path=drop_path,
        out_indices=out_indices,
    )


def qna_vit_tiny_7x7(
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 4,
    in_channels: int = 3,
    drop_path: float = 0.05,
    mixer: MixerFactory | None = None,
    local_mixer: MixerFactory | None = None,
    out_indices: tuple[int, ...] = (0, 1, 2, 3),
) -> QnAViT:
    """Return tiny with 7 x 7 windows in QnA: 15.8 M parameters, 2.54 GMACs, 82.0 % published."""
    return QnAViT(
        mixer or functools.partial(QnA, kernel_size=7),
        local_mixer or window_attention(image_size, patch_size, 7, 7, 14, 7),
        image_size=image_size,
        patch_size=patch_size,
        in_channels=in_channels,
        width=64,
        depths=(2, 3, 2, 0),
        heads=(8, 16, 32, 64),
        local_depths=(0, 0, 4, 2),
        local_heads=(2, 4, 8, 16),
        drop_path=drop_path,
        out_indices=out_indices,
    )


def qna_vit_small(
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 4,
    in_channels: int = 3,
    drop_path: float = 0.2,
    mixer: MixerFactory = QnA,
    local_mixer: MixerFactory | None = None,
    out_indices: tuple[int, ...] = (0, 1, 2, 3),
) -> QnAViT:
    """Return QnA-ViT small: 25.0 M parameters with 1000 classes, 4.41 GMACs, 83.2 % published."""
    return QnAViT(
        mixer,
        local_mixer or window_attention(image_size, patch_size, 7, 7, 14, 7),
        image_size=image_size,
        patch_size=patch_size,
        in_channels=in_channels,
        width=64,
        depths=(2, 3, 6, 0),
        heads=(8, 16, 32, 64),
        local_depths=(0, 0, 12, 2),
        local_heads=(2, 4, 8, 16),
        drop_path=drop_path,
        out_indices=out_indices,
    )


def qna_vit_base(
    image_size: int | tuple[int, int] = 224,
    patch_size: int = 4,
    in_channels: int = 3,
    drop_path: float = 0.5,
    mixer: MixerFactory = QnA,
    local_mixer: MixerFactory | None = None,
    out_indices: tuple[int, ...] = (0, 1, 2, 3),
) -> QnAViT:
    """Return QnA-ViT base: 55.7 M parameters with 1000 classes, 9.60 GMACs, 83.9 % published."""
    return QnAViT(
        mixer,
        local_mixer or window_attention(image_size, patch_size, 7, 7, 14, 7),
        image_size=image_size,
        patch_size=patch_size,
        in_channels=in_channels,
        width=96,
        depths=(2, 3, 6, 0),
        heads=(6, 12, 24, 48),
        local_depths=(0, 0, 12, 2),
        local_heads=(3, 6, 12, 24),
        drop_path=drop_path,
        out_indices=out_indices,
    )
