"""Video classification: image classification, with views and class-mean accuracy."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from attnlab.tasks.classification import ClassificationTask


class VideoClassificationTask(ClassificationTask):
    """Trains and tests a classifier of clips [B, T, C, H, W]; see `ClassificationTask`.

    In validation, test and prediction a batch may hold V views of every video instead,
    [B, V, T, C, H, W]: their probabilities are averaged, as PySlowFast does, and the loss is that
    of the average. Logged beside top-1 and top-5 is ``{val,test}/mean_class``, the mean over the
    classes of each one's accuracy, in which rare classes count as much as frequent ones; one that
    never occurs counts as 0 where it is predicted and not at all where it is not.

    The arguments are those of `ClassificationTask`; `backbone` maps clips to maps of features,
    see `attnlab.backbones.video`.
    """

    @staticmethod
    def accuracies(num_classes: int) -> dict[str, Metric | MetricCollection]:
        """Return top-1, top-5 and class-mean accuracy."""
        mean_class = MulticlassAccuracy(num_classes, average="macro", validate_args=False)
        return {**ClassificationTask.accuracies(num_classes), "mean_class": mean_class}

    def evaluated(self, inputs: Tensor) -> Float[Tensor, "batch classes"]:
        """Return the logits of clips, or the logarithms of the mean probabilities of views."""
        if inputs.ndim < 6:
            return super().evaluated(inputs)
        views = inputs.shape[1]
        logits = torch.unflatten(super().evaluated(inputs.flatten(0, 1)), 0, (-1, views))
        return logits.log_softmax(-1).logsumexp(1) - math.log(views)
