"""The peers of the input benchmark: torchvision, timm and torchcodec, as their manuals use them.

Runs in the peers' environment, see `input_child`; nothing of this project is imported here.
"""

import importlib
import importlib.metadata
import io
import itertools
import random
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
POLICY = "rand-m9-mstd0.5-inc1"

_ALIVE: list[Any] = []  # declarations that must not be collected


def contestants(settings: dict[str, Any]) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Return what builds the calls; each call goes through its part of the files once.

    Raises:
        ImportError: A package is missing, or does not fit another one.
    """
    vision, timm_data = _vision()
    builds: dict[str, Callable[[], Callable[[], Any]]] = {"versions": lambda: versions}
    for suffix, policy in (("", None), ("+randaugment", POLICY)):
        for kind, only_bytes in (("floats", False), ("bytes", True)):
            builds[f"torchvision {kind}{suffix}"] = partial(
                image_epoch, torchvision_loader, vision, settings, policy, only_bytes
            )
            builds[f"timm {kind}{suffix}"] = partial(
                image_epoch, timm_loader, timm_data, settings, policy, only_bytes
            )
    builds["cifar"] = partial(cifar_epoch, vision, settings)
    builds["clips"] = partial(clip_reader, _decoder(), settings)
    for name in ("decode", "crop", "randaugment", "tensor", "collate"):
        builds[f"stage {name}"] = partial(stage, vision, settings, name)
    return builds


def _vision() -> tuple[Any, Any]:
    """Import torchvision and timm.data.

    Wheels of torchvision from PyPI are linked with CUDA. Beside a torch without it their operators
    are missing, and the import fails at the declaration of these two, which no pipeline here uses.
    """
    if not torch.cuda.is_available() and torch.version.cuda is None:
        library: Any = torch.library
        fragment = library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            fragment.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
        _ALIVE.append(fragment)
    try:
        return importlib.import_module("torchvision"), importlib.import_module("timm.data")
    except RuntimeError as error:
        raise ImportError(str(error).splitlines()[0]) from error


def versions() -> str:
    """Return the versions of what is measured here."""
    names = ("torchvision", "timm", "pillow", "torchcodec", "torch")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _epoch(loader: Iterable[Any], batches: int) -> Callable[[], int]:
    def run() -> int:
        random.seed(0)
        torch.manual_seed(0)
        return sum(len(batch[1]) for batch in itertools.islice(loader, batches))

    return run


def image_epoch(
    build: Callable[..., Iterable[Any]],
    package: Any,
    settings: dict[str, Any],
    policy: str | None,
    only_bytes: bool,
) -> Callable[[], int]:
    """Return a call that takes the batches of a loader that `build` makes."""
    return _epoch(build(package, settings, policy, only_bytes), settings["batches"])


def torchvision_loader(
    vision: Any, settings: dict[str, Any], policy: str | None, only_bytes: bool
) -> Iterable[Any]:
    """Return a `DataLoader` over `ImageFolder`: Pillow's images to floats, or to bytes alone."""
    transforms = vision.transforms
    bicubic = transforms.InterpolationMode.BICUBIC
    steps = [
        transforms.RandomResizedCrop(settings["size"], interpolation=bicubic),
        transforms.RandomHorizontalFlip(),
    ]
    if policy:
        augment = importlib.import_module("timm.data.auto_augment").rand_augment_transform
        steps.append(augment(policy, _parameters(settings["size"])))
    if only_bytes:
        steps.append(transforms.PILToTensor())
    else:
        steps += [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    folder = vision.datasets.ImageFolder(
        str(Path(settings["images"]) / "train"), transforms.Compose(steps)
    )
    return DataLoader(folder, settings["batch"], shuffle=True, drop_last=True)


def _parameters(size: int) -> dict[str, Any]:
    """Return what `create_transform` of timm hands to its RandAugment."""
    mean = tuple(round(255 * value) for value in MEAN)
    bicubic = importlib.import_module("PIL.Image").Resampling.BICUBIC
    return {"translate_const": int(size * 0.45), "img_mean": mean, "interpolation": bicubic}


def timm_loader(
    timm_data: Any, settings: dict[str, Any], policy: str | None, only_bytes: bool
) -> Iterable[Any]:
    """Return timm's loader with its prefetcher, or the bytes that the prefetcher is fed with."""
    size = settings["size"]
    loader = timm_data.create_loader(
        timm_data.ImageDataset(str(Path(settings["images"]) / "train")),
        input_size=(3, size, size),
        batch_size=settings["batch"],
        is_training=True,
        use_prefetcher=True,
        color_jitter=None,
        auto_augment=policy,
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
        num_workers=0,
        pin_memory=False,
        device=torch.device("cpu"),
        persistent_workers=False,
    )
    chosen: Iterable[Any] = loader.loader if only_bytes else loader
    return chosen


def stage(vision: Any, settings: dict[str, Any], name: str) -> Callable[[], int]:
    """Return a call that does one step of `torchvision_loader` to a batch of images in memory."""
    transforms = vision.transforms
    opened = importlib.import_module("PIL.Image").open
    paths = sorted(Path(settings["images"]).glob("train/*/*"))[: settings["batch"]]
    contents = [path.read_bytes() for path in paths]
    bicubic = transforms.InterpolationMode.BICUBIC
    augment = importlib.import_module("timm.data.auto_augment").rand_augment_transform

    def decode(content: bytes) -> Any:
        return opened(io.BytesIO(content)).convert("RGB")

    steps: dict[str, Callable[[Any], Any]] = {
        "decode": decode,
        "crop": transforms.RandomResizedCrop(settings["size"], interpolation=bicubic),
        "randaugment": augment(POLICY, _parameters(settings["size"])),
        "tensor": transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)]),
    }
    inputs: list[Any] = contents
    for each, step in steps.items():
        if each == name:
            return lambda: len([step(value) for value in inputs])
        inputs = [step(value) for value in inputs]
    return lambda: len(default_collate(inputs))


class Pictures(Dataset[Any]):
    """Small images in memory, through Pillow one by one, as torchvision's CIFAR10 goes.

    Args:
        images: [N, 32, 32, 3] uint8.
        transform: What makes a tensor of a Pillow image.
    """

    def __init__(self, images: np.ndarray, transform: Callable[[Any], Any]) -> None:
        self.images = images
        self.transform = transform
        self.open = importlib.import_module("PIL.Image").fromarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.open(self.images[index])), index % 10


def cifar_epoch(vision: Any, settings: dict[str, Any]) -> Callable[[], int]:
    """Return a call that crops, flips and normalises sample by sample."""
    transforms = vision.transforms
    steps = [
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(CIFAR_MEAN, CIFAR_STD),
    ]
    count = settings["cifar_batch"] * settings["cifar_batches"]
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    pictures = Pictures(images, transforms.Compose(steps))
    loader = DataLoader(pictures, settings["cifar_batch"], shuffle=True, drop_last=True)
    return _epoch(loader, settings["cifar_batches"])


def _decoder() -> Any:
    """Return torchcodec's decoder."""
    try:
        return importlib.import_module("torchcodec.decoders").VideoDecoder
    except (OSError, RuntimeError) as error:  # FFmpeg's libraries are not there
        raise ImportError(f"torchcodec: {str(error).splitlines()[0]}") from error


def clip_reader(decoder: Any, settings: dict[str, Any]) -> Callable[[], int]:
    """Return a call that opens each clip by torchcodec, exact, and decodes the frames asked for."""
    paths = sorted(Path(settings["clips"]).glob("videos/*.webm"))

    def run() -> int:
        for path in paths:
            opened = decoder(
                str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
            )
            opened.get_frames_at(settings["indices"]).data.numpy()
        return len(paths)

    return run
