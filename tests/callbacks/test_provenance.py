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
    (source / "provenance.py").write_bytes(b"caf\xe9\nold\n\n")
    git("init", "-q", "-b", "trunk")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(provenance, "__file__", str(source / "provenance.py"))
    monkeypatch.setattr(provenance, "SNAPSHOT", tmp_path / "snapshot.json")
    return tmp_path, git("rev-parse", "HEAD"), source / "provenance.py"


def test_a_checkout_gives_its_commit_and_what_it_lacks(checkout, monkeypatch):
    root, commit, file = checkout
    assert provenance.git_state() == {"commit": commit, "branch": "trunk", "dirty": False}
    file.write_bytes(b"caf\xe9\nnew\n\n")
    assert provenance.git_state()["dirty"] is True
    assert b"-old\n+new\n" in provenance.changes()
    patch = provenance.changes()  # it can be applied: every byte, and the last line's space
    subprocess.run(["git", "-C", root, "apply", "--check", "-R"], input=patch, check=True)
    monkeypatch.setattr(provenance, "LARGEST_PATCH", 40)
    whole = provenance.changes()
    assert whole[40:].startswith(b"\n# cut: the whole patch has ")


def test_a_copy_gives_what_it_was_made_from(checkout):
    root, _, _ = checkout
    told = {
        "id": "0123456789ab",
        "commit": "c0ffee",
        "branch": "",
        "dirty": True,
        "changed": ["x"],
    }
    (root / "snapshot.json").write_text(json.dumps(told))
    (root / "changes.patch").write_bytes(b"+ what the driver kept\n")
    state = provenance.git_state()
    assert state == {"commit": "c0ffee", "branch": None, "dirty": True, "code": "0123456789ab"}
    assert provenance.changes() == b"+ what the driver kept\n"


def test_the_copy_is_looked_for_beside_src():
    root = provenance.SNAPSHOT.parent
    assert (root / "src/attnlab/callbacks/provenance.py").samefile(provenance.__file__)


def test_only_variables_that_matter_are_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    found = provenance.provenance(0)
    assert found["environment"]["OMP_NUM_THREADS"] == "3"
    assert found["placement"]["SLURM_JOB_ID"] == "17"
    assert "SECRET_TOKEN" not in {**found["environment"], **found["placement"]}
    assert {"optuna", "tensorboard"} <= found["versions"].keys()
