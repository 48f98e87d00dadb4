"""GFLOPs against counts worked out by hand."""

import math

import pytest
import torch
from torch import nn

from attnlab.backbones.blocks import Block
from attnlab.callbacks.complexity import forward_gflops
from attnlab.operators.baselines import GlobalFilter, SelfAttention


def test_convolution_and_linear():
    network = nn.Sequential(nn.Conv2d(3, 5, 2, 2), nn.Flatten(), nn.Linear(5 * 2 * 3, 7))
    macs = 2 * 3 * 5 * (3 * 2 * 2) + 30 * 7
    assert forward_gflops(network, (3, 4, 6)) * 1e9 == pytest.approx(2 * macs)


def test_attention_products_are_counted():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixer = SelfAttention(12, 3, (5, 7))

        def forward(self, x):
            return self.mixer(x.movedim(1, -1))

    tokens, dim = 35, 12
    macs = tokens * dim * 4 * dim + 2 * tokens * tokens * dim
    assert forward_gflops(Net(), (12, 5, 7)) * 1e9 == pytest.approx(2 * macs)


def test_declared_flops_are_added_at_the_grid_that_is_seen():
    mixer = GlobalFilter(4, 1, (3, 5))
    declared = mixer.uncounted_flops((6, 10))
    assert declared > mixer.uncounted_flops((3, 5)) > 0

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block(mixer)

        def forward(self, x):
            return self.block(x.movedim(1, -1))

    macs = 60 * (2 * 4 * 16)  # the MLP; the filter itself has no projection
    assert forward_gflops(Net(), (4, 6, 10)) * 1e9 == pytest.approx(2 * macs + declared)


def test_leaves_mode_hooks_and_statistics_alone():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).train()
    forward_gflops(network, (1, 3, 3))
    assert network.training
    assert torch.equal(network[1].running_var, torch.ones(2))
    assert not math.isnan(network(torch.ones(2, 1, 3, 3)).sum().item())
