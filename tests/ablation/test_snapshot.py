"""Copies of a repository: what is in them, when they are the same, and what is said of them."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from attnlab.ablation import snapshot
from attnlab.ablation.errors import UserError
from attnlab.ablation.snapshot import Snapshot


def git(root: Path, *arguments: str) -> str:
    names = {
        f"GIT_{who}_{what}": "a@b.c"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["git", "-C", str(root), *arguments],
        env={**os.environ, **names},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "my lab"
    (root / "src").mkdir(parents=True)
    git(root, "init", "--initial-branch=trunk")
    (root / "src/code.py").write_text("value = 1\n")
    (root / "old.py").write_text("gone = 1\n")
    (root / "link").symlink_to("src/code.py")
    (root / ".gitignore").write_text("data/\n")
    (root / "data").mkdir()
    (root / "data/big").write_text("not code")
    git(root, "add", ".")
    git(root, "commit", "-m", "first")
    return root


def taken(root: Path) -> Snapshot:
    found = snapshot.take(root, root / "out/.code")
    assert found is not None
    return found


def files(found: Snapshot) -> list[str]:
    paths = (path for path in found.path.rglob("*") if path.is_symlink() or path.is_file())
    return sorted(str(path.relative_to(found.path)) for path in paths)


def test_a_clean_checkout_is_copied_whole_and_without_what_is_ignored(repository: Path) -> None:
    found = taken(repository)
    assert files(found) == [
        ".gitignore", "changes.patch", "link", "old.py", "snapshot.json", "src/code.py"
    ]  # fmt: skip
    assert (found.path / "link").readlink() == Path("src/code.py")
    commit = git(repository, "rev-parse", "HEAD").strip()
    assert str(found) == commit[:7]
    assert (found.path / "changes.patch").read_bytes() == b""
    assert json.loads((found.path / "snapshot.json").read_bytes()) == {
        "id": found.path.name, "commit": commit, "branch": "trunk", "dirty": False, "changed": []
    }  # fmt: skip


def test_uncommitted_changes_are_copied_and_shown(repository: Path) -> None:
    (repository / "src/code.py").write_text("value = 2\n")
    (repository / "src/new é.py").write_text("new = 3\n")
    (repository / "old.py").unlink()
    (repository / "out/value").mkdir(parents=True)
    (repository / "out/value/result.json").write_text("no code, though not ignored")
    before = git(repository, "status", "--porcelain")
    found = taken(repository)
    assert files(found) == [
        ".gitignore", "changes.patch", "link", "snapshot.json", "src/code.py", "src/new é.py"
    ]  # fmt: skip
    assert found.changed == ("old.py", "src/code.py", "src/new é.py")
    assert str(found) == f"{found.commit[:7]} + 3 changed files"
    assert git(repository, "status", "--porcelain") == before
    patch = found.path / "changes.patch"
    fresh = repository.parent / "fresh"
    git(repository, "worktree", "add", str(fresh))
    git(fresh, "apply", str(patch))
    assert (fresh / "src/code.py").read_text() == "value = 2\n"
    assert (fresh / "src/new é.py").read_text() == "new = 3\n"
    assert not (fresh / "old.py").exists()


def test_the_same_contents_are_copied_once_and_others_beside_them(repository: Path) -> None:
    (repository / "src/code.py").write_text("value = 2\n")
    first = taken(repository)
    assert snapshot.take(repository / "src", repository / "out/.code") == first
    (repository / "src/code.py").write_text("value = 3\n")
    other = taken(repository)
    assert other.id != first.id
    assert (first.path / "src/code.py").read_text() == "value = 2\n"
    (repository / "src/code.py").chmod(0o755)
    assert taken(repository).id not in (first.id, other.id)
    assert len(list((repository / "out/.code").iterdir())) == 3  # and nothing half done


def test_a_copy_that_was_changed_is_refused(repository: Path) -> None:
    first = taken(repository)
    copy = first.path / "src/code.py"
    copy.write_text("value = 2\n")
    with pytest.raises(UserError, match=f"{first.id} is no longer the copy it was made as"):
        taken(repository)
    copy.unlink()
    with pytest.raises(UserError, match=f"{first.id} is no longer the copy it was made as"):
        taken(repository)
    copy.write_text("value = 1\n")
    assert taken(repository) == first


def test_what_was_copied_before_it_was_committed_is_that_commit(repository: Path) -> None:
    (repository / "src/code.py").write_text("value = 2\n")
    first = taken(repository)
    git(repository, "commit", "-am", "second")
    committed = taken(repository)
    assert (committed.id, committed.dirty) == (first.id, False)
    assert json.loads((first.path / "snapshot.json").read_bytes())["commit"] == committed.commit
    assert (first.path / "changes.patch").read_bytes() == b""


def test_large_files_are_data_unless_they_are_tracked(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "LARGE", 100)
    (repository / "weights.bin").write_bytes(b"x" * 101)
    (repository / "src/code.py").write_bytes(b"x" * 101)
    found = taken(repository)
    assert found.changed == ("src/code.py",)
    assert "weights.bin" not in files(found)


def test_files_are_found_in_the_copy(repository: Path, tmp_path: Path) -> None:
    found = taken(repository)
    assert found.inside(repository / "src/code.py") == found.path / "src/code.py"
    assert found.inside(repository / "data/big") == repository / "data/big"
    assert found.inside(tmp_path / "elsewhere") == tmp_path / "elsewhere"


def test_a_repository_without_a_commit_and_none_at_all(tmp_path: Path) -> None:
    assert snapshot.take(tmp_path, tmp_path / "runs/.code") is None
    assert list(tmp_path.iterdir()) == []
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("value = 1\n")
    found = snapshot.take(tmp_path, tmp_path / "runs/.code")
    assert str(found) == "no commit + 1 changed file"
