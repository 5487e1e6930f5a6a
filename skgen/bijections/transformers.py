"""Log-slopes of scikit-learn's scalers, power and quantile maps; PCA."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from skgen._utils.tensors import LOG_2PI
from skgen.bijections.generic import Array, cells, log_det, log_slopes

# Closer to 0 or 1 than this, QuantileTransformer clips what becomes normal.
CLIPPED = 1e-7


@log_slopes.register(StandardScaler)
@log_slopes.register(RobustScaler)
def _divided(step: Any, X: Any) -> Array:
    return -_log(step.scale_, step)


@log_slopes.register(MaxAbsScaler)
def _max_abs(step: MaxAbsScaler, X: Any) -> Any:
    inside = not step.clip or _within(step, X, -step.max_abs_, step.max_abs_)
    return np.where(inside, -_log(step.scale_, step), -np.inf)


@log_slopes.register(MinMaxScaler)
def _min_max(step: MinMaxScaler, X: Any) -> Any:
    inside = not step.clip or _within(step, X, step.data_min_, step.data_max_)
    return np.where(inside, _log(step.scale_, step), -np.inf)


@log_slopes.register(PowerTransformer)
def _power(step: PowerTransformer, X: Any) -> Array:
    lambdas = np.asarray(step.lambdas_, dtype=np.float64)
    slopes = _POWER_SLOPES[step.method](cells(step, X), lambdas)
    # The scaler has no public name.
    scale = step._scaler.scale_ if step.standardize else None
    found: Array = slopes - _log(scale, step)
    return found


def _yeo_johnson(x: Array, lambdas: Array) -> Array:
    """Log-derivative: (1 + x)^(l - 1) above zero, (1 - x)^(1 - l) below."""
    return (lambdas - 1) * np.sign(x) * np.log1p(np.abs(x))


def _box_cox(x: Array, lambdas: Array) -> Array:
    """Log-derivative x^(l - 1) of positive cells."""
    positive = x > 0
    return np.where(positive, (lambdas - 1) * np.log(np.where(positive, x, 1)), -np.inf)


_POWER_SLOPES = {"yeo-johnson": _yeo_johnson, "box-cox": _box_cox}


@log_slopes.register(QuantileTransformer)
def _quantile(step: QuantileTransformer, X: Any) -> Array:
    to_normal = step.output_distribution == "normal"
    slope = _log_slope_to_normal if to_normal else _log_slope_to_uniform
    columns = zip(cells(step, X).T, np.asarray(step.quantiles_).T, strict=True)
    slopes = [slope(x, quantiles, step.references_) for x, quantiles in columns]
    found: Array = np.stack(slopes, axis=1)
    return found


@log_det.register(StandardScaler)
@log_det.register(RobustScaler)
@log_det.register(MaxAbsScaler)
@log_det.register(MinMaxScaler)
@log_det.register(PowerTransformer)
@log_det.register(QuantileTransformer)
def _of_columns(step: Any, X: Any) -> Any:
    return log_slopes(step, X).sum(-1)


def _log_slope_to_uniform(x: Array, quantiles: Array, references: Array) -> Array:
    """Log-derivative (n,) of a piecewise linear distribution function.

    -inf beyond the ends, where it is flat, and at a quantile that repeats: there it
    jumps.
    """
    knots, first, count = np.unique(quantiles, return_index=True, return_counts=True)
    rises = references[first[1:]] - references[(first + count - 1)[:-1]]
    slopes = np.concatenate([[0.0], rises / np.diff(knots), [0.0]])
    # A knot belongs to the piece above it, the last one to the piece below.
    pieces = np.where(
        x < knots[-1], np.searchsorted(knots, x, "right"), np.searchsorted(knots, x)
    )
    jumps = np.isin(x, knots[count > 1])
    with np.errstate(divide="ignore"):
        return np.log(np.where(jumps, 0.0, slopes[pieces]))


def _log_slope_to_normal(x: Array, quantiles: Array, references: Array) -> Array:
    """Log-derivative (n,) of its normal quantile: z' = u' / phi(z)."""
    u = np.interp(x, quantiles, references)
    margin = np.minimum(x - quantiles[0], quantiles[-1] - x)
    clipped = (margin < CLIPPED) | (u < CLIPPED) | (u > 1 - CLIPPED)
    z = ndtri(np.clip(u, CLIPPED, 1 - CLIPPED))
    slope = _log_slope_to_uniform(x, quantiles, references)
    return np.where(clipped, -np.inf, slope + 0.5 * (z**2 + LOG_2PI))


@log_det.register(PCA)
@log_det.register(IncrementalPCA)
def _rotated(step: Any, X: Any) -> float:
    (k, d), variances = step.components_.shape, step.explained_variance_
    if k < d:
        raise ValueError(
            f"{type(step).__name__} keeps {k} of {d} components, and a projection has "
            "no determinant. Keep them all (n_components=None, on as many rows), or "
            f"let the last step reduce: GaussianDensity(n_components={k}) is "
            "probabilistic PCA."
        )
    if not step.whiten:
        return 0.0
    if variances.min() <= d * np.finfo(variances.dtype).eps * variances.max():
        raise ValueError(
            f"{type(step).__name__}(whiten=True) was fitted on columns that depend on "
            "each other linearly, and has no inverse. Take such columns out, or use "
            "whiten=False."
        )
    return -0.5 * float(np.log(variances, dtype=np.float64).sum())


def _log(scale: Array | None, step: Any) -> Array:
    """Return logs of scales (d,); of None, which scales nothing, zeros."""
    if scale is None:
        return np.zeros(step.n_features_in_)
    found: Array = np.log(scale, dtype=np.float64)
    return found


def _within(step: Any, X: Any, low: Array, high: Array) -> NDArray[np.bool_]:
    """Which cells (n, d) lie within bounds (d,) of their columns."""
    x = cells(step, X)
    return np.asarray((low <= x) & (x <= high))
