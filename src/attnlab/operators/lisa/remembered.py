"""A result that is computed once for parameters that stay as they are."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class Remembered(Generic[Result]):
    """Keeps the last result of a function of some tensors until one of them changes.

    A change is seen by PyTorch's version counter, by another storage, type or device. Writing
    through ``tensor.data`` into the same storage is the one change that cannot be seen. Copies, and
    what is pickled, remember nothing.
    """

    def __init__(self) -> None:
        # One attribute, set at once: threads that share a layer never see halves of two results.
        self._last: tuple[Hashable, list[Tensor], Result] | None = None

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        """Copy and pickle without the result."""
        return type(self), ()

    def get(
        self,
        key: Hashable,
        tensors: Sequence[Tensor],
        compute: Callable[[], Result],
        *,
        changing: bool,
    ) -> Result:
        """Return `compute()`, or what it returned for the same `key` and unchanged `tensors`.

        Args:
            key: What the result depends on beside the tensors.
            tensors: What it is a function of.
            compute: The function.
            changing: The tensors are being learnt: forget the last result, keep none.
        """
        if torch.compiler.is_compiling():  # what is traced once must not depend on what was before
            return compute()
        if changing:
            self._last = None
            return compute()
        if any(tensor.is_inference() for tensor in tensors):  # they count no versions
            return compute()
        state = key, *((t.data_ptr(), t._version, t.dtype, t.device, t.shape) for t in tensors)
        last = self._last
        if last is not None and last[0] == state:
            return last[2]
        result = compute()
        # Their storages stay while the result does: no new tensor can come to lie in their place.
        self._last = state, [tensor.detach() for tensor in tensors], result
        return result
