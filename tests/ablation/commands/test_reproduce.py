"""The one command that repeats a trial, printed and run."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from attnlab.ablation import parse, repeat
from attnlab.ablation import plan as planning
from attnlab.ablation.cells import Trial
from attnlab.ablation.cli import main
from attnlab.ablation.plan import Plan
from tests.ablation.conftest import Lab
from tests.ablation.fake_trial import record

HERE = Path(__file__).parents[1]


@pytest.fixture
def study(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose trials of seed 0 have finished."""
    lab.write()
    monkeypatch.setenv("FAKE_TRIALS", str(lab.root / "trials"))
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(lab.root)
        ablations = parse.load(Path("ablations.yaml"))
        study, profile = ablations.study("value"), ablations.profile("laptop")
        plan = planning.make(study, profile, Path("runs/ablations"))
        planning.claim_directory(plan)
        for trial in plan.trials[:2]:
            leave(plan, trial, lab.root)
    return lab


def leave(plan: Plan, trial: Trial, root: Path) -> None:
    """Leave what a finished trial leaves."""
    content = record(int(trial.cell.labels["value"]) / 10, trial.seed, dict(trial.cell.labels))
    content |= {
        "command": [sys.executable, "-m", "attnlab", *plan.arguments(trial)],
        "directory": str(root),
        "git": {"commit": "c0de" * 10, "branch": "main", "dirty": False},
        "versions": {"torch": "2.13.0"},
        "hardware": {"host": "n1", "cpu": "EPYC", "gpu": None},
        "environment": {"OMP_NUM_THREADS": "3"},
    }
    trial.run_dir.mkdir(parents=True)
    (trial.run_dir / "result.json").write_text(json.dumps(content))


def edit(run_dir: Path, **changes: Any) -> None:
    path = run_dir / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("cell", ["value=0", "e3877b23"])
def test_the_command_is_the_recorded_one_in_another_directory(study: Lab, cell: str) -> None:
    code, out, _ = study.command("reproduce", cell, "--study", "value", "--into", "again")
    assert code == 0
    *notes, line = out.splitlines()
    assert notes[0] == "# value=0 seed 0, cell e3877b23"
    assert notes[1] == "# finished 2026-01-02T03:04:15+00:00 on EPYC (n1); torch 2.13.0"
    assert notes[2] == f"# from the repository: git checkout {'c0de' * 10}"
    words = shlex.split(line)
    assert words[0] == "OMP_NUM_THREADS=3"
    recorded = json.loads((study.run_dir(0, 0) / "result.json").read_text())["command"][3:]
    at = recorded.index("--run_dir") + 1
    assert words[words.index("fit") :] == [
        *recorded[:at],
        str(study.root / "again"),
        *recorded[at + 1 :],
    ]


def test_a_copy_of_the_code_is_used_or_missed(study: Lab) -> None:
    copy = study.root / "runs/ablations/.code/0123456789ab"
    git = {"commit": "c0de", "branch": None, "dirty": True, "code": copy.name}
    edit(study.run_dir(0, 0), git=git)
    _, out, _ = study.command("reproduce", "value=0", "--study", "value")
    assert "# code: the copy runs/ablations/.code/0123456789ab is gone" in out
    assert "git checkout c0de; it had uncommitted changes, which were not kept" in out
    copy.mkdir(parents=True)
    (copy / "changes.patch").write_text("")
    _, out, _ = study.command("reproduce", "value=0", "--study", "value")
    assert "git checkout c0de && git apply runs/ablations/.code/0123456789ab/changes.patch" in out
    assert f"PYTHONPATH={copy}/src " in out.splitlines()[-1]


def test_a_run_elsewhere_begins_there_and_a_lost_base_is_named(study: Lab, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    edit(study.run_dir(0, 0), directory=str(there))
    _, out, _ = study.command("reproduce", "value=0", "--study", "value")
    assert f"# its base experiment {there}/base.yaml is not there; base.yaml may differ" in out
    assert out.splitlines()[-1].startswith(f"cd {there} && OMP_NUM_THREADS=3 ")
    assert f" --config {study.root}/base.yaml " in out.splitlines()[-1]


def test_what_has_not_finished_is_what_would_run(study: Lab) -> None:
    _, out, _ = study.command("reproduce", "value=0", "--study", "value", "--seed", "1")
    assert "# it has not finished; this is what runs now" in out
    assert "--seed_everything 1" in out.splitlines()[-1]
    arguments = ("reproduce", "value=0", "--study", "value", "--seed", "1", "--run")
    code, _, err = study.command(*arguments)
    assert code == 2
    assert err.endswith("value=0 seed 1 has not finished: there is nothing to compare with\n")


def run(lab: Lab, *arguments: str) -> tuple[int, str, str]:
    """Run `reproduce --run` in this process on fake trials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(lab.root)
        code = main(
            ["reproduce", *arguments, "--study", "value", "--run"], module="fake_trial", preload=()
        )
    return code, *lab.capsys.readouterr()


def test_a_repeated_run_is_equal_or_says_what_differs(study: Lab) -> None:
    code, out, err = run(study, "value=1")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("equal: all 1 metrics are those of runs/ablations/value")
    assert study.trainings() == ["1 0"]
    code, _, err = run(study, "value=1")
    assert code == 2
    assert "holds a finished run; choose another --into" in err
    metrics = {"test/top1": 0.25, "test/loss": 1.0, "perf/images_per_s": 3.0}
    edit(study.run_dir(1, 0), metrics=metrics)
    code, out, _ = run(study, "value=1", "--into", "third")
    assert code == 1
    assert out.splitlines()[-3:] == [
        "different: 2 of 2 metrics; perf/ was left out, which measures the machine",
        "  test/top1 was 0.25, is 0.1 (-0.15)",
        "  test/loss was 1.0, is missing",
    ]
    study.behave("raise1")
    code, _, err = run(study, "value=1", "--into", "fourth")
    assert code == 2
    assert "value=1 seed 0 failed: RuntimeError: value 1 blew up (log: " in err
    assert err.count("\n") == 1


def test_metrics_that_are_not_finite_are_equal_to_each_other() -> None:
    assert repeat.differences({"a": None, "b": 1.0}, {"a": None, "b": 1.0}) == (2, [])
    count, lines = repeat.differences({"a": None}, {"a": 1.0})
    assert (count, lines) == (1, ["a was not finite, is 1.0"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["value=7"], "study value: unknown cell 'value=7' (did you mean 'value=1'?); allowed:"),
        (["value=0", "--seed", "9"], "study value: unknown seed 9; allowed: 0, 1"),
    ],
)
def test_what_there_is_not_is_one_line(study: Lab, arguments: list[str], error: str) -> None:
    code, out, err = study.command("reproduce", *arguments, "--study", "value")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"run_ablation: error: {error}")


def test_several_cells_are_asked_about(lab: Lab) -> None:
    lab.study["axes"]["depth"] = {"key": "model.depth", "values": [1, 2]}
    lab.study["baseline"]["depth"] = 1
    code, _, err = lab.command("reproduce", "value=0", "--study", "value")
    assert code == 2
    assert err == (
        "run_ablation: error: study value: 'value=0' may be depth=1,value=0, depth=2,value=0; "
        "give more of its labels\n"
    )
    code, out, _ = lab.command("reproduce", "value=0,depth=2", "--study", "value")
    assert code == 0
    assert out.startswith("# depth=2,value=0 seed 0, ")
    assert shlex.split(out.splitlines()[-1])[-1] == "--model.depth=2"
