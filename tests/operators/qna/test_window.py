"""Windows: where they lie, how many there are, what they refuse."""

import pytest
import torch

from attnlab.operators.qna.window import Window


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": 3}, [[-1, 0, 1], [0, 1, 2], [1, 2, 3]]),
        ({"size": 4}, [[-1, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4]]),
        ({"size": 3, "dilation": 3, "stride": 2}, [[-3, 0, 3], [-1, 2, 5]]),
        ({"size": 2, "padding": 0}, [[0, 1], [1, 2]]),
        ({"size": 3, "padding": 2}, [[i, i + 1, i + 2] for i in range(-2, 3)]),
    ],
)
def test_entries_lie_where_the_docstring_says(options, expected) -> None:
    pair = {name: (1, value) for name, value in options.items()}
    if "padding" in options:
        pair["padding"] = (0, options["padding"])
    window = Window.build(2, **pair)
    grid = (1, 3)
    assert window.count(grid) == (1, len(expected))
    tokens = torch.nn.functional.pad(torch.arange(3.0).view(1, 1, 3), window.pads(0), value=-9)
    entries = torch.stack(list(window.entries(tokens, grid)), -1)[0, 0]
    inside = torch.tensor(expected)
    inside = torch.where((inside >= 0) & (inside < 3), inside, -9)
    assert torch.equal(entries, inside.float())
    assert torch.equal(window.crop(tokens, grid), torch.arange(3.0).view(1, 1, 3))
    assert Window.of(window.flat) == window


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "kernel_size=0 must be one or 2 integers of at least 1"),
        ({"size": (3, 3, 3)}, r"kernel_size=\(3, 3, 3\) must be one or 2 integers"),
        ({"size": 3, "dilation": 0}, "dilation=0 must be"),
        ({"size": 3, "padding": 3}, "padding=3 must be less than the extent of the window"),
        ({"size": 3, "padding": -1}, "padding=-1 must be one or 2 integers of at least 0"),
    ],
)
def test_refuses(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Window.build(2, **options)


def test_a_grid_below_one_window_is_refused() -> None:
    window = Window.build(2, 3, padding=0, dilation=2)
    assert window.count((5, 6)) == (1, 2)
    with pytest.raises(ValueError, match=r"grid=\(4, 6\) is smaller than one window"):
        window.count((4, 6))
