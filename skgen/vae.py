"""Variational autoencoders: the VAE, the beta-VAE, the importance-weighted one.

``p(z) = N(0, I)``, ``q(z|x) = N(mu(x), diag sigma(x)^2)``, ``p(x|z)`` a likelihood of
the decoder's outputs. The three differ in what they descend, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from skgen.engine import Rows
from skgen.evaluation import BoundedModel
from skgen.likelihoods import Likelihood
from skgen.networks import Factory, Standardizer
from skgen.neural import NeuralModel
from skgen.objectives import LatentTerms, beta_loss, elbo, importance_weighted_loss
from skgen.parameters import Rules, integer, real
from skgen.priors import Normal, StandardNormal
from skgen.shared_docs import with_shared_docs
from skgen.tensors import to_array

# Bounds on log sigma(x): beyond them exp leaves the range where training is stable.
LOG_SIGMA_MIN, LOG_SIGMA_MAX = -12.0, 6.0


# A latent coordinate is active when its posterior mean varies more than this.
ACTIVE_VARIANCE = 0.01


class Elbo(NamedTuple):
    """The two parts of the evidence lower bound, (n,) each, in nats."""

    reconstruction: NDArray[Any]  # E_q[log p(x|z)]
    kl: NDArray[Any]  # KL(q(z|x) || p(z))


class Posterior(NamedTuple):
    """q(z|x) = N(mean, diag std^2), (n, n_components) each."""

    mean: NDArray[Any]
    std: NDArray[Any]


class VariationalAutoencoder(BoundedModel):
    """Encoder, decoder, likelihood and prior.

    ``posterior`` and ``log_likelihood`` see standardised rows; ``encode``,
    ``decode``, ``elbo``, ``log_prob`` and ``draw`` see the rows of the user.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        standardizer: Standardizer,
        n_components: int,
        n_importance_samples: int,
    ) -> None:
        super().__init__(likelihood, standardizer)
        self.encoder, self.decoder = encoder, decoder
        self.prior, self.n_components = StandardNormal(), n_components
        self.register_noise(n_importance_samples)

    def standard_noise(
        self, shape: Sequence[int], generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw standard normal noise (..., k)."""
        like = next(self.parameters())
        noise = like.new_empty(*shape, self.n_components)
        return noise.normal_(generator=generator)

    def posterior(self, x: Tensor) -> Normal:
        """q(z|x) of rows (n, d)."""
        mean, log_sigma = self.encoder(x).chunk(2, dim=-1)
        return Normal(mean, log_sigma.clamp(LOG_SIGMA_MIN, LOG_SIGMA_MAX).exp())

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x|z), (S, n), of rows (n, d) and codes (S, n, k)."""
        return self.likelihood.log_prob(self.decoder_outputs(z), x)

    def encode(self, x: Tensor) -> Tensor:
        """Posterior mean (n, k)."""
        return self.posterior(self.standardizer(x)).mean

    def elbo(self, x: Tensor) -> Tensor:
        """Reconstruction and KL of each row, (n, 2)."""
        reconstruction, kl = elbo(self, self.standardizer(x), self.noise_of(x))
        return torch.stack([reconstruction - self.standardizer.log_scale, kl], dim=1)

    def draw_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw codes (n, k) from p(z)."""
        return self.standard_noise((n,), generator)


@with_shared_docs
class VAE(NeuralModel):
    """Variational autoencoder: a density with a continuous latent code.

    ``z ~ N(0, I)``, ``x ~ p(x|z)`` with a decoder network, and an encoder network
    ``q(z|x) = N(mu(x), diag sigma(x)^2)``. Trained on the evidence lower bound
    ``E_q[log p(x|z)] - KL(q(z|x) || p(z))``; scored by the importance-weighted bound
    on ``log p(x)``. ``transform`` gives the posterior mean.

    Parameters
    ----------
    n_components : int, default=10
        Number of latent coordinates. More than the data need are left unused: their
        posterior stays at the prior.
    {network parameters}

    Attributes
    ----------
    active_units_ : int
        Latent coordinates in use: the variance of their posterior mean over the
        (last given) training rows is above 0.01.
    latent_variances_ : ndarray of shape (n_components,)
        Those variances.
    {network attributes}

    See Also
    --------
    BetaVAE : Another weight on the KL term.
    IWAE : A tighter bound in training.
    VQVAE : A discrete code.

    Notes
    -----
    The score never contains the training loss, and is comparable with those of the
    other estimators on the same ``X``, under the same base measure: a Gaussian
    likelihood gives log-densities, a Bernoulli one log-masses.

    References
    ----------
    Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014.

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

    _parameters: ClassVar[Rules] = {
        **NeuralModel._parameters,
        "n_components": integer(1),
    }
    _architecture: ClassVar[tuple[str, ...]] = (
        *NeuralModel._architecture,
        "n_components",
    )

    def __init__(
        self,
        n_components: int = 10,
        *,
        hidden_layer_sizes: Sequence[int] = (256,),
        activation: str = "relu",
        likelihood: str | Likelihood = "gaussian",
        encoder: nn.Module | Factory | None = None,
        decoder: nn.Module | Factory | None = None,
        standardize: bool = True,
        n_importance_samples: int = 64,
        batch_size: int | str = "auto",
        learning_rate_init: float = 1e-3,
        max_iter: int = 200,
        tol: float = 1e-4,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        device: str = "cpu",
        verbose: bool | int = False,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.likelihood = likelihood
        self.encoder = encoder
        self.decoder = decoder
        self.standardize = standardize
        self.n_importance_samples = n_importance_samples
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

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

        def both(model: VariationalAutoencoder, x: Tensor) -> Tensor:
            return torch.cat(model.posterior(model.standardizer(x)), dim=1)

        columns = self._apply(both, X)
        k = self._n_features_out
        return Posterior(columns[:, :k], columns[:, k:])

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

    #: Draws from the encoder, for each row and step.
    _n_training_draws: int = 1

    def _loss(self, module: Any, x: Tensor, noise: Tensor) -> LatentTerms:
        return beta_loss(module, x, noise, beta=1.0)

    def _noise(self, module: Any, n: int, generator: torch.Generator) -> Tensor:
        noise: Tensor = module.standard_noise((self._n_training_draws, n), generator)
        return noise

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> VariationalAutoencoder:
        k = self.n_components
        encoder, decoder = self._networks(n_features, 2 * k, k, likelihood)
        return VariationalAutoencoder(
            encoder, decoder, likelihood, standardizer, k, self.n_importance_samples
        )

    def _finish(
        self,
        train: Rows,
        held_out: Rows | None,
        generator: torch.Generator,
        *,
        incremental: bool,
    ) -> None:
        with torch.no_grad():
            means = [self.module_.posterior(x).mean for x in train.x.split(8192)]
        codes = Rows(torch.cat(means), train.weight)
        variances = codes.mean((codes.x - codes.mean(codes.x)) ** 2)
        self.latent_variances_ = to_array(variances)
        self.active_units_ = int((variances > ACTIVE_VARIANCE).sum())

    @property
    def _n_features_out(self) -> int:
        n_components: int = self.module_.n_components
        return n_components


@with_shared_docs
class BetaVAE(VAE):
    """Variational autoencoder with another weight on its KL term.

    Trained on ``E_q[log p(x|z)] - beta KL(q(z|x) || p(z))``. The score never contains
    ``beta``: it is the VAE's bound on ``log p(x)``, so that a search over ``beta``
    compares like with like.

    Parameters
    ----------
    n_components : int, default=10
        Number of latent coordinates.
    beta : float, default=4.0
        Weight of the KL term. Above 1, codes are simpler and less entangled; below,
        reconstructions are sharper. At 1 it is :class:`VAE`, to the bit.
    {network parameters}

    Attributes
    ----------
    active_units_ : int
        Latent coordinates in use: the variance of their posterior mean over the
        (last given) training rows is above 0.01.
    latent_variances_ : ndarray of shape (n_components,)
        Those variances.
    {network attributes}

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

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import BetaVAE
    >>> X = load_wine().data
    >>> model = BetaVAE(n_components=3, beta=2.0, random_state=0).fit(X)
    >>> model.elbo(X).kl.shape
    (178,)
    """

    _parameters: ClassVar[Rules] = {**VAE._parameters, "beta": real(0)}

    def __init__(
        self,
        n_components: int = 10,
        *,
        beta: float = 4.0,
        hidden_layer_sizes: Sequence[int] = (256,),
        activation: str = "relu",
        likelihood: str | Likelihood = "gaussian",
        encoder: nn.Module | Factory | None = None,
        decoder: nn.Module | Factory | None = None,
        standardize: bool = True,
        n_importance_samples: int = 64,
        batch_size: int | str = "auto",
        learning_rate_init: float = 1e-3,
        max_iter: int = 200,
        tol: float = 1e-4,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        device: str = "cpu",
        verbose: bool | int = False,
    ) -> None:
        super().__init__(
            n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            likelihood=likelihood,
            encoder=encoder,
            decoder=decoder,
            standardize=standardize,
            n_importance_samples=n_importance_samples,
            batch_size=batch_size,
            learning_rate_init=learning_rate_init,
            max_iter=max_iter,
            tol=tol,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            random_state=random_state,
            device=device,
            verbose=verbose,
        )
        self.beta = beta

    def _loss(self, module: Any, x: Tensor, noise: Tensor) -> LatentTerms:
        return beta_loss(module, x, noise, beta=self.beta)


@with_shared_docs
class IWAE(VAE):
    """Importance-weighted autoencoder: a VAE trained on a tighter bound.

    Trained on ``E[log 1/K sum_k p(x, z_k) / q(z_k|x)]`` with ``K = n_draws``, which
    is the evidence lower bound at ``K = 1``, and rises to ``log p(x)`` with K.

    Parameters
    ----------
    n_components : int, default=10
        Number of latent coordinates.
    n_draws : int, default=5
        Draws from the encoder for each row and step, the K of the bound. (The score
        takes ``n_importance_samples``.)
    {network parameters}

    Attributes
    ----------
    active_units_ : int
        Latent coordinates in use: the variance of their posterior mean over the
        (last given) training rows is above 0.01.
    latent_variances_ : ndarray of shape (n_components,)
        Those variances.
    {network attributes}

    See Also
    --------
    VAE : The bound with one draw.

    Notes
    -----
    The loss that is reported is the bound itself, never a surrogate, and its gradient
    is the plain one, whose signal for the encoder fades as ``n_draws`` grows.

    References
    ----------
    Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import IWAE
    >>> X = load_wine().data
    >>> model = IWAE(n_components=3, n_draws=10, random_state=0).fit(X)
    >>> model.transform(X).shape
    (178, 3)
    """

    _parameters: ClassVar[Rules] = {**VAE._parameters, "n_draws": integer(1)}

    def __init__(
        self,
        n_components: int = 10,
        *,
        n_draws: int = 5,
        hidden_layer_sizes: Sequence[int] = (256,),
        activation: str = "relu",
        likelihood: str | Likelihood = "gaussian",
        encoder: nn.Module | Factory | None = None,
        decoder: nn.Module | Factory | None = None,
        standardize: bool = True,
        n_importance_samples: int = 64,
        batch_size: int | str = "auto",
        learning_rate_init: float = 1e-3,
        max_iter: int = 200,
        tol: float = 1e-4,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: Any = None,
        device: str = "cpu",
        verbose: bool | int = False,
    ) -> None:
        super().__init__(
            n_components,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            likelihood=likelihood,
            encoder=encoder,
            decoder=decoder,
            standardize=standardize,
            n_importance_samples=n_importance_samples,
            batch_size=batch_size,
            learning_rate_init=learning_rate_init,
            max_iter=max_iter,
            tol=tol,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            random_state=random_state,
            device=device,
            verbose=verbose,
        )
        self.n_draws = n_draws

    def _loss(self, module: Any, x: Tensor, noise: Tensor) -> LatentTerms:
        return importance_weighted_loss(module, x, noise)

    @property
    def _n_training_draws(self) -> int:  # type: ignore[override]
        return self.n_draws
