"""The main job end to end, shortened: real trials, journal, report, dashboard."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from attnlab.ablation import board

ROOT = Path(__file__).parents[1]


def drive(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "run_ablation.py"), *arguments]
    environment = {**os.environ, "ATTNLAB_CACHE": str(cache)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_study_from_stanza_to_report(tmp_path):
    stanzas = yaml.safe_load((ROOT / "ablations.yaml").read_text())
    profile = stanzas["profiles"]["laptop"]
    profile["bases"] = {name: str(ROOT / base) for name, base in profile["bases"].items()}
    profile["overrides"] |= {"trainer.max_steps": 3, "trainer.val_check_interval": 2}
    profile["overrides"] |= {f"data.{split}_size": 64 for split in ("train", "val", "test")}
    study = stanzas["studies"]["rpe_count"]
    study["axes"]["num_rpes"]["values"], study["seeds"] = [0, 2], [0, 5]
    file = tmp_path / "short.yaml"
    file.write_text(yaml.safe_dump(stanzas))
    options = ["--study", "rpe_count", "--file", str(file), "--output-dir", str(tmp_path / "out")]

    first = drive(*options, cache=tmp_path / "cache")
    assert first.returncode == 0, first.stdout + first.stderr
    directory = tmp_path / "out/rpe_count/laptop"
    records = [json.loads(path.read_text()) for path in directory.glob("*/seed*/result.json")]
    assert {(r["hparams"]["num_rpes"], r["seed"], r["steps"]) for r in records} == {
        (rpes, seed, 3) for rpes in (0, 2) for seed in (0, 5)
    }
    rows = list(csv.DictReader((directory / "report/results.csv").read_text().splitlines()))
    assert len(rows) == 4
    assert (
        "not a reproduction of the paper's numbers" in (directory / "report/report.md").read_text()
    )
    assert all((directory / "report" / name).exists() for name in ("plot.png", "plot.svg"))
    assert len(list(directory.glob("*/seed*/events.out.tfevents.*"))) >= 4
    assert (directory / board.FILE).exists()
    storage = JournalStorage(JournalFileBackend(str(directory / "optuna.journal")))
    (name,) = optuna.get_all_study_names(storage)
    assert len(optuna.load_study(study_name=name, storage=storage).trials) == 4

    times = {path: path.stat().st_mtime_ns for path in directory.glob("*/seed*/result.json")}
    second = drive(*options, cache=tmp_path / "cache")
    assert second.returncode == 0
    assert "4 done" in second.stdout
    assert times == {path: path.stat().st_mtime_ns for path in times}
