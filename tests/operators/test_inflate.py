"""How far inflated operators see in time; that static clips stay what they were is in the laws."""

import functools

import pytest
import torch

from attnlab.operators.base import MixerFactory, TokenMixer
from attnlab.operators.baselines import DepthwiseConv, GlobalFilter, SelfAttention, WindowAttention
from attnlab.operators.lisa import LiSA
from attnlab.operators.qna import QnA, UpsamplingQnA
from tests.operators.contract import build

FRAMES, GRID, DIM = 7, (3, 5), 12


def _frames_that_move(make: MixerFactory, changed: int, kernel_frames: int) -> set[int]:
    """Return the frames of the output that differ once a frame of the input does."""
    inflated = build(make, GRID).inflate(FRAMES, kernel_frames)
    clip = torch.randn(1, FRAMES, *GRID, DIM, dtype=torch.float64)
    other = clip.clone()
    other[:, changed] += 1
    difference = (inflated(other) - inflated(clip)).abs().amax(dim=(0, 2, 3, 4))
    return {int(frame) for frame in (difference > 1e-9).nonzero()}


@pytest.mark.parametrize(
    ("make", "changed", "kernel_frames", "seen"),
    [
        (QnA, 3, 3, {2, 3, 4}),
        (QnA, 0, 5, {0, 1, 2}),
        (QnA, 3, 4, {1, 2, 3, 4}),  # an even window reaches one frame further behind
        (functools.partial(QnA, kernel_size=5, padding=2), 3, 1, {3}),
        (LiSA, 3, 1, set(range(7))),
        (functools.partial(LiSA, variant="mask"), 0, 1, set(range(7))),
        (SelfAttention, 6, 1, set(range(7))),
        (functools.partial(WindowAttention, window_size=3), 1, 1, {0, 1, 2}),
        (functools.partial(WindowAttention, window_size=3), 6, 1, {6}),
        (functools.partial(DepthwiseConv, kernel_size=5), 3, 1, {3}),
        (GlobalFilter, 3, 1, {3}),
    ],
)
def test_reach_in_time(
    make: MixerFactory, changed: int, kernel_frames: int, seen: set[int]
) -> None:
    assert _frames_that_move(make, changed, kernel_frames) == seen


@pytest.mark.parametrize(("make", "reach"), [(DepthwiseConv, 3), (GlobalFilter, 3), (LiSA, 3)])
def test_what_starts_alike_in_all_frames_can_learn_to_tell_them_apart(
    make: MixerFactory, reach: int
) -> None:
    inflated = build(make, GRID).inflate(FRAMES)
    clip = torch.randn(1, FRAMES, *GRID, DIM, dtype=torch.float64)
    inflated(clip)[:, reach].square().sum().backward()
    tables = [p for name, p in inflated.named_parameters() if p.ndim > 4]
    assert tables
    for table in tables:
        assert (table.grad.std(dim=0 if make is GlobalFilter else 2) > 0).any()


def test_inflated_shares_nothing_with_the_original() -> None:
    mixer = build(QnA, GRID)
    inflated = mixer.inflate(FRAMES)
    assert inflated.window.size == (3, 3, 3)
    assert mixer.window.size == (3, 3)
    before = {p.data_ptr() for p in mixer.parameters()}
    assert not before & {p.data_ptr() for p in inflated.parameters()}


def test_queries_for_places_inside_a_token_cannot_be_inflated() -> None:
    with pytest.raises(ValueError, match="UpsamplingQnA cannot be inflated to clips"):
        UpsamplingQnA(DIM, 3, GRID).inflate(FRAMES)


def test_an_operator_says_by_itself_that_it_has_no_form_on_clips() -> None:
    with pytest.raises(ValueError, match="TokenMixer cannot be inflated to clips"):
        TokenMixer(DIM, 3, GRID).inflate(FRAMES)
