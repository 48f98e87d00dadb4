"""Video from any backbone on images: frame by frame, shifted, inflated or divided."""

import math
from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from attnlab.backbones.base import Backbone
from attnlab.backbones.blocks import Block, PatchEmbed
from attnlab.backbones.features import FeatureInfo
from attnlab.backbones.temporal import DividedBlock, FrameWise, TubeletEmbed
from attnlab.backbones.weights import load_backbone
from attnlab.operators.base import MixerFactory


class VideoBackbone(Backbone):
    """A network on clips [B, T, C, H, W] made of one on images, whose weights it starts from.

    Ways to see time (`video_mode`):

    - ``tsn``: none. Every frame by itself, the maps averaged: blind to the order of frames. No
      parameters are added.
    - ``tsm``: `TemporalShift` at the start of every mixing branch. No parameters are added.
    - ``tubelet3d``: tubelets in place of patches, and mixers of space and time by
      `TokenMixer.inflate`. Mixers that lower the resolution stay frame by frame.
    - ``divided``: `DividedBlock`, a mixer of time before every mixer of space but those that lower
      the resolution.

    On a clip of equal frames all but ``tsm`` give at first what the network gives on one of them;
    ``tsm`` does so in frames with more neighbours on both sides than the network has blocks.

    Maps are averages over time, so that heads see what they see of images, and the mean over their
    tokens is the mean over all tokens of the clip. Clips of any length are taken; operators adapt
    as they do to images of other sizes.

    Args:
        backbone: Network on images with a `patch_embed` and `Block`s. It is converted in place.
        video_mode: How time is seen.
        frames: Frames of the clips that size what is learnt per position in time.
        tubelet: Frames of a tubelet, in ``tubelet3d``.
        tubelet_init: What a tubelet's frames get of a patch's weights: an equal share each
            (``mean``), or the middle one all (``centre``).
        kernel_frames: Tokens in time of local operators in ``tubelet3d``, see `TokenMixer.inflate`.
        temporal_mixer: Builds the mixers of time in ``divided`` from (dim, heads, (T, 1)). It must
            know positions by itself: plain self-attention is as blind to order as ``tsn``.
        weights: Checkpoint of a network on images, written by this project, to start from; see
            `load_backbone`. An empty text is none too: a flag can give it, but not null.

    Raises:
        ValueError: An option is unknown, out of range or contradicts another, the backbone has no
            `patch_embed`, an operator cannot be inflated, or as `load_backbone`.
    """

    def __init__(
        self,
        backbone: Backbone,
        video_mode: Literal["tsn", "tsm", "tubelet3d", "divided"],
        frames: int = 8,
        tubelet: int = 2,
        tubelet_init: Literal["mean", "centre"] = "mean",
        kernel_frames: int = 3,
        temporal_mixer: MixerFactory | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        ways: dict[str, Callable[[Block], nn.Module]] = {
            "tsn": self._frame_by_frame,
            "tsm": self._shifted,
            "tubelet3d": self._inflated,
            "divided": self._divided,
        }
        if video_mode not in ways:
            raise ValueError(f"{video_mode=} must be one of {', '.join(ways)}")
        if tubelet_init not in ("mean", "centre"):
            raise ValueError(f"{tubelet_init=} must be mean or centre")
        if min(frames, tubelet, kernel_frames) < 1:
            raise ValueError(f"{frames=}, {tubelet=} and {kernel_frames=} must be at least 1")
        if (temporal_mixer is None) == (video_mode == "divided"):
            given = "None" if temporal_mixer is None else "a mixer"
            raise ValueError(
                f"temporal_mixer is {given} with {video_mode=}; divided needs one, others none"
            )
        if weights:
            load_backbone(backbone, weights)
        self.kernel_frames = kernel_frames
        self.temporal_mixer = temporal_mixer
        depth = tubelet if video_mode == "tubelet3d" else 1
        self.times = math.ceil(frames / depth)
        self.num_features, self.grid = backbone.num_features, backbone.grid
        self.feature_info = _inside(backbone.feature_info)
        embed = getattr(backbone, "patch_embed", None)
        if not isinstance(embed, PatchEmbed):
            raise ValueError(
                f"backbone={type(backbone).__name__} must be a network on images with a patch_embed"
            )
        backbone.patch_embed = TubeletEmbed(embed, depth, centre=tubelet_init == "centre")
        convert = ways[video_mode]
        for parent in list(backbone.modules()):
            for name, child in parent.named_children():
                if isinstance(child, Block):
                    setattr(parent, name, convert(child))
        self.backbone = backbone

    def _frame_by_frame(self, block: Block) -> nn.Module:
        block.mixer = FrameWise(block.mixer)
        return block

    def _shifted(self, block: Block) -> nn.Module:
        block.mixer = FrameWise(block.mixer, shift=True)
        return block

    def _inflated(self, block: Block) -> nn.Module:
        if block.mixer.stride > 1:
            return self._frame_by_frame(block)
        block.mixer = block.mixer.inflate(self.times, self.kernel_frames)
        return block

    def _divided(self, block: Block) -> nn.Module:
        mixer = block.mixer
        self._frame_by_frame(block)
        if mixer.stride > 1 or self.temporal_mixer is None:
            return block
        temporal = self.temporal_mixer(mixer.dim, mixer.heads, (self.times, 1))
        return DividedBlock(block, temporal, block.mix_drop.rate)

    def tokens(
        self, clips: Float[Tensor, "batch frames channels height width"]
    ) -> Float[Tensor, "batch times rows columns features"]:
        """Return the normalised tokens at all times; their mean over time is `forward`."""
        features: Tensor = self.backbone(clips)
        return features

    def forward(
        self, images: Float[Tensor, "batch *clip channels height width"]
    ) -> Float[Tensor, "batch rows columns features"]:
        """Return the last feature map of clips [B, T, C, H, W], averaged over time.

        Raises:
            ValueError: `images` are not clips.
        """
        if images.ndim != 5:
            raise ValueError(f"clips of shape={tuple(images.shape)} must be [B, T, C, H, W]")
        return self.tokens(images).mean(dim=1)

    def forward_features(
        self, images: Float[Tensor, "batch *clip channels height width"]
    ) -> list[Float[Tensor, "batch _width _rows _columns"]]:
        """Return the maps of the backbone, averaged over time, channels first."""
        return [maps.mean(dim=2) for maps in self.backbone.forward_features(images)]


def _inside(info: FeatureInfo) -> FeatureInfo:
    """Return the same maps, left by submodules of the network inside."""
    everything = range(len(info))
    modules = [f"backbone.{name}" for name in info.module_name(everything)]
    return FeatureInfo(
        info.channels(everything), info.reduction(everything), modules, info.out_indices
    )
