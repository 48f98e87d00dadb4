"""Pictures of what operators have learnt per position, in TensorBoard."""

import math

import lightning as L
import torch
from jaxtyping import Float, UInt8
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib import colormaps
from torch import Tensor

from attnlab.analysis.recording import short
from attnlab.operators.base import TokenMixer

CELL = 96
"""Side, in pixels, that one map is enlarged to at least."""


def contact_sheet(
    maps: Float[Tensor, "map rows columns"],
) -> UInt8[Tensor, "height width 3"]:
    """Lay maps out on a near-square sheet, each scaled to its own largest magnitude.

    Zero is white, positive red, negative blue. Maps are enlarged without smoothing.
    """
    count, rows, columns = maps.shape
    zoom = max(1, CELL // max(rows, columns))
    scale = maps.abs().amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    colours = torch.from_numpy(colormaps["RdBu_r"]((maps / scale + 1).numpy() / 2, bytes=True))
    tiles = colours[..., :3].repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
    across = math.ceil(math.sqrt(count))
    down, gap = math.ceil(count / across), max(2, zoom // 2)
    height, width = tiles.shape[1] + gap, tiles.shape[2] + gap
    sheet = torch.full((down * height + gap, across * width + gap, 3), 160, dtype=torch.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // across * height + gap, index % across * width + gap
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


class LearntMaps(L.Callback):
    """Logs every mixer's `learnt_maps` as images ``diag/<mixer>/<map>`` when a fit has ended."""

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Log one contact sheet per mixer and kind of map."""
        if not isinstance(trainer.logger, TensorBoardLogger) or not trainer.is_global_zero:
            return
        writer = trainer.logger.experiment
        for name, mixer in module.named_modules():
            if isinstance(mixer, TokenMixer):
                for kind, maps in mixer.learnt_maps().items():
                    sheet = contact_sheet(maps.detach().float().cpu())
                    tag = f"diag/{short(name).removesuffix('.mixer')}/{kind}"
                    writer.add_image(tag, sheet, trainer.global_step, dataformats="HWC")
