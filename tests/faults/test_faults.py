"""A few faults of all kinds over a few real trainings; `make faults` injects a hundred."""

import io
from pathlib import Path

from tests.faults.__main__ import run

FAULTS = (
    "kill -9 of a trial",
    "SIGTERM to a trial",
    "SIGUSR1 to a trial",
    "kill -9 of the driver",
    "torn note or checkpoint",
    "clock changed",
)
"""Those that cost a second or two; only one of them costs another start of the driver."""


def test_a_study_under_faults_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    log = io.StringIO()
    assert run(tmp_path / "study", cells=6, faults=FAULTS, seed=1, log=log) == 0, log.getvalue()
    assert "6 cells: all as undisturbed" in log.getvalue()
    assert "6 faults" in log.getvalue()
