"""Densities inside other estimators: any with ``fit`` and ``score_samples``."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing


def check_is_density(model: Any, owner: str, *also: str) -> None:
    """Raise a TypeError unless an estimator scores rows, and has some other methods."""
    lacking = [
        name
        for name in ("fit", "score_samples", *also)
        if isinstance(model, type) or not hasattr(model, name)
    ]
    if lacking:
        raise TypeError(
            f"The 'estimator' parameter of {owner} must be an instance of a density, "
            f"such as skgen.GaussianMixtureEM(). Got {model!r}, which has no "
            f"{' and no '.join(lacking)} of its own."
        )


def fitted_on(
    model: Any, X: Any, weight: NDArray[Any] | None, index: NDArray[Any]
) -> Any:
    """Return a clone of a density, fitted on some of the rows and their weights."""
    given = {} if weight is None else {"sample_weight": weight[index]}
    return clone(model).fit(_safe_indexing(X, index), **given)
