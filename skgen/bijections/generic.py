"""Two generic functions of a fitted transformer: its log-determinant, its inverse."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

Array = NDArray[Any]


@singledispatch
def log_det(step: Any, X: Any) -> Any:
    """Return log abs det dt/dx of a fitted transformer t at each row, in nats.

    A generic function of the class of ``step``. Register a class of yours, or one of
    scikit-learn's that has no case here, before a pipeline scores with it.

    Parameters
    ----------
    step : object
        A fitted transformer.
    X : array or DataFrame of shape (n_samples, n_features)
        Rows, as ``step.transform`` gets them.

    Returns
    -------
    log_det : float or ndarray of shape (n_samples,)
        One number for all rows, or one per row; ``-inf`` for a row at which the map is
        not invertible.

    Raises
    ------
    ValueError
        If no log-determinant is known.

    References
    ----------
    Papamakarios et al., "Normalizing flows for probabilistic modeling and inference",
    Journal of Machine Learning Research 22, 2021, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import FastICA
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skgen.pipeline import log_det
    >>> X = np.array([[0.0, 1.0], [4.0, 3.0]])
    >>> bool(np.isclose(log_det(StandardScaler().fit(X), X), -np.log(2 * 1)))
    True
    >>> @log_det.register(FastICA)
    ... def _(step, X):
    ...     return np.linalg.slogdet(step.components_).logabsdet
    """
    name = type(step).__name__
    raise ValueError(
        f"{name} has no known log-determinant, so that no score in the units of X "
        "follows from what comes after it. Take the step out, or register its "
        f"log-determinant with skgen.pipeline.log_det.register({name})."
    )


@singledispatch
def log_slopes(step: Any, X: Any) -> Array:
    """Return log abs dt/dx of a fitted transformer of columns by themselves, in nats.

    A generic function of the class of ``step``, as `log_det`, which is the sum.

    Parameters
    ----------
    step : object
        A fitted transformer that maps each column alone, and keeps its place.
    X : array or DataFrame of shape (n_samples, n_features)
        Rows, as ``step.transform`` gets them.

    Returns
    -------
    log_slopes : ndarray of shape (n_features,) or (n_samples, n_features)
        One number for each column, or one per cell; ``-inf`` where the map is not
        invertible.

    Raises
    ------
    ValueError
        If it is not known to be a map of columns.
    """
    raise ValueError(
        f"{type(step).__name__} is not known to map columns by themselves, which a "
        "score given some of them needs. Leave it out, or use scikit-learn's scalers, "
        "power and quantile transformers, or an InvertibleFunction whose log_det has "
        "one number per cell."
    )


@singledispatch
def inverse(step: Any, Z: Any) -> Any:
    """Map rows back through a fitted transformer.

    A generic function like :func:`log_det`, for classes that have no
    ``inverse_transform`` of their own.

    Parameters
    ----------
    step : object
        A fitted transformer.
    Z : array of shape (n_samples, n_features_out)
        Rows, as ``step.transform`` gives them.

    Returns
    -------
    X : array of shape (n_samples, n_features)
        Rows, as ``step.transform`` takes them.

    Raises
    ------
    ValueError
        If there is no way back.
    """
    if hasattr(step, "inverse_transform"):
        return step.inverse_transform(Z)
    name = type(step).__name__
    raise ValueError(
        f"{name} has no inverse_transform, and rows do not come back through it. Take "
        f"the step out, or register its inverse with skgen.pipeline.inverse.register("
        f"{name})."
    )


def cells(step: Any, X: Any) -> Array:
    """Finite rows in float64, after a check that they have the columns of the fit."""
    validate_data(step, X, reset=False, skip_check_array=True)
    found: Array = check_array(X, dtype=np.float64, input_name="X")
    return found
