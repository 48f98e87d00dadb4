"""Contact sheets of learnt maps."""

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attnlab.callbacks.figures import CELL, LearntMaps, contact_sheet
from attnlab.operators.baselines import WindowAttention
from attnlab.tasks.classification import ClassificationTask
from tests.doubles import NoiseData, TinyBackbone


def test_sheet_colours_and_layout():
    maps = torch.zeros(3, 2, 4)
    maps[0, 0, 0], maps[0, 1, 3], maps[1, 0, 1] = 5.0, -5.0, 1e-3
    sheet = contact_sheet(maps)
    zoom, gap = CELL // 4, CELL // 8
    assert sheet.shape == (2 * (2 * zoom + gap) + gap, 2 * (4 * zoom + gap) + gap, 3)

    def pixel(index: int, row: int, column: int) -> list[int]:
        top = index // 2 * (2 * zoom + gap) + gap + row * zoom
        left = index % 2 * (4 * zoom + gap) + gap + column * zoom
        cell = sheet[top : top + zoom, left : left + zoom].reshape(-1, 3)
        assert (cell == cell[0]).all()
        return cell[0].tolist()

    red, _, blue = pixel(0, 0, 0)
    assert red > 90 > blue  # positive is red
    red, _, blue = pixel(0, 1, 3)
    assert blue > 90 > red  # negative is blue
    assert pixel(1, 0, 1) == pixel(0, 0, 0)  # each map has its own scale
    assert min(pixel(2, 1, 1)) > 240  # zero is white


def test_logged_for_every_mixer(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=logger,
        log_every_n_steps=1,
        callbacks=[LearntMaps()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(ClassificationTask(TinyBackbone(WindowAttention), 7), NoiseData())
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["images"] == ["diag/block/bias_table"]
