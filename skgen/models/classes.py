"""A density for each class: Bayes' classifier, and more rows of rare classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from typing import Any, Literal, Self

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.base import ClassifierMixin, MetaEstimatorMixin
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils import (
    _safe_indexing,
    assert_all_finite,
    compute_class_weight,
    indexable,
)
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import _num_samples, check_is_fitted, column_or_1d

from skgen._tables.frames import stacked_rows
from skgen._utils.densities import check_is_density, fitted_on
from skgen._utils.estimators import Estimator
from skgen._utils.parameters import (
    attribute,
    check_parameters,
    estimator,
    factory,
    instance,
    integer,
    none,
    options,
    parameter,
    random_state,
    real,
)
from skgen._utils.tensors import check_random_state, draw_seed, fresh_random_state
from skgen.models.base import check_sample_weight, whole_or_as_before
from skgen.models.gaussian import GaussianDensity


def fit_each_class(
    owner: Any, X: Any, labels: NDArray[Any], classes: NDArray[Any], weight: Any
) -> list[Any]:
    """Fit a clone of the estimator to the rows of each class.

    ``labels`` (n,) are places among ``classes``.
    """
    model = GaussianDensity() if owner.estimator is None else owner.estimator

    def fit(i: int) -> Any:
        index = np.flatnonzero(labels == i)
        try:
            return fitted_on(model, X, weight, index)
        except ValueError as error:
            raise ValueError(
                f"{type(owner).__name__}: the density of class "
                f"{classes[i : i + 1].tolist()[0]!r}, which has {len(index)} rows, "
                f"cannot be fitted: {error}"
            ) from error

    jobs = (joblib.delayed(fit)(i) for i in range(len(classes)))
    return list(joblib.Parallel(n_jobs=owner.n_jobs)(jobs))


@estimator
class GenerativeClassifier(ClassifierMixin, MetaEstimatorMixin, Estimator):
    """Classifier with a density for each class, by Bayes' rule.

    ``p(y|x)`` is proportional to ``p(y) p(x|y)``. With Gaussians it is quadratic
    discriminant analysis; with richer densities, whatever they tell apart. Rows that no
    class explains may be rejected.

    Parameters
    ----------
    estimator : estimator, default=None
        A density of skgen, or any estimator whose ``score_samples`` gives log p(x);
        ``None`` is ``GaussianDensity()``. It is cloned for each class.
    class_weight : dict, "balanced" or None, default=None
        Multiples of the part of the rows that a class has, by label; "balanced" makes
        all classes equally probable.
    reject : float or None, default=None
        Part of the rows of known classes that may be rejected, in (0, 1): rows whose
        log p(x) is as low as the lowest such part of rows held out of the fit.
        ``predict`` gives ``outlier_label`` for them.
    outlier_label : object, default=-1
        Label of rows that are rejected: a number, or a string among strings.
    calibration_size : float, default=0.2
        Part of the rows that are held out for ``reject``.
    n_jobs : int or None, default=None
        Classes that are fitted at the same time, as joblib counts them.
    random_state : int, RandomState, Generator or None, default=None
        Decides which rows are held out for ``reject``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    estimators_ : list of estimator
        The fitted density of each class.
    class_log_prior_ : ndarray of shape (n_classes,)
        log p(y) of each class.
    threshold_ : float
        log p(x) below which rows are rejected, in nats; -inf without ``reject``.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features seen during fit, when they are all strings.

    See Also
    --------
    GenerativeOverSampler : More rows of rare classes, from the same densities.
    skgen.outliers.DensityOutlierDetector : Outliers without classes.

    References
    ----------
    Bishop, "Pattern recognition and machine learning", 2006, section 4.2.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import train_test_split
    >>> from skgen import GaussianDensity, GenerativeClassifier
    >>> parts = train_test_split(*load_wine(return_X_y=True), random_state=0)
    >>> X, X_test, y, y_test = parts
    >>> model = GenerativeClassifier(GaussianDensity(n_components=5)).fit(X, y)
    >>> model.score(X_test, y_test) > 0.9
    True
    >>> model.predict_proba(X_test).shape
    (45, 3)
    """

    classes_: NDArray[Any] = attribute()
    estimators_: list[Any] = attribute()
    class_log_prior_: NDArray[np.float64] = attribute()
    threshold_: float = attribute()

    estimator: Any = parameter(default=None)
    _: KW_ONLY
    class_weight: Mapping[Any, float] | Literal["balanced"] | None = parameter(
        instance(Mapping, "a dict"), options("balanced"), none, default=None
    )
    reject: float | None = parameter(
        real(0.0, 1.0, closed="neither"), none, default=None
    )
    outlier_label: Any = parameter(default=-1)
    calibration_size: float = parameter(real(0.0, 1.0, closed="neither"), default=0.2)
    n_jobs: int | None = parameter(default=None)
    random_state: Any = parameter(random_state, default=None)

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the density of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, as the density takes them: a table for MixedDensity.
        y : array-like of shape (n_samples,)
            Labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, in densities and in the probabilities of classes.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If a parameter or a label is out of its range, or a class has too few rows
            for its density.
        """
        with whole_or_as_before(self):
            self._fit(X, y, sample_weight)
        return self

    def _fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None) -> None:
        check_parameters(self, self._parameters)
        if self.estimator is not None:
            check_is_density(self.estimator, type(self).__name__)
        if y is None:
            raise ValueError(
                f"requires y to be passed, but the target y is None: "
                f"{type(self).__name__} fits a density to each class."
            )
        y = column_or_1d(y, warn=True)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        X, y = indexable(X, y)
        weight = check_sample_weight(sample_weight, _num_samples(X))
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs rows of two classes or more. Got one "
                f"class, {self.classes_.tolist()}."
            )
        self.class_log_prior_ = self._log_prior(y, labels, weight)
        train, held_out = self._split(labels)
        self.estimators_ = fit_each_class(
            self,
            _safe_indexing(X, train),
            labels[train],
            self.classes_,
            None if weight is None else weight[train],
        )
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimators_[0], name):
                setattr(self, name, getattr(self.estimators_[0], name))
        self.threshold_ = -math.inf
        if self.reject is not None:
            scores = np.sort(self.score_samples(_safe_indexing(X, held_out)))
            n_below = math.floor(self.reject * (len(scores) + 1)) - 1
            self.threshold_ = float(scores[max(n_below, 0)])

    def _log_prior(
        self, y: Any, labels: NDArray[Any], weight: NDArray[Any] | None
    ) -> NDArray[np.float64]:
        """Return log p(y) of each class: its part of the rows, weighted."""
        n = np.bincount(labels, weight, minlength=len(self.classes_))
        if not (n > 0).all():
            without = self.classes_[n == 0].tolist()
            raise ValueError(f"No row of the classes {without} has a positive weight.")
        given = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        if isinstance(self.class_weight, str):
            given = 1 / n
        with np.errstate(divide="ignore"):
            prior: NDArray[np.float64] = np.log(given * n) - np.log((given * n).sum())
        return prior

    def _split(self, labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return places of the rows to fit on, and of those that ``reject`` needs."""
        everything = np.arange(len(labels))
        if self.reject is None:
            return everything, everything[:0]
        rng = check_random_state(self.random_state)
        splitter = StratifiedShuffleSplit(
            1, test_size=self.calibration_size, random_state=rng
        )
        train, held_out = next(splitter.split(everything, labels))
        return np.sort(train), held_out

    def predict_joint_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Evaluate log p(x, y) of rows and each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        log_joint : ndarray of shape (n_samples, n_classes)
            log p(x|y) + log p(y), in nats.
        """
        check_is_fitted(self)
        scores = [density.score_samples(X) for density in self.estimators_]
        return np.stack(scores, axis=1).astype(np.float64) + self.class_log_prior_

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Evaluate the log-density of rows, whatever their class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            log p(x), in nats.
        """
        log_prob: NDArray[np.float64] = logsumexp(
            self.predict_joint_log_proba(X), axis=1
        )
        return log_prob

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return log p(y|x) of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            Log-probabilities, in the order of ``classes_``.
        """
        joint = self.predict_joint_log_proba(X)
        # A row that no class explains, -inf under all, has the classes' own parts.
        unexplained = np.isneginf(joint.max(axis=1, keepdims=True))
        joint = np.where(unexplained, self.class_log_prior_, joint)
        log_proba: NDArray[np.float64] = joint - logsumexp(joint, axis=1, keepdims=True)
        return log_proba

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return p(y|x) of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of ``classes_``.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of rows, or the label of those rejected.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels.
        """
        joint = self.predict_joint_log_proba(X)
        labels = self.classes_[joint.argmax(1)]
        if self.threshold_ == -math.inf:
            found: NDArray[Any] = labels
            return found
        rejected = logsumexp(joint, axis=1) < self.threshold_
        label = np.asarray(self.outlier_label)
        dtype = np.result_type(labels, label) if labels.dtype != object else object
        return np.where(rejected, label.astype(dtype), labels.astype(dtype))

    def sample(
        self, n_samples: int = 1, random_state: Any = None
    ) -> tuple[Any, NDArray[Any]]:
        """Draw rows and their classes.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.

        Returns
        -------
        X : array or DataFrame of shape (n_samples, n_features)
            Rows, in random order.
        y : ndarray of shape (n_samples,)
            Their classes.
        """
        check_is_fitted(self)
        if not integer(1).accepts(n_samples):
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples!r}. The sampling requires "
                "at least one sample."
            )
        rng = check_random_state(draw_seed(fresh_random_state(random_state)))
        prior = np.exp(self.class_log_prior_)
        n_each = rng.multinomial(n_samples, prior / prior.sum())
        parts = [
            density.sample(n, random_state=draw_seed(rng))
            for density, n in zip(self.estimators_, n_each)
            if n
        ]
        order = rng.permutation(n_samples)
        y = np.repeat(self.classes_, n_each)[order]
        return _safe_indexing(stacked_rows(parts), order), y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[no-untyped-call]
        inner = GaussianDensity() if self.estimator is None else self.estimator
        tags.input_tags = inner.__sklearn_tags__().input_tags
        return tags


# How many rows a class shall have, of a Counter of the rows that the classes have.
_STRATEGIES: dict[str, Callable[[Counter[Any]], dict[Any, int]]] = {
    "minority": lambda n: {min(n, key=n.__getitem__): max(n.values())},
    "not minority": lambda n: {
        label: max(n.values()) for label in n if label != min(n, key=n.__getitem__)
    },
    "not majority": lambda n: dict.fromkeys(n, max(n.values())),
    "all": lambda n: dict.fromkeys(n, max(n.values())),
    "auto": lambda n: dict.fromkeys(n, max(n.values())),
}


Strategy = float | str | Mapping[Any, int] | Callable[[Any], Mapping[Any, int]]


@estimator
class GenerativeOverSampler(MetaEstimatorMixin, Estimator):
    """Over-sampler that draws rows of rare classes from densities of them.

    In imbalanced-learn's convention: ``fit_resample`` gives the rows and new ones, and
    a pipeline of imbalanced-learn takes it as a step.

    Parameters
    ----------
    estimator : estimator, default=None
        A density of skgen, or any estimator with ``score_samples`` and ``sample``;
        ``None`` is ``GaussianDensity()``. It is cloned for each class that gets rows.
    sampling_strategy : float, str, dict or callable, default="auto"
        How many rows a class shall have. A float, for two classes, is the ratio of the
        smaller to the larger. "minority", "not minority", "not majority", "all" name
        the classes that get as many as the largest; "auto" is "not majority". A dict
        has the number of rows by label; a callable makes one of ``y``.
    n_jobs : int or None, default=None
        Classes that are fitted at the same time, as joblib counts them.
    random_state : int, RandomState, Generator or None, default=None
        Source of the draws.

    Attributes
    ----------
    sampling_strategy_ : dict
        Number of rows that were drawn for each class that got some.
    estimators_ : dict
        The fitted density of each of these classes.
    n_features_in_ : int
        Number of features seen during fit.

    See Also
    --------
    GenerativeClassifier : The densities as a classifier.

    References
    ----------
    Lemaitre, Nogueira & Aridas, "Imbalanced-learn", JMLR 18(17), 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_classification
    >>> from skgen import GenerativeOverSampler
    >>> X, y = make_classification(weights=[0.9], random_state=0)
    >>> X_more, y_more = GenerativeOverSampler(random_state=0).fit_resample(X, y)
    >>> np.bincount(y), np.bincount(y_more)
    (array([91,  9]), array([91, 91]))
    """

    _sampling_type = "over-sampling"

    sampling_strategy_: dict[Any, int] = attribute()
    estimators_: dict[Any, Any] = attribute()

    estimator: Any = parameter(default=None)
    _: KW_ONLY
    sampling_strategy: Strategy = parameter(
        real(0.0, 1.0, closed="right"),
        options(*_STRATEGIES),
        instance(Mapping, "a dict"),
        factory,
        default="auto",
    )
    n_jobs: int | None = parameter(default=None)
    random_state: Any = parameter(random_state, default=None)

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Check the rows, and find how many each class is to get.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        self : object
            The over-sampler; only ``fit_resample`` fits densities.
        """
        check_parameters(self, self._parameters)
        if self.estimator is not None:
            check_is_density(self.estimator, type(self).__name__, "sample")
        check_classification_targets(y)
        self.sampling_strategy_ = self._n_new(Counter(np.asarray(y).tolist()), y)
        return self

    def fit_resample(self, X: Any, y: ArrayLike) -> tuple[Any, Any]:
        """Add rows of the classes that have too few.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, as the density takes them.
        y : array-like of shape (n_samples,)
            Labels.

        Returns
        -------
        X_resampled : array or DataFrame of shape (n_samples_new, n_features)
            The rows as they are, then new ones.
        y_resampled : array or Series of shape (n_samples_new,)
            Their labels.
        """
        with whole_or_as_before(self):
            return self._fit_resample(X, y)

    def _fit_resample(self, X: Any, y: ArrayLike) -> tuple[Any, Any]:
        X, y = indexable(X, y)
        self.fit(X, y)
        rng = check_random_state(self.random_state)
        classes = unique_labels(np.asarray(y))
        wanted = np.array(list(self.sampling_strategy_), dtype=classes.dtype)
        labels = np.full(_num_samples(X), -1)
        for i, label in enumerate(wanted):
            labels[np.asarray(y) == label] = i
        found = fit_each_class(self, X, labels, wanted, None)
        self.estimators_ = dict(zip(self.sampling_strategy_, found))
        parts = [X]
        for label, n in self.sampling_strategy_.items():
            density = self.estimators_[label]
            parts.append(density.sample(n, random_state=draw_seed(rng)))
        if self.estimators_:
            self.n_features_in_ = found[0].n_features_in_
        new = np.repeat(wanted, list(self.sampling_strategy_.values()))
        return stacked_rows(parts), stacked_rows([y, new])

    def _n_new(self, n_rows: Counter[Any], y: Any) -> dict[Any, int]:
        """Return how many rows each class gets, of those that get some."""
        strategy = self.sampling_strategy
        if isinstance(strategy, str):
            wanted = _STRATEGIES[strategy](n_rows)
        elif callable(strategy):
            wanted = dict(strategy(y))
        elif isinstance(strategy, Mapping):
            wanted = dict(strategy)
        else:
            wanted = self._by_ratio(n_rows, strategy)
        unknown = set(wanted) - set(n_rows)
        if unknown:
            raise ValueError(
                f"sampling_strategy has the classes {sorted(unknown)}, of which y has "
                f"no row. Its classes are {sorted(n_rows)}."
            )
        fewer = {label: n for label, n in wanted.items() if n < n_rows[label]}
        if fewer:
            raise ValueError(
                f"sampling_strategy={wanted} asks for fewer rows than there are of the "
                f"classes {sorted(fewer)}: an over-sampler only adds rows."
            )
        return {
            label: n - n_rows[label] for label, n in wanted.items() if n > n_rows[label]
        }

    def _by_ratio(self, n_rows: Counter[Any], ratio: float) -> dict[Any, int]:
        if len(n_rows) != 2:
            raise ValueError(
                f"sampling_strategy={ratio} is a ratio, for two classes; y has "
                f"{len(n_rows)}. Give a dict of numbers of rows."
            )
        (_, most), (label, _) = n_rows.most_common()
        return {label: int(ratio * most)}
