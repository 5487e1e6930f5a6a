"""Accuracy of a classifier that is trained on samples."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier


def classification_accuracy_score(
    train_samples: Any,
    y: Any,
    X_test: Any,
    y_test: Any,
    classifier: Any = None,
) -> float:
    """Measure how well a classifier that learns from samples knows real rows.

    Parameters
    ----------
    train_samples : array-like or DataFrame of shape (n_samples, n_features)
        Rows that a model drew.
    y : array-like of shape (n_samples,)
        Their classes, for which they were drawn.
    X_test : array-like or DataFrame of shape (n_test, n_features)
        Real rows that the model has not seen.
    y_test : array-like of shape (n_test,)
        Their classes.
    classifier : classifier, default=None
        It is cloned; ``None`` is scikit-learn's ``HistGradientBoostingClassifier``.

    Returns
    -------
    accuracy : float
        Part of the real rows whose class is right, in [0, 1].

    See Also
    --------
    table_report : Among other measures, for each column of a table as the target.

    Notes
    -----
    Compare it with the same score of real training rows, as many as there are samples:
    a model whose samples are as good to learn from as the data reaches it. The score
    sees both faults of samples, that they look unlike the data and that they leave a
    part of them out, where these matter to the classes.

    References
    ----------
    Ravuri & Vinyals, "Classification accuracy score for conditional generative
    models", NeurIPS 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgen import GenerativeOverSampler, GaussianDensity
    >>> from skgen.metrics import classification_accuracy_score
    >>> X, y = load_iris(return_X_y=True)
    >>> sampler = GenerativeOverSampler(
    ...     GaussianDensity(), sampling_strategy={0: 75, 1: 75, 2: 75}, random_state=0
    ... )
    >>> more, classes = sampler.fit_resample(X[::2], y[::2])
    >>> samples = more[75:], classes[75:]  # without the real rows
    >>> classification_accuracy_score(*samples, X[1::2], y[1::2]) > 0.9
    True
    """
    if classifier is None:
        classifier = HistGradientBoostingClassifier(random_state=0)
    return float(clone(classifier).fit(train_samples, y).score(X_test, y_test))
