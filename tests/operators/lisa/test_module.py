"""The laws of the contract over every option, and what the layer promises beside them."""

import copy
import math
from functools import partial
from typing import ClassVar

import pytest
import torch

from attnlab.operators.base import MixerFactory, TokenMixer
from attnlab.operators.lisa import LiSA
from attnlab.operators.lisa.options import APPROXIMATIONS
from tests.operators.contract import OperatorLaws, assert_close, gradients

dense = partial(LiSA, approximation="none")
fft = partial(LiSA, approximation="fft")


class TestLiSA(OperatorLaws):
    variants: ClassVar[dict[str, MixerFactory]] = {
        "auto": LiSA,
        "fft": fft,
        "none": dense,
        "circular": partial(LiSA, approximation="circular"),
        "truncated": partial(LiSA, approximation="truncated", kept_frequencies=0.6),
        "split": partial(LiSA, approximation="split"),
        "low_rank": partial(LiSA, approximation="low_rank"),
        "low_rank_keys_per_head": partial(LiSA, approximation="low_rank", rank=2, key_groups=3),
        "no_patterns": partial(LiSA, num_rpes=0),
        "l2": partial(fft, kernel="l2"),
        "elu": partial(dense, kernel="elu"),
        "elu_key_per_head": partial(fft, kernel="elu", key_groups=3, num_rpes=3),
        "softmax": partial(dense, kernel="softmax"),
        "softmax_key_per_head": partial(dense, kernel="softmax", key_groups=3, key_dim=5),
        "mask": partial(fft, variant="mask", key_dim=3),
        "mask_none": partial(dense, variant="mask", kernel="elu"),
        "mask_circular": partial(LiSA, variant="mask", approximation="circular", key_dim=3),
        "mask_truncated": partial(LiSA, variant="mask", approximation="truncated", key_dim=3),
        "mask_split": partial(LiSA, variant="mask", approximation="split", key_dim=3),
        "mask_low_rank": partial(LiSA, variant="mask", approximation="low_rank", key_dim=3, rank=1),
        "mask_softmax": partial(dense, variant="mask", kernel="softmax", activation="tanh"),
        "softmax_scores": partial(fft, activation="softmax", content=False),
        "tanh_scores": partial(dense, activation="tanh", query_weights=False),
    }

    projection = "to_out"

    def values(self, mixer: TokenMixer, x: torch.Tensor) -> torch.Tensor:
        return mixer.to_v(x)

    def inflates(self, mixer: TokenMixer) -> bool:
        """Frequencies are cut in time too, and copies of a table have high ones at its ends."""
        return mixer.approximation != "truncated"


@pytest.mark.parametrize("grid", [(13, 11), (3, 7, 5)])
@pytest.mark.parametrize("variant", ["pattern", "mask"])
@pytest.mark.parametrize("approximation", APPROXIMATIONS)
def test_float32_is_as_close_to_the_defining_sums_as_float32_can_be(
    approximation: str, variant: str, grid: tuple[int, ...]
) -> None:
    torch.manual_seed(1)
    mixer = LiSA(20, 5, grid, approximation=approximation, variant=variant, key_dim=3)
    exact = copy.deepcopy(mixer).double()
    x = torch.randn(2, *grid, 20)
    expected, expected_grads = gradients(exact.reference, exact, x.double())
    actual, grads = gradients(mixer, mixer, x)
    assert actual.dtype == torch.float32
    assert_close(actual.double(), expected, 5e-6, "output")
    for name, grad in grads.items():
        assert_close(grad.double(), expected_grads[name], 5e-6, f"d{name}")


@pytest.mark.parametrize("approximation", ["none", "fft", "low_rank"])
def test_runs_in_pure_bfloat16(approximation: str) -> None:
    torch.manual_seed(1)
    mixer = LiSA(12, 3, (7, 5), approximation=approximation)
    x = torch.randn(2, 7, 5, 12)
    expected = mixer(x)
    actual = mixer.bfloat16()(x.bfloat16())
    assert actual.dtype == torch.bfloat16
    assert_close(actual.float(), expected, 0.05, "bfloat16")


@pytest.mark.parametrize("variant", ["pattern", "mask"])
@pytest.mark.parametrize("approximation", ["none", "fft", "circular", "low_rank"])
@pytest.mark.parametrize("grid", [(7, 5), (3, 5, 2)])
def test_an_empty_batch_gives_nothing_and_no_gradient(
    grid: tuple[int, ...], approximation: str, variant: str
) -> None:
    mixer = LiSA(12, 3, grid, approximation=approximation, variant=variant)
    y = mixer(torch.zeros(0, *grid, 12))
    assert y.shape == (0, *grid, 12)
    y.sum().backward()
    assert all((parameter.grad == 0).all() for parameter in mixer.parameters())


def test_strided_output_is_the_subsampled_output() -> None:
    torch.manual_seed(1)
    mixers = {s: LiSA(12, 3, (7, 4), s).double() for s in (1, 3)}
    mixers[3].load_state_dict(mixers[1].state_dict())
    x = torch.randn(2, 7, 4, 12, dtype=torch.float64)
    assert_close(mixers[3](x), mixers[1](x)[:, ::3, ::3], 1e-12, "stride 3")


@pytest.mark.parametrize("variant", ["pattern", "mask"])
@pytest.mark.parametrize("approximation", ["none", "fft"])
def test_shared_keys_equal_repeated_keys(approximation: str, variant: str) -> None:
    torch.manual_seed(1)
    options = {"approximation": approximation, "variant": variant, "key_dim": 4}
    shared = LiSA(12, 6, (5, 3), key_groups=2, **options).double()
    repeated = LiSA(12, 6, (5, 3), key_groups=6, **options).double()
    for parameter in shared.parameters():
        torch.nn.init.normal_(parameter)
    state = shared.state_dict()
    keys = state["to_k.weight"].unflatten(0, (2, 4))
    state["to_k.weight"] = keys.repeat_interleave(3, dim=0).flatten(0, 1)
    if "encoding" in state:
        state["encoding"] = state["encoding"].repeat_interleave(3, dim=0)
    repeated.load_state_dict(state)
    x = torch.randn(2, 5, 3, 12, dtype=torch.float64)
    assert_close(repeated(x), shared(x), 1e-12, "keys per head")


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        # q 12*3*16, k 12*16, v and out 12*12, w 3*16*4, tables (1+3)*4 * 13*9, tau and beta 2*3
        (partial(LiSA, 12, 3, (7, 5)), 576 + 192 + 288 + 192 + 1872 + 6),
        # g = h, video: q = k 12*3*5, w 3*5*2, tables (3+3)*2 * 5*9*3
        (
            partial(LiSA, 12, 3, (3, 5, 2), num_rpes=2, key_dim=5, key_groups=3),
            180 + 180 + 288 + 30 + 1620 + 6,
        ),
        # periodic tables have 7*5 entries
        (partial(LiSA, 12, 3, (7, 5), approximation="circular"), 576 + 192 + 288 + 192 + 560 + 6),
        # factors have 13 + 9 entries a term
        (
            partial(LiSA, 12, 3, (7, 5), approximation="low_rank", rank=3),
            576 + 192 + 288 + 192 + 4 * 4 * 3 * 22 + 6,
        ),
        # wider output: v 12*24, out 24*24
        (partial(LiSA, 12, 3, (7, 5), 2, out_dim=24), 576 + 192 + 288 + 576 + 192 + 1872 + 6),
        (partial(LiSA, 12, 3, (7, 5), num_rpes=0), 576 + 192 + 288 + 6),
        (partial(LiSA, 12, 3, (7, 5), content=False, query_weights=False), 3126 - 3 - 192),
        # mask: W_g 12*3*4 in place of w, no table E
        (partial(LiSA, 12, 3, (7, 5), variant="mask"), 576 + 192 + 288 + 144 + 1404 + 6),
        # one layer of lisa_vit_small: C h c + C g c + 2 C^2 + h c R + (g + h) R 27^2 + 2 h
        (partial(LiSA, 384, 6, (14, 14)), 36864 + 6144 + 294912 + 384 + 20412 + 12),
    ],
)
def test_parameter_count(make: partial[LiSA], parameters: int) -> None:
    assert sum(p.numel() for p in make().parameters()) == parameters


def test_initialisation() -> None:
    torch.manual_seed(1)
    mixer = LiSA(64, 16, (9, 12), num_rpes=3, key_groups=8)
    assert (mixer.temperature == 1).all()
    assert (mixer.content_gain == 1).all()
    # Cut at two standard deviations, a normal keeps 0.8796 of its standard deviation.
    assert mixer.query_weight.abs().max() <= 0.04
    assert mixer.query_weight.std().item() == pytest.approx(0.0176, rel=0.1)
    for table in (mixer.encoding, mixer.composing):
        for r, width in enumerate((1, math.sqrt(6), 6)):  # log-spaced from 1 to 12 / 2
            for dy in (0, 3, -8):
                for dx in (0, -5, 11):
                    bound = 0.04 * math.exp(-(dy**2 + dx**2) / (2 * width**2))
                    assert table[:, r, dy + 8, dx + 11].abs().max() <= bound * (1 + 1e-5)
        assert table[:, :, 8, 11].std().item() == pytest.approx(0.0176, rel=0.35)
        # The widest pattern still reaches the corner; the narrowest does not.
        assert table[:, 2, 0, 0].abs().max() > 1e-3 > table[:, 0, 0, 0].abs().max() * 1e6


def test_initial_periodic_tables_fade_with_the_wrapped_distance() -> None:
    torch.manual_seed(1)
    table = LiSA(16, 16, (8, 7), num_rpes=1, approximation="circular").composing[:, 0].abs()
    for y, x, squared in [(0, 0, 0), (7, 0, 1), (1, 6, 2), (6, 2, 8), (4, 0, 16), (0, 5, 4)]:
        bound = 0.04 * math.exp(-squared / 2)
        assert 0.3 * bound < table[:, y, x].max() <= bound * (1 + 1e-5)


@pytest.mark.parametrize("approximation", ["none", "fft"])
def test_constant_tables_mean_the_same_on_every_grid(approximation: str) -> None:
    """P is a weight in a sum over tokens: on more tokens each must weigh less."""
    torch.manual_seed(1)
    mixer = LiSA(4, 2, (6, 5), approximation=approximation).double()
    for table in (mixer.encoding, mixer.composing):
        torch.nn.init.constant_(table, 0.3)
    x = torch.linspace(-1, 1, 4, dtype=torch.float64)
    small, large = (mixer(x.expand(1, *grid, 4))[0, 0, 0] for grid in ((6, 5), (9, 11)))
    assert_close(large, small, 1e-10, "constant image")


def test_learnt_maps_put_offset_zero_in_the_middle() -> None:
    image = LiSA(12, 3, (7, 5), num_rpes=2)
    assert {k: v.shape for k, v in image.learnt_maps().items()} == {
        "composing": (6, 13, 9),
        "encoding": (2, 13, 9),
    }
    assert torch.equal(image.learnt_maps()["composing"][3], image.composing[1, 1])
    video = LiSA(12, 3, (3, 5, 2), num_rpes=2)
    assert torch.equal(video.learnt_maps()["encoding"], video.encoding[0, :, 2])
    wrapped = LiSA(12, 3, (6, 5), num_rpes=2, approximation="circular")
    assert torch.equal(wrapped.learnt_maps()["composing"][5, 3, 2], wrapped.composing[2, 1, 0, 0])
    separable = LiSA(12, 3, (7, 5), num_rpes=2, approximation="low_rank", rank=2)
    u, v = separable.composing.detach()[2, 1].split([13, 9], -1)
    torch.testing.assert_close(separable.learnt_maps()["composing"][5], u.T @ v)
    assert LiSA(12, 3, (7, 5), num_rpes=0).learnt_maps() == {}


@pytest.mark.parametrize(
    ("size", "rpes", "approximation", "million_macs"),
    [  # C=384, h=6, d_k=16: the table of costs in the README
        (7, 1, "fft", 1.6),
        (7, 4, "circular", 0.9),
        (14, 1, "fft", 8.1),
        (14, 4, "fft", 21.1),
        (14, 4, "circular", 4.6),
        (28, 8, "truncated", 182),
        (56, 4, "fft", 463),
        (112, 8, "fft", 3815),
    ],
)
def test_uncounted_flops(size: int, rpes: int, approximation: str, million_macs: float) -> None:
    mixer = LiSA(384, 6, (7, 7), num_rpes=rpes, approximation=approximation)
    scores_and_sum = size**2 * rpes * (6 * 16 + 384)  # matrix products: the counter sees them
    total = mixer.uncounted_flops((size, size)) / 2 + scores_and_sum
    assert total / 1e6 == pytest.approx(million_macs, abs=0.051 if million_macs < 100 else 0.5)


def test_uncounted_flops_of_the_other_forms() -> None:
    flops = {
        name: LiSA(12, 3, (4, 2), key_dim=5, **options).uncounted_flops((4, 2))
        for name, options in {
            "fft": {"approximation": "fft"},
            "split": {"approximation": "split"},
            "mask": {"approximation": "fft", "variant": "mask"},
            "none": {"approximation": "none"},
            "low_rank": {"approximation": "low_rank"},
            "no_patterns": {"num_rpes": 0},
        }.items()
    }
    # M = 32 points, 2.5 M log2 M = 400 a transform, 3 M = 96 a product of spectra
    assert flops == {
        "fft": 400 * (17 + 4 * 17) + 96 * 4 * 17,
        "split": 400 * (17 + 4 * 5 + 12) + 96 * (4 * 5 + 12),
        "mask": 400 * (60 + 4 * 60) + 96 * 4 * 60,
        "none": 0,
        "low_rank": 0,
        "no_patterns": 0,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_rpes": -1}, "num_rpes=-1"),
        ({"key_dim": 0}, "key_dim=0"),
        ({"key_groups": 2}, "key_groups=2 .* heads=3"),
        ({"key_groups": 0}, "key_groups=0"),
        ({"kept_frequencies": 0.0}, r"kept_frequencies=0\.0"),
        ({"kept_frequencies": 1.5}, r"kept_frequencies=1\.5"),
        ({"rank": 0}, "rank=0 must be at least 1"),
        ({"approximation": "fast"}, "approximation='fast' .* auto, none, fft, circular"),
        ({"kernel": "cosine"}, "kernel='cosine' .* double_softmax, l2"),
        ({"variant": "gate"}, "variant='gate' .* pattern, mask"),
        ({"activation": "relu"}, "activation='relu' .* identity, softmax"),
        ({"kernel": "softmax", "approximation": "fft"}, "kernel='softmax' .* approximation='fft'"),
        (
            {"kernel": "softmax", "approximation": "circular"},
            "kernel='softmax' .* approximation='circular'",
        ),
        ({"approximation": "split", "num_rpes": 3}, "num_rpes=3 .* value_dim=4"),
        ({"variant": "mask", "query_weights": False}, "'mask' .* query_weights=False"),
        ({"num_rpes": 0, "content": False}, "num_rpes=0 .* content=False"),
    ],
)
def test_rejects_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LiSA(12, 3, (7, 5), **options)


def test_rejects_a_grid_with_other_axes() -> None:
    with pytest.raises(ValueError, match=r"grid=\(2, 7, 5\) .* 2 axes"):
        LiSA(12, 3, (7, 5))(torch.zeros(1, 2, 7, 5, 12))
