"""A search whose trials are written by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml

from attnlab.ablation import attempts, journal, parse, rundir
from attnlab.ablation import plan as planning
from attnlab.ablation.attempts import Failure, Kind
from attnlab.ablation.cells import Trial
from attnlab.ablation.search import plan as searches
from attnlab.ablation.search.ledger import Alone, Drivers, Ledger
from attnlab.ablation.search.plan import SearchPlan
from attnlab.ablation.search.restore import restore
from tests.ablation.fake_trial import record

STANZA: dict[str, Any] = {
    "question": "Which?",
    "base": "fake",
    "space": {
        "value": {"key": "model.value", "low": 0, "high": 9},
        "lr": {"key": "model.lr", "low": 1e-4, "high": 1e-2, "log": True},
        "op": {"key": "model.op", "values": ["none", "fft"]},
    },
    "search": {"trials": 8, "sampler": "random"},
    "metric": "val/top1",
    "extra_metrics": ["test/top1"],
}
EXPERIMENT = {"model": {"value": 0}}
PROFILE = {"about": "x", "bases": {"fake": "base.yaml"}, "minutes_per_cell": 1}


def make_search(
    root: Path,
    experiment: Mapping[str, Any] = EXPERIMENT,
    space: Mapping[str, Any] = STANZA["space"],
    overrides: Mapping[str, Any] | None = None,
    **how: Any,
) -> SearchPlan:
    """Return the plan of a search below `root`; `how` is what its stanza says of the search."""
    (root / "base.yaml").write_text(yaml.safe_dump(experiment))
    stanza = {**STANZA, "space": space, "search": {**STANZA["search"], **how}}
    stanza["overrides"] = dict(overrides or {})
    path = root / "ablations.yaml"
    path.write_text(yaml.safe_dump({"profiles": {"laptop": PROFILE}, "studies": {"s": stanza}}))
    ablations = parse.load(path)
    search = ablations.searches["s"]
    plan = planning.make(search.study, ablations.profile("laptop"), root / "runs")
    return searches.of(search, plan)


def open_ledger(found: SearchPlan, drivers: Drivers | None = None) -> Ledger:
    """Return a ledger on the journal of a search, as a start of its driver has it."""
    return Ledger(found, open_study(found), drivers or Alone())


def open_study(found: SearchPlan) -> optuna.Study:
    """Return the study in the journal of a search, which is restored first."""
    found.plan.directory.mkdir(parents=True, exist_ok=True)
    restore(found, found.plan.directory / journal.NAME)
    return read_study(found)


def read_study(found: SearchPlan) -> optuna.Study:
    """Return the study in the journal of a search, as a stranger reads it."""
    storage = journal.storage(found.plan.directory / journal.NAME)
    return optuna.load_study(study_name=found.name, storage=storage)


def finish(trial: Trial, value: float | None = 0.5, **changes: Any) -> None:
    """Leave the result of a trial."""
    content = record(None, trial.seed, dict(trial.cell.labels))
    content["metrics"] = {"val/top1": value, "test/top1": value}
    rundir.write_json(trial.run_dir / "result.json", {**content, **changes})


def fail(trial: Trial, kind: Kind = Kind.ERROR) -> Failure:
    """Leave the failure of a trial."""
    trial.run_dir.mkdir(parents=True, exist_ok=True)
    failure = Failure(kind, "it blew up", 1, 1, "2026-01-02T03:04:05+00:00")
    attempts.write_failure(trial.run_dir, failure)
    return failure


def validate(trial: Trial, values: Sequence[float]) -> None:
    """Leave the values of the metric at a trial's validations so far."""
    trial.run_dir.mkdir(parents=True, exist_ok=True)
    lines = [{"step": 10 * step, "val/top1": value} for step, value in enumerate(values, 1)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (trial.run_dir / "metrics.jsonl").write_text(text)
