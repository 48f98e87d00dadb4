"""What `ablations.yaml` may say: profiles (on what, how long) and studies (what is varied).

```yaml
profiles:
  laptop:
    about: one line on data and hardware
    bases: {lisa: experiments/laptop/lisa.yaml}   # relative to this file
    overrides: {trainer.max_steps: 800}           # dotted key -> value, in every cell
    threads_per_cell: 1                           # CPU threads of one trial
    gpus_per_cell: 0                              # 0 hides the GPUs
    minutes_per_cell: 0.5                         # the dry run's guess until trials have finished
studies:
  rpe_count:
    question: How many relative position embeddings does LiSA need?
    base: lisa                                    # one of the profile's bases
    overrides: {}                                 # as above; wins over the profile
    axes:                                         # several axes: their product
      num_rpes: {key: model.backbone.mixer.num_rpes, values: [0, 1, 2, 4, 8]}
    baseline: {num_rpes: 4}
    seeds: [0, 1, 2]
    metric: test/top1
    direction: maximize
    extra_metrics: [diag/cka]                     # further metrics to show, in this order
```

The values of an axis are a list of plain values, which are their own labels, or a mapping from
labels to values. An axis without `key` maps each label to `{dotted key: value, ...}`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attnlab.ablation.errors import UserError, unknown

Label = int | float | str | bool
Overrides = Mapping[str, object]
Direction = Literal["maximize", "minimize"]

DRIVER_KEYS = ("config", "run_dir", "seed_everything", "test_after_fit", "hparams", "check")
"""Flags of a trial that only the driver sets."""


@dataclass(frozen=True)
class Axis:
    """One thing a study varies: labels in the order of the file, and what each one sets."""

    name: str
    cells: tuple[tuple[Label, Overrides], ...]
    numeric: bool


@dataclass(frozen=True)
class Profile:
    """On what a study runs, and for how long."""

    name: str
    about: str
    bases: Mapping[str, Path]
    overrides: Overrides
    threads_per_cell: int
    gpus_per_cell: int
    minutes_per_cell: float


@dataclass(frozen=True)
class Study:
    """One question, and the grid of cells that answers it."""

    name: str
    question: str
    base: str
    axes: tuple[Axis, ...]
    baseline: Mapping[str, Label]
    seeds: tuple[int, ...]
    metric: str
    direction: Direction
    overrides: Overrides
    extra_metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ablations:
    """Everything one file of ablations says."""

    path: Path
    profiles: Mapping[str, Profile]
    studies: Mapping[str, Study]

    def study(self, name: str) -> Study:
        """Return the study called `name`, or raise a `UserError` that names those there are."""
        if name not in self.studies:
            raise UserError(unknown("study", name, self.studies))
        return self.studies[name]

    def profile(self, name: str) -> Profile:
        """Return the profile called `name`, or raise a `UserError` that names those there are."""
        if name not in self.profiles:
            raise UserError(unknown("profile", name, self.profiles))
        return self.profiles[name]
