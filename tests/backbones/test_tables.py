"""Resizing tables: the official code's numbers, and what any resizing must keep."""

from pathlib import Path

import numpy as np
import pytest
import torch

from attnlab.backbones.tables import resize_table

STORED = Path(__file__).parents[1] / "golden" / "qna_tables.npz"


@pytest.mark.parametrize("case", ["7_to_12", "13_to_23", "11_to_5"])
def test_is_what_official_fine_tuning_starts_from(case) -> None:
    arrays = np.load(STORED)
    expected = torch.from_numpy(arrays[f"{case}/resized"])
    table = torch.from_numpy(arrays[f"{case}/table"])
    resized = resize_table(table, tuple(expected.shape[:2]))
    torch.testing.assert_close(resized, expected, rtol=0, atol=2e-6)


def test_its_own_grid_returns_the_table_itself() -> None:
    table = torch.randn(5, 7, 3)
    assert resize_table(table, (5, 7)) is table


def test_samples_a_quadratic_at_the_centres_of_the_new_cells() -> None:
    def quadratic(rows: int, columns: int) -> torch.Tensor:
        y = ((2 * torch.arange(rows) + 1) / rows - 1).double()[:, None]
        x = ((2 * torch.arange(columns) + 1) / columns - 1).double()[None]
        return torch.stack([y**2 - x * y + 0.5, 3 * x**2 + y], dim=-1)

    resized = resize_table(quadratic(11, 17), (13, 29))
    inner = (slice(3, -3), slice(5, -5))  # further out the border is felt
    torch.testing.assert_close(resized[inner], quadratic(13, 29)[inner], rtol=0, atol=1e-6)


@pytest.mark.parametrize("grid", [(3, 2), (13, 1), (23, 29)])
def test_keeps_constants_and_columns_apart(grid) -> None:
    table = torch.zeros(7, 11, 3)
    table[..., 1] = 2.0
    resized = resize_table(table, grid)
    assert resized.shape == (*grid, 3)
    torch.testing.assert_close(resized[..., 1], torch.full(grid, 2.0))
    assert not resized[..., [0, 2]].any()
