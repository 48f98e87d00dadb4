"""`optuna-dashboard` opens the journal of a study and shows its trials."""

import json
import warnings
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from attnlab.ablation.journal import Journal
from tests.ablation.search.searching import finish, make_search, open_ledger, validate
from tests.ablation.simulated import simulate

dashboard = pytest.importorskip("optuna_dashboard", reason="the extra dashboard is not installed")


def get(app: Any, path: str, query: str = "") -> Any:
    """Return the answer of a WSGI application to a GET."""
    environment: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query}
    setup_testing_defaults(environment)
    statuses: list[str] = []
    body = b"".join(app(environment, lambda status, headers, *_: statuses.append(status)))
    assert statuses == ["200 OK"]
    return json.loads(body)


def test_the_dashboard_serves_a_grid_from_its_journal(tmp_path: Path) -> None:
    plan = simulate(tmp_path, (2, 3), 2, lines=4)
    path = plan.directory / "optuna.journal"
    Journal(plan.study, path, plan.trials)
    with warnings.catch_warnings():  # the dashboard's own affair
        warnings.simplefilter("ignore")
        app = dashboard.wsgi(str(path))  # as its command line does
        (study,) = get(app, "/api/studies")["study_summaries"]
        detail = get(app, f"/api/studies/{study['study_id']}", "after=0")
        importances = get(app, f"/api/studies/{study['study_id']}/param_importances")
    assert study["study_name"] == "simulated/laptop"
    assert study["directions"] == ["maximize"]
    assert detail["objective_names"] == ["test/top1"]
    assert len(detail["trials"]) == 12
    for trial, served in zip(plan.trials, detail["trials"], strict=True):
        result = json.loads((trial.run_dir / "result.json").read_text())
        assert served["state"] == "Complete"
        assert served["values"] == [result["metrics"]["test/top1"]]
        params = {each["name"]: int(each["param_external_value"]) for each in served["params"]}
        assert params == trial.cell.labels
        assert [each["step"] for each in served["intermediate_values"]] == [200, 400, 600, 800]
        attributes = {each["key"]: each["value"] for each in served["user_attrs"]}
        assert attributes["run_dir"] == str(trial.run_dir)
        assert attributes["model/gflops"] == str(result["metrics"]["model/gflops"])
    shown = {each["name"] for each in importances["param_importances"][0]}
    assert shown == {"depth", "width"}


def test_the_dashboard_serves_a_search_from_its_journal(tmp_path: Path) -> None:
    found = make_search(tmp_path, trials=2)
    ledger = open_ledger(found)
    while (asked := ledger.ask()) is not None:
        validate(asked.trial, [0.25, 0.5])
        finish(asked.trial, 0.5, pruned=asked.number == 1)
        ledger.tell(asked, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app = dashboard.wsgi(str(found.plan.directory / "optuna.journal"))
        detail = get(app, "/api/studies/0", "after=0")
    assert [trial["state"] for trial in detail["trials"]] == ["Complete", "Pruned"]
    for trial in detail["trials"]:
        assert {each["name"] for each in trial["params"]} == {"value", "lr", "op"}
        assert [each["value"] for each in trial["intermediate_values"]] == [0.25, 0.5]
