"""Functions as transformers: the identity, and maps of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from skgen._utils.estimators import Estimator
from skgen._utils.parameters import boolean, check_parameters, factory
from skgen.bijections.generic import Array, cells, inverse, log_det, log_slopes
from skgen.models.base import FLOATS

# Rows that a function and its inverse are tried on.
TRIED_ROWS = 100


@log_det.register(FunctionTransformer)
def _function(step: FunctionTransformer, X: Any) -> float:
    if step.func is None and step.inverse_func is None:
        return 0.0
    raise ValueError(
        f"FunctionTransformer with func={step.func!r} has no known log-determinant. "
        "Use skgen.pipeline.InvertibleFunction(func, inverse_func, log_det)."
    )


@inverse.register(FunctionTransformer)
def _function_back(step: FunctionTransformer, Z: Any) -> Any:
    if step.func is not None and step.inverse_func is None:
        raise ValueError(
            f"FunctionTransformer with func={step.func!r} has inverse_func=None, and "
            "rows do not come back through it. Give inverse_func."
        )
    try:
        return step.inverse_transform(Z)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        names = getattr(step, "feature_names_in_", None)
        if hasattr(Z, "columns") or names is None:
            raise
        raise ValueError(
            f"FunctionTransformer with inverse_func={step.inverse_func!r} was fitted "
            f"on a DataFrame, and makes {Z.shape[1]} columns of "
            f"{len(names)}. On the way back their names are not known, and an "
            f"array gave {error!r}. Give feature_names_out=, a function of the "
            "transformer and the names that it is given."
        ) from error


class InvertibleFunction(OneToOneFeatureMixin, TransformerMixin, Estimator):
    """A transformer from a function, its inverse and its log-determinant.

    scikit-learn's ``FunctionTransformer`` with what a density needs besides.

    Parameters
    ----------
    func : callable
        Maps rows (n, d) to rows (n, d).
    inverse_func : callable
        Maps them back.
    log_det : callable
        Maps rows (n, d) to the log of the absolute determinant of the Jacobian of
        ``func`` at each row, (n,), in nats. A function that acts cell by cell may give
        the log of its absolute derivative at each cell, (n, d): columns are summed.
        Rows at which the value is not finite count as outside its range.
    check_inverse : bool, default=True
        Whether ``fit`` tries that ``inverse_func`` undoes ``func``, on 100 rows.

    Attributes
    ----------
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit, when they are all strings.

    See Also
    --------
    log_det : Registers the log-determinant of a class of transformers.

    Notes
    -----
    Functions that shall be pickled are defined in a module, and are no lambdas.

    References
    ----------
    Papamakarios et al., "Normalizing flows for probabilistic modeling and inference",
    Journal of Machine Learning Research 22, 2021, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import GaussianDensity
    >>> from skgen.pipeline import InvertibleFunction, make_generative_pipeline
    >>> X = np.random.RandomState(0).lognormal(size=(500, 1))
    >>> log = InvertibleFunction(np.log, np.exp, lambda X: -np.log(X))
    >>> model = make_generative_pipeline(log, GaussianDensity()).fit(X)
    >>> round(model.score(X), 2), round(GaussianDensity().fit(X).score(X), 2)
    (-1.39, -2.05)
    """

    def __init__(
        self,
        func: Callable[[Array], Array],
        inverse_func: Callable[[Array], Array],
        log_det: Callable[[Array], Array],
        *,
        check_inverse: bool = True,
    ) -> None:
        self.func = func
        self.inverse_func = inverse_func
        self.log_det = log_det
        self.check_inverse = check_inverse

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn the columns, and try the inverse.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored, present for API consistency by convention.

        Returns
        -------
        self : object
            The transformer.

        Raises
        ------
        ValueError
            If a parameter is no callable, or ``inverse_func`` does not undo ``func``.
        """
        functions = dict.fromkeys(("func", "inverse_func", "log_det"), factory)
        check_parameters(self, {**functions, "check_inverse": boolean})
        rows = validate_data(self, X, dtype=FLOATS)
        if self.check_inverse:
            self._try_inverse(rows[:: max(1, len(rows) // TRIED_ROWS)])
        return self

    def _try_inverse(self, X: Array) -> None:
        gap = np.abs(self.inverse_func(self.func(X)) - X)
        # NaN is no small gap.
        if not (gap <= np.finfo(X.dtype).eps ** 0.5 * (1 + np.abs(X))).all():
            raise ValueError(
                f"inverse_func={self.inverse_func!r} does not undo func={self.func!r}: "
                f"rows of X come back with an error of {gap.max():.3g}. Correct one "
                "of them, or use check_inverse=False."
            )

    def transform(self, X: ArrayLike) -> Array:
        """Apply the function.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_features)
            ``func(X)``.
        """
        check_is_fitted(self)
        return self.func(validate_data(self, X, dtype=FLOATS, reset=False))

    def inverse_transform(self, X: ArrayLike) -> Array:
        """Apply the inverse.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, as ``transform`` gives them.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            ``inverse_func(X)``.
        """
        check_is_fitted(self)
        return self.inverse_func(check_array(X, dtype=FLOATS))


def _values(step: InvertibleFunction, X: Any) -> Array:
    """Return what ``log_det`` gives, of rows (n,) or of cells (n, d)."""
    with np.errstate(invalid="ignore", divide="ignore"):  # outside its range
        return np.asarray(step.log_det(cells(step, X)), dtype=np.float64)


@log_det.register(InvertibleFunction)
def _invertible(step: InvertibleFunction, X: Any) -> Array:
    values = _values(step, X)
    return values.sum(axis=1) if values.ndim == 2 else values


@log_slopes.register(InvertibleFunction)
def _of_cells(step: InvertibleFunction, X: Any) -> Array:
    values = _values(step, X)
    if values.ndim != 2:
        raise ValueError(
            "The log_det of an InvertibleFunction gives one number per row. A score "
            "given some columns needs one per cell: the log of the absolute "
            "derivative there, (n_samples, n_features)."
        )
    return values


@log_slopes.register(FunctionTransformer)
def _no_function(step: FunctionTransformer, X: Any) -> Array:
    return np.full(np.shape(X)[1], log_det(step, X))
