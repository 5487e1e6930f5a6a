"""The surface of the models that are trained by gradients.

Between ``base`` (scikit-learn) and ``_training`` (the loop): ``fit``, ``partial_fit``,
what networks answer, pickles and files. The module is built in ``building``, its
training planned in ``planning`` and told of in ``reporting``.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial, update_wrapper
from types import MethodType, SimpleNamespace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skgen._networks.dense import Blank, Standardizer
from skgen._tables.conditions import read_conditions
from skgen._training.adam import BETA1
from skgen._training.data import StoredRows, WeightedRows, are_few, shuffled
from skgen._training.driver import Steps, run_each
from skgen._training.early_stopping import History
from skgen._training.loop import Training
from skgen._training.shards import FitRows, in_shards
from skgen._training.trainer import Update
from skgen._utils.chunks import chunk_rows
from skgen._utils.collections import computed
from skgen._utils.moments import Moments
from skgen._utils.parameters import integer
from skgen._utils.reduce import any_true, is_alone, rank, same_as_first
from skgen._utils.sizes import module_bytes
from skgen._utils.sparse import SparseRows
from skgen._utils.tensors import (
    check_random_state,
    draw_seed,
    forked_rng,
    fresh_random_state,
    global_generators,
    has_room,
    is_mapped,
    make_generator,
    to_tensor,
    wide_dtype,
)
from skgen._utils.threads import threads_for
from skgen.likelihoods import Likelihood, as_likelihood, name_of_likelihood
from skgen.models.base import FitCallbacks, GenerativeModel, whole_or_as_before
from skgen.models.building import check_image, has_plain_networks, moved, new_module
from skgen.models.completion import draw_given
from skgen.models.evaluation import BoundedModel, LogLikelihood
from skgen.models.hyperparameters import NetworkSettings, TrainingSettings
from skgen.models.planning import (
    TrainingPlan,
    as_observed,
    as_seen,
    in_unit,
    mean_weight,
    of_positive_weight,
    relative,
)
from skgen.models.rebuilding import (
    as_arrays,
    as_tensors,
    check_depth,
    module_state,
    rebuilt,
)
from skgen.models.reporting import print_epoch, recorded, warn_of_end

# Standard errors of its held-out gain that a fit has to be better by than its start.
LEAST_GAIN = 1.5
# Rows that this is seen on, of many: each takes as many draws as a score.
JUDGED_ROWS = 2**14


class available_unless:
    """Decorate a method that an instance lacks, with an AttributeError that says why.

    Parameters
    ----------
    reason : callable
        Takes the instance, and returns why it lacks the method, or None.
    """

    def __init__(self, reason: Callable[[Any], str | None]) -> None:
        self.reason = reason

    def __call__(self, method: Callable[..., Any]) -> Any:
        """Take the method."""
        self.method = method
        return update_wrapper(self, method)

    def __get__(self, instance: Any, owner: type) -> Any:
        """Return the method of an instance, or the function of the class."""
        if instance is None:
            return self.method
        if reason := self.reason(instance):
            raise AttributeError(reason)
        return MethodType(self.method, instance)


class TrainedModel(TrainingSettings, GenerativeModel):
    """Base of the models that are trained by gradients.

    A model gives ``_build`` (its module, with ``standardizer``, ``likelihood``,
    ``encode``, ``decode``), ``_new_likelihood``, ``_objective`` and ``_noise``; the
    others below "What a model gives" have defaults.
    """

    _task_name = "epoch"
    _goes_on_from: ClassVar[Mapping[str, type]] = {
        "n_iter_": int,
        "loss_terms_": dict,
        "loss_curve_": list,
        "validation_curve_": list,
    }

    # Parameters of all that are trained, with defaults of their own.
    standardize: bool
    hidden_layer_sizes: Sequence[Any] | int
    module_: Any
    best_epoch_: int
    loss_curve_: list[float]
    validation_curve_: list[float]
    _weight_unit: float  # mean weight of the rows that the model was first fitted with
    loss_terms_: dict[str, list[float]]
    _optimizer_state: list[dict[str, Tensor]] | None

    # What a model gives.

    _without_sparse = None  # batches are made dense

    #: Whether rows are held out of the descent even without early stopping.
    _always_holds_out: ClassVar[bool] = False
    #: Multiples of the learning rate for parameters of the module, by what their names
    #: begin or end with. At the networks' rate sigma stays wide for so long that codes
    #: go out of use.
    _rates: ClassVar[dict[str, float]] = {
        "log_sigma": 3.0,
        "log_df": 3.0,
        "log_dispersion": 6.0,
    }
    #: Decay of Adam's running mean of gradients.
    _beta1: ClassVar[float] = BETA1
    #: Unit of losses, as they are printed.
    _loss_unit: ClassVar[str] = " nats per row"
    #: In what networks multiply in training: a parameter where there is a choice.
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    @abstractmethod
    def _new_likelihood(self) -> Likelihood:
        """Likelihood for a fit of its own: it says how rows are seen."""

    @property
    def _layer_sizes(self) -> list[tuple[int, ...]]:
        """Hidden widths of each part of the model."""
        sizes = self.hidden_layer_sizes
        return [tuple(sizes) if isinstance(sizes, Iterable) else (sizes,)]

    @property
    def _own_networks(self) -> dict[str, Any]:
        """Networks of the user's by the names of their parameters; None: skgen's."""
        return {}

    def _check_features(self, n_features: int) -> None:
        """Raise a ValueError if rows of so many features do not suit the model."""

    def _module_bytes(
        self, n_features: int, build: Callable[[], BoundedModel]
    ) -> float:
        """Return the memory that a module takes in training, without making it."""
        return module_bytes(build)

    @abstractmethod
    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> BoundedModel:
        """Make the module, on the CPU."""

    @property
    @abstractmethod
    def _objective(self) -> Any:
        """Training loss: a named tuple of constants that is called.

        ``objective(module, batch, annealing)`` gives the terms of each row, in
        standardised units; ``annealing`` is the part of the warm-up that is over, 1 at
        its end.
        """

    @property
    def _stack_key(self) -> Hashable | None:
        """Return a key that models must share to be trained as one, beyond shapes."""
        return None

    @abstractmethod
    def _noise(self, module: Any, n: int, generator: torch.Generator) -> Tensor | None:
        """Draw the noise (S, n, ...) that the loss of n rows needs."""

    @property
    def _update(self) -> Update | None:
        """Return the update without a gradient that follows a step, if any."""
        return None

    def _finish(
        self,
        plan: TrainingPlan,
        train: WeightedRows,
        held_out: WeightedRows | None,
        generator: torch.Generator,
    ) -> Steps | None:
        """Set what is fitted after the networks, from standardised rows.

        What is yet to be trained is left to the driver, as by ``_fit``.
        """
        return None

    def _described(self, train: WeightedRows) -> dict[str, Any]:
        """Return fitted attributes that describe the codes of standardised rows."""
        return {}

    def _warm_up(self, plan: TrainingPlan) -> int:
        """Epochs of the warm-up."""
        return 0

    # Training.

    def _context(self, y: Any, n: int, *, reset: bool) -> NDArray[Any] | None:
        """Return what n rows are conditioned on, (n, m), or None: y is ignored.

        ``reset`` learns anew what may be a condition, as ``fit`` does.
        """
        return None

    def _prepare(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool
    ) -> tuple[NDArray[Any], Any, Tensor | None]:
        X, x, weight = super()._prepare(X, y, sample_weight, reset=reset)
        reset = reset and not self._is_warm
        context = self._context(computed(y), X.shape[0], reset=reset)
        if context is not None:
            placed = to_tensor(context, x.device, wide_dtype(x.device))
            x = replace(x, context=placed)
        return X, x, weight

    def _place(self, X: NDArray[Any], device: torch.device) -> StoredRows:
        """Leave rows on the host where the device has no room for them."""
        device = torch.empty(0, device=device).device  # with its number
        if issparse(X):
            return StoredRows(SparseRows(X, device), None, device)
        x = to_tensor(X, device if has_room(device, X.nbytes) else torch.device("cpu"))
        is_file = is_mapped(X) and x.data_ptr() == X.ctypes.data
        out_of_core = x.is_cpu and (device.type != "cpu" or is_file)
        return StoredRows(
            x, None, device, out_of_core=out_of_core and not are_few(x.shape)
        )

    def _fit(
        self,
        x: StoredRows,
        weight: Tensor | None,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
    ) -> Steps:
        training, held_out, seed = self._training(x, weight, rng, callbacks)
        start = self._linear_start
        with self._own_draws(seed + rank(), x.device):
            history = yield training
        if start is not None and held_out is not None:
            self._keep_unless_better(start, held_out, history)
        self._record(history)
        warn_of_end(self, history)
        plan = TrainingPlan(self, len(training.rows))
        generator = training.trainer.generator
        finish = self._finish_on(plan, training.rows, held_out, generator)
        if finish is not None:
            yield from finish
        same_as_first(self.module_.state_dict().values())

    @property
    def _linear_start(self) -> BoundedModel | None:
        """Return a copy of the module where it starts at a linear model, else None."""
        return None

    def _keep_unless_better(
        self, start: BoundedModel, held_out: WeightedRows, history: History
    ) -> None:
        """Go back to the start of a fit that has gained less than its standard error.

        The best of many epochs gains a little by chance; and what a network learns
        from chance is wrong by most where rows are few, in the tails.
        """
        rows = held_out.first(JUDGED_ROWS)
        size = chunk_rows(rows.device, self.module_.score_elements)
        with torch.no_grad():
            gain = Moments.of_parts(
                (
                    self.module_.row_bounds(part.x) - start.row_bounds(part.x),
                    part.weight,
                )
                for part in rows.chunks(size)
            )
        if not gain.mean > LEAST_GAIN * (gain.variance / len(rows)).sqrt():
            self.module_.load_state_dict(start.state_dict())
            history.best_epoch = -1

    def _training(
        self,
        x: StoredRows,
        weight: Tensor | None,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
    ) -> tuple[Training, WeightedRows | None, int]:
        """Build or take the module, and say how it is to be trained.

        With the rows that are held out, and a seed for what networks may draw.
        """
        self._check_execution()
        rows = in_shards(of_positive_weight(x, weight))
        self._weight_unit = mean_weight(rows)
        train_rows, held_out_rows = self._split(rows, rng)
        parts = relative(train_rows), held_out_rows and relative(held_out_rows)
        seed, generator = draw_seed(rng), make_generator(draw_seed(rng), x.device)
        self._take_module(parts[0], seed, goes_on=self._is_warm)
        train, held_out = as_seen(self.module_, *parts)
        self.module_.set_learns_incomplete(self._has_missing(train))
        plan = TrainingPlan(self, len(train))
        training = Training(
            plan.trainer(generator),
            train,
            held_out.repeated() if held_out and self.early_stopping else None,
            self.max_iter,
            self.tol,
            plan.patience,
            partial(print_epoch, self) if self.verbose and not rank() else None,
            callbacks.begin,
            lambda: callbacks.end(lambda: self._snapshot(training)),
            () if has_plain_networks(self) else global_generators(x.device),
        )
        return training, held_out, seed + 1

    def partial_fit(
        self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on the given rows.

        The first call, if no fit came before, builds the networks and sets the
        standardisation from its rows; give it rows that are typical.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, on one scale over all calls: relative to the mean
            weight of the rows of the first call, or of ``fit``. A row counts at most
            as much as 2^24 of these.

        Returns
        -------
        self : object
            The estimator.
        """
        with whole_or_as_before(self), threads_for():
            self._fit_epoch(X, y, sample_weight)
        return self

    def _fit_epoch(self, X: Any, y: Any, sample_weight: Any) -> None:
        """Train a copy of the module for an epoch, or a new module."""
        first = not hasattr(self, "module_")
        _, x, weight = self._prepare(X, y, sample_weight, reset=first)
        rng = check_random_state(self.random_state)
        rows, seed = of_positive_weight(x, weight), draw_seed(rng)
        if first:
            self._weight_unit = mean_weight(rows)
        rows = in_unit(rows, getattr(self, "_weight_unit", 1.0))
        self._take_module(rows, seed, goes_on=not first)
        step_seed = seed + 1 + self.n_iter_
        generator = make_generator(step_seed, x.device)
        parts = self._split(rows, rng) if self._always_holds_out else (rows, None)
        train, held_out = as_seen(self.module_, *parts)
        if self._optimizer_state is None:  # else it has moments of what is learned
            self.module_.set_learns_incomplete(self._has_missing(train))
        plan = TrainingPlan(self, len(train), incremental=True)
        trainer = plan.trainer(generator)
        if (state := self._optimizer_state) is not None:
            trainer.optimizer.load_state(state)
        with self._own_draws(step_seed, x.device):
            history = Training(trainer, train, None, 1, 0.0, patience=2).run()
        self._record(history)
        run_each(self._finish_on(plan, train, held_out, generator))
        if history.status == "diverged":  # and so may the state of the optimiser be
            warn_of_end(self, history)
            self._optimizer_state = state
        else:
            self._optimizer_state = trainer.optimizer.state()

    def _scale_seen(self, factor: float) -> None:
        self._weight_unit = getattr(self, "_weight_unit", 1.0) * factor

    def _check_execution(self) -> None:
        """Raise a ValueError where gradients cannot be summed over processes."""
        if not is_alone() and self.execution != "eager":
            raise ValueError(
                f"execution={self.execution!r} of {type(self).__name__} runs a step as "
                "one piece, and a data-parallel fit sums gradients inside. Use "
                "execution='eager'."
            )

    def _take_module(self, rows: FitRows, seed: int, *, goes_on: bool) -> None:
        """Take a copy of the fitted module, or a new one and empty curves."""
        if goes_on:
            self.module_ = moved(copy.deepcopy(self.module_), rows.device)
        else:
            self.module_, self._optimizer_state = new_module(self, rows, seed), None
            self._reset_curves()

    def _reset_curves(self) -> None:
        """Forget the epochs of earlier fits."""
        self.n_iter_ = self.best_epoch_ = 0
        self.loss_terms_ = {}
        self.validation_curve_ = []

    def _split(
        self, rows: FitRows, rng: np.random.RandomState
    ) -> tuple[FitRows, FitRows | None]:
        """Hold out a fraction of n rows, at least one, where there are two."""
        n = len(rows)
        if n < 2 or not (self.early_stopping or self._always_holds_out):
            return rows, None
        n_held_out = min(max(1, round(self.validation_fraction * n)), n - 1)
        order = self._shuffled(rows, rng)
        return rows.take(order[n_held_out:]), rows.take(order[:n_held_out])

    def _shuffled(self, rows: FitRows, rng: np.random.RandomState) -> Tensor:
        """Return the rows in random order (n,), of which the first are held out."""
        return shuffled(len(rows), rng)

    @property
    def _is_warm(self) -> bool:
        return self.warm_start and hasattr(self, "module_")

    def _has_missing(self, rows: WeightedRows) -> bool:
        """Whether any cell of the rows is missing, where the likelihood allows it."""
        if not self._allows_missing:
            return False
        return any_true(any(bool(part.x.isnan().any()) for part in rows.chunks()))

    def _own_draws(
        self, seed: int, device: torch.device
    ) -> AbstractContextManager[None]:
        """Seed what networks of the user's may draw in training, as dropout does."""
        return nullcontext() if has_plain_networks(self) else forked_rng(seed, device)

    @property
    def _cache_key(self) -> Hashable | None:
        """Return a key of models that may be trained as one, or by one program."""
        return self._stack_key if has_plain_networks(self) else None

    def _finish_on(
        self,
        plan: TrainingPlan,
        train: WeightedRows,
        held_out: WeightedRows | None,
        generator: torch.Generator,
    ) -> Steps | None:
        """Finish on rows as the likelihood observes them."""
        if held_out is not None:
            held_out = as_observed(self.module_, held_out, generator)
        train = as_observed(self.module_, train, generator)
        return self._finish(plan, train, held_out, generator)

    def _record(self, history: History) -> None:
        """Extend the curves by those of a history."""
        self.__dict__.update(recorded(self, history), _optimizer_state=None)

    # Evaluating.

    def _careful(
        self,
        apply: Callable[[Callable[..., Tensor]], NDArray[Any]],
        n_samples: int,
        random_state: Any,
    ) -> LogLikelihood:
        """Estimate log-densities of the rows that ``apply`` maps a function over."""
        if not integer(1).accepts(n_samples):
            raise ValueError(
                f"The 'n_samples' parameter of {type(self).__name__}.log_likelihood "
                f"must be an int in the range [1, inf). Got {n_samples!r} instead."
            )
        check_is_fitted(self)
        seed = draw_seed(fresh_random_state(random_state))
        generator = make_generator(seed, torch.device(self.device_))
        columns = apply(
            lambda model, x, *context: model.careful_log_prob(
                x, n_samples, generator, *context
            )
        )
        estimate = LogLikelihood(columns[:, 0], columns[:, 1], n_samples)
        estimate.warn_of_few(type(self).__name__)
        return estimate

    def _model(self, dtype: torch.dtype) -> Any:
        """Return the module in a dtype: a cast copy, where it must be cast.

        Casting in place would not be safe when several threads evaluate.
        """
        if dtype == torch.float32:
            return self.module_
        return copy.deepcopy(self.module_).to(dtype)

    @property
    def _row_elements(self) -> int:
        elements: int = self.module_.row_elements
        return elements

    @property
    def _score_elements(self) -> int:
        elements: int = self.module_.score_elements
        return elements

    @property
    def _row_work(self) -> int:
        work: int = self.module_.row_work
        return work

    # State.

    def _snapshot(self, training: Training) -> dict[str, Any]:
        """Return the fitted attributes of a fit that ends with the present epoch."""
        history = training.history
        generator = make_generator(0, training.rows.device)
        with torch.no_grad():
            rows = as_observed(self.module_, training.rows.sample(), generator)
            described = self._described(rows)
        curves = recorded(self, history)
        return {
            **curves,
            **described,
            "module_": copy.deepcopy(self.module_),
            "best_epoch_": curves["n_iter_"],
            "_optimizer_state": None,
        }

    def _file_state(self) -> dict[str, Any]:
        state = super()._file_state()
        built_with = state["_built_with"].items()
        plain = {name: value for name, value in built_with if name in self._fixed}
        module = module_state(state["module_"])
        return {**state, "module_": module, "_built_with": plain}

    def _set_file_state(self, state: dict[str, Any]) -> None:
        module = self._rebuilt(state["module_"], state["_built_with"])
        super()._set_file_state({**state, "module_": module})
        if self._optimizer_state is not None:
            generator = make_generator(0, torch.device(self.device_))
            trainer = TrainingPlan(self, 1).trainer(generator)
            trainer.optimizer.load_state(self._optimizer_state)

    def _rebuilt(
        self, state: dict[str, Any], built_with: dict[str, Any]
    ) -> BoundedModel:
        """Put the module of a file together as it was built, whatever was set since."""
        builder = self._as_blank(built_with)
        check_depth(builder._layer_sizes, state)
        return rebuilt(builder._build, state, self._own_networks)

    def _as_blank(self, built_with: dict[str, Any]) -> Self:
        """Return an unfitted copy, with no network of the user's inside."""
        own = self._own_networks.items()
        blanks = {name: Blank for name, network in own if network is not None}
        return self._as_built(built_with).set_params(**blanks)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle what a file holds of the networks: arrays, and no module.

        A module that this estimator would not build again, as one with networks of the
        user's, is pickled itself: on the CPU, since pickles have no map_location.
        """
        state = super().__getstate__()
        if "module_" not in state:
            return state
        if state.get("_optimizer_state") is not None:
            state["_optimizer_state"] = as_arrays(state["_optimizer_state"])
        plain = as_arrays(module_state(self.module_))
        plain["likelihood"] = clone(plain["likelihood"])
        if not hasattr(self, "_callback_fit_ctx") and self._can_rebuild(plain):
            state["module_"] = plain
        elif self.device_ != "cpu":
            state["module_"] = copy.deepcopy(self.module_).cpu()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickle, on its device where that is here."""
        super().__setstate__(state)
        if "module_" not in state:
            return
        if isinstance(self.module_, dict):
            self.module_ = self._rebuilt_from_arrays(self.module_)
        if self._optimizer_state is not None:
            self._optimizer_state = as_tensors(self._optimizer_state)
        self.module_ = moved(self.module_, torch.device(self.device_))

    def _can_rebuild(self, plain: dict[str, Any]) -> bool:
        """Return whether a module in arrays is all that is needed of it."""
        is_named = name_of_likelihood(self.module_.likelihood) is not None
        if not (is_named and has_plain_networks(self)):
            return False
        try:
            self._rebuilt_from_arrays(plain)
        except (ValueError, TypeError, AttributeError):  # it was changed after the fit
            return False
        return True

    def _rebuilt_from_arrays(self, plain: dict[str, Any]) -> BoundedModel:
        state = {**plain, "weights": as_tensors(plain["weights"])}
        built_with = self._built_with.items()
        return self._rebuilt(state, {n: v for n, v in built_with if n in self._fixed})


class NeuralModel(NetworkSettings, TrainedModel):
    """Base of the models with an encoder and a decoder network, and a likelihood."""

    @property
    def _new_likelihood(self) -> Likelihood:
        return as_likelihood(self.likelihood)

    @property
    def _own_networks(self) -> dict[str, Any]:
        return {"encoder": self.encoder, "decoder": self.decoder}

    def _check_features(self, n_features: int) -> None:
        check_image(self, n_features)

    def _fixed_parameters(self) -> dict[str, Any]:
        fixed = {**super()._fixed_parameters(), **self._own_networks}
        return {**fixed, "likelihood": copy.deepcopy(self._new_likelihood)}

    def set_params(self, **params: Any) -> Self:
        """Set parameters of this estimator, and of those inside it.

        Parameters
        ----------
        **params : object
            Parameters by name; ``likelihood__sigma`` is ``sigma`` of a likelihood that
            is an object.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        likelihood = params.get("likelihood", getattr(self, "likelihood", None))
        nested = [name for name in params if name.startswith("likelihood__")]
        if nested and isinstance(likelihood, str):
            raise ValueError(
                f"Invalid parameter {nested[0]!r} for {type(self).__name__}: its "
                f"'likelihood' is the name {likelihood!r}. Give an object that has "
                "options, of skgen.likelihoods, such as likelihood=Gaussian()."
            )
        return super().set_params(**params)

    @property
    def _gains_by_linear_path(self) -> bool:
        """Return whether networks have a linear path where it is not asked for."""
        return False

    def log_likelihood(
        self, X: ArrayLike, n_samples: int = 5000, *, random_state: Any = 0
    ) -> LogLikelihood:
        """Estimate log p(x) carefully, with many importance samples.

        The estimate is from below: it approaches log p(x) as ``n_samples`` grows, and
        is what to compare models by when the bound of ``score`` may be loose.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        n_samples : int, default=5000
            Draws from the encoder, for each row.
        random_state : int, RandomState, Generator or None, default=0
            Source of the draws; ``None`` is fresh entropy at each call.

        Returns
        -------
        estimate : LogLikelihood
            ``log_prob`` and its Monte Carlo ``standard_error``, in nats, and the
            ``effective_sample_size`` of the draws, each of shape (n_samples,);
            ``mean_log_prob`` and ``mean_standard_error`` are those of the mean over the
            rows. To NumPy's functions it is ``log_prob``.

        Warns
        -----
        DegenerateWeightsWarning
            If the effective sample size of a row is below 2, of 500 draws or more: its
            estimate may be far too low.

        References
        ----------
        Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.
        """
        return self._careful(
            lambda function: self._apply(function, X, scores=True),
            n_samples,
            random_state,
        )

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
            Whether to add the noise of p(x|z). Without it, a row is the decoded
            mean of its latent draw: the picture that people look at.
        given : dict, array-like or DataFrame, default=None
            What is known of the rows, where the likelihood takes missing cells. A dict
            has columns by name or number, and for each a number, an interval
            ``(low, high)`` with None for no end, or a list of numbers, of which the
            cell is one. An array (n_features,) is a row, NaN where nothing is known; an
            array (r, n_features) or a DataFrame are r rows that are each completed, in
            their order.
        return_code : bool, default=False
            Whether to return the latent codes of the rows, too; not with ``given``.

        Returns
        -------
        X : array or DataFrame of shape (n_samples, n_features)
            Rows in random order, in the dtype of the training data; a DataFrame where
            ``set_output`` asks for one.
        code : array of shape (n_samples, n_latent)
            If ``return_code``: the latent draws, as ``inverse_transform`` takes them.

        Raises
        ------
        ValueError
            If ``given`` is no condition on the columns, has no mass, or is one on a
            likelihood that takes no missing cells.

        Warns
        -----
        DegenerateWeightsWarning
            If intervals are met by so few draws that they stand for the density badly.

        Notes
        -----
        Given values, rows are drawn as by ``impute``, by importance resampling. Of such
        draws those are kept that lie in the intervals, out of 100 for a row at most.
        """
        if given is not None:
            return self._drawn_given(n_samples, given, noise, random_state, return_code)
        if not return_code:
            return super().sample(n_samples, random_state, noise=noise)
        rng = fresh_random_state(random_state)
        code = self._drawn(
            lambda model, rows, generator: model.draw_codes(
                rows.stop - rows.start, generator
            ),
            n_samples,
            rng,
        )
        generator = make_generator(draw_seed(rng), torch.device(self.device_))
        rows = self._map(lambda model, z: model.drawn_at(z, noise, generator), code)
        return self._as_container(rows.astype(self._dtype, copy=False)), code

    def _drawn_given(
        self, n: int, given: Any, noise: bool, random_state: Any, return_code: bool
    ) -> Any:
        """Draw n rows given what is known of them."""
        self._check_n_samples(n)
        owner = type(self).__name__
        self._check_conditionals(f"sample of {owner} takes no 'given'")
        if return_code or not noise:
            raise ValueError(
                f"{owner}.sample takes neither return_code=True nor noise=False with "
                "'given'. Leave them out, and use transform and impute of the rows."
            )
        names = getattr(self, "feature_names_in_", None)
        conditions = read_conditions(given, names, self.n_features_in_, owner)
        rng = fresh_random_state(random_state)
        rows = draw_given(self._of_arrays(), conditions, n, rng, owner)
        return self._as_container(rows.astype(self._dtype, copy=False))

    def _of_arrays(self) -> SimpleNamespace:
        """Return what draws and scores arrays, whatever the names that were fitted."""

        def impute(
            rows: NDArray[Any], *, noise: bool, random_state: Any
        ) -> NDArray[Any]:
            device = torch.device(self.device_)
            generator = make_generator(draw_seed(random_state), device)
            return self._map(
                lambda model, x: model.impute(x, generator),
                rows.astype(self._dtype),
                scores=True,
            )

        def draw(model: Any, rows: slice, generator: torch.Generator) -> Tensor:
            drawn: Tensor = model.draw(rows.stop - rows.start, True, generator)
            return drawn

        return SimpleNamespace(
            impute=impute,
            sample=partial(self._drawn, draw),
            score_samples=lambda rows: self._log_probs(rows.astype(self._dtype)),
        )

    def _check_conditionals(self, fault: str) -> None:
        """Raise a ValueError where rows with missing cells have no score."""
        if self._without_missing is not None:
            raise ValueError(
                f"{fault}: the likelihood {self._density!r} takes no missing cells. "
                "Use skgen.MixedDensity around the model, or likelihood="
                "skgen.likelihoods.Mixed(...)."
            )

    def score_samples(
        self, X: ArrayLike, given: Iterable[Any] | None = None
    ) -> NDArray[Any]:
        """Evaluate the log-density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        given : list of column names or numbers, default=None
            Columns to condition on, where the likelihood takes missing cells.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            log p(x) in nats: exact, or a lower bound where the class says so. With
            ``given``, log p(rest of x given those columns), a difference of two such
            scores.
        """
        scores = super().score_samples(X)
        if given is None:
            return scores
        fault = f"score_samples of {type(self).__name__} takes no 'given'"
        self._check_conditionals(fault)
        found: NDArray[Any] = scores - self._log_marginals(X, given)
        return found

    @available_unless(lambda model: model._without_missing)
    def impute(
        self, X: ArrayLike, *, noise: bool = False, random_state: Any = None
    ) -> Any:
        """Fill cells that are missing, where the likelihood allows them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows with NaN in the place of what is missing.
        noise : bool, default=False
            Whether to draw a missing cell from its density given the rest of the row,
            for multiple imputation. Without it, a number is the mean of that density,
            and a level the most probable one.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.

        Returns
        -------
        X_filled : array or DataFrame of shape (n_samples, n_features)
            The rows; cells that were there are as they were.

        Notes
        -----
        By importance sampling, from ``n_importance_samples`` codes or at least 512.
        Draws of cells have fresh codes for each row and call.

        References
        ----------
        Mattei & Frellsen, "MIWAE: deep generative modelling and imputation of
        incomplete data sets", ICML 2019.
        """
        check_is_fitted(self)
        generator = None
        if noise:
            seed = draw_seed(fresh_random_state(random_state))
            generator = make_generator(seed, torch.device(self.device_))
        rows = self._apply(lambda model, x: model.impute(x, generator), X, scores=True)
        return self._as_container(rows, X)

    @property
    def _density(self) -> Likelihood:
        """The likelihood of the fit, or of the parameters where there is no fit."""
        return as_likelihood(self._fitted("likelihood"))

    @property
    def _scores_mass(self) -> bool:
        return self._density.is_mass

    @property
    def _allows_missing(self) -> bool:
        allowed = getattr(self._fitted("likelihood"), "allows_missing", False)
        return bool(allowed)

    @property
    def _without_missing(self) -> str | None:
        """Why there are no cells to impute; None where there may be."""
        if self._allows_missing:
            return None
        return (
            f"{type(self).__name__} has no impute: its likelihood, "
            f"{self._density!r}, takes no missing cells. Use skgen.MixedDensity("
            f"{type(self).__name__}()), whose likelihood does."
        )

    def _check_rows(self, X: NDArray[Any]) -> None:
        self._density.check_rows(X, type(self).__name__)

    # State.

    @classmethod
    def _upgraded(cls, state: dict[str, Any]) -> dict[str, Any]:
        """Say of files and pickles of 0.1 that their networks have no linear path."""
        state = super()._upgraded(state)
        if "_built_with" not in state:
            return state
        built_with = {**state["_built_with"]}
        built_with.setdefault("linear_path", False)
        return {**state, "_built_with": built_with}

    @property
    def _column_kinds(self) -> Any:
        """Kind of each column of a ``Mixed`` likelihood."""
        likelihood: Any = self.module_.likelihood
        return likelihood.kinds

    def _set_file_state(self, state: dict[str, Any]) -> None:
        super()._set_file_state(state)
        likelihood = copy.deepcopy(self.module_.likelihood)
        self._built_with |= {**self._own_networks, "likelihood": likelihood}
