"""A stand-in for SLURM's commands, which keeps its jobs in a file and is called by their names.

The folder of the environment variable FAKE_SLURM holds `jobs.json` and, if a test wants them, the
files `limit` (tasks that may be in the queue), `max_array`, `refusal` (why sbatch refuses) and
`busy` (squeue gives no answer). Where there is a file `runs`, sbatch runs what it is given.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("FAKE_SLURM", "."))
ACTIVE = ("PENDING", "RUNNING")


@contextmanager
def jobs() -> Iterator[dict[str, Any]]:
    """Read the jobs, let them be changed, and write them."""
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = FOLDER / "jobs.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        yield found
        (FOLDER / "jobs.new").write_text(json.dumps(found))
        (FOLDER / "jobs.new").rename(path)  # the tests read it without the lock


def said(name: str, default: str = "") -> str:
    path = FOLDER / name
    return path.read_text() if path.exists() else default


def sbatch(arguments: list[str]) -> None:
    if refusal := said("refusal"):
        sys.exit(f"sbatch: error: {refusal}")
    *options, script = arguments
    named = dict(option.lstrip("-").partition("=")[::2] for option in options)
    first, last, at_once = re.fullmatch(
        r"(\d+)-(\d+)(?:%(\d+))?", named.get("array", "0-0")
    ).groups()
    indices = range(int(first), int(last) + 1)
    with jobs() as found:
        queued = sum(
            task["state"] in ACTIVE for job in found.values() for task in job["tasks"].values()
        )
        if queued + len(indices) > int(said("limit", "1000000")):
            sys.exit(
                "sbatch: error: AssocMaxSubmitJobLimit\n"
                "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
                "(job submit limit, user's size and/or time limits)"
            )
        number = str(len(found) + 1)
        task = {"state": "PENDING", "node": "", "code": 0}
        found[number] = {
            "script": script,
            "options": named,
            "throttle": at_once,
            "tasks": {str(index): dict(task) for index in indices},
        }
    print(number)
    sys.stdout.flush()
    if (FOLDER / "runs").exists() and os.fork() == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        for before in named.get("dependency", "").split(":")[1:]:
            while active(before):
                time.sleep(0.05)
        for index in indices:
            run(number, str(index), "array" in named)
        os._exit(0)


def active(number: str) -> bool:
    with jobs() as found:
        return any(task["state"] in ACTIVE for task in found[number]["tasks"].values())


def run(number: str, index: str, array: bool) -> None:
    """Run a task as often as it is requeued."""
    while True:
        with jobs() as found:
            job = found[number]
            task = job["tasks"][index]
            if task["state"] != "PENDING":
                return
            task.update(state="RUNNING", node="n1")
        output = Path(job["options"]["output"].replace("%a", index))
        with output.open("ab") as log:
            variables = {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index}
            code = subprocess.run(
                [job["script"]],
                cwd=job["options"]["chdir"],
                env={**os.environ, "SLURMD_NODENAME": "n1", **(variables if array else {})},
                stdout=log,
                stderr=log,
            ).returncode
        with jobs() as found:
            task = found[number]["tasks"][index]
            if task["state"] == "RUNNING":
                task.update(state="FAILED" if code else "COMPLETED", code=code)


def squeue(arguments: list[str]) -> None:
    if (FOLDER / "busy").exists():
        sys.exit("squeue: error: slurm_load_jobs error: Unable to contact slurm controller")
    named = dict(option.lstrip("-").partition("=")[::2] for option in arguments)
    with jobs() as found:
        for number, job in found.items():
            for index, task in job["tasks"].items():
                if task["state"] not in ACTIVE:
                    continue
                if named.get("jobs") == f"{number}_{index}":
                    print(task["state"])
                elif "jobs" not in named and job["options"]["job-name"] == named["name"]:
                    reason = "Resources" if task["state"] == "PENDING" else "None"
                    fields = (number, index, task["state"], task["node"], reason, job["script"])
                    print(*fields, sep="|")


def scontrol(arguments: list[str]) -> None:
    if arguments == ["show", "config"]:
        print(f"MaxArraySize            = {said('max_array', '1001')}")
        return
    with jobs() as found:
        if arguments[0] == "update":
            named = dict(word.split("=") for word in arguments[1:])
            found[named["JobId"]]["throttle"] = named["ArrayTaskThrottle"]
            return
        number, _, index = arguments[-1].partition("_")
        task = found[number]["tasks"][index]
        if arguments[0] == "requeue":
            task.update(state="PENDING", node="")
        else:
            print(f"JobId={number} JobState={task['state']} ExitCode={task['code']}:0")


def scancel(arguments: list[str]) -> None:
    with jobs() as found:
        for name in arguments:
            number, _, index = name.partition("_")
            found[number]["tasks"][index]["state"] = "CANCELLED"


def sinfo(arguments: list[str]) -> None:
    print("cpu\ngpu")


def srun(arguments: list[str]) -> None:
    words = iter(arguments)
    command = next(word for word in words if not word.startswith("-"))
    os.execvp(command, [command, *words])


if __name__ == "__main__":
    globals()[Path(sys.argv[0]).name](sys.argv[1:])
