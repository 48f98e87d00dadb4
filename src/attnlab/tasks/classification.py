"""Image classification: one LightningModule for every backbone."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import lightning as L
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from attnlab.backbones.base import Backbone
from attnlab.optim.groups import GroupsOf, parameter_groups
from attnlab.optim.schedules import ScheduleFactory, WarmupCosine
from attnlab.tasks.heads import MeanPool, PooledClassifier, PoolFactory

OptimizerFactory = Callable[[Iterable[Any]], Optimizer]
Batch = tuple[Tensor, Tensor]


class ClassificationTask(L.LightningModule):
    """Trains and tests a classifier over a backbone.

    Targets are class indices [B] (int64) or probabilities [B, num_classes] (mixup). Logged are
    ``{train,val,test}/loss`` and, for class indices, ``{val,test}/top1`` and ``/top5`` in [0, 1].

    Args:
        backbone: Network from images [B, C, H, W] to a feature map.
        num_classes: Number of classes; linked to the data by the command line.
        optimizer: Builds the optimiser from parameter groups.
        schedule: Builds the learning-rate schedule, stepped per optimiser step, from the
            optimiser and the run's length in steps, which comes from the trainer.
        label_smoothing: Probability mass spread over all classes in the training loss, in [0, 1).
        pool: Builds what reduces the map to a vector, before the linear layer: `MeanPool`,
            `QnAPool` or `QnAMeanPool` of `attnlab.tasks.heads`, or a class of your own.
        groups: Splits the parameters by whether weight decay may touch them, see
            `attnlab.optim.groups`.

    Raises:
        ValueError: `label_smoothing` lies outside [0, 1), `num_classes` is not positive, or as the
            pool says.
    """

    main_metric: ClassVar[str] = "top1"
    """The metric, without its stage, that stands for a run."""

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        optimizer: OptimizerFactory = AdamW,
        schedule: ScheduleFactory = WarmupCosine,
        label_smoothing: float = 0.0,
        pool: PoolFactory = MeanPool,
        groups: GroupsOf = parameter_groups,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"{label_smoothing=} must lie in [0, 1)")
        self.classifier = PooledClassifier(backbone, num_classes, pool)
        self.optimizer_factory = optimizer
        self.schedule_factory = schedule
        self.groups = groups
        self.train_criterion = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        self.criterion = nn.CrossEntropyLoss()
        accuracies = MetricCollection(self.accuracies(num_classes))
        self.val_accuracy = accuracies.clone(prefix="val/")
        self.test_accuracy = accuracies.clone(prefix="test/")
        self.val_loss, self.test_loss = MeanMetric(), MeanMetric()

    @staticmethod
    def accuracies(num_classes: int) -> dict[str, Metric | MetricCollection]:
        """Return the metrics of validation and test, by name, all from logits and class indices."""
        top_k = {f"top{k}": k for k in (1, 5) if k <= num_classes}
        return {
            name: MulticlassAccuracy(num_classes, top_k=k, average="micro", validate_args=False)
            for name, k in top_k.items()
        }

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        logits: Tensor = self.classifier(images)
        return logits

    def evaluated(self, inputs: Tensor) -> Float[Tensor, "batch classes"]:
        """Return the logits that validation, test and prediction go by."""
        logits: Tensor = self(inputs)
        return logits

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the training loss of one batch."""
        images, targets = batch
        loss: Tensor = self.train_criterion(self(images), targets)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def _evaluate(
        self, stage: str, loss: MeanMetric, accuracy: MetricCollection, batch: Batch
    ) -> None:
        images, targets = batch
        logits = self.evaluated(images)
        loss.update(self.criterion(logits, targets), weight=len(images))
        accuracy.update(logits, targets if targets.ndim == 1 else targets.argmax(dim=1))
        self.log(f"{stage}/loss", loss, on_epoch=True)
        self.log_dict(accuracy, on_epoch=True, prog_bar=True)

    def on_validation_epoch_start(self) -> None:
        """Start from fresh states: those left by `Trainer.validate` are inference tensors."""
        self.val_loss.reset()
        self.val_accuracy.reset()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Update the validation metrics."""
        self._evaluate("val", self.val_loss, self.val_accuracy, batch)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        """Update the test metrics."""
        self._evaluate("test", self.test_loss, self.test_accuracy, batch)

    def predict_step(self, batch: Batch, batch_index: int) -> Float[Tensor, "batch classes"]:
        """Return class probabilities [B, num_classes]."""
        return torch.softmax(self.evaluated(batch[0]), dim=1)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build the optimiser over the parameter groups, and a schedule as long as the run."""
        optimizer = self.optimizer_factory(self.groups(self))
        total_steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.schedule_factory(optimizer, total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
