"""Telling of the training of networks: curves, printed lines, warnings."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skgen._training.early_stopping import History

if TYPE_CHECKING:
    from skgen.models.neural import TrainedModel


def recorded(model: TrainedModel, history: History) -> dict[str, Any]:
    """Return the curves so far, in nats per row and in the units of the rows."""
    curves = {name: np.array(curve) for name, curve in history.curves.items()}
    terms = {
        name: [*model.loss_terms_.get(name, []), *curve.tolist()]
        for name, curve in in_units(model, curves).items()
    }
    log_scale = float(model.module_.standardizer.log_scale)
    held_out = [value + log_scale for value in history.held_out]
    best = getattr(model, "best_epoch_", 0)  # which files of 0.1 do not have
    if history.best_epoch >= 0:
        best = model.n_iter_ + history.best_epoch + 1
    return {
        "n_iter_": model.n_iter_ + history.n_iter,
        "best_epoch_": best,
        "loss_terms_": terms,
        "loss_curve_": terms.get("loss", []),
        "validation_curve_": [*model.validation_curve_, *held_out],
    }


def in_units(model: TrainedModel, terms: dict[str, Any]) -> dict[str, Any]:
    """Turn densities of standardised rows into densities of the rows."""
    log_scale = float(model.module_.standardizer.log_scale)
    shifts = {
        "loss": log_scale,
        "held-out": log_scale,
        "reconstruction": -log_scale,
    }
    return {name: value + shifts.get(name, 0.0) for name, value in terms.items()}


def print_epoch(
    model: TrainedModel, history: History, seconds: float, part: str = ""
) -> None:
    """Print the last epoch, in the units of the curves."""
    terms = {name: curve[-1] for name, curve in history.curves.items()}
    if history.held_out:
        terms["held-out"] = history.held_out[-1]
    if not part:
        terms = in_units(model, terms)
    values = ", ".join(f"{name} {value:.4f}" for name, value in terms.items())
    print(
        f"{type(model).__name__}{part}, epoch {history.n_iter} of {model.max_iter}: "
        f"{values}{model._loss_unit} ({seconds:.2f}s)"
    )


def warn_of_end(model: TrainedModel, history: History, part: str = "") -> None:
    """Warn of a run that did not converge, and say what to do."""
    name = f"{type(model).__name__}{part}"
    if history.status == "diverged":
        warnings.warn(
            f"{name}: the loss was not finite in epoch {history.n_iter}; the fit "
            f"stopped and went back to the weights of epoch "
            f"{history.best_epoch + 1} (0 is the start). Lower "
            f"learning_rate_init={model.learning_rate_init}, or scale X.",
            ConvergenceWarning,
            stacklevel=2,
        )
    elif history.status == "interrupted":
        model._warn_interrupted(history.n_iter, "set warm_start=True", part)
    elif history.status == "max_iter":
        warnings.warn(
            f"{name}: maximum iterations ({model.max_iter}) reached and the "
            "optimization hasn't converged yet. Increase max_iter, or raise tol.",
            ConvergenceWarning,
            stacklevel=2,
        )
