"""The command line as users call it, on small doubles."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from attnlab import commands
from attnlab.cli import main
from attnlab.messages import one_line

BASE = {
    "model": {
        "class_path": "attnlab.tasks.classification.ClassificationTask",
        "init_args": {
            "backbone": {
                "class_path": "tests.doubles.TinyBackbone",
                "init_args": {
                    "mixer": {
                        "class_path": "attnlab.operators.baselines.WindowAttention",
                        "init_args": {"window_size": 2},
                    }
                },
            },
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
        },
    },
    "data": {"class_path": "tests.doubles.NoiseData"},
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 2,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    },
}


@pytest.fixture
def base(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["attnlab"])
    path = tmp_path / "noise.yaml"
    path.write_text(yaml.safe_dump(BASE))
    return str(path)


def error_of(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["fit", *arguments])
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    return lines[0].removeprefix("attnlab: error: ")


def test_fit_leaves_a_whole_record(base, tmp_path):
    key = "--model.backbone.mixer.window_size=3"
    options = ["--run_dir", "run", "--test_after_fit", "true", "--hparams", '{"window": 3}']
    main(["fit", "--config", base, *options, key, "--seed_everything", "11"])
    run = tmp_path / "run"
    result = json.loads((run / "result.json").read_text())
    expected = {"val/top1", "val/top5", "val/loss", "test/top1", "test/top5", "test/loss"}
    expected |= {"train/loss", "model/parameters", "model/gflops"}
    expected |= {"perf/images_per_s", "perf/peak_memory_mib"}
    assert set(result["metrics"]) == expected
    assert all(value is not None for value in result["metrics"].values())
    assert (result["seed"], result["steps"], result["epochs"]) == (11, 8, 2)
    assert result["hparams"] == {"window": 3}
    assert result["timing"]["overhead_s"] < 5
    config = yaml.safe_load((run / "config.yaml").read_text())
    mixer = config["model"]["init_args"]["backbone"]["init_args"]["mixer"]
    assert mixer["init_args"]["window_size"] == 3

    events = EventAccumulator(str(run)).Reload()
    summary = events.SummaryMetadata("_hparams_/session_start_info")
    start = plugin_data_pb2.HParamsPluginData.FromString(summary.plugin_data.content)
    varied = dict(start.session_start_info.hparams)
    assert {name: value.number_value for name, value in varied.items()} == {"window": 3, "seed": 11}
    for name in ("test/top1", "model/gflops", "perf/images_per_s"):
        assert events.Scalars(name)[-1].value == pytest.approx(result["metrics"][name])
        assert events.Scalars(name)[-1].step == 8


def test_same_seed_same_numbers(base, tmp_path):
    metrics = []
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        main(["fit", "--config", base, "--run_dir", name, "--seed_everything", seed])
        metrics.append(json.loads((tmp_path / name / "result.json").read_text())["metrics"])
    first, second, other = ({k: m[k] for k in ("train/loss", "val/loss")} for m in metrics)
    assert first == second
    assert first != other


def test_saved_config_and_checkpoint_reproduce_the_validation(base, tmp_path):
    main(["fit", "--config", base, "--run_dir", "run"])
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    before = (tmp_path / "run/result.json").read_text()
    config = (tmp_path / "run/config.yaml").read_bytes()
    arguments = ["--config", "run/config.yaml", "--ckpt_path", str(checkpoint)]
    main(["validate", *arguments, "--run_dir", "run"])
    main(["test", *arguments, "--run_dir", "run"])
    assert (tmp_path / "run/result.json").read_text() == before
    assert (tmp_path / "run/config.yaml").read_bytes() == config
    again = json.loads((tmp_path / "run/validate.json").read_text())["metrics"]
    expected = json.loads(before)["metrics"]
    assert again == {name: expected[name] for name in ("val/loss", "val/top1", "val/top5")}
    assert "test/top1" in json.loads((tmp_path / "run/test.json").read_text())["metrics"]


def test_final_weights_are_kept_when_no_validation_was_reached(base, tmp_path):
    limits = ["--trainer.max_steps=3", "--trainer.val_check_interval=4"]
    main(["fit", "--config", base, "--run_dir", "run", *limits])
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 3
    main(["fit", "--config", base, "--run_dir", "bare", "--trainer.enable_checkpointing=false"])
    assert not (tmp_path / "bare/checkpoints").exists()


def test_predictions_are_kept(base, tmp_path):
    main(["fit", "--config", base, "--run_dir", "run"])
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    main(["predict", "--config", "run/config.yaml", "--ckpt_path", str(checkpoint)])
    probabilities = torch.load(tmp_path / "run/predictions.pt")
    assert probabilities.shape == (23, 7)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(23))


def test_lars_and_its_schedule_from_yaml(base, tmp_path):
    optimizer = "--model.optimizer=attnlab.optim.bolts.LARS"
    schedule = "--model.schedule=attnlab.optim.bolts.LinearWarmupCosineAnnealingLR"
    main(["fit", "--config", base, "--run_dir", "run", optimizer, schedule])
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["model"]["init_args"]
    assert config["optimizer"]["class_path"] == "attnlab.optim.bolts.LARS"
    assert (tmp_path / "run/result.json").exists()


def test_one_callback_may_stand_alone(base, tmp_path):
    callback = "--trainer.callbacks=lightning.pytorch.callbacks.LearningRateMonitor"
    main(["fit", "--config", base, "--run_dir", "run", callback])
    assert (tmp_path / "run/result.json").exists()


def test_default_run_directory_is_new_each_time(base, tmp_path):
    main(["fit", "--config", base, "--trainer.max_epochs=1"])
    (result,) = (tmp_path / "runs/noise").glob("*/result.json")
    assert json.loads(result.read_text())["steps"] == 4


def test_check_builds_but_runs_nothing(base, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", base, "--run_dir", "run", "--check", "true"])
    assert stop.value.code == 0
    assert "configuration is valid" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_refuses_to_overwrite_a_result(base, tmp_path, capsys):
    Path("run").mkdir()
    Path("run/result.json").write_text("{}")
    message = error_of(capsys, "--config", base, "--run_dir", "run")
    assert "run_dir='run' holds a finished run" in message
    assert Path("run/result.json").read_text() == "{}"
    main(["fit", "--config", base, "--run_dir", "run", "--overwrite", "true"])
    assert Path("run/result.json").read_text() != "{}"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--model.backbone.mixer.window_size=four", "model.backbone.mixer.window_size: Expected"),
        ("--model.backbone.mixer.window_size=0", "window_size=0 must be at least 1"),
        ("--model.backbone.mixer.windows=3", "Option 'windows' is not accepted"),
        ("--model.backbone.mixer=attnlab.operators.Nope", "has no attribute 'Nope'"),
        ("--model.backbone.class_path=torch.nn.Linear", "not correspond to a subclass of Backbone"),
        ("--data.batch_size=0", "batch_size=0 must be at least 1"),
        ("--data.batch_size=x", "data.batch_size: Expected a <class 'int'>. Got value: x"),
        ("--trainer.max_epocs=3", "unrecognized arguments: --trainer.max_epocs=3"),
        ("--config=missing.yaml", "missing.yaml"),
        ("--trainer.max_epochs=-1", "trainer.max_epochs=-1 needs a trainer.max_steps"),
        ("--trainer.devices=[0,0]", "devices"),
    ],
)
def test_errors_are_one_line_and_name_the_value(base, capsys, argument, message):
    assert message in error_of(capsys, "--config", base, "--run_dir", "run", argument)
    assert not Path("run").exists()


def test_one_line_keeps_a_plain_message():
    assert one_line("nothing nested") == "nothing nested"


def test_help_names_the_commands_that_train_nothing(base, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in commands.COMMANDS)


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_commands_that_train_nothing_have_a_help(name, base, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert name in capsys.readouterr().out


def test_module_runs_as_a_process(base):
    command = [sys.executable, "-m", "attnlab", "nope"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("attnlab: error: argument subcommand")
