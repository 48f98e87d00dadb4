"""What a search may say: a stanza of `ablations.yaml` with `space` instead of `axes`.

```yaml
studies:
  learning_rate:
    question: Which learning rate and depth serve best?
    base: lisa
    space:
      lr: {key: model.optimizer.lr, low: 1e-4, high: 1e-2, log: true}
      depth: {key: model.backbone.depth, low: 2, high: 6}   # whole numbers on both sides: integers
      dropout: {key: model.backbone.dropout, low: 0, high: 0.5, step: 0.1}
      mixer: {key: model.backbone.mixer.approximation, values: [none, fft]}   # as an axis of a grid
    search: {trials: 40, sampler: tpe, pruner: median, seed: 0}
    metric: val/top1        # what is chosen by must not be what is reported: no test/ metric
    direction: maximize
    extra_metrics: [test/top1]
```

Samplers are ``tpe`` and ``random``, pruners ``none``, ``median`` and ``hyperband``. Each trial runs
with the training seed 0, or with the one in `seeds`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from attnlab.ablation.schema import Axis, Label, Study

Sampler = Literal["tpe", "random"]
Pruner = Literal["none", "median", "hyperband"]
SAMPLERS: tuple[Sampler, ...] = ("tpe", "random")
PRUNERS: tuple[Pruner, ...] = ("none", "median", "hyperband")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        key: Dotted key that is set.
        low: An integer, as `high` is, where only integers are meant.
        log: Whether their logarithms are what is spread evenly.
        step: What they are `low` and multiples of apart from; None for all numbers.
    """

    name: str
    key: str
    low: float
    high: float
    log: bool
    step: float | None


Dimension = Range | Axis


@dataclass(frozen=True)
class Search:
    """One question, and the space in which its answer is looked for.

    Attributes:
        study: What a search has in common with a grid; it has no axes, and one seed.
        space: What is varied.
        trials: How many are run in all, the failed and the pruned ones included.
        seed: Seed of the sampler.
    """

    study: Study
    space: tuple[Dimension, ...]
    trials: int
    sampler: Sampler
    pruner: Pruner
    seed: int

    def axes(self, params: Mapping[str, Label]) -> tuple[Axis, ...]:
        """Return the point `params` as a grid of this one cell."""
        return tuple(_at(dimension, params[dimension.name]) for dimension in self.space)


def _at(dimension: Dimension, value: Label) -> Axis:
    if isinstance(dimension, Range):
        return Axis(dimension.name, ((value, {dimension.key: value}),), numeric=True)
    (cell,) = (each for each in dimension.cells if each[0] == value)
    return Axis(dimension.name, (cell,), dimension.numeric)
