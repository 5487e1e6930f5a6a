"""How a step of a descent runs: as it is written, compiled, or as one CUDA graph.

A step is the loss of a batch, its gradient, and Adam. On small networks most of its
time lies between operations. ``torch.compile`` makes one program of it, whose
elementwise operations run as a few loops; a CUDA graph launches all of it at once.
"""

from collections.abc import Callable
from typing import Any

from skgen._training.steps.captured import Captured
from skgen._training.steps.compiled import Compiled
from skgen._training.steps.eager import Eager, Problem

EXECUTIONS: dict[str, Callable[[Problem], Any]] = {
    "eager": Eager,
    "compiled": Compiled,
    "captured": Captured,
}

__all__ = ["EXECUTIONS", "Captured", "Compiled", "Eager", "Problem"]
