"""ClassificationTask: losses, metrics and optimisation against values worked out by hand."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from attnlab.operators.baselines import WindowAttention
from attnlab.tasks.classification import ClassificationTask
from tests.doubles import NoiseData, TinyBackbone


def task(num_classes: int = 7, **kwargs) -> ClassificationTask:
    torch.manual_seed(0)
    return ClassificationTask(TinyBackbone(WindowAttention), num_classes, **kwargs)


def trainer(**kwargs) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **kwargs)


class Fixed(ClassificationTask):
    """Returns its input as logits."""

    def forward(self, images):
        return images.flatten(1)


@pytest.fixture
def fixed() -> Fixed:
    return Fixed(TinyBackbone(WindowAttention), num_classes=6)


# Ranks of the true class among the logits of each row: 0, 1, 4, 5, 0.
LOGITS = torch.tensor(
    [
        [5.0, 1.0, 0.0, 0.5, 2.0, 3.0],
        [5.0, 4.0, 0.0, 0.5, 2.0, 3.0],
        [1.0, 2.0, 3.0, 4.0, 5.0, 0.0],
        [1.0, 2.0, 3.0, 4.0, 5.0, 0.0],
        [0.0, 0.0, 0.0, 9.0, 0.0, 0.0],
    ]
)
TARGETS = torch.tensor([0, 1, 0, 5, 3])


def test_metrics_over_uneven_batches(fixed):
    loader = DataLoader(TensorDataset(LOGITS, TARGETS), batch_size=3)
    (metrics,) = trainer().validate(fixed, loader, verbose=False)
    chosen = LOGITS.log_softmax(1)[range(5), TARGETS]
    assert metrics["val/top1"] == pytest.approx(2 / 5)
    assert metrics["val/top5"] == pytest.approx(4 / 5)
    assert metrics["val/loss"] == pytest.approx(-chosen.mean().item(), rel=1e-6)


def test_top5_needs_five_classes():
    (metrics,) = trainer().test(task(num_classes=4), NoiseData(num_classes=4), verbose=False)
    assert set(metrics) == {"test/loss", "test/top1"}


def test_training_loss_of_soft_targets_and_smoothing(fixed):
    soft = torch.softmax(torch.arange(30.0).view(5, 6).sin(), dim=1)
    fixed.train_criterion = ClassificationTask(
        TinyBackbone(WindowAttention), 6, label_smoothing=0.1
    ).train_criterion
    fixed.log = lambda *args, **kwargs: None
    log_probability = LOGITS.log_softmax(1)
    expected = -((0.9 * soft + 0.1 / 6) * log_probability).sum(1).mean()
    assert fixed.training_step((LOGITS, soft), 0).item() == pytest.approx(expected.item())


def test_predict_gives_probabilities(fixed):
    probabilities = fixed.predict_step((LOGITS, TARGETS), 0)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(5))
    assert torch.equal(probabilities.argmax(1), LOGITS.argmax(1))


def test_schedule_spans_the_run_and_decay_spares_tables():
    module = task(optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.3))
    runner = trainer(max_epochs=3, log_every_n_steps=1)
    runner.fit(module, NoiseData())  # 4 batches an epoch
    (optimizer,) = runner.optimizers
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)
    assert any(p is module.classifier.backbone.block.mixer.bias_table for p in spared["params"])
    assert any(p is module.classifier.head.weight for p in decayed["params"])
    assert runner.global_step == 12
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)


def test_learns_and_can_be_validated_before():
    module = task(optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.03))
    (before,) = trainer().validate(module, NoiseData()._loader(64, seed=1), verbose=False)
    trainer(max_epochs=40, log_every_n_steps=1).fit(module, NoiseData())
    (after,) = trainer().validate(module, NoiseData()._loader(64, seed=1), verbose=False)
    assert before["val/top1"] < 0.4
    assert after["val/top1"] > 0.6
    assert after["val/loss"] < before["val/loss"] / 2


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"label_smoothing": 1.0}, "label_smoothing=1.0"), ({"num_classes": 0}, "num_classes=0")],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        task(**kwargs)
