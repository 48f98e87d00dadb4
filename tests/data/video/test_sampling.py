import numpy as np
import pytest

from attnlab.data.video.sampling import (
    sample_dense,
    sample_pyslowfast,
    sample_tsm,
    sampling_rule,
)

DRAWS = 300


class Extreme(np.random.Generator):
    """Draws the least or the greatest value allowed, never one between."""

    def __init__(self, greatest: bool) -> None:
        super().__init__(np.random.PCG64(0))
        self.greatest = greatest

    def integers(self, low, high=None, size=None, endpoint=False):
        low, high = (0, low) if high is None else (low, high)
        value = high - (not endpoint) if self.greatest else low
        return np.broadcast_to(value, size if size is not None else np.shape(value))


def test_pyslowfast_segments_share_their_edges():
    # 11 frames, 4 segments of 2.5: edges 0, 2.5, 5, 7.5, 10, rounded half to even.
    assert sample_pyslowfast(11, 4, Extreme(False)).tolist() == [0, 2, 5, 8]
    assert sample_pyslowfast(11, 4, Extreme(True)).tolist() == [2, 5, 8, 10]
    assert sample_pyslowfast(11, 4, None).tolist() == [1, 3, 6, 9]


def test_pyslowfast_views_follow_uniformer():
    # 43 frames, 8 segments of 5.25, edges 0 5 10 16 21 26 32 37: two views at a third of it (1)
    # and at two (3).
    edges = np.array([0, 5, 10, 16, 21, 26, 32, 37])
    assert sample_pyslowfast(43, 8, None, 0, 2).tolist() == (edges + 1).tolist()
    assert sample_pyslowfast(43, 8, None, 1, 2).tolist() == (edges + 3).tolist()
    assert sample_pyslowfast(43, 8, None).tolist() == [2, 7, 13, 18, 23, 29, 34, 39]


def test_pyslowfast_repeats_the_frames_of_a_short_video():
    # 5 frames, segments of a half: edges 0 0 1 2 2 2 3 4 4.
    assert sample_pyslowfast(5, 8, None).tolist() == [0, 0, 1, 2, 2, 2, 3, 4]
    assert sample_pyslowfast(1, 3, None).tolist() == [0, 0, 0]


def test_tsm_segments_are_whole_numbers_of_frames():
    # 43 // 8 = 5 in training; 43 / 8 = 5.375 in evaluation: 2.6875 + 5.375 i.
    assert sample_tsm(43, 8, Extreme(False)).tolist() == [0, 5, 10, 15, 20, 25, 30, 35]
    assert sample_tsm(43, 8, Extreme(True)).tolist() == [4, 9, 14, 19, 24, 29, 34, 39]
    assert sample_tsm(43, 8, None).tolist() == [2, 8, 13, 18, 24, 29, 34, 40]


def test_tsm_twice_sample_adds_the_first_frames():
    assert sample_tsm(43, 8, None, 0, 2).tolist() == sample_tsm(43, 8, None).tolist()
    assert sample_tsm(43, 8, None, 1, 2).tolist() == [0, 5, 10, 16, 21, 26, 32, 37]


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
def test_tsm_spreads_a_short_video_instead_of_repeating_its_first_frame(rng):
    # round(4 i / 7)
    assert sample_tsm(5, 8, rng).tolist() == [0, 1, 1, 2, 2, 3, 3, 4]
    assert sample_tsm(8, 8, rng).tolist() == list(range(8))


def test_dense_wraps_round():
    # 43 frames are fewer than 64: start 0, stride 8, modulo 43.
    expected = [0, 8, 16, 24, 32, 40, 5, 13]
    assert sample_dense(43, 8, None).tolist() == expected
    assert sample_dense(43, 8, Extreme(True)).tolist() == expected


def test_dense_window_fits_where_it_can():
    # 101 frames: starts 0 to 37, of which training may draw the last too.
    assert sample_dense(101, 4, Extreme(False)).tolist() == [0, 16, 32, 48]
    assert sample_dense(101, 4, Extreme(True)).tolist() == [37, 53, 69, 85]
    assert sample_dense(101, 4, None).tolist() == [18, 34, 50, 66]
    starts = [sample_dense(101, 4, None, view, 10)[0] for view in range(10)]
    assert starts == [0, 4, 8, 12, 16, 20, 24, 28, 32, 37]  # int(37 i / 9)


@pytest.mark.parametrize("name", ["pyslowfast", "tsm", "dense"])
@pytest.mark.parametrize("count", [1, 7, 16, 47, 131])
def test_draws_stay_inside_the_video_and_follow_the_generator(name, count):
    rule = sampling_rule(name)
    rng = np.random.default_rng(3)
    drawn = np.array([rule(count, 16, rng) for _ in range(DRAWS)])
    assert drawn.shape == (DRAWS, 16)
    assert drawn.min() >= 0
    assert drawn.max() < count
    if name != "dense":
        assert (np.diff(drawn) >= 0).all()
    again = rule(count, 16, np.random.default_rng(3))
    assert again.tolist() == drawn[0].tolist()


def test_pyslowfast_draws_every_frame_of_a_segment():
    rng = np.random.default_rng(0)
    drawn = np.array([sample_pyslowfast(13, 4, rng) for _ in range(DRAWS)])
    assert [sorted(set(column)) for column in drawn.T.tolist()] == [
        [0, 1, 2, 3],
        [3, 4, 5, 6],
        [6, 7, 8, 9],
        [9, 10, 11, 12],
    ]


def test_unknown_rule():
    with pytest.raises(ValueError, match="sampling='random' must be one of pyslowfast, tsm, dense"):
        sampling_rule("random")
