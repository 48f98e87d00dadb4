"""What the report of a search says beside its best trials."""

from pathlib import Path

from attnlab.ablation.search import report
from tests.ablation.search.searching import finish, make_search, open_ledger


def test_trials_of_several_states_of_the_code_are_told_apart(tmp_path: Path) -> None:
    found = make_search(tmp_path)
    ledger = open_ledger(found)
    first, second, third = (ledger.ask() for _ in range(3))
    assert first
    assert second
    assert third
    old, new = {"commit": "a" * 40, "code": "c0de"}, {"commit": "b" * 40, "dirty": True}
    finish(first.trial, git=old)
    finish(second.trial, git=old)
    assert "states of the code" not in report.write(found, tmp_path / "report")
    finish(third.trial, git=new)
    assert (
        "The trials come from 2 states of the code: commit aaaaaaaaaa, snapshot c0de (trials 0, "
        "1); commit bbbbbbbbbb with uncommitted changes (trials 2)."
    ) in report.write(found, tmp_path / "report")
