"""The surface of the models that are trained by gradients.

Between ``base`` (scikit-learn) and ``_training`` (the loop): settings, held-out rows,
standardisation, the module and its copies, curves, partial fits.
"""

from __future__ import annotations

import copy
import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial, update_wrapper
from itertools import chain
from types import MethodType
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skgen._networks.dense import Blank, Factory, Standardizer, build_network, mlp_pair
from skgen._networks.images import ImageNetworks, check_image_shape
from skgen._training.adam import StepRule
from skgen._training.batches import auto_batch_size
from skgen._training.data import StoredRows, WeightedRows, are_few
from skgen._training.driver import Steps, run_each
from skgen._training.early_stopping import History
from skgen._training.loop import Training
from skgen._training.trainer import Trainer, Update
from skgen._utils.parameters import integer
from skgen._utils.sizes import are_small, check_memory, module_bytes
from skgen._utils.tensors import (
    DrawingFrom,
    check_random_state,
    draw_seed,
    forked_rng,
    fresh_random_state,
    has_room,
    is_mapped,
    make_generator,
    to_tensor,
    wide_dtype,
)
from skgen._utils.threads import threads_for
from skgen.likelihoods import Likelihood, as_likelihood
from skgen.models.base import FitCallbacks, GenerativeModel, whole_or_as_before
from skgen.models.evaluation import BoundedModel, LogLikelihood
from skgen.models.hyperparameters import NetworkSettings
from skgen.models.proposal_learning import MAX_STEPS, learn_proposal
from skgen.models.rebuilding import check_depth, module_state, rebuilt

# Largest size of a number that the start of a fit is computed from.
START_LIMIT = 1e15
# Largest weight of a row in `partial_fit`, relative to the mean of the first rows: a
# squared gradient stays in the range of float32.
MOST_WEIGHT = 2.0**24
# Patience where none is given: an epoch over few rows has too few steps to tell.
PATIENCE_EPOCHS, PATIENCE_STEPS = 10, 300
# How messages name the descent that learns the posterior of incomplete rows.
PROPOSAL = ", posterior of rows with missing cells"


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


class NeuralModel(NetworkSettings, GenerativeModel):
    """Base of the models with an encoder and a decoder network.

    A model gives ``_build`` (its module, with ``standardizer``, ``likelihood``,
    ``encode``, ``decode``), ``_loss`` and ``_noise``.
    """

    _task_name = "epoch"
    _goes_on_from: ClassVar[Mapping[str, type]] = {
        "n_iter_": int,
        "loss_terms_": dict,
        "loss_curve_": list,
        "validation_curve_": list,
    }

    module_: Any
    _weight_unit: float  # mean weight of the rows that the model was first fitted with
    loss_terms_: dict[str, list[float]]
    _optimizer_state: list[dict[str, Tensor]] | None

    # What a model gives.

    #: Whether rows are held out of the descent even without early stopping.
    _always_holds_out: ClassVar[bool] = False
    #: Multiples of the learning rate for parameters of the module, by what their names
    #: end with. At the networks' rate sigma stays wide for so long that codes go out of
    #: use.
    _rates: ClassVar[dict[str, float]] = {"log_sigma": 3.0, "log_dispersion": 6.0}

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
    def _cache_key(self) -> Hashable | None:
        """Return a key that models must share to be trained as one, beyond shapes."""
        return None

    @abstractmethod
    def _noise(self, module: Any, n: int, generator: torch.Generator) -> Tensor | None:
        """Draw the noise (S, n, ...) that the loss of n rows needs."""

    @property
    def _update(self) -> Update | None:
        """Return the update without a gradient that follows a step, if any."""
        return None

    @abstractmethod
    def _finish(
        self,
        train: WeightedRows,
        held_out: WeightedRows | None,
        generator: torch.Generator,
        *,
        incremental: bool,
    ) -> Steps | None:
        """Set what is fitted after the networks, from standardised rows.

        ``incremental`` says that this ends a ``partial_fit``. What is yet to be
        trained is left to the driver, as by ``_fit``.
        """

    @abstractmethod
    def _described(self, train: WeightedRows) -> dict[str, Any]:
        """Return fitted attributes that describe the codes of standardised rows."""

    def _warm_up(self, n_rows: int) -> int:
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
        context = self._context(y, len(X), reset=reset and not self._is_warm)
        if context is not None:
            placed = to_tensor(context, x.device, wide_dtype(x.device))
            x = replace(x, context=placed)
        return X, x, weight

    def _place(self, X: NDArray[Any], device: torch.device) -> StoredRows:
        """Leave rows on the host where the device has no room for them."""
        device = torch.empty(0, device=device).device  # with its number
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
        with self._own_draws(seed, x.device):
            history = yield training
        self._record(history)
        self._warn(history)
        finish = self._finish_on(
            training.rows, held_out, training.trainer.generator, incremental=False
        )
        if finish is not None:
            yield from finish

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
        rows = _positive(x, weight)
        self._weight_unit = _mean_weight(rows)
        train_rows, held_out_rows = self._split(rows, rng)
        parts = _relative(train_rows), held_out_rows and _relative(held_out_rows)
        seed, generator = draw_seed(rng), make_generator(draw_seed(rng), x.device)
        self._take_module(parts[0], seed, goes_on=self._is_warm)
        train, held_out = self._seen(*parts)
        self.module_.set_learns_incomplete(self._has_missing(train))
        trainer = self._new_trainer(len(train), generator)
        training = Training(
            trainer,
            train,
            held_out.repeated() if held_out and self.early_stopping else None,
            self.max_iter,
            self.tol,
            self._patience(len(train)),
            self._report if self.verbose else None,
            callbacks.begin,
            lambda: callbacks.end(lambda: self._snapshot(training)),
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
        rows, seed = self._on_first_scale(_positive(x, weight), first), draw_seed(rng)
        self._take_module(rows, seed, goes_on=not first)
        step_seed = seed + 1 + self.n_iter_
        generator = make_generator(step_seed, x.device)
        parts = self._split(rows, rng) if self._always_holds_out else (rows, None)
        train, held_out = self._seen(*parts)
        if self._optimizer_state is None:  # else it has moments of what is learned
            self.module_.set_learns_incomplete(self._has_missing(train))
        trainer = self._new_trainer(len(train), generator)
        if (state := self._optimizer_state) is not None:
            trainer.optimizer.load_state(state)
        with self._own_draws(step_seed, x.device):
            history = Training(trainer, train, None, 1, 0.0, patience=2).run()
        self._record(history)
        run_each(self._finish_on(train, held_out, generator, incremental=True))
        if history.status == "diverged":  # and so may the state of the optimiser be
            self._warn(history)
            self._optimizer_state = state
        else:
            self._optimizer_state = trainer.optimizer.state()

    def _on_first_scale(self, rows: StoredRows, first: bool) -> StoredRows:
        """Divide weights by the mean of those that the model was first fitted with."""
        if first:
            self._weight_unit = _mean_weight(rows)
        unit = getattr(self, "_weight_unit", 1.0)
        if rows.weight is None and unit == 1:
            return rows
        weight = rows.weight
        if weight is None:
            weight = torch.ones(len(rows), dtype=wide_dtype(rows.device))
        weight = (weight.to(rows.device) / unit).clamp(max=MOST_WEIGHT)
        return replace(rows, weight=weight)

    def _scale_seen(self, factor: float) -> None:
        self._weight_unit = getattr(self, "_weight_unit", 1.0) * factor

    def _take_module(self, rows: StoredRows, seed: int, *, goes_on: bool) -> None:
        """Take a copy of the fitted module, or a new one and empty curves."""
        if goes_on:
            self.module_ = _move(copy.deepcopy(self.module_), rows.device)
        else:
            self.module_, self._optimizer_state = self._new_module(rows, seed), None
            self._reset_curves()

    def _reset_curves(self) -> None:
        """Forget the epochs of earlier fits."""
        self.n_iter_ = self.best_epoch_ = 0
        self.loss_terms_ = {}
        self.validation_curve_: list[float] = []

    def _split(
        self, rows: StoredRows, rng: np.random.RandomState
    ) -> tuple[StoredRows, StoredRows | None]:
        """Hold out a fraction of n rows, at least one, where there are two."""
        n = len(rows)
        if n < 2 or not (self.early_stopping or self._always_holds_out):
            return rows, None
        n_held_out = min(max(1, round(self.validation_fraction * n)), n - 1)
        order = self._shuffled(rows, rng)
        return rows.take(order[n_held_out:]), rows.take(order[:n_held_out])

    def _shuffled(self, rows: StoredRows, rng: np.random.RandomState) -> Tensor:
        """Return the rows in random order (n,), of which the first are held out."""
        return torch.from_numpy(rng.permutation(len(rows)))

    def _seen(
        self, train: StoredRows, held_out: StoredRows | None
    ) -> tuple[WeightedRows, WeightedRows | None]:
        """Rows as the networks see them; the likelihood takes notice of them all."""
        seen = [
            self.module_.standardizer.rows(part).kept()
            for part in (train, held_out)
            if part is not None
        ]
        chunks = chain.from_iterable(part.chunks() for part in seen)
        self.module_.likelihood.see_rows(chunk.x for chunk in chunks)
        return seen[0], seen[1] if held_out is not None else None

    @property
    def _is_warm(self) -> bool:
        return self.warm_start and hasattr(self, "module_")

    def _fixed_parameters(self) -> dict[str, Any]:
        given = {"encoder": self.encoder, "decoder": self.decoder}
        likelihood = copy.deepcopy(as_likelihood(self.likelihood))
        return {**super()._fixed_parameters(), **given, "likelihood": likelihood}

    def _has_missing(self, rows: WeightedRows) -> bool:
        """Whether any cell of the rows is missing, where the likelihood allows it."""
        if not self._allows_missing:
            return False
        return any(bool(chunk.x.isnan().any()) for chunk in rows.chunks())

    def _own_draws(
        self, seed: int, device: torch.device
    ) -> AbstractContextManager[None]:
        """Seed what networks of the user's may draw in training, as dropout does."""
        return nullcontext() if self._is_plain else forked_rng(seed, device)

    @property
    def _is_plain(self) -> bool:
        """Return whether neither network is the user's own."""
        return self.encoder is None and self.decoder is None

    def _new_module(self, train: StoredRows, seed: int) -> BoundedModel:
        """Build the module, and adapt it to the training rows."""
        likelihood = copy.deepcopy(as_likelihood(self.likelihood))
        standardizer = likelihood.standardizer(train.kept(), self.standardize)
        shape = self.image_shape
        if shape is not None and math.prod(shape) != train.shape[1]:
            raise ValueError(
                f"image_shape={shape!r} of {type(self).__name__} is that of rows with "
                f"{math.prod(shape)} features, and X has {train.shape[1]}. Change it, "
                "or leave it out."
            )
        self._check_sizes(likelihood, standardizer, len(train), train.device)
        draws = DrawingFrom(seed) if self._is_plain else forked_rng(seed)
        with draws, torch.no_grad():
            module = self._build(train.shape[1], likelihood, standardizer.cpu())
            module = _move(module, train.device)
            x = module.standardizer.rows(train).sample().x
            low, high = x.aminmax()
            if not (low >= -START_LIMIT and high <= START_LIMIT):
                # Squares of the start stay in range: a divergence can go back to it.
                near = x.nan_to_num().clamp(-START_LIMIT, START_LIMIT)
                x = torch.where(train.sample().x.isnan(), x, near)
            module.set_rows(x)
        return module.eval()

    def _check_sizes(
        self,
        likelihood: Likelihood,
        standardizer: Standardizer,
        n_rows: int,
        device: torch.device,
    ) -> None:
        """Raise a ValueError if the networks, or a step, need more memory than is."""
        names = [*self._fixed, *self._step_sizes]
        sizes = {name: getattr(self, name) for name in names}
        n_features = len(standardizer.shift)
        if are_small([*sizes.values(), n_features]):
            return
        build = partial(
            self._as_blank({name: sizes[name] for name in self._fixed})._build,
            n_features,
            copy.deepcopy(likelihood),
            Standardizer.identity(n_features),
        )
        n_bytes = module_bytes(build)
        draws = math.prod(getattr(self, name) for name in self._step_sizes)
        n_bytes += 4.0 * draws * self._batch_rows(n_rows) * n_features
        check_memory(n_bytes, device, type(self).__name__, sizes)

    def _networks(
        self, n_features: int, n_encoded: int, n_code: int, likelihood: Likelihood
    ) -> tuple[nn.Module, nn.Module]:
        """Make the encoder (d -> n_encoded) and the decoder (n_code -> outputs)."""
        encoder, decoder = self._default_networks(n_features)
        n_inputs = likelihood.encoder_width(n_features)
        n_outputs = likelihood.decoder_width(n_features)
        return (
            build_network(self.encoder, encoder, n_inputs, n_encoded, "encoder"),
            build_network(self.decoder, decoder, n_code, n_outputs, "decoder"),
        )

    def _default_networks(self, n_features: int) -> tuple[Factory, Factory]:
        """Return factories of the encoder and the decoder, of widths in and out."""
        if self.architecture == "conv":
            images = self._image_networks(n_features)
            return images.encoder, images.decoder
        return mlp_pair(self._layer_sizes[0], self.activation)

    def _image_networks(self, n_features: int) -> ImageNetworks:
        """Return factories of networks of the images that rows hold."""
        name = type(self).__name__
        if self._fitted("image_shape") is None:
            raise ValueError(
                f"{name} with architecture='conv' needs the shape of the image that a "
                f"row of {n_features} features holds. Got image_shape=None; give "
                "image_shape=(height, width) or (height, width, channels)."
            )
        shape = self._fitted("image_shape")
        height, width, _ = check_image_shape(shape, n_features, name)
        return ImageNetworks(
            height, width, channels=self.channels, activation=self.activation
        )

    @property
    def _layer_sizes(self) -> list[tuple[int, ...]]:
        """Hidden widths of each stochastic layer."""
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, Iterable):
            return [tuple(sizes)]
        return [(sizes,)]

    def _new_trainer(self, n_rows: int, generator: torch.Generator) -> Trainer:
        module = self.module_
        module.precision = self.precision
        rule = StepRule(
            self.learning_rate_init,
            self.learning_rate,
            self.weight_decay,
            self.max_grad_norm,
            self.weight_averaging,
            self.execution,
        )
        trainer = Trainer(
            module,
            self._objective,
            lambda x: (
                module.observe(x, generator),
                self._noise(module, len(x), generator),
            ),
            rule,
            batch_size=self._batch_rows(n_rows),
            generator=generator,
            rates=self._rates,
            warm_up=self._warm_up(n_rows),
            held_out_chunk=module.pass_rows,
            update=self._update,
            # What trains models as one knows no other posterior than the encoder's.
            cache_key=None if module.learns_incomplete else self._cache_key,
            row_work=module.row_work,
        )
        trainer.n_epochs = self.n_iter_  # so that a warm-up goes on where it was
        return trainer

    def _batch_rows(self, n_rows: int) -> int:
        """Rows of a batch."""
        size = self.batch_size
        return auto_batch_size(n_rows) if isinstance(size, str) else size

    def _epochs(self, n_steps: int, n_rows: int) -> int:
        """Epochs over n rows that make up a number of steps."""
        return math.ceil(n_steps / math.ceil(n_rows / self._batch_rows(n_rows)))

    def _patience(self, n_rows: int) -> int:
        """Epochs without improvement that end a fit."""
        if isinstance(self.n_iter_no_change, str):
            return max(PATIENCE_EPOCHS, self._epochs(PATIENCE_STEPS, n_rows))
        return self.n_iter_no_change

    def _finish_on(
        self,
        train: WeightedRows,
        held_out: WeightedRows | None,
        generator: torch.Generator,
        *,
        incremental: bool,
    ) -> Steps | None:
        """Finish on rows as the likelihood observes them."""
        if held_out is not None:
            held_out = self._observed(held_out, generator)
        train = self._observed(train, generator)
        return self._finish(train, held_out, generator, incremental=incremental)

    def _observed(self, rows: WeightedRows, generator: torch.Generator) -> WeightedRows:
        """Return rows as the likelihood observes them."""
        if not self.module_.likelihood.draws_rows:
            return rows
        return rows.map(partial(self.module_.observe, generator=generator))

    def _learn_proposal(
        self, n_rows: int, generator: torch.Generator, *, incremental: bool
    ) -> Generator[Any, Any, None]:
        """Learn the posterior of rows with missing cells, where they are allowed.

        In as many steps as the networks may take, up to a number that is enough.
        """
        if self.module_.proposal is None:
            return
        n_batches = math.ceil(n_rows / self._batch_rows(n_rows))
        n_steps = n_batches * (1 if incremental else self.max_iter)
        history = yield from learn_proposal(
            self.module_, min(n_steps, MAX_STEPS), generator
        )
        if history.status == "diverged":
            self._warn(history, PROPOSAL)

    def _record(self, history: History) -> None:
        """Extend the curves by those of a history."""
        self.__dict__.update(self._recorded(history), _optimizer_state=None)

    def _recorded(self, history: History) -> dict[str, Any]:
        """Return the curves so far, in nats per row and in the units of the rows."""
        curves = {name: np.array(curve) for name, curve in history.curves.items()}
        terms = {
            name: [*self.loss_terms_.get(name, []), *curve.tolist()]
            for name, curve in self._in_units(curves).items()
        }
        log_scale = float(self.module_.standardizer.log_scale)
        held_out = [value + log_scale for value in history.held_out]
        best = getattr(self, "best_epoch_", 0)  # which files of 0.1 do not have
        if history.best_epoch >= 0:
            best = self.n_iter_ + history.best_epoch + 1
        return {
            "n_iter_": self.n_iter_ + history.n_iter,
            "best_epoch_": best,
            "loss_terms_": terms,
            "loss_curve_": terms.get("loss", []),
            "validation_curve_": [*self.validation_curve_, *held_out],
        }

    def _in_units(self, terms: dict[str, Any]) -> dict[str, Any]:
        """Turn densities of standardised rows into densities of the rows."""
        log_scale = float(self.module_.standardizer.log_scale)
        shifts = {
            "loss": log_scale,
            "held-out": log_scale,
            "reconstruction": -log_scale,
        }
        return {name: value + shifts.get(name, 0.0) for name, value in terms.items()}

    def _report(self, history: History, seconds: float, part: str = "") -> None:
        """Print the last epoch, in the units of the curves."""
        terms = {name: curve[-1] for name, curve in history.curves.items()}
        if history.held_out:
            terms["held-out"] = history.held_out[-1]
        if not part:
            terms = self._in_units(terms)
        values = ", ".join(f"{name} {value:.4f}" for name, value in terms.items())
        print(
            f"{type(self).__name__}{part}, epoch {history.n_iter} of {self.max_iter}: "
            f"{values} nats a row ({seconds:.2f}s)"
        )

    def _warn(self, history: History, part: str = "") -> None:
        """Warn of a descent that did not converge, and say what to do."""
        name = f"{type(self).__name__}{part}"
        if history.status == "diverged":
            warnings.warn(
                f"{name}: the loss was not finite in epoch {history.n_iter}; the fit "
                f"stopped and went back to the weights of epoch "
                f"{history.best_epoch + 1} (0 is the start). Lower "
                f"learning_rate_init={self.learning_rate_init}, or scale X.",
                ConvergenceWarning,
                stacklevel=2,
            )
        elif history.status == "interrupted":
            self._warn_interrupted(history.n_iter, "set warm_start=True", part)
        elif history.status == "max_iter":
            warnings.warn(
                f"{name}: maximum iterations ({self.max_iter}) reached and the "
                "optimization hasn't converged yet. Increase max_iter, or raise tol.",
                ConvergenceWarning,
                stacklevel=2,
            )

    # Evaluating.

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

    def _model(self, dtype: torch.dtype) -> Any:
        """Return the module in a dtype: a cast copy, where it must be cast.

        Casting in place would not be safe when several threads evaluate.
        """
        if dtype == torch.float32:
            return self.module_
        return copy.deepcopy(self.module_).to(dtype)

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
            rows = self._observed(training.rows.sample(), generator)
            described = self._described(rows)
        recorded = self._recorded(history)
        return {
            **recorded,
            **described,
            "module_": copy.deepcopy(self.module_),
            "best_epoch_": recorded["n_iter_"],
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
        given = {"encoder": self.encoder, "decoder": self.decoder}
        self._built_with |= {**given, "likelihood": copy.deepcopy(module.likelihood)}
        if self._optimizer_state is not None:
            generator = make_generator(0, torch.device(self.device_))
            self._new_trainer(1, generator).optimizer.load_state(self._optimizer_state)

    def _rebuilt(
        self, state: dict[str, Any], built_with: dict[str, Any]
    ) -> BoundedModel:
        """Put the module of a file together as it was built, whatever was set since."""
        own = {"encoder": self.encoder, "decoder": self.decoder}
        builder = self._as_blank(built_with)
        check_depth(builder._layer_sizes, state)
        return rebuilt(builder._build, state, own)

    def _as_blank(self, built_with: dict[str, Any]) -> Self:
        """Return an unfitted copy, with no network of the user's inside."""
        own = {"encoder": self.encoder, "decoder": self.decoder}
        blanks = {name: Blank for name, network in own.items() if network is not None}
        return self._as_built(built_with).set_params(**blanks)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the module on the CPU: pickles have no map_location."""
        state = super().__getstate__()
        if "module_" in state and self.device_ != "cpu":
            state["module_"] = copy.deepcopy(self.module_).cpu()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickle, on its device where that is here."""
        super().__setstate__(state)
        if "module_" in state:
            self.module_ = _move(self.module_, torch.device(self.device_))


def _mean_weight(rows: StoredRows) -> float:
    return 1.0 if rows.weight is None else float(rows.weight.mean())


def _relative(rows: StoredRows) -> StoredRows:
    """Divide weights by their mean."""
    if rows.weight is None:
        return rows
    return replace(rows, weight=rows.weight / rows.weight.mean())


def _positive(x: StoredRows, weight: Tensor | None) -> StoredRows:
    """Select the rows of positive weight: others must not move a start."""
    if weight is None:
        return x
    kept = weight > 0
    if not kept.all():
        x, weight = x.take(kept.nonzero().squeeze(1)), weight[kept]
    return replace(x, weight=weight)


def _move(module: BoundedModel, device: torch.device) -> BoundedModel:
    """Place a module on a device; its wide buffers become float32 where they must."""
    return (
        module.to(device, torch.float32) if device.type == "mps" else module.to(device)
    )
