"""CIFAR in all its forms, on small trees and on records written by hand."""

import contextlib
import dataclasses
import hashlib
import logging
import pickle
import tarfile
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor

from attnlab.data import cifar_files, validation
from attnlab.data.batch.geometry import RandomCrop, RandomFlip
from attnlab.data.cifar import CIFAR, CIFAR10, CIFAR100
from attnlab.data.cifar_files import Found, find, read
from attnlab.data.demo.cifar import write
from attnlab.data.download import Archive

MODULES = {10: CIFAR10, 100: CIFAR100}
TRAIN, TEST = 210, 53
DIFFERS = r".*differs from the published CIFAR-10"
pytestmark = pytest.mark.filterwarnings(f"ignore:{DIFFERS}")
# Python 3.12 warns of a fork beside threads; fetching takes no lock.
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], Path]:
    roots = {}
    for classes in MODULES:
        for form in ("binary", "python"):
            root = roots[classes, form] = tmp_path_factory.mktemp(f"{form}{classes}")
            write(root, train=TRAIN, test=TEST, classes=classes, form=form)
    return roots


@pytest.fixture
def root(roots: dict[tuple[int, str], Path]) -> Path:
    return roots[10, "binary"]


def _ready(root: Path, classes: int = 10, **options) -> CIFAR:
    data = MODULES[classes](root, **{"batch_size": 19, **options})
    data.prepare_data()
    data.setup("fit")
    return data


def _pack(root: Path, target: Path, module: type[CIFAR], form: str) -> Archive:
    """Pack a tree under its archive's name, as if that were the published one."""
    published, folder, _ = module.layout.forms[form]
    path = target / published.name
    with tarfile.open(path, "w:gz") as archive:
        archive.add(root / folder, folder)
    content = path.read_bytes()
    return published._replace(md5=hashlib.md5(content).hexdigest(), size=len(content))


def _publish(
    monkeypatch: pytest.MonkeyPatch, module: type[CIFAR], form: str, archive: Archive
) -> None:
    members = {**module.layout.forms}
    members[form] = members[form]._replace(archive=archive)
    monkeypatch.setattr(module, "layout", dataclasses.replace(module.layout, forms=members))


def test_shape_and_classes_are_known_before_any_disk_access():
    for classes, module in MODULES.items():
        data = module("/nowhere")
        assert (data.num_classes, data.input_shape) == (classes, (3, 32, 32))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["binary", "python"])
@pytest.mark.parametrize("classes", MODULES)
def test_every_form_gives_the_same_images(
    roots: dict[tuple[int, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    classes: int,
    form: str,
    packed: bool,
):
    module, root = MODULES[classes], roots[classes, form]
    expected = _ready(roots[classes, "binary"], classes).records
    if packed:
        _publish(monkeypatch, module, form, _pack(root, tmp_path, module, form))
        root = tmp_path
    with caplog.at_level(logging.INFO):
        data = _ready(root, classes)
    assert f"CIFAR-{classes}: {form} {'archive' if packed else 'folder'} {root}" in caplog.text
    assert f"{TRAIN} training and {TEST} test images" in caplog.text
    assert {split: len(labels) for split, (_, labels) in data.records.items()} == {
        "train": TRAIN - 21,
        "val": 21,
        "test": TEST,
    }
    for split, records in data.records.items():
        for one, other in zip(records, expected[split], strict=True):
            assert torch.equal(one, other)
    if packed:
        assert [path.name for path in root.iterdir()] == [module.layout.forms[form].archive.name]


def test_the_folder_of_the_files_may_be_the_root(roots: dict[tuple[int, str], Path]):
    for (classes, form), root in roots.items():
        layout = MODULES[classes].layout
        folder = root / layout.forms[form].folder
        assert find(folder, layout) == find(root, layout) == Found(folder, form, packed=False)


def _record(*labels: int) -> tuple[bytes, Tensor]:
    """Return a record whose pixels tell their channel, row and column, and its image."""
    image = [[[(7 * c + 11 * y + 13 * x) % 251 for x in range(32)] for y in range(32)]
             for c in range(3)]  # fmt: skip
    pixels = bytes(value for plane in image for row in plane for value in row)
    return bytes(labels) + pixels, torch.tensor(image, dtype=torch.uint8)


def test_a_record_is_red_green_blue_row_by_row():
    content, image = _record(7)
    other = bytes([3]) + bytes(3072)
    pixels, labels = cifar_files.read_records(other + content, "file", cifar_files.CIFAR10)
    assert labels.tolist() == [3, 7]
    assert np.array_equal(pixels[1], image)
    assert not pixels[0].any()


def test_a_record_of_cifar_100_is_superclass_class_pixels():
    content, image = _record(17, 83)
    pixels, labels = cifar_files.read_records(content, "file", cifar_files.CIFAR100)
    assert labels.tolist() == [83]
    assert np.array_equal(pixels[0], image)


def test_a_pickle_of_cifar_100_gives_the_fine_labels():
    content, image = _record()
    batch = {"data": np.frombuffer(content, np.uint8)[None], "coarse_labels": [17]}
    pickled = pickle.dumps(batch | {"fine_labels": [83]})
    pixels, labels = cifar_files.read_pickle(pickled, "file", cifar_files.CIFAR100)
    assert labels.tolist() == [83]
    assert np.array_equal(pixels[0], image)
    with pytest.raises(ValueError, match="file must hold a dictionary with 'data' and 'fine_lab"):
        cifar_files.read_pickle(pickle.dumps(batch), "file", cifar_files.CIFAR100)


DATA = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, 2], "file must hold a dictionary with 'data' and 'labels'"),
        ({"data": DATA.astype(float), "labels": [1, 2]}, "file must hold 'data' as bytes"),
        ({"data": DATA, "labels": [0.5, 1]}, "'labels' as integers"),
        ({"data": DATA, "labels": [1]}, r"as many 'labels', not \(2, 3072\) and \(1,\)"),
        ({"data": DATA[:, 1:], "labels": [1, 2]}, r"'data' \[images, 3072\] .* not \(2, 3071\)"),
        ({"data": DATA, "labels": [10, 2]}, "file has labels 2 to 10, but those of CIFAR-10 are 0"),
        ({"data": DATA, "labels": [-1, 2]}, "file has labels -1 to 2, but"),
    ],
)
def test_a_pickle_of_anything_else_is_named(batch: object, message: str):
    with pytest.raises(ValueError, match=message):
        cifar_files.read_pickle(pickle.dumps(batch), "file", cifar_files.CIFAR10)


def test_a_label_that_is_no_class_is_named_before_the_first_step(root: Path, tmp_path: Path):
    write(tmp_path, train=23, test=7)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    content = bytearray(path.read_bytes())
    content[3 * 3073] = 10
    path.write_bytes(content)
    message = rf"^{path} has labels \d to 10, but those of CIFAR-10 are 0 to 9$"
    with pytest.raises(ValueError, match=message):
        _ready(tmp_path)


def test_a_superclass_that_is_none_is_named():
    content, _ = _record(20, 83)
    with pytest.raises(ValueError, match=r"file has labels 20 to 20, .*CIFAR-100 are 0 to 19"):
        cifar_files.read_records(content, "file", cifar_files.CIFAR100)


@pytest.mark.parametrize("size", [0, 3072, 2 * 3073 + 1, 5 * 3073 - 100])
def test_a_file_that_is_no_whole_number_of_records_is_named(tmp_path: Path, size: int):
    write(tmp_path, train=23, test=7)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:size])
    message = rf"^{path} has {size:,} bytes, not a positive multiple of the 3,073 of a CIFAR-10"
    with pytest.raises(ValueError, match=message):
        _ready(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path):
    write(tmp_path, train=23, test=7)
    (tmp_path / "cifar-10-batches-bin" / "data_batch_4.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"cifar-10-batches-bin/data_batch_4\.bin"):
        _ready(tmp_path)


def test_a_malicious_pickle_in_a_folder_executes_nothing(tmp_path: Path):
    write(tmp_path, train=23, test=7, form="python")
    marker = tmp_path / "made"
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(f"cos\nmkdir\n(V{marker}\ntR.".encode())
    with pytest.raises(ValueError, match=rf"^{path} is no pickle .* asks for os.mkdir; nothing"):
        _ready(tmp_path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()  # it was a threat


@pytest.mark.parametrize("form", ["binary", "python"])
def test_an_archive_is_known_by_its_md5_before_anything_in_it_is_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
):
    write(tmp_path / "tree", train=23, test=7, form=form)
    archive = _pack(tmp_path / "tree", tmp_path, CIFAR10, form)
    path = tmp_path / archive.name
    monkeypatch.setattr(cifar_files, "_unpack", None)
    published = CIFAR10.layout.forms[form].archive
    message = (
        rf"^{path}: truncated download: MD5 {published.md5} expected, got {archive.md5}; "
        rf"{published.size:,} bytes expected, got {archive.size:,}$"
    )
    with pytest.raises(ValueError, match=message):
        _ready(tmp_path)
    _publish(monkeypatch, CIFAR10, form, archive._replace(md5="0" * 32))
    with pytest.raises(ValueError, match=rf"^{path}: not the published file: MD5 0+ expected"):
        _ready(tmp_path)


def test_an_archive_of_something_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tree" / "cifar-10-batches-bin").mkdir(parents=True)
    archive = _pack(tmp_path / "tree", tmp_path, CIFAR10, "binary")
    _publish(monkeypatch, CIFAR10, "binary", archive)
    message = r"cifar-10-binary\.tar\.gz has no cifar-10-batches-bin/data_batch_1\.bin"
    with pytest.raises(FileNotFoundError, match=message):
        _ready(tmp_path)


def test_a_subset_is_legal_and_announced(root: Path):
    message = rf"{DIFFERS}: {TRAIN} train images, not 50,000; {TEST} test images, not 10,000$"
    with pytest.warns(UserWarning, match=message):
        data = _ready(root)
    assert data.notes() == [
        f"{TRAIN} train images, not 50,000",
        f"{TEST} test images, not 10,000",
    ]


def test_pickles_that_are_not_the_published_ones_are_noted(
    roots: dict[tuple[int, str], Path],
):
    found = find(roots[100, "python"], cifar_files.CIFAR100)
    content = (found.path / "test").read_bytes()
    layout = dataclasses.replace(
        cifar_files.CIFAR100,
        sizes={"train": TRAIN, "test": TEST},
        md5={"train": "0" * 32, "test": hashlib.md5(content).hexdigest()},
    )
    assert read(found, layout).notes == ["train has another MD5"]


def test_a_root_without_the_data_says_what_is_accepted(tmp_path: Path):
    (tmp_path / "neighbour").mkdir()
    with pytest.raises(FileNotFoundError) as error:
        CIFAR10(tmp_path / "cifar").setup("fit")
    message = str(error.value)
    for part in (
        f"root='{tmp_path / 'cifar'}' does not exist",
        "cifar-10-batches-bin/, cifar-10-binary.tar.gz, cifar-10-batches-py/, cifar-10-python.tar",
        f"{tmp_path} holds neighbour/",
        "--data.download true",
    ):
        assert part in message
    assert "\n" not in message


def test_downloads_when_asked_and_needed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    archive = _pack(root, tmp_path, CIFAR10, "binary")
    target = tmp_path / "target"
    served = archive._replace(url=(tmp_path / archive.name).as_uri())
    _publish(monkeypatch, CIFAR10, "binary", served)
    with pytest.raises(FileNotFoundError):
        _ready(target)
    assert not target.exists()
    data = _ready(target, download=True)
    assert torch.equal(data.records["test"][0], _ready(root).records["test"][0])
    (tmp_path / archive.name).unlink()
    _ready(target, download=True)  # it is there
    with pytest.raises(ConnectionError, match=r"cifar-10-binary\.tar\.gz cannot be downloaded"):
        _ready(tmp_path / "other", download=True)


def _identities(records: tuple[Tensor, Tensor]) -> list[bytes]:
    return [image.numpy().tobytes() for image in records[0]]


def test_held_out_images_are_a_share_of_every_class(root: Path):
    data = _ready(root, val_size=40)
    train, val = (_identities(data.records[split]) for split in ("train", "val"))
    (everything, labels) = _ready(root, select_on="official").records["train"]
    assert sorted(train + val) == sorted(_identities((everything, labels)))
    assert torch.bincount(data.records["val"][1]).tolist() == [4] * 10
    assert torch.bincount(data.records["train"][1]).tolist() == [17] * 10
    known = dict(zip(_identities((everything, labels)), labels.tolist(), strict=True))
    for split in ("train", "val"):
        assert [known[image] for image in _identities(data.records[split])] == data.records[split][
            1
        ].tolist()


def test_held_out_images_depend_on_the_data_seed_alone(root: Path):
    held_out = []
    for seed, data_seed in ((3, 0), (4, 0), (3, 1)):
        L.seed_everything(seed, verbose=False)
        held_out.append(_identities(_ready(root, data_seed=data_seed).records["val"]))
    assert held_out[0] == held_out[1]
    assert len(set(held_out[0]) & set(held_out[2])) < 15


def test_official_selection_validates_on_the_test_set(root: Path):
    data = _ready(root, select_on="official")
    assert len(data.records["train"][1]) == TRAIN
    assert _identities(data.records["val"]) == _identities(data.records["test"])
    assert len(data.records["val"][1]) == TEST


def _stream(root: Path, **options) -> list[tuple[Tensor, ...]]:
    L.seed_everything(3, verbose=False)
    data = _ready(root, **options)
    data.trainer = SimpleNamespace(
        training=True,
        world_size=1,
        global_rank=0,
        precision_plugin=Precision(),
        strategy=SimpleNamespace(broadcast=lambda seed: seed),
    )
    return [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]


@forks
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
def test_the_augmented_stream_is_the_same_for_any_worker_count(root: Path):
    alone = _stream(root)
    assert len(alone) == (TRAIN - 21) // 19
    for workers in (1, 2, 4):
        for one, other in zip(alone, _stream(root, num_workers=workers), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_crops_and_flips_are_the_default(root: Path):
    default = _ready(root).pixel_transforms
    assert [type(each) for each in default] == [RandomCrop, RandomFlip]
    assert (default[0].padding, default[1].probability) == (4, 0.5)
    plain, augmented = _stream(root, pixel_transforms=[]), _stream(root)
    moved = [(a != b).flatten(1).any(1) for (a, _), (b, _) in zip(plain, augmented, strict=True)]
    # 1 crop of 81 moves nothing, and then every second image is flipped.
    assert 0.97 < torch.cat(moved).float().mean() <= 1
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(plain, augmented, strict=True))
    assert not set(_identities((plain[0][0], None))) & set(_identities((plain[1][0], None)))


POLICY = "rand-m9-mstd0.5-inc1"


@forks
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_rand_augment_follows_the_crop_and_the_samples_seeds(root: Path):
    cropped, augmented = _stream(root), _stream(root, auto_augment=POLICY)
    changed = [
        (a != b).flatten(1).any(1) for (a, _), (b, _) in zip(cropped, augmented, strict=True)
    ]
    # Two operations, each applied to every second image: a quarter stays as the crop left it.
    assert 0.1 < 1 - torch.cat(changed).float().mean() < 0.45
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(cropped, augmented, strict=True))
    for workers in (1, 2, 4):
        shared = _stream(root, auto_augment=POLICY, num_workers=workers)
        assert all(torch.equal(a, b) for (a, _), (b, _) in zip(augmented, shared, strict=True))


def test_rand_augment_leaves_the_data_and_evaluation_alone(root: Path):
    data = _ready(root, auto_augment=POLICY)
    before = {split: pixels.clone() for split, (pixels, _) in data.records.items()}
    list(data.train_dataloader())
    assert all(torch.equal(data.records[split][0], pixels) for split, pixels in before.items())
    seen = torch.cat([pixels for pixels, _, _ in data.val_dataloader()])
    assert torch.equal(seen, before["val"])
    assert data.augment.fill == (125, 123, 114)


@pytest.mark.parametrize("strict", [False, True])
def test_validate_data_reads_it_whole(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], strict: bool
):
    config = tmp_path / "config.yaml"
    config.write_text(
        f"data: {{class_path: attnlab.data.cifar.CIFAR10, init_args: {{root: {root}}}}}"
    )
    arguments = ["--config", str(config), "--out", str(tmp_path), *["--strict"] * strict]
    with pytest.raises(SystemExit, match="1") if strict else contextlib.nullcontext():
        validation.main(arguments)
    assert f"- {TRAIN} train images, not 50,000" in capsys.readouterr().out


def test_validate_data_names_what_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write(tmp_path, train=23, test=7)
    path = tmp_path / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    config = tmp_path / "config.yaml"
    config.write_text(
        f"data: {{class_path: attnlab.data.cifar.CIFAR10, init_args: {{root: {tmp_path}}}}}"
    )
    with pytest.raises(SystemExit, match="2"):
        validation.main(["--config", str(config), "--out", str(tmp_path)])
    assert f"attnlab: error: {path} has 21,510 bytes, not" in capsys.readouterr().err


def test_yaml_builds_it(root: Path):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    arguments = {
        "root": str(root),
        "select_on": "official",
        "pixel_transforms": [
            {"class_path": "attnlab.data.batch.geometry.RandomCrop", "init_args": {"padding": 2}}
        ],
    }
    config = parser.parse_object(
        {"data": {"class_path": "attnlab.data.cifar.CIFAR100", "init_args": arguments}}
    )
    data = parser.instantiate_classes(config).data
    assert (type(data), data.root, data.select_on) == (CIFAR100, root, "official")
    assert [transform.padding for transform in data.pixel_transforms] == [2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_size": 0}, "val_size=0 must be at least 1"),
        ({"data_seed": -1}, "data_seed=-1 must not be negative"),
        ({"select_on": "test"}, "select_on='test' must be one of held_out, official"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        CIFAR10("/nowhere", **arguments)


def test_a_val_size_beyond_the_data_is_named(root: Path):
    with pytest.raises(ValueError, match="201 samples cannot be held out for validation: of 210"):
        _ready(root, val_size=201)
