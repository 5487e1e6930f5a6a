"""Outliers: rows that a density finds unlikely, with calibrated p-values."""

from __future__ import annotations

import math
import warnings
from dataclasses import KW_ONLY
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MetaEstimatorMixin, OutlierMixin
from sklearn.model_selection import KFold
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils.validation import _num_samples, check_is_fitted

from skgen._utils.densities import check_is_density, fitted_on
from skgen._utils.estimators import Estimator
from skgen._utils.parameters import (
    attribute,
    check_parameters,
    estimator,
    integer,
    options,
    parameter,
    random_state,
    real,
)
from skgen._utils.tensors import check_random_state
from skgen.models.base import check_sample_weight, whole_or_as_before
from skgen.models.vae import VAE

# Rows that are left out for each that is said to be an outlier. Over eleven labelled
# tables, twice as many rank outliers better than 1.5 (benchmarks/outliers.py --trim).
TRIMMED = 3


@estimator
class DensityOutlierDetector(OutlierMixin, MetaEstimatorMixin, Estimator):
    """Detector of outliers: rows to which a density gives a low score.

    The density is fitted on most of the rows, and the others calibrate it: the p-value
    of a row is the part of them that is as unlikely as the row. Where the rows to fit
    on hold outliers themselves, the least likely part of them is left out, by scores
    from fits that have not seen them, and the density is fitted again.

    Parameters
    ----------
    estimator : estimator, default=None
        A density of skgen, or any estimator whose ``score_samples`` gives log p(x);
        ``None`` is ``VAE()``. It is cloned.
    contamination : "auto" or float, default="auto"
        Part of the training rows that are outliers, in (0, 0.5]: as many of them are
        below the threshold. With "auto", a row is an outlier if its p-value is at most
        ``level``.
    level : float, default=0.05
        Part of the inliers that may be called outliers, where ``contamination`` is
        "auto". No p-value is below 1 / (n + 1) of n rows that calibrate: where that is
        above ``level``, the threshold is the least likely of them, and a warning says
        so.
    trim : "auto" or float, default="auto"
        Part of the rows that the fit leaves out as the least likely, in [0, 0.5].
        "auto" is three times ``contamination``, half of the rows at most, since the
        least likely rows are not all outliers; or 0 where that is "auto".
    calibration_size : float, default=0.2
        Part of the rows that calibrate, in (0, 1).
    n_folds : int, default=5
        Number of folds of the scores that rows are left out by.
    random_state : int, RandomState, Generator or None, default=None
        Decides which rows calibrate, and the folds.

    Attributes
    ----------
    estimator_ : estimator
        The fitted density.
    offset_ : float
        Threshold of ``score_samples``, in nats: rows below are outliers.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Scores of the rows that calibrate, in rising order.
    support_ : ndarray of shape (n_samples,)
        Which training rows the density was fitted on.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen during fit, when they are all strings.

    See Also
    --------
    GenerativeClassifier : Densities of several classes, which may reject rows.

    Notes
    -----
    A p-value is valid whatever the density: an inlier that is exchangeable with the
    rows that calibrate has a p-value of at most a with probability at most a (Bates et
    al. 2023). This holds on average over the rows that calibrate. Where a
    ``contamination`` is stated, so many of them, the least likely, are taken for
    outliers and do not count: then it holds to the extent that they are.

    Outliers that form a cluster of their own are likely rows to a density that has
    learned the cluster. Leaving rows out finds those that a fit has learned by heart.

    A density in many dimensions may give outliers higher scores than inliers where they
    are smoother or nearer to the mean, as images of another kind are (Nalisnick et al.
    2019): look at the scores of known outliers before you trust it.

    References
    ----------
    Bates, Candes, Lei, Romano & Sesia, "Testing for outliers with conformal p-values",
    Annals of Statistics 51, 2023.

    Nalisnick, Matsukawa, Teh, Gorur & Lakshminarayanan, "Do deep generative models know
    what they don't know?", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import GaussianMixtureEM
    >>> from skgen.outliers import DensityOutlierDetector
    >>> rng = np.random.RandomState(0)
    >>> X = np.vstack([rng.normal(size=(190, 2)), rng.uniform(5, 9, size=(10, 2))])
    >>> detector = DensityOutlierDetector(
    ...     GaussianMixtureEM(random_state=0), contamination=0.05, random_state=0
    ... ).fit(X)
    >>> detector.predict([[0.0, 0.5], [7.0, 7.0]])
    array([ 1, -1])
    >>> bool(detector.p_values([[7.0, 7.0]])[0] < 0.05)
    True
    """

    estimator_: Any = attribute()
    offset_: float = attribute()
    calibration_scores_: NDArray[np.float64] = attribute()
    support_: NDArray[np.bool_] = attribute()

    estimator: Any = parameter(default=None)
    _: KW_ONLY
    contamination: Literal["auto"] | float = parameter(
        options("auto"), real(0.0, 0.5, closed="right"), default="auto"
    )
    level: float = parameter(real(0.0, 1.0, closed="neither"), default=0.05)
    trim: Literal["auto"] | float = parameter(
        options("auto"), real(0.0, 0.5, closed="both"), default="auto"
    )
    calibration_size: float = parameter(real(0.0, 1.0, closed="neither"), default=0.2)
    n_folds: int = parameter(integer(2), default=5)
    random_state: Any = parameter(random_state, default=None)

    def fit(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit the density, and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, as the density takes them: a table for MixedDensity.
        y : None
            Ignored, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in the fit of the density; only their ratios matter.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or there are too few rows.

        Warns
        -----
        UserWarning
            If too few rows calibrate for ``level``.
        """
        with whole_or_as_before(self):
            self._fit(X, sample_weight)
        return self

    def _fit(self, X: Any, sample_weight: ArrayLike | None) -> None:
        check_parameters(self, self._parameters)
        model = VAE() if self.estimator is None else self.estimator
        check_is_density(model, type(self).__name__)
        (X,) = indexable(X)
        n = _num_samples(X)
        weight = check_sample_weight(sample_weight, n)
        rng = check_random_state(self.random_state)
        order = rng.permutation(n)
        n_held_out = min(max(1, round(self.calibration_size * n)), n - 1)
        held_out, train = order[:n_held_out], np.sort(order[n_held_out:])
        train = self._trimmed(model, X, weight, train, rng)
        self.estimator_ = fitted_on(model, X, weight, train)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        self.support_ = np.zeros(n, dtype=bool)
        self.support_[train] = True
        scores = self.score_samples(X).astype(np.float64)
        judges = np.sort(scores[held_out])
        self.calibration_scores_ = judges[round(self._contamination * n_held_out) :]
        self.offset_ = self._threshold(scores)

    @property
    def _trim(self) -> float:
        """Part of the rows that is left out."""
        if isinstance(self.trim, str):
            return min(TRIMMED * self._contamination, 0.5)
        return self.trim

    @property
    def _contamination(self) -> float:
        """Part of the rows that is said to be outliers."""
        return 0.0 if isinstance(self.contamination, str) else self.contamination

    def _trimmed(
        self,
        model: Any,
        X: Any,
        weight: NDArray[Any] | None,
        train: NDArray[Any],
        rng: np.random.RandomState,
    ) -> NDArray[Any]:
        """Leave out the rows that are the least likely under fits without them.

        A fit with them may have learned them by heart.
        """
        n_out = round(self._trim * len(train))
        if not n_out:
            return train
        scores = np.empty(len(train))
        folds = KFold(min(self.n_folds, len(train)), shuffle=True, random_state=rng)
        for seen, unseen in folds.split(train):
            density = fitted_on(model, X, weight, train[seen])
            scores[unseen] = density.score_samples(_safe_indexing(X, train[unseen]))
        return train[np.sort(np.argsort(scores, kind="stable")[n_out:])]

    def _threshold(self, scores: NDArray[np.float64]) -> float:
        """Return the score below which rows are outliers, given all training scores."""
        if not isinstance(self.contamination, str):
            return float(np.quantile(scores, self.contamination))
        judges = self.calibration_scores_
        n_below = math.floor(self.level * (len(judges) + 1)) - 1
        if n_below < 0:
            self._warn_of_level(len(judges))
        return float(judges[max(n_below, 0)])

    def _warn_of_level(self, n: int) -> None:
        """Warn of a level that so few rows cannot show."""
        warnings.warn(
            f"{type(self).__name__}: level={self.level:g} takes "
            f"{math.ceil(1 / self.level) - 1} rows that calibrate, and there are {n}. "
            f"The threshold is the least likely of them, below which 1 inlier in "
            f"{n + 1} lies in the mean. Give more rows, a larger calibration_size, or "
            f"level={1 / (n + 1):.2g} or more.",
            UserWarning,
            stacklevel=4,
        )

    def score_samples(self, X: Any) -> NDArray[Any]:
        """Evaluate the log-density of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            log p(x), in nats: the lower, the more of an outlier.
        """
        check_is_fitted(self)
        scores: NDArray[Any] = self.estimator_.score_samples(X)
        return scores

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Return how far the log-density of rows is above the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        decision : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``, in nats: negative for outliers.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Tell inliers and outliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        is_inlier : ndarray of shape (n_samples,)
            -1 for outliers, 1 for inliers.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> NDArray[np.float64]:
        """Return the p-value of rows, under the hypothesis that they are inliers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows that were not in the fit.

        Returns
        -------
        p : ndarray of shape (n_samples,)
            Part of the rows that calibrate, and the row itself, that are at most as
            likely; in (0, 1].
        """
        scores = self.score_samples(X).astype(np.float64)
        judges = self.calibration_scores_
        n_below = np.searchsorted(judges, scores, side="right")
        p: NDArray[np.float64] = (1 + n_below) / (1 + len(judges))
        return p

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[no-untyped-call]
        inner = VAE() if self.estimator is None else self.estimator
        tags.input_tags = inner.__sklearn_tags__().input_tags
        return tags
