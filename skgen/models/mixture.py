"""Mixtures of Gaussians, fitted by EM; responsibilities are their latent code.

``z ~ Categorical(w)``, ``x|z=k ~ N(m_k, S_k)``. The steps of EM are in
`skgen._em.steps`; what a covariance type decides is in `skgen._em.covariance`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY
from functools import partial
from time import perf_counter
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from skgen._em.acceleration import squared_steps
from skgen._em.covariance import COVARIANCES
from skgen._em.factors import factor_analysed, factor_steps
from skgen._em.fitted import FittedMixture
from skgen._em.fixed_point import FixedPoint, Iterate
from skgen._em.incomplete import IncompleteRows, start_from_cells, with_holes
from skgen._em.matrices import Direct
from skgen._em.priors import (
    MixturePrior,
    Regularisation,
    conjugate,
    penalised_steps,
    with_ridge,
)
from skgen._em.restarts import (
    SILENCE,
    EMRun,
    MakeSteps,
    Observer,
    Restarts,
    normal_steps,
)
from skgen._em.starts import Given, check_given, draw_responsibilities
from skgen._em.steps import (
    Mixture,
    holds,
    start_around,
    start_from,
    weighted_means,
)
from skgen._em.stepwise import step_on_batch, step_size
from skgen._training.driver import Steps
from skgen._utils.chunks import CentredRows
from skgen._utils.estimators import available_if
from skgen._utils.parameters import (
    array_like,
    attribute,
    boolean,
    device,
    estimator,
    integer,
    none,
    options,
    parameter,
    path,
    random_state,
    real,
    verbosity,
)
from skgen._utils.reduce import any_true, count, first_draws, rank, total
from skgen._utils.scales import least_variances, warn_collapsed, warn_scales
from skgen._utils.tensors import check_random_state, to_array
from skgen._utils.threads import threads_for
from skgen.models.base import FitCallbacks, whole_or_as_before
from skgen.models.exact import MixtureDensity

CovarianceType = Literal["full", "tied", "diag", "spherical", "factor"]


class Reporter(Observer):
    """scikit-learn's messages on standard output, and its callbacks."""

    listens = True

    def __init__(self, model: Any, rows: Any, callbacks: FitCallbacks) -> None:
        self._model, self._rows, self._callbacks = model, rows, callbacks
        self._verbose = 0 if rank() else int(model.verbose)

    def begin(self, start: int) -> None:
        """Say which start it is."""
        if self._verbose:
            print(f"Initialization {start}")
        self._began = self._last = perf_counter()

    def begin_step(self) -> None:
        """Tell the callbacks."""
        self._callbacks.begin()

    def end_step(self, em_run: EMRun, change: float) -> bool:
        """Print the change, and ask the callbacks whether to stop."""
        self._report_step(len(em_run.bounds), change)
        so_far = FixedPoint(em_run.theta, em_run.bounds, False, False)
        return any_true(
            self._callbacks.end(lambda: self._model._attributes(self._rows, so_far))
        )

    def _report_step(self, i: int, change: float) -> None:
        if not self._verbose or i % self._model.verbose_interval:
            return
        now = perf_counter()
        times = f"\t time lapse {now - self._last:.5f}s\t ll change {change:.5f}"
        print(f"  Iteration {i}" + (times if self._verbose > 1 else ""))
        self._last = now

    def end(self, em_run: EMRun) -> None:
        """Say how it ended."""
        if not self._verbose:
            return
        lapse = perf_counter() - self._began
        times = f" time lapse {lapse:.5f}s\t lower bound {em_run.bound:.5f}."
        words = "converged" if em_run.converged else "did not converge"
        print(f"Initialization {words}." + (times if self._verbose > 1 else ""))


@estimator
class EllipticalMixture(MixtureDensity):
    """A mixture whose components are ellipses, fitted by EM: what such models share.

    Parameters
    ----------
    n_components : int, default=1
        Number of components.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        A covariance matrix per component, one for all, a variance per component and
        feature, or a variance per component.
    tol : float, default=1e-3
        EM stops when the mean log-density changes by less.
    reg_covar : float or "auto", default=1e-6
        Added to the variances, in squared units of the data. A warning says when it is
        above a tenth of the smallest variance of a column that is not constant, and
        when a component has no other width. With 0, no iteration lowers the likelihood.
        "auto" is a number per column: the square of a thousandth of its spread, or the
        variance of rounding where values repeat; their mean, where a component has one
        variance.
    max_iter : int, default=100
        Most iterations of EM; 0 keeps the start.
    n_init : int, default=1
        Number of starts, of which the best result is kept. They take their iterations
        together, as one batch, and each ends when it would alone; with callbacks or
        ``verbose``, one follows the other.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, \
            default="kmeans"
        Where EM starts: from clusters, from rows picked far apart, from random
        responsibilities, or from random rows. Of more than 2^20 rows or 2^24 numbers,
        a start looks at some only, drawn at random: 2^23 numbers, and 2^16 rows or
        more.
    weights_init : array-like of shape (n_components,), default=None
        Weights to start from.
    means_init : array-like of shape (n_components, n_features), default=None
        Means to start from.
    precisions_init : array-like, default=None
        Precisions to start from, shaped as ``precisions_``.
    random_state : int, RandomState, Generator or None, default=None
        Source of the starts.
    warm_start : bool, default=False
        Whether to go on from the last fit, where there is one.
    verbose : int, default=0
        1 prints the iterations, 2 also their times and changes.
    verbose_interval : int, default=10
        Iterations between two messages.
    device : str or torch.device, default="cpu"
        "cpu", "cuda", "cuda:<index>", "mps" or "auto".
    checkpoint : path-like or None, default=None
        File that has the state of a fit that runs, after each iteration, or a folder
        for the files of many fits, such as those of a search. Called again with the
        same parameters and rows, a fit that was killed goes on from there, says so, and
        ends where it would have ended, to the bit. Other parameters or rows are an
        error. A fit that ends removes its file; in a folder it stays, so that a search
        that is called again has the result at once.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Prior probability of each component. This and the arrays below are float64; of
        float32 rows they are float32 if that says the same density.
    means_ : ndarray of shape (n_components, n_features)
        Mean of each component.
    covariances_ : ndarray
        Covariances, of shape (n_components, n_features, n_features) when full,
        (n_features, n_features) when tied, (n_components, n_features) when diag,
        (n_components,) when spherical.
    precisions_ : ndarray
        Their inverses, in the same shape.
    precisions_cholesky_ : ndarray
        Cholesky factors of the inverses, in the same shape.
    converged_ : bool
        Whether the best start met ``tol``.
    n_iter_ : int
        Iterations of the best start.
    lower_bound_ : float
        Mean log-density of the training rows before the last M-step.
    lower_bounds_ : list of float
        The same, for each iteration.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit, when they are all strings.
    device_ : str
        Where the model is evaluated.
    """

    weights_: NDArray[Any] = attribute()
    means_: NDArray[Any] = attribute()
    covariances_: NDArray[Any] = attribute()
    precisions_: NDArray[Any] = attribute()
    precisions_cholesky_: NDArray[Any] = attribute()
    converged_: bool = attribute()
    lower_bound_: float = attribute()
    lower_bounds_: list[float] = attribute()

    # Of reg_covar="auto": what is added to the variances of each column, (d,).
    _added: NDArray[Any] = attribute()

    _goes_on_from: ClassVar[Mapping[str, type]] = {
        "lower_bound_": float,
        "lower_bounds_": list,
    }

    n_components: int = parameter(integer(1), default=1, builds=True)
    _: KW_ONLY
    covariance_type: Literal["full", "tied", "diag", "spherical"] = parameter(
        options(*COVARIANCES), default="full", builds=True
    )
    tol: float = parameter(real(0), default=1e-3)
    reg_covar: float | Literal["auto"] = parameter(
        options("auto"), real(0), default=1e-6
    )
    max_iter: int = parameter(integer(0), default=100)
    n_init: int = parameter(integer(1), default=1)
    init_params: Literal["kmeans", "k-means++", "random", "random_from_data"] = (
        parameter(
            options("kmeans", "k-means++", "random", "random_from_data"),
            default="kmeans",
        )
    )
    weights_init: ArrayLike | None = parameter(array_like(), none, default=None)
    means_init: ArrayLike | None = parameter(array_like(), none, default=None)
    precisions_init: ArrayLike | None = parameter(array_like(), none, default=None)
    random_state: Any = parameter(random_state, default=None)
    warm_start: bool = parameter(boolean, default=False)
    verbose: int = parameter(verbosity, default=0)
    verbose_interval: int = parameter(integer(1), default=10)
    device: str | torch.device = parameter(device, default="cpu")
    checkpoint: str | os.PathLike[str] | None = parameter(path, none, default=None)

    # Fitting.

    def _fit(
        self,
        x: Tensor,
        weight: Tensor | None,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
    ) -> Steps:
        rows = self._rows_of(x, weight)
        given = self._check_start(rows)
        observer = SILENCE
        if self.verbose or any_true(callbacks.listen):
            observer = Reporter(self, rows, callbacks)
        by = self._regularisation(rows, self._set_added(rows, rng))
        em_runs = self._em_runs(rows, given, by, rng, observer)
        runs = yield Restarts(self._kind, rows, em_runs, observer, self._make_steps())
        best = runs.best
        if runs.interrupted:
            self._warn_interrupted(len(best.bounds), "set warm_start=True")
        self._warn_unless_converged(best)
        for name, value in self._attributes(rows, best).items():
            setattr(self, name, value)
        self._warn_collapsed(rows, best.state)

    def _set_added(
        self, rows: CentredRows, rng: np.random.RandomState
    ) -> float | Tensor:
        """Choose what is added to the variances; return it as the kind adds it."""
        self._added = np.asarray(0.0)
        if isinstance(self.reg_covar, str):
            found = first_draws(rng, lambda: least_variances(rows.sampled(rng)))
            self._added = to_array(found)
        return self._added_to(rows.centre)

    def _added_to(self, like: Tensor) -> float | Tensor:
        """Return what is added to the variances."""
        if not isinstance(self.reg_covar, str):
            return self.reg_covar
        added = torch.as_tensor(self._added).to(like)
        found: Tensor = self._kind.ridge(added.expand(like.shape))
        return found

    def _warn_collapsed(self, rows: CentredRows, theta: Any) -> None:
        """Warn of components that have no width but ``reg_covar``."""
        if self.max_iter and self.reg_covar and not isinstance(self.reg_covar, str):
            variances = self._kind.variances(theta.covariances)
            warn_collapsed(rows, self.reg_covar, variances, type(self).__name__)

    def _rows_of(self, x: Tensor, weight: Tensor | None) -> CentredRows:
        """See the rows of a fit from a centre, and warn of columns of odd scale."""
        rows = CentredRows.of(x, weight).normalise_weights()
        rows = with_holes(rows, type(self).__name__)
        variance = warn_scales(rows, self.reg_covar, type(self).__name__)
        return rows.with_rounded_centre(variance)

    def _make_steps(self) -> MakeSteps:
        """Return what makes the steps of EM."""
        return normal_steps

    def _regularisation(
        self, rows: CentredRows, added: float | Tensor
    ) -> Regularisation:
        """Return what is added to the variances, or priors."""
        return added

    def _check_start(self, rows: CentredRows) -> Given:
        """Validate what the user gives of a start."""
        n, K = rows.n_rows, self.n_components
        if n < K:
            raise ValueError(
                "Expected n_samples >= n_components but got "
                f"n_components = {K}, n_samples = {n}. Lower n_components, or give "
                "more rows."
            )
        return check_given(
            self.weights_init,
            self.means_init,
            self.precisions_init,
            kind=self._kind,
            name=self.covariance_type,
            like=rows.centre.expand(K, -1),
        )

    def _em_runs(
        self,
        rows: CentredRows,
        given: Given,
        by: Regularisation,
        rng: np.random.RandomState,
        observer: Observer,
    ) -> Iterator[EMRun]:
        """Draw starts, one after the other."""
        needs_rows = not (self._is_warm or given.is_complete)
        few = rows.sampled(rng) if needs_rows else rows
        for i in range(1 if self._is_warm else self.n_init):
            observer.begin(i)
            if self._is_warm:
                theta, bound = self._last(rows), self.lower_bound_
            else:
                theta, bound = self._start(few, given, by, rng), -math.inf
            yield EMRun(theta, bound, by, self.tol, self.max_iter)

    def _start(
        self,
        rows: CentredRows,
        given: Given,
        by: Regularisation,
        rng: np.random.RandomState,
    ) -> Any:
        """Draw a start, and put what the user gives in its place."""
        found: Any = (None,) * 4
        if not given.is_complete:
            drawn = first_draws(rng, lambda: self._drawn_start(rows, given, by, rng))
            found = (part.to(rows.centre) for part in drawn)
        weights, means, covariances, roots = found
        if given.weights is not None:
            weights = given.weights
        if given.means is not None:
            means = given.means
        if given.precisions is not None:
            roots = self._kind.roots_of_precisions(given.precisions)
            covariances = self._kind.covariances(roots)
        return Mixture(weights, means, covariances, roots)

    def _drawn_start(
        self,
        rows: CentredRows,
        given: Given,
        by: Regularisation,
        rng: np.random.RandomState,
    ) -> Mixture:
        """Draw a start."""
        kind, K, wide = self._kind, self.n_components, by
        cells: IncompleteRows | None = None
        if isinstance(rows, IncompleteRows):
            cells = rows
            wide = with_ridge(by, kind.ridge(cells.missing_variance()))
            rows = cells.filled()
        start, resp = draw_responsibilities(rows, K, self.init_params, rng)
        if self._starts_around and self.init_params != "kmeans":
            means = weighted_means(start, resp) if given.means is None else given.means
            moves = self.init_params == "random"
            return start_around(kind, rows, means, wide, moves=moves)
        if cells is not None and self.init_params in ("kmeans", "random"):
            return start_from_cells(kind, cells, resp, by)
        return start_from(kind, start, resp, wide)

    @property
    def _starts_around(self) -> bool:
        """Return whether picked rows start with the rows that are nearest to each."""
        return self.covariance_type == "tied"

    @property
    def _without_sparse(self) -> str | None:
        if self.covariance_type in ("diag", "spherical", "factor"):
            return None
        return (
            f"Covariances of covariance_type={self.covariance_type!r} are of all pairs "
            "of columns: take 'diag' or 'spherical'; or reduce X first, by skgen."
            "GaussianDensity(n_components=k), which takes sparse data; or give "
            "X.toarray()."
        )

    @property
    def _is_warm(self) -> bool:
        return self.warm_start and hasattr(self, "converged_")

    def _last(self, rows: CentredRows) -> Any:
        """Return where the last fit ended."""
        model = self._model(rows.centre.dtype)
        return model.theta.minus(-model.centre)

    def _attributes(self, rows: CentredRows, run: FixedPoint[Any]) -> dict[str, Any]:
        """Return the fitted attributes, in the dtype of the data if that holds them."""
        theta = run.state
        is_narrow = self._dtype == np.float32
        narrow = is_narrow and holds(torch.float32, self._kind, theta)
        dtype = np.float32 if narrow else np.float64
        arrays = {
            "weights_": theta.weights,
            "means_": theta.means,
            "covariances_": theta.covariances,
            "precisions_": self._kind.precisions(theta.roots),
            "precisions_cholesky_": theta.roots,
        }
        return {
            **{name: to_array(t).astype(dtype) for name, t in arrays.items()},
            "converged_": run.converged,
            "n_iter_": len(run.bounds),
            "lower_bound_": run.bound,
            "lower_bounds_": list(run.bounds),
        }

    @classmethod
    def _upgraded(cls, state: dict[str, Any]) -> dict[str, Any]:
        # 0.1 had no reg_covar="auto".
        return {"_added": np.asarray(0.0), **super()._upgraded(state)}

    # Evaluating.

    def _n_parameters(self) -> int:
        """Free parameters of the model."""
        K, d = self.means_.shape
        found: int = self._kind.n_parameters(K, d) + K * d + K - 1
        return found

    @property
    def _kind(self) -> Direct:
        return COVARIANCES[self._fitted("covariance_type")]

    def _model(self, dtype: torch.dtype) -> FittedMixture:
        return FittedMixture.of(
            self._kind,
            self.weights_,
            self.means_,
            self.covariances_,
            self.precisions_cholesky_,
            device=torch.device(self.device_),
        )

    def _mixture(self) -> FittedMixture:
        return self._model(torch.float64)

    @property
    def _n_tasks(self) -> int | None:
        return self.max_iter * (1 if self._is_warm else self.n_init)

    @property
    def _row_elements(self) -> int:
        return self._kind.row_elements(*self.means_.shape)

    @property
    def _score_elements(self) -> int:
        return self._kind.score_elements(*self.means_.shape)


def _has_steps(model: GaussianMixtureEM) -> bool:
    """Return whether there is stepwise EM; raise an AttributeError otherwise."""
    if model._has_priors or model.covariance_type == "factor":
        raise AttributeError(
            f"{type(model).__name__}.partial_fit has no steps of "
            "covariance_type='factor', nor under covariance_prior or weight_prior. "
            "Use fit; or other covariances without priors."
        )
    return True


@estimator
class GaussianMixtureEM(EllipticalMixture):
    """A mixture of Gaussians whose latent code is the responsibilities.

    The model, the parameters and, from the same start, the results are those of
    :class:`sklearn.mixture.GaussianMixture`; sample weights, a device, and the way
    between rows and codes are new. The score is exact. The notes say where it deviates.

    Parameters
    ----------
    n_components : int, default=1
        Number of components.
    covariance_type : {"full", "tied", "diag", "spherical", "factor"}, default="full"
        A covariance matrix per component, one for all, a variance per component and
        feature, or a variance per component. "factor" is a factor analysis per
        component: a matrix of rank ``n_factors`` and a variance per feature, for many
        columns.
    tol : float, default=1e-3
        EM stops when the mean log-density changes by less.
    reg_covar : float or "auto", default=1e-6
        Added to the variances, in squared units of the data. A warning says when it is
        above a tenth of the smallest variance of a column that is not constant, and
        when a component has no other width. With 0, no iteration lowers the likelihood.
        "auto" is a number per column: the square of a thousandth of its spread, or the
        variance of rounding where values repeat; their mean, where a component has one
        variance.
    max_iter : int, default=100
        Most iterations of EM; 0 keeps the start.
    n_init : int, default=1
        Number of starts, of which the best result is kept. They take their iterations
        together, as one batch, and each ends when it would alone; with callbacks or
        ``verbose``, one follows the other.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, \
            default="kmeans"
        Where EM starts: from clusters, from rows picked far apart, from random
        responsibilities, or from random rows. Of more than 2^20 rows or 2^24 numbers,
        a start looks at some only, drawn at random: 2^23 numbers, and 2^16 rows or
        more.
    weights_init : array-like of shape (n_components,), default=None
        Weights to start from.
    means_init : array-like of shape (n_components, n_features), default=None
        Means to start from.
    precisions_init : array-like, default=None
        Precisions to start from, shaped as ``precisions_``.
    random_state : int, RandomState, Generator or None, default=None
        Source of the starts.
    warm_start : bool, default=False
        Whether to go on from the last fit, where there is one.
    verbose : int, default=0
        1 prints the iterations, 2 also their times and changes.
    verbose_interval : int, default=10
        Iterations between two messages.
    device : str or torch.device, default="cpu"
        "cpu", "cuda", "cuda:<index>", "mps" or "auto".
    checkpoint : path-like or None, default=None
        File that has the state of a fit that runs, after each iteration, or a folder
        for the files of many fits, such as those of a search. Called again with the
        same parameters and rows, a fit that was killed goes on from there, says so, and
        ends where it would have ended, to the bit. Other parameters or rows are an
        error. A fit that ends removes its file; in a folder it stays, so that a search
        that is called again has the result at once.
    n_factors : int, default=1
        Factors of a component, where ``covariance_type="factor"``; at most the number
        of columns.
    covariance_prior : "auto", float or None, default=None
        Prior of the covariances, for few rows: so many rows are added to each
        component, about its mean, with the covariance of all rows divided by
        ``n_components ** (2 / n_features)``. "auto" is the inverse-Wishart prior of
        Fraley & Raftery. With factors, it is of the noise.
    weight_prior : float, default=0.0
        Rows of mean weight that are added to the weight of each component: a Dirichlet
        prior, under which no weight is zero.
    decay : float, default=0.7
        How fast ``partial_fit`` forgets: batch t replaces the part
        ``(t + 2) ** -decay`` of the sums, where t is the weight of all rows before in
        batches of this one's weight.
    acceleration : {"squarem"} or None, default=None
        "squarem" makes an iteration of three steps of EM, the last of which starts from
        where the two before it lead to, or is left out where the likelihood would fall.
        It takes fewer passes over the rows where components overlap, or ``tol`` is
        small. Starts are then not taken as a batch.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Prior probability of each component. This and the arrays below are float64; of
        float32 rows they are float32 if that says the same density.
    means_ : ndarray of shape (n_components, n_features)
        Mean of each component.
    covariances_ : ndarray
        Covariances, of shape (n_components, n_features, n_features) when full,
        (n_features, n_features) when tied, (n_components, n_features) when diag,
        (n_components,) when spherical; (n_components, n_features, n_factors + 1) when
        factor: loadings W and, in the last column, variances psi of the noise, of
        covariances ``W W^T + diag(psi)``.
    precisions_ : ndarray
        Their inverses, in the same shape; of factors, U and 1 / psi of
        ``diag(1 / psi) - U U^T``.
    precisions_cholesky_ : ndarray
        Cholesky factors of the inverses, in the same shape; of factors,
        ``W / psi^(1/2)`` and ``psi^(-1/2)``.
    converged_ : bool
        Whether the best start met ``tol``; after ``partial_fit``, false.
    n_iter_ : int
        Iterations of the best start, and calls of ``partial_fit`` since.
    lower_bound_ : float
        Mean log-density of the training rows before the last M-step; with priors, that
        and the log of their density, up to a constant, divided by the number of rows.
        After ``partial_fit``, that of the last batch before its step.
    lower_bounds_ : list of float
        The same, for each iteration.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit, when they are all strings.
    device_ : str
        Where the model is evaluated.

    See Also
    --------
    GaussianDensity : One Gaussian, in closed form.
    StudentMixtureEM : Components with heavier tails, for rows among outliers.
    KMeansAutoencoder : Hard codes.
    sklearn.mixture.GaussianMixture : The same model.

    Notes
    -----
    Three things differ from scikit-learn, which is wrong there:

    - Weights of a start from picked rows sum to one, not to ``n_components`` divided by
      the number of rows.
    - A tied covariance that starts from picked rows or random responsibilities is that
      of rows about the nearest of the starting means, in units of the covariance of all
      rows; random means then move to their rows. scikit-learn starts with the second
      moment of the rows about the origin, or with the covariance of all rows, where EM
      stays: all components become one.
    - Sums, scores and the start by K-means are float64 whatever the dtype of the rows,
      and distances lose no digits where components are far apart for their width.

    Missing cells, NaN, are integrated out: EM climbs the likelihood of the cells that
    are there, and so are scores and responsibilities. They are exact where cells are
    missing at random.

    With priors, parameters are the most probable ones: EM climbs ``lower_bounds_``, and
    no longer the likelihood alone. ``bic`` and ``icl`` may be taken of them (Fraley &
    Raftery). Factors are fitted by steps of EM that are smaller than those of other
    covariances: give ``tol=1e-5`` where the last digits of a density matter.

    References
    ----------
    Dempster, Laird & Rubin, "Maximum likelihood from incomplete data via the EM
    algorithm", JRSS B 39(1), 1977. Ghahramani & Hinton, "The EM algorithm for mixtures
    of factor analyzers", University of Toronto CRG-TR-96-1, 1996. Fraley & Raftery,
    "Bayesian regularization for normal mixture estimation and model-based clustering",
    Journal of Classification 24, 2007. Cappé & Moulines, "On-line expectation-
    maximization algorithm for latent data models", JRSS B 71(3), 2009. Liang & Klein,
    "Online EM for unsupervised models", NAACL 2009. Varadhan & Roland, "Simple and
    globally convergent methods for accelerating the convergence of any EM algorithm",
    Scandinavian Journal of Statistics 35, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import GaussianMixtureEM
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.randn(100, 2) - 4, rng.randn(300, 2) + 4])
    >>> model = GaussianMixtureEM(2, random_state=0).fit(X)
    >>> np.sort(model.weights_).round(2)
    array([0.25, 0.75])
    >>> np.sort(model.transform(X[:1])).round(3)
    array([[0., 1.]])
    >>> model.sample(5, random_state=0).shape
    (5, 2)
    """

    _: KW_ONLY
    covariance_type: CovarianceType = parameter(  # type: ignore[assignment]
        options(*COVARIANCES, "factor"), default="full", builds=True
    )
    n_factors: int = parameter(integer(1), default=1, builds=True)
    covariance_prior: float | Literal["auto"] | None = parameter(
        options("auto"), real(0), none, default=None
    )
    weight_prior: float = parameter(real(0), default=0.0)
    decay: float = parameter(real(0.5, 1, closed="right"), default=0.7)
    acceleration: Literal["squarem"] | None = parameter(
        options("squarem"), none, default=None
    )

    _goes_on_from: ClassVar[Mapping[str, type]] = {
        **EllipticalMixture._goes_on_from,
        "_seen": float,
    }

    _seen: float = attribute()  # weight of the rows so far

    def _fit(
        self,
        x: Tensor,
        weight: Tensor | None,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
    ) -> Steps:
        self._seen = _total(x, weight)
        yield from super()._fit(x, weight, rng, callbacks)

    @available_if(_has_steps)
    def partial_fit(
        self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Take a step of stepwise EM on a batch of rows.

        The first call starts as ``fit`` does, on its batch, and takes the best of
        ``n_init`` starts. In each further call the sums of the M-step decay, and the
        batch replaces a part of them, smaller with each batch. After ``fit``, they go
        on from all rows that it has seen.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Further rows; at least ``n_components`` in the first batch. Cells may be
            missing, NaN: they count with what the model expects of them.
        y : None
            Ignored, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, on one scale over all calls.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            As ``fit``.
        AttributeError
            For ``covariance_type="factor"``, or with priors: there are no such steps.

        Examples
        --------
        >>> import numpy as np
        >>> from skgen import GaussianMixtureEM
        >>> rng = np.random.RandomState(0)
        >>> model = GaussianMixtureEM(2, random_state=0)
        >>> for _ in range(50):
        ...     batch = rng.randn(100, 1) + np.where(rng.rand(100, 1) < 0.25, -4, 4)
        ...     model = model.partial_fit(batch)
        >>> np.sort(model.weights_).round(1)
        array([0.3, 0.7])
        """
        with whole_or_as_before(self), threads_for():
            self._fit_batch(X, sample_weight)
        return self

    def _fit_batch(self, X: Any, sample_weight: Any) -> None:
        """Take a step on a batch, and count its rows."""
        first = not hasattr(self, "means_")
        if not first:
            self._check_unchanged("partial_fit")
        _, x, weight = self._prepare(X, None, sample_weight, reset=first)
        if first:
            self._seen, self.lower_bounds_ = 0.0, []
        step = self._first_step if first else self._further_step
        rows, found = step(x, weight)
        self._seen += _total(x, weight)
        bounds = [*self.lower_bounds_, found.bound]
        run = FixedPoint(found.state, bounds, converged=False, stopped=False)
        for name, value in self._attributes(rows, run).items():
            setattr(self, name, value)

    def _scale_seen(self, factor: float) -> None:
        self._seen = getattr(self, "_seen", 0.0) * factor

    def _first_step(
        self, x: Tensor, weight: Tensor | None
    ) -> tuple[CentredRows, Iterate[Mixture]]:
        """Take a step from each start on these rows; return the best."""
        rows, rng = self._rows_of(x, weight), check_random_state(self.random_state)
        given, by = self._check_start(rows), self._set_added(rows, rng)
        step = normal_steps(self._kind, rows, by)
        found = (step(self._start(rows, given, by, rng)) for _ in range(self.n_init))
        return rows, max(found, key=lambda each: each.bound)

    def _further_step(
        self, x: Tensor, weight: Tensor | None
    ) -> tuple[CentredRows, Iterate[Mixture]]:
        """Take a step in which rows replace a part of the sums so far."""
        rows = CentredRows.of(x, weight).normalise_weights()
        theta = self._last(rows)
        if rows.centre.isnan().any():
            rows = IncompleteRows(rows.x, rows.weight, theta.weights @ theta.means)
        rate = step_size(self._seen / _total(x, weight), self.decay)
        added = self._added_to(rows.centre)
        return rows, step_on_batch(self._kind, rows, added, rate, theta)

    @classmethod
    def _upgraded(cls, state: dict[str, Any]) -> dict[str, Any]:
        # 0.1 did not count rows.
        return {"_seen": 0.0, **super()._upgraded(state)}

    @property
    def _kind(self) -> Direct:
        if self._fitted("covariance_type") == "factor":
            return factor_analysed(int(self._fitted("n_factors")))
        return super()._kind

    @property
    def _starts_around(self) -> bool:
        return self.covariance_type in ("tied", "factor")

    def _check_start(self, rows: CentredRows) -> Given:
        d, q = len(rows.centre), self.n_factors
        if self.covariance_type == "factor" and q > d:
            raise ValueError(
                f"n_factors={q} of {type(self).__name__} must be at most the number of "
                f"columns, n_features={d}. Lower n_factors."
            )
        return super()._check_start(rows)

    def _make_steps(self) -> MakeSteps:
        is_factor = self.covariance_type == "factor"
        steps: MakeSteps = factor_steps if is_factor else normal_steps
        if self._has_priors:
            steps = partial(penalised_steps, steps)
        return steps if self.acceleration is None else partial(squared_steps, steps)

    @property
    def _has_priors(self) -> bool:
        return self.covariance_prior is not None or self.weight_prior > 0

    @property
    def _fits_together(self) -> bool:  # type: ignore[override]
        """Return whether no prior is to be found from the rows of all processes."""
        return self.covariance_prior is None

    def _regularisation(
        self, rows: CentredRows, added: float | Tensor
    ) -> Regularisation:
        if not self._has_priors:
            return added
        s, scatter = 0.0, None
        if self.covariance_prior is not None:
            given = self.covariance_prior
            cells = None if isinstance(given, str) else float(given)
            d = len(rows.centre)
            whole = self._spread(rows, added)
            s, scatter = conjugate(whole, self.n_components, d, cells)
        return MixturePrior(added, s, scatter, self.weight_prior)

    def _spread(self, rows: CentredRows, added: Any) -> Tensor:
        """Return the covariance of all rows as one component."""
        kind, everywhere = self._kind, rows.centre.new_ones(len(rows.x), 1)
        start = start_from_cells if isinstance(rows, IncompleteRows) else start_from
        found = start(kind, rows, everywhere, added).covariances
        if self.covariance_type == "factor":
            found = kind.variances(found)
        return found if self.covariance_type == "tied" else found[0]


def _total(x: Tensor, weight: Tensor | None) -> float:
    """Return the weight of all rows, of all processes."""
    return float(count(len(x)) if weight is None else total(weight.sum()))
