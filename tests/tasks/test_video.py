"""VideoClassificationTask: views and class-mean accuracy against values worked out by hand."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from attnlab.backbones.lisa_vit import LisaViT
from attnlab.backbones.video import VideoBackbone
from attnlab.callbacks.complexity import forward_gflops
from attnlab.operators.baselines import SelfAttention
from attnlab.tasks.classification import ClassificationTask
from attnlab.tasks.video import VideoClassificationTask


def trainer(**kwargs) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **kwargs)


def backbone() -> VideoBackbone:
    return VideoBackbone(LisaViT(SelfAttention, 8, 4, 1, 8, 1, 2), "tsm", frames=3)


class Fixed(VideoClassificationTask):
    """Returns the first pixels of the first frame as logits."""

    def forward(self, clips):
        assert clips.ndim == 5
        return clips[:, 0, 0, 0, : self.num_logits]

    num_logits = 6


@pytest.fixture
def fixed() -> Fixed:
    torch.manual_seed(0)
    return Fixed(backbone(), num_classes=6)


def clips_of(logits: torch.Tensor) -> torch.Tensor:
    """Return clips [..., 2, 1, 3, 7] that `Fixed` reads these logits from."""
    clips = torch.zeros(*logits.shape[:-1], 2, 1, 3, 7)
    clips[..., 0, 0, 0, :6] = logits
    return clips


LOGITS = 3 * torch.randn(11, 6, generator=torch.Generator().manual_seed(3))
TARGETS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 3, 5])


@pytest.mark.parametrize("stage", ["val", "test"])
def test_every_class_counts_as_much_in_the_mean(fixed: Fixed, stage: str) -> None:
    logits = torch.full((11, 6), -9.0)
    guesses = torch.tensor([0, 0, 0, 0, 0, 1, 1, 0, 0, 3, 3])
    logits[range(11), guesses] = 9.0
    loader = DataLoader(TensorDataset(clips_of(logits), TARGETS), batch_size=4)
    evaluate = trainer().validate if stage == "val" else trainer().test
    (metrics,) = evaluate(fixed, loader, verbose=False)
    assert set(metrics) == {f"{stage}/{name}" for name in ("loss", "top1", "top5", "mean_class")}
    assert metrics[f"{stage}/top1"] == pytest.approx(7 / 11)
    # Classes 2 and 4 occur nowhere.
    assert metrics[f"{stage}/mean_class"] == pytest.approx((5 / 6 + 1 / 3 + 1 + 0) / 4)


def test_probabilities_of_views_are_averaged(fixed: Fixed) -> None:
    views = LOGITS[:9].view(3, 3, 6).clone()  # three videos of three views
    views[0] = 0
    views[0, 0, 1], views[0, 1:, 2] = 20, 4  # one view is sure, the two others agree
    targets = torch.tensor([2, 5, 0])
    mean = views.softmax(-1).mean(1)
    assert not torch.equal(mean.argmax(1), views.mean(1).argmax(1))  # logits would name others
    loader = DataLoader(TensorDataset(clips_of(views), targets), batch_size=2)
    (metrics,) = trainer().test(fixed, loader, verbose=False)
    assert metrics["test/loss"] == pytest.approx(-mean[range(3), targets].log().mean().item())
    assert metrics["test/top1"] == pytest.approx((mean.argmax(1) == targets).float().mean().item())
    torch.testing.assert_close(fixed.predict_step((clips_of(views), targets), 0), mean)


def test_one_view_is_the_clip_itself(fixed: Fixed) -> None:
    one = fixed.evaluated(clips_of(LOGITS).unsqueeze(1))
    torch.testing.assert_close(one, LOGITS.log_softmax(-1))
    assert torch.equal(fixed.evaluated(clips_of(LOGITS)), LOGITS)


def test_soft_targets_and_smoothing_train_as_on_images() -> None:
    soft = torch.softmax(torch.arange(66.0).view(11, 6).sin(), dim=1)
    losses = []
    for kind in (VideoClassificationTask, ClassificationTask):
        torch.manual_seed(1)
        module = kind(backbone(), 6, label_smoothing=0.1)
        module.log = lambda *args, **kwargs: None
        losses.append(module.training_step((torch.ones(11, 3, 1, 8, 8).cumsum(1), soft), 0))
    assert torch.equal(*losses)


def test_learns_the_order_of_frames() -> None:
    """A brightening and a darkening clip share their frames; the shift tells them apart."""
    ramp = torch.linspace(-1, 1, 4).view(1, 4, 1, 1, 1).expand(1, 4, 1, 8, 8)
    noise = 0.1 * torch.randn(32, 4, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    clips = torch.cat([ramp + noise, (ramp + noise).flip(1)])
    targets = torch.arange(2).repeat_interleave(32)
    loader = DataLoader(TensorDataset(clips, targets), batch_size=64)
    torch.manual_seed(2)
    module = VideoClassificationTask(
        VideoBackbone(LisaViT(SelfAttention, 8, 4, 1, 8, 2, 2), "tsm", frames=4),
        2,
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.02),
    )
    fitting = trainer(max_epochs=30, num_sanity_val_steps=0)
    fitting.fit(module, loader, loader)
    (metrics,) = trainer().test(module, loader, verbose=False)
    assert metrics["test/top1"] == 1


def test_flops_of_a_classifier_of_clips() -> None:
    module = VideoClassificationTask(backbone(), 6)
    tokens, dim = 4, 8
    macs = tokens * (16 * dim + 4 * dim * dim + 2 * tokens * dim + 8 * dim * dim)
    assert forward_gflops(module, (3, 1, 8, 8)) * 1e9 == pytest.approx(2 * (3 * macs + dim * 6))
