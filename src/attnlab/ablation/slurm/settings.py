"""What a trial asks of SLURM: the mapping `slurm:` of a profile, or a cluster file.

```yaml
partition: gpu            # and account, qos, constraint, comment: as sbatch takes them
time: "4:00:00"           # in quotes; a trial that needs longer goes on in its next turn
gres: gpu:a100:4          # of each node; default: gpu:N for the profile's gpus_per_cell
mem: 64G                  # of each node
cpus: 8                   # of each process; default: the profile's threads_per_cell, shared out
at_once: 16               # trials that run at a time; default: as many as there is room for
setup: [module load cuda] # lines of bash before the trial
container: apptainer exec --nv image.sif   # goes before the trial's command
python: python            # the trial's Python; default: the driver's, in a container python
extra: [--exclusive]      # further options of sbatch
max_array: 500            # trials of one array; default: what the cluster allows
max_submitted: 2000       # trials in the queue at a time; default: as many as it takes
signal_s: 90              # seconds before the time is up, to save a checkpoint
max_stops: 10             # times a trial may be stopped and requeued without getting any further
```
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from attnlab.ablation import strict_yaml
from attnlab.ablation.errors import UserError, show, unknown

OPTIONS = ("partition", "account", "qos", "time", "gres", "constraint", "mem", "comment")
"""Keys that are options of sbatch by the same name."""
_COUNTS = {
    **dict.fromkeys(("cpus", "at_once", "max_array", "max_submitted"), 1),
    **dict.fromkeys(("signal_s", "max_stops"), 0),
}
"""Keys that are integers, and their least value."""
KEYS = (*OPTIONS, *_COUNTS, "setup", "container", "python", "extra")
_RESERVED = (  # what the driver relies on, and where output and trials go
    *("array", "output", "error", "job-name", "requeue", "no-requeue", "signal", "open-mode"),
    *("export", "chdir", "parsable", "wrap", "nodes", "ntasks", "ntasks-per-node"),
    *("dependency", "wait", "hold", "cpus-per-task"),
)
_SHORT = {
    **{"a": "array", "o": "output", "e": "error", "J": "job-name", "N": "nodes", "n": "ntasks"},
    **{"D": "chdir", "d": "dependency", "W": "wait", "H": "hold", "c": "cpus-per-task"},
}


@dataclass(frozen=True)
class SlurmSettings:
    """What a trial asks of SLURM.

    Attributes:
        options: Options of sbatch by their long names.
        cpus: CPUs of each process; what the profile's threads need when None.
        at_once: Trials that run at a time; no limit when None.
        setup: Lines of bash before the trial.
        container: Words before the trial's command.
        python: The trial's Python; empty for the driver's, or a container's.
        extra: Further options of sbatch.
        max_array: Trials of one array; what the cluster allows when None.
        max_submitted: Trials in the queue at a time; as many as it takes when None.
        signal_s: Seconds before its time is up at which a trial is told to save a checkpoint.
        max_stops: Times in a row a trial may be stopped without having got any further.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    cpus: int | None = None
    at_once: int | None = None
    setup: tuple[str, ...] = ()
    container: tuple[str, ...] = ()
    python: str = ""
    extra: tuple[str, ...] = ()
    max_array: int | None = None
    max_submitted: int | None = None
    signal_s: int = 90
    max_stops: int = 10


def load(path: Path | None, where: str, node: Mapping[str, object]) -> SlurmSettings:
    """Return the settings of a profile, and over them those of a cluster file.

    Args:
        path: The cluster file, if there is one.
        where: Names the profile in errors.
        node: The profile's mapping.

    Raises:
        UserError: Either says what there is not.
    """
    own = parse(where, node)
    if path is None:
        return own
    found = strict_yaml.load(path)
    parse(str(path), found)
    return parse(str(path), {**node, **found})


def parse(where: str, node: object) -> SlurmSettings:
    """Return what the mapping `node` says.

    Raises:
        UserError: A key is unknown, or its value makes no sense.
    """
    if not isinstance(node, dict):
        raise UserError(f"{where} must be a mapping, not {show(node)}")
    for key in node:
        if key not in KEYS:
            raise UserError(f"{where}: {unknown('key', key, KEYS)}")
    counts = {
        key: _count(f"{where}: {key}", node[key], _COUNTS[key]) for key in _COUNTS if key in node
    }
    container = node.get("container", "")
    words = shlex.split(_text(f"{where}: container", container)) if container else []
    return SlurmSettings(
        options={key: _option(where, key, node[key]) for key in OPTIONS if key in node},
        setup=_lines(f"{where}: setup", node.get("setup", [])),
        container=tuple(words),
        python=_text(f"{where}: python", node["python"]) if "python" in node else "",
        extra=_extra(f"{where}: extra", node.get("extra", [])),
        **counts,
    )


def _option(where: str, key: str, value: object) -> str:
    if key == "mem" and type(value) is int and value > 0:
        return str(value)
    if key == "time" and not isinstance(value, str):
        raise UserError(
            f"{where}: time must be a text in quotes such as '4:00:00', not {show(value)}: YAML "
            "reads 4:00:00 as a number"
        )
    return _text(f"{where}: {key}", value)


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or "\n" in value.strip():
        raise UserError(f"{where} must be a text of one line, not {show(value)}")
    return value.strip()


def _lines(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UserError(f"{where} must be a list of texts, not {show(value)}")
    return tuple(_text(f"{where}: each", each) for each in value)


def _count(where: str, value: object, least: int) -> int:
    if type(value) is not int or value < least:
        raise UserError(f"{where} must be an integer of at least {least}, not {show(value)}")
    return value


def _extra(where: str, value: object) -> tuple[str, ...]:
    options = _lines(where, value)
    for option in options:
        match = re.match(r"--([a-z][\w-]*)|-([a-zA-Z])", option)
        if match is None:
            raise UserError(f"{where}: {show(option)} is no option; write it like '--exclusive'")
        name = match[1] or _SHORT.get(match[2], "")
        if name in _RESERVED:
            raise UserError(f"{where}: {show(option)} is set by the driver")
    return options
