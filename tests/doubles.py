"""Small stand-ins for a backbone and a data set, importable by class path."""

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from attnlab.backbones.base import Backbone
from attnlab.backbones.blocks import Block
from attnlab.operators.base import MixerFactory


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
