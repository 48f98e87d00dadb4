"""Errors as the user reads them."""

import pytest

from attnlab.messages import bad_input

NESTED = "Parser key \"data\":\n  Given value: x\n  Expected a <class 'int'>. Got value: x"
FROM_A_WORKER = "Caught OSError in process 0.\nTraceback (most recent call last):\n  x\nOSError: no"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("size=0 must be at least 1", "size=0 must be at least 1"),
        (NESTED, "data: Expected a <class 'int'>. Got value: x"),
        (FROM_A_WORKER, "OSError: no"),
        ("", "ValueError"),
    ],
)
def test_bad_input_is_one_line_and_code_2(message, line, capsys):
    with pytest.raises(SystemExit) as stop, bad_input(ValueError):
        raise ValueError(message)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"attnlab: error: {line}\n"


def test_other_errors_keep_their_traceback():
    with pytest.raises(KeyError), bad_input(ValueError, OSError):
        raise KeyError("bug")
