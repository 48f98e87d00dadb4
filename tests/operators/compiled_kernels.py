"""Compiles fused kernels for a Hopper GPU, as they would be launched, where there is none.

In scripts, because Triton's interpreter, which the tests run in, replaces its compiler.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime.driver import driver

ROOT = Path(__file__).parents[2]
Judge = Callable[[CompiledKernel, tuple[Any, ...], dict[str, Any]], str | None]


class Hopper:
    """A driver without a GPU."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


class Compiled:
    """A kernel that is compiled instead of launched, and prints what is judged of its code."""

    def __init__(self, kernel, name: str, judge: Judge) -> None:
        self.kernel, self.name, self.judge = kernel, name, judge

    def __getitem__(self, programs):
        def launch(*arguments, **constants) -> None:
            compiled = self.kernel.warmup(*arguments, grid=programs, **constants)
            verdict = self.judge(compiled, arguments, constants)
            if verdict is not None:
                print(self.name, verdict)

        return launch


def compile_launches(fused: ModuleType, kernels: Sequence[str], judge: Judge) -> None:
    driver.set_active(Hopper())
    for name in kernels:
        setattr(fused, name, Compiled(getattr(fused, name), name, judge))


def run_compiled(tmp_path: Path, *arguments: str) -> str:
    """Return what Python prints, run without the interpreter where it can import the tests."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout
