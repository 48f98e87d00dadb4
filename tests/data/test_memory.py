"""Batches fetched from memory: what is in them, in which order, and on which process."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor

from attnlab.data.keys import KeySampler, SampleKey, sample_seed
from attnlab.data.memory import MemoryDataModule

# Python 3.12 warns of a fork beside threads; fetching takes no lock.
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def _data(size: int = 101, **options) -> MemoryDataModule:
    """Return data whose pixels all say which sample they belong to; its label is 7 less."""
    options = {"mean": (0.5, 0.25), "std": (0.2, 0.1), "batch_size": 13, "num_workers": 0} | options
    data = MemoryDataModule(**options)
    pixels = torch.arange(size, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 3, 5)
    data.records = {split: (pixels, torch.arange(size) - 7) for split in ("train", "val", "test")}
    return data


def _during(data: MemoryDataModule, *, training: bool, world_size: int = 1, rank: int = 0) -> None:
    data.trainer = SimpleNamespace(
        training=training,
        world_size=world_size,
        global_rank=rank,
        precision_plugin=Precision(),
        strategy=SimpleNamespace(broadcast=lambda seed: seed),
    )


def _order(data: MemoryDataModule) -> list[int]:
    return torch.cat([labels + 7 for _, labels, _ in data.train_dataloader()]).tolist()


def test_a_batch_is_samples_labels_and_seeds():
    L.seed_everything(3, verbose=False)
    loader = _data().train_dataloader()
    loader.sampler.set_epoch(5)
    batches = list(loader)
    assert len(batches) == 101 // 13
    samples = [key.sample for key in loader.sampler]
    for step, (pixels, labels, seeds) in enumerate(batches):
        own = samples[13 * step : 13 * step + 13]
        assert (pixels.shape, pixels.dtype) == ((13, 2, 3, 5), torch.uint8)
        assert pixels.is_contiguous()
        assert pixels[:, 1, 2, 4].tolist() == pixels[:, 0, 0, 0].tolist() == own
        assert (labels + 7).tolist() == own
        assert seeds.tolist() == [sample_seed(3, SampleKey(5, sample)) for sample in own]


def test_positions_are_keys_of_the_first_epoch():
    _, labels, seeds = _data().dataset("train", 3).__getitems__([11, 7])
    assert labels.tolist() == [4, 0]
    assert seeds.tolist() == [sample_seed(3, SampleKey(0, sample)) for sample in (11, 7)]


@pytest.mark.parametrize("split", ["val", "test", "predict"])
def test_evaluation_sees_every_sample_once_and_in_order(split: str):
    batches = list(getattr(_data(), f"{split}_dataloader")())
    assert [len(labels) for _, labels, _ in batches] == [13] * 7 + [10]
    assert torch.cat([labels for _, labels, _ in batches]).tolist() == list(range(-7, 94))


def test_order_follows_the_global_seed_alone():
    L.seed_everything(3, verbose=False)
    first = _order(_data())
    assert len(set(first)) == 91
    assert first != sorted(first)
    L.seed_everything(3, verbose=False)
    torch.rand(7)  # what a model's initialisation draws
    assert _order(_data()) == first
    L.seed_everything(4, verbose=False)
    assert _order(_data()) != first


def test_order_of_a_seed_and_epoch_is_the_published_one():
    # Published figures depend on it: NumPy's SeedSequence([seed, epoch]), then torch.randperm.
    sampler = KeySampler(11, train=True, seed=3)
    sampler.set_epoch(2)
    assert sampler.order().tolist() == [5, 6, 1, 4, 3, 8, 10, 9, 0, 7, 2]


@forks
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_give_the_same_batches(workers: int):
    L.seed_everything(3, verbose=False)
    alone, shared = (list(_data(num_workers=n).train_dataloader()) for n in (0, workers))
    assert len(alone) == len(shared) == 7
    for one, other in zip(alone, shared, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_processes_share_the_epoch():
    L.seed_everything(3, verbose=False)
    whole = _order(_data(batch_size=1))
    parts = []
    for rank in range(3):
        data = _data(batch_size=1)
        _during(data, training=True, world_size=3, rank=rank)
        parts.append(_order(data))
    assert [len(part) for part in parts] == [33, 33, 33]
    assert [sample for turn in zip(*parts, strict=True) for sample in turn] == whole[:99]


def test_processes_take_the_seed_of_the_first():
    orders = []
    for rank, own in enumerate((3, 4)):
        L.seed_everything(own, verbose=False)
        data = _data()
        _during(data, training=True, world_size=2, rank=rank)
        data.trainer.strategy.broadcast = lambda seed: 3
        orders.append(_order(data))
    assert not set(orders[0]).intersection(orders[1])


def test_normalisation_per_channel():
    data = _data()
    batch = next(iter(data.val_dataloader()))
    before = batch[0].clone()
    pixels, labels = data.on_after_batch_transfer(batch, 0)
    expected = before.double() / 255
    expected = torch.stack(
        [(expected[:, 0] - 0.5) / 0.2, (expected[:, 1] - 0.25) / 0.1], dim=1
    ).float()
    torch.testing.assert_close(pixels, expected, rtol=1e-6, atol=1e-6)
    assert labels is batch[1]
    assert torch.equal(batch[0], before)


class _Add:
    """Adds a constant to the bytes, or to the floats and to the targets; doubles them first."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __call__(self, *parts: Tensor):
        if len(parts) == 2:
            return 2 * parts[0] + self.value
        return 2 * parts[0] + self.value, parts[1] + parts[2][:, None]


def test_transforms_apply_in_training_alone_and_in_order():
    data = _data(pixel_transforms=[_Add(1), _Add(3)], batch_transforms=[_Add(5), _Add(7)])
    batch = torch.full((1, 2, 1, 1), 11, dtype=torch.uint8), torch.tensor([2]), torch.tensor([17])
    bytes_ = torch.tensor([[[[2.0 * (2 * 11 + 1) + 3]], [[49.0]]]])
    normalised = data.normalize(bytes_)
    data.num_classes = 3
    _during(data, training=True)
    pixels, targets = data.on_after_batch_transfer(batch, 0)
    torch.testing.assert_close(pixels, 2 * (2 * normalised + 5) + 7)
    assert targets.tolist() == [[2 * 17, 2 * 17, 1 + 2 * 17]]
    for data.trainer in (None, SimpleNamespace(training=False, precision_plugin=Precision())):
        pixels, targets = data.on_after_batch_transfer(batch, 0)
        torch.testing.assert_close(pixels, data.normalize(batch[0]))
        assert targets.tolist() == [2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"num_workers": -1}, "num_workers=-1 must not be negative"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments: dict[str, int], message: str):
    with pytest.raises(ValueError, match=message):
        _data(**arguments)


def test_a_batch_larger_than_the_training_data_is_named():
    data = _data(batch_size=102)
    with pytest.raises(ValueError, match=r"batch_size=102 must not exceed the 101 training"):
        data.train_dataloader()
    data = _data(batch_size=51)
    _during(data, training=True, world_size=2)
    with pytest.raises(ValueError, match="the 50 training samples of each of 2 processes"):
        data.train_dataloader()
