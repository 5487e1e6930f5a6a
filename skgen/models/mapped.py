"""A density behind a map of rows: what a pipeline and a table have in common.

Rows are mapped to those of the model inside, which answers, and what are rows again are
mapped back. A class gives the model inside (``_inner``), the map (``_mapped_in``) and
the way back (``_mapped_back``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skgen._utils.estimators import available_if
from skgen._utils.tensors import fresh_random_state
from skgen.models.base import check_sample_weight, weighted_mean
from skgen.models.evaluation import LogLikelihood
from skgen.models.vae import Elbo, Posterior


def inner_has(name: str) -> Callable[[Any], bool]:
    """Check that the model inside has a method; an AttributeError says it has not."""

    def check(density: MappedDensity) -> bool:
        getattr(density._inner, name)
        return True

    return check


class MappedDensity:
    """A density behind a map of rows, in the units of the rows as given."""

    @property
    def _inner(self) -> Any:
        """The model inside, fitted or not."""
        raise NotImplementedError

    def _mapped_in(self, X: Any) -> tuple[Any, NDArray[Any]]:
        """Map rows (n, d), and give what to add to their scores, (n,).

        Where that is not finite, the row has no place in the model, and is left out.
        """
        raise NotImplementedError

    def _mapped_back(self, rows: NDArray[Any], like: Any = None) -> Any:
        """Map rows of the model back, into the container and index of ``like``."""
        raise NotImplementedError

    def _encoded(self, X: Any) -> Any:
        """Map all rows, for what needs no score."""
        return self._mapped_in(X)[0]

    def _drawn(self, draw: Callable[[int], NDArray[Any]], n_samples: int) -> Any:
        """Map draws of the model back."""
        return self._mapped_back(draw(n_samples))

    def _drawn_given(
        self, n: int, given: Any, noise: bool, rng: np.random.RandomState
    ) -> Any:
        """Draw n rows given what is known of them, and map them back."""
        raise NotImplementedError

    # The density.

    @available_if(inner_has("score_samples"))
    def score_samples(self, X: Any) -> NDArray[Any]:
        """Evaluate the log-density of each row, in the units of ``X``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            log p(x) in nats: exact, or a lower bound where that of the model inside is.
        """
        rows, terms = self._mapped_in(X)
        if not len(rows):
            return terms
        return added(terms, self._inner.score_samples(rows))

    @available_if(inner_has("score_samples"))
    def score(
        self, X: Any, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean log-density of the rows, in the units of ``X``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, not negative; only their ratios matter.

        Returns
        -------
        score : float
            Weighted mean of ``score_samples(X)``, in nats per row.
        """
        scores = self.score_samples(X)
        return weighted_mean(scores, check_sample_weight(sample_weight, len(scores)))

    @available_if(inner_has("log_likelihood"))
    def log_likelihood(
        self, X: Any, n_samples: int = 5000, *, random_state: Any = 0
    ) -> LogLikelihood:
        """Estimate log p(x) carefully, in the units of ``X``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows.
        n_samples : int, default=5000
            Number of importance samples for each row.
        random_state : int, RandomState, Generator or None, default=0
            Source of the samples.

        Returns
        -------
        estimate : LogLikelihood
            ``log_prob``, its Monte Carlo ``standard_error`` in nats, and the
            ``effective_sample_size`` of the draws.

        Warns
        -----
        DegenerateWeightsWarning
            If so few draws are effective for a row that its estimate may be far too
            low.
        """
        rows, terms = self._mapped_in(X)
        errors = np.zeros(len(terms))
        if not len(rows):
            return LogLikelihood(terms, errors, n_samples)
        log_prob, errors[np.isfinite(terms)] = self._inner.log_likelihood(
            rows, n_samples, random_state=random_state
        )
        return LogLikelihood(added(terms, log_prob), errors, n_samples)

    @available_if(inner_has("elbo"))
    def elbo(self, X: Any) -> Elbo:
        """Evaluate the parts of the evidence lower bound, in the units of ``X``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        elbo : Elbo
            Named tuple of ``reconstruction``, which has what the map adds to a score,
            and ``kl``, which no change of units changes; (n_samples,) each, in nats.
        """
        rows, terms = self._mapped_in(X)
        kl = np.zeros(len(terms))
        if not len(rows):
            return Elbo(terms, kl)
        found = self._inner.elbo(rows)
        kl[np.isfinite(terms)] = found.kl
        return Elbo(added(terms, found.reconstruction), kl.astype(found.kl.dtype))

    @available_if(inner_has("sample"))
    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        noise: bool = True,
        given: Any = None,
    ) -> Any:
        """Draw rows, in the units of the data.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows; for a table of conditions, of each of its rows.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.
        noise : bool, default=True
            Whether to add the noise of p(x|code). Without it, a row is what
            ``inverse_transform`` makes of its latent draw.
        given : dict, array-like or DataFrame, default=None
            What is known of the rows, in the units of the data. A dict has columns by
            name or number, and for each a value, an interval ``(low, high)`` with None
            for no end, or a list of values, of which the cell is one. A row, or a
            Series, has missing cells where nothing is known; an array (r, n_features)
            or a DataFrame, which may lack columns, are r rows that are each completed,
            in their order.

        Returns
        -------
        X : DataFrame or array of shape (n_samples, n_features)
            Rows in random order, in the container that ``set_output`` asks for.

        Raises
        ------
        ValueError
            If ``given`` is no condition on the columns, or has no mass.

        Warns
        -----
        DegenerateWeightsWarning
            If intervals are met by so few draws that they stand for the density badly.
        """
        check_is_fitted(self)
        rng = fresh_random_state(random_state)
        if given is not None:
            return self._drawn_given(n_samples, given, noise, rng)
        draw = partial(self._inner.sample, noise=noise, random_state=rng)
        return self._drawn(draw, n_samples)

    # Between rows and codes.

    @available_if(inner_has("posterior"))
    def posterior(self, X: Any) -> Posterior:
        """Encode rows as normal densities of their codes.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        posterior : Posterior
            Named tuple of ``mean``, which ``transform`` gives, and ``std``,
            (n_samples, n_components) each.
        """
        check_is_fitted(self)
        posterior: Posterior = self._inner.posterior(self._encoded(X))
        return posterior

    @available_if(inner_has("reconstruct"))
    def reconstruct(self, X: Any) -> Any:
        """Encode rows, decode the codes, and map back.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        X_decoded : DataFrame or array of shape (n_samples, n_features)
            Rows in the units of the data, as from ``inverse_transform``.
        """
        check_is_fitted(self)
        return self._mapped_back(self._inner.reconstruct(self._encoded(X)), X)

    @property
    def _code_variances(self) -> NDArray[Any] | None:
        return getattr(self._inner, "_code_variances", None)

    @property
    def _code_mean(self) -> NDArray[Any] | None:
        return getattr(self._inner, "_code_mean", None)


def added(terms: NDArray[Any], scores: NDArray[Any]) -> NDArray[Any]:
    """Add scores (m,) to the terms (n,) that are finite, in the scores' dtype."""
    total = terms.copy()
    total[np.isfinite(terms)] += scores
    return total.astype(scores.dtype)
