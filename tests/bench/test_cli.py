"""Errors are one line, and the environment of the peers is made in the right order."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from attnlab.ablation.errors import UserError
from attnlab.bench import peers
from attnlab.bench.cli import COMMANDS, main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["speed"], "invalid choice: 'speed'"),
        (["operators", "--window", "3"], "unrecognized arguments: --window 3"),
        (["operators", "--windows", "three"], "invalid int value: 'three'"),
        (["operators", "--windows", "4"], "--windows must be odd and at least 1, not 4"),
        (["operators", "--maps", "0"], "--maps must be at least 1, not 0"),
        (["operators", "--dim", "40"], "--dim must be 8, 16, 24 or a multiple of 32, not 40"),
        (["operators", "--batch", "0"], "--batch must be at least 1, not 0"),
        (["operators", "--rounds", "0"], "--rounds must be at least 1, not 0"),
        (["operators", "--threads", "0"], "--threads must be at least 1, not 0"),
        (["operators", "--device", "gpu"], "--device must be cpu, cuda or cuda:N, not 'gpu'"),
        (["operators", "--device", "cuda:97"], "--device cuda:97: torch sees"),
        (["operators", "--only", "SASA, view"], "did you mean 'SASA, views'?"),
        (["scaling", "--grids", "0"], "--grids must be at least 1, not 0"),
        (["scaling", "--sizes", "15"], "--sizes must be at least 16, not 15"),
        (["scaling", "--tokens", "0"], "--tokens must be at least 1, not 0"),
        (["scaling", "--dim", "96"], "--dim must be a multiple of 8, above 64 of 64, not 96"),
        (["scaling", "--only", "LiSA fft"], "unknown subject 'LiSA fft'"),
        (["networks", "--batch", "0"], "--batch must be at least 1, not 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    try:
        code = main(arguments)
    except SystemExit as stop:  # argparse's own way
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("attnlab.bench: error: ")
    assert message in error
    assert error.count("\n") == 1


def test_help_lists_every_command(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_peers_get_torch_before_natten_is_built(tmp_path: Path) -> None:
    steps: list[Sequence[str]] = []

    def call(step: Sequence[str]) -> int:
        steps.append(step)
        tmp_path.joinpath("env").mkdir(exist_ok=True)
        return 0

    peers.make(tmp_path / "env", "torch==9.9", "natten==8.8", call)
    made, first, second = steps
    assert made[1:] == ["-m", "venv", str(tmp_path / "env")]
    assert {first[0], second[0]} == {str(peers.python(tmp_path / "env"))}
    assert "torch==9.9" in first
    assert second[-2:] == ["--no-build-isolation", "natten==8.8"]
    assert (tmp_path / "env" / ".gitignore").read_text() == "*\n"


def test_a_failing_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"-m venv .* ended with 3"):
        peers.make(tmp_path / "env", "torch", "natten", lambda step: 3)
    assert not (tmp_path / "env").exists()
