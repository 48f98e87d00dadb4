"""Mixup and cutmix against timm's record, and by their definition."""

import numpy as np
import pytest
import torch
from data.transforms.goldens import golden
from scipy import stats
from torch.nn import CrossEntropyLoss
from torch.nn.functional import one_hot

from attnlab.data.batch.mixing import Mixing
from attnlab.data.pixels import BatchTransform

HEIGHT, WIDTH = 61, 47


def _drawn(mixing: Mixing, batches: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the part kept, whether it was cutmix, and its boxes, for many batches."""
    kept = torch.stack(
        [mixing.draw(HEIGHT, WIDTH, torch.tensor([seed])) for seed in range(batches)]
    )
    cut = ((kept == 0) | (kept == 1)).all(-1).all(-1).numpy()
    boxes = []
    for mask in (kept.numpy() == 0) & cut[:, None, None]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        none = not len(rows)
        boxes.append((0,) * 4 if none else (rows[0], columns[0], len(rows), len(columns)))
        assert mask.sum() == boxes[-1][2] * boxes[-1][3]
    return kept.mean((1, 2)).numpy(), cut, np.array(boxes)


def test_draws_are_distributed_as_timms() -> None:
    ours = _drawn(Mixing(), 3000)
    timms = tuple(golden(f"mixing/{key}") for key in ("kept", "cut", "box"))
    shares = [np.bincount(drawn[1], minlength=2) for drawn in (ours, timms)]
    assert stats.chi2_contingency(np.stack(shares)).pvalue > 1e-3
    for cut in (True, False):
        kept = [drawn[0][drawn[1] == cut] for drawn in (ours, timms)]
        assert stats.ks_2samp(*kept).pvalue > 1e-3
    for side in range(4):
        found = [drawn[2][drawn[1] & (drawn[2][:, 2] > 0)][:, side] for drawn in (ours, timms)]
        assert stats.ks_2samp(*found).pvalue > 1e-3
    kept, cut, boxes = ours
    area = boxes[cut][:, 2] * boxes[cut][:, 3]
    np.testing.assert_allclose(kept[cut], 1 - area / (HEIGHT * WIDTH), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "cut"),
    [({"cutmix": 0.0}, 0.0), ({"mixup": 0.0}, 1.0), ({"switch": 0.2}, 0.2), ({"switch": 1}, 1.0)],
)
def test_methods_take_their_turns(arguments: dict, cut: float) -> None:
    found = _drawn(Mixing(**arguments), 400)[1].mean()
    assert abs(found - cut) <= 4 * (cut * (1 - cut) / 400) ** 0.5


def test_some_batches_stay_as_they_are() -> None:
    kept, cut, _ = _drawn(Mixing(probability=0.3, cutmix=0), 400)
    whole = cut & (kept == 1)
    assert abs(whole.mean() - 0.7) < 4 * (0.21 / 400) ** 0.5


@pytest.mark.parametrize("batch", [6, 7])
@pytest.mark.parametrize("frames", [(), (2,)])
@pytest.mark.parametrize("arguments", [{"cutmix": 0}, {"mixup": 0}])
def test_samples_meet_their_mirror_image(batch: int, frames: tuple, arguments: dict) -> None:
    mixing: BatchTransform = Mixing(**arguments)
    pixels = torch.randn(batch, *frames, 3, 11, 13)
    targets = one_hot(torch.arange(batch), 11).float()
    seeds = torch.arange(batch) + 23
    mixed, labels = mixing(pixels, targets, seeds)
    kept = mixing.draw(11, 13, seeds[:1])
    assert 0 < kept.mean() < 1
    for sample in range(batch):
        other = batch - 1 - sample
        expected = kept * pixels[sample] + (1 - kept) * pixels[other]
        torch.testing.assert_close(mixed[sample], expected)
        expected = torch.zeros(11)
        expected[sample] += kept.mean()
        expected[other] += 1 - kept.mean()
        torch.testing.assert_close(labels[sample], expected)
    torch.testing.assert_close(mixing(pixels, targets, seeds.flip(0).roll(1))[0], mixed)


def test_cutmix_copies_pixels_exactly() -> None:
    pixels = torch.randn(4, 3, 11, 13)
    mixed, _ = Mixing(mixup=0)(pixels, torch.eye(4), torch.arange(4) + 5)
    assert ((mixed == pixels) | (mixed == pixels.flip(0))).all()
    assert not torch.equal(mixed, pixels)


def test_smoothing_in_the_loss_equals_timms_smoothed_targets() -> None:
    logits = torch.randn(4, 5, dtype=torch.float64)
    labels = one_hot(torch.tensor([3, 0, 4, 1]), 5).double()
    mixed = 0.7 * labels + 0.3 * labels.flip(0)
    timms = torch.from_numpy(golden("mixed_targets")).double()
    expected = -(timms * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(
        CrossEntropyLoss(label_smoothing=0.1)(logits, mixed), expected, rtol=1e-6, atol=0
    )


def test_class_indices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"targets of shape \(2,\) must be probabilities"):
        Mixing()(torch.zeros(2, 1, 3, 3), torch.tensor([0, 1]), torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mixup": 0, "cutmix": 0}, "mixup=0 and cutmix=0 must not be negative, and not both 0"),
        ({"mixup": -1}, "mixup=-1 and"),
        ({"switch": 1.5}, "switch=1.5 and probability=1.0 must be in"),
        ({"probability": -0.5}, "probability=-0.5 must be in"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixing(**arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_mixes_the_same() -> None:
    pixels, targets = torch.randn(4, 3, 11, 13), torch.eye(4)
    for start in range(20):
        near = torch.arange(4) + start
        found = Mixing()(pixels.cuda(), targets.cuda(), near.cuda())
        for ours, expected in zip(found, Mixing()(pixels, targets, near), strict=True):
            torch.testing.assert_close(ours.cpu(), expected, rtol=1e-5, atol=1e-5)
