"""The backbone contract: images in, a map of features out; heads belong to the tasks."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn


class Backbone(nn.Module):
    """A network from images to one map of normalised features.

    Attributes:
        num_features: Channels of the map that `forward_features` returns.
    """

    no_weight_decay: ClassVar[frozenset[str]] = frozenset()
    """Names of this module's own parameters that weight decay must spare, as in `TokenMixer`."""

    num_features: int

    def forward_features(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch rows columns features"]:
        """Return the last feature map, after the final normalisation, channels last."""
        raise NotImplementedError

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch rows columns features"]:
        """Return `forward_features`, so that a backbone can stand in any `nn.Sequential`."""
        return self.forward_features(images)
