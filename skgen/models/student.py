"""A mixture of Student components, fitted by EM: clusters among outliers.

``z ~ Categorical(w)``, ``x|z=k ~ t(f_k, m_k, S_k)``, Student's t with f_k degrees of
freedom. The steps of EM are in `skgen._em.student`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from skgen._em.fixed_point import FixedPoint
from skgen._em.priors import Regularisation
from skgen._em.restarts import MakeSteps
from skgen._em.starts import Given
from skgen._em.student import FittedStudent, StudentMixture, student_steps
from skgen._utils.chunks import CentredRows
from skgen._utils.parameters import attribute, estimator, options, parameter, real
from skgen._utils.tensors import to_array
from skgen.models.mixture import EllipticalMixture

# Degrees of freedom that are learned, at the start.
FIRST_DOF = 10.0


@estimator
class StudentMixtureEM(EllipticalMixture):
    """A mixture of Student components, whose tails are learned.

    What :class:`GaussianMixtureEM` is, for rows among which some are far from all
    others: a component of few degrees of freedom f has heavy tails, and rows in them
    pull its mean and its scale matrix little. With many it is a Gaussian. The score,
    marginals and conditionals are exact.

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
        Number of starts, of which the best result is kept.
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
    degrees_of_freedom : "learn" or float, default="learn"
        Degrees of freedom of all components, above 0; or "learn", for each component
        its own, between 1 and a million.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Prior probability of each component. This and the arrays below are float64; of
        float32 rows they are float32 if that says the same density.
    means_ : ndarray of shape (n_components, n_features)
        Mean of each component; with 1 degree of freedom or fewer, its median.
    covariances_ : ndarray
        Scale matrices, in the shapes of covariances: (n_components, n_features,
        n_features) when full, (n_features, n_features) when tied, (n_components,
        n_features) when diag, (n_components,) when spherical. Above 2 degrees of
        freedom, the covariance is that times f / (f - 2).
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
    degrees_of_freedom_ : ndarray of shape (n_components,)
        Degrees of freedom of each component, in float64.

    See Also
    --------
    GaussianMixtureEM : Normal components.
    skgen.outliers.DensityOutlierDetector : Which rows are outliers.

    Notes
    -----
    Where there are no heavy tails, degrees of freedom grow slowly, and stop growing
    when the density has all but ceased to change: lower ``tol`` to see them large.

    Outliers that lie close together are a cluster, and take a component. Those that
    are many and everywhere, more than a tenth or so of the rows, are better left out:
    ``DensityOutlierDetector(contamination=...)``.

    Missing cells, NaN, are integrated out, as in ``GaussianMixtureEM``. Draws given
    values are exact; given intervals, a component is a mixture of 256 normal ones,
    whose density differs from it by less than rounding.

    References
    ----------
    Peel & McLachlan, "Robust mixture modelling using the t distribution", Statistics
    and Computing 10, 2000. Liu, Rubin & Wu, "Parameter expansion to accelerate EM: the
    PX-EM algorithm", Biometrika 85, 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import StudentMixtureEM
    >>> rng = np.random.RandomState(0)
    >>> X = np.concatenate([rng.randn(300, 2), rng.uniform(-50, 50, size=(15, 2))])
    >>> model = StudentMixtureEM(random_state=0).fit(X)
    >>> bool(np.abs(model.means_).max() < 0.2)  # outliers do not pull it
    True
    >>> bool(model.degrees_of_freedom_[0] < 3)
    True
    """

    _fits_together = True

    degrees_of_freedom_: NDArray[np.float64] = attribute()

    _goes_on_from: ClassVar[Mapping[str, type]] = {
        **EllipticalMixture._goes_on_from,
        "degrees_of_freedom_": np.ndarray,
    }

    _: KW_ONLY
    degrees_of_freedom: Literal["learn"] | float = parameter(
        options("learn"), real(0, closed="neither"), default="learn", builds=True
    )

    @property
    def _learns_tails(self) -> bool:
        """Return whether degrees of freedom are learned."""
        return isinstance(self._fitted("degrees_of_freedom"), str)

    def _make_steps(self) -> MakeSteps:
        return partial(student_steps, learns=self._learns_tails)

    def _start(
        self,
        rows: CentredRows,
        given: Given,
        by: Regularisation,
        rng: np.random.RandomState,
    ) -> StudentMixture:
        mixture = super()._start(rows, given, by, rng)
        dof = self.degrees_of_freedom
        first = FIRST_DOF if isinstance(dof, str) else float(dof)
        return StudentMixture(
            mixture, mixture.weights.new_full((len(mixture[0]),), first)
        )

    def _last(self, rows: CentredRows) -> StudentMixture:
        dof = torch.as_tensor(self.degrees_of_freedom_).to(rows.centre)
        return StudentMixture(super()._last(rows), dof)

    def _attributes(self, rows: CentredRows, run: FixedPoint[Any]) -> dict[str, Any]:
        mixture, dof = run.state
        found = super()._attributes(rows, run._replace(state=mixture))
        dof = to_array(dof).astype(np.float64)
        return {**found, "degrees_of_freedom_": dof}

    def _n_parameters(self) -> int:
        n_tails = len(self.weights_) if self._learns_tails else 0
        return super()._n_parameters() + n_tails

    def _model(self, dtype: torch.dtype) -> FittedStudent:
        return FittedStudent.of_dof(
            self.degrees_of_freedom_,
            self._kind,
            self.weights_,
            self.means_,
            self.covariances_,
            self.precisions_cholesky_,
            device=torch.device(self.device_),
        )
