"""The work behind ``attnlab analyze``: build as a test does, analyse, write files."""

import argparse
import math
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from attnlab.ablation.report import style
from attnlab.ablation.report.statement import LISA_NOTE
from attnlab.analysis import figures, overlay, tables
from attnlab.analysis.recording import HeldOut
from attnlab.analysis.redundancy import Analysis, analyse, mean
from attnlab.callbacks.figures import contact_sheet
from attnlab.cli import AttnlabCLI, UsageError, start


def run(options: argparse.Namespace, further: Sequence[str]) -> None:
    """Analyse what `options` name.

    Args:
        options: Arguments of `command.main`, config and out settled.
        further: Arguments of `attnlab test`.

    Raises:
        SystemExit: With 2 and one line on stderr when the configuration, the checkpoint or an
            argument is wrong.
    """
    settings = {
        "config": options.config,
        "run_dir": options.out,
        "trainer.accelerator": options.device,
        "trainer.devices": 1,
        "trainer.num_nodes": 1,
        "trainer.strategy": "auto",
        "trainer.precision": "32-true",
        "trainer.fast_dev_run": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
    }
    # The arguments are not those of this process, which is meant.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")

    class CLI(AnalyzeCLI):
        asked = options

    arguments = [f"--{name}={value}" for name, value in settings.items()]
    start(CLI, ["test", *arguments, *further], ["test"])


class AnalyzeCLI(AttnlabCLI):
    """Builds model, data and trainer as ``attnlab test`` does, and analyses instead of testing."""

    asked: ClassVar[argparse.Namespace]

    def test(self, **unused: Any) -> None:
        """Run the analysis on held-out samples."""
        try:
            step = _load(self.model, self.asked.ckpt)
            batches = self._samples()
            _Output(self.asked, self.trainer.logger, step).write(self.model, batches)
        except (ValueError, OSError) as error:
            raise UsageError(str(error)) from error

    def after_test(self) -> None:
        """Write no test.json: nothing was tested."""

    def _samples(self) -> list[Tensor]:
        """Return the batches that the validation or the test would see; nothing is logged."""
        asked, trainer = self.asked, self.trainer
        held_out = HeldOut(asked.samples)
        size = getattr(self.datamodule, "batch_size", 1)
        trainer.limit_val_batches = trainer.limit_test_batches = math.ceil(asked.samples / size)
        trainer.callbacks.append(held_out)  # type: ignore[attr-defined]
        loggers, trainer.loggers = trainer.loggers, []
        loop = trainer.test if asked.split == "test" else trainer.validate
        loop(self.model, datamodule=self.datamodule, verbose=False)
        trainer.loggers = loggers
        self.model.to(trainer.strategy.root_device)  # the loop has taken it back to the CPU
        if not held_out.batches:
            raise ValueError(f"the data have no samples for split={asked.split!r}")
        if asked.image >= (found := sum(map(len, held_out.batches))):
            raise ValueError(f"image={asked.image} must be below the {found} samples there are")
        return held_out.batches


class _Output:
    """Writes the files of an analysis and, where there is a logger, its pictures for TensorBoard.

    Args:
        asked: Arguments of the command.
        logger: The run's logger.
        step: Training step of the checkpoint.
    """

    def __init__(self, asked: argparse.Namespace, logger: object, step: int) -> None:
        self.asked = asked
        self.out: Path = asked.out
        self.step = step
        self.writer: Any = logger.experiment if isinstance(logger, TensorBoardLogger) else None

    def write(self, network: nn.Module, batches: Sequence[Tensor]) -> None:
        """Analyse, write tables and pictures, print what matters."""
        asked = self.asked
        sample = torch.cat(list(batches))[asked.image]
        points = asked.queries or overlay.default_points(*sample.shape[-2:])
        kernels = overlay.kernels_at(network, sample, points)
        found = analyse(network, batches, asked.kernel_samples, asked.max_queries)
        self.out.mkdir(parents=True, exist_ok=True)
        paths = tables.write(found, self.out)
        title = f"{asked.ckpt.parent.parent.name or asked.ckpt.stem}, step {self.step}"
        pictures, note = {}, figures.whose(found)
        if len(found.layers) > 1:
            pictures["layers"] = figures.layers_figure(found, f"Layers of {title}")
        if found.kernels:
            pictures["measures"] = figures.measures_figure(found, f"Kernels of {title}")
        if kernels:
            path, heads = self.out / "query_kernels.csv", figures.MOST_HEADS
            paths.append(tables.write_query_kernels(kernels, points, heads, path))
            pictures |= _kernel_pictures(overlay.picture(sample), kernels, points, title, note)
        pictures |= dict(_learnt_pictures(network, title, note))
        paths += [self._draw(stem, figure) for stem, figure in pictures.items()]
        if self.writer is not None:
            for tag, value in found.summary().items():
                self.writer.add_scalar(tag, value, self.step)
            self.writer.flush()
        show(found, paths, Console())

    def _draw(self, stem: str, figure: Figure) -> Path:
        path = self.out / f"{stem}.png"
        style.save_png(figure, path)
        if self.writer is not None:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self.writer.add_image(f"diag/{stem}", pixels, self.step, dataformats="HWC")
        return path


def _kernel_pictures(
    image: Tensor,
    kernels: Sequence[overlay.QueryKernels],
    points: Sequence[overlay.Point],
    title: str,
    note: str,
) -> dict[str, Figure]:
    return {
        f"kernels_{row}_{column}": figures.kernels_figure(
            image, kernels, index, f"Kernels of {title}, seen from pixel {row}, {column}", note
        )
        for index, (row, column) in enumerate(points)
    }


def _learnt_pictures(network: nn.Module, title: str, note: str) -> Iterator[tuple[str, Figure]]:
    for (mixer, kind), maps in overlay.learnt_maps(network).items():
        heading = f"Learnt {kind} maps of {mixer}, {title}"
        figure = figures.sheet_figure(contact_sheet(maps), len(maps), heading, note)
        yield f"learnt_{mixer}_{kind}", figure


def _load(model: nn.Module, path: Path) -> int:
    """Load a checkpoint into the model built and return its training step.

    It is read as data: nothing in it is executed.

    Raises:
        ValueError: It is no checkpoint of a task, or of another network.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        cause = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"ckpt={str(path)!r} is not a checkpoint: {cause}") from error
    state: Mapping[str, Tensor] | None = (
        checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    )
    if not isinstance(state, dict):
        raise ValueError(f"ckpt={str(path)!r} is not a checkpoint of a task: it has no state_dict")
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    wrong = [name for name in {**expected, **given} if expected.get(name) != given.get(name)]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"ckpt={str(path)!r} is of another network than the configuration's: {len(wrong)} "
            f"arrays differ, {name} for one is {given.get(name, 'missing')} there and "
            f"{expected.get(name, 'missing')} here"
        )
    model.load_state_dict(state)
    return int(checkpoint.get("global_step", 0))


def show(found: Analysis, paths: Sequence[Path], console: Console) -> None:
    """Print the measures of every mixer, the mean CKA and where everything is."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in ("mixer", "operator"):
        table.add_column(name, no_wrap=True, overflow="fold", vertical="bottom")
    for name in ("heads", "queries", "from own\nplaces", "entropy\n/ log keys", "rank", "of"):
        table.add_column(name, justify="right", vertical="bottom")
    for one in found.kernels:
        values = (one.across_heads, mean(one.across_queries), mean(one.relative), one.spread)
        texts = [f"{value:.2f}" if math.isfinite(value) else "—" for value in values]
        rank = [f"{mean(one.rank):.1f}", str(one.highest_rank)]
        table.add_row(one.mixer, one.operator, *texts, *rank)
    if found.kernels:
        console.print(Text("Kernels: similarity across heads and queries, spread, effective rank"))
        console.print(table)
    for name, reason in found.without_kernel.items():
        console.print(Text(f"{name}: {reason}"))
    for tag, value in found.summary().items():
        console.print(Text(f"{tag:34}{value:.4f}"))
    if any(one.operator == "LiSA" for one in found.kernels):
        console.print(Text(LISA_NOTE, style="dim"))
    console.print(Text(f"{paths[0].parent}: {', '.join(path.name for path in paths)}"))
