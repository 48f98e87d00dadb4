"""The pictures of an analysis, in the style of the reports."""

import math
import re
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from attnlab.ablation.report import style
from attnlab.analysis.overlay import QueryKernels
from attnlab.analysis.redundancy import Analysis, KernelMeasures, mean

MOST_HEADS = 6
"""Heads that a picture of kernels shows at most."""
NUMBERS = 12
"""Rows up to which a heat map has its numbers written in."""


def layers_figure(found: Analysis, title: str) -> Figure:
    """Draw CKA between layers and, where there are any, the similarity of their kernels."""
    names = [each.mixer for each in found.kernels]
    rows = max(len(found.layers), len(names))
    with matplotlib.rc_context(style.SETTINGS):
        caption = f"CKA of {found.samples} held-out samples · grey: not defined"
        if names:
            caption += (
                " · kernels: mean cosine of rows over all pairs of heads, on the diagonal between "
                "the heads of one mixer"
            )
        fig = style.figure(min(3.2 + 0.12 * rows, 6.5), title, _wrapped(caption + whose(found)))
        axes = fig.subplots(1, 2 if names else 1, squeeze=False)[0]
        _heat(axes[0], found.cka, found.layers, "linear CKA of outputs", signed=False)
        if names:
            _heat(axes[1], found.similarity, names, "similarity of kernels", signed=True)
    return fig


def measures_figure(found: Analysis, title: str) -> Figure:
    """Draw the measures of every mixer's kernel as bars."""
    mixers = found.kernels
    panels: list[tuple[str, Callable[[KernelMeasures], float]]] = [
        ("similarity\nof heads", lambda one: one.across_heads),
        ("similarity\nof queries", lambda one: mean(one.across_queries)),
        ("of queries from\ntheir own places", lambda one: mean(one.relative)),
        ("entropy\nover log(keys)", lambda one: one.spread),
        ("effective\nrank", lambda one: mean(one.rank)),
    ]
    with matplotlib.rc_context(style.SETTINGS):
        caption = "means over heads, queries and samples · dashed: the highest rank possible"
        caption = _wrapped(caption + whose(found))
        fig = style.figure(1.9 + 0.3 * len(mixers), title, caption)
        axes = fig.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (name, value), colour in zip(axes, panels, style.CATEGORIES, strict=False):
            is_rank = name.endswith("rank")
            highest = max(one.highest_rank for one in mixers) if is_rank else 1
            _bars(ax, [value(one) for one in mixers], highest, colour)
            ax.set_title(name, fontsize=10, color=style.INK)
        for at, one in enumerate(mixers):
            axes[-1].plot([one.highest_rank] * 2, [at - 0.45, at + 0.45], **style.REFERENCE)
        axes[0].set_yticks(range(len(mixers)), [one.mixer for one in mixers], fontsize=9)
        axes[0].set_ylim(len(mixers) - 0.5, -0.5)
    return fig


def kernels_figure(
    image: Float[Tensor, "height width"],
    found: Sequence[QueryKernels],
    index: int,
    title: str,
    note: str = "",
) -> Figure:
    """Draw the kernels of all mixers at one query point over the image, a row per mixer.

    Args:
        image: Grey levels in [0, 1].
        found: The kernels.
        index: Which of their points.
        title: Title.
        note: End of the caption, see `whose`.
    """
    heads = min(MOST_HEADS, max(one.kappa.shape[1] for one in found))
    side = (style.WIDTH - 0.9) / (heads + 1)
    height = image.shape[0] / image.shape[1] * min(side, 1.9)
    with matplotlib.rc_context(style.SETTINGS):
        caption = (
            "red: positive weight, blue: negative, each map on the scale of its own largest "
            "magnitude, written below it · square: the query token · shade: the image"
        )
        fig = style.figure(0.6 + len(found) * (height + 0.32), title, _wrapped(caption + note))
        axes = fig.subplots(len(found), heads + 1, squeeze=False)
        for line, one in zip(axes, found, strict=True):
            _image(line[0], image)
            line[0].set_ylabel(re.sub(r"(\.\d+)\.", r"\1\n", one.mixer), fontsize=8)
            _mark(line[0], image, one, index)
            for head, ax in enumerate(line[1:]):
                if head < one.kappa.shape[1]:
                    _kernel(ax, image, one, index, head)
                else:
                    ax.set_axis_off()
        axes[0][0].set_title("image", fontsize=9)
        for head in range(heads):
            first = next(row for row, one in enumerate(found) if head < one.kappa.shape[1])
            axes[first][head + 1].set_title(f"head {head}", fontsize=9)
    return fig


def sheet_figure(
    sheet: UInt8[Tensor, "height width 3"], maps: int, title: str, note: str = ""
) -> Figure:
    """Draw a contact sheet of learnt maps with what its colours mean; `note` as in `whose`."""
    caption = (
        f"{maps} maps, row by row · red: positive, blue: negative, each map on the scale of its own"
        " largest magnitude · offset zero in the middle of maps over offsets"
    )
    with matplotlib.rc_context(style.SETTINGS):
        width = min(style.WIDTH - 0.4, 5.5)
        height = width * sheet.shape[0] / sheet.shape[1]
        fig = style.figure(height + 0.6, title, _wrapped(caption + note))
        ax = fig.add_subplot()
        ax.imshow(sheet.numpy(), interpolation="nearest")
        ax.set_axis_off()
    return fig


def _heat(ax: Axes, table: Tensor, names: Sequence[str], title: str, signed: bool) -> None:
    colours = matplotlib.colormaps["RdBu_r" if signed else "cividis"].with_extremes(bad="#d9d9d9")
    shown = np.ma.masked_invalid(table.double().numpy())
    picture = ax.imshow(shown, cmap=colours, vmin=-1 if signed else 0, vmax=1)
    ax.set_title(title, fontsize=10, color=style.INK)
    every = max(1, math.ceil(len(names) / NUMBERS))
    ticks = range(0, len(names), every)
    ax.set_xticks(ticks, [names[at] for at in ticks], rotation=45, ha="right", fontsize=8)
    ax.set_yticks(ticks, [names[at] for at in ticks], fontsize=8)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    bar = ax.figure.colorbar(picture, ax=ax, shrink=0.8, pad=0.03, ticks=[-1, 0, 1])
    bar.ax.tick_params(length=0, labelsize=8)
    if len(names) > NUMBERS:
        return
    for (row, column), value in np.ndenumerate(table.double().numpy()):
        text = f"{value:.2f}" if math.isfinite(value) else "–"  # noqa: RUF001
        red, green, blue, _ = colours(picture.norm(value)) if math.isfinite(value) else (1, 1, 1, 1)
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        colour = "white" if dark else style.INK
        size = 8 if len(names) <= NUMBERS // 2 else 6
        ax.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)


def _bars(ax: Axes, values: Sequence[float], highest: float, colour: str) -> None:
    """Draw bars from 0, on a scale that reaches `highest`, or -1 where a value is negative."""
    heights = [0.0 if math.isnan(value) else value for value in values]
    ax.barh(range(len(values)), heights, color=colour, height=0.62)
    low = -highest if min(heights) < -0.02 * highest else 0
    for at, (value, length) in enumerate(zip(values, heights, strict=True)):
        text = "—" if math.isnan(value) else f"{value:.2f}" if highest == 1 else f"{value:.1f}"
        ax.text(max(length, 0), at, f" {text}", va="center", fontsize=8)
    ax.set_xlim(low, highest * (1.4 if low else 1.3))
    ticks = [low, 0, highest] if low else [0, highest / 2, highest]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    style.bare(ax, "x")


def _image(ax: Axes, pixels: Tensor) -> None:
    rows, columns = pixels.shape[:2]
    shown = pixels if pixels.ndim == 3 else pixels.unsqueeze(-1).expand(-1, -1, 3)
    ax.imshow(shown.numpy(), extent=(0, columns, rows, 0), interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _shade(image: Float[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    """Return the image, or its negative where most of it is dark, as light greys."""
    light = image if image.median() > 0.5 else 1 - image
    return 0.55 + 0.45 * light


def _mark(ax: Axes, image: Tensor, one: QueryKernels, index: int) -> None:
    (rows, columns), (row, column) = one.out_grid, one.places[index]
    height, width = image.shape[0] / rows, image.shape[1] / columns
    for colour, line in (("white", 3.0), ("black", 1.4)):
        ax.add_patch(
            matplotlib.patches.Rectangle(
                (column * width, row * height), width, height, fill=False, ec=colour, lw=line
            )
        )


def _kernel(ax: Axes, image: Tensor, one: QueryKernels, index: int, head: int) -> None:
    """Draw a kernel, white where there is no weight, with the image as its shade."""
    kappa = one.kappa[index, head]
    largest = float(kappa.abs().max())
    scaled = kappa / largest if largest else kappa
    colours = torch.from_numpy(matplotlib.colormaps["RdBu_r"]((scaled.numpy() + 1) / 2)[..., :3])
    size = tuple(image.shape)
    enlarged = F.interpolate(colours.movedim(-1, 0)[None], size=size, mode="nearest-exact")[0]
    _image(ax, enlarged.movedim(0, -1) * _shade(image).unsqueeze(-1))
    _mark(ax, image, one, index)
    ax.set_xlabel(f"{largest:.2g}", fontsize=8)


def whose(found: Analysis) -> str:
    """Return the end of a caption: whose LiSA it is, where one was analysed."""
    ours = any(one.operator == "LiSA" for one in found.kernels)
    return " · LiSA by this project's own equations, not the paper's" if ours else ""


def _wrapped(text: str) -> str:
    """Break a caption into lines as wide as the figure."""
    lines, line = [], ""
    for word in text.split(" "):
        if len(line) + len(word) > 112:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])
