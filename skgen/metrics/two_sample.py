"""Whether two sets of rows, data and samples, have one law.

Both statistics are sums of a function of the distance over pairs of rows. They are
computed for many divisions of the rows at once, by chunks of the matrix of distances.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import pdist
from sklearn.metrics import pairwise_distances_chunked
from sklearn.metrics.pairwise import check_pairwise_arrays
from sklearn.utils import check_scalar, resample

from skgen._utils.parameters import options
from skgen._utils.tensors import fresh_random_state, without_mask

Array = NDArray[Any]

# Rows that the median of distances is taken over: half a million pairs.
MEDIAN_ROWS = 1000


class TwoSampleTest(NamedTuple):
    """Result of a test of two sets of rows."""

    statistic: float
    p_value: float


def energy_distance(X: ArrayLike, Y: ArrayLike) -> float:
    """Measure how far apart the laws of two sets of rows are, by distances alone.

    ``2 E|x - y| - E|x - x'| - E|y - y'|`` over all pairs of rows, a row with itself
    among them (a V-statistic).

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
        Rows, of data for instance.
    Y : array-like of shape (n_samples_Y, n_features)
        Rows, of samples for instance.

    Returns
    -------
    distance : float
        In the units of the rows. Not negative but for rounding, and 0 only for sets
        with the same rows at the same frequencies. For one column, the square of
        ``scipy.stats.energy_distance``.

    See Also
    --------
    kernel_mmd : Without a bias.
    two_sample_test : Whether the distance is more than chance.

    Notes
    -----
    Under equal laws its mean is ``(1/n_samples_X + 1/n_samples_Y) E|x - x'|``, so
    compare models by samples of one size. Columns in large units weigh more: scale
    them alike first. Distances come in chunks of scikit-learn's ``working_memory``.

    References
    ----------
    Székely & Rizzo, "Energy statistics: a class of statistics based on distances",
    Journal of Statistical Planning and Inference 143, 2013.

    Examples
    --------
    >>> from skgen.metrics import energy_distance
    >>> energy_distance([[0.0, 0.0]], [[3.0, 4.0]])
    10.0
    """
    return float(_energies(*_pool(X, Y))[0])


def kernel_mmd(X: ArrayLike, Y: ArrayLike, gamma: float | None = None) -> float:
    """Measure how far apart the laws of two sets of rows are, by a Gaussian kernel.

    The squared maximum mean discrepancy ``E k(x, x') + E k(y, y') - 2 E k(x, y)``
    with ``k(x, y) = exp(-gamma |x - y|^2)``, over pairs of different rows (unbiased).

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
        Rows, of data for instance; two or more.
    Y : array-like of shape (n_samples_Y, n_features)
        Rows, of samples for instance; two or more.
    gamma : float, default=None
        Coefficient of the kernel. ``None`` is ``1 / (2 m^2)``, with m the median of
        the distances, 0 left out, among all rows; above 1000 rows, among 1000 of
        them. To compare models, fix it.

    Returns
    -------
    squared_mmd : float
        At most 2. Its mean is 0 under equal laws, so that it may be negative.

    See Also
    --------
    energy_distance : Without a width to choose.
    two_sample_test : Whether the discrepancy is more than chance.

    Notes
    -----
    Kernels come in chunks of scikit-learn's ``working_memory``.

    References
    ----------
    Gretton et al., "A kernel two-sample test", Journal of Machine Learning Research
    13, 2012, lemma 6.

    Examples
    --------
    >>> from skgen.metrics import kernel_mmd
    >>> round(kernel_mmd([[0.0], [0.0]], [[9.0], [9.0]], gamma=1.0), 6)
    2.0
    """
    if gamma is not None:
        check_scalar(
            gamma,
            "gamma",
            Real,
            min_val=0,
            max_val=math.inf,
            include_boundaries="neither",
        )
    return float(_unbiased_mmds(*_pool(X, Y), gamma)[0])


def two_sample_test(
    X: ArrayLike,
    Y: ArrayLike,
    statistic: str = "energy",
    n_permutations: int = 199,
    random_state: Any = None,
) -> TwoSampleTest:
    """Test whether two sets of rows have one law, by permutations.

    Parameters
    ----------
    X : array-like of shape (n_samples_X, n_features)
        Rows, of held-out data for instance.
    Y : array-like of shape (n_samples_Y, n_features)
        Rows, of samples for instance.
    statistic : {"energy", "mmd"}, default="energy"
        :func:`energy_distance`, or :func:`kernel_mmd` with its own gamma.
    n_permutations : int, default=199
        Number of times that all rows are divided anew. The least p-value is one over
        this number plus one.
    random_state : int, RandomState, Generator or None, default=None
        Source of the permutations; ``None`` is fresh entropy at each call.

    Returns
    -------
    result : TwoSampleTest
        Named tuple of the ``statistic`` and the ``p_value``: the part of the
        permutations, the given division among them, whose statistic is as large.

    Notes
    -----
    Compare samples with rows that the model was not fitted on. All permutations are
    computed in one pass over the distances among all rows.

    References
    ----------
    Gretton et al., "A kernel two-sample test", Journal of Machine Learning Research
    13, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen.metrics import two_sample_test
    >>> X = np.random.RandomState(0).normal(size=(100, 2))
    >>> two_sample_test(X[:50], X[50:] + 1, random_state=0).p_value
    0.005
    """
    known = options(*_STATISTICS)
    if not known.accepts(statistic):
        raise ValueError(
            "The 'statistic' parameter of two_sample_test must be "
            f"{known.words}. Got {statistic!r} instead."
        )
    check_scalar(n_permutations, "n_permutations", Integral, min_val=1)
    rows, in_x = _pool(X, Y)
    rng = fresh_random_state(random_state)
    shuffled = [rng.permutation(in_x) for _ in range(n_permutations)]
    values = _STATISTICS[statistic](rows, np.hstack([in_x, *shuffled]))
    # Equal divisions may differ in rounding.
    slack = 1e-9 * np.abs(values).max()
    p_value = (values >= values[0] - slack).mean()
    return TwoSampleTest(float(values[0]), float(p_value))


def _pool(X: ArrayLike, Y: ArrayLike) -> tuple[Array, Array]:
    """Put rows together, centred, (N, d), and mark those of X by 1.0, (N, 1)."""
    X, Y = without_mask(X), without_mask(Y, "Y")
    checked = check_pairwise_arrays(X, Y, accept_sparse=False, dtype=np.float64)
    rows = np.vstack(checked)
    # Distances are expanded: far from the origin they would lose their digits.
    rows -= rows.mean(0)
    in_x = np.arange(len(rows)) < len(checked[0])
    return rows, in_x[:, None].astype(np.float64)


def _pair_sums(
    rows: Array, in_x: Array, kernel: Callable[[Array], Array]
) -> tuple[Array, Array, Array]:
    """Sum a kernel of the distance over ordered pairs of rows (N, d).

    Returns the sums within X, within Y, and between a row of X and one of Y, (B,)
    each, one for each division of the rows: a column of ``in_x`` (N, B).
    """

    def products(distances: Array, start: int) -> Array:
        k = kernel(distances)  # (chunk, N)
        return np.column_stack([k @ in_x, k.sum(1)])

    chunks = list(pairwise_distances_chunked(rows, reduce_func=products))
    sums = np.vstack(chunks)  # (N, B + 1)
    k_x, k_all = sums[:, :-1], sums[:, -1:]
    within_x = (in_x * k_x).sum(0)
    between = (in_x * k_all).sum(0) - within_x
    return within_x, k_all.sum() - within_x - 2 * between, between


def _sizes(in_x: Array) -> tuple[float, float]:
    """Numbers of rows of X and of Y."""
    n = in_x[:, 0].sum()
    return n, len(in_x) - n


def _energies(rows: Array, in_x: Array) -> Array:
    """Energy distance (B,) of each division of the rows (N, d)."""
    n, m = _sizes(in_x)
    xx, yy, xy = _pair_sums(rows, in_x, lambda distances: distances)
    return 2 * xy / (n * m) - xx / n**2 - yy / m**2


def _unbiased_mmds(rows: Array, in_x: Array, gamma: float | None = None) -> Array:
    """Unbiased squared MMD (B,) of each division of the rows (N, d)."""
    n, m = _sizes(in_x)
    if min(n, m) < 2:
        raise ValueError(
            f"Found X with {n:.0f} and Y with {m:.0f} sample(s) while a minimum of 2 "
            "is required by the unbiased MMD. Give more rows, or use energy_distance."
        )
    if gamma is None:
        gamma = _median_gamma(rows)

    def kernel(distances: Array) -> Array:
        exponents = np.multiply(distances, distances, out=distances)
        exponents *= -gamma
        return np.exp(exponents, out=exponents)

    xx, yy, xy = _pair_sums(rows, in_x, kernel)
    # A row with itself, k(x, x) = 1, is left out.
    return (xx - n) / (n * (n - 1)) + (yy - m) / (m * (m - 1)) - 2 * xy / (n * m)


def _median_gamma(rows: Array) -> float:
    """1 / (2 m^2), with m the median distance of different rows; 1 if all are equal."""
    n = min(len(rows), MEDIAN_ROWS)
    distances = pdist(resample(rows, replace=False, n_samples=n, random_state=0))
    distances = distances[distances > 0]
    return float(0.5 / np.median(distances) ** 2) if len(distances) else 1.0


_STATISTICS: dict[str, Callable[[Array, Array], Array]] = {
    "energy": _energies,
    "mmd": _unbiased_mmds,
}
