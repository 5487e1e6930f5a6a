"""Variational autoencoders: the VAE, the beta-VAE, the importance-weighted one.

``p(z) = N(0, I)``, ``q(z|x) = N(mu(x), diag sigma(x)^2)``, ``p(x|z)`` a likelihood of
the decoder's outputs. The three differ in what they descend, and in nothing else. Other
posteriors are in ``skgen/_networks/posteriors.py``, other priors in
``skgen/priors.py``, and layers that are inferred from the top down in
``skgen/_networks/ladders.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import KW_ONLY
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from skgen._em.moments import likeliest_moments
from skgen._networks.dense import LinearAndLayers, Standardizer, is_mlp, mlp_pair
from skgen._networks.factors import Factors, covariance_of, factor_analysis
from skgen._networks.flows import code_flow
from skgen._networks.ladders import (
    DenseLadder,
    ImageLadder,
    Ladder,
    LadderPrior,
    factories,
)
from skgen._networks.posteriors import MOST_RATE, N_POINTS, Diagonal, Family, family_of
from skgen._networks.proposals import CoupledNormal, NormalProposal, WithPrior
from skgen._training.batches import Batch
from skgen._training.data import Rows, WeightedRows
from skgen._training.driver import Steps
from skgen._utils.moments import Moments
from skgen._utils.parameters import (
    LARGEST_STEP,
    attribute,
    estimator,
    integer,
    none,
    options,
    parameter,
    real,
    sequence,
)
from skgen._utils.tensors import to_array
from skgen.likelihoods import Likelihood
from skgen.models.building import image_networks, networks
from skgen.models.evaluation import BoundedModel
from skgen.models.hyperparameters import MOST_LAYERS
from skgen.models.neural import NeuralModel
from skgen.models.planning import TrainingPlan
from skgen.objectives import (
    BetaLoss,
    ImportanceWeightedLoss,
    KLWeight,
    elbo,
)
from skgen.priors import (
    DeepPrior,
    Encode,
    FlowPrior,
    LearnedPrior,
    MixturePrior,
    StackedPrior,
    StandardNormal,
    VampPrior,
)

# Steps of the warm-up where none is given. With none at all, a default VAE of two
# moons gives a coordinate up in one fit of two.
WARM_UP_STEPS = 200
# A latent coordinate is active when its posterior mean varies more than this.
ACTIVE_VARIANCE = 0.01
# Part of the coordinates that are twice as wide in the codes of simulated rows.
WIDENED = 0.1


class Elbo(NamedTuple):
    """The two parts of the evidence lower bound, (n,) each, in nats."""

    reconstruction: NDArray[Any]  # E_q[log p(x|z)]
    kl: NDArray[Any]  # KL(q(z|x) || p(z))


class Posterior(NamedTuple):
    """q(z|x) = N(mean, diag std^2), (n, n_components) each.

    To NumPy's functions it is the array of means.
    """

    mean: NDArray[Any]
    std: NDArray[Any]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the means."""
        return np.array(self.mean, dtype=dtype, copy=copy)

    def __array_function__(
        self, function: Any, types: Any, args: Any, kwargs: Any
    ) -> Any:
        """Call a NumPy function on the means.

        Else ``np.mean`` would call the attribute ``mean``.
        """
        plain = [np.asarray(x) if isinstance(x, Posterior) else x for x in args]
        return function(*plain, **kwargs)


class VariationalAutoencoder(BoundedModel):
    """Encoder, decoder, likelihood and prior.

    ``posterior`` and ``log_likelihood`` see standardised rows; ``encode``,
    ``decode``, ``elbo``, ``log_prob`` and ``draw`` see the rows of the user. Where
    the prior has layers of its own, ``posterior`` speaks of the codes of all layers
    side by side, and a code of the user is that of the first. ``family`` is that of
    q(z|x).
    """

    family: Any

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        standardizer: Standardizer,
        prior: StandardNormal | LearnedPrior | StackedPrior,
        n_importance_samples: int,
        family: Family | None = None,
    ) -> None:
        super().__init__(likelihood, standardizer)
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.family = Diagonal() if family is None else family
        if isinstance(prior, VampPrior):
            prior.bind(Encode(self))
        self.n_components = prior.layer_sizes[0]
        self.register_noise(n_importance_samples)

    def stacks(self) -> bool:
        """Return whether the networks are plain, and the prior has no tensors."""
        networks = is_mlp(self.encoder) and is_mlp(self.decoder)
        own = type(self) is VariationalAutoencoder and type(self.family) is Diagonal
        return own and networks and not self.prior.state_dict()

    def standard_noise(
        self, shape: Sequence[int], generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw standard normal noise (..., k) for the codes of all layers."""
        # A likelihood that is rebuilt from a file has memory before the networks do.
        like = next(chain(self.encoder.parameters(), self.parameters()))
        noise = like.new_empty(*shape, sum(self.prior.layer_sizes))
        return noise.normal_(generator=generator)

    @property
    def has_linear_path(self) -> bool:
        """Return whether both networks have a linear path beside their layers."""
        networks = self.encoder, self.decoder
        return all(isinstance(network, LinearAndLayers) for network in networks)

    @property
    def starts_linear(self) -> bool:
        """Return whether a fit starts from a factor analysis of normal columns."""
        if not (self.has_linear_path and isinstance(self.prior, StandardNormal)):
            return False
        return self.likelihood.n_normal(len(self.standardizer.shift)) > 1

    def set_rows(self, x: Tensor) -> None:
        """Start from the factor analysis of columns that are normal, if there are."""
        super().set_rows(x)
        if isinstance(self.prior, VampPrior):
            self.prior.start_from(self.likelihood.inputs(x))
        if self.starts_linear:
            self._start_linear(x)

    def _start_linear(self, x: Tensor) -> None:
        decoder: Any = self.decoder
        start = decoder[-1].bias.data
        values, inputs, outputs = self.likelihood.normal_cells(x)
        centre = start[outputs].clone()
        covariance = covariance_of(values, centre)
        if values.isnan().any() and (found := likeliest_moments(values)) is not None:
            centre = start[outputs] = found[0].to(centre)
            covariance = found[1].to(covariance)
        varies = covariance.diagonal() > 0
        q = min(self.n_components, int(varies.sum()) - 1)
        if q < 1:
            return
        near = self.likelihood.noise_near
        factors = factor_analysis(covariance[varies][:, varies], q, near)
        factors = factors.among(varies, self.n_components).to(x.dtype)
        whole = len(outputs) == x.shape[1]  # else other columns need the layers
        decoder[-1].weight.data[slice(None) if whole else outputs] = 0
        decoder.linear.data[outputs] = factors.loadings
        self.likelihood.start_noise(factors.noise, start)
        self._start_encoder(factors, inputs, centre, self.n_components if whole else q)
        if isinstance(self.proposal, NormalProposal):
            self.proposal.start_from(factors.loadings, factors.noise, centre)

    def _start_encoder(
        self, factors: Factors, inputs: Tensor, centre: Tensor, n_started: int
    ) -> None:
        """Start coordinates at the posterior of a factor analysis."""
        encoder: Any = self.encoder
        means = slice(n_started)
        log_sigmas = slice(self.n_components, self.n_components + n_started)
        regression = factors.regression[means]
        encoder.linear.data[means, inputs] = regression
        weight, bias = encoder[-1].weight.data, encoder[-1].bias.data
        weight[means] = weight[log_sigmas] = weight[2 * self.n_components :] = 0
        bias[2 * self.n_components :] = 0
        bias[means] = -regression @ centre
        bias[log_sigmas] = 0.5 * factors.code_variances[means].log()

    def first_posterior(self, batch: Batch) -> Any:
        """q(z|x) of rows (n, d), of the first layer; of a ladder, all evidence."""
        return self.family.of(self.encoder_outputs(batch.x))

    def complete_posterior(self, batch: Batch) -> Any:
        """q(z|x) of complete rows (n, d), of all layers."""
        return self.prior.posterior(self.first_posterior(batch))

    def posterior(self, batch: Batch) -> Any:
        """q(z|x) of rows (n, d), of all layers, as the networks are trained with.

        The code of a row with missing cells has correlated coordinates. Under a
        posterior without, the bound would teach the decoder to have none.
        """
        if not self.learns_incomplete:
            return self.complete_posterior(batch)
        q = self.incomplete_posterior(batch)
        return q.at(batch.x.isnan().any(-1), self.first_posterior(batch))

    def set_learns_incomplete(self, holds: bool) -> None:
        """Say whether training rows have missing cells."""
        one_layer = not isinstance(self.prior, StackedPrior)
        super().set_learns_incomplete(holds and one_layer and self.family.is_normal)

    def proposed(self, batch: Batch) -> WithPrior:
        """Density that codes of incomplete rows (n, d) are drawn from."""
        return WithPrior(self.incomplete_posterior(batch), self.prior)

    def incomplete_posterior(self, batch: Batch) -> CoupledNormal:
        """q(z|x) of incomplete rows (n, d), by the proposal."""
        proposal: Any = self.proposal
        values = None
        if proposal.linear is not None:
            values = self.likelihood.normal_cells(batch.x).values
        q: CoupledNormal = proposal(self.likelihood.sparse_inputs(batch.x), values)
        return q

    def simulated_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw codes (n, k) of all layers from a prior that is wider at places.

        A proposal that is learned from them covers what the posterior covers.
        """
        noise = self.standard_noise((n,), generator)
        uniform = torch.empty_like(noise).uniform_(generator=generator)
        return self.prior.draw_layers(torch.where(uniform < WIDENED, 2 * noise, noise))

    def outputs_of(self, z: Tensor) -> Tensor:
        """Decode codes (..., n, k) of all layers, to outputs (..., n, p)."""
        return self.decoder_outputs(z[..., : self.n_components])

    def codes_of(self, scaled: Tensor) -> Tensor:
        """Posterior means and standard deviations (n, 2 k), of all layers."""

        def moments(batch: Batch, q: Any) -> Tensor:
            q = q.proposal if isinstance(q, WithPrior) else q
            return torch.cat([q.mean, q.sigma], dim=1)

        return self.by_completeness(Batch(scaled), moments)

    def encode(self, x: Tensor) -> Tensor:
        """Posterior mean (n, k)."""
        scaled = self.view(x)
        is_first = self.family.gives_mean and not isinstance(self.prior, LadderPrior)
        if self.proposal is None and is_first:
            return self.encoder_outputs(scaled)[:, : self.n_components]
        return self.codes_of(scaled)[:, : self.n_components]

    def elbo(self, x: Tensor) -> Tensor:
        """Reconstruction and KL of each row, (n, 2)."""

        def both(batch: Batch, q: Any) -> Tensor:
            if not isinstance(q, WithPrior):
                reconstruction, kl = elbo(self, batch)
                return torch.stack([reconstruction, kl.sum(-1)], dim=1)
            z = q.proposal.draw(batch.draws)
            log_ratio = q.proposal.log_prob(z) - self.prior.log_prob(z)
            terms = self.log_likelihood(batch, z).mean(0), log_ratio.mean(0)
            return torch.stack(terms, dim=1)

        found = self.by_completeness(self.scored(x, self.noise_of(x)), both)
        found[:, 0] -= self.standardizer.log_scale
        return found

    def draw_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw codes (n, k) from p(z)."""
        return self.prior.draw(self.standard_noise((n,), generator))

    @property
    def row_elements(self) -> int:
        """Numbers that one pass of a row holds: a distance to every mode, or more."""
        moments = N_POINTS * getattr(self.family, "row_elements", 0)
        of_prior = getattr(self.prior, "row_elements", 1)
        return max(super().row_elements, of_prior, moments)

    @property
    def score_elements(self) -> int:
        """Numbers that scoring a row holds: every draw meets every mode."""
        parts = self.prior, self.family
        of_draws = max(getattr(part, "row_elements", 1) for part in parts)
        return max(super().score_elements, self.noise.shape[1] * of_draws)


@estimator
class VAE(NeuralModel):
    """Variational autoencoder: a density with a continuous latent code.

    ``z ~ N(0, I)``, ``x ~ p(x|z)`` with a decoder network, and an encoder network
    ``q(z|x) = N(mu(x), diag sigma(x)^2)``. Trained on the evidence lower bound
    ``E_q[log p(x|z)] - KL(q(z|x) || p(z))``; scored by the importance-weighted bound
    on ``log p(x)``. ``transform`` gives the posterior mean.

    Parameters
    ----------
    n_components : int or sequence of int, default=10
        Number of latent coordinates. More than the data need are left unused: their
        posterior stays at the prior. A sequence stacks stochastic layers, the one
        next to the data first: with ``(100, 50)``, p(z) is itself a latent variable
        model of 50 coordinates, and ``transform`` gives the 100. A sequence of
        sequences as ``hidden_layer_sizes`` then gives each layer its own widths.
    inference : {"bottom-up", "top-down"}, default="bottom-up"
        How stacked layers are inferred. "bottom-up" encodes the code of each from that
        of the layer below. "top-down" draws the last first, and each other given the
        one above: there the prior meets the evidence of the row, the two weighed by
        their precisions (a ladder VAE). Its networks have residual cells; with
        ``architecture="conv"``, a layer whose coordinates are a multiple of the places
        of the smallest grid (49 of images of 28 x 28) is a grid of codes. An encoder of
        your own gives the means of all layers then, and their log sigmas behind them.
    prior : {"normal", "mixture", "vamp", "flow"}, default="normal"
        p(z): the standard normal density; or one that is learned with the networks. A
        "mixture" of normal densities; a mixture of the posteriors of pseudo-inputs,
        rows that are learned ("vamp", Tomczak & Welling 2018); or a normalising
        "flow", three layers of splines, which needs zuko: ``pip install
        "scikit-generative[flow]"``. Of stochastic layers that are stacked, the last
        has it, and "vamp" is for one.
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
    kl_warmup : int or "auto", default="auto"
        Epochs over which the KL term rises to its weight, so that coordinates are
        not given up before they are of use. Early stopping waits for its end. "auto"
        is as many as make up 200 steps, a quarter of ``max_iter`` at most; 0 is none.
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
    BetaVAE : Another weight on the KL term.
    IWAE : A tighter bound in training.
    VQVAE : A discrete code.

    Notes
    -----
    A prior that is learned fills the holes between the codes of rows, which N(0, I)
    draws from (the aggregate posterior is the best prior). The KL to it has no closed
    form: it is estimated by ``log q(z|x) - log p(z)`` at draws, of all coordinates
    together.

    The score never contains the training loss, and is comparable with those of the
    other estimators on the same ``X``, under the same base measure: a Gaussian
    likelihood gives log-densities, a Bernoulli one log-masses.

    References
    ----------
    Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014.

    Tomczak & Welling, "VAE with a VampPrior", AISTATS 2018.

    Sonderby et al., "Ladder variational autoencoders", NeurIPS 2016 (top-down).

    Razavi et al., "Preventing posterior collapse with delta-VAEs", ICLR 2019.

    He et al., "Lagging inference networks and posterior collapse in variational
    autoencoders", ICLR 2019 (``encoder_rate``).

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import VAE
    >>> X = load_wine().data
    >>> model = VAE(n_components=3, random_state=0).fit(X)
    >>> model.transform(X).shape
    (178, 3)
    >>> model.sample(2, random_state=0).shape
    (2, 13)
    >>> model.score(X) > -22  # independent Gaussians: -22.0
    True
    """

    _fits_together = True

    active_units_: int | tuple[int, ...] = attribute()
    latent_variances_: NDArray[Any] = attribute()

    n_components: int | Sequence[int] = parameter(
        integer(1), sequence(integer(1), 1, MOST_LAYERS), default=10, builds=True
    )
    _: KW_ONLY
    hidden_layer_sizes: Sequence[Any] | int = parameter(
        integer(1),
        sequence(integer(1), 0, MOST_LAYERS),
        sequence(sequence(integer(1), 0, MOST_LAYERS)),
        default=(256,),
        builds=True,
    )
    inference: Literal["bottom-up", "top-down"] = parameter(
        options("bottom-up", "top-down"), default="bottom-up", builds=True
    )
    prior: Literal["normal", "mixture", "vamp", "flow"] = parameter(
        options("normal", "mixture", "vamp", "flow"), default="normal", builds=True
    )
    prior_components: int = parameter(integer(1), default=50, builds=True)
    posterior_type: Literal["diag", "full", "mixture", "flow"] = parameter(
        options("diag", "full", "mixture", "flow"), default="diag", builds=True
    )
    min_rate: float = parameter(real(0, LARGEST_STEP), default=0.0, builds=True)
    encoder_rate: float = parameter(
        real(0, LARGEST_STEP, closed="neither"), default=1.0
    )
    kl_warmup: int | Literal["auto"] = parameter(
        options("auto"), integer(0), default="auto"
    )

    def posterior(self, X: ArrayLike) -> Posterior:
        """Encode rows as normal densities of their codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        posterior : Posterior
            Named tuple of ``mean`` and ``std``, (n_samples, n_components) each.
        """
        columns = self._apply(lambda model, x: model.codes_of(model.view(x)), X)
        mean, std = np.split(columns, 2, axis=1)
        k = self._n_features_out
        return Posterior(mean[:, :k], std[:, :k])

    def elbo(self, X: ArrayLike) -> Elbo:
        """Evaluate the parts of the evidence lower bound, at beta = 1.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        elbo : Elbo
            Named tuple of ``reconstruction`` and ``kl``, (n_samples,) each, in nats;
            the bound is their difference.
        """
        return Elbo(*self._apply(lambda model, x: model.elbo(x), X, scores=True).T)

    @property
    def _n_training_draws(self) -> int:
        """Draws from the encoder, for each row and step."""
        return 1

    @property
    def _objective(self) -> Any:
        return BetaLoss()

    @property
    def _rates(self) -> dict[str, float]:  # type: ignore[override]
        # Parameters of a learned prior do not decay.
        of_prior = "prior.means", "prior.log_scales", "prior.inputs"
        rates = {**NeuralModel._rates, **dict.fromkeys(of_prior, 1.0)}
        if self.encoder_rate != 1:
            layers = range(len(self._component_sizes))
            encoders = ["prior." * layer + "encoder." for layer in layers]
            rates |= dict.fromkeys(encoders, float(self.encoder_rate))
        return rates

    @property
    def _stack_key(self) -> Hashable:
        built = ("prior", "inference", "posterior_type", "min_rate")
        return "VAE", self._n_training_draws, *map(self._fitted, built)

    def _noise(self, module: Any, n: int, generator: torch.Generator) -> Tensor:
        noise: Tensor = module.standard_noise((self._n_training_draws, n), generator)
        return noise

    def _warm_up(self, plan: TrainingPlan) -> int:
        if isinstance(self.kl_warmup, str):
            if self.module_.starts_linear:
                return 0
            return min(plan.epochs(WARM_UP_STEPS), self.max_iter // 4)
        return self.kl_warmup

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> VariationalAutoencoder:
        sizes, family = self._component_sizes, self._family()
        ladder = self._ladder(n_features)
        made = None if ladder is None else factories(ladder)
        width = family.width(sizes[0]) if ladder is None else 2 * sum(sizes)
        widths = n_features, width, sizes[0]
        encoder, decoder = networks(self, widths, likelihood, made)
        n_inputs = likelihood.encoder_width(n_features)
        module = VariationalAutoencoder(
            encoder,
            decoder,
            likelihood,
            standardizer,
            self._prior(sizes, self._layer_sizes[1:], n_inputs)
            if ladder is None
            else self._ladder_prior(ladder),
            self.n_importance_samples,
            family,
        )
        if likelihood.allows_missing:
            n_columns = likelihood.n_normal(n_features) if module.has_linear_path else 0
            module.set_proposal(NormalProposal(n_inputs, sum(sizes), n_columns))
        return module

    def _family(self) -> Family:
        """Return the family of q(z|x), of the first layer."""
        k, *above = self._component_sizes
        is_usual = self.posterior_type == "diag" and not self.min_rate
        if not is_usual and (above or self.prior == "vamp"):
            raise ValueError(
                f"posterior_type={self.posterior_type!r} and min_rate="
                f"{self.min_rate!r} of {type(self).__name__} must be 'diag' and 0 with "
                f"n_components={self.n_components!r} and prior={self.prior!r}: other "
                "posteriors are for one stochastic layer, and no 'vamp' prior."
            )
        if self.min_rate:
            self._check_rate(k)
        owner = f"{type(self).__name__}(posterior_type='flow')"
        return family_of(self.posterior_type, k, owner, self.min_rate)

    def _check_rate(self, k: int) -> None:
        if self.prior != "normal" or self.posterior_type != "diag":
            raise ValueError(
                f"min_rate={self.min_rate!r} of {type(self).__name__} must be 0 with "
                f"prior={self.prior!r} and posterior_type={self.posterior_type!r}: a "
                "rate is committed to under prior='normal' and posterior_type='diag'."
            )
        if self.min_rate > MOST_RATE * k:
            raise ValueError(
                f"min_rate={self.min_rate!r} of {type(self).__name__} must be at most "
                f"{MOST_RATE:g} nats for each of the {k} coordinates. Lower it, or "
                "raise n_components."
            )

    def _ladder(self, n_features: int) -> Ladder | None:
        """Return the networks of layers that are inferred from the top down."""
        sizes = self._component_sizes
        if self.inference == "bottom-up" or len(sizes) == 1:
            return None
        if self.linear_path is True:
            raise ValueError(
                f"linear_path=True of {type(self).__name__} must be 'auto' or False "
                "with inference='top-down', whose networks have none."
            )
        if self.architecture == "conv":
            return ImageLadder(sizes, image_networks(self, n_features))
        return DenseLadder(sizes, self._layer_sizes, self.activation)

    def _ladder_prior(
        self, ladder: Ladder, layer: int = 0
    ) -> StandardNormal | LearnedPrior | StackedPrior:
        """p(z) of a layer, and of those above it, inferred from the top down."""
        k, *above = self._component_sizes[layer:]
        if not above:
            return self._last_prior(k, 0)
        prior = self._ladder_prior(ladder, layer + 1)
        return LadderPrior(ladder.between(layer), k, prior)

    @property
    def _gains_by_linear_path(self) -> bool:
        return len(self._component_sizes) == 1

    def _prior(
        self,
        components: Sequence[int],
        hidden: Sequence[Sequence[int]],
        n_inputs: int = 0,
    ) -> StandardNormal | LearnedPrior | StackedPrior:
        """p(z), with a layer for each number of components above the first."""
        k, *above = components
        if not above:
            return self._last_prior(k, n_inputs)
        encoder, decoder = mlp_pair(hidden[0], self.activation)
        return DeepPrior(
            encoder(k, 2 * above[0]),
            decoder(above[0], 2 * k),
            k,
            self._prior(above, hidden[1:]),
        )

    def _last_prior(self, k: int, n_inputs: int) -> StandardNormal | LearnedPrior:
        """p(z) of the last layer, of k coordinates."""
        if self.prior == "normal":
            return StandardNormal(k)
        if self.prior == "mixture":
            return MixturePrior(k, self.prior_components)
        if self.prior == "flow":
            return FlowPrior(k, code_flow(f"{type(self).__name__}(prior='flow')", k))
        if len(self._component_sizes) > 1:
            raise ValueError(
                f"The 'prior' parameter of {type(self).__name__} must be 'normal' or "
                f"'mixture' or 'flow' with the stochastic layers n_components="
                f"{self.n_components!r}: pseudo-inputs are encoded to one. Got 'vamp' "
                "instead."
            )
        return VampPrior(k, self.prior_components, n_inputs)

    @property
    def _component_sizes(self) -> tuple[int, ...]:
        """Latent coordinates of each stochastic layer."""
        k = self.n_components
        return tuple(k) if isinstance(k, Iterable) else (k,)

    @property
    def _layer_sizes(self) -> list[tuple[int, ...]]:
        """Hidden widths of each stochastic layer; one sequence serves them all."""
        sizes, n_layers = self.hidden_layer_sizes, len(self._component_sizes)
        if not isinstance(sizes, Iterable):
            return [(sizes,)] * n_layers
        if not any(isinstance(each, Iterable) for each in sizes):
            return [tuple(sizes)] * n_layers
        if len(sizes) != n_layers:
            raise ValueError(
                f"hidden_layer_sizes={sizes!r} has widths for {len(sizes)} stochastic "
                f"layers, but n_components={self.n_components!r} has {n_layers}. Give "
                "a sequence of widths for each, or one for all."
            )
        return [tuple(each) for each in sizes]

    def _finish(
        self,
        plan: TrainingPlan,
        train: WeightedRows,
        held_out: WeightedRows | None,
        generator: torch.Generator,
    ) -> Steps:
        yield from plan.learn_proposal(generator)
        self.__dict__.update(self._described(train))

    @property
    def _descends_bound(self) -> bool:
        """Return whether the loss is a bound on log p(x): a start is judged by it."""
        return True

    @property
    def _linear_start(self) -> VariationalAutoencoder | None:
        module: VariationalAutoencoder = self.module_
        starts = module.starts_linear and not self._is_warm and self.early_stopping
        return copy.deepcopy(module) if starts and self._descends_bound else None

    def _described(self, train: WeightedRows) -> dict[str, Any]:
        chunks = train.chunks(self.module_.pass_rows)
        with torch.no_grad():
            moments = Moments.of_parts(
                (self._means_of(chunk), chunk.weight) for chunk in chunks
            )
        variances = moments.variance.float()
        sizes = self.module_.prior.layer_sizes
        active = (variances > ACTIVE_VARIANCE).split(sizes)
        counts = tuple(int(layer.sum()) for layer in active)
        return {
            "latent_variances_": to_array(variances),
            "active_units_": counts[0] if len(counts) == 1 else counts,
        }

    def _means_of(self, rows: Rows) -> Tensor:
        """Posterior means (n, k) of standardised rows, of all layers."""
        means: Tensor = self.module_.codes_of(rows.x).chunk(2, dim=1)[0]
        return means

    @property
    def _code_variances(self) -> NDArray[Any]:
        variances: NDArray[Any] = self.latent_variances_
        return variances[: self._n_features_out]

    @property
    def _n_features_out(self) -> int:
        n_components: int = self.module_.n_components
        return n_components


@estimator
class BetaVAE(VAE):
    """Variational autoencoder with another weight on its KL term.

    Trained on ``E_q[log p(x|z)] - beta KL(q(z|x) || p(z))``. The score never contains
    ``beta``: it is the VAE's bound on ``log p(x)``, so that a search over ``beta``
    compares like with like.

    Parameters
    ----------
    n_components : int or sequence of int, default=10
        Number of latent coordinates. More than the data need are left unused: their
        posterior stays at the prior. A sequence stacks stochastic layers, the one
        next to the data first: with ``(100, 50)``, p(z) is itself a latent variable
        model of 50 coordinates, and ``transform`` gives the 100. A sequence of
        sequences as ``hidden_layer_sizes`` then gives each layer its own widths.
    inference : {"bottom-up", "top-down"}, default="bottom-up"
        How stacked layers are inferred. "bottom-up" encodes the code of each from that
        of the layer below. "top-down" draws the last first, and each other given the
        one above: there the prior meets the evidence of the row, the two weighed by
        their precisions (a ladder VAE). Its networks have residual cells; with
        ``architecture="conv"``, a layer whose coordinates are a multiple of the places
        of the smallest grid (49 of images of 28 x 28) is a grid of codes. An encoder of
        your own gives the means of all layers then, and their log sigmas behind them.
    prior : {"normal", "mixture", "vamp", "flow"}, default="normal"
        p(z): the standard normal density; or one that is learned with the networks. A
        "mixture" of normal densities; a mixture of the posteriors of pseudo-inputs,
        rows that are learned ("vamp", Tomczak & Welling 2018); or a normalising
        "flow", three layers of splines, which needs zuko: ``pip install
        "scikit-generative[flow]"``. Of stochastic layers that are stacked, the last
        has it, and "vamp" is for one.
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
    kl_warmup : int or "auto", default="auto"
        Epochs over which the KL term rises to its weight, so that coordinates are
        not given up before they are of use. Early stopping waits for its end. "auto"
        is as many as make up 200 steps, a quarter of ``max_iter`` at most; 0 is none.
    beta : float, default=4.0
        Weight of the KL term. Above 1, codes are simpler and less entangled; below,
        reconstructions are sharper. At 1 it is :class:`VAE`, to the bit.
    capacity : float, default=0.0
        Nats C that the KL is kept near, through ``beta |KL - C|`` (``beta`` is then
        the gamma of Burgess et al.); it rises from 0 over ``kl_warmup`` epochs.
    free_bits : float, default=0.0
        Nats that each latent coordinate may use for nothing: its KL, a mean over
        rows, counts from there on. Above 0, coordinates stay in use.
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
    VAE : ``beta = 1``.

    Notes
    -----
    The gap between the score and log p(x) grows as ``beta`` falls. On digits, with 64
    importance samples against 2000, it is about 1 nat at 0.25 and 0.1 at 8; where
    candidates are that close, compare :meth:`log_likelihood`.

    References
    ----------
    Higgins et al., "beta-VAE: learning basic visual concepts with a constrained
    variational framework", ICLR 2017.

    Burgess et al., "Understanding disentangling in beta-VAE", 2018 (capacity).

    Kingma et al., "Improved variational inference with inverse autoregressive flow",
    NeurIPS 2016 (free bits).

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import BetaVAE
    >>> X = load_wine().data
    >>> model = BetaVAE(n_components=3, beta=2.0, random_state=0).fit(X)
    >>> model.elbo(X).kl.shape
    (178,)
    """

    _: KW_ONLY
    beta: float = parameter(real(0, LARGEST_STEP), default=4.0)
    capacity: float = parameter(real(0, LARGEST_STEP), default=0.0)
    free_bits: float = parameter(real(0, LARGEST_STEP), default=0.0)

    @property
    def _fits_together(self) -> bool:  # type: ignore[override]
        """Return whether the loss couples no rows of a batch."""
        return not (self.free_bits or self.capacity)

    @property
    def _objective(self) -> BetaLoss:
        weight = KLWeight(self.beta, self.free_bits or None, self.capacity or None)
        return BetaLoss(weight)

    @property
    def _descends_bound(self) -> bool:
        return self.beta == 1 and not (self.free_bits or self.capacity)

    @property
    def _gains_by_linear_path(self) -> bool:
        return super()._gains_by_linear_path and self._descends_bound


@estimator
class IWAE(VAE):
    """Importance-weighted autoencoder: a VAE trained on a tighter bound.

    Trained on ``E[log 1/K sum_k p(x, z_k) / q(z_k|x)]`` with ``K = n_draws``, which
    is the evidence lower bound at ``K = 1``, and rises to ``log p(x)`` with K.

    Parameters
    ----------
    n_components : int or sequence of int, default=10
        Number of latent coordinates. More than the data need are left unused: their
        posterior stays at the prior. A sequence stacks stochastic layers, the one
        next to the data first: with ``(100, 50)``, p(z) is itself a latent variable
        model of 50 coordinates, and ``transform`` gives the 100. A sequence of
        sequences as ``hidden_layer_sizes`` then gives each layer its own widths.
    inference : {"bottom-up", "top-down"}, default="bottom-up"
        How stacked layers are inferred. "bottom-up" encodes the code of each from that
        of the layer below. "top-down" draws the last first, and each other given the
        one above: there the prior meets the evidence of the row, the two weighed by
        their precisions (a ladder VAE). Its networks have residual cells; with
        ``architecture="conv"``, a layer whose coordinates are a multiple of the places
        of the smallest grid (49 of images of 28 x 28) is a grid of codes. An encoder of
        your own gives the means of all layers then, and their log sigmas behind them.
    prior : {"normal", "mixture", "vamp", "flow"}, default="normal"
        p(z): the standard normal density; or one that is learned with the networks. A
        "mixture" of normal densities; a mixture of the posteriors of pseudo-inputs,
        rows that are learned ("vamp", Tomczak & Welling 2018); or a normalising
        "flow", three layers of splines, which needs zuko: ``pip install
        "scikit-generative[flow]"``. Of stochastic layers that are stacked, the last
        has it, and "vamp" is for one.
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
    kl_warmup : int or "auto", default="auto"
        Epochs over which the KL term rises to its weight, so that coordinates are
        not given up before they are of use. Early stopping waits for its end. "auto"
        is as many as make up 200 steps, a quarter of ``max_iter`` at most; 0 is none.
    n_draws : int, default=5
        Draws from the encoder for each row and step, the K of the bound. (The score
        takes ``n_importance_samples``.)
    gradient : {"dreg", "stl", "standard"}, default="dreg"
        Estimator of the gradient. "standard" differentiates the bound as it stands:
        the encoder's signal fades as ``n_draws`` grows. "stl" leaves the score of the
        encoder's density out, which lowers the variance and biases it; "dreg" is
        doubly reparameterised: unbiased, with a signal that grows. Its tails are
        heavy where a row has many features: ``max_grad_norm`` is 100 by default.
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
    max_grad_norm : float or None, default=100.0
        Norm that longer gradients are cut to.
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
    VAE : The bound with one draw.

    Notes
    -----
    The loss that is reported is the bound itself, never a surrogate, whatever
    estimates its gradient.

    References
    ----------
    Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.

    Tucker, Lawson, Gu & Maddison, "Doubly reparameterized gradient estimators for
    Monte Carlo objectives", ICLR 2019 ("dreg").

    Roeder, Wu & Duvenaud, "Sticking the landing: simple, lower-variance gradient
    estimators for variational inference", NeurIPS 2017 ("stl").

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import IWAE
    >>> X = load_wine().data
    >>> model = IWAE(n_components=3, n_draws=10, random_state=0).fit(X)
    >>> model.transform(X).shape
    (178, 3)
    """

    _: KW_ONLY
    n_draws: int = parameter(integer(1), default=5, repeats=True)
    gradient: Literal["dreg", "stl", "standard"] = parameter(
        options("dreg", "stl", "standard"), default="dreg"
    )
    max_grad_norm: float | None = parameter(
        real(0, LARGEST_STEP, closed="neither"), none, default=100.0
    )

    @property
    def _objective(self) -> ImportanceWeightedLoss:
        return ImportanceWeightedLoss(self.gradient)

    @property
    def _n_training_draws(self) -> int:
        return self.n_draws
