import json

import pytest

from attnlab.ablation.cells import Result, expand
from attnlab.ablation.predict import Estimate
from attnlab.ablation.report import conditions, prediction
from attnlab.ablation.report.rows import build
from tests.ablation.report.fakes import PROFILE, axis, results, study

RECORD = {
    "made": "2026-11-20T09:59:59.5+00:00",
    "source": "a probe",
    "cells": {},
    "wall_minutes": 2.5,
    "gpu_hours": 0.0,
    "workers": 2,
}


def fact(tmp_path, minutes=0.5, error=0.1, wall_s=36.0, **changes):
    """What the report of four runs of 36 s says of a prediction of half a minute each."""
    made = study(axis("num_rpes", 0, 4), baseline={"num_rpes": 4}, seeds=(0, 1))
    cells = expand(made, PROFILE)
    estimates = {cell.key: {"minutes": minutes, "error": error} for cell in cells}
    record = {**RECORD, "cells": estimates, **changes}
    (tmp_path / "prediction.json").write_text(json.dumps(record))
    runs = [
        Result(r.trial, r.record, wall_s=wall_s)
        for r in results(made, tmp_path / "runs", lambda c, s: 0.5 + s / 100)
    ]
    report = build(made, PROFILE, cells, runs, prediction=prediction.read(tmp_path))
    return dict(conditions.conditions(report)).get("Prediction")


def test_prediction_is_held_against_what_the_runs_took(tmp_path):
    assert fact(tmp_path) == (
        "2.0 min one by one (from a probe, 2 at a time) for the 4 runs since "
        "2026-11-20T09:59:59.5+00:00; they took 2.4 min (+20 %); a single run was off by 20 % "
        "(median), 4 of 4 within twice the error stated. Wall-clock: predicted 2.5 min for all, "
        "0.6 min from the first start to the last end of these"
    )


def test_runs_outside_the_stated_error_are_counted(tmp_path):
    assert "0 of 4 within twice the error stated" in fact(tmp_path, error=0.04)
    assert "within" not in fact(tmp_path, error=None)


def test_runs_from_before_the_prediction_are_left_out(tmp_path):
    assert fact(tmp_path, made="2026-11-20T10:00:01+00:00") == (
        "made 2026-11-20T10:00:01+00:00 from a probe, 2 at a time; no run was started and has "
        "finished since"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"made": "x"}', '{"cells": 3}'])
def test_a_torn_prediction_is_none(tmp_path, text):
    (tmp_path / "prediction.json").write_text(text)

    assert prediction.read(tmp_path) is None
    assert prediction.read(tmp_path / "nowhere") is None


def test_estimates_are_those_of_the_file(tmp_path):
    fact(tmp_path, error=None)

    found = prediction.read(tmp_path)

    assert set(found.cells.values()) == {Estimate(0.5, None)}
    assert (found.workers, found.wall_minutes) == (2, 2.5)
