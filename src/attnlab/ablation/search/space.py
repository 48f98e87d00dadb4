"""A search in Optuna's terms: its space, its sampler, its pruner, and how a trial ended."""

from typing import cast

from optuna import Trial as OptunaTrial
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from attnlab.ablation import cells, validations
from attnlab.ablation.plan import Plan
from attnlab.ablation.schema import Label
from attnlab.ablation.search.plan import Record
from attnlab.ablation.search.schema import Dimension, Pruner, Range, Search

PRUNERS: dict[Pruner, type[BasePruner]] = {
    "none": NopPruner,
    "median": MedianPruner,
    "hyperband": HyperbandPruner,
}


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return what Optuna samples a dimension from."""
    if not isinstance(dimension, Range):
        return CategoricalDistribution([label for label, _ in dimension.cells])
    low, high, step = dimension.low, dimension.high, dimension.step
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=dimension.log, step=int(step or 1))
    return FloatDistribution(low, high, log=dimension.log, step=step)


def suggest(trial: OptunaTrial, dimension: Dimension) -> Label:
    """Return the value of a dimension in a trial; the same one when asked again."""
    if not isinstance(dimension, Range):
        labels = [label for label, _ in dimension.cells]
        return cast(Label, trial.suggest_categorical(dimension.name, labels))
    name, low, high, log = dimension.name, dimension.low, dimension.high, dimension.log
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log, step=int(dimension.step or 1))
    return trial.suggest_float(name, low, high, log=log, step=dimension.step)


def sampler(search: Search, number: int) -> BaseSampler:
    """Return the sampler for trial `number`.

    Each trial has a generator of its own, or else every start would draw the same ones again.
    """
    seed = (1_000_003 * search.seed + number) % 2**32
    if search.sampler == "random":
        return RandomSampler(seed)
    # What still runs counts as bad, so that trials side by side differ.
    return TPESampler(seed=seed, constant_liar=True)


def pruner(search: Search) -> BasePruner:
    """Return the pruner of a search."""
    return PRUNERS[search.pruner]()


def outcome(plan: Plan, record: Record) -> tuple[TrialState, float | None]:
    """Return how a trial ended, and its value of the search's metric.

    It is RUNNING while it has not ended, and after a failure that another attempt may mend.
    """
    if record.result is None:
        final = record.given_up or (record.failure and not record.failure.kind.retried)
        return (TrialState.FAIL if final else TrialState.RUNNING), None
    value = cells.metric(record.result, plan.study)
    if record.result.record.get("pruned") is True:
        values = reports(plan, record)
        return TrialState.PRUNED, values[-1] if values else value
    return (TrialState.FAIL if value is None else TrialState.COMPLETE), value


def reports(plan: Plan, record: Record) -> list[float]:
    """Return the metric of a trial at each of its validations so far.

    Trials are compared by the number of the validation: a step is not the same in two trials
    whose batches differ in size.
    """
    tag = validations.metric_of(plan.study.metric)
    return list(validations.read(record.trial.run_dir, tag).values())
