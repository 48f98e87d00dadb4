from attnlab.ablation.attempts import Failure, Kind
from attnlab.ablation.cells import Result, expand
from attnlab.ablation.report import statement
from attnlab.ablation.report.rows import build
from attnlab.ablation.report.sources import sources
from tests.ablation.report.fakes import PROFILE, axis, results, study

OLD, NEW = {"commit": "a" * 40, "dirty": False}, {"commit": "b" * 40, "dirty": True, "code": "s1"}


def report(tmp_path, git, skip=lambda _: False, failures=None):
    made = study(axis("num_rpes", 0, 4), baseline={"num_rpes": 4}, seeds=(0, 1))
    runs = [
        Result(r.trial, {**r.record, "git": git(r.trial)})
        for r in results(made, tmp_path, lambda c, s: 0.5 + s / 100, skip)
    ]
    cells = expand(made, PROFILE)
    found = {(cells[at].key, seed): failure for (at, seed), failure in (failures or {}).items()}
    return build(made, PROFILE, cells, runs, found)


def test_one_state_of_the_code_holds_all_cells(tmp_path):
    (one,) = sources(report(tmp_path, lambda trial: OLD))

    assert (one.name, one.runs) == ("commit aaaaaaaaaa", 4)
    assert one.cells == ("num_rpes=0", "num_rpes=4")


def test_states_name_their_cells_and_seeds_of_cells_they_share(tmp_path):
    def git(trial):
        return NEW if (trial.cell.labels["num_rpes"], trial.seed) == (4, 1) else OLD

    made = report(tmp_path, git)

    old, new = sources(made)
    assert old.cells == ("num_rpes=0", "num_rpes=4 seed 0")
    assert new.cells == ("num_rpes=4 seed 1",)
    assert new.name == "commit bbbbbbbbbb with uncommitted changes, snapshot s1"
    assert statement.gaps(made) == ["The runs come from 2 states of the code, listed under Code."]


def test_same_commit_from_another_snapshot_is_another_state(tmp_path):
    made = report(tmp_path, lambda trial: {**NEW, "code": f"s{trial.seed}"})

    assert [one.snapshot for one in sources(made)] == ["s0", "s1"]


def test_runs_outside_a_checkout_name_no_state(tmp_path):
    assert sources(report(tmp_path, lambda trial: {})) == []


def test_errors_of_unfinished_runs_are_told(tmp_path):
    failure = Failure(Kind.MEMORY, "OutOfMemoryError: no", -9, 3, "2026-01-02T03:04:05+00:00")
    made = report(
        tmp_path,
        lambda trial: OLD,
        lambda t: t.seed == 1 and t.cell.labels["num_rpes"] == 0,
        {(0, 1): failure},
    )

    assert statement.gaps(made) == [
        "1 of 4 runs is missing: num_rpes=0 seed 1.",
        "1 of these ended in an error: num_rpes=0 seed 1: OutOfMemoryError: no (out of memory, "
        "attempt 3).",
    ]
    assert made.rows[0].ranked  # what crashed may be run again; it did not diverge
