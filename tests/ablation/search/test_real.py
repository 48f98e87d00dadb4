"""A search gives up a real training by the file that it looks for."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import yaml

from tests.ablation.search.searching import finish, make_search, open_ledger, read_study, validate

LAPTOP = Path(__file__).parents[3] / "experiments/laptop/lisa_pair.yaml"
SPACE = {"lr": {"key": "model.optimizer.init_args.lr", "low": 1e-7, "high": 1e-6, "log": True}}
LIMITS = {"trainer.max_steps": 200, "trainer.val_check_interval": 2}


def test_a_real_training_is_given_up(tmp_path: Path) -> None:
    experiment: dict[str, Any] = yaml.safe_load(LAPTOP.read_text())
    experiment["data"]["init_args"] = {"batch_size": 100, "train_size": 1000}
    found = make_search(tmp_path, experiment, SPACE, LIMITS, trials=6, pruner="median")
    ledger = open_ledger(found)
    for _ in range(5):
        asked = ledger.ask()
        assert asked is not None
        validate(asked.trial, [1.0] * 100)
        finish(asked.trial, 1.0)
        ledger.tell(asked, None)
    asked = ledger.ask()
    assert asked is not None
    command = [sys.executable, "-m", "attnlab", *found.plan.arguments(asked.trial)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            ledger.watch(asked)
            time.sleep(0.1)
    assert process.returncode == 0
    assert ledger.tell(asked, None) == optuna.trial.TrialState.PRUNED
    trial = read_study(found).trials[5]
    assert 1 <= len(trial.intermediate_values) < 100
    assert trial.value == trial.intermediate_values[max(trial.intermediate_values)] < 1.0
