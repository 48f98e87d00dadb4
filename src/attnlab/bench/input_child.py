"""Measures contestants in a process of their own: ``python input_child.py FILE SETTINGS``.

Packages that cannot be imported beside each other run side by side this way. FILE has a function
``contestants(settings) -> {name: build}``. A `build` is run once and returns the call to measure,
which returns the number of items it went through, or anything JSON has. Names arrive on stdin, a
line each; answers leave on stdout, as JSON. Only the standard library is imported here, so any
environment will do.
"""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, TextIO

Call = Callable[[], Any]
Contestants = Mapping[str, Callable[[], Call]]


def load(path: str) -> ModuleType:
    """Import a file that is in no package of this environment."""
    spec = importlib.util.spec_from_file_location("contestants", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(call: Call) -> dict[str, Any]:
    """Run a call and return its value with the seconds it took: of the processor, and by the clock.

    The processor's are of this process alone, so a call must do its work without workers.
    """
    begun, clock = time.process_time(), time.perf_counter()
    value = call()
    return {
        "value": value,
        "cpu_s": time.process_time() - begun,
        "wall_s": time.perf_counter() - clock,
    }


def serve(contestants: Contestants, requests: TextIO, answers: TextIO) -> None:
    """Answer requests until there are no more."""
    print(json.dumps({"ready": list(contestants)}), file=answers, flush=True)
    built: dict[str, Call] = {}
    for line in requests:
        name = line.strip()
        try:
            if name not in built:
                built[name] = contestants[name]()
            answer = measure(built[name])
        except Exception as error:  # one contestant's failure is not the others'
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


def main(arguments: Sequence[str]) -> None:
    """Serve the contestants of a file."""
    path, text = arguments
    settings = json.loads(text)
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        if settings["core"] is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {settings["core"]})
        contestants = load(path).contestants(settings)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=answers, flush=True)
        return
    serve(contestants, sys.stdin, answers)


if __name__ == "__main__":
    main(sys.argv[1:])
