"""The scikit-learn surface, once.

Validation, feature names, dtype, device, random state, chunks, callbacks and
pickling live here; no mathematics does. The way of X has no way back:

``fit``: validate -> tensor on the device -> ``_fit`` -> fitted attributes;
``transform``, ``inverse_transform``, ``score_samples``: validate -> chunks ->
tensor -> one function of the fitted model -> array; ``sample``: draw -> array.

An estimator states its parameter rules, and gives ``_fit`` and ``_model``: the
fitted model on a device and in a dtype, with ``encode``, ``decode``, ``log_prob``
and ``draw`` on tensors.
"""

from __future__ import annotations

import copy
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.callback import CallbackContext, CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import (
    assert_all_finite,
    check_array,
)
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from skgen import __version__
from skgen._files.checkpoints import FitCheckpoint, checkpoint_of
from skgen._files.fingerprints import combined, fingerprint
from skgen._tables.conditions import column_numbers
from skgen._tables.frames import Columns, as_container
from skgen._training.driver import Steps, run_each
from skgen._utils.advice import MISSING, check_is_dense, check_is_table, explained
from skgen._utils.chunks import chunk_rows, slices
from skgen._utils.collections import (
    OverCollections,
    active_client,
    computed,
    fit_on_cluster,
    is_collection,
    stored,
    template,
)
from skgen._utils.documentation import DocumentationLinks
from skgen._utils.estimators import Estimator, with_callbacks
from skgen._utils.parameters import check_parameters, integer, is_same
from skgen._utils.reduce import (
    agreed,
    any_true,
    from_first,
    is_alone,
    is_offered,
    objects,
    together,
)
from skgen._utils.sizes import check_memory
from skgen._utils.sparse import SparseRows, as_csr, dense, has_missing
from skgen._utils.tensors import (
    check_random_state,
    draw_seed,
    fresh_random_state,
    is_available,
    make_generator,
    on_host,
    resolve_device,
    shared,
    to_array,
    to_tensor,
    wide_dtype,
)
from skgen._utils.threads import threads_for

FLOATS = (np.float64, np.float32)
# Rows above this have squares, and sums of them, that overflow.
LARGEST = 1e150
# Numbers that are checked at a time: large data are read once, and in the cache.
CHECKED_ELEMENTS = 2**20
# What is there while a fit with callbacks runs, and in no copy.
_DURING_FIT = ("_callback_fit_ctx", "_skl_callbacks_to_teardown", "_so_far")
# What belongs to a session, and to no file.
_SESSION = ("_skl_callbacks", "_metadata_request", "_parent_callback_ctx", *_DURING_FIT)

# Parameters that change nothing of what is fitted.
_NO_MATTER = ("checkpoint", "device", "verbose", "verbose_interval")


class FitCallbacks:
    """scikit-learn's callbacks of one fit, seen as ``begin`` and ``end`` of a task."""

    def __init__(
        self, context: CallbackContext, estimator: Any, X: Any, y: Any, task_name: str
    ) -> None:
        self._context = context
        self._data = {"estimator": estimator, "X": X, "y": y}
        self._task_name = task_name
        self._task: CallbackContext | None = None

    @property
    def stand_alone(self) -> bool:
        """Whether the fit is of use by itself: a candidate of a search is not."""
        context = self._context.parent
        while context is not None:
            if not context.sequential_subtasks:
                return False
            context = context.parent
        return True

    @property
    def listen(self) -> bool:
        """Whether there are any."""
        return bool(getattr(self._context, "_callbacks", ()))

    def begin(self) -> None:
        """Say that an iteration begins."""
        self._task = self._context.subcontext(task_name=self._task_name)
        self._task.call_on_fit_task_begin(**self._data)

    def end(self, attributes: Callable[[], dict[str, Any]]) -> bool:
        """Say that an iteration ended; true when a callback asks to stop.

        ``attributes`` is called only if a callback wants a fitted estimator.
        """
        assert self._task is not None
        self._data["estimator"]._so_far = attributes
        try:
            found: bool = self._task.call_on_fit_task_end(
                **self._data, reconstruction_attributes=attributes
            )
            return found
        finally:
            del self._data["estimator"]._so_far


class NoCallbacks(FitCallbacks):
    """The callbacks of a fit that none watches, one of many."""

    listen = stand_alone = False

    def __init__(self) -> None:
        pass

    def begin(self) -> None:
        """Do nothing."""

    def end(self, attributes: Callable[[], dict[str, Any]]) -> bool:
        """Never ask to stop."""
        return False


NO_CALLBACKS = NoCallbacks()


@contextmanager
def whole_or_as_before(estimator: Any) -> Iterator[None]:
    """Restore an estimator, and those inside it, if the block raises.

    This includes Ctrl-C. Attributes are restored, not what they refer to: the block
    replaces arrays, lists and modules, or works on copies.
    """
    if is_offered() and not getattr(estimator, "_fits_together", False):
        raise ValueError(
            f"{type(estimator).__name__} has no data-parallel fit, or none with these "
            "parameters: it would see the rows of one process only. Fit it outside the "
            "block of data_parallel."
        )
    before = [(each, each.__dict__.copy()) for each in [estimator, *inside(estimator)]]
    try:
        yield
    except BaseException:
        for each, state in before:
            each.__dict__ = state  # one step, which no second Ctrl-C cuts in two
        raise


def inside(estimator: Any) -> list[BaseEstimator]:
    """Return the estimators that are parameters of one, at any depth."""
    values = vars(estimator).values()
    if not any(isinstance(each, (list, tuple, BaseEstimator)) for each in values):
        return []  # without `get_params`, which would inspect the constructor
    params = estimator.get_params(deep=True).values()
    return [each for each in params if isinstance(each, BaseEstimator)]


def as_fitted_so_far(estimator: Any) -> Any:
    """Return an estimator, or inside a callback a copy that ends its fit there."""
    so_far = getattr(estimator, "_so_far", None)
    if so_far is None:
        return estimator
    fitted = copy.copy(estimator)
    vars(fitted).update(so_far())
    return fitted


class FittedModel(Protocol):
    """Methods of a fitted model that evaluation calls, on tensors."""

    def encode(self, x: Tensor) -> Tensor:
        """(n, d) rows -> (n, k) latent code."""

    def decode(self, code: Tensor) -> Tensor:
        """(n, k) latent code -> (n, d) decoded mean."""

    def log_prob(self, x: Tensor) -> Tensor:
        """(n, d) rows -> (n,) log p(x) in nats."""

    def draw(self, n: int, noise: bool, generator: torch.Generator) -> Tensor:
        """Draw (n, d) rows in random order."""


class GenerativeModel(
    OverCollections,
    DocumentationLinks,
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    DensityMixin,
    Estimator,
    ABC,
):
    """Base of all estimators: the contract ``fit / transform / sample / score``."""

    _task_name: ClassVar[str] = "iteration"
    #: Whether scores are float64 whatever the dtype of the rows.
    _scores_are_wide: ClassVar[bool] = False
    device: str | torch.device
    device_: str  # where it is evaluated
    n_iter_: int
    _columns: Columns | None  # of the DataFrame that was fitted
    _weight_exponent: int  # of the power of two that weights were divided by
    _dtype: np.dtype[Any]  # of the training rows
    _built_with: dict[str, Any]  # these values, by name
    #: Whether ``fit`` reduces over the rows of several processes.
    _fits_together: ClassVar[bool] = False
    #: Fitted attributes that no score needs, but a further fit, and their types.
    _goes_on_from: ClassVar[Mapping[str, type]] = {}

    # What a model gives.

    @abstractmethod
    def _fit(
        self,
        x: Any,
        weight: Tensor | None,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
    ) -> Steps | None:
        """Learn from rows (n, d) and weights (n,), and set the fitted attributes.

        Rows are what ``_place`` gives: a tensor. A fit that takes many steps is a
        generator of what these are to do.
        """

    @abstractmethod
    def _model(self, dtype: torch.dtype) -> FittedModel:
        """Return the fitted model, on ``device_`` and in a dtype."""

    @property
    @abstractmethod
    def _n_features_out(self) -> int:
        """Width of the latent code."""

    @property
    def _n_tasks(self) -> int | None:
        """Upper bound on the iterations of a fit, where one is known."""
        return getattr(self, "max_iter", 0)

    @property
    def _row_elements(self) -> int:
        """Numbers that encoding, decoding or drawing one row holds at a time."""
        return self.n_features_in_

    @property
    def _score_elements(self) -> int:
        """Numbers that scoring one row holds at a time."""
        return self._row_elements

    @property
    @abstractmethod
    def _row_work(self) -> int:
        """Multiplications that encoding, decoding or scoring a row takes, about."""

    @property
    def _scores_mass(self) -> bool:
        """Whether scores are log-masses, which do not depend on the units of X."""
        return False

    @property
    def _allows_missing(self) -> bool:
        """Whether rows may have missing cells, NaN."""
        return False

    @property
    def _without_sparse(self) -> str | None:
        """Remedy for sparse rows, in words; None where they are taken."""
        return "Give X.toarray()."

    @property
    def _code_variances(self) -> NDArray[Any] | None:
        """Variance (k,) of each coordinate of the code over the training rows.

        None where codes are discrete or lie on a simplex: lines lead out of them.
        """
        return None

    @property
    def _code_mean(self) -> NDArray[Any] | None:
        """Mean (k,) of the code over the training rows, where nothing makes it zero."""
        return None

    def _check_rows(self, X: NDArray[Any]) -> None:
        """Raise a ValueError where rows are outside the model's support."""

    def _check_code(self, code: NDArray[Any]) -> NDArray[Any]:
        """Raise a ValueError where a latent code has no meaning."""
        return code

    # Fitting.

    def fit(
        self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows: an array, DataFrame, memory map or torch tensor; a Dask array or
            DataFrame; a sparse matrix where the model needs no matrix of all pairs of
            columns.
        y : None
            Ignored, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, not negative; only their ratios matter.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, ``X`` or ``sample_weight`` is out of its range, or
            ``device`` is not there.

        Warns
        -----
        ConvergenceWarning
            If the fit ended before it converged, with what to do: also on Ctrl-C,
            which ends an iterative fit with what it has learned so far. Before the
            first iteration has ended, or in a search, ``KeyboardInterrupt`` is raised.
        """
        if is_collection(X) and active_client() is not None:
            return fit_on_cluster(self, X, y, sample_weight)
        with whole_or_as_before(self), threads_for(), together():
            self._fit_rows(X, y, sample_weight)
        return self

    @with_callbacks
    def _fit_rows(self, X: Any, y: Any, sample_weight: Any) -> None:
        """Validate, place on the device, fit."""
        X, x, weight = self._prepare(X, y, sample_weight, reset=True)
        context = self._init_callback_context(  # type: ignore[no-untyped-call]
            max_subtasks=self._n_tasks
        )
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        callbacks = FitCallbacks(context, self, X, y, self._task_name)
        with self._checkpoint(X, x, weight) as checkpoint:
            seeded = check_random_state if checkpoint is None else checkpoint.seeded
            own = seeded(getattr(self, "random_state", None))
            rng = own if is_alone() else from_first(lambda: own)
            run_each(
                self._fit(x, weight, rng, callbacks),
                keeps_interrupted=callbacks.stand_alone,
                checkpoint=checkpoint,
            )
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=dict
        )

    def _steps(self, X: Any, y: Any, sample_weight: Any) -> Steps:
        """Fit as a part of something larger, which does the work that is yielded."""
        _, x, weight = self._prepare(X, y, sample_weight, reset=True)
        rng = check_random_state(getattr(self, "random_state", None))
        yield from self._fit(x, weight, rng, NO_CALLBACKS) or ()

    def _checkpoint(
        self, X: NDArray[Any], x: Any, weight: Tensor | None
    ) -> AbstractContextManager[FitCheckpoint | None]:
        """Open the checkpoint of a fit to rows, where one is asked for."""
        path = getattr(self, "checkpoint", None)
        if path is None:
            return nullcontext()
        params = self.get_params(deep=False)
        depends_on = {
            "the class": type(self),
            "the version of skgen": __version__,
            **{name: params[name] for name in params if name not in _NO_MATTER},
            "device": torch.device(self.device_).type,
            "X": X,
            "y": getattr(x, "context", None),
            "sample_weight": weight,
            "the model to go on from": self._file_state() if self._is_warm else None,
        }
        return checkpoint_of(
            path,
            type(self).__name__,
            combined(objects(fingerprint(depends_on))),
            self._task_name,
            repeats=params.get("random_state", 0) is not None,
        )

    def _place(self, X: NDArray[Any], device: torch.device) -> Any:
        """Have rows where a fit takes them from.

        The tensor may share the user's memory: a fit reads it and never writes it.
        """
        return SparseRows(X, device) if issparse(X) else to_tensor(X, device)

    def _prepare(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool
    ) -> tuple[NDArray[Any], Any, Tensor | None]:
        """Validate all that a fit is given: rows as array and placed, and weights.

        ``reset`` learns the features anew, as ``fit`` does.
        """
        self._check_together()
        with agreed():
            check_parameters(self, self._parameters)
            device = resolve_device(self.device, type(self).__name__)
        if reset and self._is_warm:
            self._check_unchanged("warm_start=True")
        elif reset:
            self._built_with = self._fixed_parameters()
        columns = Columns.of(template(X)) if reset else self._columns
        if is_collection(X):
            X, sample_weight = stored(X, type(self).__name__), computed(sample_weight)
        n_features = self.n_features_in_ if reset and self._is_warm else None
        X = self._validate_rows(X, reset=reset, n_min=2 if reset else 1)
        if n_features is not None and X.shape[1] != n_features:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} with "
                f"warm_start=True was fitted on {n_features}. Use warm_start=False."
            )
        n = X.shape[0]  # a sparse matrix has no length
        weight = self._on_one_scale(_weights_of_all(sample_weight, n), n, reset=reset)
        self.device_ = str(device)
        self._dtype, self._columns = X.dtype, columns
        x = self._place(X, device)
        wide = wide_dtype(device)
        return X, x, None if weight is None else to_tensor(weight, device, wide)

    def _on_one_scale(
        self, weight: NDArray[Any] | None, n: int, *, reset: bool
    ) -> NDArray[Any] | None:
        """Divide weights by a power of two, the same for all calls of ``partial_fit``.

        It is that of the largest weight so far, so that no sum of weights overflows and
        no ratio is lost. Where it grows, what was summed up before is scaled down.
        """
        exponent = 0 if weight is None else max(objects(weight_exponent(weight)))
        seen = exponent if reset else getattr(self, "_weight_exponent", 0)
        self._weight_exponent = max(exponent, seen)
        if exponent > seen:
            self._scale_seen(math.ldexp(1.0, seen - exponent))
        if weight is None and self._weight_exponent == 0:
            return None
        weight = np.ones(n) if weight is None else weight
        scaled = np.ldexp(weight, -self._weight_exponent)
        # A weight that underflows still counts as positive.
        return np.where(weight > 0, np.maximum(scaled, np.finfo(float).tiny), 0.0)

    def _scale_seen(self, factor: float) -> None:
        """Multiply the weights of the rows that were seen before by a factor."""

    def _unscaled(self, total: float) -> float:
        """Return a sum of weights as they were given; at most the largest float."""
        with np.errstate(over="ignore"):
            found = float(np.ldexp(total, self._weight_exponent))
        return min(found, float(np.finfo(float).max))

    @property
    def _is_warm(self) -> bool:
        """Return whether ``fit`` goes on from the last fit."""
        return False

    def _fixed_parameters(self) -> dict[str, Any]:
        """Copy the parameters that decide how the fitted model is evaluated."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self._fixed}

    def _fitted(self, name: str) -> Any:
        """Return the value that a parameter had at ``fit``, whatever was set since."""
        return getattr(self, "_built_with", {}).get(name, getattr(self, name))

    def _current(self, name: str) -> Any:
        """Return a parameter that may be set after ``fit``, if its value is valid."""
        check_parameters(self, {name: self._parameters[name]})
        return getattr(self, name)

    def _check_unchanged(self, way: str) -> None:
        """Raise a ValueError if a fixed parameter was set since the last fit."""
        now = self._fixed_parameters()
        anew = "warm_start=False" if way.startswith("warm") else "fit"
        for name, value in getattr(self, "_built_with", {}).items():
            if not is_same(now[name], value):
                raise ValueError(
                    f"{name}={now[name]!r} differs from the {value!r} that this "
                    f"{type(self).__name__} was fitted with, and {way} goes on with "
                    f"what was fitted. Set {name} back, or start anew with {anew}."
                )

    def _as_built(self, built_with: Mapping[str, Any]) -> Self:
        """Return an unfitted copy with the parameters of a file's fitted model."""
        if not set(built_with) <= set(self._fixed):
            raise ValueError(f"it was built with {', '.join(built_with)}")
        copied = type(self)(**{**self.get_params(deep=False), **built_with})
        check_parameters(copied, self._parameters)
        return copied

    # Between rows and codes.

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Encode rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        code : ndarray of shape (n_samples, n_latent)
            Latent code, in the dtype of ``X``.
        """
        return self._apply(lambda model, x: model.encode(x), X)

    def inverse_transform(self, X: ArrayLike) -> Any:
        """Decode latent codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_latent)
            Latent code, as ``transform`` gives it.

        Returns
        -------
        X_decoded : array or DataFrame of shape (n_samples, n_features)
            Decoded mean; a DataFrame where ``set_output`` asks for one, with the names
            and dtypes of the columns that were fitted: integers are rounded.
        """
        code = self._validate_code(X)
        return self._as_container(self._map(lambda model, z: model.decode(z), code), X)

    def reconstruct(self, X: ArrayLike) -> Any:
        """Encode rows and decode the codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        X_decoded : array or DataFrame of shape (n_samples, n_features)
            ``inverse_transform(transform(X))``.
        """
        # Token indices are integers: decode them in the dtype of the rows.
        rows = self._apply(
            lambda model, x: model.decode(model.encode(x).to(x.dtype)), X
        )
        return self._as_container(rows, X)

    # The density.

    def sample(
        self, n_samples: int = 1, random_state: Any = None, *, noise: bool = True
    ) -> Any:
        """Draw rows from the density that ``score_samples`` evaluates.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.
        noise : bool, default=True
            Whether to add the noise of p(x|z). Without it, a row is the decoded
            mean of its latent draw: the picture that people look at.

        Returns
        -------
        X : array or DataFrame of shape (n_samples, n_features)
            Rows in random order, in the dtype of the training data; a DataFrame where
            ``set_output`` asks for one.
        """
        return self._draw(
            lambda model, rows, generator: model.draw(
                rows.stop - rows.start, noise, generator
            ),
            n_samples,
            random_state,
        )

    def score_samples(self, X: ArrayLike) -> NDArray[Any]:
        """Evaluate the log-density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            log p(x) in nats: exact, or a lower bound where the class says so.
        """
        return self._apply(lambda model, x: model.log_prob(x), X, scores=True)

    def score(
        self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean log-density of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
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
        scores = np.asarray(computed(self.score_samples(X)))
        weight = check_sample_weight(computed(sample_weight), len(scores))
        return weighted_mean(scores, weight)

    def _log_marginals(self, X: Any, columns: Iterable[Any]) -> NDArray[Any]:
        """Return log p (n,) of some columns of rows (n, d), the others left out."""
        names = getattr(self, "feature_names_in_", None)
        d, owner = self.n_features_in_, type(self).__name__
        places = column_numbers(columns, names, d, owner)
        rows = self._validate_rows(X, reset=False)
        known = np.full_like(rows, np.nan)
        known[:, places] = rows[:, places]
        return self._log_probs(known)

    def _log_probs(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return scores (n,) of an array (n, d) that is not checked."""
        return self._map(lambda model, x: model.log_prob(x), rows, scores=True)

    def _unconditional(self) -> Self:
        """Return a model that draws and scores without a condition: this one."""
        return self

    # Validation, containers, chunks, state.

    def _as_container(self, rows: NDArray[Any], like: Any = None) -> Any:
        """Return rows (n, d) in the container that ``set_output`` asks for."""
        return as_container(self, rows, getattr(self, "_columns", None), like)

    def _warn_interrupted(self, n_iter: int, way: str, part: str = "") -> None:
        """Say that Ctrl-C ended a fit, or a part of it, and how to go on."""
        warnings.warn(
            f"{type(self).__name__}{part}: the fit was interrupted, and has what it "
            f"learned in {n_iter} {self._task_name}s. To go on from there, {way} and "
            "fit again.",
            ConvergenceWarning,
            stacklevel=2,
        )

    def _validate_rows(self, X: Any, *, reset: bool, n_min: int = 1) -> NDArray[Any]:
        """Return rows as a float array; ``reset`` learns the features anew."""
        if is_alone():
            return self._checked_rows(X, reset=reset, n_min=n_min)
        with agreed():
            X = self._checked_rows(X, reset=reset, n_min=0)
            if issparse(X):
                raise ValueError(
                    f"X is sparse, and a data-parallel fit of {type(self).__name__} "
                    "takes dense rows: give X.toarray()."
                )
        known = objects((X.shape, X.dtype.name))
        from_first(lambda: _check_shapes([shape for shape, _ in known], n_min))
        dtype = np.result_type(*(t for _, t in known))
        found: NDArray[Any] = X.astype(dtype, copy=False)
        return found

    def _checked_rows(self, X: Any, *, reset: bool, n_min: int) -> NDArray[Any]:
        """Validate rows of this process."""
        check_is_table(X, self)
        check_is_dense(X, type(self).__name__, self._without_sparse)
        with explained(type(self).__name__):
            X = validate_data(
                self,
                on_host(X, allows_missing=self._allows_missing),
                reset=reset,
                dtype=FLOATS,
                accept_sparse="csr" if self._without_sparse is None else False,
                ensure_min_samples=n_min,
                ensure_all_finite=False,
            )
        if issparse(X):
            X = as_csr(X)
            self._check_stored(X)
        for part in slices(X.shape[0], max(1, CHECKED_ELEMENTS // X.shape[1])):
            rows = dense(X[part])
            self._check_finite(rows)
            self._check_rows(rows)
        found: NDArray[Any] = X
        return found

    def _check_together(self) -> None:
        """Raise a ValueError where each process would get a model of its own."""
        if is_alone() and is_offered():
            raise ValueError(
                f"Inside data_parallel, {type(self).__name__} is fitted by fit alone: "
                "partial_fit, and batched searches, would give each process a model "
                "of its own. Leave the block for these."
            )

    def _validate_code(self, X: Any) -> NDArray[Any]:
        """Return latent codes (n, k) as a float array, or raise a ValueError."""
        check_is_fitted(self)
        code = check_array(
            on_host(X, "the latent code"),
            dtype=FLOATS,
            accept_sparse="csr",
            input_name="the latent code",
        )
        if code.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {code.shape[1]} features, but {type(self).__name__}."
                f"inverse_transform is expecting {self._n_features_out} latent "
                "features as input: pass what transform returns."
            )
        if issparse(code):
            code = code.toarray()
        return self._check_code(code)

    def _check_stored(self, X: Any) -> None:
        """Raise a ValueError where a sparse matrix has missing cells."""
        if has_missing(X):
            raise ValueError(
                f"Input X is sparse and contains NaN. {type(self).__name__} takes "
                "missing cells of dense rows only: give X.toarray()."
            )

    def _check_finite(self, X: NDArray[Any]) -> None:
        """Raise a ValueError where numbers are missing, infinite or too large."""
        if _is_moderate(X):
            return
        owner, missing = type(self).__name__, self._allows_missing
        if not missing and np.isnan(X).any():
            raise ValueError(f"Input X contains NaN, and {owner} {MISSING}")
        assert_all_finite(X, allow_nan=missing, input_name="X")
        _check_magnitude(X, owner)

    def _apply(
        self, function: Callable[[Any, Tensor], Tensor], X: Any, *, scores: bool = False
    ) -> NDArray[Any]:
        """Validate rows, and map a function of the fitted model over them."""
        check_is_fitted(self)
        with threads_for():
            X = self._validate_rows(X, reset=False)
            return self._map(function, X, scores=scores)

    def _map(
        self,
        function: Callable[..., Tensor],
        X: NDArray[Any],
        *beside: NDArray[Any],
        scores: bool = False,
    ) -> NDArray[Any]:
        """Map ``function(model, rows, *beside)`` over chunks, without gradients.

        Arrays beside the rows (n, ...) are cut as they are. ``scores`` says that the
        function needs the memory that a score does.
        """
        device, dtype = torch.device(self.device_), self._tensor_dtype(X.dtype)
        elements = self._score_elements if scores else self._row_elements
        n = X.shape[0]
        arrays = [each if issparse(each) else shared(each) for each in (X, *beside)]
        with torch.inference_mode(), threads_for(self._chunk_work(n)):
            model = self._model(dtype)

            def mapped(rows: slice) -> NDArray[Any]:
                parts = (torch.as_tensor(dense(x[rows])) for x in arrays)
                chunk = (x.contiguous().to(dtype).to(device) for x in parts)
                return to_array(function(model, *chunk))

            chunks = self._chunks(n, elements)
            result = _gathered(n, ((rows, mapped(rows)) for rows in chunks))
        # Sums may be wider than the rows, or narrower; tokens stay integers.
        is_float = result.dtype.kind == "f"
        if scores and self._scores_are_wide:
            return result.astype(np.float64, copy=False)
        return result.astype(X.dtype, copy=False) if is_float else result

    def _draw(
        self,
        function: Callable[[Any, slice, torch.Generator], Tensor],
        n_samples: int,
        random_state: Any,
    ) -> Any:
        """Draw rows, into the container that ``set_output`` asks for."""
        return self._as_container(self._drawn(function, n_samples, random_state))

    def _drawn(
        self,
        function: Callable[[Any, slice, torch.Generator], Tensor],
        n_samples: int,
        random_state: Any,
    ) -> NDArray[Any]:
        """Map ``function(model, rows, generator)`` over chunks of rows to be drawn."""
        self._check_n_samples(n_samples)
        generator = make_generator(
            draw_seed(fresh_random_state(random_state)), torch.device(self.device_)
        )
        with torch.inference_mode(), threads_for(self._chunk_work(n_samples)):
            model = self._model(self._tensor_dtype(self._dtype))
            drawn: NDArray[Any] = _gathered(
                n_samples,
                (
                    (rows, to_array(function(model, rows, generator)))
                    for rows in self._chunks(n_samples, self._row_elements)
                ),
            )
        return drawn.astype(self._dtype, copy=False)

    def _check_n_samples(self, n_samples: Any) -> None:
        """Raise a ValueError unless so many rows can be drawn."""
        check_is_fitted(self)
        if not integer(1).accepts(n_samples):
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples!r}. The sampling requires "
                "at least one sample."
            )
        n_bytes = float(n_samples) * self.n_features_in_ * self._dtype.itemsize
        sizes = {"n_samples": n_samples}
        check_memory(n_bytes, torch.device("cpu"), type(self).__name__, sizes)

    def _chunks(self, n: int, row_elements: int) -> Iterator[slice]:
        """Cut n rows into chunks that suit the device."""
        rows = chunk_rows(torch.device(self.device_), row_elements)
        return slices(n, rows)

    def _chunk_work(self, n: int) -> int:
        """Multiplications that n rows take, or as many as one pass is made of."""
        rows = chunk_rows(torch.device(self.device_), self._row_elements)
        return min(n, rows) * self._row_work

    def _tensor_dtype(self, dtype: np.dtype[Any]) -> torch.dtype:
        """Dtype in which rows of a dtype are evaluated: their own, where it is here."""
        wide = wide_dtype(torch.device(self.device_))
        return torch.float32 if dtype == np.float32 else wide

    def _file_state(self) -> dict[str, Any]:
        """Return what a file holds of a fit: a pickle's, as plain values and arrays."""
        left_out = {*self.get_params(deep=False), *_SESSION}
        state = self._state()
        return {name: state[name] for name in state if name not in left_out}

    def _set_file_state(self, state: dict[str, Any]) -> None:
        """Take what a file holds of a fit; a ValueError where it makes no sense."""
        for name, kind in self._goes_on_from.items():
            if not isinstance(state.get(name), kind):
                raise ValueError(f"{name!r} is no {kind.__name__}")
        self._as_built(state.get("_built_with", {}))
        if state.get("_columns") is not None:
            columns = Columns.checked(*state["_columns"])
            if len(columns.names) != state["n_features_in_"]:
                raise ValueError("there are other columns than features")
            state = {**state, "_columns": columns}
        self.__setstate__(state)

    def _state(self) -> dict[str, Any]:
        """Return what a copy holds: nothing of a fit that is running."""
        state: dict[str, Any] = super().__getstate__()
        return {name: state[name] for name in state if name not in _DURING_FIT}

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: the same in arrays and plain values."""
        state = self._state()
        if "_dtype" in state:
            state["_dtype"] = state["_dtype"].name
        return state

    def __copy__(self) -> Self:
        """Copy the estimator, and nothing inside it."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self._state())
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the estimator and all inside, on its device."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self._state(), memo))
        return copied

    @classmethod
    def _upgraded(cls, state: dict[str, Any]) -> dict[str, Any]:
        """Return the state of a file or pickle of an earlier version as this one's."""
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickle; what was on a device that is not here goes to the CPU."""
        super().__setstate__(self._upgraded(state))
        if "_dtype" in state:
            self._dtype = np.dtype(state["_dtype"])
        if hasattr(self, "device_") and not is_available(torch.device(self.device_)):
            self.device_ = "cpu"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[no-untyped-call]
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = self._allows_missing
        tags.input_tags.sparse = self._without_sparse is None
        return tags


class InformationCriteria:
    """Mixin of the closed-form models: ``aic`` and ``bic``, and scores in float64."""

    _scores_are_wide = True
    score_samples: Callable[[ArrayLike], NDArray[Any]]

    @abstractmethod
    def _n_parameters(self) -> int:
        """Return the number of free parameters of the fitted model."""

    @property
    def _row_work(self) -> int:
        """Multiplications that a row takes: it meets each parameter once."""
        return self._n_parameters()

    def aic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return Akaike's information criterion.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; a row of weight 2 counts as two rows.

        Returns
        -------
        aic : float
            Twice the number of parameters minus twice the log-likelihood: the lower
            the better.
        """
        log_likelihood, _ = self._log_likelihood(X, sample_weight)
        return 2 * self._n_parameters() - 2 * log_likelihood

    def bic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the Bayesian information criterion.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; a row of weight 2 counts as two rows.

        Returns
        -------
        bic : float
            The number of parameters times the log of the total weight, minus twice
            the log-likelihood: the lower the better.
        """
        log_likelihood, log_total = self._log_likelihood(X, sample_weight)
        return self._n_parameters() * log_total - 2 * log_likelihood

    def _log_likelihood(
        self, X: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[float, float]:
        """Return the weighted sum of log-densities, and the log of the weights' sum."""
        scores = np.asarray(computed(self.score_samples(X)), np.float64)
        weight = check_sample_weight(computed(sample_weight), len(scores))
        if weight is None:
            return float(scores.sum()), math.log(len(scores))
        exponent = weight_exponent(weight)
        scaled = np.ldexp(weight, -exponent)
        log_total = math.log(scaled.sum()) + exponent * math.log(2)
        with np.errstate(over="ignore"):
            total = float(np.ldexp(scaled.sum(), exponent))
        return weighted_mean(scores, scaled) * total, log_total


def _check_shapes(shapes: list[tuple[int, ...]], n_min: int) -> None:
    """Raise a ValueError unless the rows of processes are those of one fit."""
    widths = [d for _, d in shapes]
    if len({*widths}) > 1:
        raise ValueError(
            f"The processes of a data-parallel fit have X with {widths} features, by "
            "rank. Give all the same columns."
        )
    n = sum(n for n, _ in shapes)
    if n < n_min:
        raise ValueError(
            f"The processes of a data-parallel fit have {n} rows together, while a "
            f"minimum of {n_min} is required."
        )


def _weights_of_all(sample_weight: Any, n: int) -> NDArray[Any] | None:
    """Return weights (n,) in float64, or None where no process has any."""
    if is_alone():
        return check_sample_weight(sample_weight, n)
    with agreed():
        weight = check_sample_weight(sample_weight, n, is_part=True)
    if not any_true(weight is not None):
        return None
    weight = np.ones(n) if weight is None else weight
    if not any_true(bool(weight.any())):
        raise ValueError(NO_WEIGHT)
    return weight


NO_WEIGHT = "Sample weights must contain at least one non-zero number."


def check_sample_weight(
    sample_weight: Any, n: int, *, is_part: bool = False
) -> NDArray[Any] | None:
    """Return weights (n,) in float64, or None.

    A ValueError says what is wrong with them: they must be finite and not negative, and
    at least one positive, unless they are a part of those of a fit.
    """
    if sample_weight is None:
        return None
    weight: NDArray[Any] = check_array(
        np.atleast_1d(np.asarray(on_host(sample_weight, "sample_weight"))),
        dtype=np.float64,
        ensure_2d=False,
        ensure_min_samples=0 if is_part else 1,
        input_name="sample_weight",
    )
    if weight.shape != (n,):
        raise ValueError(f"sample_weight.shape == {weight.shape}, expected {(n,)}!")
    if (weight < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`.")
    if not (weight.any() or is_part):
        raise ValueError(NO_WEIGHT)
    return weight


def weight_exponent(weight: NDArray[Any]) -> int:
    """Return the exponent of the largest weight, which is 2 ** exponent times [1, 2).

    Dividing weights by such a power is exact, and sums of them do not overflow.
    """
    largest = weight.max(initial=np.finfo(float).smallest_subnormal)
    return int(np.frexp(largest)[1]) - 1


def weighted_mean(values: NDArray[Any], weight: NDArray[Any] | None) -> float:
    """Return the mean of values (n,) in float64; those of weight zero do not count."""
    if weight is None:
        return float(np.mean(values, dtype=np.float64))
    counted = weight > 0
    scaled = np.ldexp(weight[counted], -weight_exponent(weight))
    return float(np.average(values[counted].astype(np.float64), weights=scaled))


def _gathered(n: int, chunks: Iterable[tuple[slice, NDArray[Any]]]) -> NDArray[Any]:
    """Put results of chunks of n rows into one array, as they come.

    A list of them would keep small blocks of memory among the large ones of the work,
    which then come anew from the system for each chunk: a third of the time.
    """
    result: Any = None
    for rows, chunk in chunks:
        if result is None:
            result = np.empty((n, *chunk.shape[1:]), dtype=chunk.dtype)
        result[rows] = chunk
    found: NDArray[Any] = result
    return found


def _is_moderate(X: NDArray[Any]) -> bool:
    """Whether one pass, the sum of squares, tells that no number needs a closer look.

    It does not where one is missing or infinite or large, nor where X is strided.
    """
    if not X.flags.forc:
        return False
    numbers = X.ravel(order="K")
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(numbers @ numbers < LARGEST**2)


def _check_magnitude(X: NDArray[Any], owner: str) -> None:
    """Raise a ValueError where the square of a finite value would not be finite."""
    largest = max(float(np.fmax.reduce(X, None)), -float(np.fmin.reduce(X, None)))
    if largest > LARGEST:
        raise ValueError(
            f"X has a value of magnitude {largest:.3g}, whose square overflows in "
            f"{owner}. Rescale X to magnitudes below {LARGEST:.0e}."
        )
