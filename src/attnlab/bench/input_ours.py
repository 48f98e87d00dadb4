"""This project's side of the input benchmark: its data modules' own loaders, without workers.

Runs in a process of its own, see `input_child`. The data modules are named by class path, as in an
experiment file: they import lightning, which the benchmark itself must not.
"""

import importlib
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

POLICY = "rand-m9-mstd0.5-inc1"


def contestants(settings: dict[str, Any]) -> dict[str, Callable[[], Callable[[], Any]]]:
    """Return what builds the calls; each call goes through its part of the files once."""
    builds: dict[str, Callable[[], Callable[[], Any]]] = {}
    for suffix, policy in (("", None), ("+randaugment", POLICY)):
        for kind, floats in (("bytes", False), ("floats", True)):
            builds[f"{kind}{suffix}"] = partial(image_epoch, settings, policy, floats)
    builds["resize"] = partial(resize_difference, settings)
    builds["cifar"] = partial(cifar_epoch, settings)
    builds["convert"] = partial(converter, settings)
    for name, reader in (("clips", "readers.PyAVReader"), ("frames", "frames.FrameTarReader")):
        path = f"attnlab.data.video.{reader}"
        builds[name] = partial(clip_reader, settings, name, path)
    for stage_name in ("decode", "crop", "randaugment", "tensor", "collate"):
        builds[f"stage {stage_name}"] = partial(stage, settings, stage_name)
    return builds


def named(path: str) -> Any:
    """Return the class or function of a full path."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def image_epoch(settings: dict[str, Any], policy: str | None, floats: bool) -> Callable[[], int]:
    """Return a call that loads batches of bytes, and normalises them here if `floats`."""
    transform = named("attnlab.data.transforms.train.TrainTransform")
    module = named("attnlab.data.imagenet.ImageNet")(
        settings["images"],
        settings["classes"],
        transform(settings["size"], auto_augment=policy),
        batch_size=settings["batch"],
        num_workers=0,
        select_on="official",
    )
    module.setup("fit")
    loader = module.train_dataloader()

    def run() -> int:
        count = 0
        for batch in itertools.islice(loader, settings["batches"]):
            pixels, labels, _ = module.on_before_batch_transfer(batch, 0)
            if floats:
                module.normalize(pixels)
            count += len(labels)
        return count

    return run


def stage(settings: dict[str, Any], name: str) -> Callable[[], int]:
    """Return a call that does one step of `TrainTransform` to a batch of images in memory."""
    decode = named("attnlab.data.image.decode.decode")
    crop = importlib.import_module("attnlab.data.transforms.crop")
    augment = named("attnlab.data.transforms.rand_augment.RandAugment")(POLICY)
    paths = sorted(Path(settings["images"]).glob("train/*/*"))[: settings["batch"]]
    contents = [path.read_bytes() for path in paths]
    rng, size = np.random.default_rng(0), (settings["size"], settings["size"])

    def resized(frames: np.ndarray) -> np.ndarray:
        box = crop.random_resized_box(*frames.shape[1:3], (0.08, 1.0), (3 / 4, 4 / 3), rng)
        resized: np.ndarray = crop.resize(frames, size, box)
        return resized

    # Ours goes to planes before RandAugment, the peers to tensors after it.
    steps: dict[str, Callable[[Any], Any]] = {
        "decode": lambda content: decode(content)[None],
        "crop": resized,
        "tensor": lambda frames: crop.to_planes(frames, flip=rng.random() < 0.5),
        "randaugment": lambda planes: augment(planes, rng),
    }
    inputs: list[Any] = contents
    for each, step in steps.items():
        if each == name:
            return lambda: len([step(value) for value in inputs])
        inputs = [step(value) for value in inputs]
    tensors = [torch.as_tensor(planes[0]) for planes in inputs]
    return lambda: len(torch.stack(tensors))


def resize_difference(settings: dict[str, Any]) -> Callable[[], float]:
    """Return a call that compares resized crops with Pillow's: mean absolute grey levels."""
    crop = importlib.import_module("attnlab.data.transforms.crop")
    decode = named("attnlab.data.image.decode.decode")
    image = importlib.import_module("PIL.Image")
    size = (settings["size"], settings["size"])

    def run() -> float:
        rng, sums, count = np.random.default_rng(0), 0.0, 0
        for path in sorted(Path(settings["images"]).glob("val/*/*")):
            pixels = decode(path.read_bytes())
            box = crop.random_resized_box(*pixels.shape[:2], (0.08, 1.0), (3 / 4, 4 / 3), rng)
            ours = crop.resize(pixels[None], size, box)[0]
            part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
            pillow = image.fromarray(part).resize(size, image.Resampling.BICUBIC)
            sums += float(np.abs(ours.astype(int) - np.asarray(pillow)).mean())
            count += 1
        return sums / count

    return run


def cifar_epoch(settings: dict[str, Any]) -> Callable[[], int]:
    """Return a call that crops, flips and normalises batches of images held in memory."""
    module = named("attnlab.data.cifar.CIFAR10")(root=".", batch_size=settings["cifar_batch"])
    count = settings["cifar_batch"] * settings["cifar_batches"]
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    module.records = {"train": (torch.from_numpy(images), torch.arange(count) % 10)}
    loader = module.train_dataloader()

    def run() -> int:
        count = 0
        for pixels, labels, seeds in itertools.islice(loader, settings["cifar_batches"]):
            for transform in module.pixel_transforms:
                pixels = transform(pixels, seeds)
            module.normalize(pixels)
            count += len(labels)
        return count

    return run


def converter(settings: dict[str, Any]) -> Callable[[], None]:
    """Return a call that makes the tar of frames, unless it is there."""
    convert = named("attnlab.data.video.convert.convert")
    return lambda: convert(Path(settings["clips"]), Path(settings["frames"])) and None


def clip_reader(settings: dict[str, Any], form: str, path: str) -> Callable[[], int]:
    """Return a call that opens each clip of a form by a reader and decodes the frames."""
    reader = named(path)()
    addresses = list(reader.find(Path(settings[form])).values())

    def run() -> int:
        for address in addresses:
            reader.read(address, settings["indices"])
        return len(addresses)

    return run
