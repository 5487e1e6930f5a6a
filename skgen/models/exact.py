"""Shared parts of the models of exact densities: missing cells are integrated out."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from skgen._em.fitted import FittedMixture
from skgen._em.fixed_point import FixedPoint
from skgen._em.truncation import draw_within
from skgen._tables.conditions import Conditions, read_conditions
from skgen._utils.tensors import draw_seed, fresh_random_state, make_generator
from skgen.exceptions import DegenerateWeightsWarning
from skgen.models.base import (
    GenerativeModel,
    InformationCriteria,
    check_sample_weight,
)

INCOMPLETE_BATCH = (
    "{owner}.partial_fit takes rows without missing cells (NaN), which need many "
    "passes over all rows. Use fit; or leave incomplete rows out."
)


# Draws in intervals that few candidates are worth.
FEW = 100


class ExactDensity(InformationCriteria, GenerativeModel):
    """Base of the closed-form models, whose rows may have missing cells, NaN."""

    @property
    def _allows_missing(self) -> bool:
        return True

    def impute(
        self, X: ArrayLike, *, noise: bool = False, random_state: Any = None
    ) -> Any:
        """Fill cells that are missing, given the rest of their row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows with NaN in the place of what is missing.
        noise : bool, default=False
            Whether to draw missing cells from their density given the rest of the row,
            for multiple imputation. Without it they are the mean of that density.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.

        Returns
        -------
        X_filled : array or DataFrame of shape (n_samples, n_features)
            The rows; cells that were there are as they were.

        Examples
        --------
        >>> import numpy as np
        >>> from skgen import GaussianDensity
        >>> X = np.array([[0.0, 0.0], [1.0, 2.1], [2.0, 3.9], [3.0, 6.0]])
        >>> GaussianDensity().fit(X).impute([[1.5, np.nan]]).round(2)
        array([[1.5, 3. ]])
        """
        check_is_fitted(self)
        generator = None
        if noise:
            seed = draw_seed(fresh_random_state(random_state))
            generator = make_generator(seed, torch.device(self.device_))
        rows = self._apply(lambda model, x: model.impute(x, generator), X)
        return self._as_container(rows, X)

    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        noise: bool = True,
        given: Any = None,
        return_code: bool = False,
    ) -> Any:
        """Draw rows from the density that ``score_samples`` evaluates.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows; for a table of conditions, of each of its rows.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.
        noise : bool, default=True
            Whether to add the noise of p(x|z). Without it, a row is the decoded mean of
            its latent draw; of a mixture, given the cells that are fixed.
        given : dict, array-like or DataFrame, default=None
            What is known of the rows. A dict has columns by name or number, and for
            each a number, an interval ``(low, high)`` with None for no end, or a list
            of numbers, of which the cell is one. An array (n_features,) is a row, NaN
            where nothing is known; an array (r, n_features) or a DataFrame are r rows
            that are each completed, in their order.
        return_code : bool, default=False
            Whether to return the latent codes of the rows, too.

        Returns
        -------
        X : array or DataFrame of shape (n_samples, n_features)
            Rows in random order, in the dtype of the training data; a DataFrame where
            ``set_output`` asks for one.
        code : array of shape (n_samples, n_latent)
            If ``return_code``: the latent draws, as ``transform`` writes codes.

        Raises
        ------
        ValueError
            If ``given`` is no condition on the columns, or has no mass.

        Warns
        -----
        DegenerateWeightsWarning
            If intervals of several dependent columns are met by so few draws that they
            stand for the density badly.

        Notes
        -----
        Draws given values, levels, and intervals of independent columns or of one
        column are exact. Intervals of several dependent columns are met by importance
        resampling, from 20 candidates for a row and at most a million.

        Examples
        --------
        >>> import numpy as np
        >>> from skgen import GaussianDensity
        >>> X = np.random.RandomState(0).randn(200, 2) @ [[1.0, 1.0], [0.0, 0.5]]
        >>> model = GaussianDensity().fit(X)
        >>> model.sample(1000, 0, given={0: 2.0}).mean(axis=0).round(1)
        array([2., 2.])
        >>> bool((model.sample(1000, 0, given={1: (0, None)})[:, 1] > 0).all())
        True
        """
        if given is None and not return_code:
            return super().sample(n_samples, noise=noise, random_state=random_state)
        self._check_n_samples(n_samples)
        rng = fresh_random_state(random_state)
        rows = self._conditioned(n_samples, given, rng)
        generator = make_generator(draw_seed(rng), torch.device(self.device_))

        def drawn(model: Any, x: torch.Tensor) -> torch.Tensor:
            return torch.cat(model.complete(x, noise, generator), dim=1)

        both = self._map(drawn, rows).astype(self._dtype, copy=False)
        d = self.n_features_in_
        X = self._as_container(both[:, :d])
        return (X, self._drawn_code(both[:, d:])) if return_code else X

    def _conditioned(
        self, n: int, given: Any, rng: np.random.RandomState
    ) -> NDArray[np.float64]:
        """Return rows of what is known of n draws, (n, d), NaN for what is not."""
        d, owner = self.n_features_in_, type(self).__name__
        if given is None:
            return np.full((n, d), np.nan)
        names = getattr(self, "feature_names_in_", None)
        conditions = read_conditions(given, names, d, owner)
        self._check_finite(conditions.rows)
        if conditions.are_values:
            return conditions.rows.repeat(n, axis=0)
        return self._within(conditions, n, rng)

    def _within(
        self, conditions: Conditions, n: int, rng: np.random.RandomState
    ) -> NDArray[np.float64]:
        """Draw the cells that are to lie in intervals, and levels of others."""
        columns = list(conditions.intervals)
        ends = np.array(list(conditions.intervals.values())).reshape(-1, 2)
        mixture, owner = self._mixture(), type(self).__name__
        known = mixture.known(torch.as_tensor(conditions.rows), columns)
        try:
            case, cells, effective = draw_within(known, ends[:, 0], ends[:, 1], n, rng)
        except ValueError as error:
            raise ValueError(
                f"'given' of {owner} has no mass under the fitted density: {error}. "
                "Widen the intervals."
            ) from error
        if effective < FEW:
            warnings.warn(
                f"{owner}.sample: the {n} rows stand for {effective:.1f} draws only, "
                "since few candidates meet the intervals of 'given' together. Widen "
                "them, or give values for some columns.",
                DegenerateWeightsWarning,
                stacklevel=4,
            )
        rows = conditions.rows[case]
        rows[:, columns] = cells
        return rows

    def _drawn_code(self, code: NDArray[Any]) -> Any:
        """Return latent draws (n, k) as ``transform`` writes codes."""
        return code

    @abstractmethod
    def _mixture(self) -> FittedMixture:
        """Return the density as a mixture of Gaussians."""

    def score_samples(
        self, X: ArrayLike, given: Iterable[Any] | None = None
    ) -> NDArray[Any]:
        """Evaluate the log-density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; missing cells, NaN, are integrated out.
        given : list of column names or numbers, default=None
            Columns to condition on.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            log p(x) in nats, exact; with ``given``, log p(rest of x given those
            columns).
        """
        scores = super().score_samples(X)
        return scores if given is None else scores - self._log_marginals(X, given)


class MixtureDensity(ExactDensity):
    """Base of mixtures that EM fits: responsibilities are their code."""

    weights_: NDArray[Any]
    max_iter: int

    def _warn_unless_converged(self, run: FixedPoint[Any]) -> None:
        if run.converged or run.stopped or self.max_iter == 0:
            return
        warnings.warn(
            "Best performing initialization did not converge. Try different init "
            "parameters, or increase max_iter, tol, or check for degenerate data.",
            ConvergenceWarning,
            stacklevel=2,
        )

    def fit_predict(
        self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Fit, and predict the component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Index of the most probable component.
        """
        return self.fit(X, y, sample_weight=sample_weight).predict(X)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; cells may be missing.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Index of the component.
        """
        return self._apply(lambda model, x: model.encode(x).argmax(1), X)

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Evaluate the responsibilities, as ``transform`` does.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; cells may be missing.

        Returns
        -------
        resp : ndarray of shape (n_samples, n_components)
            Probability of each component given the row.
        """
        return self._apply(lambda model, x: model.encode(x), X)

    def icl(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the integrated completed likelihood, as a criterion.

        BIC counts components that a density needs, ICL those that are clusters: it adds
        what it leaves open to which component a row belongs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; a row of weight 2 counts as two rows.

        Returns
        -------
        icl : float
            ``bic(X)`` and twice the entropy of the responsibilities, summed over rows,
            in nats: the lower the better.

        References
        ----------
        Biernacki, Celeux & Govaert, "Assessing a mixture model for clustering with the
        integrated completed likelihood", IEEE Transactions on Pattern Analysis and
        Machine Intelligence 22(7), 2000.
        """
        each = entr(self.predict_proba(X).astype(np.float64)).sum(axis=1)
        weight = check_sample_weight(sample_weight, len(each))
        total = each.sum() if weight is None else weight @ each
        return self.bic(X, sample_weight) + 2 * float(total)

    @property
    def _n_features_out(self) -> int:
        return len(self.weights_)
