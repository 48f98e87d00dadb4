"""What a profile and a cluster file may ask of SLURM, and what they may not."""

from pathlib import Path

import pytest

from attnlab.ablation.errors import UserError
from attnlab.ablation.slurm.settings import KEYS, load, parse


def test_every_key_is_read() -> None:
    node = {
        "partition": "gpu", "account": "vision", "qos": "long", "time": "4:00:00",
        "gres": "gpu:a100:4", "constraint": "a100", "mem": 64000, "comment": "two words",
        "cpus": 8, "at_once": 16, "max_array": 500, "max_submitted": 2000, "signal_s": 0,
        "max_stops": 0, "setup": ["module load cuda"], "python": "/opt/py",
        "container": "apptainer exec 'my image.sif'", "extra": ["--exclusive", "-x n7"],
    }  # fmt: skip
    assert set(node) == set(KEYS)
    settings = parse("profile a: slurm", node)
    assert settings.options == {
        "partition": "gpu", "account": "vision", "qos": "long", "time": "4:00:00",
        "gres": "gpu:a100:4", "constraint": "a100", "mem": "64000", "comment": "two words",
    }  # fmt: skip
    assert settings.container == ("apptainer", "exec", "my image.sif")
    assert settings.extra == ("--exclusive", "-x n7")
    counts = (settings.cpus, settings.at_once, settings.max_array, settings.max_submitted)
    assert counts == (8, 16, 500, 2000)
    assert (settings.signal_s, settings.max_stops) == (0, 0)


def test_a_cluster_file_wins(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("partition: fast\nat_once: 2\n")
    settings = load(path, "profile a: slurm", {"partition": "slow", "mem": "8G"})
    assert settings.options == {"partition": "fast", "mem": "8G"}
    assert settings.at_once == 2
    assert load(None, "profile a: slurm", {}).options == {}
    path.write_text("partion: fast\n")
    with pytest.raises(UserError, match=r"cluster.yaml: unknown key 'partion' \(did you mean 'par"):
        load(path, "profile a: slurm", {})


@pytest.mark.parametrize(
    ("node", "error"),
    [
        (
            {"partions": "gpu"},
            "p: unknown key 'partions' (did you mean 'partition'?); allowed: par",
        ),
        ({"time": 14400}, "p: time must be a text in quotes such as '4:00:00', not 14400: YAML"),
        ({"partition": 3}, "p: partition must be a text of one line, not 3"),
        ({"comment": "a\nb"}, "p: comment must be a text of one line, not 'a\\nb'"),
        ({"mem": 0}, "p: mem must be a text of one line, not 0"),
        ({"at_once": 0}, "p: at_once must be an integer of at least 1, not 0"),
        ({"signal_s": True}, "p: signal_s must be an integer of at least 0, not True"),
        ({"setup": "module load"}, "p: setup must be a list of texts, not 'module load'"),
        ({"extra": ["exclusive"]}, "p: extra: 'exclusive' is no option; write it like '--exclu"),
        ({"extra": ["--array=0-3"]}, "p: extra: '--array=0-3' is set by the driver"),
        ({"extra": ["-N2"]}, "p: extra: '-N2' is set by the driver"),
    ],
)
def test_bad_settings_are_one_line(node: dict[str, object], error: str) -> None:
    with pytest.raises(UserError) as raised:
        parse("p", node)
    assert str(raised.value).startswith(error)
    assert "\n" not in str(raised.value)
