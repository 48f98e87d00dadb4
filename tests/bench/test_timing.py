"""Spreads, ratios and the order in which contestants run, with a clock of our own."""

import pytest
import torch

from attnlab.bench import timing
from attnlab.bench.timing import Spread, interleave, ratios, spread

CPU = torch.device("cpu")


def test_spread_holds_median_and_quartiles() -> None:
    assert spread([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert spread([5.0, 1.0, 4.0, 2.0, 3.0]).half_width == 1.0
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0, 1)
    with pytest.raises(ValueError, match="no samples"):
        spread([])


def test_ratios_pair_the_rounds_that_both_have() -> None:
    assert ratios([6.0, 5.0], [2.0, 10.0, 99.0]) == [3.0, 0.5]


class Clock:
    """Stands for `perf_counter`; calls advance it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def __call__(self) -> float:
        return self.now

    def call(self, name: str, takes: float):
        def run() -> None:
            self.now += takes
            self.ran.append(name)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    return clock


def test_rounds_begin_with_another_contestant_each(clock: Clock) -> None:
    calls = {name: clock.call(name, 0.5) for name in "abc"}
    samples = interleave(calls, CPU, rounds=4, budget_s=99.0)
    estimates, rounds = clock.ran[:3], clock.ran[3:]
    assert estimates == ["a", "b", "c"]
    assert "".join(rounds) == "abc" + "bca" + "cab" + "abc"
    assert samples == {name: [pytest.approx(0.5)] * 4 for name in "abc"}


def test_a_slow_contestant_leaves_after_its_budget_but_not_before_three_rounds(
    clock: Clock,
) -> None:
    calls = {"slow": clock.call("slow", 2.0), "slower": clock.call("slower", 50.0)}
    calls["quick"] = clock.call("quick", 0.1)
    samples = interleave(calls, CPU, rounds=9, budget_s=7.0)
    assert {name: len(times) for name, times in samples.items()} == {
        "slow": 4,
        "slower": 3,
        "quick": 9,
    }


def test_short_calls_are_repeated_and_divided(clock: Clock) -> None:
    samples = interleave({"short": clock.call("short", 0.002)}, CPU, rounds=2, budget_s=9.0)
    assert samples["short"] == [pytest.approx(0.002)] * 2
    assert len(clock.ran) == 1 + 2 * 3  # 5 ms need three calls of 2 ms


def test_nothing_to_time_gives_nothing() -> None:
    assert interleave({}, CPU, rounds=3, budget_s=1.0) == {}
