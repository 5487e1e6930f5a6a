"""A step as a CUDA graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skgen._training.batches import Batch
from skgen._training.contracts import Terms
from skgen._training.steps.eager import Kind, Replaced, Step, scalar
from skgen._training.steps.structure import training_state

# Steps before one is captured, in which kernels choose their ways.
WARM_UPS = 3


def _has_graphs(device: torch.device) -> bool:
    return device.type == "cuda"


class Captured(Replaced):
    """A step as a CUDA graph, which reads and writes fixed tensors.

    Python and the launches of kernels are left out of it, on small networks nearly all
    of a step.
    """

    way = "captured"

    def make(self, batch: Batch, annealing: float) -> Step:
        """Capture a step; the steps that warm up for it are taken back."""
        device = batch.x.device
        if not _has_graphs(device):
            raise ValueError(f"There are no CUDA graphs on device {str(device)!r}.")
        optimizer = self.problem.optimizer
        scalars = [scalar(number, device) for number in (annealing, optimizer.factor)]
        fixed = Batch._make(None if t is None else t.clone() for t in batch)
        changed = [*training_state(self.problem.module).values(), *optimizer.tensors]
        before = [t.detach().clone() for t in changed]
        factor, optimizer.factor = optimizer.factor, scalars[1]
        try:
            self._warm_up(fixed, scalars[0])
            graph = torch.cuda.CUDAGraph()
            optimizer.forget_gradients()  # the graph has its own
            # Another thread may be reading rows ahead.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                terms = self.eager(fixed, scalars[0])
        finally:
            optimizer.factor = factor
            with torch.no_grad():
                for tensor, value in zip(changed, before):
                    tensor.copy_(value)
        kind = Kind.of(terms)

        @torch.no_grad()
        def step(batch: Batch, annealing: Any) -> Terms:
            for tensor, value in zip(fixed, batch):
                if tensor is not None and value is not None:
                    tensor.copy_(value)
            for tensor, number in zip(scalars, (annealing, optimizer.factor)):
                tensor.fill_(number)
            graph.replay()
            return kind.of_values([value.clone() for value in kind.values(terms)])

        return step

    def _warm_up(self, batch: Batch, annealing: Tensor) -> None:
        """Take some steps, on a stream of their own as captures want it."""
        present = torch.cuda.current_stream(batch.x.device)
        stream = torch.cuda.Stream(batch.x.device)
        stream.wait_stream(present)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.eager(batch, annealing)
        present.wait_stream(stream)
