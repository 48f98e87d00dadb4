"""The command `status`: what a person asks of a study, small or large."""

import json
import os
import pty
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attnlab.ablation import parse
from attnlab.ablation import plan as planning
from attnlab.ablation.search import plan as searches
from tests.ablation.simulated import simulate, write_run

SCRIPT = """
import re, sys
from pathlib import Path
from attnlab.ablation.cli import main
code = main(sys.argv[1:])
# Unlike `ru_maxrss`, which begins with what the process had that started this one.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(f"{code} {peak}", file=sys.stderr)
"""


@pytest.mark.parametrize("command", [["status"], ["run", "--dry-run"]])
def test_ten_thousand_trials_are_quick(big: Path, command: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *command, "--study", "simulated"],
        cwd=big, capture_output=True, text=True, check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    code, peak = done.stderr.split()
    assert code == "0"
    assert float(peak) < 500
    # The time of the processor counts, since others may be at work on the machine.
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 5
    assert "10,000 trials" in done.stdout or "10000 trials" in done.stdout
    assert len(done.stdout.splitlines()) < 100


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of 10,000 trials, nine in ten of which have finished."""
    root = tmp_path_factory.mktemp("big")
    simulate(root, (10, 20, 10), 5, keep=lambda trial: trial.seed < 4 or "0" not in trial.cell.key)
    return root


def test_status_of_a_study_and_of_all(lab: Any) -> None:
    lab.write()
    plan_line = "study value, profile laptop: 2 cells x 2 seeds = 4 trials"
    code, out, _ = lab.command("status", "--study", "value")
    assert (code, out.splitlines()[0]) == (0, plan_line)
    assert out.splitlines()[-1] == "4 trials: 4 missing; 0 % done"
    assert "\x1b" not in out
    code, out, _ = lab.command("status")
    assert (code, out) == (0, "value: 4 trials: 4 missing; 0 % done\n")
    code, out, _ = lab.command("status", "--study", "value", "--json")
    assert json.loads(out)["trials"][0]["state"] == "missing"
    assert not (lab.root / "runs").exists()


def test_watching_ends_with_ctrl_c(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("attnlab.ablation.commands.status.time.sleep", sleep)
    code, out, err = lab.command("status", "--study", "value", "--watch", "0.5")
    assert (code, err, slept) == (0, "", [0.5] * 3)
    assert out.count("4 trials: 4 missing; 0 % done") == 3


def test_a_terminal_sees_a_table(lab: Any) -> None:
    lab.write()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", SCRIPT, "status", "--study", "value"]
    subprocess.run(command, cwd=lab.root, stdout=theirs, stderr=subprocess.DEVNULL, check=True)
    os.close(theirs)
    seen = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "│ value=0 │ 0/2" in seen
    assert "4 trials: 4 missing; 0 % done" in seen


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--watch"], "--watch needs the --study to watch"),
        (
            ["--study", "value", "--watch", "0"],
            "--watch must be a positive number of seconds, not 0",
        ),
        (["--study", "valeu"], "unknown study 'valeu' (did you mean 'value'?); allowed: value"),
    ],
)
def test_bad_input_of_status_is_one_line(lab: Any, arguments: list[str], error: str) -> None:
    assert lab.command("status", *arguments) == (2, "", f"run_ablation: error: {error}\n")


def test_a_search_shows_what_it_has_begun(lab: Any, tmp_path: Path) -> None:
    lab.stanzas["studies"]["rate"] = {
        "question": "Which rate?",
        "base": "fake",
        "space": {"rate": {"key": "model.value", "low": 0.0, "high": 1.0}},
        "search": {"trials": 5},
        "metric": "val/top1",
    }
    lab.write()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(lab.root)
        search = parse.load(Path("ablations.yaml")).searches["rate"]
        profile = parse.load(Path("ablations.yaml")).profile("laptop")
        plan = planning.make(search.study, profile, Path("runs/ablations"))
        found = searches.of(search, plan)
        planning.claim_directory(found.plan)
        for number, score in enumerate([0.25, 0.5]):
            trial = found.trial(number, {"rate": score})
            write_run(trial, changes={"metrics": {"val/top1": score}})
            searches.note(number, trial)
    code, out, _ = lab.command("status", "--study", "rate")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "search rate, profile laptop: 2 of 5 trials begun"
    assert [line.split()[-2:] for line in lines[3:5]] == [["1/1", "0.25"], ["1/1", "0.5"]]
    assert lines[-1] == "5 trials: 2 done, 3 to come; 40 % done"
    assert "rate: 5 trials: 2 done, 3 to come; 40 % done" in lab.command("status")[1]
