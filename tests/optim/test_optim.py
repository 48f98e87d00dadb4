"""Parameter groups, schedules, and the two classes taken from lightning-bolts."""

import importlib.metadata
import math

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from attnlab.operators.baselines import WindowAttention
from attnlab.operators.qna import QnA
from attnlab.optim import bolts
from attnlab.optim.groups import official_qna_groups, parameter_groups
from attnlab.optim.schedules import WarmupCosine


class Table(nn.Module):
    no_weight_decay = frozenset({"table"})

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(2, 3))
        self.kernel = nn.Parameter(torch.zeros(2, 3))


def rates(optimizer, schedule, steps: int) -> list[float]:
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def sgd(lr: float = 0.5) -> SGD:
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    return SGD([parameter], lr=lr)


def test_official_groups_spare_tables_and_scales_alone():
    layer = QnA(8, 2, (3, 5), kernel_size=3)
    local = WindowAttention(8, 2, (3, 5), window_size=3)
    net = nn.Sequential(nn.LayerNorm(8), layer, local)
    decayed, spared = official_qna_groups(net)
    expected = {id(p) for p in (layer.scale, layer.position_bias, local.bias_table)}
    assert {id(p) for p in spared["params"]} == expected
    assert len(decayed["params"]) == len(list(net.parameters())) - 3
    assert {id(net[0].bias), id(layer.query)} <= {id(p) for p in decayed["params"]}


def test_groups_spare_norms_biases_and_listed_tables():
    net = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), Table())
    net[0].weight.requires_grad_(True)
    decayed, spared = parameter_groups(net)
    assert {id(p) for p in decayed["params"]} == {id(net[0].weight), id(net[2].kernel)}
    assert {id(p) for p in spared["params"]} == {
        id(p) for p in (net[0].bias, net[1].weight, net[1].bias, net[2].table)
    }
    optimizer = AdamW([decayed, spared], weight_decay=0.07)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.07, 0.0]


def test_groups_leave_out_frozen_and_count_shared_once():
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    assert [len(group["params"]) for group in parameter_groups(net)] == [1]
    net.requires_grad_(False)
    assert parameter_groups(net) == []


def test_warmup_cosine_values():
    optimizer = sgd(lr=0.5)
    values = rates(optimizer, WarmupCosine(optimizer, 20, warmup=0.2, floor=0.1), 21)
    assert values[0] == pytest.approx(0.5e-3)
    assert values[2] == pytest.approx(0.5 * (1e-3 + 0.999 * 0.5))
    assert values[4] == pytest.approx(0.5)
    assert values[12] == pytest.approx(0.05 + 0.45 * (1 + math.cos(math.pi * 8 / 16)) / 2)
    assert values[20] == pytest.approx(0.05)


@pytest.mark.parametrize("warmup", [-0.1, 1.0, 5.0])
def test_warmup_outside_its_range(warmup):
    with pytest.raises(ValueError, match=f"warmup={warmup}"):
        WarmupCosine(sgd(), 20, warmup=warmup)


@pytest.mark.parametrize(("total", "warm"), [(40, 10), (101, 17)])
def test_bolts_schedule_equals_torch(total, warm):
    theirs, ours = sgd(lr=0.5), sgd(lr=0.5)
    schedule = bolts.LinearWarmupCosineAnnealingLR(
        theirs, total, warmup=warm / total, warmup_start_lr=0.5 * 0.01
    )
    pair = [
        LinearLR(ours, start_factor=0.01, total_iters=warm - 1),
        CosineAnnealingLR(ours, T_max=total - warm),
    ]
    expected = rates(ours, SequentialLR(ours, pair, milestones=[warm]), total + 1)
    actual = rates(theirs, schedule, total + 1)
    assert actual[0] == 0.005
    assert max(actual) == pytest.approx(0.5)
    assert max(abs(a - b) for a, b in zip(actual, expected, strict=True)) < 1e-13


def test_bolts_lars_first_step():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    spared = nn.Parameter(torch.tensor([1.0]))
    groups = [{"params": [weight]}, {"params": [spared], "weight_decay": 0.0}]
    optimizer = bolts.LARS(groups, lr=0.5, momentum=0.9, weight_decay=0.1, trust_coefficient=0.02)
    weight.grad, spared.grad = torch.tensor([0.0, 2.0]), torch.tensor([0.3])
    optimizer.step()
    local = 0.02 * 5 / (2 + 0.1 * 5)  # trust * |w| / (|g| + decay * |w|)
    expected = torch.tensor([3.0, 4.0]) - 0.5 * local * torch.tensor([0.3, 2.4])
    torch.testing.assert_close(weight.detach(), expected)
    torch.testing.assert_close(spared.detach(), torch.tensor([0.85]))


def test_bolts_missing_says_how_to_install(monkeypatch):
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(ImportError, match="pip install --no-deps lightning-bolts"):
        bolts._load("optimizers/lars.py")
