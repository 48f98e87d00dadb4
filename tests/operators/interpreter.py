"""Triton's interpreter, in a third of its time."""

import numpy as np
import pytest
import triton.language as tl
from triton.runtime import interpreter


def speed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the interpreter's own checks, and replace Triton's language once.

    It would replace it by NumPy's anew at each call of a helper.
    """
    options = interpreter.InterpreterOptions(sanitize_overflow=False)
    monkeypatch.setattr(interpreter.interpreter_builder, "options", options)
    replace = interpreter._patch_lang

    def replace_once(function):
        seen = [item for item in function.__globals__.values() if item is tl or item is tl.core]
        return replace(function) if any(tl.core.is_builtin(item.load) for item in seen) else None

    monkeypatch.setattr(interpreter, "_patch_lang", replace_once)


def multiply_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let matrix products read bfloat16; the interpreter takes its bits for integers."""
    builder = interpreter.InterpreterBuilder
    multiply = builder.create_dot

    def wide(handle: interpreter.TensorHandle) -> interpreter.TensorHandle:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        bits = handle.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    def create_dot(self, a, b, *rest):
        return multiply(self, wide(a), wide(b), *rest)

    monkeypatch.setattr(builder, "create_dot", create_dot)
