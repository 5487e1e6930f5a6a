"""K-means as an autoencoder and as a generative model.

Encode a row as the nearest of K centres, decode a code as its centre. As a model,
``z ~ Categorical(p)``, ``x|z=k ~ N(c_k, s2 I)``: an isotropic mixture on the codebook.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skgen._em.covariance import COVARIANCES
from skgen._em.fitted import FittedMixture
from skgen._em.incomplete import IncompleteRows, with_holes
from skgen._em.lloyd import (
    Clusters,
    assign,
    column_squares,
    find_clusters,
    measure,
    restarted_lloyd,
)
from skgen._em.matrices import nearest_of
from skgen._training.data import are_few
from skgen._utils.chunks import CentredRows
from skgen._utils.parameters import (
    array_like,
    attribute,
    boolean,
    device,
    estimator,
    factory,
    integer,
    options,
    parameter,
    random_state,
    real,
    verbosity,
)
from skgen._utils.reduce import count, is_alone, total
from skgen._utils.scales import warn_scales
from skgen._utils.sparse import dense
from skgen._utils.tensors import (
    check_random_state,
    check_tokens,
    is_mapped,
    one_hot,
    to_array,
    to_tensor,
)
from skgen._utils.threads import blas_threads_for, threads_for
from skgen.models.base import (
    FitCallbacks,
    whole_or_as_before,
)
from skgen.models.exact import INCOMPLETE_BATCH, ExactDensity

NO_SPREAD = (
    "The rows lie on the centres, so that the variance around them is 0 and the "
    "density is not defined with reg_covar=0. Lower n_clusters or increase reg_covar."
)

# What mini-batch K-means has of the batches that it has seen.
BATCH_STATE = (
    "cluster_centers_",
    "n_steps_",
    "_batch_size",
    "_counts",
    "_n_since_last_reassign",
    "_random_state",
)


class FittedKMeans(NamedTuple):
    """The isotropic mixture on the centres, and how a centre is written as a code."""

    density: FittedMixture
    nearest: Callable[[Tensor], Tensor]  # rows (n, d) -> index of the centre (n,)
    is_ordinal: bool

    def encode(self, x: Tensor) -> Tensor:
        """One-hot rows (n, K), or indices (n, 1)."""
        k = self.nearest(x)[:, None]
        K = len(self.density.theta.means)
        return k if self.is_ordinal else x.new_zeros(len(x), K).scatter_(1, k, 1)

    def decode(self, code: Tensor) -> Tensor:
        """Centres (n, d), or what lies between them for a soft code."""
        if not self.is_ordinal:
            return self.density.decode(code)
        return self.density.centre + self.density.theta.means[code[:, 0].long()]

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density log sum_k p_k N(x; c_k, s2 I), (n,)."""
        return self.density.log_prob(x)

    def draw(self, n: int, noise: bool, generator: torch.Generator) -> Tensor:
        """Draw rows (n, d), or centres."""
        return self.density.draw(n, noise, generator)

    def impute(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Fill rows (n, d) with the mean of missing cells given the rest, or a draw."""
        return self.density.impute(x, generator)

    def complete(
        self, x: Tensor, noise: bool, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw what is missing of rows (n, d), and the codes (n, k) it is of."""
        rows, code = self.density.complete(x, noise, generator)
        return rows, code.argmax(1, keepdim=True) if self.is_ordinal else code


@estimator
class KMeansAutoencoder(ExactDensity):
    """K-means whose latent code says which centre is nearest.

    On a CPU the centres are those of :class:`sklearn.cluster.KMeans`, elsewhere of
    Lloyd's algorithm in torch, which equals it from the same start. It also takes over
    where rounding keeps scikit-learn from telling clusters apart, as beside a sentinel
    far from all other rows, and for large files that are mapped into memory, where the
    start is sought on some of the rows. The score is the exact log-density of the
    mixture ``sum_k p_k N(c_k, s2 I)``. Fitted attributes are float64.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of centres.
    init : {"k-means++", "random"}, callable or array-like of shape \
            (n_clusters, n_features), default="k-means++"
        Where the centres start.
    n_init : "auto" or int, default="auto"
        Number of starts, of which the best result is kept. "auto" is 1 for k-means++
        and given centres, 10 otherwise.
    max_iter : int, default=300
        Most iterations of a start.
    tol : float, default=1e-4
        The centres are settled when they move by less than this, squared, relative
        to the variance of the rows.
    verbose : int, default=0
        Whether to print the iterations.
    random_state : int, RandomState, Generator or None, default=None
        Source of the starts.
    copy_x : bool, default=True
        Whether scikit-learn centres a copy; else the rows themselves, and back. Rows
        in float32 are copied in any case.
    algorithm : {"lloyd", "elkan"}, default="lloyd"
        Which of scikit-learn's algorithms runs on a CPU.
    encode : {"onehot-dense", "onehot", "ordinal"}, default="onehot-dense"
        Latent code: one-hot rows as an array or as a sparse matrix, or the index of
        the centre in one column.
    prior : {"empirical", "uniform"}, default="empirical"
        Probability of the centres in the density: their shares of the rows, or equal.
    reg_covar : float, default=1e-6
        Added to the variance of the density, in squared units of the data. A warning
        says when it is above a tenth of the smallest variance of a column that is not
        constant.
    variance : {"shared", "feature"}, default="shared"
        Variance of the density: one for all columns, or one for each. With "feature",
        columns are in units of their deviation over the training rows wherever
        distances are taken, so that no column decides alone.
    device : str or torch.device, default="cpu"
        "cpu", "cuda", "cuda:<index>", "mps" or "auto".

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        The codebook.
    labels_ : ndarray of shape (n_samples,)
        Index of the nearest centre of each training row, of the last batch after
        ``partial_fit``.
    inertia_ : float
        Sum of squared distances of the training rows to their centres, weighted; of
        all batches, each at its time, after ``partial_fit``. With
        ``variance="feature"``, in units of the columns' deviations.
    n_iter_ : int
        Iterations of the best start, or calls of ``partial_fit``.
    weights_ : ndarray of shape (n_clusters,)
        The prior.
    variance_ : float or ndarray of shape (n_features,)
        Variance of a feature around its centre in the density, or of each.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit, when they are all strings.
    device_ : str
        Where the model is evaluated.

    See Also
    --------
    GaussianMixtureEM : Soft codes, and covariances.
    sklearn.cluster.KMeans : The same centres, without a density.

    Notes
    -----
    Cells may be missing, NaN: then distances, means and the variance are those of the
    cells that are there, found by Lloyd's algorithm in torch.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import KMeansAutoencoder
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]], float)
    >>> model = KMeansAutoencoder(n_clusters=2, random_state=0).fit(X)
    >>> model.transform([[0, 0], [12, 3]]).sum(axis=0)
    array([1., 1.])
    >>> model.reconstruct([[0, 0], [12, 3]])
    array([[ 1.,  2.],
           [10.,  2.]])
    >>> round(model.score(X), 2)
    -3.82
    """

    _fits_together = True

    cluster_centers_: NDArray[Any] = attribute()
    labels_: NDArray[Any] = attribute()
    inertia_: float = attribute()
    weights_: NDArray[Any] = attribute()
    variance_: float | NDArray[Any] = attribute()

    _goes_on_from: ClassVar[Mapping[str, type]] = {
        "n_iter_": int,
        "inertia_": float,
        "_inertia": float,
        "_n_missing": float,
        "_counts": np.ndarray,
    }

    _batches: MiniBatchKMeans | None = attribute()  # what partial_fit goes on with
    # Where its centres are seen from: scikit-learn expands distances about the origin.
    _origin: NDArray[Any] = attribute()  # (d,)
    _counts: NDArray[Any] = attribute()  # weight of the rows of each centre so far
    # Mean and variance of the columns of all rows so far.
    _column_moments: NDArray[Any] = attribute()  # (2, d)
    _inertia: float = attribute()  # ``inertia_``, on the scale of these weights
    _n_missing: float = attribute()  # missing cells so far, weighted as their rows
    _scale: NDArray[Any] = attribute()  # (d,): units of columns of their own variance

    n_clusters: int = parameter(integer(1), default=8, builds=True)
    _: KW_ONLY
    init: Any = parameter(
        options("k-means++", "random"), factory, array_like(), default="k-means++"
    )
    n_init: int | Literal["auto"] = parameter(
        options("auto"), integer(1), default="auto"
    )
    max_iter: int = parameter(integer(1), default=300)
    tol: float = parameter(real(0), default=1e-4)
    verbose: int = parameter(verbosity, default=0)
    random_state: Any = parameter(random_state, default=None)
    copy_x: bool = parameter(boolean, default=True)
    algorithm: Literal["lloyd", "elkan"] = parameter(
        options("lloyd", "elkan"), default="lloyd"
    )
    encode: Literal["onehot-dense", "onehot", "ordinal"] = parameter(
        options("onehot-dense", "onehot", "ordinal"), default="onehot-dense"
    )
    prior: Literal["empirical", "uniform"] = parameter(
        options("empirical", "uniform"), default="empirical", builds=True
    )
    reg_covar: float = parameter(real(0), default=1e-6)
    variance: Literal["shared", "feature"] = parameter(
        options("shared", "feature"), default="shared", builds=True
    )
    device: str | torch.device = parameter(device, default="cpu")

    @property
    def _without_sparse(self) -> str | None:
        if self.variance == "shared":
            return None
        return "With variance='feature' columns are scaled: give X.toarray()."

    # Fitting.

    def _place(self, X: NDArray[Any], device: torch.device) -> Any:
        if issparse(X):
            return super()._place(X, device)  # scikit-learn does not centre these
        writes = not self.copy_x and not X.flags.writeable
        x = to_tensor(X.copy() if writes else X, device)
        # scikit-learn would copy the rows of a file into memory, all of them.
        is_far = is_mapped(X) and not are_few(X.shape)
        x.is_far = is_far  # type: ignore[attr-defined]
        return x

    def _fit(
        self,
        x: Tensor,
        weight: Tensor | None,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
    ) -> None:
        self._check_init(x)
        owner = type(self).__name__
        rows = with_holes(CentredRows.of(x, weight), owner)
        if isinstance(rows, IncompleteRows):
            rows = rows.without_empty()
        normalised = with_holes(rows.normalise_weights(), owner)
        variance = warn_scales(normalised, self.reg_covar, owner)
        self._reset_counts()
        self._count_columns(rows.centre, variance, rows.weight)
        init = self.init
        if self.variance == "feature":
            scale = variance.sqrt().where(variance > 0, 1)
            self._scale = to_array(scale)
            rows, normalised = (_in_units(each, scale) for each in (rows, normalised))
            if not (isinstance(init, str) or callable(init)):
                init = np.asarray(init, dtype=np.float64) / self._scale
        is_near = x.device.type == "cpu" and not getattr(rows.x, "is_far", False)
        is_plain = is_near and not isinstance(rows, IncompleteRows)
        # scikit-learn's K-means sees the rows of one process.
        by_sklearn = is_plain and is_alone()
        find = self._find_on_cpu if by_sklearn else self._find_on_device
        clusters = find(normalised, init, rng, callbacks)
        self.n_iter_ = clusters.n_iter
        centres, labels, inertia = _evaluated(rows, clusters)
        self._set_attributes(rows, centres, labels, inertia)
        if self.variance == "feature":
            self._set_variances(rows, centres, labels)

    def _check_init(self, x: Tensor) -> None:
        """Raise a ValueError if there are too few rows, or centres of another shape."""
        n, d = count(len(x)), x.shape[1]
        if n < self.n_clusters:
            raise ValueError(
                f"n_samples={n} should be >= n_clusters={self.n_clusters}. Lower "
                "n_clusters, or give more rows."
            )
        if isinstance(self.init, str) or callable(self.init):
            return
        expected = f"an array of shape {(self.n_clusters, d)}, (n_clusters, n_features)"
        try:
            shape = check_array(self.init, dtype=np.float64, input_name="init").shape
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The 'init' parameter of KMeansAutoencoder must be {expected}. {error}"
            ) from error
        if shape != (self.n_clusters, d):
            raise ValueError(
                f"The 'init' parameter of KMeansAutoencoder must be {expected}. Got an "
                f"array of shape {shape} instead."
            )

    def _find_on_cpu(
        self,
        rows: CentredRows,
        init: Any,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
    ) -> Clusters:
        """Find clusters by scikit-learn."""
        return find_clusters(
            rows,
            self.n_clusters,
            init=init,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            verbose=self.verbose,
            rng=rng,
            copy_x=self.copy_x,
            algorithm=self.algorithm,
        )

    def _find_on_device(
        self,
        rows: CentredRows,
        init: Any,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
    ) -> Clusters:
        """Find clusters by Lloyd's algorithm in torch."""
        run = restarted_lloyd(
            rows,
            self.n_clusters,
            init=init,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            rng=rng,
            verbose=self.verbose,
            keeps_interrupted=callbacks.stand_alone,
        )
        if run.stopped:
            way = "set init=model.cluster_centers_"
            self._warn_interrupted(len(run.bounds), way)
        labels = rows.x.new_empty(0, dtype=torch.long)
        return Clusters(run.state, labels, None, len(run.bounds), is_sure=False)

    def _reset_counts(self) -> None:
        """Forget all rows."""
        self._batches, self._origin = None, np.zeros(self.n_features_in_)
        self._counts = np.zeros(self.n_clusters)
        self._inertia = self._n_missing = 0.0

    def _scale_seen(self, factor: float) -> None:
        self._counts = self._counts * factor
        self._inertia *= factor
        self._n_missing *= factor
        if self._batches is not None:
            # A copy: scikit-learn changes its arrays in place.
            self._batches = copy.deepcopy(self._batches)
            self._batches._counts *= factor

    def _count_columns(self, mean: Tensor, variance: Tensor, weight: Tensor) -> None:
        """Merge moments (d,) of rows with those before, which ``_counts`` has.

        Pictures give deviations in them. Files of 0.1 have none to go on from.
        """
        before = float(self._counts.sum())
        known = getattr(self, "_column_moments", None)
        new_mean, new_variance = to_array(mean), to_array(variance)
        if before and known is not None:
            mean_before, variance_before = known
            share = float(weight.sum()) / (before + float(weight.sum()))
            shift = new_mean - mean_before
            new_mean = mean_before + share * shift
            within = share * new_variance + (1 - share) * variance_before
            new_variance = within + share * (1 - share) * shift**2
        if not before or known is not None:
            self._column_moments = np.stack([new_mean, new_variance])

    def _set_attributes(
        self, rows: CentredRows, centres: Tensor, labels: Tensor, inertia: float
    ) -> None:
        """Count rows in with the centres (K, d) they are assigned to."""
        used = rows.weight.new_zeros(len(centres))
        used = total(used.index_add_(0, labels, rows.weight))
        self.cluster_centers_ = to_array(centres)
        self.labels_ = to_array(labels)
        self._inertia += inertia
        self.inertia_ = self._unscaled(self._inertia)
        self._counts = self._counts + to_array(used)
        weight = self._counts.sum()
        share = self._counts / weight
        is_empirical = self.prior == "empirical"
        self.weights_ = share if is_empirical else np.full_like(share, 1 / len(share))
        if isinstance(rows, IncompleteRows):
            self._n_missing += float(rows.missing_weights().sum())
            self.labels_[to_array(rows.x.isnan().all(1))] = self.weights_.argmax()
        n_cells = weight * centres.shape[1] - self._n_missing
        self.variance_ = self._inertia / n_cells + self.reg_covar
        rounding = torch.finfo(centres.dtype).eps * float(centres.abs().max())
        if self.reg_covar == 0 and self.variance_ <= rounding**2:
            raise ValueError(NO_SPREAD)

    def _set_variances(
        self, rows: CentredRows, centres: Tensor, labels: Tensor
    ) -> None:
        """Take the variance of each column, of rows and centres in its units."""
        squares, cells = column_squares(rows, centres, labels)
        variance = to_array(squares / cells.where(cells > 0, 1)) * self._scale**2
        self.variance_ = variance + self.reg_covar
        self.cluster_centers_ = self.cluster_centers_ * self._scale
        if not np.all(self.variance_):
            raise ValueError(NO_SPREAD)

    def partial_fit(
        self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Move the centres by one mini-batch.

        The prior and the variance are running statistics: a batch counts into them
        with the centres that it has met. After ``fit``, the centres go on from there.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Further rows; at least ``n_clusters`` in the first batch.
        y : None
            Ignored, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, on one scale over all calls.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        with whole_or_as_before(self), threads_for():
            self._fit_batch(X, sample_weight)
        return self

    def _fit_batch(self, X: Any, sample_weight: Any) -> None:
        """Move the centres by a batch, and update the running statistics."""
        first = not hasattr(self, "cluster_centers_")
        if not first:
            self._check_unchanged("partial_fit")
        if self.variance == "feature":
            raise ValueError(
                f"{type(self).__name__}.partial_fit has one variance for all columns, "
                "and variance='feature' one for each. Use fit, or variance='shared'."
            )
        _, x, weight = self._prepare(X, None, sample_weight, reset=first)
        if first:
            self._check_init(x)
            self._reset_counts()
            self.n_iter_ = 0
        rows = CentredRows.of(x, weight)
        if rows.centre.isnan().any():
            raise ValueError(INCOMPLETE_BATCH.format(owner=type(self).__name__))
        if first:
            warn_scales(rows.normalise_weights(), self.reg_covar, type(self).__name__)
        if self._batches is None:
            self._origin = _far_mean(*rows.moments())
        # A copy: scikit-learn changes its arrays in place.
        self._batches = copy.deepcopy(self._batches) or self._start_batches(first)
        kept = rows.weight > 0
        # Cast: a centre is a mean over batches, of either dtype.
        batch = to_array(dense(rows.x[kept])).astype(np.float64) - self._origin
        weights = to_array(rows.weight[kept])
        with blas_threads_for(batch.size * self.n_clusters):
            self._batches.partial_fit(batch, sample_weight=weights)
        self.n_iter_ += 1
        centres = to_tensor(self._batches.cluster_centers_ + self._origin, x.device)
        centres = centres.to(rows.centre)
        found = assign(rows, centres)
        inertia = found.inertia(rows.weight)
        self._count_columns(*rows.moments(), rows.weight)
        self._set_attributes(rows, centres, found.labels, inertia)

    def _start_batches(self, first: bool) -> MiniBatchKMeans:
        """Make mini-batch K-means that starts anew, or where ``fit`` has ended."""
        if first:
            is_given = not isinstance(self.init, str) and not callable(self.init)
            return MiniBatchKMeans(
                self.n_clusters,
                init=self.init - self._origin if is_given else self.init,
                n_init=self.n_init,
                verbose=self.verbose,
                random_state=check_random_state(self.random_state),
            )
        centres = self.cluster_centers_ - self._origin
        batches = MiniBatchKMeans(
            len(centres),
            init=centres,
            n_init=1,
            verbose=self.verbose,
            random_state=check_random_state(self.random_state),
            reassignment_ratio=0,
        )
        # The centres themselves, weighted, stand for the rows that fit has seen.
        batches.partial_fit(centres, sample_weight=self._counts)
        found: MiniBatchKMeans = batches.set_params(reassignment_ratio=0.01)
        return found

    def _file_state(self) -> dict[str, Any]:
        state = super()._file_state()
        if self._batches is not None:
            batches = vars(self._batches)
            state["_batches"] = {name: batches[name] for name in BATCH_STATE}
        return state

    @classmethod
    def _upgraded(cls, state: dict[str, Any]) -> dict[str, Any]:
        state = super()._upgraded(state)
        if "inertia_" not in state:
            return state
        # 0.1 had no scale of the weights, and saw batches from zero.
        zero = np.zeros(state["n_features_in_"])
        new = {"_inertia": state["inertia_"], "_origin": zero, "_n_missing": 0.0}
        return {**new, **state}

    def _set_file_state(self, state: dict[str, Any]) -> None:
        super()._set_file_state({**state, "_batches": None})
        moments = state.get("_column_moments")
        shape = (2, self.n_features_in_)
        if moments is not None and _kind(moments)[:2] != (np.ndarray, shape):
            raise ValueError("the moments of the columns have no proper shape")
        if _kind(state.get("_origin"))[:2] != (np.ndarray, shape[1:]):
            raise ValueError("the origin of the batches has no proper shape")
        seen = state["_batches"]
        if seen is not None:
            self._batches = self._start_batches(first=False)
            new = vars(self._batches)
            for name in BATCH_STATE:
                # Compiled code reads these without a look at their shapes.
                if _kind(seen[name]) != _kind(new[name]):
                    raise ValueError(f"the batches have no proper {name!r}")
                new[name] = seen[name]

    def fit_predict(
        self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Fit, and give the nearest centre of each row.

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
            Index of the nearest centre.
        """
        return self.fit(X, y, sample_weight=sample_weight).labels_

    # Evaluating.

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Find the nearest centre of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Index of the nearest centre.
        """
        return self._apply(lambda model, x: model.nearest(x), X)

    def transform(self, X: ArrayLike) -> Any:
        """Encode rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        code : ndarray or csr_matrix of shape (n_samples, n_clusters), or ndarray of \
                shape (n_samples, 1)
            Latent code: one-hot in the dtype of ``X``, or integers.
        """
        if self._current("encode") != "onehot":
            return self._apply(lambda model, x: model.encode(x), X)
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        k = self._map(lambda model, x: model.nearest(x), X)
        return one_hot(k[:, None], len(self.cluster_centers_), X.dtype)

    def _mixture(self) -> FittedMixture:
        return self._model(torch.float64).density

    def _drawn_code(self, code: NDArray[Any]) -> Any:
        if self._is_ordinal:
            return code.astype(np.int64)
        if self._current("encode") != "onehot":
            return code
        return one_hot(code.argmax(1)[:, None], code.shape[1], code.dtype)

    def _check_code(self, code: NDArray[Any]) -> NDArray[Any]:
        if self._is_ordinal:
            check_tokens(code, len(self.cluster_centers_))
        return code

    def _model(self, dtype: torch.dtype) -> FittedKMeans:
        K, has_each = len(self.weights_), self._fitted("variance") == "feature"
        root = np.tile(self.variance_**-0.5, (K, 1) if has_each else K)
        density = FittedMixture.of(
            COVARIANCES["diag" if has_each else "spherical"],
            self.weights_,
            self.cluster_centers_,
            root**-2,
            root,
            device=torch.device(self.device_),
        )
        centres = torch.tensor(self.cluster_centers_).to(density.centre)
        likely = int(self.weights_.argmax())  # where nothing is known of a row
        if not has_each:
            nearest = nearest_of(centres, centres.mean(0), otherwise=likely)
            return FittedKMeans(density, nearest, self._is_ordinal)
        units = self._units.to(centres)
        centres = centres / units
        in_units = nearest_of(centres, centres.mean(0), otherwise=likely)
        return FittedKMeans(density, lambda x: in_units(x / units), self._is_ordinal)

    @property
    def _units(self) -> Tensor:
        """Return what columns are divided by before distances are taken, (d,)."""
        if self._fitted("variance") == "feature":
            return torch.tensor(self._scale)
        return torch.ones(self.cluster_centers_.shape[1], dtype=torch.float64)

    @property
    def _is_ordinal(self) -> bool:
        """Return whether a code is an index; ``encode`` may be set after ``fit``."""
        return bool(self._current("encode") == "ordinal")

    def _n_parameters(self) -> int:
        K, d = self.cluster_centers_.shape
        n_weights = K - 1 if self._fitted("prior") == "empirical" else 0
        found: int = K * d + n_weights + np.size(self.variance_)
        return found

    @property
    def _n_features_out(self) -> int:
        return 1 if self._is_ordinal else len(self.cluster_centers_)

    @property
    def _n_tasks(self) -> int | None:
        return 0  # scikit-learn's K-means is one piece to callbacks

    @property
    def _row_elements(self) -> int:
        return sum(self.cluster_centers_.shape)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.encode == "ordinal":
            tags.transformer_tags.preserves_dtype = []
        return tags


def _far_mean(mean: Tensor, variance: Tensor) -> NDArray[Any]:
    """Return the means (d,) that are a thousand deviations from zero, and 0 for others.

    About an origin as near as that, expanded distances lose no digits that matter.
    """
    return to_array(mean.where(mean**2 > 1e6 * variance, 0))


def _in_units(rows: CentredRows, scale: Tensor) -> CentredRows:
    """Divide the columns of rows by numbers (d,)."""
    return rows._replace(x=rows.x / scale, centre=rows.centre / scale)


def _evaluated(rows: CentredRows, clusters: Clusters) -> tuple[Tensor, Tensor, float]:
    """Return centres, and the labels of all rows and their inertia."""
    centres, labels, inertia, *_ = clusters
    # Rows of weight zero have labels too.
    is_known = clusters.is_sure and len(labels) == len(rows.x)
    if is_known and inertia is not None and not rows.weight.stride()[0]:
        return centres, labels, inertia
    found = measure(rows, centres, labels) if is_known else assign(rows, centres)
    return centres, found.labels, found.inertia(rows.weight)


def _kind(value: Any) -> tuple[type, tuple[int, ...], Any]:
    """Type, shape and dtype."""
    return type(value), np.shape(value), getattr(value, "dtype", None)
