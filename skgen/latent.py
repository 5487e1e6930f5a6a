"""Ways through a continuous latent code: paths, traversals, directions.

Each function works on any fitted estimator whose code is continuous, ``VAE``,
``BetaVAE``, ``IWAE`` and ``GaussianDensity``, and on a ``GenerativePipeline`` or
``MixedDensity`` around one. Rows of a table with levels or dates are arrays of objects.
The others have nothing between their codes: a point between two centres, or
between two code vectors of a ``VQVAE``, has no probability under the model, and is none
that its decoder has met.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.utils import check_consistent_length, check_scalar, column_or_1d
from sklearn.utils.validation import check_is_fitted

Array = NDArray[Any]

# Vectors are parallel, or opposite, where the sine of their angle is below this.
SMALLEST_SINE = 1e-6


class Traversal(NamedTuple):
    """Rows that are decoded while one latent coordinate moves and the others stay."""

    latents: Array  # (l,) coordinates, one moved at a time
    values: Array  # (s,) what the coordinate is set to
    rows: Array  # (l, s, d) decoded means


class Manifold(NamedTuple):
    """Rows that are decoded over a grid of two latent coordinates."""

    latents: Array  # (2,) coordinates: along columns, and along rows of the grid
    values: Array  # (s,) what either is set to
    rows: Array  # (s, s, d) decoded means; ``rows[i, j]`` of values i, up, and j


def code_variances(estimator: Any) -> Array:
    """Measure how much each latent coordinate is used.

    Parameters
    ----------
    estimator : object
        Fitted estimator with a continuous code.

    Returns
    -------
    variances : ndarray of shape (n_components,)
        Variance of the coordinate's posterior mean over the training rows: near 1
        where the code tells rows apart, 0 where it is left unused.

    Raises
    ------
    ValueError
        If the code of the estimator is not continuous.

    See Also
    --------
    skgen.metrics.active_units : Counts the coordinates above a threshold.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import GaussianDensity
    >>> from skgen.latent import code_variances
    >>> model = GaussianDensity(2).fit(load_wine().data)
    >>> code_variances(model).round(2)
    array([1.  , 0.99])
    """
    check_is_fitted(estimator)
    variances = getattr(estimator, "_code_variances", None)
    if variances is None:
        raise ValueError(
            f"{_name_of(estimator)} has no continuous latent code: nothing lies "
            "between responsibilities, one-hot rows or tokens. Use VAE, BetaVAE, IWAE "
            "or GaussianDensity, or a GenerativePipeline or MixedDensity around one."
        )
    return np.asarray(variances)


def latent_order(estimator: Any) -> Array:
    """Order the latent coordinates by how much they are used.

    Parameters
    ----------
    estimator : object
        Fitted estimator with a continuous code.

    Returns
    -------
    order : ndarray of shape (n_components,)
        Indices of the coordinates, from the largest of ``code_variances`` on. Those
        of equal variance keep their order, which for ``GaussianDensity`` is that of
        ``explained_variance_``.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import GaussianDensity
    >>> from skgen.latent import latent_order
    >>> latent_order(GaussianDensity(3).fit(load_wine().data))
    array([0, 1, 2])
    """
    return np.argsort(-code_variances(estimator), kind="stable")


def interpolate(
    estimator: Any, a: Any, b: Any, n_steps: int = 9, *, path: str = "straight"
) -> Any:
    """Decode the codes on the way from one row to another.

    Parameters
    ----------
    estimator : object
        Fitted estimator with a continuous code.
    a, b : array-like of shape (n_features,) or (1, n_features)
        The rows at the ends; a line of a DataFrame, too.
    n_steps : int, default=9
        Number of decoded rows, both ends among them.
    path : {"straight", "spherical"}, default="straight"
        Line between the codes, or arc around the origin: codes of many coordinates
        lie near a sphere, whose inside a straight line crosses and an arc does not.

    Returns
    -------
    rows : ndarray of shape (n_steps, n_features)
        What ``inverse_transform`` gives: first the reconstruction of ``a``, last that
        of ``b``.

    Raises
    ------
    ValueError
        If the code of the estimator is not continuous, or there is no arc: codes that
        are opposite or zero.

    References
    ----------
    White, "Sampling generative networks", 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import GaussianDensity
    >>> from skgen.latent import interpolate
    >>> X = load_wine().data
    >>> model = GaussianDensity().fit(X)
    >>> interpolate(model, X[0], X[1], n_steps=3)[:, 0].round(3)  # a Gaussian is linear
    array([14.23 , 13.715, 13.2  ])
    """
    code_variances(estimator)
    if path not in PATHS:
        raise ValueError(
            f"The 'path' parameter of interpolate must be a str among {set(PATHS)}. "
            f"Got {path!r} instead."
        )
    check_scalar(n_steps, "n_steps", Integral, min_val=2)
    ends = [np.asarray(estimator.transform(_one_row(row)))[0] for row in (a, b)]
    steps = np.linspace(0, 1, n_steps)[:, None]
    first, last = (code.astype(np.float64) for code in ends)
    codes = PATHS[path](first, last, steps)
    return estimator.inverse_transform(codes.astype(ends[0].dtype))


def traverse(
    estimator: Any,
    latents: Sequence[int] | None = None,
    *,
    row: Any = None,
    n_steps: int = 9,
    span: float = 2.5,
) -> Traversal:
    """Decode codes in which one coordinate moves and the others stay.

    Parameters
    ----------
    estimator : object
        Fitted estimator with a continuous code.
    latents : sequence of int, default=None
        Coordinates to move; ``None`` is all, the most used first.
    row : array-like of shape (n_features,) or (1, n_features), default=None
        Row whose code gives the coordinates that stay; ``None`` is the centre of the
        prior, where all are 0, or the mean of the codes of an ``Autoencoder``.
    n_steps : int, default=9
        Number of values, equally spaced.
    span : float, default=2.5
        Values go from ``-span`` to ``span``, in standard deviations of the prior;
        of an ``Autoencoder``, of the codes of the training rows.

    Returns
    -------
    traversal : Traversal
        Named tuple of ``latents`` (l,), ``values`` (n_steps,) and the decoded
        ``rows`` (l, n_steps, n_features).

    Raises
    ------
    ValueError
        If the code of the estimator is not continuous, or has no such coordinate.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import GaussianDensity
    >>> from skgen.latent import traverse
    >>> traversal = traverse(GaussianDensity(2).fit(load_wine().data), n_steps=5)
    >>> traversal.values
    array([-2.5 , -1.25,  0.  ,  1.25,  2.5 ])
    >>> traversal.rows.shape
    (2, 5, 13)
    """
    chosen = _choose(estimator, latents)
    check_scalar(n_steps, "n_steps", Integral, min_val=2)
    check_scalar(span, "span", Real, min_val=0, include_boundaries="neither")
    values = np.linspace(-span, span, n_steps)
    codes = np.tile(_centre(estimator, row), (len(chosen), n_steps, 1))
    codes[np.arange(len(chosen)), :, chosen] = _places(estimator, chosen, values)
    return Traversal(chosen, values, _decode(estimator, codes))


def manifold(
    estimator: Any,
    latents: Sequence[int] | None = None,
    *,
    row: Any = None,
    n_steps: int = 15,
) -> Manifold:
    """Decode a grid of two latent coordinates, spaced equally in probability.

    Parameters
    ----------
    estimator : object
        Fitted estimator with a continuous code of two coordinates or more.
    latents : sequence of 2 ints, default=None
        Coordinates of the grid; ``None`` is the two most used.
    row : array-like of shape (n_features,) or (1, n_features), default=None
        Row whose code gives the other coordinates; ``None`` sets them to 0.
    n_steps : int, default=15
        Values of either coordinate: quantiles of the standard normal prior,
        times and about the spread of the codes of an ``Autoencoder``.

    Returns
    -------
    manifold : Manifold
        Named tuple of ``latents`` (2,), ``values`` (n_steps,) and the decoded
        ``rows`` (n_steps, n_steps, n_features); ``rows[i, j]`` has value ``j`` of the
        first coordinate and value ``i`` of the second.

    Raises
    ------
    ValueError
        If the code of the estimator is not continuous, or has no such coordinates.

    References
    ----------
    Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014, figure 4.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import GaussianDensity
    >>> from skgen.latent import manifold
    >>> manifold(GaussianDensity(2).fit(load_wine().data), n_steps=4).rows.shape
    (4, 4, 13)
    """
    chosen = choose_two(estimator, latents)
    check_scalar(n_steps, "n_steps", Integral, min_val=2)
    values = norm.ppf((np.arange(n_steps) + 0.5) / n_steps)
    codes = np.tile(_centre(estimator, row), (n_steps, n_steps, 1))
    across, along = _places(estimator, chosen, values)
    codes[:, :, chosen[1]], codes[:, :, chosen[0]] = np.meshgrid(
        along, across, indexing="ij"
    )
    return Manifold(chosen, values, _decode(estimator, codes))


def attribute_vector(estimator: Any, X: Any, y: ArrayLike) -> Array:
    """Find the direction in the code that adds an attribute.

    The mean code of the rows that have it, less that of those that have not: "smile".
    ``model.inverse_transform(model.transform(X) + t * vector)`` gives rows a part t of
    it, and takes it away where t is negative.

    Parameters
    ----------
    estimator : object
        Fitted estimator with a continuous code.
    X : array-like of shape (n_samples, n_features)
        Rows.
    y : array-like of shape (n_samples,)
        Which rows have the attribute: two distinct values, of which the larger says
        that they have (True, 1, the last in the alphabet).

    Returns
    -------
    vector : ndarray of shape (n_components,)
        Difference of the mean codes.

    Raises
    ------
    ValueError
        If the code of the estimator is not continuous, or ``y`` has not two values.

    References
    ----------
    Larsen et al., "Autoencoding beyond pixels using a learned similarity metric",
    ICML 2016, section 4.1.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import GaussianDensity
    >>> from skgen.latent import attribute_vector
    >>> X, y = load_wine(return_X_y=True)
    >>> model = GaussianDensity(2).fit(X)
    >>> attribute_vector(model, X, y == 0)[:1].round(2)  # along the first axis
    array([1.76])
    """
    code_variances(estimator)
    labels = column_or_1d(y)
    check_consistent_length(X, labels)
    values = np.unique(labels)
    if len(values) != 2:
        raise ValueError(
            f"y must have two distinct values, those of rows without and with the "
            f"attribute. Got {len(values)}; compare y with one of them: y == value."
        )
    codes = np.asarray(estimator.transform(X))
    means = [codes[labels == value].mean(axis=0) for value in values]
    found: Array = means[1] - means[0]
    return found


def choose_two(estimator: Any, latents: Sequence[int] | None) -> Array:
    """Return the two coordinates (2,) of a picture: those given, or the most used."""
    n_components = len(code_variances(estimator))
    if n_components < 2:
        raise ValueError(
            f"A plane needs two latent coordinates, and this {type(estimator).__name__}"
            f" has {n_components}. Fit it with n_components=2 or more."
        )
    chosen = _choose(estimator, latents)
    if latents is not None and (len(chosen) != 2 or chosen[0] == chosen[1]):
        raise ValueError(
            f"The 'latents' parameter must be two distinct ints. Got {latents!r}."
        )
    return chosen[:2]


def _name_of(estimator: Any) -> str:
    """Name of an estimator, and of the model inside where it has one."""
    name, inner = type(estimator).__name__, getattr(estimator, "estimator_", None)
    return name if inner is None else f"{name} with {type(inner).__name__}"


def _choose(estimator: Any, latents: Sequence[int] | None) -> Array:
    """Return coordinates that are there: those given, or all by their use."""
    order = latent_order(estimator)
    if latents is None:
        return order
    chosen = np.asarray(latents)
    if chosen.ndim != 1 or not np.isin(chosen, order).all():
        raise ValueError(
            f"The 'latents' parameter must be a sequence of ints in the range "
            f"[0, {len(order) - 1}]: columns of what transform gives. Got {latents!r} "
            "instead."
        )
    return chosen


def _places(estimator: Any, chosen: Array, values: Array) -> Array:
    """Return coordinates (l, s) at values (s,) in standard deviations of codes."""
    centre, scale = _moments(estimator)
    found: Array = centre[chosen, None] + scale[chosen, None] * values
    return found


def _moments(estimator: Any) -> tuple[Array, Array]:
    """Mean and standard deviation of codes (k,): 0 and 1, but for an autoencoder."""
    variances = code_variances(estimator)
    mean = getattr(estimator, "_code_mean", None)
    if mean is None:
        return np.zeros(len(variances)), np.ones(len(variances))
    return mean.astype(np.float64), np.sqrt(variances, dtype=np.float64)


def _centre(estimator: Any, row: Any) -> Array:
    """Return the code (k,) of a row, or that in the middle of all."""
    if row is None:
        return _moments(estimator)[0]
    code: Array = np.asarray(estimator.transform(_one_row(row)), dtype=np.float64)[0]
    return code


def _decode(estimator: Any, codes: Array) -> Array:
    """Decode codes (..., k) to rows (..., d)."""
    rows = np.asarray(estimator.inverse_transform(codes.reshape(-1, codes.shape[-1])))
    return rows.reshape(*codes.shape[:-1], -1)


def _one_row(row: Any) -> Any:
    """Return a row as a table of one row; names of features stay."""
    if hasattr(row, "to_frame"):  # a line of a pandas DataFrame
        row = row.to_frame().T.infer_objects()  # of all objects, else
    if not hasattr(row, "shape"):
        row = np.asarray(row)
    table = row if len(row.shape) == 2 else row[None]
    if len(table) != 1:
        raise ValueError(
            f"Expected one row, of shape (n_features,) or (1, n_features). Got an "
            f"array of shape {tuple(row.shape)}: choose a row, as X[0] or X[:1]."
        )
    return table


def _straight(a: Array, b: Array, t: Array) -> Array:
    """Line (s, k) between codes (k,), at steps t (s, 1) from 0 to 1."""
    found: Array = (1 - t) * a + t * b
    return found


def _spherical(a: Array, b: Array, t: Array) -> Array:
    """Arc (s, k) between codes (k,) (Shoemake 1985), at steps t (s, 1)."""
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    cosine = a @ b / lengths if lengths else -1.0
    angle = np.arccos(np.clip(cosine, -1, 1))
    sine = np.sin(angle)
    if sine < SMALLEST_SINE and cosine < 0:
        raise ValueError(
            "path='spherical' has no arc between codes that are opposite or zero. Use "
            "path='straight'."
        )
    if sine < SMALLEST_SINE:  # the arc's limit
        return _straight(a, b, t)
    arc: Array = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / sine
    return arc


PATHS = {"straight": _straight, "spherical": _spherical}
