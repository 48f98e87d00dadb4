"""Building modules whose parameters are overwritten at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_RANDOM = (
    *(Tensor.uniform_, Tensor.normal_),
    *(nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_),
)


class NoRandomInit(TorchFunctionMode):
    """Puts zeros in place of random initial values, whose drawing costs more than all the rest.

    Zeros and not just any memory: truncated distributions may draw until all values lie within.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `func` unless it draws random numbers into a tensor."""
        arguments = dict(kwargs or {})
        if func not in _RANDOM:
            return func(*args, **arguments)
        tensor: Tensor = args[0] if args else arguments["tensor"]
        tensor.data.zero_()
        return tensor
