"""What a search has found: its best trials, and what mattered."""

import csv
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from attnlab.ablation.search import restore
from attnlab.ablation.search.plan import Record, SearchPlan, brief, records
from attnlab.files import write_atomically

SHOWN = 10
"""Trials in the table."""


def write(found: SearchPlan, out_dir: Path) -> str:
    """Write `report.md`, `trials.csv` and `history.png` from the run directories.

    Args:
        found: The search.
        out_dir: Where to; made when missing.

    Returns:
        The text of `report.md`.
    """
    known = records(found)
    trials = [(record.number, restore.frozen(found, record)) for record in known]
    out_dir.mkdir(parents=True, exist_ok=True)
    _write_csv(found, trials, out_dir / "trials.csv")
    complete = [(number, trial) for number, trial in trials if trial.state == TrialState.COMPLETE]
    sign = -1 if found.search.study.direction == "maximize" else 1
    complete.sort(key=lambda each: sign * (each[1].value or 0.0))
    text = "\n\n".join(
        [
            f"# Search {found.plan.study.name}, profile {found.plan.profile.name}",
            found.search.study.question,
            _counts(found, [trial for _, trial in trials]),
            *_sources(known),
            *(_findings(found, complete) if complete else []),
        ]
    )
    if complete:
        _plot(found, complete, out_dir / "history.png")
        text += "\n\n![Best value by trial](history.png)"
    write_atomically(out_dir / "report.md", text + "\n")
    return text


def _counts(found: SearchPlan, trials: Sequence[FrozenTrial]) -> str:
    states = [trial.state for trial in trials]
    counted = {
        "complete": states.count(TrialState.COMPLETE),
        "pruned": states.count(TrialState.PRUNED),
        "failed": states.count(TrialState.FAIL),
        "unfinished": states.count(TrialState.RUNNING),
    }
    shown = ", ".join(f"{count} {name}" for name, count in counted.items() if count)
    return (
        f"{len(trials)} of {found.search.trials} trials: {shown or 'none'}. "
        f"Sampler {found.search.sampler}, pruner {found.search.pruner}."
    )


def _sources(known: Sequence[Record]) -> list[str]:
    """Say which trials come from which state of the code, where there are several."""
    codes: dict[str, list[str]] = {}
    for record in known:
        if record.result is not None and (git := record.result.record["git"]):
            commit = f"commit {git['commit'][:10]}" if git.get("commit") else "no commit"
            changed = " with uncommitted changes" if git.get("dirty") else ""
            copy = f", snapshot {git['code']}" if git.get("code") else ""
            codes.setdefault(f"{commit}{changed}{copy}", []).append(str(record.number))
    if len(codes) < 2:
        return []
    states = (f"{name} (trials {', '.join(numbers)})" for name, numbers in codes.items())
    return [f"The trials come from {len(codes)} states of the code: {'; '.join(states)}."]


def _findings(found: SearchPlan, complete: Sequence[tuple[int, FrozenTrial]]) -> list[str]:
    study = found.search.study
    names = [dimension.name for dimension in found.search.space]
    metrics = [study.metric, *study.extra_metrics]
    rows = [
        [
            str(number),
            *(brief(trial.params[name]) for name in names),
            brief(trial.value or 0.0),
            *(_shown(trial.user_attrs.get(tag)) for tag in study.extra_metrics),
        ]
        for number, trial in complete[:SHOWN]
    ]
    number, best = complete[0]
    params = ", ".join(f"{name} = {best.params[name]!r}" for name in names)
    caution = (
        "Each trial ran once, with one seed (n = 1): differences between the best trials may be "
        "chance, and the best value is that of many tries. A grid of the best few with several "
        "seeds settles it."
    )
    return [
        f"Best: trial {number} with {params}; {study.metric} {brief(best.value or 0.0)}.",
        caution,
        _table(["trial", *names, *metrics], rows),
        _importances(found, [trial for _, trial in complete]),
    ]


def _importances(found: SearchPlan, complete: Sequence[FrozenTrial]) -> str:
    varied = {
        name for name in complete[0].params if len({trial.params[name] for trial in complete}) > 1
    }
    if len(complete) < 4 or not varied:
        return "Importances are not estimated from so few trials."
    study = optuna.create_study(direction=found.search.study.direction)
    study.add_trials(complete)
    evaluator = PedAnovaImportanceEvaluator()
    values = get_param_importances(study, evaluator=evaluator, params=sorted(varied))
    rows = [[name, f"{value:.2f}"] for name, value in values.items()]
    about = (
        f"Share of each parameter in what makes a trial good (PED-ANOVA, {len(complete)} trials):"
    )
    return f"{about}\n\n{_table(['parameter', 'importance'], rows)}"


def _plot(found: SearchPlan, complete: Sequence[tuple[int, FrozenTrial]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    points = sorted((number, trial.value or 0.0) for number, trial in complete)
    choose = max if found.search.study.direction == "maximize" else min
    best = [choose(value for _, value in points[: k + 1]) for k in range(len(points))]
    numbers = [number for number, _ in points]
    axes.plot(numbers, [value for _, value in points], "o", markersize=4, label="trial")
    axes.step(numbers, best, where="post", label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(found.search.study.metric)
    axes.legend()
    figure.savefig(path, dpi=150)


def _write_csv(found: SearchPlan, trials: Sequence[tuple[int, FrozenTrial]], path: Path) -> None:
    names = [dimension.name for dimension in found.search.space]
    study = found.search.study
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["trial", "state", *names, study.metric, *study.extra_metrics, "run_dir", "error"]
        )
        for number, trial in trials:
            attributes = trial.user_attrs
            writer.writerow(
                [
                    number,
                    trial.state.name.lower(),
                    *(trial.params[name] for name in names),
                    trial.value,
                    *(attributes.get(tag) for tag in study.extra_metrics),
                    attributes["run_dir"],
                    attributes.get("error", ""),
                ]
            )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: object) -> str:
    return brief(value) if isinstance(value, int | float) else "-"
