"""The backbone contract: images in, a map of features out; heads belong to the tasks."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from attnlab.backbones.features import FeatureInfo
from attnlab.operators.base import Grid


class Backbone(nn.Module):
    """A network from images to feature maps: one, normalised, to pool; or several, for a neck.

    Attributes:
        num_features: Channels of the map that `forward` returns.
        grid: Rows and columns of that map for images of the size the network was built for.
        feature_info: What `forward_features` returns, in the convention of timm.

    Where something else embeds clips [B, T, C, H, W] as [B, T', H, W, features] and mixes them,
    `attnlab.backbones.video` for one, the maps keep the axis T', next to the batch or next to the
    channels that come first.
    """

    no_weight_decay: ClassVar[frozenset[str]] = frozenset()
    """Names of this module's own parameters that weight decay must spare, as in `TokenMixer`."""

    num_features: int
    grid: Grid
    feature_info: FeatureInfo

    def forward(
        self, images: Float[Tensor, "batch *clip channels height width"]
    ) -> Float[Tensor, "batch *times rows columns features"]:
        """Return the last feature map, after the final normalisation, channels last."""
        raise NotImplementedError

    def forward_features(
        self, images: Float[Tensor, "batch *clip channels height width"]
    ) -> list[Float[Tensor, "batch _width *_grid"]]:
        """Return the maps that ``feature_info.out_indices`` names, channels first.

        As with timm's `features_only` they are not normalised: necks bring norms of their own.
        """
        raise NotImplementedError
