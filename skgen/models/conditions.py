"""Conditions: rows given labels, or given numbers.

A condition reaches a module as the context (n, m) of a batch: the columns of y, or the
index of a class, -1 where it is missing. A module says ``log p(x|y)``; what is left of
it where a label is missing, ``log p(x) = log sum_y p(y) p(x|y)``, is here, and what
estimators do with y.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skgen._networks.dense import Standardizer
from skgen._training.batches import Batch
from skgen._utils.collections import computed
from skgen._utils.moments import Moments
from skgen._utils.parameters import (
    boolean,
    estimator,
    integer,
    none,
    options,
    parameter,
)
from skgen._utils.threads import threads_for
from skgen.models.base import check_sample_weight, weighted_mean
from skgen.models.evaluation import BoundedModel, LogLikelihood
from skgen.models.neural import TrainedModel, available_unless

# How scikit-learn's semi-supervised estimators mark a label that is missing.
MISSING = -1
NO_CONDITION = "its condition is None, so that y is ignored."
# Fitted attributes that a module is built from.
BUILT_FROM = ("classes_", "n_conditions_", "_some_missing")


# What networks see of a condition.


class Classes(nn.Module):
    """Classes as conditions, one-hot, and how probable each is.

    Parameters
    ----------
    n_classes : int
        K.
    """

    log_prior: Tensor  # log p(y), (K,)

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        uniform = torch.full((n_classes,), -math.log(n_classes), dtype=torch.float64)
        self.register_buffer("log_prior", uniform)

    @property
    def width(self) -> int:
        """Numbers that networks see of a condition."""
        return len(self.log_prior)

    @property
    def indices(self) -> Tensor:
        """Index of each class, (K,)."""
        return torch.arange(self.width, device=self.log_prior.device)

    def set_rows(self, labels: Tensor, weight: Tensor | None) -> None:
        """Take p(y) from the labels (n, 1) of training rows, and their weights (n,)."""
        one_hot = self(labels).to(self.log_prior)
        weight = one_hot.new_ones(len(labels)) if weight is None else weight.to(one_hot)
        counts = weight @ one_hot
        # A class whose rows are all held out counts as one row.
        counts = torch.where(counts > 0, counts, 1.0)
        self.log_prior.copy_((counts / counts.sum()).log())

    def is_known(self, labels: Tensor) -> Tensor:
        """Return which of the labels (n, 1) are not missing, (n,)."""
        return labels.squeeze(-1) >= 0

    def forward(self, labels: Tensor) -> Tensor:
        """Return labels (n, 1) as one-hot rows (n, K): zeros where one is missing."""
        return (labels == self.indices).to(torch.float32)


class Numbers(Standardizer):
    """Numbers as conditions, standardised."""

    @classmethod
    def of_width(cls, n_columns: int) -> Self:
        """Return one that changes nothing yet."""
        zero = torch.zeros(n_columns, dtype=torch.float64)
        return cls(zero, zero + 1)

    @property
    def width(self) -> int:
        """Numbers that networks see of a condition."""
        return len(self.shift)

    def set_rows(self, numbers: Tensor, weight: Tensor | None) -> None:
        """Take shift and scale from the numbers (n, m) of training rows."""
        moments = Moments.of(numbers, weight, full=False)
        fitted = Standardizer.of(moments.mean, moments.variance)
        self.shift.copy_(fitted.shift)
        self.scale.copy_(fitted.scale)

    def is_known(self, numbers: Tensor) -> Tensor:
        """Return true for each row (n,): none may be missing."""
        return numbers.new_ones(len(numbers), dtype=torch.bool)


def beside(x: Tensor, condition: Tensor) -> Tensor:
    """Put conditions (n, c) beside the columns of x (..., n, p)."""
    return torch.cat([x, condition.expand(*x.shape[:-1], -1)], dim=-1)


# A module with a condition.


class ConditionedModel(BoundedModel):
    """A module of rows given a condition, which may be a class that is not known.

    A model gives ``bound(batch)``, on log p(x|y), and ``careful_bound``. Methods that
    take a ``context`` (n, m) average over the classes where a label is missing, and
    for all rows where there is no context.
    """

    condition: Classes | Numbers | None

    @abstractmethod
    def bound(self, batch: Batch) -> Tensor:
        """Return the score of standardised rows given their conditions, (n,)."""

    @abstractmethod
    def careful_bound(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        """Return it from many draws, and its standard error, (n, 2)."""

    @property
    def classes(self) -> Classes:
        """Conditions, where they are classes."""
        assert isinstance(self.condition, Classes)
        return self.condition

    def conditions(self, batch: Batch) -> Tensor:
        """Return the conditions (n, c) of rows, as networks see them."""
        if batch.context is None:
            raise ValueError(
                "A model of rows given real-valued conditions needs y, since it has no "
                "density of y to average over. Pass y, a row of it for each row."
            )
        assert self.condition is not None
        conditions: Tensor = self.condition(batch.context).to(batch.x.dtype)
        return conditions

    def log_prior(self, like: Tensor) -> Tensor:
        """Log p(y) of each class, (K,), in the dtype of another tensor."""
        return self.classes.log_prior.to(like.dtype)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Score of log p(x|y), or without y of log p(x), (n,)."""

        def missing(batch: Batch) -> Tensor:
            return self.class_log_joints(batch).logsumexp(0)

        found = self.by_label(self.scored_given(x, context), self.bound, missing)
        return found - self.standardizer.log_scale

    def class_log_joints(self, batch: Batch) -> Tensor:
        """Bounds on log p(x, y) of each class, (K, n), of standardised rows."""
        bounds = self.for_each_class(self.bound, batch)
        return bounds + self.log_prior(bounds)[:, None]

    def class_probabilities(self, x: Tensor) -> Tensor:
        """p(y|x) of each class, (n, K), by Bayes' rule from the bounds."""
        return self.class_log_joints(self.scored_given(x, None)).softmax(0).T

    def careful_log_prob(
        self,
        x: Tensor,
        n_samples: int,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> Tensor:
        """Log p(x|y) or log p(x) from many draws, and its standard error, (n, 2)."""

        def known(batch: Batch) -> Tensor:
            return self.careful_bound(batch, n_samples, generator)

        def missing(batch: Batch) -> Tensor:
            log_prob, error = self.for_each_class(known, batch).unbind(2)
            log_joint = log_prob + self.log_prior(log_prob)[:, None]
            # Draws of the classes are independent: squared errors add up.
            total_error = (log_joint.softmax(0) * error).square().sum(0).sqrt()
            return torch.stack([log_joint.logsumexp(0), total_error], dim=1)

        found = self.by_label(self.scored_given(x, context), known, missing)
        found[:, 0] -= self.standardizer.log_scale
        return found

    def drawn_labels(
        self, context: Tensor | None, n: int, generator: torch.Generator
    ) -> Tensor | None:
        """Return a context (n, m), with labels from p(y) where they are missing."""
        if not isinstance(self.condition, Classes):
            return context
        prior = self.classes.log_prior.exp()
        drawn = prior.multinomial(n, replacement=True, generator=generator)[:, None]
        return drawn if context is None else torch.where(context < 0, drawn, context)

    def scored_given(self, x: Tensor, context: Tensor | None) -> Batch:
        """Rows (n, d) of the user as a batch that is scored."""
        return Batch(self.view(x), self.noise_of(x), context=context)

    def for_each_class(
        self, function: Callable[[Batch], Tensor], batch: Batch
    ) -> Tensor:
        """Stack what a function gives for rows that are all of one class, (K, ...)."""
        label = torch.zeros_like(batch.x[:, :1])
        classes = range(self.classes.width)
        return torch.stack(
            [function(batch._replace(context=label + i)) for i in classes]
        )

    def by_label(
        self,
        batch: Batch,
        known: Callable[[Batch], Tensor],
        missing: Callable[[Batch], Tensor],
    ) -> Tensor:
        """Apply a function to the rows whose label is known, another to the others."""
        if not isinstance(self.condition, Classes):
            return known(batch)
        if batch.context is None:
            return missing(batch)
        is_known = self.condition.is_known(batch.context)
        result: Any = None
        for function, which in ((known, is_known), (missing, ~is_known)):
            if which.any():
                index = which.nonzero().squeeze(1)
                found = function(batch.part(index))
                if result is None:
                    result = found.new_empty(len(which), *found.shape[1:])
                result[index] = found
        value: Tensor = result
        return value

    def set_context(self, context: Tensor | None, weight: Tensor | None) -> None:
        """Adapt to the conditions of training rows."""
        if self.condition is not None:
            assert context is not None
            self.condition.set_rows(context, weight)


# Conditions of the user.


def as_labels(y: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return labels (n,), and which of them are missing: -1, NaN or None."""
    labels = column_or_1d(y, warn=True)
    if labels.dtype.kind in "US":
        labels = labels.astype(object)
    if labels.dtype.kind == "O":
        missing = [each is None or each != each or each == MISSING for each in labels]
        return labels, np.array(missing, dtype=bool)
    if labels.dtype.kind == "f":
        return labels, np.isnan(labels) | (labels == MISSING)
    if labels.dtype.kind == "b":
        return labels, np.zeros(len(labels), dtype=bool)
    return labels, labels == MISSING


def as_numbers(y: Any) -> NDArray[Any]:
    """Return real-valued conditions as columns (n, m)."""
    numbers: NDArray[Any] = check_array(
        y, ensure_2d=False, dtype=np.float64, input_name="y"
    )
    return numbers[:, None] if numbers.ndim == 1 else numbers


def are_labels(y: NDArray[Any]) -> bool:
    """Return whether y is one column of classes: not of numbers with fractions."""
    if y.ndim == 2 and y.shape[1] > 1:
        return False
    if y.dtype.kind != "f":
        return True
    finite = y[np.isfinite(y)]
    return bool((finite == np.round(finite)).all())


def _without_condition(model: Any) -> str | None:
    """Return why no condition can be held; None where one can."""
    if model._kind_of_condition is None:
        return f"This {type(model).__name__} holds no condition: {NO_CONDITION}"
    return None


def _without_classes(model: Any) -> str | None:
    """Return why a model has no classes to predict; None where it may have."""
    if model._kind_of_condition is None:
        return f"This {type(model).__name__} has no classes to predict: {NO_CONDITION}"
    if hasattr(model, "n_conditions_") and not hasattr(model, "classes_"):
        return (
            f"This {type(model).__name__} was fitted on real-valued conditions, and "
            "predicts classes only. Fit it with labels as y."
        )
    return None


class Conditioned(TrainedModel):
    """Base of the estimators that ``fit`` takes conditions y for: y as a context."""

    classes_: NDArray[Any]
    n_conditions_: int
    _some_missing: bool  # labels of the last fit
    #: What is to be done where there is no condition.
    _without_y: ClassVar[str]
    _held: NDArray[Any]  # context (1, m) of `conditioned_on`

    def _context(self, y: Any, n: int, *, reset: bool) -> NDArray[Any] | None:
        """Return conditions (n, m) of training rows; ``reset`` learns their kind."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is "
                f"None. Pass labels or numbers as y, or {self._without_y}."
            )
        check_consistent_length(np.empty(n), y)
        if reset:
            self._learn_kind(np.asarray(y))
        context = self._encoded(y, n)
        self._some_missing = self._has_classes and bool((context < 0).any())
        return context

    def _learn_kind(self, y: NDArray[Any]) -> None:
        """Learn whether conditions are classes, and which; or of how many columns."""
        self.__dict__.pop("classes_", None)
        self.__dict__.pop("_held", None)
        kind = self._kind_of_condition
        is_labels = kind == "auto" and are_labels(y)
        if not (is_labels or kind == "classes"):
            self.n_conditions_ = as_numbers(y).shape[1]
            return
        labels, missing = as_labels(y)
        if missing.all():
            raise ValueError(
                f"{type(self).__name__} needs labels of some rows, and every label in "
                f"y is missing (-1, NaN or None). For rows without labels, "
                f"{self._without_y}."
            )
        self.classes_ = np.unique(labels[~missing])
        self.n_conditions_ = len(self.classes_)

    @property
    @abstractmethod
    def _kind_of_condition(self) -> str | None:
        """Kind of y: "auto", "classes" or "numbers"; None where it is ignored."""

    @property
    def _has_classes(self) -> bool:
        return hasattr(self, "classes_")

    def _encoded(self, y: Any, n: int) -> NDArray[Any]:
        """Return conditions as a context (n, m); one condition stands for all rows."""
        y = np.atleast_1d(np.asarray(y))
        context = self._label_indices(y) if self._has_classes else self._columns_of(y)
        if len(context) == 1:
            context = np.repeat(context, n, axis=0)
        if len(context) != n:
            raise ValueError(f"y has conditions of {len(context)} rows, not of {n}.")
        return context

    def _label_indices(self, y: NDArray[Any]) -> NDArray[Any]:
        """Return the index (n, 1) of each label in ``classes_``, -1 where it misses."""
        labels, missing = as_labels(y)
        places = {label: i for i, label in enumerate(self.classes_.tolist())}
        known = labels[~missing].tolist()
        others = [label for label in known if label not in places]
        if others:
            raise ValueError(
                f"y has the label {others[0]!r}, which is none of those that this "
                f"{type(self).__name__} was fitted on: {self.classes_.tolist()}."
            )
        index = np.full((len(labels), 1), float(MISSING))
        index[~missing, 0] = [places[label] for label in known]
        return index

    def _columns_of(self, y: NDArray[Any]) -> NDArray[Any]:
        """Return numbers as columns (n, m); m of them in a line are one row."""
        m = self.n_conditions_
        columns = as_numbers(y[None] if y.ndim == 1 and m > 1 else y)
        if columns.shape[1] != m:
            raise ValueError(
                f"y has {columns.shape[1]} columns, but {type(self).__name__} was "
                f"fitted on {m}."
            )
        return columns

    def _known(self, y: Any, n: int) -> tuple[NDArray[Any], ...]:
        """Return the context (n, m) of rows, or nothing where none is given or held."""
        if y is not None:
            return (self._encoded(y, n),)
        held = getattr(self, "_held", None)
        return () if held is None else (np.repeat(held, n, axis=0),)

    # Evaluating.

    @available_unless(_without_condition)
    def conditioned_on(self, y: Any) -> Self:
        """Hold one condition: return the model of rows given y.

        It has the methods of this one, with y in the place of a y that is not given;
        so pictures and ways through the code, which know of no condition, take it.

        Parameters
        ----------
        y : scalar or array-like of shape (n_conditions,)
            Label, or numbers.

        Returns
        -------
        model : estimator
            A copy, which is fitted.
        """
        check_is_fitted(self)
        held = self._encoded(y, 1)
        model = copy.copy(self)
        model._held = held
        return model

    def _apply_given(
        self, function: Callable[..., Tensor], X: Any, y: Any, *, scores: bool = False
    ) -> NDArray[Any]:
        """Validate, and map ``function(model, rows, context)`` over chunks of rows."""
        check_is_fitted(self)
        with threads_for():
            X = self._validate_rows(X, reset=False)
            return self._map(function, X, *self._known(y, X.shape[0]), scores=scores)

    def transform(self, X: ArrayLike, y: Any = None) -> NDArray[Any]:
        """Encode rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, or one for all. Where a label is missing, the code is
            averaged over the classes, each by q(y|x).

        Returns
        -------
        code : ndarray of shape (n_samples, n_components)
            Latent code, in the dtype of ``X``.
        """
        return self._apply_given(lambda model, *rows: model.encode(*rows), X, y)

    def inverse_transform(self, X: ArrayLike, y: Any = None) -> Any:
        """Decode latent codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Latent code, as ``transform`` gives it.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, or one for all. Where a label is missing, the mean is
            that over the classes.

        Returns
        -------
        X_decoded : array or DataFrame of shape (n_samples, n_features)
            Decoded mean.
        """
        code = self._validate_code(X)
        known = self._known(y, len(code))
        decoded = self._map(lambda model, *codes: model.decode(*codes), code, *known)
        return self._as_container(decoded, X)

    def reconstruct(self, X: ArrayLike, y: Any = None) -> Any:
        """Encode rows and decode the codes, under the same conditions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, or one for all.

        Returns
        -------
        X_decoded : array or DataFrame of shape (n_samples, n_features)
            ``inverse_transform(transform(X, y), y)``.
        """
        rows = self._apply_given(
            lambda model, x, *known: model.decode(model.encode(x, *known), *known), X, y
        )
        return self._as_container(rows, X)

    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        y: Any = None,
        noise: bool = True,
    ) -> Any:
        """Draw rows of given conditions, or of random classes.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.
        y : scalar or array-like of shape (n_samples, ...), default=None
            Condition of all rows, or of each. Where a label is missing, it is drawn
            from p(y).
        noise : bool, default=True
            Whether to add the noise of p(x|z, y).

        Returns
        -------
        X : array or DataFrame of shape (n_samples, n_features)
            Rows; in the order of ``y`` where it is given.
        """
        self._check_n_samples(n_samples)
        known = self._known(y, n_samples)

        def draw(model: Any, rows: slice, generator: torch.Generator) -> Any:
            like = model.standardizer.shift
            context = [torch.from_numpy(each[rows]).to(like) for each in known]
            return model.draw(rows.stop - rows.start, noise, generator, *context)

        return self._draw(draw, n_samples, random_state)

    def score_samples(self, X: ArrayLike, y: Any = None) -> NDArray[Any]:
        """Evaluate the log-density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, or one for all.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            log p(x|y) in nats, exact or a lower bound on it; log p(x) where a label is
            missing.
        """
        return self._apply_given(
            lambda model, *rows: model.log_prob(*rows), X, y, scores=True
        )

    def score(self, X: ArrayLike, y: Any = None, sample_weight: Any = None) -> float:
        """Return the mean log-density of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row. Without it, the score is that of p(x), which
            compares with other estimators.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, not negative; only their ratios matter.

        Returns
        -------
        score : float
            Weighted mean of ``score_samples(X, y)``, in nats per row.
        """
        scores = np.asarray(computed(self.score_samples(X, y)))
        weight = check_sample_weight(computed(sample_weight), len(scores))
        return weighted_mean(scores, weight)

    def log_likelihood(
        self,
        X: ArrayLike,
        n_samples: int = 5000,
        *,
        y: Any = None,
        random_state: Any = 0,
    ) -> LogLikelihood:
        """Estimate log p(x|y) or log p(x) carefully, with many importance samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        n_samples : int, default=5000
            Draws from the encoder, for each row (and class, where a label is missing).
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, or one for all.
        random_state : int, RandomState, Generator or None, default=0
            Source of the draws; ``None`` is fresh entropy at each call.

        Returns
        -------
        estimate : LogLikelihood
            ``log_prob`` and its Monte Carlo ``standard_error``, in nats.

        Warns
        -----
        DegenerateWeightsWarning
            If the effective sample size of a row is below 2, of 500 draws or more.
        """
        return self._careful(
            lambda function: self._apply_given(function, X, y, scores=True),
            n_samples,
            random_state,
        )

    @available_unless(_without_classes)
    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Return the probability of each class, by Bayes' rule.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            ``p(y) p(x|y) / sum_y p(y) p(x|y)``, in the order of ``classes_``, with the
            bounds of ``score_samples`` in the place of ``log p(x|y)``.
        """
        return self._apply(
            lambda model, x: model.class_probabilities(x), X, scores=True
        )

    @available_unless(_without_classes)
    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Labels, of ``classes_``.
        """
        best = self.predict_proba(X).argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels

    # State.

    def _as_blank(self, built_with: dict[str, Any]) -> Self:
        blank = super()._as_blank(built_with)
        own = vars(self)
        blank.__dict__.update({name: own[name] for name in BUILT_FROM if name in own})
        return blank

    def _set_file_state(self, state: dict[str, Any]) -> None:
        if state["_built_with"].get("condition") is None:
            super()._set_file_state(state)
            return
        n, classes = state.get("n_conditions_"), state.get("classes_")
        if not (integer(1).accepts(n) and boolean.accepts(state.get("_some_missing"))):
            raise ValueError("there is no number of conditions")
        if classes is not None and np.shape(classes) != (n,):
            raise ValueError("there are other classes than conditions")
        m = n if classes is None else 1
        if "_held" in state and np.shape(state["_held"]) != (1, m):
            raise ValueError("the condition that is held is none")
        self.__dict__.update(
            {name: state[name] for name in BUILT_FROM if name in state}
        )
        super()._set_file_state(state)

    def _unconditional(self) -> Self:
        if self._has_classes or hasattr(self, "_held"):
            return self
        mean = self.module_.condition.shift.cpu().numpy()
        held: Self = self.conditioned_on(mean)
        return held


@estimator
class OptionallyConditioned(Conditioned):
    """Base of the estimators that take conditions where they are asked to.

    Labels may not be missing in ``fit``.

    Parameters
    ----------
    condition : {"auto", "classes", "numbers"} or None, default=None
        Kind of y that rows are conditioned on; None ignores y. "auto" takes one column
        for classes, unless it holds numbers with fractions; and several columns for
        numbers.
    """

    _without_y = "leave condition=None"

    _: KW_ONLY
    condition: Literal["auto", "classes", "numbers"] | None = parameter(
        options("auto", "classes", "numbers"), none, default=None, builds=True
    )

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row: a label, or numbers. Ignored where ``condition`` is
            None.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, not negative; only their ratios matter.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or an argument is out of its range, or y is missing.
        ImportError
            If the library that a model needs is not installed.

        Warns
        -----
        ConvergenceWarning
            If the fit ended before it converged.
        """
        return super().fit(X, y, sample_weight)

    def partial_fit(
        self, X: ArrayLike, y: Any = None, sample_weight: Any = None
    ) -> Self:
        """Train for one epoch on the given rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows. The first call sets the standardisation.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, where ``condition`` is not None. The first call sets
            the classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, on one scale over all calls.

        Returns
        -------
        self : object
            The estimator.
        """
        return super().partial_fit(X, y, sample_weight)

    @property
    def _kind_of_condition(self) -> str | None:
        kind: str | None = self._fitted("condition")
        return kind

    def _context(self, y: Any, n: int, *, reset: bool) -> NDArray[Any] | None:
        if self._kind_of_condition is None:
            for name in (*BUILT_FROM, "_held"):
                self.__dict__.pop(name, None)
            return None
        context = super()._context(y, n, reset=reset)
        if self._some_missing:
            raise ValueError(
                f"y has missing labels (-1, NaN or None), and {type(self).__name__} "
                "learns from rows with their labels only. Leave those rows out, or use "
                "ConditionalVAE."
            )
        return context

    @property
    def _new_condition(self) -> Classes | Numbers | None:
        """Make what networks see of a condition, for training rows to be set."""
        if self.condition is None:
            return None
        c = self.n_conditions_
        return Classes(c) if self._has_classes else Numbers.of_width(c)

    def _known(self, y: Any, n: int) -> tuple[NDArray[Any], ...]:
        return () if self._kind_of_condition is None else super()._known(y, n)

    def _unconditional(self) -> Self:
        if self._kind_of_condition is None or hasattr(self, "_held"):
            return self
        if self._has_classes:
            held: Self = self.conditioned_on(self.classes_[0])
            return held
        return super()._unconditional()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.condition is not None
        return tags
