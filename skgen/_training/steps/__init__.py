"""Ways to run a step: as it is written, compiled, or as one CUDA graph.

A step is the loss of a batch, its gradient, and Adam. On small networks most of its
time lies between operations. ``torch.compile`` makes one program of it, whose
elementwise operations run as a few loops; a CUDA graph launches all of it at once.
"""

from skgen._training.steps.captured import Captured
from skgen._training.steps.compiled import Compiled
from skgen._training.steps.eager import Eager, Problem
from skgen._training.steps.single import EXECUTIONS, Single

__all__ = ["EXECUTIONS", "Captured", "Compiled", "Eager", "Problem", "Single"]
