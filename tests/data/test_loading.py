"""Streamed data: the same stream for any number of workers, and failures that are counted."""

import os
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from attnlab.data.loading import StreamedDataModule
from attnlab.data.memory import MemoryDataModule
from attnlab.data.streamed import Failure, Part, StreamedDataset, UnreadableSampleError

CLASSES = 5


class Squares:
    """Images whose pixels are their index; those in `bad` cannot be read."""

    def __init__(self, size: int, bad: tuple[int, ...] = (), deadly: int | None = None) -> None:
        self.labels = np.arange(size) % CLASSES
        self.bad, self.deadly = bad, deadly

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"square-{index}.jpg"

    def read(self, index: int, rng: np.random.Generator) -> np.ndarray:
        if index == self.deadly:
            os._exit(3)
        if index in self.bad:
            raise UnreadableSampleError("zero bytes")
        return np.full((1, 3, 2, 3), index, np.uint8)

    def check(self, index: int) -> str | None:
        return "zero bytes" if index in self.bad else None


def jitter(frames: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Add a random number below 8, so that the stream shows the generators."""
    return torch.from_numpy(frames + rng.integers(8, dtype=np.uint8)).permute(0, 3, 1, 2)


class Shapes(StreamedDataModule):
    num_classes = CLASSES
    input_shape = (3, 3, 2)

    def __init__(self, size: int = 23, bad: tuple[int, ...] = (), deadly=None, **options) -> None:
        options.setdefault("num_workers", 0)
        super().__init__([0.5] * 3, [0.25] * 3, batch_size=options.pop("batch_size", 4), **options)
        self.source = Squares(size, bad, deadly)

    def open_split(self, split):
        return StreamedDataset(self.source, jitter, 7, self.on_error, still=True)


class Probe(L.LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def training_step(self, batch, index):
        self.seen.append(batch)
        return self.weight * batch[0].sum()

    def validation_step(self, batch, index):
        self.seen.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(data: Shapes, **options) -> Probe:
    probe = Probe()
    options = {"max_epochs": 2, "num_sanity_val_steps": 0} | options
    L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    ).fit(probe, datamodule=data)  # fmt: skip
    return probe


def stream(workers: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(3)
    return fit(Shapes(num_workers=workers, repeats=2), limit_val_batches=1).seen


def test_the_stream_does_not_depend_on_the_number_of_workers():
    alone = stream(0)
    assert len(alone) == 2 * (5 + 1)
    assert not torch.equal(alone[0][0], alone[6][0])  # another epoch, another stream
    for workers in (1, 2, 4):
        for expected, batch in zip(alone, stream(workers), strict=True):
            torch.testing.assert_close(batch, expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["streamed", "memory"])
def test_a_resumed_run_continues_with_its_epoch(kind, tmp_path):
    def run(epochs: int, start: Path | None = None) -> list[tuple[torch.Tensor, torch.Tensor]]:
        torch.manual_seed(3)
        data = Shapes(num_workers=1)
        if kind == "memory":
            data = MemoryDataModule([0.5] * 3, [0.25] * 3, batch_size=4, num_workers=1)
            pixels = torch.arange(23 * 18, dtype=torch.int32).byte().view(23, 3, 3, 2)
            data.records = dict.fromkeys(("train", "val"), (pixels, torch.arange(23)))
        probe = Probe()
        quiet = dict.fromkeys(
            ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
        )
        trainer = L.Trainer(accelerator="cpu", max_epochs=epochs, limit_val_batches=0, **quiet)
        trainer.fit(probe, datamodule=data, ckpt_path=start)
        if start is None:
            trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return probe.seen

    whole = run(4)
    run(2)
    resumed = run(4, tmp_path / "2.ckpt")
    assert len(resumed) == 10
    for expected, batch in zip(whole[10:], resumed, strict=True):
        torch.testing.assert_close(batch, expected, rtol=0, atol=0)


def test_pixels_are_normalised_and_labels_stay_with_them():
    data = Shapes()
    for pixels, labels in fit(data, max_epochs=1, limit_val_batches=0).seen:
        assert (pixels.shape, pixels.dtype) == ((4, 3, 3, 2), torch.float32)
        values = ((pixels * 0.25 + 0.5) * 255)[:, 0, 0, 0]
        offsets = torch.arange(8) + labels[:, None]  # the pixel: index + 0..7
        possible = (values.round()[:, None].long() - offsets) % CLASSES == 0
        assert possible.any(dim=1).all()
        torch.testing.assert_close(pixels, pixels[:, :1, :1, :1].expand_as(pixels))


def test_batch_transforms_see_training_only_and_the_seeds_of_their_samples():
    calls = []

    def negate(pixels, targets, seeds):
        calls.append(seeds)
        return -pixels, targets

    torch.manual_seed(3)
    seen = fit(Shapes(batch_transforms=[negate]), max_epochs=1).seen
    torch.manual_seed(3)
    plain = fit(Shapes(), max_epochs=1).seen
    assert len(calls) == 5
    assert len(torch.cat(calls).unique()) == 20
    for turn, (batch, expected) in enumerate(zip(seen, plain, strict=True)):
        sign = -1 if turn < 5 else 1  # validation follows
        torch.testing.assert_close(batch[0], sign * expected[0], rtol=0, atol=0)


def test_raise_names_the_sample():
    with pytest.raises(UnreadableSampleError, match=r"sample 7, square-7.jpg: zero bytes"):
        fit(Shapes(bad=(7,)))


def test_skip_leaves_out_and_counts():
    data = Shapes(bad=(7, 11), on_error="skip")
    with pytest.warns(UserWarning, match=r"skipped square-(7|11).jpg: zero bytes"):
        probe = fit(data, max_epochs=1)
    assert data.skipped["val"] == {"square-7.jpg": "zero bytes", "square-11.jpg": "zero bytes"}
    assert sum(len(labels) for _, labels in probe.seen[5:]) == 21  # the validation
    assert sum(len(labels) for _, labels in probe.seen[:5]) == 20 - len(data.skipped["train"])


@pytest.mark.filterwarnings("ignore:skipped")
def test_too_many_skipped_samples_are_an_error():
    bad = tuple(range(0, 60, 5))
    with pytest.raises(UnreadableSampleError, match=r"11 of 60 samples .* more than the 10 that"):
        fit(Shapes(size=60, bad=bad, on_error="skip"))
    with pytest.raises(UnreadableSampleError, match="none of the 4 samples of a batch"):
        fit(Shapes(bad=tuple(range(23)), on_error="skip"))


@pytest.mark.filterwarnings("ignore:skipped")
@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_goes_on_where_nothing_of_a_batch_can_be_read(workers):
    data = Shapes(on_error="skip", batch_size=2, num_workers=workers)
    data.source.bad = (0, 1, 4, 8, 9, 10, 11, 22)  # the first batch, two in the middle, the last
    probe = Probe()
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    L.Trainer(accelerator="cpu", **quiet).validate(probe, data, verbose=False)
    assert [len(labels) for _, labels in probe.seen] == [2, 1, 2, *[2] * 5]
    assert sum(len(labels) for _, labels in probe.seen) == 15
    assert set(data.skipped["val"]) == {f"square-{index}.jpg" for index in data.source.bad}
    data.source.bad = tuple(range(23))
    with pytest.raises(UnreadableSampleError, match=r"none of the 23 .* a split .* is square-0"):
        L.Trainer(accelerator="cpu", **quiet).validate(probe, data, verbose=False)


@pytest.mark.filterwarnings("ignore:skipped")
def test_every_epoch_counts_anew():
    data = Shapes(bad=(7,), on_error="skip")
    counts = []

    class Mended(L.Callback):
        def on_validation_epoch_end(self, trainer, module):
            counts.append(len(data.skipped["val"]))
            data.source.bad = ()

    fit(data, callbacks=[Mended()], limit_train_batches=1, max_epochs=3)
    assert counts == [1, 0, 0]


@pytest.mark.filterwarnings("ignore:skipped")
def test_what_may_be_skipped_is_a_share_of_what_the_process_reads():
    data = Shapes(size=40_000, on_error="skip")
    data.setup("fit")
    failures = [Failure(f"square-{index}.jpg", "zero bytes") for index in range(21)]
    for size, allowed in ((1, 40), (2, 20), (3, 13)):
        data.trainer = SimpleNamespace(world_size=size, current_epoch=size, training=True)
        if allowed == 40:
            data.on_before_batch_transfer(("batch", failures), 0)
            continue
        of = -(-40_000 // size)
        with pytest.raises(UnreadableSampleError, match=rf"of {of} .* the {allowed} that"):
            data.on_before_batch_transfer(("batch", failures), 0)


@pytest.mark.filterwarnings("ignore:You requested to overfit")  # without shuffling: as wanted
def test_a_batch_may_be_overfitted():
    seen = fit(Shapes(), max_epochs=3, overfit_batches=2).seen
    assert len(seen) == 12  # training and validation in turn, both of the same samples
    for turn, (pixels, labels) in enumerate(seen):
        assert labels.tolist() == [[0, 1, 2, 3], [4, 0, 1, 2]][turn % 2]
        torch.testing.assert_close(pixels, seen[turn % 2][0], rtol=0, atol=0)


def test_pixels_and_probabilities_have_the_precision_of_the_weights():
    def as_they_are(pixels, targets, seeds):
        return pixels, targets

    data = Shapes(batch_transforms=[as_they_are])
    seen = fit(data, max_epochs=1, precision="bf16-true").seen
    kinds = [(pixels.dtype, targets.dtype) for pixels, targets in seen]
    assert kinds == [(torch.bfloat16, torch.bfloat16)] * 5 + [(torch.bfloat16, torch.int64)] * 6


def test_a_dead_worker_is_named_with_its_samples(monkeypatch):
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))
    with pytest.raises(RuntimeError, match=r"worker.*last samples begun: square-\d"):
        fit(Shapes(deadly=7, num_workers=1))


def test_a_part_of_a_source_is_a_source():
    part = Part(Squares(23, bad=(7,)), np.array([3, 7, 2]))
    assert (len(part), list(part.labels), part.name(0)) == (3, [3, 2, 2], "square-3.jpg")
    assert part.read(2, np.random.default_rng()).max() == 2
    assert [part.check(index) for index in range(3)] == [None, "zero bytes", None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"repeats": 0}, "repeats=0"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"on_error": "ignore"}, "on_error='ignore' must be one of raise, skip"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Shapes(**options)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="batch_size=24 must not exceed the 23 training samples"):
        fit(Shapes(batch_size=24))
