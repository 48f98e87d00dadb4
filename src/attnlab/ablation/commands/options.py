"""What the driver's commands share: the options that name a study, and the plan these make."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from attnlab.ablation import parse
from attnlab.ablation import plan as planning
from attnlab.ablation.adapt import adapt
from attnlab.ablation.errors import UserError
from attnlab.ablation.plan import Plan
from attnlab.ablation.schema import Ablations


@dataclass(frozen=True)
class Trials:
    """What a trial runs by ``python -m``, and what is imported once for all of them."""

    module: str
    preload: tuple[str, ...]


def add_study(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add the options that name one study, and what they need to be understood."""
    parser.add_argument("--study", metavar="NAME", required=required, help="the study")
    add_places(parser)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add all options that say which trials a study has and where they are."""
    parser.add_argument("--profile", metavar="NAME", default="laptop", help="default: laptop")
    parser.add_argument(
        "--data.root", metavar="DIR", type=Path, dest="data_root",
        help="where the data are; default: where the profile's experiments say",
    )  # fmt: skip
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="settings",
        help="set an option of all trials over the profile's, such as trainer.max_epochs=5",
    )  # fmt: skip
    parser.add_argument(
        "--budget", metavar="UNIT=N",
        help="train for that many epochs, steps, minutes or samples instead, such as steps=800",
    )  # fmt: skip
    parser.add_argument(
        "--devices-per-cell", metavar="N", type=int,
        help="GPUs of one trial, 0 for none; default: what the profile says",
    )  # fmt: skip
    parser.add_argument(
        "--file", metavar="YAML", type=Path, default=Path("ablations.yaml"),
        help="where the studies are; default: ablations.yaml",
    )  # fmt: skip
    parser.add_argument(
        "--output-dir", metavar="DIR", type=Path, default=Path("runs/ablations"),
        help="where the runs are; default: runs/ablations",
    )  # fmt: skip


def plan_of(options: argparse.Namespace) -> Plan:
    """Return the plan of the study that the options name, its directory checked.

    Raises:
        UserError: An option names what there is not, or the directory holds something else.
    """
    return plan_of_study(options, parse.load(options.file), options.study)


def plan_of_study(options: argparse.Namespace, ablations: Ablations, name: str) -> Plan:
    """Return the plan of one study of a file that has been read, its directory checked.

    Raises:
        UserError: An option names what there is not, or the directory holds something else.
    """
    study = ablations.study(name)
    stated = ablations.profile(options.profile)
    profile = adapt(stated, study, options.settings, options.devices_per_cell, options.budget)
    if options.data_root is not None and not options.data_root.is_dir():
        raise UserError(f"--data.root must be a folder, not {str(options.data_root)!r}")
    plan = planning.make(study, profile, options.output_dir, options.data_root)
    planning.check_directory(plan)
    return plan


class Watched:
    """Files that a run has read, and that somebody may edit while it goes on.

    Args:
        paths: The files.
    """

    def __init__(self, *paths: Path) -> None:
        self._contents = {path: path.read_bytes() for path in dict.fromkeys(paths)}

    def changes(self) -> list[str]:
        """Return one line for each file that is no longer what it was."""
        return [
            f"{path} has changed since this run read it: the run is that of the earlier one, and "
            "the next start reads the new one"
            for path, content in self._contents.items()
            if not path.exists() or path.read_bytes() != content
        ]
