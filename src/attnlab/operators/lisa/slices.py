"""The approximation ``split``: RPE r of a head meets the r-th slice of its channels only."""

import torch
from jaxtyping import Float
from torch import Tensor


def apart(
    scores: Float[Tensor, "batch heads queries rpes"],
    values: Float[Tensor, "batch heads keys value_dim"],
    composing: Float[Tensor, "heads rpes *table"],
) -> tuple[
    Float[Tensor, "batch rows queries 1"],
    Float[Tensor, "batch rows keys slice_dim"],
    Float[Tensor, "rows 1 *table"],
]:
    """Make a head of one RPE and its slice of every RPE of a head, those of one head in a row."""
    rpes = composing.shape[1]
    slices = torch.unflatten(values, -1, (rpes, -1)).movedim(-2, 2).flatten(1, 2)
    return (
        scores.movedim(-1, 2).flatten(1, 2).unsqueeze(-1),
        slices,
        composing.flatten(0, 1).unsqueeze(1),
    )


def joined(
    mixed: Float[Tensor, "batch rows queries slice_dim"], rpes: int
) -> Float[Tensor, "batch heads queries value_dim"]:
    """Put the slices back side by side."""
    return torch.unflatten(mixed, 1, (-1, rpes)).movedim(2, -2).flatten(-2)
