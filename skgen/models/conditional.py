"""Conditional variational autoencoders: rows given labels, or given numbers.

``p(z) = N(0, I)``, ``p(x|z, y)`` a likelihood of the decoder's outputs, and
``q(z|x, y)`` normal: encoder and decoder see y beside what they saw before. Where y is
a class and some labels are missing, they are summed over, each class weighted by a
network ``q(y|x)``: the model M2 of Kingma, Rezende, Mohamed & Welling, "Semi-supervised
learning with deep generative models", NeurIPS 2014.

A condition reaches the module as the context (n, m) of a batch: the columns of y, or
the index of a class, -1 where it is missing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skgen._networks.dense import Factory, PassSize, Standardizer, build_network
from skgen._training.batches import Batch
from skgen._training.data import Rows, StoredRows
from skgen._utils.moments import Moments
from skgen._utils.parameters import (
    LARGEST_STEP,
    attribute,
    boolean,
    estimator,
    integer,
    options,
    parameter,
    real,
)
from skgen._utils.tensors import make_generator
from skgen._utils.threads import threads_for
from skgen.likelihoods import Likelihood
from skgen.models.base import check_sample_weight, weighted_mean
from skgen.models.building import default_networks
from skgen.models.evaluation import LogLikelihood, estimate_log_likelihood
from skgen.models.neural import available_unless
from skgen.models.vae import VAE, Elbo, Posterior, VariationalAutoencoder
from skgen.objectives import LatentTerms, elbo, importance_weighted_bound, log_weights
from skgen.priors import DeepPrior, Normal, StandardNormal

# How scikit-learn's semi-supervised estimators mark a label that is missing.
MISSING = -1
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


class ImageEncoder(nn.Module):
    """Encoder of images with a condition beside them, which shifts each pixel.

    Parameters
    ----------
    encoder : Module
        Network of images.
    n_pixels : int
        Numbers of an image.
    n_conditions : int
        Numbers of a condition.
    """

    def __init__(self, encoder: nn.Module, n_pixels: int, n_conditions: int) -> None:
        super().__init__()
        self.encoder, self.n_pixels = encoder, n_pixels
        self.shift = nn.Linear(n_conditions, n_pixels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images and conditions (n, p + c), side by side."""
        image, condition = x[..., : self.n_pixels], x[..., self.n_pixels :]
        outputs: Tensor = self.encoder(image + self.shift(condition))
        return outputs


def beside(x: Tensor, condition: Tensor) -> Tensor:
    """Put conditions (n, c) beside the columns of x (..., n, p)."""
    return torch.cat([x, condition.expand(*x.shape[:-1], -1)], dim=-1)


# The model.


class ConditionalAutoencoder(VariationalAutoencoder):
    """Encoder, decoder, likelihood and prior, with a condition that networks see.

    Codes that reach the decoder have the condition behind them. Methods that take a
    ``context`` (n, m) average over the classes where a label is missing, and for all
    rows where there is no context.

    Parameters
    ----------
    encoder, decoder : Module
        Networks of rows and condition, and of codes and condition, side by side.
    classifier : Module or None
        Network of the logits of q(y|x), where conditions are classes.
    likelihood : Likelihood
        p(x|z, y).
    standardizer : Standardizer
        Scale of the rows.
    prior : StandardNormal or DeepPrior
        p(z).
    condition : Classes or Numbers
        Makes of a context what networks see.
    n_importance_samples : int
        Draws of a score.
    """

    classifier: nn.Module | None
    condition: Classes | Numbers

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        classifier: nn.Module | None,
        likelihood: Likelihood,
        standardizer: Standardizer,
        prior: StandardNormal | DeepPrior,
        condition: Classes | Numbers,
        n_importance_samples: int,
    ) -> None:
        super().__init__(
            encoder, decoder, likelihood, standardizer, prior, n_importance_samples
        )
        self.classifier, self.condition = classifier, condition

    @property
    def classes(self) -> Classes:
        """Conditions, where they are classes."""
        assert isinstance(self.condition, Classes)
        return self.condition

    # As objectives call it: rows are standardised.

    def conditions(self, batch: Batch) -> Tensor:
        """Return the conditions (n, c) of rows, as networks see them."""
        if batch.context is None:
            raise ValueError(
                "A ConditionalVAE that was fitted on real-valued conditions needs y, "
                "since it has no density of y to average over. Pass y, a row of it "
                "for each row."
            )
        conditions: Tensor = self.condition(batch.context).to(batch.x.dtype)
        return conditions

    def first_posterior(self, batch: Batch) -> Normal:
        """q(z|x, y) of rows (n, d), of the first layer."""
        inputs = beside(self.likelihood.inputs(batch.x), self.conditions(batch))
        return Normal.of(self._outputs(self.encoder, inputs))

    def log_likelihood(self, batch: Batch, z: Tensor) -> Tensor:
        """Log p(x|z, y), (S?, n), of rows (n, d) and codes (S?, n, k)."""
        return super().log_likelihood(batch, beside(z, self.conditions(batch)))

    def outputs_of(self, z: Tensor) -> Tensor:
        """Decode codes (..., n, k + c) of all layers, conditions behind them."""
        k = sum(self.prior.layer_sizes)
        return self.decoder_outputs(beside(z[..., : self.n_components], z[..., k:]))

    def class_log_posterior(self, x: Tensor) -> Tensor:
        """Log q(y|x) of each class, (n, K)."""
        assert self.classifier is not None
        logits = self._outputs(self.classifier, self.likelihood.inputs(x))
        return logits.log_softmax(-1)

    def class_elbos(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Reconstruction and KL of rows (n, d) under each class, (K, n) each.

        Noise (S, n, k) is the same under all.
        """
        n, K = len(batch.x), self.classes.width
        labels = self.classes.indices.repeat_interleave(n)[:, None]
        every = Batch(batch.x.repeat(K, 1), batch.draws.repeat(1, K, 1), None, labels)
        reconstruction, kl = elbo(self, every)
        return reconstruction.unflatten(0, (K, n)), kl.sum(-1).unflatten(0, (K, n))

    def label_kl(self, log_q: Tensor) -> Tensor:
        """KL(q(y|x) || p(y)), (n,), from log q(y|x), (n, K)."""
        return (log_q.exp() * (log_q - self.log_prior(log_q))).sum(-1)

    def log_prior(self, like: Tensor) -> Tensor:
        """Log p(y) of each class, (K,), in the dtype of another tensor."""
        return self.classes.log_prior.to(like.dtype)

    # As estimators call it: rows and scores are in the units of the user.

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Importance-weighted bound on log p(x|y), or without y on log p(x), (n,)."""

        def missing(batch: Batch) -> Tensor:
            return self.class_log_joints(batch).logsumexp(0)

        found = self.by_label(self.scored_given(x, context), self._bound, missing)
        return found - self.standardizer.log_scale

    def class_log_joints(self, batch: Batch) -> Tensor:
        """Bounds on log p(x, y) of each class, (K, n), of standardised rows."""
        bounds = self.for_each_class(self._bound, batch)
        return bounds + self.log_prior(bounds)[:, None]

    def class_probabilities(self, x: Tensor) -> Tensor:
        """p(y|x) of each class, (n, K), by Bayes' rule from the bounds."""
        return self.class_log_joints(self.scored_given(x, None)).softmax(0).T

    def _bound(self, batch: Batch) -> Tensor:
        """Importance-weighted bound on log p(x|y), (n,)."""
        return importance_weighted_bound(log_weights(self, batch))

    def codes_of(self, scaled: Tensor, context: Tensor | None = None) -> Tensor:
        """Posterior means and standard deviations (n, 2 k), of all layers.

        Where a label is missing, those of the mixture over classes, by q(y|x).
        """

        def known(batch: Batch) -> Tensor:
            q = self.posterior(batch)
            return torch.cat([q.mean, q.sigma], dim=1)

        def missing(batch: Batch) -> Tensor:
            weight = self.class_log_posterior(batch.x).exp().T[:, :, None]
            mean, sigma = self.for_each_class(known, batch).chunk(2, dim=2)
            mixed = (weight * mean).sum(0)
            variance = (weight * (sigma**2 + (mean - mixed) ** 2)).sum(0)
            return torch.cat([mixed, variance.sqrt()], dim=1)

        return self.by_label(Batch(scaled, context=context), known, missing)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Posterior mean (n, k)."""
        return self.codes_of(self.view(x), context)[:, : self.n_components]

    def elbo(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Reconstruction and KL of each row, (n, 2); of y, too, where it is missing."""

        def known(batch: Batch) -> Tensor:
            reconstruction, kl = elbo(self, batch)
            return torch.stack([reconstruction, kl.sum(-1)], dim=1)

        def missing(batch: Batch) -> Tensor:
            log_q = self.class_log_posterior(batch.x)
            each = (self.for_each_class(known, batch) * log_q.exp().T[..., None]).sum(0)
            return each + torch.stack([0 * each[:, 0], self.label_kl(log_q)], dim=1)

        found = self.by_label(self.scored_given(x, context), known, missing)
        found[:, 0] -= self.standardizer.log_scale
        return found

    def careful_log_prob(
        self,
        x: Tensor,
        n_samples: int,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> Tensor:
        """Log p(x|y) or log p(x) from many draws, and its standard error, (n, 2)."""

        def known(batch: Batch) -> Tensor:
            q = self.posterior(batch)

            def draw_log_weights(n_draws: int) -> Tensor:
                noise = self.standard_noise((n_draws, len(batch.x)), generator)
                return log_weights(self, batch._replace(noise=noise), q)

            n_per_pass = self.noise.shape[1]
            found = estimate_log_likelihood(draw_log_weights, n_samples, n_per_pass)
            return torch.stack(found, dim=1)

        def missing(batch: Batch) -> Tensor:
            log_prob, error = self.for_each_class(known, batch).unbind(2)
            log_joint = log_prob + self.log_prior(log_prob)[:, None]
            # Draws of the classes are independent: squared errors add up.
            total_error = (log_joint.softmax(0) * error).square().sum(0).sqrt()
            return torch.stack([log_joint.logsumexp(0), total_error], dim=1)

        batch = Batch(self.view(x), context=context)
        found = self.by_label(batch, known, missing)
        found[:, 0] -= self.standardizer.log_scale
        return found

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean (n, d) of p(x|z, y), or without y of p(x|z), of codes (n, k)."""

        def known(codes: Batch) -> Tensor:
            outputs = self.decoder(beside(codes.x, self.conditions(codes)))
            return self.likelihood.mean(outputs)

        def missing(codes: Batch) -> Tensor:
            means = self.for_each_class(known, codes)
            found: Tensor = torch.tensordot(self.log_prior(means).exp(), means, 1)
            return found

        means = self.by_label(Batch(z, context=context), known, missing)
        return self.standardizer.inverse(means)

    def draw(
        self,
        n: int,
        noise: bool,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> Tensor:
        """Draw rows (n, d) from p(x|y), or decoded means; y too, where missing."""
        z = self.draw_codes(n, generator)
        codes = Batch(z, context=self._drawn_labels(context, n, generator))
        outputs = self.decoder(beside(z, self.conditions(codes)))
        if noise:
            x = self.likelihood.draw(outputs, generator)
        else:
            x = self.likelihood.mean(outputs)
        return self.standardizer.inverse(x)

    def _drawn_labels(
        self, context: Tensor | None, n: int, generator: torch.Generator
    ) -> Tensor | None:
        """Return a context (n, m), with labels from p(y) where they are missing."""
        if isinstance(self.condition, Numbers):
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
        if isinstance(self.condition, Numbers):
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

    @property
    def starts_linear(self) -> bool:
        """Return that a fit starts from no linear model: there are conditions."""
        return False

    def set_context(self, context: Tensor | None, weight: Tensor | None) -> None:
        """Adapt to the conditions of training rows."""
        assert context is not None
        self.condition.set_rows(context, weight)

    def count_outputs(self, x: Tensor) -> None:
        """Count the numbers that layers make of a row (1, d), and their work."""
        inputs = self.likelihood.inputs(x)
        z = self.draw_codes(1, make_generator(0, x.device))
        condition = inputs.new_zeros(1, self.condition.width)
        passes = [
            PassSize.of(self.encoder, beside(inputs, condition)),
            PassSize.of(self.decoder, beside(z, condition)),
        ]
        if self.classifier is not None:
            passes.append(PassSize.of(self.classifier, inputs))
        self.widest = max(size.widest for size in passes)
        self.work = sum(size.work for size in passes)


# The training losses.


class LabelTerms(NamedTuple):
    """Loss of each row (n,), its parts, and how well q(y|x) knows the label."""

    loss: Tensor
    reconstruction: Tensor  # E_q[log p(x|z, y)]
    kl: Tensor  # KL(q(z|x, y) || p(z)), with KL(q(y|x) || p(y)) where y is missing
    cross_entropy: Tensor  # -log q(y|x), 0 where y is missing

    @property
    def watched(self) -> Tensor:
        """Held-out quantity of early stopping: the bound, without the classifier."""
        return self.kl - self.reconstruction


class ConditionalLoss(NamedTuple):
    """-(E_q(z|x, y)[log p(x|z, y)] - KL(q(z|x, y) || p(z))), where y is known."""

    def __call__(
        self, model: ConditionalAutoencoder, batch: Batch, annealing: float = 1.0
    ) -> LatentTerms:
        """Terms of rows, a part ``annealing`` of the way through the warm-up."""
        reconstruction, each = elbo(model, batch)
        kl = each.sum(-1)
        return LatentTerms(annealing * kl - reconstruction, reconstruction, kl)


class LabelledLoss(NamedTuple):
    """`ConditionalLoss`, and ``-alpha log q(y|x)``, where each label is known."""

    classification_weight: float

    def __call__(
        self, model: ConditionalAutoencoder, batch: Batch, annealing: float = 1.0
    ) -> LabelTerms:
        """Terms of rows, a part ``annealing`` of the way through the warm-up."""
        loss, reconstruction, kl = ConditionalLoss()(model, batch, annealing)
        log_q = model.class_log_posterior(batch.x)
        cross_entropy = -(model.conditions(batch) * log_q).sum(-1)
        loss = loss + self.classification_weight * cross_entropy
        return LabelTerms(loss, reconstruction, kl, cross_entropy)


class SemiSupervisedLoss(NamedTuple):
    """Minus the bound of M2, where some labels are missing (Kingma et al. 2014).

    With ``L(x, y) = E_q(z|x, y)[log p(x|z, y)] - KL(q(z|x, y) || p(z))``, it is
    ``L(x, y)`` for a row with its label, and ``sum_y q(y|x) L(x, y) - KL(q(y|x) ||
    p(y))`` for one without. The mean of ``-alpha log q(y|x)`` over the rows that have
    labels is added.
    """

    classification_weight: float

    def __call__(
        self, model: ConditionalAutoencoder, batch: Batch, annealing: float = 1.0
    ) -> LabelTerms:
        """Terms of rows, a part ``annealing`` of the way through the warm-up."""
        one_hot = model.conditions(batch)  # (n, K), zeros where y is missing
        known = one_hot.sum(-1)
        log_q = model.class_log_posterior(batch.x)
        weight = (one_hot + (1 - known)[:, None] * log_q.exp()).T
        reconstruction, kl = ((weight * e).sum(0) for e in model.class_elbos(batch))
        label_kl = (1 - known) * model.label_kl(log_q)
        cross_entropy = -(one_hot * log_q).sum(-1)
        n_known = known.sum().clamp(min=1)
        alpha = self.classification_weight * len(known) / n_known
        loss = annealing * kl + label_kl - reconstruction + alpha * cross_entropy
        return LabelTerms(loss, reconstruction, kl + label_kl, cross_entropy)


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


def _without_classes(model: Any) -> str | None:
    """Return why a model has no classes to predict; None where it may have."""
    if hasattr(model, "n_conditions_") and not hasattr(model, "classes_"):
        return (
            f"This {type(model).__name__} was fitted on real-valued conditions, and "
            "predicts classes only. Fit it with labels as y."
        )
    return None


class Conditioned:
    """Mixin of the estimators that ``fit`` takes conditions y for: y as a context."""

    condition: str
    classes_: NDArray[Any]
    n_conditions_: int
    _some_missing: bool  # labels of the last fit
    _held: NDArray[Any]  # context (1, m) of `conditioned_on`

    def _context(self, y: Any, n: int, *, reset: bool) -> NDArray[Any]:
        """Return conditions (n, m) of training rows; ``reset`` learns their kind."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is "
                "None. Pass labels or numbers as y, or use VAE."
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
        is_labels = self.condition == "auto" and are_labels(y)
        if not (is_labels or self.condition == "classes"):
            self.n_conditions_ = as_numbers(y).shape[1]
            return
        labels, missing = as_labels(y)
        if missing.all():
            raise ValueError(
                f"{type(self).__name__} needs labels of some rows, and every label in "
                "y is missing (-1, NaN or None). Use VAE for rows without labels."
            )
        self.classes_ = np.unique(labels[~missing])
        self.n_conditions_ = len(self.classes_)

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


@estimator
class ConditionalVAE(Conditioned, VAE):
    """Conditional variational autoencoder: a density of rows given labels or numbers.

    ``z ~ N(0, I)``, ``x ~ p(x|z, y)`` and an encoder ``q(z|x, y)``: both networks see
    the condition y of a row, so that the code is left with what y does not say. Where
    y is a class, rows without a label are scored by ``p(x) = sum_y p(y) p(x|y)``, and
    classes are predicted by Bayes' rule; labels that are missing in ``fit`` are summed
    over (semi-supervised learning).

    Parameters
    ----------
    n_components : int or sequence of int, default=10
        Number of latent coordinates. More than the data need are left unused: their
        posterior stays at the prior. A sequence stacks stochastic layers, the one
        next to the data first: with ``(100, 50)``, p(z) is itself a latent variable
        model of 50 coordinates, and ``transform`` gives the 100. A sequence of
        sequences as ``hidden_layer_sizes`` then gives each layer its own widths.
    kl_warmup : int or "auto", default="auto"
        Epochs over which the KL term rises to its weight, so that coordinates are
        not given up before they are of use. Early stopping waits for its end. "auto"
        is as many as make up 200 steps, a quarter of ``max_iter`` at most; 0 is none.
    condition : {"auto", "classes", "numbers"}, default="auto"
        Kind of y. "auto" takes one column for classes, unless it holds numbers with
        fractions; and several columns for numbers.
    classification_weight : float, default=10.0
        Weight alpha of ``-log q(y|x)``, a mean over the rows with labels, in the
        training loss: how strongly the network that stands in for missing labels
        learns from those that are there.
    hidden_layer_sizes : sequence of int or int, default=(256,)
        Widths of the hidden layers of the encoder; the decoder has them in reverse.
        ``()`` makes both linear maps.
    activation : str, default="relu"
        Activation of the hidden layers: "relu", "tanh", "logistic", "identity", "gelu",
        "silu" or "softplus".
    linear_path : bool or "auto", default=False
        Whether encoder and decoder are each the sum of a linear map and of layers. A
        VAE whose rows have normal columns then starts from their factor analysis with
        as many components, whose tails layers alone would flatten. "auto" is where
        the likelihood is "gaussian", ``Gaussian`` or a ``Mixed`` with such columns,
        in a VAE of one stochastic layer whose networks are fully connected, have
        hidden layers, and are not yours; up to 1024 features. A fit that gains less
        over such a start, on held-out rows, than 1.5 standard errors goes back to it.
    architecture : {"mlp", "conv"}, default="mlp"
        Kind of both networks: fully connected layers for tables; convolutional and
        residual for images, which need ``image_shape``.
    image_shape : (height, width) or (height, width, channels), default=None
        Shape of the image that a row holds, channels last; each side from 8 to 128
        for "conv", with 1 to 4 channels.
    channels : int, default=32
        Channels of the first layers of "conv"; each halving of the image doubles
        them, up to four times.
    likelihood : str or Likelihood, default="gaussian"
        Density p(x|z) of a row given its code. "gaussian": normal, with a learned sigma
        per feature; "bernoulli": for binary rows; "continuous_bernoulli": for rows in
        [0, 1]; "discretized_logistic" and "categorical": for pixels of 8 bits; or an
        object of :mod:`skgen.likelihoods`, where each has its options.
    encoder, decoder : Module, callable or None, default=None
        A network of your own: a torch module, which is copied at each fit, or a
        factory ``f(n_inputs, n_outputs)`` of one. It maps (n, n_inputs) to
        (n, n_outputs) in float32 and in float64; batch normalisation is refused,
        since it couples rows.
    standardize : bool, default=True
        Whether rows are shifted and scaled inside the model by the mean and standard
        deviation of the training rows. Densities are those of the rows as given,
        either way. A Bernoulli likelihood takes rows as they are.
    n_importance_samples : int, default=64
        Draws from the encoder for each row in ``score_samples``.
    batch_size : int or "auto", default="auto"
        Rows of a step; "auto" is a tenth of the rows, between 16 and 128.
    learning_rate : {"constant", "cosine", "stages"}, default="constant"
        Schedule of the step size over ``max_iter`` epochs: constant; falling to zero
        as half a cosine; or falling to a tenth in eight stages, each three times as
        long as the one before (Burda et al. 2016).
    learning_rate_init : float, default=1e-3
        Step size of Adam, at the start.
    weight_decay : float, default=0.0
        Decoupled decay of the weight matrices, as in AdamW.
    max_grad_norm : float or None, default=None
        Norm that longer gradients are cut to; 100 is the default of IWAE.
    weight_averaging : float, default=0.0
        Decay, a step, of the exponential moving average of the weights that is judged
        and kept; 0 keeps the weights themselves.
    max_iter : int, default=200
        Most epochs.
    tol : float, default=1e-4
        Improvement, in nats per row, below which an epoch counts as none.
    early_stopping : bool, default=True
        Whether a part of the rows is held out and decides when to stop; otherwise the
        training loss does. Either way the weights of the best epoch come back.
    validation_fraction : float, default=0.1
        Part of the rows that is held out.
    n_iter_no_change : int or "auto", default="auto"
        Epochs without improvement after which training stops; "auto" is as many as
        make up 300 steps, and at least 10.
    warm_start : bool, default=False
        Whether ``fit`` continues from the present weights, with the standardisation
        and the architecture that they were built with. Curves and ``n_iter_`` then
        extend those of the earlier fits, and a KL warm-up continues where it was.
    random_state : int, RandomState, Generator or None, default=None
        Source of initial weights, held-out rows, shuffles and noise.
    device : str or torch.device, default="cpu"
        "cpu", "cuda", "cuda:<index>", "mps" or "auto".
    execution : {"eager", "compiled", "captured"}, default="eager"
        How a step of training runs: as it is written; as one program that
        ``torch.compile`` makes, in some ten seconds for each size of batches (a fit
        has two), once a process for all models of a structure (on a CPU it needs a C++
        compiler); or as a CUDA graph. For long fits of small networks. Where it fails,
        a warning says so and steps run as written.
    precision : {"float32", "bfloat16"}, default="float32"
        In what the encoder and the decoder multiply in training; weights, losses and
        all scores stay float32.
    verbose : bool or int, default=False
        Whether to print a line per epoch.
    checkpoint : path-like or None, default=None
        File that has the state of a fit that runs, after each epoch, or a folder for
        the files of many fits, such as those of a search. Called again with the same
        parameters and rows, a fit that was killed goes on from there, says so, and
        ends where it would have ended, to the bit. Other parameters or rows are an
        error. A fit that ends removes its file; in a folder it stays, so that a search
        that is called again has the result at once.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted. Only where conditions are classes.
    n_conditions_ : int
        Number of classes, or columns of y.
    active_units_ : int or tuple of int
        Latent coordinates in use: the variance of their posterior mean over the
        (last given) training rows is above 0.01. With stochastic layers stacked,
        those of each.
    latent_variances_ : ndarray of shape (n_components,)
        Those variances, of all layers.
    module_ : torch.nn.Module
        The trained networks, in float32: ``encoder``, ``decoder``, ``likelihood``,
        ``standardizer`` and ``prior``.
    loss_curve_ : list of float
        Mean training loss of each epoch, in nats per row.
    loss_terms_ : dict of str to list of float
        The loss and its parts, an epoch each.
    validation_curve_ : list of float
        What the held-out rows were watched for, an epoch each: the loss (for VQVAE
        minus the reconstruction), the lower the better, unlike ``validation_scores_``
        of scikit-learn's networks. Empty without early stopping.
    n_iter_ : int
        Epochs that were run, with those of earlier fits under ``warm_start`` and of
        ``partial_fit``.
    best_epoch_ : int
        Epoch whose weights were kept, counted from 1; 0 where no epoch was better
        than the start.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit, when they are all strings.
    device_ : str
        Where the model is evaluated.

    See Also
    --------
    VAE : The density without a condition.

    Notes
    -----
    ``score_samples(X, y)`` is the bound on ``log p(x|y)``, in nats, and ``score(X, y)``
    its mean; without y, both are of ``log p(x)``, which is what compares with other
    estimators. p(y) is the frequency of each class among the training rows.

    A label is missing where it is -1, as in scikit-learn's semi-supervised estimators,
    or NaN, or None. Numbers may not be missing.

    A network of your own, as ``encoder``, takes rows with the condition behind their
    columns: classes one-hot, numbers standardised. A ``decoder`` takes codes likewise.

    References
    ----------
    Sohn, Lee & Yan, "Learning structured output representation using deep conditional
    generative models", NeurIPS 2015.

    Kingma, Rezende, Mohamed & Welling, "Semi-supervised learning with deep generative
    models", NeurIPS 2014 (the model M2).

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import ConditionalVAE
    >>> X, y = load_wine(return_X_y=True)
    >>> model = ConditionalVAE(n_components=2, random_state=0).fit(X, y)
    >>> model.sample(3, y=1, random_state=0).shape
    (3, 13)
    >>> model.score(X, y) > model.score(X)  # the label says something about a row
    True
    >>> bool((model.predict(X) == y).mean() > 0.95)
    True
    """

    classes_: NDArray[Any] = attribute()
    n_conditions_: int = attribute()

    _: KW_ONLY
    condition: str = parameter(
        options("auto", "classes", "numbers"), default="auto", builds=True
    )
    classification_weight: float = parameter(real(0, LARGEST_STEP), default=10.0)

    # Fitting.

    @property
    def _gains_by_linear_path(self) -> bool:
        return False

    def fit(self, X: ArrayLike, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions)
            Label of each row, -1 where it is missing; or numbers.
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
        y : array-like of shape (n_samples,) or (n_samples, n_conditions)
            Label of each row, -1 where it is missing; or numbers. The first call sets
            the classes and their probabilities: give it rows of each class.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, on one scale over all calls.

        Returns
        -------
        self : object
            The estimator.
        """
        return super().partial_fit(X, y, sample_weight)

    def _shuffled(self, rows: StoredRows, rng: np.random.RandomState) -> Tensor:
        order = super()._shuffled(rows, rng)
        if not self._some_missing:
            return order
        # Labels are few, and all of them are to be learned from.
        assert rows.context is not None
        has_label = rows.context[order, 0].cpu() >= 0
        return order[has_label.int().argsort(stable=True)]

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> ConditionalAutoencoder:
        k, c = self._component_sizes[0], self.n_conditions_
        encoder, decoder = default_networks(self, n_features)
        n_inputs = likelihood.encoder_width(n_features)
        n_outputs = likelihood.decoder_width(n_features)
        classifier = encoder(n_inputs, c) if self._has_classes else None
        if self.architecture == "conv":
            encoder = self._image_encoder(encoder)
        return ConditionalAutoencoder(
            build_network(self.encoder, encoder, n_inputs + c, 2 * k, "encoder"),
            build_network(self.decoder, decoder, k + c, n_outputs, "decoder"),
            classifier,
            likelihood,
            standardizer,
            self._prior(self._component_sizes, self._layer_sizes[1:]),
            Classes(c) if self._has_classes else Numbers.of_width(c),
            self.n_importance_samples,
        )

    def _image_encoder(self, encoder: Factory) -> Factory:
        """Return a factory of encoders of images with a condition beside them."""
        c = self.n_conditions_

        def build(n_inputs: int, n_outputs: int) -> ImageEncoder:
            return ImageEncoder(encoder(n_inputs - c, n_outputs), n_inputs - c, c)

        return build

    @property
    def _objective(self) -> Any:
        if not self._has_classes:
            return ConditionalLoss()
        loss = SemiSupervisedLoss if self._some_missing else LabelledLoss
        return loss(self.classification_weight)

    @property
    def _stack_key(self) -> str:
        return "ConditionalVAE"

    @property
    def _allows_missing(self) -> bool:
        return False

    def _means_of(self, rows: Rows) -> Tensor:
        means: Tensor = self.module_.codes_of(rows.x, rows.context).chunk(2, dim=1)[0]
        return means

    # Evaluating.

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
        model : ConditionalVAE
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
            return self._map(function, X, *self._known(y, len(X)), scores=scores)

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
            Posterior mean of the code, in the dtype of ``X``.
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

    def posterior(self, X: ArrayLike, y: Any = None) -> Posterior:
        """Encode rows as normal densities of their codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, or one for all. Where a label is missing, these are
            the moments of the mixture over classes.

        Returns
        -------
        posterior : Posterior
            Named tuple of ``mean`` and ``std``, (n_samples, n_components) each.
        """
        columns = self._apply_given(
            lambda model, x, *known: model.codes_of(model.view(x), *known), X, y
        )
        mean, std = np.split(columns, 2, axis=1)
        k = self._n_features_out
        return Posterior(mean[:, :k], std[:, :k])

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
            context = [torch.from_numpy(each[rows]).to(model.noise) for each in known]
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
            Lower bound on log p(x|y), in nats; on log p(x) where a label is missing.
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
        scores = self.score_samples(X, y)
        return weighted_mean(scores, check_sample_weight(sample_weight, len(scores)))

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

    def elbo(self, X: ArrayLike, y: Any = None) -> Elbo:
        """Evaluate the parts of the evidence lower bound.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, or one for all. Where a label is missing, the bound
            is that of M2, with KL(q(y|x) || p(y)) in its ``kl``.

        Returns
        -------
        elbo : Elbo
            Named tuple of ``reconstruction`` and ``kl``, (n_samples,) each, in nats;
            the bound is their difference.
        """
        parts = self._apply_given(
            lambda model, *rows: model.elbo(*rows), X, y, scores=True
        )
        return Elbo(*parts.T)

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
        return self.conditioned_on(self.module_.condition.shift.cpu().numpy())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
