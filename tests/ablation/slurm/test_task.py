"""The task around a trial: its exit code, its signals, and when it asks for another turn."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from attnlab.ablation import attempts, rundir
from attnlab.ablation.attempts import Kind
from attnlab.ablation.slurm import submission
from attnlab.ablation.slurm.submission import Submission, Task
from tests.ablation.conftest import wait_until
from tests.ablation.fake_trial import record
from tests.ablation.slurm.faked import Faked

# What a trial does that gets the word as its only argument.
TRIAL = f"""
import os, signal, sys, time
word = sys.argv[1]
print("trial", word, os.environ.get("SLURM_ARRAY_JOB_ID"), flush=True)
told = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: told.append(number))
if word in ("well", "late"):
    open("result.json", "w").write({json.dumps(record(0.5, 3, {}))!r})
if word == "stop":
    open("progress.json", "w").write('{{"step": 4, "max_steps": 9, "epoch": 0, "max_epochs": 1}}')
if word in ("stop", "hang"):
    while not told:
        time.sleep(0.01)
    time.sleep(60 * (word == "hang"))
    print("told", told)
if word == "late":
    sys.exit("RuntimeError: after all was written")
if word == "error":
    sys.exit("ValueError: num_heads=3")
sys.exit(75 if word == "stop" else 0)
"""


class Node:
    """A node that runs one task of an array, and a scheduler that thinks so."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run_dir = root / "my run"
        self.run_dir.mkdir()
        self.slurm = Faked(root / "slurm")
        for name, value in self.slurm.environment.items():
            monkeypatch.setenv(name, value)
        task = {"state": "RUNNING", "node": "n1", "code": 0}
        self.slurm.say("jobs.json", json.dumps({"17": {"tasks": {"0": task}}}))
        self.root = root
        (root / "trial.py").write_text(TRIAL)

    def submit(self, word: str, **limits: object) -> Submission:
        launch = ("srun", "--nodes=1", "--ntasks-per-node=1", sys.executable, "-IS")
        return submission.create(
            self.root,
            [Task(self.run_dir, 3, (str(self.root / "trial.py"), word))],
            **{"limit_s": None, "max_stops": 1, **limits},
            launch=launch,
            environment={"OMP_NUM_THREADS": "1"},
            code="c0de",
        )

    def start(self, array: Submission) -> subprocess.Popen[str]:
        manifest = array.folder / submission.MANIFEST
        environment = {
            **os.environ,
            "SLURM_ARRAY_JOB_ID": "17",
            "SLURM_ARRAY_TASK_ID": "0",
            "SLURMD_NODENAME": "n1",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "attnlab.ablation.slurm.task", str(manifest), "0"],
            cwd=self.run_dir,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, array: Submission) -> tuple[int, str]:
        task = self.start(array)
        out, _ = task.communicate(timeout=30)
        return task.returncode, out

    def log(self) -> str:
        path = self.run_dir / "log.txt"
        return path.read_text() if path.exists() else ""

    def stop(self, array: Submission, number: signal.Signals) -> int:
        """Send a signal to the task once its trial has begun, and return the exit code."""
        task = self.start(array)
        wait_until(lambda: "trial " in self.log())
        task.send_signal(number)
        task.communicate(timeout=30)
        return task.returncode

    @property
    def state(self) -> str:
        (state,) = self.slurm.states(17)
        return state


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def test_a_trial_that_finishes_is_a_task_that_completes_and_runs_once(node: Node) -> None:
    array = node.submit("well")
    assert node.run(array) == (0, "")
    line, output = node.log().splitlines()
    assert line.startswith("$ OMP_NUM_THREADS=1 srun --nodes=1 --ntasks-per-node=1 ")
    assert output == "trial well 17"
    attempt = attempts.read_attempt(node.run_dir)
    assert attempt is not None
    assert (attempt.launcher, attempt.job, attempt.node, attempt.code) == (
        "slurm", "17_0", "n1", "c0de"
    )  # fmt: skip
    cost = json.loads((node.run_dir / "driver.json").read_text())
    assert 0 < cost["wall_s"] < 20
    assert node.run(array) == (0, "")
    assert not (node.run_dir / "log.1.txt").exists()
    assert node.state == "RUNNING"  # it was not requeued


def test_the_result_decides_and_not_the_exit_code(node: Node) -> None:
    assert node.run(node.submit("late"))[0] == 0
    (node.run_dir / "result.json").unlink()
    code, out = node.run(node.submit("lie"))
    assert code == 1
    assert "ended well, but left no valid result.json" in out
    code, out = node.run(node.submit("error"))
    assert code == 1
    assert "ValueError: num_heads=3" in out
    failure = attempts.read_failure(node.run_dir)
    assert failure is not None
    assert (failure.kind, failure.attempt) == (Kind.ERROR, 3)
    assert node.state == "RUNNING"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_stopped_trial_is_requeued_until_it_gets_no_further(
    node: Node, number: signal.Signals
) -> None:
    array = node.submit("stop", max_stops=1)
    assert node.stop(array, number) == 75
    assert f"told [{signal.SIGUSR1.value}]" in node.log()
    assert node.state == "PENDING"
    assert attempts.read_failure(node.run_dir) is None
    for state, code in (("PENDING", 75), ("RUNNING", 1)):
        node.slurm.set(17, 0, state="RUNNING")
        (node.run_dir / "log.txt").unlink()
        assert node.stop(array, number) == code
        assert node.state == state
    failure = attempts.read_failure(node.run_dir)
    assert failure is not None
    assert failure.error == "it was stopped 2 times in a row at step 4; give it more time"


def test_a_cancelled_trial_is_not_requeued(node: Node) -> None:
    array = node.submit("stop")
    node.slurm.set(17, 0, state="CANCELLED")
    assert node.stop(array, signal.SIGTERM) == 75
    assert node.state == "CANCELLED"


def test_a_trial_that_takes_too_long_is_ended(node: Node) -> None:
    code, out = node.run(node.submit("stop", limit_s=1.0))
    assert code == 1
    failure = attempts.read_failure(node.run_dir)
    assert failure is not None
    assert (failure.kind, failure.error) == (Kind.TIME, "it took over 1 s in all")
    assert failure.error in out


def test_what_is_left_of_a_lost_node_is_waited_for(node: Node) -> None:
    array = node.submit("well")
    with rundir.locked(node.run_dir / ".lock", "in use"):
        task = node.start(array)
        with pytest.raises(subprocess.TimeoutExpired):
            task.wait(0.7)
        assert node.log() == ""
        rundir.write_json(node.run_dir / "result.json", record(0.5, 3, {}))
    task.communicate(timeout=30)
    assert task.returncode == 0
    assert node.log() == ""


def test_a_task_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'lightning', 'optuna', 'numpy', 'rich', 'yaml', 'matplotlib'}"
    script = f"import sys, attnlab.ablation.slurm.task; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "set()\n"
