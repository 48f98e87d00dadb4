"""Kernels at chosen query points, as they lie over an image."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnlab.analysis.recording import evaluating, forward, mixers, observing
from attnlab.operators.base import Grid

Point = tuple[int, int]
"""A pixel, (row, column)."""


@dataclass(frozen=True)
class QueryKernels:
    """What every mixer's heads give the tokens of an image, seen from a few query points.

    Attributes:
        mixer: Name of the mixer.
        kappa: The kernels [points, heads, rows, columns], on the grid of the input tokens.
        places: For each point the output token that holds it, (row, column), of `out_grid`.
        out_grid: Output tokens, (rows, columns).
    """

    mixer: str
    kappa: Float[Tensor, "points heads rows columns"]
    places: tuple[Point, ...]
    out_grid: Grid


def default_points(height: int, width: int) -> tuple[Point, ...]:
    """Return three pixels: the middles of the left and of the right half, and one near the top."""
    return ((height // 2, width // 4), (height // 2, 3 * width // 4), (height // 8, width // 2))


def picture(sample: Float[Tensor, "*clip channels height width"]) -> Float[Tensor, "height width"]:
    """Return a sample as grey levels in [0, 1], stretched to its own range; a clip's middle frame.

    What the network gets is normalised, and how is not known here.
    """
    frame = sample if sample.ndim == 3 else _middle(sample)
    grey = frame.detach().float().cpu().mean(0)
    low, high = grey.min(), grey.max()
    return (grey - low) / (high - low).clamp_min(torch.finfo(grey.dtype).tiny)


def kernels_at(
    network: nn.Module,
    sample: Float[Tensor, "*clip channels height width"],
    points: Sequence[Point],
) -> list[QueryKernels]:
    """Return the kernels of all mixers at query points of one sample.

    Left out are mixers without a kernel over tokens and those of time, whose tokens are no image.
    On clips the kernel is that of the middle frame, over the tokens of this frame.

    Args:
        network: A task or a network with token mixers; left as it was.
        sample: An image or a clip.
        points: Pixels of it.

    Raises:
        ValueError: A point lies outside the image, or the network has no mixer.
    """
    height, width = sample.shape[-2:]
    for row, column in points:
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(f"query={row},{column} lies outside the {height}x{width} image")
    operators = mixers(network)
    inputs: dict[str, Tensor] = {}
    found = []
    with evaluating(network):
        with observing({}, operators, inputs.__setitem__):
            forward(network, sample.unsqueeze(0))
        for name, mixer in operators.items():
            x = inputs[name]
            grid = tuple(x.shape[1:-1])
            # Frames count as samples where a mixer works on each, places where one mixes time.
            if min(grid[-2:]) == 1 or (sample.ndim == 3 and len(x) > 1):
                continue
            x = x[len(x) // 2].unsqueeze(0)
            out = mixer.out_grid(grid)
            places = tuple((r * out[-2] // height, c * out[-1] // width) for r, c in points)
            first = math.prod(out[-2:]) * (out[0] // 2 if len(out) == 3 else 0)
            queries = torch.tensor([first + r * out[-1] + c for r, c in places], device=x.device)
            try:
                kappa = mixer.token_weights(x, queries)[0].transpose(0, 1)
            except ValueError:  # `analyse` names these
                continue
            maps = torch.unflatten(kappa.float().cpu(), -1, grid)
            maps = maps if len(grid) == 2 else maps[:, :, grid[0] // 2]
            found.append(QueryKernels(name, maps, places, tuple(out[-2:])))
    return found


def learnt_maps(network: nn.Module) -> Mapping[tuple[str, str], Float[Tensor, "map rows columns"]]:
    """Return what all mixers have learnt per position, by mixer and kind of map."""
    return {
        (name, kind): maps.detach().float().cpu()
        for name, mixer in mixers(network).items()
        for kind, maps in mixer.learnt_maps().items()
    }


def _middle(clip: Float[Tensor, "*clip channels height width"]) -> Tensor:
    frames = clip.flatten(0, -4)
    return frames[len(frames) // 2]
