"""Heads: what a task puts behind a backbone."""

from jaxtyping import Float
from torch import Tensor, nn

from attnlab.backbones.base import Backbone
from attnlab.operators.init import lecun_linear


class PooledClassifier(nn.Module):
    """Logits from the mean of a backbone's feature map.

    Args:
        backbone: Network from images to a map of normalised features.
        num_classes: Number of logits.

    Raises:
        ValueError: `num_classes` is not positive.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"{num_classes=} must be at least 1")
        self.backbone = backbone
        self.head = lecun_linear(backbone.num_features, num_classes, bias=True)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        logits: Tensor = self.head(self.backbone(images).mean(dim=(1, 2)))
        return logits
