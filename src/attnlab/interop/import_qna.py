"""``python -m attnlab import-qna FILE --out CKPT``: official QnA weights as a checkpoint."""

import argparse
import importlib.metadata
import io
from collections.abc import Sequence
from pathlib import Path

from attnlab.messages import bad_input

MODELS = ("qna_vit_tiny", "qna_vit_tiny_7x7", "qna_vit_small", "qna_vit_base")

DESCRIPTION = """\
Turn a train state of the official QnA code (JAX/Flax, msgpack) into a checkpoint for
`python -m attnlab test --ckpt_path CKPT`. The file is read as data: nothing in it is executed.
Step and optimiser state are left out."""


def _image_size(text: str) -> int | tuple[int, int]:
    sides = [int(side) for side in text.split("x")]
    if len(sides) > 2 or min(sides) < 1:
        raise ValueError
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


_image_size.__name__ = "image size"  # argparse names it in its message


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnlab import-qna",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="train state as flax.training.checkpoints saves it")
    add("--out", type=Path, metavar="CKPT", required=True, help="checkpoint to write")
    add("--model", choices=MODELS, help="the network (default: told from the arrays)")
    add(
        "--head",
        choices=("gap", "qna", "qna+mean"),
        help="classification head; needed for a QnA head, whose two kinds hold the same arrays",
    )
    add(
        "--image_size",
        type=_image_size,
        metavar="N | HxW",
        help="pixels to build for (default: 224); tables over local windows and over the map of a "
        "QnA head are interpolated where theirs are others",
    )
    add(
        "--params",
        default="params",
        metavar="NAME",
        help="map of the train state to read (default: params), ema_params for example",
    )
    add("--overwrite", action="store_true", help="replace CKPT if it exists")
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run the command; `args` defaults to the process's arguments.

    Raises:
        SystemExit: With 2 and one line on stderr when the file or an argument is wrong; nothing
            has been written then.
    """
    options = _parser().parse_args(args)
    with bad_input(ValueError, OSError, ImportError):
        print(_run(options))


def _run(options: argparse.Namespace) -> str:
    """Write the checkpoint and return with which options of the command line it is used."""
    out: Path = options.out
    if out.exists() and not options.overwrite:
        raise ValueError(f"out={str(out)!r} exists; choose another --out or pass --overwrite")
    # Torch takes seconds to import: --help and wrong arguments do not wait for it.
    import torch

    from attnlab.files import write_atomically
    from attnlab.interop.flax import load_qna_vit, published_name, read_train_state
    from attnlab.tasks.heads import PooledClassifier, QnAPool

    params = read_train_state(options.file, options.params)
    try:
        model = options.model or published_name(params)
    except ValueError as error:
        raise ValueError(f"{options.file}: {error}") from error
    try:
        network = load_qna_vit(model, params, image_size=options.image_size, head=options.head)
    except ValueError as error:
        raise ValueError(f"{options.file} as {model}: {error}") from error
    assert isinstance(network, PooledClassifier)

    content = io.BytesIO()
    torch.save(
        {
            # The names of ClassificationTask, whose module would import the trainer.
            "state_dict": {f"classifier.{name}": v for name, v in network.state_dict().items()},
            "pytorch-lightning_version": importlib.metadata.version("lightning"),
        },
        content,
    )
    write_atomically(out, content.getvalue())
    size = str(options.image_size or 224).replace(" ", "").translate(str.maketrans("()", "[]"))
    shown = [f"--model.backbone=attnlab.models.qna_vit.{model}"]
    built = {"image_size": size, "patch_size": 4, "in_channels": 3}
    shown += [f"--model.backbone.{name}={value}" for name, value in built.items()]
    if isinstance(network.pool, QnAPool):
        shown += [f"--model.pool=attnlab.tasks.heads.{type(network.pool).__name__}"]
        shown += [f"--model.pool.heads={network.pool.heads}"]
    return f"{out}: {network.head.out_features} classes; use with {' '.join(shown)}"
