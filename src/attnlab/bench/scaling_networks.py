"""Whole networks of `attnlab.bench scaling`: LisaViT small and its twin with self-attention."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from attnlab.bench.networks import Classifier, csv_lines, race, table
from attnlab.bench.record import csv_text
from attnlab.files import write_atomically
from attnlab.models.lisa_vit import lisa_vit_small
from attnlab.operators.baselines import SelfAttention

UNIT, PATCH = "DeiT-S", 16

NOTE = (
    "Both ran in one process, in turn in every round. Entries are median ± half the interquartile "
    f"range, of a whole batch; in brackets the ratio to {UNIT} in the same round. Forward: "
    "evaluation mode, without autograd. Forward + backward: training mode, to the gradients of all "
    f"parameters. {UNIT} is the same network with fused self-attention in place of LiSA and a "
    "learnt position table, which it needs and LiSA does not; neither has a class token. LiSA's "
    "equations are this project's, built from the paper's abstract."
)


def _lisa(size: int) -> nn.Module:
    return Classifier(lisa_vit_small(image_size=size))


def _deit(size: int) -> nn.Module:
    return Classifier(lisa_vit_small(SelfAttention, image_size=size, absolute_position=True))


NETWORKS: Mapping[str, Callable[[int], nn.Module]] = {"lisa_vit_small": _lisa, UNIT: _deit}


def write(
    out: Path,
    header: Mapping[str, str],
    sizes: Sequence[int],
    tokens: int,
    dtype: torch.dtype,
    device: torch.device,
    rounds: int,
) -> None:
    """Measure both networks at every size of images and write CSV and page.

    Args:
        out: Folder of ``scaling_networks.csv`` and ``scaling_networks.md``.
        header: Conditions, by name.
        sizes: Sides of the images, in pixels.
        tokens: Tokens in a batch, at least one image.
        dtype: Of images and parameters.
        device: Where they run.
        rounds: Samples of each time.
    """
    lines: list[dict[str, object]] = []
    blocks = ["# LisaViT small and DeiT-S of the same blocks"]
    blocks += ["\n".join(f"- **{name}**: {value}" for name, value in header.items()), NOTE]
    for size in sizes:
        batch = max(1, tokens // (size // PATCH) ** 2)
        results = race(NETWORKS, UNIT, batch, size, dtype, device, rounds)
        lines += [{"size": size, "batch": batch, **line} for line in csv_lines(results)]
        blocks += [f"## {size} x {size} pixels, {batch} in a batch", table(results)]
        print("\n".join(blocks[-2:]), flush=True)
        # Whole after every size: an interrupted benchmark keeps what it has measured.
        write_atomically(out / "scaling_networks.csv", csv_text(header, lines))
        write_atomically(out / "scaling_networks.md", "\n\n".join(blocks) + "\n")
    print(f"{out}: scaling_networks.md, scaling_networks.csv")
