"""A study of short real trainings in a checkout of its own, and what is left of it in the end."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
BASE = {
    "model": {
        "class_path": "attnlab.tasks.classification.ClassificationTask",
        "init_args": {
            "backbone": {
                "class_path": "attnlab.backbones.lisa_vit.LisaViT",
                "init_args": {
                    "mixer": {
                        "class_path": "attnlab.operators.lisa.LiSA",
                        "init_args": {"num_rpes": 1, "key_dim": 4, "approximation": "none"},
                    },
                    **{"image_size": 8, "patch_size": 2, "in_channels": 1, "width": 16},
                    **{"depth": 1, "heads": 2, "mlp_ratio": 2},
                },
            },
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003}},
        },
    },
    "data": {"class_path": "attnlab.data.digits8.Digits8", "init_args": {"batch_size": 64}},
    "trainer": {
        **{"accelerator": "cpu", "max_steps": 60, "val_check_interval": 10},
        **{"check_val_every_n_epoch": None, "num_sanity_val_steps": 0, "log_every_n_steps": 20},
        **{"enable_model_summary": False, "enable_progress_bar": False},
    },
}
# A clock that is wrong, for the drivers and trials that are started with this variable.
CLOCK = """
import os, time
skew = float(os.environ.get("FAULT_CLOCK_SKEW", "0"))
if skew:
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + skew
    time.time_ns = lambda: now_ns() + int(skew * 1e9)
"""


def stanzas(cells: int) -> dict[str, Any]:
    """Return `ablations.yaml` of a study of so many cells, a multiple of 6."""
    rates = [round(0.001 * (1 + index), 3) for index in range(cells // 6)]
    saved = {"never": {"checkpoint_every_minutes": None, "trainer.enable_checkpointing": False}}
    saved["often"] = {"checkpoint_every_minutes": 0.002, "trainer.enable_checkpointing": True}
    return {
        "profiles": {
            "short": {
                "about": "a second each",
                "bases": {"base": "base.yaml"},
                "minutes_per_cell": 0.05,
            }
        },
        "studies": {
            "faults": {
                "question": "Does anything change?",
                "base": "base",
                "axes": {
                    "rate": {"key": "model.optimizer.lr", "values": rates},
                    "saved": {"values": saved},
                    "rpes": {"key": "model.backbone.mixer.num_rpes", "values": [0, 1, 2]},
                },
                "baseline": {"rate": rates[0], "saved": "never", "rpes": 0},
                "seeds": [0],
                "metric": "test/top1",
            }
        },
    }


class Study:
    """The study in a folder, run into `output`.

    Args:
        folder: A git repository with the study and a copy of the source; made when missing.
        output: Name of the output directory in it.
        cells: How many there are.
    """

    def __init__(self, folder: Path, output: str, cells: int) -> None:
        self.folder = folder
        self.output = folder / output
        self.cells = cells
        self.directory = self.output / "faults" / "short"
        self.journal = self.directory / "optuna.journal"
        if not folder.exists():
            self._make()

    def command(self, *words: str) -> list[str]:
        """Return a command of the driver on this study."""
        places = ("--study", "faults", "--profile", "short", "--output-dir", str(self.output))
        return [sys.executable, "run_ablation.py", *words, *places]

    def environment(self, skew: float = 0.0) -> dict[str, str]:
        """Return the environment of a driver whose clock is so many seconds fast."""
        own = {"PYTHONPATH": str(self.folder / "src"), "FAULT_CLOCK_SKEW": str(skew)}
        return {**os.environ, **own, "OMP_NUM_THREADS": "1"}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the driver to its end."""
        return subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=1200,
        )

    def run_dirs(self) -> list[Path]:
        """Return the run directories that there are."""
        return sorted(path for path in self.directory.glob("*/seed*") if path.is_dir())

    def results(self) -> dict[str, dict[str, Any]]:
        """Return what must not change of each finished cell, by its name."""
        return {
            str(path.parent.parent.name): deterministic(json.loads(path.read_bytes()))
            | {"curve": curve(path.with_name("metrics.jsonl"))}
            for path in self.directory.glob("*/seed*/result.json")
        }

    def journalled(self) -> Counter[str]:
        """Return how often the journal holds each cell as a finished trial."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        storage = JournalStorage(JournalFileBackend(str(self.journal)))
        (name,) = optuna.get_all_study_names(storage)
        trials = optuna.load_study(storage=storage, study_name=name).get_trials(deepcopy=False)
        assert all(trial.state.is_finished() and trial.value is not None for trial in trials)
        return Counter(Path(trial.user_attrs["run_dir"]).parent.name for trial in trials)

    def _make(self) -> None:
        self.folder.mkdir(parents=True)
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / "src", self.folder / "src", ignore=ignored)
        shutil.copy2(REPOSITORY / "run_ablation.py", self.folder)
        (self.folder / "src" / "sitecustomize.py").write_text(CLOCK)
        (self.folder / ".gitignore").write_text("__pycache__/\n/calm/\n/disk/\n/drivers/\n")
        (self.folder / "base.yaml").write_text(yaml.safe_dump(BASE))
        text = yaml.safe_dump(stanzas(self.cells), sort_keys=False)
        (self.folder / "ablations.yaml").write_text(text)
        identity = ("-c", "user.name=faults", "-c", "user.email=faults@localhost")
        for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "A study")):
            subprocess.run(["git", *identity, *words], cwd=self.folder, check=True)


def deterministic(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a result says that a second run of the same trial says again."""
    metrics = {tag: value for tag, value in record["metrics"].items() if not _timed(tag)}
    return {"metrics": metrics, **{key: record[key] for key in ("steps", "epochs", "seed")}}


def curve(path: Path) -> list[dict[str, Any]]:
    """Return what was validated when."""
    lines = map(json.loads, path.read_text().splitlines())
    return [{tag: value for tag, value in line.items() if not _timed(tag)} for line in lines]


def _timed(tag: str) -> bool:
    return tag.startswith("perf/")
