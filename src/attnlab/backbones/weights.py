"""Weights of a backbone from the checkpoint of a task."""

import pickle
from pathlib import Path

import torch
from torch import nn

PREFIX = "classifier.backbone."
"""Where tasks keep their backbone."""


def load_backbone(backbone: nn.Module, path: str) -> None:
    """Load what a checkpoint of this project holds of a backbone; the head is left out.

    Args:
        backbone: Network built as the one that was trained.
        path: Checkpoint of a task, as ``fit`` and ``import-qna`` write it. It is read as data:
            nothing in it is executed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such checkpoint, or of another network.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"weights={path!r} is not there; give an empty text where a checkpoint of the whole "
            "network is loaded anyway"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"weights={path!r} is not a checkpoint: {_first_line(error)}") from error
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        raise ValueError(f"weights={path!r} is not a checkpoint of a task: it has no state_dict")
    own = {name.removeprefix(PREFIX): v for name, v in state.items() if name.startswith(PREFIX)}
    expected = {name: tuple(value.shape) for name, value in backbone.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in own.items()}
    wrong = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"weights={path!r} is of another network than {type(backbone).__name__} as built here: "
            f"{len(wrong)} arrays differ, {name} for one is {found.get(name, 'missing')} there and "
            f"{expected.get(name, 'missing')} here"
        )
    backbone.load_state_dict(own)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
