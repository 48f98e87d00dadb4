"""A result that is computed once for parameters that stay as they are."""

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class Remembered(Generic[Result]):
    """Keeps the last result of a function of some tensors until one of them changes.

    A change is seen by PyTorch's version counter, by another storage, type or device. Writing
    through ``tensor.data`` into the same storage is the one change that cannot be seen.
    """

    def __init__(self) -> None:
        self._state: Hashable = None
        self._result: Result | None = None

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
            self._state, self._result = None, None
            return compute()
        if any(tensor.is_inference() for tensor in tensors):  # they count no versions
            return compute()
        state = key, *((t.data_ptr(), t._version, t.dtype, t.device, t.shape) for t in tensors)
        if self._result is None or state != self._state:
            self._result, self._state = compute(), state
        return self._result
