"""What `ablations.yaml` may say: profiles (on what, how long) and studies (what is varied).

```yaml
profiles:
  laptop:
    about: one line on data and hardware
    bases: {lisa: experiments/laptop/lisa.yaml}   # relative to this file
    overrides: {trainer.precision: bf16-mixed}    # dotted key -> value, in every cell
    threads_per_cell: 1                           # CPU threads of one trial
    gpus_per_cell: 0                              # 0 hides the GPUs
    minutes_per_cell: 0.5                         # the dry run's guess until trials have finished
    budget: {steps: 800}                          # or epochs, minutes, samples; how long all train
    time_limit_minutes: 30                        # a trial that takes longer is ended
    nodes_per_cell: 1                             # machines of one trial, each with those GPUs
    slurm: {}                                     # what a trial asks of SLURM
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
labels to values. An axis without `key` maps each label to `{dotted key: value, ...}`. A study with
`space` instead of `axes` is a search (`search.schema`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attnlab.ablation.errors import UserError, unknown

if TYPE_CHECKING:
    from attnlab.ablation.search.schema import Search

Label = int | float | str | bool
Overrides = Mapping[str, object]
Direction = Literal["maximize", "minimize"]

BudgetUnit = Literal["epochs", "steps", "minutes", "samples"]
BUDGET_UNITS: tuple[BudgetUnit, ...] = ("epochs", "steps", "minutes", "samples")
BUDGET_KEYS = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "max_samples")
"""What says how long a trial trains."""

DRIVER_KEYS = (
    *("config", "run_dir", "seed_everything", "test_after_fit", "hparams", "check", "resume"),
    "max_samples",
)
"""Flags of a trial that only the driver sets."""


@dataclass(frozen=True)
class Budget:
    """How long every trial of a profile trains, in one unit.

    Attributes:
        amount: A whole number, but for minutes; at least 1 second of these.
    """

    unit: BudgetUnit
    amount: float

    @property
    def overrides(self) -> dict[str, object]:
        """What it sets in every cell; it lifts a limit of the base that could come first."""
        if self.unit == "minutes":  # no other limit is lifted: schedules need an end in steps
            minutes, seconds = divmod(round(self.amount * 60), 60)
            days, hours = minutes // 1440, minutes // 60 % 24
            return {"trainer.max_time": f"{days:02}:{hours:02}:{minutes % 60:02}:{seconds:02}"}
        if self.unit == "samples":
            return {"max_samples": int(self.amount)}
        limits: dict[str, object] = {"trainer.max_epochs": -1, "trainer.max_steps": -1}
        return {**limits, f"trainer.max_{self.unit}": int(self.amount)}

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


@dataclass(frozen=True)
class Axis:
    """One thing a study varies: labels in the order of the file, and what each one sets."""

    name: str
    cells: tuple[tuple[Label, Overrides], ...]
    numeric: bool


@dataclass(frozen=True)
class Profile:
    """On what a study runs, and for how long.

    Attributes:
        overrides: What is set in every cell, the budget included.
        gpus_per_cell: GPUs of one trial on each of its nodes; 0 hides them.
        minutes_per_cell: A guess at what one trial takes.
        budget: How long every trial trains; None where experiments and overrides say.
        time_limit_minutes: After which a trial is ended and counts as failed; None for never.
        nodes_per_cell: Machines of one trial.
        slurm: What a trial asks of SLURM, as in the file.
    """

    name: str
    about: str
    bases: Mapping[str, Path]
    overrides: Overrides
    threads_per_cell: int
    gpus_per_cell: int
    minutes_per_cell: float
    budget: Budget | None = None
    time_limit_minutes: float | None = None
    nodes_per_cell: int = 1
    slurm: Mapping[str, object] = field(default_factory=dict)


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
    searches: Mapping[str, "Search"] = field(default_factory=dict)

    def study(self, name: str) -> Study:
        """Return the study called `name`, or raise a `UserError` that names those there are."""
        if name not in self.studies:
            raise UserError(unknown("study", name, [*self.studies, *self.searches]))
        return self.studies[name]

    def profile(self, name: str) -> Profile:
        """Return the profile called `name`, or raise a `UserError` that names those there are."""
        if name not in self.profiles:
            raise UserError(unknown("profile", name, self.profiles))
        return self.profiles[name]
