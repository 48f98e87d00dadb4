"""What the command line changes in a profile, and where it says the data are."""

import dataclasses

import pytest

from attnlab.ablation import cells
from attnlab.ablation.adapt import adapt
from attnlab.ablation.errors import UserError
from tests.ablation.conftest import Lab
from tests.ablation.report.fakes import PROFILE, axis, study

STUDY = dataclasses.replace(
    study(axis("value", 0, 1), baseline={"value": 0}), overrides={"trainer.max_steps": 7}
)


def test_settings_win_over_the_profile_and_change_the_cells():
    overrides = {"trainer.max_epochs": 100, "a": 1}
    profile = dataclasses.replace(PROFILE, overrides=overrides, gpus_per_cell=8)
    values = study(axis("value", 0, 1), baseline={"value": 0})
    adapted = adapt(profile, values, ["trainer.max_epochs=2", "model.grid=[2, 3]", "b=x=y"], 0)
    assert adapted.overrides == {
        "trainer.max_epochs": 2, "a": 1, "model.grid": [2, 3], "b": "x=y"
    }  # fmt: skip
    assert (adapted.gpus_per_cell, profile.overrides["trainer.max_epochs"]) == (0, 100)
    keys = [{c.key for c in cells.expand(values, each)} for each in (profile, adapted)]
    assert not keys[0] & keys[1]
    assert adapt(profile, values, [], None) == profile


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainer.max_epochs", "--set takes KEY=VALUE, not 'trainer.max_epochs'"),
        ("run_dir=x", "--set: 'run_dir' is set by the driver"),
        ("a b=1", "--set: 'a b' is no dotted key"),
        ("a=[1", "--set a=[1: "),
        ("data.root=x", "--set data.root=x: where the data are is said by --data.root"),
        ("model.value=5", "--set model.value=5: study rpe_count itself sets 'model.value'"),
        ("trainer.max_steps=5", "--set trainer.max_steps=5: study rpe_count itself sets"),
    ],
)
def test_what_cannot_be_set_is_said_in_one_line(setting, message):
    with pytest.raises(UserError) as caught:
        adapt(PROFILE, STUDY, [setting], None)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_negative_devices_are_refused():
    with pytest.raises(UserError, match="--devices-per-cell must be at least 0, not -1"):
        adapt(PROFILE, STUDY, [], -1)


def test_where_the_data_are_is_no_part_of_a_trial(lab: Lab):
    (lab.root / "here").mkdir()
    (lab.root / "there").mkdir()
    code, out, _ = lab.drive("--data.root", "here", "--dry-run")
    assert code == 0
    assert out.count("--data.root=here") == 4
    lab.drive("--data.root", "here")
    lab.drive("--data.root", "there")
    assert len(lab.trainings()) == 4
    assert "--data.root=here" in (lab.run_dir(1, 0) / "log.txt").read_text()
    code, _, err = lab.drive("--data.root", "nowhere")
    assert (code, err) == (
        2, "run_ablation: error: --data.root must be a folder, not 'nowhere'\n"
    )  # fmt: skip
