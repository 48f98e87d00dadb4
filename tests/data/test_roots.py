"""What a user reads who points at the wrong place."""

from pathlib import Path

from attnlab.data.roots import describe_missing


def test_it_names_the_path_what_is_accepted_and_what_lies_around(tmp_path: Path):
    for name in ("fig", "ebony", "date", "cedar", "birch", "apple"):
        (tmp_path / name).mkdir()
    (tmp_path / ".hidden").touch()
    above = f"accepted: trees; {tmp_path} holds apple/, birch/, cedar/, date/, ebony/ and 1 more"
    root = tmp_path / "aple"
    assert describe_missing(root, "trees") == f"root='{root}' does not exist; {above}"
    root = tmp_path / "apple"
    assert describe_missing(root, "trees") == f"root='{root}' is empty; {above}"
    (root / "core").touch()
    assert describe_missing(root, "trees") == (
        f"root='{root}' holds core, which is none of them; {above}"
    )
    assert describe_missing(root / "core", "trees") == (
        f"root='{root / 'core'}' is a file; accepted: trees; {root} holds core"
    )


def test_it_climbs_to_a_folder_that_exists(tmp_path: Path):
    (tmp_path / "file").touch()
    root = tmp_path / "a" / "b" / "c"
    assert describe_missing(root, "trees") == (
        f"root='{root}' does not exist; accepted: trees; {tmp_path} holds file"
    )
