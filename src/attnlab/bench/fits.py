"""How a cost grows: the exponent of a power law, by least squares between logarithms."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class PowerLaw:
    """``y = c x^exponent`` as fitted.

    Attributes:
        exponent: Slope of ln y against ln x.
        residual: Root mean square of ln y less the line: 0.05 is a scatter of 5 %.
        n: Points.
        low: Least x.
        high: Largest x.
    """

    exponent: float
    residual: float
    n: int
    low: float
    high: float


def power_law(points: Iterable[tuple[float, float]]) -> PowerLaw | None:
    """Return the law through points (x, y), None where less than two x differ.

    Raises:
        ValueError: A number is not positive.
    """
    known = list(points)
    for x, y in known:
        if min(x, y) <= 0:
            raise ValueError(f"{x=} and {y=} must be above 0")
    if len({x for x, _ in known}) < 2:
        return None
    xs, ys = ([math.log(point[axis]) for point in known] for axis in (0, 1))
    slope, intercept = statistics.linear_regression(xs, ys)
    squares = [(y - slope * x - intercept) ** 2 for x, y in zip(xs, ys, strict=True)]
    least, most = min(x for x, _ in known), max(x for x, _ in known)
    return PowerLaw(slope, math.sqrt(statistics.fmean(squares)), len(known), least, most)
