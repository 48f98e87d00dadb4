"""Record what timm's and torchvision's augmentations do, for the tests of this project's own.

    python scripts/make_timm_goldens.py tests/data/transforms/timm_goldens.npz

Needs timm and torchvision (made with timm 1.0.31, torchvision 0.28.0, Pillow 12.3.0 and torch
2.13.0), hence an environment apart. Nothing of their code is kept: only outputs on one small image,
and samples of what they draw.
"""

import argparse
import json
import random
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image, ImageFilter

DRAWS = 3000
MAGNITUDES = (0.0, 3.7, 9.3)
WARPS = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
FILL = (124, 116, 104)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def imports() -> SimpleNamespace:
    """Import the peers; torchvision's wheels lack two operators beside a torch without CUDA."""
    library = torch.library.Library("torchvision", "FRAGMENT")  # in force while it is referenced
    if torch.version.cuda is None:
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
    names = ("auto_augment", "mixup", "random_erasing", "transforms", "transforms_factory")
    return SimpleNamespace(
        functional=import_module("torchvision.transforms.functional"),
        library=library,
        **{name: import_module(f"timm.data.{name}") for name in names},
    )


def small_image() -> np.ndarray:
    """Return an image [23, 31, 3] with noise, flat regions and another range in each channel."""
    noise = np.random.default_rng(11).integers(0, 256, (23, 31, 3)).astype(np.uint8)
    image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(0.7))
    pixels = np.asarray(image).astype(np.int64)
    pixels = np.clip((pixels - 128) * (3, 1, 2) + (128, 110, 150), (0, 7, 20), (255, 201, 255))
    return pixels.astype(np.uint8)


def operations(timm: SimpleNamespace, image: Image.Image) -> tuple[list[list], list[np.ndarray]]:
    """Return (timm's name, magnitude, sign, filter) of each case, and its result."""
    table = timm.auto_augment
    plain = ("Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness")
    names = [*table._RAND_INCREASING_TRANSFORMS, *plain]
    cases, results = [], []
    for name in dict.fromkeys(names):
        signed = name in WARPS or name.endswith("Increasing")
        signed &= not name.startswith(("Posterize", "Solarize"))
        warps = name in WARPS
        for magnitude in MAGNITUDES if table.LEVEL_TO_ARG[name] else (9.3,):
            for sign in (1, -1) if signed and magnitude else (1,):
                random.random = lambda sign=sign: 0.5 - 0.25 * sign  # timm negates above 0.5
                level = table.LEVEL_TO_ARG[name]
                arguments = level(magnitude, {}) if level else ()
                for filter_name in FILTERS if warps and magnitude else ("bicubic",):
                    if name == "Posterize" and arguments == (0,):
                        continue  # an error in Pillow 13; this project keeps one bit
                    results.append(
                        np.asarray(
                            table.NAME_TO_OP[name](
                                image, *arguments, fillcolor=FILL, resample=FILTERS[filter_name]
                            )
                        )
                    )
                    cases.append([name, magnitude, sign, filter_name])
    return cases, results


def jitter(timm: SimpleNamespace, image: Image.Image) -> tuple[list[list], list[np.ndarray]]:
    """Return torchvision's adjustments at some factors."""
    cases, results = [], []
    for name in ("brightness", "contrast", "saturation", "hue"):
        for factor in (-0.21, 0.06, 0.0) if name == "hue" else (0.0, 0.63, 1.37):
            change = getattr(timm.functional, f"adjust_{name}")
            results.append(np.asarray(change(image, factor)))
            cases.append([name, factor])
    return cases, results


def rand_augment(timm: SimpleNamespace, policy: str) -> dict[str, np.ndarray]:
    """Return, for each operation that a policy applied: image, place in timm's list, argument."""
    augment = timm.auto_augment.rand_augment_transform(policy, {"img_mean": FILL})
    rows: list[tuple[int, int, float]] = []
    for place, operation in enumerate(augment.ops):
        operation.aug_fn = lambda image, *arguments, place=place, **_: (
            rows.append((current, place, arguments[0] if arguments else 0.0)) or image
        )
    for current in range(DRAWS):  # noqa: B007 - read by the closures above
        augment(None)
    images, places, arguments = zip(*rows, strict=True)
    return {
        "image": np.array(images, np.int16),
        "place": np.array(places, np.int8),
        "argument": np.array(arguments, np.float32),
    }


def crops(timm: SimpleNamespace, width: int, height: int) -> np.ndarray:
    """Return boxes (top, left, height, width) of random-resized crops."""
    image = Image.new("RGB", (width, height))
    draw = timm.transforms.RandomResizedCropAndInterpolation.get_params
    boxes = [draw(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(DRAWS)]
    return np.array(boxes, np.int16)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of what is true; zeros if nothing is."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return rows[0], columns[0], len(rows), len(columns)


def erasing(timm: SimpleNamespace) -> np.ndarray:
    """Return the erased boxes of images 61 x 47, zeros where there is none."""
    erase = timm.random_erasing.RandomErasing(0.25, mode="const", device="cpu")
    masks = (erase(torch.ones(1, 61, 47)).numpy()[0] == 0 for _ in range(DRAWS))
    return np.array([box_of(mask) for mask in masks], np.int16)


def mixing(timm: SimpleNamespace) -> dict[str, np.ndarray]:
    """Return, for batches of 61 x 47 pixels, the part kept and cutmix's box."""
    mix = timm.mixup.Mixup(0.8, 1.0, num_classes=2, label_smoothing=0.0)
    kept, boxes, cut = [], [], []
    for _ in range(DRAWS):
        pixels = torch.arange(2.0).view(2, 1, 1, 1).repeat(1, 1, 61, 47)
        mixed, targets = mix(pixels, torch.tensor([0, 1]))
        kept.append(float(targets[0, 0]))
        whole = bool(((mixed == 0) | (mixed == 1)).all())
        cut.append(whole)
        boxes.append(box_of(mixed[0, 0].numpy() == 1) if whole else (0, 0, 0, 0))
    return {
        "kept": np.array(kept, np.float32),
        "cut": np.array(cut),
        "box": np.array(boxes, np.int16),
    }


def mixed_targets(timm: SimpleNamespace) -> np.ndarray:
    """Return smoothed targets of five classes, mixed at 0.7."""
    return timm.mixup.mixup_target(torch.tensor([3, 0, 4, 1]), 5, 0.7, 0.1).numpy()


def evaluation(timm: SimpleNamespace) -> dict[str, np.ndarray]:
    """Return timm's test crops of 28 pixels, of a wide, a tall and a smaller image."""
    crop = timm.transforms_factory.transforms_imagenet_eval(
        28, crop_pct=0.875, interpolation="bicubic", use_prefetcher=True
    )
    found = {}
    for height, width in ((41, 61), (67, 43), (19, 23)):
        rng = np.random.default_rng(height)
        pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        result = crop(Image.fromarray(pixels))
        found[f"eval/{height}x{width}"] = np.asarray(result)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    timm = imports()
    uniform = random.random
    image = small_image()
    cases, results = operations(timm, Image.fromarray(image))
    random.random = uniform
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    jitter_cases, jitter_results = jitter(timm, Image.fromarray(image))
    arrays = {
        "image": image,
        "operations": np.stack(results),
        "jitter": np.stack(jitter_results),
        "crops/375x500": crops(timm, 500, 375),
        "crops/500x90": crops(timm, 90, 500),
        "erasing": erasing(timm),
        "mixed_targets": mixed_targets(timm),
        **evaluation(timm),
        **{f"mixing/{key}": value for key, value in mixing(timm).items()},
    }
    for policy in ("rand-m9-mstd0.5-inc1", "rand-m7-n4-mstd0.5-inc1"):
        for key, value in rand_augment(timm, policy).items():
            arrays[f"{policy}/{key}"] = value
    about = {
        "operations": cases,
        "jitter": jitter_cases,
        "places": timm.auto_augment._RAND_INCREASING_TRANSFORMS,
        "versions": {name: version(name) for name in ("timm", "torchvision", "pillow", "torch")},
    }
    np.savez_compressed(args.out, about=json.dumps(about), **arrays)
    print(len(cases), "operations;", args.out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
