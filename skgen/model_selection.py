"""Searches that train their candidates together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sklearn.utils import check_random_state

from skgen.base import NO_CALLBACKS
from skgen.engine import History, Steps, Training
from skgen.neural import NeuralModel
from skgen.stacking import stacks_as, train_together


class Fit:
    """A fit that is under way, among others.

    Parameters
    ----------
    estimator : NeuralModel
        What is fitted.
    X : array-like of shape (n_samples, n_features)
        Rows.
    sample_weight : array-like of shape (n_samples,), default=None
        Their weights.
    """

    def __init__(self, estimator: NeuralModel, X: Any, sample_weight: Any) -> None:
        self.estimator = estimator
        self.training: Training | None = None  # what it waits for
        self.error: Exception | None = None
        self.seconds = 0.0
        self._steps = self._fit(X, sample_weight)
        self.send(None)

    def _fit(self, X: Any, sample_weight: Any) -> Steps:
        model = self.estimator
        _, x, weight = model._prepare(X, sample_weight, reset=True)
        rng = check_random_state(model.random_state)
        yield from model._fit(x, weight, rng, NO_CALLBACKS)

    def send(self, history: History | None) -> None:
        """Go on until the next training, the end, or an error."""
        start, self.training = time.perf_counter(), None
        try:
            self.training = self._steps.send(history)  # type: ignore[arg-type]
        except StopIteration:
            pass
        except Exception as error:
            self.error = error
        self.seconds += time.perf_counter() - start


def fit_together(fits: Sequence[Fit]) -> None:
    """Bring fits to their ends, training as one what can be."""
    while waiting := [fit for fit in fits if fit.training is not None]:
        kinds = [stacks_as(fit.training) for fit in waiting]  # type: ignore[arg-type]
        for kind in dict.fromkeys(kinds):
            group = [fit for fit, each in zip(waiting, kinds) if each == kind]
            if kind is None or len(group) == 1:
                _train_each(group)
            else:
                _train_group(group)


def _train_each(fits: Sequence[Fit]) -> None:
    for fit in fits:
        assert fit.training is not None
        start = time.perf_counter()
        history = fit.training.run()
        fit.seconds += time.perf_counter() - start
        fit.send(history)


def _train_group(fits: Sequence[Fit]) -> None:
    start = time.perf_counter()
    histories = train_together([fit.training for fit in fits])  # type: ignore[misc]
    each = (time.perf_counter() - start) / len(fits)
    for fit, history in zip(fits, histories):
        fit.seconds += each
        fit.send(history)
