"""Conditional variational autoencoders: rows given labels, or given numbers.

``p(z) = N(0, I)``, ``p(x|z, y)`` a likelihood of the decoder's outputs, and
``q(z|x, y)`` normal: encoder and decoder see y beside what they saw before. Where y is
a class and some labels are missing, they are summed over, each class weighted by a
network ``q(y|x)``: the model M2 of Kingma, Rezende, Mohamed & Welling, "Semi-supervised
learning with deep generative models", NeurIPS 2014.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from skgen._networks.dense import Factory, PassSize, Standardizer, build_network
from skgen._networks.posteriors import Family
from skgen._training.batches import Batch
from skgen._training.data import Rows
from skgen._training.shards import FitRows
from skgen._utils.parameters import (
    LARGEST_STEP,
    attribute,
    estimator,
    options,
    parameter,
    real,
)
from skgen._utils.tensors import make_generator
from skgen.likelihoods import Likelihood
from skgen.models.building import default_networks
from skgen.models.conditions import (
    Classes,
    Conditioned,
    ConditionedModel,
    Numbers,
    beside,
)
from skgen.models.evaluation import estimate_log_likelihood
from skgen.models.vae import VAE, Elbo, Posterior, VariationalAutoencoder
from skgen.objectives import LatentTerms, elbo, importance_weighted_bound, log_weights
from skgen.priors import LearnedPrior, StackedPrior, StandardNormal


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


# The model.


class ConditionalAutoencoder(ConditionedModel, VariationalAutoencoder):
    """Encoder, decoder, likelihood and prior, with a condition that networks see.

    Codes that reach the decoder have the condition behind them.

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
    prior : StandardNormal or StackedPrior
        p(z).
    condition : Classes or Numbers
        Makes of a context what networks see.
    n_importance_samples : int
        Draws of a score.
    family : Family, default=None
        That of q(z|x, y).
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
        prior: StandardNormal | LearnedPrior | StackedPrior,
        condition: Classes | Numbers,
        n_importance_samples: int,
        family: Family | None = None,
    ) -> None:
        super().__init__(
            encoder,
            decoder,
            likelihood,
            standardizer,
            prior,
            n_importance_samples,
            family,
        )
        self.classifier, self.condition = classifier, condition

    # As objectives call it: rows are standardised.

    def first_posterior(self, batch: Batch) -> Any:
        """q(z|x, y) of rows (n, d), of the first layer."""
        inputs = beside(self.likelihood.inputs(batch.x), self.conditions(batch))
        return self.family.of(self._outputs(self.encoder, inputs))

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

    # As estimators call it: rows and scores are in the units of the user.

    def bound(self, batch: Batch) -> Tensor:
        """Importance-weighted bound on log p(x|y), (n,)."""
        return importance_weighted_bound(log_weights(self, batch))

    def careful_bound(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        """Return it from many draws, and its standard error, (n, 2)."""
        q = self.posterior(batch)

        def draw_log_weights(n_draws: int) -> Tensor:
            noise = self.standard_noise((n_draws, len(batch.x)), generator)
            return log_weights(self, batch._replace(noise=noise), q)

        n_per_pass = self.noise.shape[1]
        found = estimate_log_likelihood(draw_log_weights, n_samples, n_per_pass)
        return torch.stack(found, dim=1)

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
        codes = Batch(z, context=self.drawn_labels(context, n, generator))
        outputs = self.decoder(beside(z, self.conditions(codes)))
        if noise:
            x = self.likelihood.draw(outputs, generator)
        else:
            x = self.likelihood.mean(outputs)
        return self.standardizer.inverse(x)

    @property
    def starts_linear(self) -> bool:
        """Return that a fit starts from no linear model: there are conditions."""
        return False

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


@estimator
class ConditionalVAE(Conditioned, VAE):  # type: ignore[misc]
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
    inference : {"bottom-up"}, default="bottom-up"
        How stacked layers are inferred: the code of each from that of the layer below.
    prior : {"normal"}, default="normal"
        p(z): the standard normal density.
    prior_components : int, default=50
        Components of a mixture, and pseudo-inputs.
    posterior_type : {"diag", "full", "mixture", "flow"}, default="diag"
        Family of q(z|x), for one stochastic layer: normal with independent coordinates;
        normal with a full covariance; a mixture of four normal densities, each with
        independent coordinates; or a conditional normalising flow, four coupling
        layers of splines, which needs zuko: ``pip install "scikit-generative[flow]"``.
        The closer it comes to p(z|x), the tighter the bound. Under a flow, codes and
        their spread are moments over 64 points.
    min_rate : float, default=0.0
        Nats that the code carries at least: a bound on sigma(x) keeps the KL of every
        row above it, whatever the networks learn (a delta-VAE), so that codes are not
        given up. For ``prior="normal"`` and ``posterior_type="diag"`` of one layer.
    encoder_rate : float, default=1.0
        Multiple of the learning rate for the encoder. Above 1 it keeps up with a
        decoder that learns fast, in the place of several updates of the encoder for
        each of the decoder (He et al. 2019).
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
    linear_path : bool or "auto", default="auto"
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
        per feature; "laplace", "student_t": with heavier tails, for tables with rows
        far from the others; "bernoulli": for binary rows; "continuous_bernoulli": for
        rows in [0, 1]; "discretized_logistic" and "categorical": for pixels of 8 bits;
        or an object of :mod:`skgen.likelihoods`, where each has its options.
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
        extend those of the earlier fits, and a warm-up continues where it was.
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

    _fits_together = False

    classes_: NDArray[Any] = attribute()
    n_conditions_: int = attribute()
    _without_y = "use VAE"

    _: KW_ONLY
    condition: Literal["auto", "classes", "numbers"] = parameter(
        options("auto", "classes", "numbers"), default="auto", builds=True
    )
    inference: Literal["bottom-up"] = parameter(
        options("bottom-up"), default="bottom-up", builds=True
    )
    prior: Literal["normal"] = parameter(
        options("normal"), default="normal", builds=True
    )
    classification_weight: float = parameter(real(0, LARGEST_STEP), default=10.0)

    # Fitting.

    @property
    def _kind_of_condition(self) -> str:
        return self.condition

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

    def _shuffled(self, rows: FitRows, rng: np.random.RandomState) -> Tensor:
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
        k, c, family = self._component_sizes[0], self.n_conditions_, self._family()
        encoder, decoder = default_networks(self, n_features)
        n_inputs = likelihood.encoder_width(n_features)
        n_outputs = likelihood.decoder_width(n_features)
        classifier = encoder(n_inputs, c) if self._has_classes else None
        if self.architecture == "conv":
            encoder = self._image_encoder(encoder)
        return ConditionalAutoencoder(
            build_network(
                self.encoder, encoder, n_inputs + c, family.width(k), "encoder"
            ),
            build_network(self.decoder, decoder, k + c, n_outputs, "decoder"),
            classifier,
            likelihood,
            standardizer,
            self._prior(self._component_sizes, self._layer_sizes[1:]),
            Classes(c) if self._has_classes else Numbers.of_width(c),
            self.n_importance_samples,
            family,
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

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
