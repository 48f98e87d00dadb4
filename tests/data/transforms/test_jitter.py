"""Colour jitter: torchvision's changes, and how they are drawn."""

from functools import partial

import numpy as np
import pytest
from data.transforms.goldens import golden
from scipy import stats

from attnlab.data.transforms import recolour
from attnlab.data.transforms.jitter import ColorJitter, shift_hue, simclr_jitter, to_grey

CASES = golden("about:jitter")
CHANGES = {
    "brightness": recolour.brightness,
    "contrast": recolour.contrast,
    "saturation": recolour.colour,
    "hue": shift_hue,
}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(17)


@pytest.mark.parametrize(
    "case", range(len(CASES)), ids=lambda case: "-".join(map(str, CASES[case]))
)
def test_changes_are_torchvisions(case: int) -> None:
    name, factor = CASES[case]
    frame = np.ascontiguousarray(golden("image").transpose(2, 0, 1))
    expected = golden("jitter")[case].transpose(2, 0, 1)
    assert np.array_equal(CHANGES[name](frame, factor), expected)


def _drawn(jitter: ColorJitter, rng: np.random.Generator) -> list[list[partial]]:
    return [jitter.draw(rng) for _ in range(4000)]


def test_factors_are_uniform_and_their_order_random(rng: np.random.Generator) -> None:
    drawn = _drawn(ColorJitter(0.3, 1.7, 0.4, 0.1), rng)
    ranges = {
        recolour.brightness: (0.7, 0.6),
        recolour.contrast: (0, 2.7),
        recolour.colour: (0.6, 0.8),
        shift_hue: (-0.1, 0.2),
    }
    for change, (low, length) in ranges.items():
        found = [
            next(iter(step.keywords.values()))
            for steps in drawn
            for step in steps
            if step.func is change
        ]
        assert len(found) == 4000
        assert stats.kstest(found, stats.uniform(low, length).cdf).pvalue > 1e-3
    orders = [tuple(step.func.__name__ for step in steps) for steps in drawn]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_strength_zero_changes_nothing(rng: np.random.Generator) -> None:
    drawn = _drawn(ColorJitter(0, 0.2, 0), rng)
    assert {step.func for steps in drawn for step in steps} == {recolour.contrast}


def test_simclr_jitters_eight_in_ten_and_greys_two(rng: np.random.Generator) -> None:
    drawn = _drawn(simclr_jitter(0.3), rng)
    grey = np.array([to_grey in steps for steps in drawn])
    jittered = np.array([len(steps) >= 4 for steps in drawn])
    assert all(steps[-1] is to_grey for steps in drawn if to_grey in steps)
    assert abs(grey.mean() - 0.2) < 4 * 0.4 / 4000**0.5
    assert abs(jittered.mean() - 0.8) < 4 * 0.4 / 4000**0.5
    factors = {recolour.brightness: [], shift_hue: []}
    for steps in drawn:
        for step in steps:
            if step is not to_grey and step.func in factors:
                factors[step.func].append(next(iter(step.keywords.values())))
    assert 0.23 < max(factors[recolour.brightness]) - 1 <= 0.24
    assert 0.059 < max(factors[shift_hue]) <= 0.06


def test_grey_is_the_luma_in_all_channels(rng: np.random.Generator) -> None:
    frame = rng.integers(0, 256, (3, 5, 7)).astype(np.uint8)
    assert np.array_equal(to_grey(frame), np.stack([recolour.luma(frame).astype(np.uint8)] * 3))


def test_a_clip_has_one_draw(rng: np.random.Generator) -> None:
    frames = rng.integers(0, 256, (3, 3, 11, 13)).astype(np.uint8)
    for seed in range(20):
        found = simclr_jitter(1.0)(frames, np.random.default_rng(seed))
        for before, after in zip(frames, found, strict=True):
            alone = simclr_jitter(1.0)(before[None], np.random.default_rng(seed))[0]
            assert np.array_equal(after, alone)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"contrast": -0.1}, "brightness=0.4, contrast=-0.1, saturation=0.4 must not be negative"),
        ({"hue": 0.6}, r"hue=0.6 must be in \[0, 0.5\]"),
        ({"probability": 1.1}, "probability=1.1 and grey=0.0 must be in"),
        ({"grey": -1}, "grey=-1 must be in"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ColorJitter(**arguments)
