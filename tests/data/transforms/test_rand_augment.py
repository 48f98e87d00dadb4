"""Each operation at timm's magnitudes, and how often which is drawn, against timm's own record."""

import numpy as np
import pytest
from data.transforms.goldens import golden
from scipy import stats

from attnlab.data.transforms.rand_augment import INCREASING, PLAIN, RandAugment

POLICIES = {"rand-m9-mstd0.5-inc1": (9, 2), "rand-m7-n4-mstd0.5-inc1": (7, 4)}
CASES = golden("about:operations")
SAMPLES, TIMMS_SAMPLES = 9000, 3000


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(13)


@pytest.mark.parametrize(
    "case", range(len(CASES)), ids=lambda case: "-".join(map(str, CASES[case]))
)
def test_operations_are_timms(case: int) -> None:
    name, magnitude, sign, interpolation = CASES[case]
    increasing = name not in PLAIN or name == "SolarizeAdd"
    operations = INCREASING if increasing else PLAIN
    operation = operations[name.removesuffix("Increasing").removesuffix("Rel")]
    where = (interpolation, (124, 116, 104)) if operation.warps else ()
    frame = np.ascontiguousarray(golden("image").transpose(2, 0, 1))
    found = operation.apply(frame, *operation.arguments(magnitude / 10, sign), *where)
    difference = np.abs(found.astype(int) - golden("operations")[case].transpose(2, 0, 1))
    one_dimensional = operation.warps and name != "Rotate"
    assert difference.max() <= one_dimensional
    assert (difference > 0).mean() < 0.002


def test_the_record_has_every_operation() -> None:
    names = {case[0].removesuffix("Increasing").removesuffix("Rel") for case in CASES}
    assert names == set(INCREASING) == set(PLAIN)
    assert tuple(
        name.removesuffix("Increasing").removesuffix("Rel") for name in golden("about:places")
    ) == tuple(INCREASING)


def _drawn(policy: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image, operation and argument of all that is applied to many images."""
    augment = RandAugment(policy)
    rows = [
        (image, augment.names.index(step.name), step.arguments[0] if step.arguments else 0)
        for image in range(SAMPLES)
        for step in augment.draw(rng)
    ]
    return tuple(np.array(column) for column in zip(*rows, strict=True))


@pytest.mark.parametrize("policy", POLICIES)
def test_draws_are_distributed_as_timms(rng: np.random.Generator, policy: str) -> None:
    ours = _drawn(policy, rng)
    timms = tuple(golden(f"{policy}/{key}") for key in ("image", "place", "argument"))
    counts = [
        np.bincount(np.bincount(drawn[0], minlength=size), minlength=POLICIES[policy][1] + 1)
        for drawn, size in ((ours, SAMPLES), (timms, TIMMS_SAMPLES))
    ]
    assert stats.chi2_contingency(np.stack(counts)).pvalue > 1e-3  # operations per image
    kinds = [np.bincount(drawn[1], minlength=15) for drawn in (ours, timms)]
    assert stats.chi2_contingency(np.stack(kinds)).pvalue > 1e-3
    for place, name in enumerate(INCREASING):
        mine, theirs = (drawn[2][drawn[1] == place].astype(np.float32) for drawn in (ours, timms))
        assert stats.ks_2samp(mine, theirs).pvalue > 1e-4, name  # one of 24 such tests
        assert (np.unique(mine) > 0).any() or name in ("AutoContrast", "Equalize", "Invert")


def test_probabilities_are_those_of_the_policy(rng: np.random.Generator) -> None:
    _, kinds, arguments = _drawn("rand-m9-mstd0.5-inc1", rng)
    expected = SAMPLES * 2 * 0.5 / 15
    assert np.abs(np.bincount(kinds) - expected).max() < 4 * expected**0.5
    angles = arguments[kinds == list(INCREASING).index("Rotate")]
    assert abs((angles > 0).mean() - 0.5) < 4 * 0.5 / len(angles) ** 0.5
    clipped = stats.norm.sf(10, 9, 0.5)
    assert abs((np.abs(angles) == 30).mean() - clipped) < 4 * (clipped / len(angles)) ** 0.5
    inside = np.abs(angles)[np.abs(angles) < 30] / 3
    truncated = stats.truncnorm(-np.inf, 2, 9, 0.5)
    assert stats.kstest(inside, truncated.cdf).pvalue > 1e-3


@pytest.mark.parametrize("policy", ["rand-m10-n8-p1-mstd3-inc1", "rand-m0-n8-p1-mstd3", "rand-m0"])
def test_posterize_keeps_at_least_one_bit(rng: np.random.Generator, policy: str) -> None:
    augment = RandAugment(policy)
    steps = [step for _ in range(2000) for step in augment.draw(rng)]
    bits = {step.arguments[0] for step in steps if step.name == "Posterize"}
    assert min(bits) == 1
    assert bits <= {1, 2, 3, 4}


def test_a_deviation_above_100_means_uniform_magnitudes(rng: np.random.Generator) -> None:
    for policy in ("rand-m8-mstd101-inc1", "rand-m8-mstdinf-inc1"):
        _, kinds, arguments = _drawn(policy, rng)
        shears = np.abs(arguments[kinds == list(INCREASING).index("ShearX")])
        assert stats.kstest(shears, stats.uniform(0, 0.24).cdf).pvalue > 1e-3


def test_random_interpolation_draws_both(rng: np.random.Generator) -> None:
    augment = RandAugment("rand-n9-p1", interpolation="random")
    drawn = [step.interpolation for _ in range(400) for step in augment.draw(rng)]
    assert set(drawn) == {"bilinear", "bicubic"}
    assert abs(np.mean([name == "bicubic" for name in drawn]) - 0.5) < 4 * 0.5 / 60
    assert {step.interpolation for step in RandAugment("rand-n9-p1").draw(rng)} == {"bicubic"}


def test_what_comes_from_outside_has_the_fill_colour(rng: np.random.Generator) -> None:
    augment = RandAugment("rand-m10-n1-p1-inc1", fill=(3, 5, 7))
    frame = np.full((3, 31, 37), 200, np.uint8)
    moved = 0
    for _ in range(200):
        steps = augment.draw(rng)
        if augment.operations[steps[0].name].warps:
            found = augment.apply(frame, steps)
            outside = (found != 200).any(0)
            moved += bool(outside.any())
            assert (found[:, outside] == np.array([[3], [5], [7]])).all()
    assert moved > 30


def test_a_clip_has_one_draw(rng: np.random.Generator) -> None:
    frames = rng.integers(0, 256, (3, 3, 29, 31)).astype(np.uint8)
    augment = RandAugment("rand-m9-n4-p1-mstd0.5-inc1", interpolation="random")
    for seed in range(40):
        found = augment(frames, np.random.default_rng(seed))
        for before, after in zip(frames, found, strict=True):
            alone = augment(before[None], np.random.default_rng(seed))[0]
            assert np.array_equal(after, alone)


@pytest.mark.parametrize(
    "policy",
    [
        "",
        "rand-",
        "random-m9",
        "rand-m9-w0",
        "rand-m9-inc2",
        "rand-n1.5",
        "rand-p1.5",
        "rand-mm9",
        "augmix-m3",
    ],
)
def test_policies_not_understood_are_named(policy: str) -> None:
    with pytest.raises(ValueError, match=f"policy='{policy}' must"):
        RandAugment(policy)
