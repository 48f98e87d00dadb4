"""``attnlab.bench networks``: QnA-ViT tiny against a Swin of equal cost from the same blocks."""

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnlab.ablation.errors import UserError
from attnlab.backbones.base import Backbone
from attnlab.backbones.blocks import Block, PatchEmbed
from attnlab.bench import options as common
from attnlab.bench.memory import inference_call, peak_bytes, saved_bytes, training_call
from attnlab.bench.record import conditions, csv_text
from attnlab.bench.tables import MIB, figures
from attnlab.bench.timing import Spread, interleave, ratios, spread
from attnlab.callbacks.complexity import forward_gflops
from attnlab.files import write_atomically
from attnlab.models.qna_vit import qna_vit_tiny
from attnlab.operators.baselines import WindowAttention
from attnlab.operators.init import lecun_linear

UNIT = "qna_vit_tiny"


class PatchMerging(nn.Module):
    """Swin's step to the next stage: norm and linear map of 2 x 2 tokens put side by side.

    Args:
        dim: Channels in; twice as many come out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=1e-6)
        self.linear = lecun_linear(4 * dim, 2 * dim)

    def forward(
        self, x: Float[Tensor, "batch rows columns dim"]
    ) -> Float[Tensor, "batch half_rows half_columns twice"]:
        """Halve rows and columns, which must be even."""
        batch, rows, columns, dim = x.shape
        pairs = x.view(batch, rows // 2, 2, columns // 2, 2, dim).transpose(2, 3)
        merged: Tensor = self.linear(self.norm(pairs.flatten(3)))
        return merged


class Swin(nn.Module):
    """Swin (Liu et al. 2021) of the blocks of this project, as expensive as QnA-ViT tiny.

    Widths are those of QnA-ViT tiny, heads have 32 channels, windows 7 tokens. Windows are not
    shifted, which saves it the rolls and masks. Depth and `mlp_ratio` are set so that the
    multiply-adds at 224 pixels are those of QnA-ViT tiny within 1 %.

    Args:
        num_classes: Logits.
        width: Channels of the first stage.
        depths: Blocks per stage.
        mlp_ratio: Width of the MLPs' hidden layers over that of their block.
        image_size: Side of the images, a multiple of 32.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width: int = 64,
        depths: Sequence[int] = (2, 2, 9, 2),
        mlp_ratio: float = 3.75,
        image_size: int = 224,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(3, width, 4, image_size, bias=False)
        layers: list[nn.Module] = [nn.LayerNorm(width, eps=1e-6)]
        for stage, depth in enumerate(depths):
            dim, side = width * 2**stage, image_size // (4 * 2**stage)
            for _ in range(depth):
                mixer = WindowAttention(dim, max(1, dim // 32), (side, side), window_size=7)
                layers.append(Block(mixer, mlp_ratio=mlp_ratio, gelu="tanh"))
            if stage < len(depths) - 1:
                layers.append(PatchMerging(dim))
        self.layers = nn.Sequential(*layers, nn.LayerNorm(dim, eps=1e-6))
        self.head = lecun_linear(dim, num_classes, bias=True)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        logits: Tensor = self.head(self.layers(self.patch_embed(images)).mean(dim=(1, 2)))
        return logits


class Classifier(nn.Module):
    """A backbone with a linear map of the mean token behind it.

    Args:
        backbone: Maps images to a grid of tokens.
        num_classes: Logits.
    """

    def __init__(self, backbone: Backbone, num_classes: int = 1000) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = lecun_linear(backbone.num_features, num_classes, bias=True)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        logits: Tensor = self.head(self.backbone(images).mean(dim=(1, 2)))
        return logits


class QnAViTTiny(Classifier):
    """The published tiny size.

    Args:
        num_classes: Logits.
        image_size: Side of the images.
    """

    def __init__(self, num_classes: int = 1000, image_size: int = 224) -> None:
        super().__init__(qna_vit_tiny(image_size), num_classes)


NETWORKS: Mapping[str, Callable[[int], nn.Module]] = {
    UNIT: lambda size: QnAViTTiny(image_size=size),
    "swin": lambda size: Swin(image_size=size),
}


@dataclass(frozen=True)
class Result:
    """Costs of one network; seconds, bytes per image."""

    parameters: int
    gmacs: float
    forward: Spread
    forward_ratio: Spread
    training: Spread
    training_ratio: Spread
    saved: float
    peak: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    common.add_common(parser, batch=8, out="runs/bench/networks")
    parser.add_argument("--size", type=int, default=224, help="of images, in pixels; default: 224")


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Measure both networks side by side and write CSV and page."""
    rounds = 9 if options.rounds is None else options.rounds
    common.at_least("batch", options.batch, 1)
    common.at_least("rounds", rounds, 1)
    common.at_least("size", options.size, 32)
    if options.size % 32:
        raise UserError(f"--size must be a multiple of 32, not {options.size}")
    device = common.device(options.device)
    common.use_threads(options.threads)
    header = conditions(arguments)
    header["Setting"] = (
        f"batch {options.batch}, {options.size} x {options.size} pixels, {options.dtype}, "
        f"{rounds} rounds"
    )
    dtype = common.DTYPES[options.dtype]
    results = race(NETWORKS, UNIT, options.batch, options.size, dtype, device, rounds)
    out: Path = options.out
    write_atomically(out / "networks.csv", csv_text(header, csv_lines(results)))
    write_atomically(out / "networks.md", page(header, results))
    print(table(results))
    print(f"{out}: networks.md, networks.csv")
    return 0


def race(
    builders: Mapping[str, Callable[[int], nn.Module]],
    unit: str,
    batch: int,
    size: int,
    dtype: torch.dtype,
    device: torch.device,
    rounds: int,
) -> dict[str, Result]:
    """Build the networks for square images of `size` pixels and return the costs of each."""
    networks = {}
    for name, build in builders.items():
        torch.manual_seed(0)
        networks[name] = build(size).to(device, dtype)
    images = torch.randn(batch, 3, size, size)
    return measure(networks, images.to(device, dtype), rounds, unit)


def measure(
    networks: Mapping[str, nn.Module], images: Tensor, rounds: int, unit: str
) -> dict[str, Result]:
    """Return the costs of each network: forward in evaluation mode, training in training mode."""
    inputs = tuple(images.shape[1:])
    gmacs = {name: forward_gflops(network, inputs) / 2 for name, network in networks.items()}
    times, peaks, saved = {}, {}, {}
    for mode in ("forward", "training"):
        calls = {}
        for name, network in networks.items():
            network.train(mode == "training")
            if mode == "forward":
                calls[name] = inference_call(network, images)
            else:
                calls[name] = training_call(network, images, to_input=False)
                kept = saved_bytes(functools.partial(network, images), network.parameters())
                saved[name] = kept / len(images)
            calls[name]()
            peaks[name] = peak_bytes(calls[name], images.device) / len(images)
        times[mode] = interleave(calls, images.device, rounds, budget_s=float("inf"))
    forward, training = times["forward"], times["training"]
    return {
        name: Result(
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            gmacs=gmacs[name],
            forward=spread(forward[name]),
            forward_ratio=spread(ratios(forward[name], forward[unit])),
            training=spread(training[name]),
            training_ratio=spread(ratios(training[name], training[unit])),
            saved=saved[name],
            peak=peaks[name],
        )
        for name, network in networks.items()
    }


def csv_lines(results: Mapping[str, Result]) -> list[dict[str, object]]:
    """Return a line per network: milliseconds, ratios to the unit, MiB per image."""
    lines = []
    for name, result in results.items():
        line: dict[str, object] = {"network": name, "parameters": result.parameters}
        line["gmacs"] = round(result.gmacs, 4)
        for mode in ("forward", "training"):
            taken, ratio = getattr(result, mode), getattr(result, f"{mode}_ratio")
            for end, key in (("", "median"), ("_q1", "low"), ("_q3", "high")):
                line[f"{mode}_ms{end}"] = round(1e3 * getattr(taken, key), 3)
                line[f"{mode}_ratio{end}"] = round(getattr(ratio, key), 4)
            line[f"{mode}_n"] = taken.n
        line["saved_mib"] = round(result.saved / MIB, 3)
        line["training_peak_mib"] = round(result.peak / MIB, 3)
        lines.append(line)
    return lines


def table(results: Mapping[str, Result]) -> str:
    """Return the Markdown table."""
    lines = [
        "| network | parameters | GMACs | forward, ms | forward + backward, ms "
        "| saved, MiB per image | peak, MiB per image |",
        "| :--- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, result in results.items():
        times = (
            f"{figures(1e3 * taken.median, 4)} ± {figures(1e3 * taken.half_width, 2)} "
            f"({figures(ratio.median)} ± {figures(ratio.half_width, 2)})"
            for taken, ratio in (
                (result.forward, result.forward_ratio),
                (result.training, result.training_ratio),
            )
        )
        memory = (figures(count / MIB) for count in (result.saved, result.peak))
        entries = [name, f"{result.parameters:,}", f"{result.gmacs:.3f}", *times, *memory]
        lines.append(f"| {' | '.join(entries)} |")
    return "\n".join(lines)


def page(header: Mapping[str, str], results: Mapping[str, Result]) -> str:
    """Return the Markdown page."""
    facts = "\n".join(f"- **{name}**: {value}" for name, value in header.items())
    note = (
        "Both ran in one process, in turn in every round. Entries are median ± half the "
        f"interquartile range; in brackets the ratio to {UNIT} in the same round. Forward: "
        "evaluation mode, without autograd. Forward + backward: training mode, to the gradients of "
        "all parameters. The Swin is built from the same blocks, its windows unshifted."
    )
    return (
        "\n\n".join(["# QnA-ViT tiny and a Swin of equal cost", facts, note, table(results)]) + "\n"
    )
