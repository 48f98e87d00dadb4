"""The batch script of an array, and the options that go with it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlab.ablation.slurm.settings import SlurmSettings


@dataclass(frozen=True)
class Shape:
    """The machines of one trial.

    Attributes:
        nodes: How many.
        gpus: GPUs of each; 0 hides them.
        threads: CPU threads on each.
    """

    nodes: int = 1
    gpus: int = 0
    threads: int = 1

    @property
    def processes(self) -> int:
        """Processes of the trial on each node."""
        return max(1, self.gpus)

    def cpus(self, settings: SlurmSettings) -> int:
        """Return the CPUs of each process."""
        return settings.cpus or max(1, self.threads // self.processes)

    def flags(self) -> tuple[str, ...]:
        """Return what a trial must be told of its place, which is no part of what it is."""
        return f"--trainer.devices={self.processes}", f"--trainer.num_nodes={self.nodes}"

    def launch(self, settings: SlurmSettings) -> tuple[str, ...]:
        """Return the words before a trial's command, which start its processes.

        A single process gets a step as well: by default SLURM tells only steps of a preemption.
        """
        return (
            "srun",
            f"--nodes={self.nodes}",
            f"--ntasks-per-node={self.processes}",
            f"--cpus-per-task={self.cpus(settings)}",  # since SLURM 22.05 no longer inherited
            "--kill-on-bad-exit=1",
            *settings.container,
        )


def write(
    path: Path, setup: Sequence[str], environment: Mapping[str, str], command: Sequence[str]
) -> None:
    """Write a batch script.

    Args:
        path: Where to.
        setup: Lines of bash before the command.
        environment: Variables to set; what `PYTHONPATH` holds already stays behind the new.
        command: What it ends by becoming; a word ``$NAME`` stands for that variable.
    """
    exports = [
        f"export {name}={shlex.quote(value)}"
        + ("${PYTHONPATH:+:$PYTHONPATH}" if name == "PYTHONPATH" else "")
        for name, value in environment.items()
    ]
    words = [f'"{word}"' if word.startswith("$") else shlex.quote(word) for word in command]
    # `exec` makes the command the process that SLURM's signals reach.
    lines = ("#!/bin/bash", *setup, *exports, f"exec {' '.join(words)}", "")
    path.write_text("\n".join(lines), encoding="utf-8")
    path.chmod(0o755)


def options(settings: SlurmSettings, *, name: str, folder: Path, shape: Shape) -> list[str]:
    """Return the options of sbatch for an array of trials.

    They are given on the command line, where they win over the user's SBATCH variables.

    Args:
        settings: What the profile or the cluster file says.
        name: What the array is called.
        folder: Where the output of the batch scripts goes.
        shape: The machines of one trial.
    """
    stated = dict(settings.options)
    if shape.gpus:
        stated.setdefault("gres", f"gpu:{shape.gpus}")
    return [
        *_common(name, folder, "%a"),
        f"--nodes={shape.nodes}",
        f"--ntasks-per-node={shape.processes}",
        f"--cpus-per-task={shape.cpus(settings)}",
        *([f"--signal=B:USR1@{settings.signal_s}"] if settings.signal_s else []),
        *(f"--{key}={value}" for key, value in stated.items()),
        *settings.extra,
    ]


def driver_options(
    settings: SlurmSettings, *, name: str, folder: Path, after: Sequence[str]
) -> list[str]:
    """Return the options of sbatch for a driver that goes on when other jobs have ended.

    Args:
        settings: What the profile or the cluster file says.
        name: What the job is called.
        folder: Where its output goes.
        after: Those jobs.
    """
    stated = {
        key: value
        for key, value in settings.options.items()
        if key in ("partition", "account", "qos", "comment")
    }
    return [
        *_common(name, folder, "driver"),
        "--ntasks=1",
        "--time=60",
        f"--dependency=afterany:{':'.join(after)}",
        *(f"--{key}={value}" for key, value in stated.items()),
    ]


def _common(name: str, folder: Path, output: str) -> list[str]:
    return [
        f"--job-name={name}",
        f"--output={str(folder).replace('%', '%%')}/{output}.out",
        "--open-mode=append",
        "--requeue",
        "--export=ALL",
        f"--chdir={Path.cwd()}",
    ]
