"""What is kept, and noted down, around one attempt of a trial."""

import json
from pathlib import Path

import pytest

from attnlab.ablation import attempts, failures, rundir, supervise
from attnlab.ablation.attempts import Failure, Kind
from tests.ablation.fake_trial import record


def begin(run_dir: Path, code: str = "abc") -> attempts.Attempt:
    return supervise.begin(run_dir, launcher="local", code=code, node="here")


def leave_checkpoint(run_dir: Path) -> None:
    (run_dir / "last.ckpt").write_text("weights")


def test_the_same_code_goes_on_and_other_code_begins_anew(tmp_path: Path) -> None:
    first = begin(tmp_path / "run")
    assert (first.number, first.resumed, first.node) == (1, False, "here")
    leave_checkpoint(tmp_path / "run")
    second = begin(tmp_path / "run")
    assert (second.number, second.resumed) == (2, True)
    third = begin(tmp_path / "run", code="def")
    assert (third.number, third.resumed) == (3, False)
    assert not (tmp_path / "run" / "last.ckpt").exists()
    assert attempts.read_attempt(tmp_path / "run") == third


def test_nothing_is_kept_where_the_code_is_unknown(tmp_path: Path) -> None:
    begin(tmp_path, code="")
    leave_checkpoint(tmp_path)
    assert not begin(tmp_path, code="").resumed


def test_a_checkpoint_that_leads_to_an_error_is_not_tried_twice(tmp_path: Path) -> None:
    for resumed in (False, True, False):
        attempt = begin(tmp_path)
        assert attempt.resumed == resumed
        leave_checkpoint(tmp_path)
        (tmp_path / "log.txt").write_text("ValueError: it does not fit\n")
        failure = supervise.end(tmp_path, attempt, 1, seed=3)
        assert failure is not None
        assert failure.kind == Kind.ERROR
    assert begin(tmp_path).resumed  # the third began anew: its checkpoint is as good as any


def test_whoever_stops_a_trial_costs_it_no_checkpoint(tmp_path: Path) -> None:
    begin(tmp_path)
    leave_checkpoint(tmp_path)
    supervise.fail(tmp_path, begin(tmp_path), Kind.STOPPED, "SLURM ended it: CANCELLED", -9)
    assert begin(tmp_path).resumed
    attempts.write_failure(tmp_path, Failure(Kind.ERROR, "module: not found", 1, 4, "now"))
    assert begin(tmp_path).resumed  # the trial had not even begun


@pytest.mark.parametrize("exit_code", [0, 3, -9, 75])
def test_a_result_counts_whatever_the_exit_code(tmp_path: Path, exit_code: int) -> None:
    attempt = begin(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps(record(0.5, 3, {})))
    assert supervise.end(tmp_path, attempt, exit_code, seed=3) is None
    assert attempts.read_failure(tmp_path) is None
    assert supervise.end(tmp_path, attempt, 1, seed=4) is not None


def test_a_failure_is_noted_until_the_next_attempt(tmp_path: Path) -> None:
    attempt = begin(tmp_path)
    (tmp_path / "log.txt").write_text("ValueError: it does not fit\n")
    failure = supervise.end(tmp_path, attempt, 1, seed=3)
    assert failure is not None
    assert (failure.kind, failure.error) == (Kind.ERROR, "ValueError: it does not fit")
    assert attempts.read_failure(tmp_path) == failure
    begin(tmp_path)
    assert attempts.read_failure(tmp_path) is None
    assert (tmp_path / "log.1.txt").read_text() == "ValueError: it does not fit\n"


def test_a_trial_that_was_stopped_has_not_failed(tmp_path: Path) -> None:
    attempt = begin(tmp_path)
    assert supervise.end(tmp_path, attempt, failures.STOPPED, seed=3) is None
    assert attempts.read_failure(tmp_path) is None


def test_a_trial_whose_directory_was_removed_is_run_again(tmp_path: Path) -> None:
    attempt = begin(tmp_path / "run")
    (tmp_path / "run" / "attempt.json").unlink()
    failure = supervise.end(tmp_path / "run", attempt, 1, seed=3)
    assert failure is not None
    assert failure.kind == Kind.TRANSIENT
    assert failure.error == "its run directory was removed while it ran"


def test_the_cost_of_a_trial_is_that_of_all_attempts_it_goes_on_from(tmp_path: Path) -> None:
    supervise.note_cost(tmp_path, begin(tmp_path), 2.0, workers=3)
    leave_checkpoint(tmp_path)
    supervise.note_cost(tmp_path, begin(tmp_path), 3.0, workers=3)
    assert rundir.read_json(tmp_path / "driver.json") == {"wall_s": 5.0, "workers": 3}
    supervise.note_cost(tmp_path, begin(tmp_path, code="def"), 1.5, workers=2)
    assert rundir.read_json(tmp_path / "driver.json") == {"wall_s": 1.5, "workers": 2}
