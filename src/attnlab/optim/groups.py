"""Parameter groups: which parameters weight decay may touch."""

from typing import Any

from torch import nn


def parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
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
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trainable if id(parameter) not in spared]
    rest = [parameter for parameter in trainable if id(parameter) in spared]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
