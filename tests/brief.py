"""Fits of a few epochs and scores of a few draws, for tests that ask whether code runs.

Not what it learns.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch import Tensor

from skgen._training.early_stopping import EarlyStopping
from skgen.models.evaluation import BoundedModel

N_EPOCHS, N_DRAWS = 5, 8


@contextmanager
def brief_fits() -> Iterator[None]:
    """Call a fit of so many epochs converged, and score rows by so many draws."""
    see, noise_of = EarlyStopping.see, BoundedModel.noise_of

    def see_few(stopping: Any, *args: Any) -> Any:
        is_best = see(stopping, *args)
        history = stopping.history
        if history.n_iter >= N_EPOCHS and history.status == "max_iter":
            history.status = "converged"
        return is_best

    def few_draws(module: Any, x: Tensor, n_blocks: int = 1) -> Tensor:
        return noise_of(module, x, n_blocks)[:N_DRAWS]

    with (
        patch.object(EarlyStopping, "see", see_few),
        patch.object(BoundedModel, "noise_of", few_draws),
    ):
        yield
