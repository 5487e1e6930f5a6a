"""A mixture of products of column densities, fitted by EM.

``z ~ Categorical(w)``, ``x_j|z=k`` of a density of its own for each column. What a kind
of column is to EM is in `skgen._em.families`, the steps are in `skgen._em.products`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import KW_ONLY
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map_only

from skgen._em.families import Prior
from skgen._em.fixed_point import FixedPoint
from skgen._em.products import (
    FEWEST_ROWS,
    FittedProducts,
    ProductRestarts,
    Products,
    ProductSteps,
    StepwiseSteps,
    Theta,
)
from skgen._em.restarts import SILENCE, EMRun, Observer
from skgen._em.starts import draw_labels
from skgen._tables.conditions import Conditions
from skgen._tables.kinds import Values, atoms_of, guessed, natural_interval
from skgen._training.driver import Steps
from skgen._utils.chunks import CentredRows, chunk_rows
from skgen._utils.parameters import (
    Rule,
    attribute,
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
from skgen._utils.reduce import agreed, any_true, first_draws, from_first, gathered
from skgen._utils.sizes import check_memory
from skgen._utils.tensors import shared, to_array, to_tensor
from skgen.likelihoods.specs import Spec, checked, outside, support
from skgen.models.base import FitCallbacks
from skgen.models.exact import MixtureDensity
from skgen.models.mixture import Reporter

# Names of kinds, and what ``Mixed`` calls them.
ALIASES = {"normal": "real", "lognormal": "positive", "negative_binomial": "count"}
# Kinds that rows decide more of.
LEARNED = ("categorical", "bounded", "inflated", "auto")
NAMES = (
    *("normal", "lognormal", "poisson", "negative_binomial", "bernoulli"),
    *("categorical", "bounded", "inflated", "auto", "real", "positive", "count"),
)


def _is_kind(value: Any) -> bool:
    if isinstance(value, str):
        return value in NAMES
    try:
        checked(value)
    except (TypeError, ValueError):
        return False
    return True


def _are_kinds(value: Any) -> bool:
    is_list = isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1
    return _is_kind(value) or (is_list and len(value) > 0 and all(map(_is_kind, value)))


kinds_rule = Rule(
    _are_kinds,
    f"one of {', '.join(NAMES)}; an int, a number of levels; ('ordinal', n_levels), "
    "('bounded', low, high), ('whole', low, high) or ('inflated', kind, values); or a "
    "list of these, one for each column",
)


@estimator
class MixtureEM(MixtureDensity):
    """A mixture whose components are products of densities of columns.

    Each column has a density of its own kind: normal, log-normal, counts, levels, an
    interval, or a mass at some values and a density of the rest. Given the component,
    cells are independent; so a missing cell leaves its factor out, and marginals,
    conditionals and the score are exact.

    Parameters
    ----------
    n_components : int, default=1
        Number of components.
    kinds : str, int, tuple or list of these, default="normal"
        Kind of all columns, or a list with one for each; the notes list them.
    tol : float, default=1e-3
        EM stops when the mean log-density changes by less.
    reg_covar : float or "auto", default="auto"
        Least variance of a component, in squared units of the column; of log-normal
        columns, of the logarithm. "auto" is the square of a thousandth of the column's
        spread, or the variance of rounding where values repeat. Variances below are
        raised to it, so that no iteration lowers the likelihood.
    max_iter : int, default=100
        Most iterations of EM, or passes over the rows; 0 keeps the start.
    n_init : int, default=1
        Number of starts.
    combine : {"best", "average"}, default="best"
        Whether the best result of the starts is kept, or the average of their
        densities: a mixture of ``n_init * n_components`` components, which is at least
        as good on held-out rows as its parts are in the mean, and often better than
        one fit with as many.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, \
            default="kmeans"
        Where EM starts: from clusters, from the rows nearest to rows that are picked
        far apart or at random, or from random responsibilities. Distances are between
        columns of like spread.
    weight_prior : float, default=0.0
        Rows of mean weight that are added to each component: a Dirichlet prior, under
        which no weight is zero.
    level_prior : float, default=1.0
        Cells that are added to each component in columns of levels, counts and masses,
        spread as those of all rows: Dirichlet and gamma priors, under which no level
        that was seen has the probability zero.
    variance_prior : float, default=0.1
        Cells that are added to the variance of each component about its mean, with the
        variance of all rows divided by ``n_components ** (2 / n_features)``: an
        inverse-gamma prior.
    batch_size : int or None, default=None
        Rows of a step of stepwise EM, for many rows and components: sums that decay
        take the place of those over all rows. None takes all rows at each step.
    decay : float, default=0.7
        Batch t of stepwise EM replaces the part ``(t + 2) ** -decay`` of the sums.
    random_state : int, RandomState, Generator or None, default=None
        Source of the starts, and of the order of batches.
    verbose : int, default=0
        1 prints the iterations, 2 also their times and changes.
    verbose_interval : int, default=10
        Iterations between two messages.
    device : str, default="cpu"
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
        Prior probability of each component. Under ``combine="average"``, this and the
        arrays below are of the components of all starts.
    means_ : ndarray of shape (n_components, n_features)
        Mean of each column in each component; of levels, the most probable one.
    kinds_ : list
        Kind of each column, as :class:`skgen.likelihoods.Mixed` names it, or
        "poisson" or "bernoulli".
    converged_ : bool
        Whether the best start met ``tol``.
    n_iter_ : int
        Iterations of the best start.
    lower_bound_ : float
        Mean log-density of the training rows before the last M-step; of stepwise EM,
        of each batch before its own.
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
    GaussianMixtureEM : Normal components whose columns are correlated.
    MixedDensity : Tables with names and levels of any type.

    Notes
    -----
    A kind of columns is one of

    - "normal" (or "real"), "lognormal" ("positive"): above 0;
    - "poisson", "negative_binomial" ("count"): whole numbers from 0, the latter
      with a dispersion for each column, which components share;
    - "bernoulli": 0 or 1, whose mean is a probability;
    - "categorical", or an int L: one of the levels 0 to L - 1, by default up to the
      largest of the training rows; ("ordinal", L) is the same here;
    - "bounded" or ("bounded", low, high): a normal density, truncated to an
      interval, by default the natural one or that of the training rows;
      ("whole", low, high): whole numbers in it, up to 256 of them as levels;
    - "inflated" or ("inflated", kind, values): a mass at each of the values, by
      default those that are repeated, and otherwise the kind;
    - "auto": the kind whose likelihood is best for the column, less half the log
      of the number of rows for each parameter.

    The score is the log of a density in normal, log-normal and bounded columns, and of
    a mass in the others; scores compare under the same kinds only.

    With priors of zero, no iteration lowers the likelihood of the training rows. With
    priors it is the likelihood and the priors together that rise.

    References
    ----------
    Dempster, Laird & Rubin, "Maximum likelihood from incomplete data via the EM
    algorithm", JRSS B 39(1), 1977. Cappé & Moulines, "On-line expectation-maximization
    algorithm for latent data models", JRSS B 71(3), 2009. Fraley & Raftery, "Bayesian
    regularization for normal mixture estimation and model-based clustering", Journal
    of Classification 24, 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import MixtureEM
    >>> rng = np.random.RandomState(0)
    >>> z = rng.rand(1000) < 0.3
    >>> X = np.column_stack([rng.randn(1000) + 6 * z, rng.poisson(1 + 9 * z)])
    >>> model = MixtureEM(2, kinds=["normal", "poisson"], random_state=0).fit(X)
    >>> np.sort(model.weights_).round(1)
    array([0.3, 0.7])
    >>> model.impute([[6.0, np.nan]]).round()
    array([[ 6., 10.]])
    """

    _fits_together = True

    weights_: NDArray[Any] = attribute()
    means_: NDArray[Any] = attribute()
    kinds_: list[Any] = attribute()
    converged_: bool = attribute()
    lower_bound_: float = attribute()
    lower_bounds_: list[float] = attribute()

    _parts: list[dict[str, NDArray[Any]]] = attribute()

    n_components: int = parameter(integer(1), default=1)
    _: KW_ONLY
    kinds: Any = parameter(kinds_rule, default="normal")
    tol: float = parameter(real(0), default=1e-3)
    reg_covar: float | Literal["auto"] = parameter(
        options("auto"), real(0), default="auto"
    )
    max_iter: int = parameter(integer(0), default=100)
    n_init: int = parameter(integer(1), default=1)
    combine: Literal["best", "average"] = parameter(
        options("best", "average"), default="best"
    )
    init_params: Literal["kmeans", "k-means++", "random", "random_from_data"] = (
        parameter(
            options("kmeans", "k-means++", "random", "random_from_data"),
            default="kmeans",
        )
    )
    weight_prior: float = parameter(real(0), default=0.0)
    level_prior: float = parameter(real(0), default=1.0)
    variance_prior: float = parameter(real(0), default=0.1)
    batch_size: int | None = parameter(integer(1), none, default=None)
    decay: float = parameter(real(0.5, 1, closed="right"), default=0.7)
    random_state: Any = parameter(random_state, default=None)
    verbose: int = parameter(verbosity, default=0)
    verbose_interval: int = parameter(integer(1), default=10)
    device: str = parameter(device, default="cpu")
    checkpoint: str | os.PathLike[str] | None = parameter(path, none, default=None)

    # Kinds of columns.

    def _validate_rows(self, X: Any, *, reset: bool, n_min: int = 1) -> NDArray[Any]:
        """Return rows as a float array; ``reset`` learns the kinds of columns, too."""
        X = super()._validate_rows(X, reset=reset, n_min=n_min)
        if reset:
            self.kinds_ = self._learned_kinds(X)
        with agreed():
            for j, (x, kind) in enumerate(zip(X.T, self.kinds_)):
                self._check_column(j, x, kind)
        found: NDArray[Any] = X
        return found

    @property
    def _column_kinds(self) -> list[Any]:
        """Kind of each column of the fitted model."""
        return self.kinds_

    def _learned_kinds(self, X: NDArray[Any]) -> list[Spec]:
        given, d = self.kinds, X.shape[1]
        given = [given] * d if _is_kind(given) else list(given)
        if len(given) != d:
            raise ValueError(
                f"X has {d} features, but the 'kinds' parameter of "
                f"{type(self).__name__} has {len(given)}: give one kind for each."
            )
        return [_learned_together(kind, x[~np.isnan(x)]) for kind, x in zip(given, X.T)]

    def _check_column(self, j: int, x: NDArray[Any], kind: Spec) -> None:
        """Raise a ValueError for cells outside the support of their column."""
        if kind == "real":
            return
        as_mixed: Any = {"poisson": "count", "bernoulli": 2}.get(str(kind), kind)
        wrong = outside(x, as_mixed)
        if wrong.any():
            raise ValueError(
                f"Column {j} of X is of the kind {kind!r} for {type(self).__name__}, "
                f"which has {support(as_mixed)}, but it has the value "
                f"{x[np.argmax(wrong)]!s}. Give the column another kind by 'kinds', or "
                "NaN for a value that is missing."
            )

    # Fitting.

    def _fit(
        self,
        x: Tensor,
        weight: Tensor | None,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
    ) -> Steps:
        rows = _plain_rows(x, weight)
        products = Products(self.kinds_)
        self._check_size(rows, products)
        sample = rows.sampled(rng)
        products.see(rows, sample)
        self._check_cells(products)
        observer = SILENCE
        if self.verbose or any_true(callbacks.listen):
            observer = Reporter(self, products, callbacks)
        em_runs = self._em_runs(products, rows, sample, rng, observer)
        runs = yield ProductRestarts(em_runs, rng, observer)
        best = runs.best
        if runs.interrupted:
            self._warn_interrupted(len(best.bounds), "raise max_iter")
        self._warn_unless_converged(best)
        if self.combine == "average":
            thetas: list[Any] = [run.state for run in runs.each]
            best = best._replace(state=products.average(thetas))
        for name, value in self._attributes(products, best).items():
            setattr(self, name, value)

    def _check_size(self, rows: CentredRows, products: Products) -> None:
        """Raise a ValueError where components are too many for rows or memory."""
        n, K, owner = rows.n_rows, self.n_components, type(self).__name__
        if n < K:
            raise ValueError(
                "Expected n_samples >= n_components but got "
                f"n_components = {K}, n_samples = {n}. Lower n_components, or give "
                "more rows."
            )
        n_bytes = 8.0 * 6 * K * sum(products.widths)
        check_memory(n_bytes, rows.x.device, owner, {"n_components": K})

    def _check_cells(self, products: Products) -> None:
        """Raise a ValueError that names a column of which no cell is there."""
        empty = products.empty_columns()
        if empty:
            raise ValueError(
                f"Column {empty[0]} of X has missing cells only, from which "
                f"{type(self).__name__} can learn nothing. Leave the column out."
            )

    @property
    def _prior(self) -> Prior:
        floor = None if self.reg_covar == "auto" else float(self.reg_covar)
        shrinkage = self.n_components ** (-2 / self.n_features_in_)
        return Prior(self.level_prior, self.variance_prior, shrinkage, floor)

    def _em_runs(
        self,
        products: Products,
        rows: CentredRows,
        sample: CentredRows,
        rng: np.random.RandomState,
        observer: Observer,
    ) -> Iterator[tuple[EMRun, ProductSteps]]:
        """Draw starts, one after the other."""
        args = products, rows, self._prior, self.weight_prior
        for i in range(self.n_init):
            observer.begin(i)
            theta: Any = self._drawn_start(products, sample, rng)
            steps = ProductSteps(*args)
            if self.batch_size is not None:
                size, decay = self.batch_size, self.decay
                steps = StepwiseSteps(*args, batch_size=size, decay=decay, rng=rng)
            yield EMRun(theta, -math.inf, 0.0, self.tol, self.max_iter), steps

    def _drawn_start(
        self, products: Products, rows: CentredRows, rng: np.random.RandomState
    ) -> Theta:
        """Draw a start from a sample of the rows, on their device."""
        drawn = first_draws(rng, lambda: self._start(products, rows, rng))
        found: Theta = tree_map_only(Tensor, lambda part: part.to(rows.weight), drawn)
        return found

    def _start(
        self, products: Products, rows: CentredRows, rng: np.random.RandomState
    ) -> Theta:
        """Draw a start: sums over clusters, or under random responsibilities."""
        K = self.n_components
        if self.init_params == "random" or K == 1:
            sums = products.soft_sums(rows, lambda n: _random_rows(n, K, rng, rows), K)
        else:
            inputs = products.inputs(rows.x.to(rows.weight.dtype))
            seen = CentredRows.of(inputs, rows.weight)
            labels = draw_labels(seen, K, self.init_params, rng)
            # Clusters of one row, or one level, would stay as they are.
            sums = products.softened(products.hard_sums(rows, labels, K))
        return products.maximise(sums, None, self._prior, self.weight_prior)

    def _attributes(self, products: Products, run: FixedPoint[Any]) -> dict[str, Any]:
        """Return the fitted attributes."""
        fitted = FittedProducts.at(products, run.state)
        weights = run.state.weights
        return {
            "weights_": to_array(weights),
            "means_": to_array(fitted.means()),
            "_parts": fitted.arrays(),
            "converged_": run.converged,
            "n_iter_": len(run.bounds),
            "lower_bound_": run.bound,
            "lower_bounds_": list(run.bounds),
        }

    # Evaluating.

    def _within(
        self, conditions: Conditions, n: int, rng: np.random.RandomState
    ) -> NDArray[np.float64]:
        """Draw the cells that are to lie in intervals, and levels of others."""
        model = self._model(torch.float64)
        cases = to_tensor(conditions.rows, torch.device(self.device_))
        try:
            case, cells = model.draw_within(cases, conditions.intervals, n, rng)
        except ValueError as error:
            raise ValueError(
                f"'given' of {type(self).__name__} has no mass under the fitted "
                f"density: {error}. Widen the intervals."
            ) from error
        rows = conditions.rows[case]
        rows[:, list(conditions.intervals)] = cells
        return rows

    def _conditioned(
        self, n: int, given: Any, rng: np.random.RandomState
    ) -> NDArray[np.float64]:
        rows = super()._conditioned(n, given, rng)
        for j, (x, kind) in enumerate(zip(rows.T, self.kinds_)):
            self._check_column(j, x, kind)
        return rows

    def _mixture(self) -> Any:
        return self._model(torch.float64)

    def _model(self, dtype: torch.dtype) -> FittedProducts:
        where = torch.device(self.device_)
        return FittedProducts.of(self.kinds_, self.weights_, self._parts, where)

    @property
    def _products(self) -> Products:
        return Products(self.kinds_)

    @property
    def _scores_mass(self) -> bool:
        return self._products.is_mass

    def _n_parameters(self) -> int:
        """Free parameters of the model."""
        K = len(self.weights_)
        return K - 1 + sum(f.n_parameters(K) for f in self._products.families)

    @property
    def _n_tasks(self) -> int | None:
        return self.max_iter * self.n_init

    @property
    def _row_elements(self) -> int:
        elements = len(self.weights_) + 2 * sum(self._products.widths)
        # A chunk has some rows, however many components there are.
        whole = chunk_rows(torch.device(self.device_), 1)
        return min(elements, max(1, whole // FEWEST_ROWS))

    def _set_file_state(self, state: dict[str, Any]) -> None:
        """Take what a file holds of a fit; a ValueError where it makes no sense."""
        kinds = state["kinds_"]
        if not isinstance(kinds, list) or len(kinds) != state["n_features_in_"]:
            raise ValueError("there are other kinds than features")
        own = ("poisson", "bernoulli")
        state = {**state, "kinds_": [k if k in own else checked(k) for k in kinds]}
        super()._set_file_state(state)
        self._model(torch.float64)


def _learned_together(kind: Any, x: NDArray[Any]) -> Spec:
    """Return the kind of a column of which processes have cells: one has seen all."""
    if not (isinstance(kind, str) and kind in LEARNED):
        return _learned(kind, x)
    x = to_array(gathered(shared(np.ascontiguousarray(x))))
    return from_first(lambda: _learned(kind, x))


def _learned(kind: Any, x: NDArray[Any]) -> Spec:
    """Return the kind of a column of cells that are there, with what rows decide."""
    if not isinstance(kind, str):
        return checked(kind)
    x = x.astype(np.float64)
    match kind:
        case "categorical":
            return int(x.max(initial=0)) + 1
        case "bounded":
            return "bounded", *map(float, natural_interval(x))
        case "inflated":
            return _inflated(x)
        case "auto":
            return _guessed(x)
    return ALIASES.get(kind, kind)


def _inflated(x: NDArray[Any]) -> Spec:
    """Return masses at values that repeat, or at the most frequent one."""
    values = Values.of(x)
    atoms = values.x[atoms_of(values)]
    if not len(atoms):
        atoms = values.x[values.counts.argmax()][None]
    rest = x[~np.isin(x, atoms)]
    base = guessed(rest, is_whole=False).spec if len(rest) else "real"
    has_atoms = isinstance(base, tuple) and base[0] == "inflated"
    return "inflated", "real" if has_atoms or not base else base, tuple(atoms.tolist())


def _guessed(x: NDArray[Any]) -> Spec:
    """Guess the kind of a column of numbers."""
    if not len(x):
        return "real"
    guess = guessed(x, is_whole=False)
    if not guess.levels:
        return guess.spec
    L = int(max(guess.levels)) + 1
    if set(guess.levels) == set(range(L)):
        return L
    return "inflated", "real", tuple(map(float, guess.levels))


def _plain_rows(x: Tensor, weight: Tensor | None) -> CentredRows:
    """Return rows seen from the origin, with weights of mean one."""
    rows = CentredRows.of(x, weight, x.new_zeros(x.shape[1]))
    rows = rows.normalise_weights()
    return rows._replace(centre=torch.zeros_like(rows.centre))


def _random_rows(
    n: int, K: int, rng: np.random.RandomState, rows: CentredRows
) -> Tensor:
    """Draw responsibilities (n, K), as ``GaussianMixtureEM`` does."""
    resp = rng.uniform(size=(n, K))
    resp /= resp.sum(axis=1)[:, np.newaxis]
    return to_tensor(resp, rows.x.device, rows.weight.dtype)
