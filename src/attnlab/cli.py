"""The command line: ``attnlab fit | validate | test | predict --config FILE``, and `commands`."""

import datetime
import functools
import logging
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse.typing import PositiveFloat, PositiveInt
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from attnlab import commands, stopping
from attnlab.callbacks.checkpoints import UnsavedCheckpointError
from attnlab.callbacks.run import Run, leaving, limit_samples
from attnlab.data.streamed import UnreadableSampleError
from attnlab.messages import one_line

SUBCOMMANDS = ("fit", "validate", "test", "predict")


class UsageError(Exception):
    """Something the user asked for that cannot be; the message is one line."""


def _as_usage(step: Callable[..., Any]) -> Callable[..., Any]:
    """Let what a data module finds wrong on the disk be the user's to mend as well."""

    @functools.wraps(step)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return step(*args, **kwargs)
        except (ValueError, OSError) as error:
            raise UsageError(str(error)) from error

    return wrapped


class SaveFitConfig(SaveConfigCallback):
    """Saves the resolved configuration of a fit; a later test must not replace it."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write config.yaml."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)


class Parser(LightningArgumentParser):
    """Takes a function as class_path beside a linked argument, where jsonargparse 4.53 fails."""

    def add_function_arguments(
        self, *args: Any, linked_targets: set[str] | None = None, **kwargs: Any
    ) -> list[str]:
        """Add a function's arguments; `linked_targets`, passed by mistake, is of no use here."""
        return super().add_function_arguments(*args, **kwargs)


class AttnlabCLI(LightningCLI):
    """LightningCLI with run directories, their records and links from data to model."""

    run: Run

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's own options and the links."""
        group = parser.add_argument_group("The run")
        group.add_argument(
            "--run_dir",
            type=Path | None,
            default=None,
            help="Where everything of this run goes (default: runs/<config>/<time>).",
        )
        group.add_argument(
            "--overwrite", type=bool, default=False, help="Run into a directory that has a result."
        )
        group.add_argument(
            "--resume",
            type=bool,
            default=False,
            help="Go on from the newest checkpoint in the run directory, if it has one.",
        )
        group.add_argument(
            "--checkpoint_every_minutes",
            type=PositiveFloat | None,
            default=None,
            help="Save what --resume needs this often; it goes when the result is there.",
        )
        group.add_argument(
            "--max_samples",
            type=PositiveInt | None,
            default=None,
            help="Train on so many samples, rounded up to whole steps; epochs are no limit then.",
        )
        group.add_argument(
            "--test_after_fit",
            type=bool,
            default=False,
            help="After the fit, test the final weights and put the figures into result.json.",
        )
        group.add_argument(
            "--hparams",
            type=dict[str, bool | int | float | str],
            default={},
            help="What an ablation varies in this run, for TensorBoard's HParams page.",
        )
        group.add_argument(
            "--check", type=bool, default=False, help="Build everything, run nothing."
        )
        parser.link_arguments(
            "data.num_classes", "model.init_args.num_classes", apply_on="instantiate"
        )

    def _option(self, name: str) -> Any:
        return self._get(self.config, name)

    def before_instantiate_classes(self) -> None:
        """Settle the run directory and refuse to overwrite a result."""
        options = self.config[self.subcommand]
        if options.run_dir is None:
            stem = Path(options.config[0].relative).stem if options.config else "run"
            now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
            options.run_dir = options.trainer.default_root_dir or Path("runs", stem, now)
        run_dir = options.run_dir = Path(options.run_dir)
        options.trainer.default_root_dir = str(run_dir)
        finished = self.subcommand == "fit" and (run_dir / "result.json").exists()
        if finished and not (options.overwrite or options.check):
            raise UsageError(
                f"run_dir={str(run_dir)!r} holds a finished run; choose another --run_dir or pass "
                "--overwrite true"
            )
        fitting = self.subcommand == "fit"
        unlimited = options.trainer.max_epochs == options.trainer.max_steps == -1
        if unlimited and not (fitting and options.max_samples):
            raise UsageError(
                "trainer.max_epochs=-1 needs a trainer.max_steps: schedules have an end"
            )
        every = options.checkpoint_every_minutes if fitting else None
        self.run = Run(run_dir, self._seed(), dict(options.hparams), every)
        if fitting and options.resume and not (finished or options.check):
            self.run.find()

    def _seed(self) -> int | None:
        seed = self._option("seed_everything")
        return seed if isinstance(seed, int) and not isinstance(seed, bool) else None

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; what they refuse is the user's to mend."""
        try:
            super().instantiate_classes()
            if self.subcommand == "fit" and self._option("max_samples"):
                limit_samples(self.trainer, self.datamodule, self._option("max_samples"))
        except (ValueError, TypeError, OSError, MisconfigurationException) as error:
            raise UsageError(str(error)) from error
        for name in ("prepare_data", "setup", "train_dataloader"):
            setattr(self.datamodule, name, _as_usage(getattr(self.datamodule, name)))

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Build the trainer with the run's logger and callbacks."""
        trainer = self._get(self.config_init, "trainer")
        if trainer.logger in (None, True):
            kwargs["logger"] = self.run.logger()
        given = trainer.callbacks or []
        trainer.callbacks = self.run.callbacks(given if isinstance(given, list) else [given])
        given = trainer.plugins or []
        trainer.plugins = self.run.plugins(given if isinstance(given, list) else [given])
        built = super().instantiate_trainer(**kwargs)
        if self.subcommand == "fit":
            self.run.attach(built)
        return built

    def before_validate(self) -> None:
        """Stop here when only the configuration was to be checked."""
        if self._option("check"):
            print("configuration is valid")
            raise SystemExit(0)

    before_test = before_predict = before_validate

    def before_fit(self) -> None:
        """Stop here, too, or see from which checkpoint to go on."""
        self.before_validate()
        if self.run.checkpoint is not None:
            # Not in the configuration, which is saved: the next start chooses for itself.
            self.config_init["fit"]["ckpt_path"] = str(self.run.checkpoint)
            self.config_init["fit"]["weights_only"] = False

    def after_fit(self) -> None:
        """Keep the final weights, test them if asked to, write the result.

        A fast_dev_run leaves nothing.
        """
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        test = functools.partial(
            self.trainer.test, self.model, datamodule=self.datamodule, verbose=False
        )
        tested = self._option("test_after_fit")
        self.run.finish(self.trainer, test if tested else None)

    def after_validate(self) -> None:
        """Write validate.json."""
        self.run.record.write_result(self.trainer, "validate.json", self.trainer.callback_metrics)

    def after_test(self) -> None:
        """Write test.json."""
        self.run.record.write_result(self.trainer, "test.json", self.trainer.callback_metrics)

    def predict(self, **kwargs: Any) -> None:
        """Predict, and keep what `predict_step` returned: predictions.pt, one part per process."""
        batches = self.trainer.predict(**kwargs)
        part = f"-{self.trainer.global_rank}" if self.trainer.world_size > 1 else ""
        path = Path(self._option("run_dir"), f"predictions{part}.pt")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(torch.cat(batches), path)  # type: ignore[arg-type]
        print(f"predictions: {path}")


def _quieten() -> None:
    """Drop messages that no user of this command can act on."""
    # lightning 2.6 on torch 2.13: its own use of torch's tree specifications.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # Data sets embedded here live in memory: loading is faster without worker processes.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # A machine that has SLURM may well be used without it.
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system")
    # A run that goes on has checkpoints, and passes over batches of plain loaders, see `Resume`.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before")
    advertisement = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    advertisement.addFilter(lambda record: "💡 Tip" not in record.getMessage())


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` defaults to the process's arguments.

    Raises:
        SystemExit: With 2 and one line on stderr when the configuration is wrong.
    """
    arguments = sys.argv[1:] if args is None else list(args)
    if commands.run(arguments):
        return
    wanted = [name for name in arguments[:1] if name in SUBCOMMANDS] or SUBCOMMANDS
    start(AttnlabCLI, None if args is None else arguments, wanted)


@leaving()
def start(kind: type[AttnlabCLI], args: list[str] | None, wanted: Sequence[str]) -> None:
    """Build everything that `args`, or the process's arguments, ask for, and run it.

    Args:
        kind: The command line.
        args: Arguments, the first of them a subcommand.
        wanted: Subcommands that there shall be.

    Raises:
        SystemExit: With 2 and one line on stderr when the configuration is wrong, with 1 and one
            when a checkpoint could not be saved, with 75 when the process was asked to stop.
    """
    _quieten()
    with stopping.heeded("fit" in wanted):
        _start(kind, args, wanted)


def _start(kind: type[AttnlabCLI], args: list[str] | None, wanted: Sequence[str]) -> None:
    class CLI(kind):  # type: ignore[misc, valid-type]
        """Builds the parser of one subcommand instead of four, which every trial would pay for."""

        @staticmethod
        def subcommands() -> dict[str, set[str]]:
            known = LightningCLI.subcommands()
            return {name: known[name] for name in wanted}

    status = 2
    try:
        CLI(
            args=args,
            seed_everything_default=0,
            parser_class=Parser,
            save_config_callback=SaveFitConfig,
            save_config_kwargs={"overwrite": True},  # a restarted run keeps its directory
            parser_kwargs={"epilog": commands.EPILOG, "exit_on_error": False}
            | {name: {"exit_on_error": False} for name in wanted},
        )
    except ArgumentError as error:
        failure = one_line(str(error))
    except UsageError as error:
        failure = one_line(str(error))
    except UnreadableSampleError as error:  # out of a worker it comes with a traceback before it
        failure = str(error).strip().splitlines()[-1].rpartition("UnreadableSampleError: ")[-1]
    except UnsavedCheckpointError as error:
        failure, status = str(error), 1
    else:
        return
    print(f"attnlab: error: {failure}", file=sys.stderr)
    raise SystemExit(status)
