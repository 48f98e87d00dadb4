"""Where a run comes from: a checkout, or a copy of one."""

import json
import subprocess

import pytest

from attnlab.callbacks import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        command = [
            "git",
            "-C",
            str(tmp_path),
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            *arguments,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    source = tmp_path / "src/attnlab/callbacks"
    source.mkdir(parents=True)
    (source / "provenance.py").write_text("old\n")
    git("init", "-q", "-b", "trunk")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(provenance, "__file__", str(source / "provenance.py"))
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    return tmp_path, git("rev-parse", "HEAD"), source / "provenance.py"


def test_a_checkout_gives_its_commit_and_what_it_lacks(checkout, monkeypatch):
    _, commit, file = checkout
    assert provenance.git_state() == {"commit": commit, "branch": "trunk", "dirty": False}
    file.write_text("new\n")
    assert provenance.git_state()["dirty"] is True
    assert b"-old\n+new\n" in provenance.changes()
    monkeypatch.setattr(provenance, "LARGEST_PATCH", 40)
    whole = provenance.changes()
    assert whole[40:].startswith(b"\n# cut: the whole patch has ")


def test_a_copy_gives_what_it_was_made_from(checkout):
    root, _, _ = checkout
    told = {
        "id": "0123456789ab",
        "commit": "c0ffee",
        "branch": "b",
        "dirty": True,
        "changed": ["x"],
    }
    (root / "snapshot.json").write_text(json.dumps(told))
    (root / "changes.patch").write_bytes(b"+ what the driver kept\n")
    state = provenance.git_state()
    assert state == {"commit": "c0ffee", "branch": "b", "dirty": True, "code": "0123456789ab"}
    assert provenance.changes() == b"+ what the driver kept\n"


def test_the_environment_is_that_which_matters(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("A_TOKEN", "secret")
    found = provenance.provenance(3)
    assert found["environment"]["SLURM_JOB_ID"] == "17"
    assert "secret" not in json.dumps(found["environment"])
    assert {"optuna", "tensorboard"} <= found["versions"].keys()
