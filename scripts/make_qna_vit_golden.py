"""Run the official QnA heads and networks and keep what they return, for the tests.

    python scripts/make_qna_vit_golden.py CHECKOUT tests/golden

CHECKOUT is a clone of https://github.com/moabarar/qna; jax, flax and ml_collections must be
installed (made with 0.10.2, 0.12.8 and 1.1.0). Nothing of that code is kept, only arrays.
Parameters and images are drawn by name, so that they need not be stored: see `drawn`.
"""

import argparse
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

HEADS = ("qnav1", "qnav2")
MINI = {
    "base_dim": 16,
    "qna_heads": [2, 4, 8, 16],
    "qna_layers": [1, 1, 2, 0],
    "qna_receptive_field": [3, 3, 3, 3],
    "qna_normalize_q": [True, True, True, True],
    "lsa_layers": [0, 1, 1, 1],
    "lsa_heads": [2, 4, 8, 16],
    "lsa_window": [8, 4, 4, 2],
    "drop_path": 0.0,
    "drop_path_downsample": True,
}
NETWORKS = {  # file: published name or changed defaults, classes, image side, seed
    "qna_vit_tiny_7x7": ("qna_vit_tiny_7x7", 1000, 224, 41),
    "qna_vit_small": ("qna_vit_small", 1000, 224, 43),
    "qna_vit_base": ("qna_vit_base", 1000, 224, 47),
    "qna_vit_mini_qnav1": (MINI | {"classification_head_type": "qnav1"}, 11, 64, 53),
    "qna_vit_mini_qnav2": (MINI | {"classification_head_type": "qnav2"}, 11, 64, 59),
}


def drawn(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draw one array by the rule of the stored tiny network; `x` stays standard normal."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    array = rng.standard_normal(shape).astype(np.float32)
    last = name.rpartition("/")[2]
    if last in ("kernel", "Wk"):
        return array / np.sqrt(np.float32(np.prod(shape[:-1])))
    if last == "scale":
        return 1 + np.float32(0.1) * array
    return array * np.float32({"x": 1, "bias": 0.1}.get(last, 0.5))


def draw_parameters(module: Any, x: Any, seed: int, **options: Any) -> dict[str, np.ndarray]:
    import jax
    from flax.traverse_util import flatten_dict

    shapes = jax.eval_shape(lambda: module.init(jax.random.PRNGKey(0), x, **options))["params"]
    flat = flatten_dict(shapes, sep="/")
    return {name: drawn(seed, name, value.shape) for name, value in flat.items()}


def make_head(kind: str, seed: int) -> dict[str, Any]:
    """Return a head's input, parameters, output and all gradients."""
    import jax
    from flax.traverse_util import unflatten_dict
    from models.qna_vit import ClassificationHead

    config = {"num_classes": 7, "head_type": kind, "num_heads": 3}
    head = ClassificationHead(**config)
    x = drawn(seed, "x", (2, 5, 5, 12))
    params = draw_parameters(head, x, seed)

    def run(params: dict[str, Any], x: Any) -> Any:
        return head.apply({"params": unflatten_dict(params, sep="/")}, x)

    out, backward = jax.vjp(run, params, x)
    cotangent = np.random.default_rng(seed).standard_normal(out.shape, np.float32)
    grads, grad_x = backward(jax.numpy.asarray(cotangent))
    arrays = {"x": x, "out": out, "g": cotangent, "grad/x": grad_x, "config": json.dumps(config)}
    arrays |= {f"param/{name}": value for name, value in params.items()}
    return arrays | {f"grad/param/{name}": value for name, value in grads.items()}


def make_network(of: str | dict[str, Any], classes: int, side: int, seed: int) -> dict[str, Any]:
    """Return a network's logits for one drawn image, and how its parameters were drawn."""
    import jax
    from flax.traverse_util import unflatten_dict
    from ml_collections import ConfigDict
    from models import qna_vit

    if isinstance(of, str):
        network = qna_vit.create_model(of, ConfigDict())(num_classes=classes)
    else:
        config = qna_vit.default_config()
        config.update(of)
        network = qna_vit.QnAViT(num_classes=classes, config=config)
    x = drawn(seed, "x", (1, side, side, 3))
    params = draw_parameters(network, x, seed, train=False)
    nested = unflatten_dict(params, sep="/")
    logits = jax.jit(lambda params, x: network.apply({"params": params}, x, train=False))(nested, x)
    meta = {"seed": seed, "num_classes": classes, "x": list(x.shape)}
    meta["cfg"] = of if isinstance(of, str) else config.to_dict()
    meta["shapes"] = {name: list(value.shape) for name, value in params.items()}
    return {"logits": logits, "meta": json.dumps(meta)}


def make_tables() -> dict[str, Any]:
    """Return tables resized as the official fine-tuning does, in `utils.init_from_pretrained`."""
    import jax

    arrays = {}
    for old, new in ((7, 12), (13, 23), (11, 5)):
        table = np.random.default_rng([old, new]).standard_normal((old, old, 3), np.float32)
        arrays[f"{old}_to_{new}/table"] = table
        arrays[f"{old}_to_{new}/resized"] = jax.image.resize(table, (new, new, 3), "bicubic")
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    sys.path.insert(0, str(args.checkout))
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")
    for seed, kind in enumerate(HEADS, start=200):
        np.savez_compressed(args.out / f"qna_head_{kind}.npz", **make_head(kind, seed))
    np.savez_compressed(args.out / "qna_tables.npz", **make_tables())
    for name, case in NETWORKS.items():
        np.savez_compressed(args.out / f"{name}.npz", **make_network(*case))


if __name__ == "__main__":
    main()
