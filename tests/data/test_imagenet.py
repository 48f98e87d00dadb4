"""The data module on small trees: splits, batches, the command line, and damaged files."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from attnlab.data.demo.imagenet import write
from attnlab.data.exclude import kept
from attnlab.data.imagenet import MEAN, STD, ImageNet
from attnlab.data.streamed import UnreadableSampleError
from attnlab.data.transforms.evaluate import EvalTransform
from attnlab.data.transforms.train import TrainTransform
from attnlab.data.validation import build

WNIDS = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "tree"
    write(root, classes=5, train=11, val=3)
    return root


@pytest.fixture
def root(demo: Path, tmp_path: Path) -> Path:
    """A tree of its own, to be damaged."""
    return Path(shutil.copytree(demo, tmp_path / "tree"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNLAB_CACHE", str(tmp_path_factory.mktemp("cache")))


def module(root: Path, **options) -> ImageNet:
    options = {
        "num_classes": 5,
        "batch_size": 7,
        "num_workers": 0,
        "train_transform": TrainTransform(size=19, scale=(0.5, 1)),
        "eval_transform": EvalTransform(size=17),
    } | options
    return ImageNet(root, **options)


def opened(root: Path, **options) -> ImageNet:
    data = module(root, **options)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def names(data: ImageNet, split: str) -> list[str]:
    source = data.datasets[split].source
    return [source.name(index) for index in range(len(source))]


def test_shapes_are_known_before_any_disk_access() -> None:
    data = ImageNet("nowhere", num_classes=13, train_transform=TrainTransform(96))
    assert (data.num_classes, data.input_shape) == (13, (3, 96, 96))
    assert (ImageNet("nowhere").num_classes, ImageNet("nowhere").input_shape) == (
        1000,
        (3, 224, 224),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes=0 must be at least 1"),
        ({"val_size": 0}, "val_size=0 must be at least 1"),
        ({"select_on": "test"}, "select_on='test' must be one of held_out, official"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"on_error": "replace"}, "on_error='replace' must be one of raise, skip"),
        ({"train_transform": lambda frames, rng: frames}, "must have a size, in pixels"),
    ],
)
def test_arguments_are_checked(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(Path("nowhere"), **options)


def test_a_part_of_every_class_is_held_out_and_the_official_set_is_the_test(demo: Path) -> None:
    data = opened(demo)
    train, val, test = (names(data, split) for split in ("train", "val", "test"))
    assert sorted(train + val) == sorted(
        path.relative_to(demo).as_posix() for path in demo.glob("train/*/*")
    )
    assert [name.split("/")[1] for name in val] == list(WNIDS)
    assert sorted(test) == sorted(
        path.relative_to(demo).as_posix() for path in demo.glob("val/*/*")
    )
    torch.manual_seed(5)
    assert names(opened(demo), "val") == val
    assert len(names(opened(demo, val_size=10), "val")) == 10


def test_selection_on_the_official_set(demo: Path) -> None:
    data = opened(demo, select_on="official")
    assert len(names(data, "train")) == 55
    assert names(data, "val") == names(data, "test")


def test_batches_are_the_files_pixels(demo: Path) -> None:
    data = opened(demo)
    pixels, labels = data.on_after_batch_transfer(
        data.on_before_batch_transfer(next(iter(data.test_dataloader())), 0), 0
    )
    assert (pixels.shape, pixels.dtype) == ((7, 3, 17, 17), torch.float32)
    first = names(data, "test")[:7]
    assert [WNIDS[label] for label in labels] == [name.split("/")[1] for name in first]
    for name, result in zip(first, pixels, strict=True):
        image = Image.open(demo / name).convert("RGB")
        side = round(17 / 0.875 - 0.5)
        short = min(image.size)
        image = image.resize(
            (side * image.width // short, side * image.height // short), Image.Resampling.BICUBIC
        )
        left, top = round((image.width - 17) / 2), round((image.height - 17) / 2)
        crop = np.asarray(image.crop((left, top, left + 17, top + 17)))
        expected = (crop / 255 - MEAN) / STD
        np.testing.assert_allclose(result.movedim(0, -1), expected, atol=1.5 / 255 / min(STD))


class Stream(L.LightningModule):
    """Keeps what training sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        self.seen.append((batch[0].clone(), batch[1]))
        return self.weight * batch[0].sum()

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Do nothing: a trainer warns of validation data that nothing takes."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(data: ImageNet, epochs: int = 2) -> Stream:
    L.seed_everything(3, verbose=False)
    stream = Stream()
    L.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    ).fit(stream, datamodule=data)  # fmt: skip
    return stream


@pytest.fixture(scope="module")
def alone(demo: Path) -> Iterator[list[tuple[Tensor, Tensor]]]:
    return fit(module(demo)).seen


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_stream_is_the_same_for_any_number_of_workers(
    demo: Path, alone: list[tuple[Tensor, Tensor]], workers: int
) -> None:
    assert len(alone) == 2 * (50 // 7)
    assert not torch.equal(alone[0][0], alone[7][0])
    for expected, batch in zip(alone, fit(module(demo, num_workers=workers)).seen, strict=True):
        torch.testing.assert_close(batch, expected, rtol=0, atol=0)


def test_the_stream_is_the_same_from_archives(
    demo: Path, tmp_path: Path, alone: list[tuple[Tensor, Tensor]]
) -> None:
    write(tmp_path / "tar", classes=5, train=11, val=3, layout="tar")
    for expected, batch in zip(alone, fit(module(tmp_path / "tar")).seen, strict=True):
        torch.testing.assert_close(batch, expected, rtol=0, atol=0)


def damage(root: Path, count: int) -> list[str]:
    """Damage training images of the first class, in different ways, and return their names."""
    data = opened(root)
    damaged = [name for name in names(data, "train") if WNIDS[0] in name][:count]
    for number, name in enumerate(damaged):
        whole = (root / name).read_bytes()
        contents = (whole[: len(whole) // 2], b"<!DOCTYPE html><title>404</title>", b"", b"\0" * 99)
        (root / name).write_bytes(contents[number % 4])
    return damaged


@pytest.mark.parametrize("workers", [0, 2])
def test_raise_names_the_position_the_path_and_the_reason(root: Path, workers: int) -> None:
    (name,) = damage(root, 1)
    data = module(root, num_workers=workers)
    with pytest.raises(UnreadableSampleError, match=rf"sample \d, {name}: cannot be decoded, "):
        fit(data)


@pytest.mark.filterwarnings("ignore:skipped")
def test_skip_leaves_out_and_counts(root: Path) -> None:
    damaged = damage(root, 4)
    data = module(root, on_error="skip", batch_size=10)
    with pytest.warns(UserWarning, match=f"skipped {damaged[2]}: empty file"):
        stream = fit(data, epochs=1)
    assert sum(len(labels) for _, labels in stream.seen) == 50 - 4
    assert list(data.skipped["train"]) != damaged  # in the order of the epoch
    reasons = [data.skipped["train"].pop(name) for name in damaged]
    assert not data.skipped["train"]
    for reason, start in zip(
        reasons, ("cannot be decoded, ", "a text or web", "empty file (0", "cannot be"), strict=True
    ):
        assert reason.startswith(start)


@pytest.mark.filterwarnings("ignore:skipped")
def test_skip_has_a_limit(root: Path) -> None:
    for path in [*root.glob("train/n0144*/*")][:20]:
        path.write_bytes(b"")
    with pytest.raises(
        UnreadableSampleError, match=r"of 50 samples .* more than the 10 that on_er"
    ):
        fit(module(root, on_error="skip", val_size=5))


def test_a_file_that_vanishes_is_unreadable(root: Path) -> None:
    data = opened(root)
    gone = names(data, "train")[3]
    (root / gone).unlink()
    with pytest.raises(UnreadableSampleError, match=f"sample 3, {gone}: .*No such file"):
        fit(data)


def test_the_known_odd_files_are_read(demo: Path) -> None:
    kinds = set()
    data = opened(demo)
    for split in ("train", "val"):
        source = data.datasets[split].source
        for index in range(len(source)):
            content = (demo / source.name(index)).read_bytes()
            image = Image.open(io.BytesIO(content))
            kinds.add((image.format, image.mode))
            pixels = source.read(index, np.random.default_rng(0))
            assert pixels.shape == (1, image.height, image.width, 3)
    assert kinds == {("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGB")}


def test_excluded_images_move_no_other(root: Path, tmp_path: Path) -> None:
    before = opened(root)
    out = [names(before, "train")[3], names(before, "val")[1], names(before, "test")[7]]
    exclude = tmp_path / "exclude.txt"
    exclude.write_text("# unreadable\n\n" + "\n".join(out) + "\n")
    after = opened(root, exclude=exclude)
    for split, name in zip(("train", "val", "test"), out, strict=True):
        assert names(after, split) == [each for each in names(before, split) if each != name]
    with pytest.raises(
        FileNotFoundError, match=r"exclude='.*none.txt' does not exist; .*validate-d"
    ):
        opened(root, exclude=tmp_path / "none.txt")


def test_kept_takes_whole_names_only(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a/1.JPEG\nb\n")
    assert kept(["a/11.JPEG", "a/1.JPEG", "b", "c/b"], tmp_path / "list").tolist() == [0, 3]


def test_what_is_found_is_said_in_one_line(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        opened(root)
    (line,) = [record.getMessage() for record in caplog.records if str(root) in record.getMessage()]
    assert line == (
        f"{root}: class folders: train/<class>/, val/<class>/; 5 classes, 55 training and "
        "15 validation images"
    )


def test_what_is_missing_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "flat", classes=5, train=3, val=3, layout="flat")
    next((tmp_path / "flat" / "val").iterdir()).unlink()
    with pytest.warns(UserWarning, match="lacks 1 of the 15 images"):
        data = opened(tmp_path / "flat")
    assert len(data.notes()) == 1
    assert len(data.datasets["test"]) == 14


def test_too_few_or_too_many_classes(root: Path) -> None:
    with pytest.raises(ValueError, match=r"num_classes=1000, but .* has 5 classes"):
        module(root, num_classes=1000).prepare_data()


def test_transforms_are_chosen_by_class_path(demo: Path, tmp_path: Path) -> None:
    here = "attnlab.data.transforms"
    init = {
        "root": str(demo),
        "num_classes": 5,
        "train_transform": {
            "class_path": f"{here}.train.TrainTransform",
            "init_args": {"size": 23},
        },
        "eval_transform": {"class_path": f"{here}.evaluate.EvalTransform"},
    }
    data = {"class_path": "attnlab.data.imagenet.ImageNet", "init_args": init}
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump({"data": data}))
    built = build([tmp_path / "experiment.yaml"], ["--data.eval_transform.size=29"])
    assert isinstance(built, ImageNet)
    assert isinstance(built.train_transform, TrainTransform)
    assert isinstance(built.eval_transform, EvalTransform)
    assert (built.input_shape, built.eval_transform.size) == ((3, 23, 23), 29)
