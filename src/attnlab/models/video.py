"""Networks on clips [B, T, C, H, W], made of the named sizes on images.

The builders share these arguments, beside those of the network on images:

- `video_mode`, `frames`, `tubelet`: how time is seen, see `VideoBackbone`. In ``divided`` the
  mixers of time are LiSA with two RPEs, which knows positions.
- `weights`: checkpoint of the network on images to start from.
"""

import functools
from typing import Literal

from attnlab.backbones.base import Backbone
from attnlab.backbones.video import VideoBackbone
from attnlab.models.lisa_vit import lisa, lisa_vit_small, lisa_vit_tiny
from attnlab.models.qna_vit import qna_vit_tiny
from attnlab.operators.base import MixerFactory
from attnlab.operators.lisa import LiSA
from attnlab.operators.qna import QnA

VideoMode = Literal["tsn", "tsm", "tubelet3d", "divided"]


def on_clips(
    backbone: Backbone, video_mode: VideoMode, frames: int, tubelet: int, weights: str | None
) -> VideoBackbone:
    """Turn a network on images into one on clips."""
    over_time = functools.partial(LiSA, num_rpes=2)
    return VideoBackbone(
        backbone,
        video_mode,
        frames,
        tubelet,
        temporal_mixer=over_time if video_mode == "divided" else None,
        weights=weights,
    )


def lisa_vit_tiny_video(
    mixer: MixerFactory = lisa,
    video_mode: VideoMode = "tsm",
    frames: int = 16,
    tubelet: int = 2,
    image_size: int | tuple[int, int] = 224,
    drop_path: float = 0.1,
    weights: str | None = None,
) -> VideoBackbone:
    """Return LisaViT tiny on clips."""
    network = lisa_vit_tiny(mixer, image_size, drop_path=drop_path)
    return on_clips(network, video_mode, frames, tubelet, weights)


def lisa_vit_small_video(
    mixer: MixerFactory = lisa,
    video_mode: VideoMode = "tsm",
    frames: int = 16,
    tubelet: int = 2,
    image_size: int | tuple[int, int] = 224,
    drop_path: float = 0.3,
    weights: str | None = None,
) -> VideoBackbone:
    """Return LisaViT small on clips."""
    network = lisa_vit_small(mixer, image_size, drop_path=drop_path)
    return on_clips(network, video_mode, frames, tubelet, weights)


def qna_vit_tiny_video(
    mixer: MixerFactory = QnA,
    video_mode: VideoMode = "tsm",
    frames: int = 16,
    tubelet: int = 2,
    image_size: int | tuple[int, int] = 224,
    drop_path: float = 0.3,
    weights: str | None = None,
) -> VideoBackbone:
    """Return QnA-ViT tiny on clips."""
    network = qna_vit_tiny(image_size, drop_path=drop_path, mixer=mixer)
    return on_clips(network, video_mode, frames, tubelet, weights)
