"""Run the official QnA layer on every option and keep what it returns, for the tests.

    python scripts/make_qna_golden.py CHECKOUT tests/golden

CHECKOUT is a clone of https://github.com/moabarar/qna; jax and flax must be installed (made with
0.10.2 and 0.12.8). Nothing of that code is kept, only arrays.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

BASE = {
    "features": 6,
    "heads": 2,
    "kernel_size": 3,
    "stride": 1,
    "padding": 1,
    "use_bias": False,
    "normalize_q": True,
    "n_queries": 2,
    "attn_scale": "normal",
    "pos_embedding_type": "relative_pos",
    "C": 4,
}
CASES = {
    "posneg": {"attn_scale": "posneg", "n_queries": 3},
    "ones": {"attn_scale": "ones"},
    "elementwise": {"attn_scale": "normal_elementwise", "n_queries": 1},
    "avg": {"attn_scale": "avg", "n_queries": 3},
    "none_free_queries": {"attn_scale": "none", "normalize_q": False},
    "absolute": {"pos_embedding_type": "absolute_pos"},
    "bias": {"use_bias": True},
    "even_window": {"kernel_size": 4, "padding": 2, "stride": 3},
    "no_padding": {"kernel_size": 5, "padding": 0},
    "out_features": {"out_features": 10},
    "scaled_bias": {"scale_rpe_bias": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    sys.path.insert(0, str(args.checkout))
    import jax
    from flax.traverse_util import flatten_dict, unflatten_dict
    from layers.qna import FusedKQnA

    jax.config.update("jax_default_matmul_precision", "highest")
    for seed, (name, changed) in enumerate(CASES.items(), start=100):
        config = BASE | changed
        layer = FusedKQnA(
            precision="highest", **{key: value for key, value in config.items() if key != "C"}
        )
        rng = np.random.default_rng(seed)
        # The official absolute position depends on the batch size: one that is not that of others.
        x = rng.standard_normal((3 if name == "absolute" else 2, 7, 5, config["C"]), np.float32)
        drawn = {
            path: rng.standard_normal(value.shape, np.float32)
            * np.float32(value.shape[0] ** -0.5 if "kernel" in path or path == "Wk" else 0.5)
            for path, value in flatten_dict(
                layer.init(jax.random.PRNGKey(0), x)["params"], sep="/"
            ).items()
        }

        def run(params, x, layer=layer):
            return layer.apply({"params": unflatten_dict(params, sep="/")}, x)

        out, backward = jax.vjp(run, drawn, x)
        cotangent = rng.standard_normal(out.shape, np.float32)
        grads, grad_x = backward(jax.numpy.asarray(cotangent))
        arrays = {"x": x, "out": out, "g": cotangent, "grad/x": grad_x}
        arrays |= {f"param/{path}": value for path, value in drawn.items()}
        arrays |= {f"grad/param/{path}": value for path, value in grads.items()}
        np.savez_compressed(args.out / f"qna_layer_{name}.npz", config=json.dumps(config), **arrays)


if __name__ == "__main__":
    main()
