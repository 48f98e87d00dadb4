"""Small stand-ins for a backbone and a data set, importable by class path."""

import functools
import os
import random
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from attnlab.backbones.base import Backbone
from attnlab.backbones.blocks import Block
from attnlab.data.batch.mixing import Mixing
from attnlab.data.memory import MemoryDataModule
from attnlab.operators.base import MixerFactory
from attnlab.tasks.classification import ClassificationTask


class TinyBackbone(Backbone):
    def __init__(self, mixer: MixerFactory, width: int = 12) -> None:
        super().__init__()
        self.num_features, self.grid = width, (2, 2)
        self.stem = nn.Conv2d(1, width, 4, 4)
        self.block = Block(mixer(width, 2, (2, 2)))

    def forward(self, images: Tensor) -> Tensor:
        return self.block(self.stem(images).movedim(1, -1))


class NoiseData(L.LightningDataModule):
    """Random 8x8 images; a label is what the first pixel says, so it can be learnt.

    `count` is the number of test images.
    """

    def __init__(
        self,
        batch_size: int = 16,
        num_classes: int = 7,
        channels: int = 1,
        side: int = 8,
        count: int = 23,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"{batch_size=} must be at least 1")
        self.batch_size, self.count = batch_size, count
        self.input_shape = (channels, side, side)
        self.num_classes = num_classes

    def _loader(self, count: int, seed: int, shuffle: bool = False) -> DataLoader:
        images = torch.rand(count, *self.input_shape, generator=torch.Generator().manual_seed(seed))
        labels = (images[:, 0, 0, 0] * self.num_classes).long()
        data = TensorDataset(images, labels)
        return DataLoader(data, batch_size=self.batch_size, shuffle=shuffle)

    def train_dataloader(self) -> DataLoader:
        return self._loader(64, seed=1, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(24, seed=2)

    def test_dataloader(self) -> DataLoader:
        return self._loader(self.count, seed=3)

    predict_dataloader = test_dataloader


class KeyedNoise(MemoryDataModule):
    """The same through the loaders of the real data sets."""

    num_classes, input_shape = 7, (1, 8, 8)

    def __init__(self, batch_size: int = 16, num_workers: int = 0) -> None:
        super().__init__((0.5,), (0.3,), batch_size, num_workers, batch_transforms=[Mixing(0.5)])

    def setup(self, stage: str) -> None:
        for split, count in (("train", 90), ("val", 24), ("test", 23)):
            generator = torch.Generator().manual_seed(count)
            pixels = torch.randint(256, (count, 1, 8, 8), generator=generator).byte()
            self.records[split] = pixels, pixels[:, 0, 0, 0].long() * 7 // 256


class RestlessTask(ClassificationTask):
    """Draws from every global generator, and logs means over epochs and metrics of training."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.train_accuracy = MulticlassAccuracy(7, average="micro")

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        images, targets = batch
        noise = random.random() + np.random.random()
        loss = super().training_step((functional.dropout(images, 0.2) + 0.1 * noise, targets), 0)
        self.log("train/mean", loss, on_epoch=True, on_step=False)
        labels = targets if targets.ndim == 1 else targets.argmax(1)
        self.train_accuracy(self(images), labels)
        self.log("train/accuracy", self.train_accuracy, on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch: Any, batch_index: int) -> None:
        super().validation_step((batch[0] + torch.rand(()), batch[1]), batch_index)


class Interruption(L.Callback):
    """Sends this process a signal in a hook, the n-th time it is called; 0: raises an error."""

    def __init__(self, hook: str, count: int, number: int = 15, rank: int = -1) -> None:
        self.left, self.rank = count, rank
        setattr(self, hook, functools.partial(self._call, number))

    def _call(self, number: int, trainer: L.Trainer, *arguments: Any) -> None:
        if trainer.sanity_checking or self.rank not in (-1, trainer.global_rank):
            return
        self.left -= 1
        if self.left == 0 and number == 0:
            raise RuntimeError("broken")
        if self.left == 0:
            os.kill(os.getpid(), number)
