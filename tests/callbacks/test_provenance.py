"""Where a run comes from, of a copy of the repository as well."""

import json
from pathlib import Path

import pytest

from attnlab.callbacks import provenance


def test_a_copy_says_what_it_was_copied_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"id": "0123456789ab", "commit": "c0de", "branch": "", "dirty": True, "changed": ["a"]}
    (tmp_path / "snapshot.json").write_text(json.dumps(record))
    monkeypatch.setattr(provenance, "SNAPSHOT", tmp_path / "snapshot.json")
    assert provenance.git_state() == {
        "commit": "c0de",
        "branch": None,
        "dirty": True,
        "snapshot": "0123456789ab",
    }


def test_the_copy_is_looked_for_beside_src() -> None:
    root = provenance.SNAPSHOT.parent
    assert (root / "src/attnlab/callbacks/provenance.py").samefile(provenance.__file__)


def test_only_variables_that_may_change_a_result_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    kept = provenance.provenance(0)["environment"]
    assert kept["OMP_NUM_THREADS"] == "3"
    assert "SECRET_TOKEN" not in kept
