"""Exponents of known power laws, and how far points are from the line."""

import math

import pytest

from attnlab.bench.fits import power_law


@pytest.mark.parametrize("exponent", [1.0, 1.37, 2.0, -0.5])
def test_recovers_a_power_law(exponent: float) -> None:
    law = power_law([(x, 0.03 * x**exponent) for x in (3136, 196, 12544, 784)])
    assert law.exponent == pytest.approx(exponent)
    assert law.residual == pytest.approx(0, abs=1e-12)
    assert (law.n, law.low, law.high) == (4, 196, 12544)


def test_residual_is_the_root_mean_square_of_relative_deviations() -> None:
    """Deviations +d, -d, -d, +d at equal steps of ln x are orthogonal to every line."""
    d = 0.07
    points = [(10.0**k, 5 * 10.0 ** (2 * k) * math.exp(e)) for k, e in enumerate((d, -d, -d, d))]
    law = power_law(points)
    assert law.exponent == pytest.approx(2)
    assert law.residual == pytest.approx(d)


def test_least_squares_and_not_the_ends() -> None:
    law = power_law([(math.exp(x), math.exp(y)) for x, y in ((0, 0), (1, 2), (2, 1))])
    assert law.exponent == pytest.approx(0.5)
    assert law.residual == pytest.approx(math.sqrt(0.5))


def test_one_place_has_no_slope() -> None:
    assert power_law([]) is None
    assert power_law([(3.0, 2.0), (3.0, 5.0)]) is None


def test_refuses_what_has_no_logarithm() -> None:
    with pytest.raises(ValueError, match=r"x=7 and y=0 must be above 0"):
        power_law([(3, 2), (7, 0)])
