"""Parameter groups: which parameters weight decay may touch."""

from collections.abc import Callable
from typing import Any

from torch import nn

Groups = list[dict[str, Any]]
GroupsOf = Callable[[nn.Module], Groups]


def parameter_groups(module: nn.Module) -> Groups:
    """Split trainable parameters into those with the optimiser's weight decay and those spared.

    Spared are all one-dimensional parameters (norms, biases, temperatures) and those a submodule
    lists in its class attribute ``no_weight_decay`` (RPE tables, learned queries, attention
    scales, position embeddings).

    Returns:
        Two groups for a `torch.optim.Optimizer`: the first leaves ``weight_decay`` to the
        optimiser's default, the second sets it to 0. A parameter shared between modules is
        listed once; an empty group is left out.
    """
    spared = {
        id(parameter)
        for child in module.modules()
        for name, parameter in child.named_parameters(recurse=False)
        if parameter.ndim <= 1 or name in getattr(child, "no_weight_decay", ())
    }
    return _split(module, spared)


def official_qna_groups(module: nn.Module) -> Groups:
    """Spare what the official QnA code spares, and nothing else.

    Those are the tables over positions and the attention scales, by their last names; norms, biases
    and the learned queries are decayed.

    Returns:
        See `parameter_groups`.
    """
    spared = {
        id(parameter)
        for name, parameter in module.named_parameters()
        if name.rpartition(".")[-1] in ("scale", "position_bias", "bias_table", "position")
    }
    return _split(module, spared)


def _split(module: nn.Module, spared: set[int]) -> Groups:
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trainable if id(parameter) not in spared]
    rest = [parameter for parameter in trainable if id(parameter) in spared]
    groups: Groups = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
