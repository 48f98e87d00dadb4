"""Build the embedded data from what scikit-learn and scikit-image bundle.

Needs ``pip install -e ".[assets]"``; a run of attnlab itself never does. The same library
versions give byte-identical files. Sources and licences: src/attnlab/data/assets/ATTRIBUTION.md.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data as photos
from sklearn.datasets import load_digits

ASSETS = Path(__file__).resolve().parents[1] / "src" / "attnlab" / "data" / "assets"
PHOTOS = (  # all in scikit-image's wheel, CC0 or public domain
    "astronaut", "rocket", "hubble_deep_field", "camera", "chelsea", "coffee", "brick", "grass",
    "gravel",
)  # fmt: skip
SIDE = 256
TRAIN = 1347  # of 1,797 scans: 3/4, scikit-learn's customary split size


def digits() -> dict[str, np.ndarray]:
    scans, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(scans)).astype(np.uint16)
    return {
        "images": scans.reshape(-1, 8, 8).astype(np.uint8),  # counts 0..16
        "labels": labels.astype(np.uint8),
        "train": order[:TRAIN],
        "test": order[TRAIN:],
    }


def texture(name: str) -> np.ndarray:
    photo = Image.fromarray(getattr(photos, name)()).convert("L")
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    square = (left, top, left + side, top + side)
    return np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=square))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ASSETS, help="folder for the two files")
    output = parser.parse_args().output
    np.savez_compressed(output / "digits.npz", **digits())
    textures = np.stack([texture(name) for name in PHOTOS])
    np.savez_compressed(output / "textures.npz", images=textures, names=np.array(PHOTOS))
    for name in ("digits.npz", "textures.npz"):
        print(f"{output / name}: {(output / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
