"""How a logged metric is called, scaled and rounded for a reader."""

import math
from dataclasses import dataclass

from attnlab.ablation.report.stats import Summary

NOTHING = "—"
ACCURACY = ("top1", "top5", "accuracy")


@dataclass(frozen=True)
class Metric:
    """A metric by the tag it is logged under, such as "test/top1" (a fraction in [0, 1])."""

    tag: str

    @property
    def is_accuracy(self) -> bool:
        """Whether values are fractions to be shown in percent."""
        return self.tag.endswith(ACCURACY)

    @property
    def scale(self) -> float:
        """Factor from the logged value to the shown one."""
        return 100.0 if self.is_accuracy else 1.0

    @property
    def label(self) -> str:
        """Name with unit, such as "test top-1 accuracy (%)"; a diagnosis needs no prefix."""
        name = self.tag.removeprefix("diag/").replace("/", " ").replace("_", " ")
        if not self.is_accuracy:
            return name
        for short, long in (("top1", "top-1 accuracy"), ("top5", "top-5 accuracy")):
            name = name.replace(short, long)
        return f"{name} (%)"

    @property
    def points(self) -> str:
        """Unit of a difference, with a leading blank; empty for raw metrics."""
        return " points" if self.is_accuracy else ""

    @property
    def percent(self) -> str:
        """Unit of a value, with a leading blank; empty for raw metrics."""
        return " %" if self.is_accuracy else ""

    def text(self, value: float) -> str:
        """A logged value as shown: two decimals of a percent, or four significant digits."""
        return f"{value * self.scale:.2f}" if self.is_accuracy else f"{value:.4g}"

    def signed(self, value: float) -> str:
        """A difference as shown, its sign always written."""
        return f"{value * self.scale:+.2f}" if self.is_accuracy else f"{value:+.4g}"

    def score(self, of: Summary) -> str:
        """The text ``mean ± std (n)``, without the std where one run gives none."""
        if not of.n:
            return NOTHING
        spread = "" if math.isnan(of.std) else f" ± {self.text(of.std)}"
        return f"{self.text(of.mean)}{spread} ({of.n})"
