"""What the embedded data sets share, shown on the smallest of them."""

import multiprocessing
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attnlab.data.cache import read_records
from attnlab.data.digits8 import Digits8
from attnlab.data.digits_pair import DigitsPair
from attnlab.data.sources import SPLITS

# Python 3.12 warns of a fork beside threads; neither composing nor fetching takes a lock.
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture
def data(tmp_path: Path) -> Digits8:
    data = Digits8(batch_size=29, cache_dir=tmp_path)
    data.prepare_data()
    data.setup("fit")
    return data


def test_shape_and_classes_are_known_before_any_disk_access(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "load", None)
    data = Digits8(side=16, cache_dir=tmp_path / "cache")
    assert (data.num_classes, data.input_shape) == (10, (1, 16, 16))
    assert not any(tmp_path.iterdir())


def test_batches(data: Digits8) -> None:
    loaders = {
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "test": data.test_dataloader(),
        "predict": data.predict_dataloader(),
    }
    for loader in loaders.values():
        images, labels, seeds = next(iter(loader))
        assert (images.shape, images.dtype) == ((29, 1, 8, 8), torch.uint8)
        assert (labels.shape, labels.dtype) == ((29,), torch.int64)
        assert (seeds.shape, seeds.dtype) == ((29,), torch.int64)
    sizes = {name: [len(labels) for _, labels, _ in loader] for name, loader in loaders.items()}
    assert sizes["train"] == [29] * (1122 // 29)
    assert sizes["val"] == [29] * (225 // 29) + [225 % 29]
    assert sizes["test"] == sizes["predict"] == [29] * (450 // 29) + [450 % 29]


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_sees_every_image_once_and_in_order(data: Digits8, split: str) -> None:
    images, labels, _ = (torch.cat(parts) for parts in zip(*data._loader(split), strict=True))
    expected_images, expected_labels = data.compose_split(split)
    assert np.array_equal(images, expected_images)
    assert np.array_equal(labels, expected_labels)


def test_training_keeps_image_and_label_together(data: Digits8) -> None:
    images, labels = data.compose_split("train")
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for batch, targets, _ in data.train_dataloader():
        assert [known[image.numpy().tobytes()] for image in batch] == targets.tolist()


def test_every_split_and_data_seed_has_its_own_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Digits8, "compose", lambda self, split, rng: rng.random())
    draws = [Digits8(data_seed=seed).compose_split(split) for seed in (0, 1) for split in SPLITS]
    assert len(set(draws)) == 6


def test_data_ignore_the_seed_of_the_run(tmp_path: Path) -> None:
    made = []
    for seed in (3, 4):
        L.seed_everything(seed, verbose=False)
        made.append(DigitsPair(train_size=7, cache_dir=tmp_path).compose_split("train"))
    assert np.array_equal(made[0][0], made[1][0])


def test_normalisation(data: Digits8) -> None:
    images, labels, seeds = next(iter(data.val_dataloader()))
    before = images.clone()
    normalised, same = data.on_after_batch_transfer((images, labels, seeds), 0)
    assert normalised.dtype == torch.float32
    expected = (before.double() / 255 - data.mean) / data.std
    torch.testing.assert_close(normalised.double(), expected, rtol=1e-6, atol=1e-6)
    assert same is labels
    assert torch.equal(images, before)


class _Probe(L.LightningModule):
    """Records what the Trainer hands to a task."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.seen: list[tuple[int, Tensor, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        self.seen.append((self.current_epoch, *batch))
        return nn.functional.cross_entropy(self.head(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        assert batch[0].dtype == torch.float32

    def predict_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        return self.head(batch[0].flatten(1)).argmax(1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # rightly: fetching is indexing
def test_trainer_gets_normalised_batches_in_a_new_order_each_epoch(tmp_path: Path) -> None:
    L.seed_everything(3, verbose=False)
    probe, data = _Probe(), Digits8(batch_size=1122, cache_dir=tmp_path)
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(probe, data)
    assert [epoch for epoch, _, _ in probe.seen] == [0, 1, 2]
    images, labels = probe.seen[0][1:]
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert abs(images.mean()) < 1e-3
    assert abs(images.std() - 1) < 1e-3
    orders = {tuple(labels.tolist()) for _, _, labels in probe.seen}
    assert len(orders) == 3
    assert len({tuple(sorted(order)) for order in orders}) == 1
    assert len(torch.cat(trainer.predict(probe, data))) == 450


def test_prepared_files_are_used_and_not_made_again(
    data: Digits8, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Digits8, "compose", None)
    again = Digits8(batch_size=29, cache_dir=data.cache_dir)
    again.prepare_data()
    again.setup("fit")
    for split in SPLITS:
        for one, other in zip(data.records[split], again.records[split], strict=True):
            assert torch.equal(one, other)


def test_damaged_file_is_made_again(data: Digits8) -> None:
    path = data.cache_path("val")
    sound = path.read_bytes()
    path.write_bytes(sound[:-100] + bytes(100))
    data.prepare_data()
    assert path.read_bytes() == sound


def test_cache_paths_differ_with_all_that_determines_the_data(tmp_path: Path) -> None:
    variants = [
        Digits8(cache_dir=tmp_path),
        Digits8(cache_dir=tmp_path, side=16),
        Digits8(cache_dir=tmp_path, data_seed=1),
        DigitsPair(cache_dir=tmp_path),
        DigitsPair(cache_dir=tmp_path, train_size=7),
    ]
    paths = [data.cache_path(split) for data in variants for split in SPLITS]
    # The last two share what the training size does not move.
    assert len(set(paths)) == len(paths) - 2
    assert variants[3].cache_path("test") == variants[4].cache_path("test")
    same = Digits8(batch_size=7, num_workers=1, cache_dir=tmp_path)
    assert variants[0].cache_path("train") == same.cache_path("train")


def test_unwritable_cache_is_announced_and_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    data = Digits8(cache_dir=tmp_path / "file" / "cache")
    with pytest.warns(UserWarning, match=r"cache_dir='.*cache' cannot be written"):
        data.prepare_data()
    data.setup("fit")
    assert len(data.records["train"][1]) == 1122


@forks
def test_processes_starting_together_make_one_sound_cache(tmp_path: Path) -> None:
    data = DigitsPair(train_size=2000, val_size=7, test_size=7, cache_dir=tmp_path)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=data.prepare_data) for _ in range(4)]
    for process in processes:
        process.start()
    path = data.cache_path("train")
    while any(process.is_alive() for process in processes):
        assert not path.exists() or read_records(path, data.input_shape) is not None
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert set(tmp_path.iterdir()) == {data.cache_path(split) for split in SPLITS}
    images, labels = read_records(path, data.input_shape) or pytest.fail("no records")
    expected_images, expected_labels = data.compose_split("train")
    assert np.array_equal(images, expected_images)
    assert np.array_equal(labels, expected_labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"data_seed": -1}, "data_seed=-1"),
        ({"train_size": 0}, "train_size=0 must be at least 1"),
        ({"test_size": -3}, "test_size=-3 must be at least 1"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DigitsPair(**arguments)
