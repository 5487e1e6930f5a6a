"""Whether the coordinates of a code stand for separate factors of the data.

The measures take a finite table: codes of rows, and the factors that the rows were
made from.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils import check_array, check_consistent_length, check_scalar

from skgen._utils.tensors import fresh_random_state, without_mask

Array = NDArray[Any]


def mutual_information_gap(
    codes: ArrayLike, factors: ArrayLike, n_bins: int = 20
) -> float:
    """Measure whether each factor is in one coordinate of the code alone (MIG).

    The difference between the largest and the second largest mutual information of
    a factor with a coordinate, divided by the entropy of the factor, in the mean
    over the factors.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_components)
        Latent codes. With one coordinate, the second largest information is 0.
    factors : array-like of shape (n_samples, n_factors)
        What the rows were made from. Each distinct value is a class.
    n_bins : int, default=20
        Bins of equal width that each coordinate is divided into.

    Returns
    -------
    score : float
        From 0 to 1, where 1 is best.

    Raises
    ------
    ValueError
        If a factor is constant.

    Notes
    -----
    Mutual information is estimated from counts, which is too high by about
    ``(n_bins - 1) * (n_classes - 1) / (2 * n_samples)`` nats for each pair.

    References
    ----------
    Chen et al., "Isolating sources of disentanglement in VAEs", NeurIPS 2018.
    Bins: Locatello et al., "Challenging common assumptions in the unsupervised
    learning of disentangled representations", ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen.metrics import mutual_information_gap
    >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> round(mutual_information_gap(-2.0 * factors, factors), 6)
    1.0
    """
    table, classes = _check_tables(codes, factors)
    information = _mutual_information(table, classes, n_bins)
    entropies = np.array([entropy(np.bincount(column)) for column in classes.T])
    with_none = np.vstack([information, np.zeros_like(entropies)])
    second, first = np.sort(with_none, axis=0)[-2:]
    return float(((first - second) / entropies).mean())


def modularity(codes: ArrayLike, factors: ArrayLike, n_bins: int = 20) -> float:
    """Measure whether each coordinate of the code stands for one factor alone.

    With ``m`` the mutual information of a coordinate with the factors, one minus the
    sum of ``m**2`` over all factors but the first, divided by the sum that would be
    worst; in the mean over the coordinates.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_components)
        Latent codes. A coordinate without information counts 0.
    factors : array-like of shape (n_samples, n_factors)
        What the rows were made from, two factors or more. Each distinct value is a
        class.
    n_bins : int, default=20
        Bins of equal width that each coordinate is divided into.

    Returns
    -------
    score : float
        From 0 to 1, where 1 is best.

    Raises
    ------
    ValueError
        If a factor is constant, or there is only one.

    Notes
    -----
    Several coordinates may share a factor: see :func:`mutual_information_gap`. A
    code of pure noise does not score 0: what little information is estimated by
    chance is not spread evenly over factors with different numbers of classes.

    References
    ----------
    Ridgeway & Mozer, "Learning deep disentangled embeddings with the F-statistic
    loss", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen.metrics import modularity
    >>> factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> modularity(factors[:, [0, 1, 1]], factors)
    1.0
    """
    table, classes = _check_tables(codes, factors, min_factors=2)
    squares = _mutual_information(table, classes, n_bins) ** 2
    largest = squares.max(1)
    others = squares.sum(1) - largest
    worst = largest * (classes.shape[1] - 1)
    deviation = np.divide(others, worst, out=np.ones_like(worst), where=worst > 0)
    return float((1 - deviation).mean())


def factor_vae_score(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    n_train: int = 10_000,
    n_test: int = 5_000,
    batch_size: int = 64,
    threshold: float = 0.05,
    random_state: Any = None,
) -> float:
    """Measure whether the coordinate that stands still tells which factor does.

    A vote draws a batch of rows that agree in one factor, and finds the coordinate
    of their codes with the least variance, relative to that over all rows. Training
    votes decide which factor each coordinate stands for; the score is the accuracy
    of that rule on further votes.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_components)
        Latent codes, as ``transform`` gives them.
    factors : array-like of shape (n_samples, n_factors)
        What the rows were made from, two factors or more. Each distinct value is a
        class.
    n_train : int, default=10000
        Votes that decide which factor a coordinate stands for.
    n_test : int, default=5000
        Votes that are counted.
    batch_size : int, default=64
        Rows of a batch, drawn with replacement from those with one value of the
        factor: that of a row drawn at random.
    threshold : float, default=0.05
        Coordinates whose variance over all rows is not above it are left out.
    random_state : int, RandomState, Generator or None, default=None
        Source of the draws; ``None`` is fresh entropy at each call.

    Returns
    -------
    score : float
        From about one over the number of factors to 1, where 1 is best; 0 when no
        coordinate is above the threshold.

    Raises
    ------
    ValueError
        If a factor is constant or has a value that one row alone has, or there is
        only one factor.

    References
    ----------
    Kim & Mnih, "Disentangling by factorising", ICML 2018. Defaults: Locatello et
    al., "Challenging common assumptions in the unsupervised learning of disentangled
    representations", ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen.metrics import factor_vae_score
    >>> factors = np.random.RandomState(0).randint(4, size=(500, 2))
    >>> few = {"n_train": 500, "n_test": 200}
    >>> factor_vae_score(-2.0 * factors, factors, **few, random_state=0)
    1.0
    """
    table, classes = _check_tables(codes, factors, min_factors=2)
    check_scalar(n_train, "n_train", Integral, min_val=1)
    check_scalar(n_test, "n_test", Integral, min_val=1)
    check_scalar(batch_size, "batch_size", Integral, min_val=2)
    check_scalar(threshold, "threshold", Real, min_val=0)
    groups, active = _rows_by_class(classes), table.var(0) > threshold
    if not active.any():
        return 0.0
    scaled = table[:, active] / table[:, active].std(0)
    rng = fresh_random_state(random_state)
    train = _votes(scaled, classes, groups, n_train, batch_size, rng)
    test = _votes(scaled, classes, groups, n_test, batch_size, rng)
    return float(test[np.arange(len(test)), train.argmax(1)].sum() / n_test)


def _check_tables(
    codes: ArrayLike, factors: ArrayLike, min_factors: int = 1
) -> tuple[Array, Array]:
    """Return codes (n, k), and factors as classes (n, F) that count from 0."""
    table = check_array(without_mask(codes, "codes"), dtype=np.float64)
    classes = OrdinalEncoder(dtype=np.int64).fit_transform(factors)
    check_consistent_length(table, classes)
    n_factors = classes.shape[1]
    if n_factors < min_factors:
        raise ValueError(
            f"Found factors with {n_factors} column(s) while a minimum of "
            f"{min_factors} is required."
        )
    constant = np.flatnonzero(classes.max(0) == 0)
    if len(constant):
        raise ValueError(
            f"Column {constant[0]} of factors is constant: there is nothing to tell "
            "about it. Leave it out."
        )
    return table, classes


def _mutual_information(codes: Array, classes: Array, n_bins: int) -> Array:
    """Mutual information (k, F) in nats of binned codes (n, k) and classes (n, F)."""
    check_scalar(n_bins, "n_bins", Integral, min_val=2)
    width = np.ptp(codes, axis=0) / n_bins
    steps = (codes - codes.min(0)) / np.where(width > 0, width, 1.0)
    bins = np.minimum(steps.astype(np.int64), n_bins - 1)
    return np.array([[mutual_info_score(c, b) for c in classes.T] for b in bins.T])


def _rows_by_class(classes: Array) -> list[list[Array]]:
    """Find the rows of each class, for each column of classes (n, F)."""
    groups = []
    for j, column in enumerate(classes.T):
        counts = np.bincount(column)
        if counts.min() < 2:
            raise ValueError(
                f"Column {j} of factors has a value that one row alone has, and a "
                "batch of it would not vary. Leave such rows out, or divide a "
                "continuous factor into bins."
            )
        order = np.argsort(column, kind="stable")
        groups.append(np.split(order, np.cumsum(counts)[:-1]))
    return groups


def _votes(
    codes: Array,
    classes: Array,
    groups: list[list[Array]],
    n_votes: int,
    batch_size: int,
    rng: np.random.RandomState,
) -> Array:
    """Count votes (k, F): the factor that was fixed, the coordinate that varied least.

    Codes (n, k) have variance one over all rows.
    """
    votes = np.zeros((codes.shape[1], classes.shape[1]), dtype=np.int64)
    for _ in range(n_votes):
        factor, row = rng.randint(classes.shape[1]), rng.randint(len(classes))
        group = groups[factor][classes[row, factor]]
        batch = codes[group[rng.randint(len(group), size=batch_size)]]
        votes[batch.var(0).argmin(), factor] += 1
    return votes
