"""Models whose density is known exactly, to hold bounds and gradients against."""

import functools
import itertools
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from skgen._networks.codebooks import Codebook
from skgen._networks.dense import Standardizer
from skgen._networks.token_priors import AutoregressivePrior
from skgen._training.batches import Batch
from skgen._utils.tensors import forked_rng
from skgen.likelihoods import Gaussian
from skgen.models.vae import VariationalAutoencoder
from skgen.models.vqvae import VectorQuantizedAutoencoder
from skgen.priors import StandardNormal

D, K = 4, 2  # features and latent coordinates of the linear Gaussian model


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: Any, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def uniform(*shape: Any, seed: int = 0, dtype: Any = torch.float64) -> Tensor:
    return torch.rand(*shape, generator=generator(seed), dtype=dtype)


def leaves_generators(build: Any) -> Any:
    """Let a function initialise modules, which draws from the global generator."""

    @functools.wraps(build)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with forked_rng(0):
            return build(*args, **kwargs)

    return wrapped


def linear(weight: Tensor, bias: Tensor) -> Any:
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.weight.data, layer.bias.data = weight, bias
    return layer


class Free(nn.Module):
    """A network whose output is its parameter, a value for each row."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, x: Tensor) -> Tensor:
        return self.value


def gaussian(sigma: float, kind: Any = "shared") -> Any:
    likelihood = Gaussian(kind, min_sigma=0.0)
    likelihood.log_sigma.data = torch.as_tensor(sigma, dtype=torch.float64).log()
    return likelihood


@leaves_generators
def linear_gaussian(
    shift: float = 0.0, widen: float = 0.0, n_importance_samples: Any = 8, seed: int = 0
) -> tuple[Any, ...]:
    """A linear VAE, with the marginal p(x) in closed form.

    The columns of the decoder are orthogonal, so that the exact posterior is a normal
    density with independent coordinates: the encoder's, when ``shift`` of its mean
    and ``widen`` of its log sigma are zero.
    """
    Q = torch.linalg.qr(normal(D, K, seed=seed)).Q
    W = Q * torch.tensor([2.0, 0.8], dtype=torch.float64)
    b, sigma = normal(D, seed=seed + 1), 0.6
    precision = (W.T @ W).diagonal() / sigma**2 + 1
    to_mean = W.T / sigma**2 / precision[:, None]
    log_sigma = -0.5 * precision.log() + widen
    encoder = linear(
        torch.cat([to_mean, torch.zeros_like(to_mean)]),
        torch.cat([shift - to_mean @ b, log_sigma]),
    )
    model = VariationalAutoencoder(
        encoder,
        linear(W, b),
        gaussian(sigma),
        Standardizer.identity(D),
        StandardNormal(K),
        n_importance_samples,
    )
    model.noise = normal(256, n_importance_samples, K, seed=seed + 2)
    covariance = W @ W.T + sigma**2 * torch.eye(D, dtype=W.dtype)
    marginal = torch.distributions.MultivariateNormal(b, covariance)
    return model, marginal


def draws_of(marginal: Any, n: int, seed: int = 5) -> Any:
    return marginal.mean + normal(n, D, seed=seed) @ marginal.scale_tril.T


@leaves_generators
def codebook(vectors: Any, distance: str = "euclidean") -> Any:
    book = Codebook(*cast(tuple[int, int], vectors.shape), distance).to(vectors.dtype)
    book.vectors.data = vectors
    return book


@leaves_generators
def token_model(
    T: int = 2,
    K: int = 4,
    c: Any = 2,
    d: int = 3,
    n_importance_samples: int = 8,
    mixing: Any = 0.7,
) -> Any:
    """A linear VQVAE in float64: the decoder undoes the encoder; tokens depend."""
    prior = AutoregressivePrior(T, K, 5).double()
    for seed, p in enumerate(prior.parameters()):
        p.data = normal(*p.shape, seed=seed + 20)
    prior.counts = torch.rand(T, K, generator=generator(30)).double() * 20
    prior.mixing = torch.tensor(mixing, dtype=torch.float64)
    W, b = normal(T * c, d, seed=11), normal(T * c, seed=12)
    model = VectorQuantizedAutoencoder(
        linear(W, b),
        linear(torch.linalg.pinv(W), -torch.linalg.pinv(W) @ b),
        gaussian(0.8),
        Standardizer.identity(d),
        prior,
        codebook(normal(K, c, seed=15)),
        n_importance_samples,
    )
    model.noise = uniform(256, n_importance_samples, T, seed=16)
    model.temperature = torch.tensor(3.0, dtype=torch.float64)
    return model


def all_sequences(T: int, K: int) -> Tensor:
    """Every sequence of tokens, (K^T, T)."""
    return torch.tensor(list(itertools.product(range(K), repeat=T)))


def all_orders(levels: Any) -> Tensor:
    """Ranks of the places in every order that goes through levels from the top."""
    T = sum(levels)
    level = torch.repeat_interleave(torch.arange(len(levels)), torch.tensor(levels))
    ranks = torch.tensor(list(itertools.permutations(range(T))))
    places = ranks.argsort(1)
    return ranks[(level[places].diff(dim=1) >= 0).all(1)]


def token_log_mass(prior: Any, tokens: Tensor, condition: Any = None) -> Tensor:
    """Log p(k) of tokens (m, T): the mean over all orders, where there are some."""
    if not prior.has_order:
        found: Tensor = prior.log_prob(tokens, condition)
        return found
    orders = all_orders(prior.levels)
    each = [torch.cat([tokens, ranks.expand_as(tokens)], 1) for ranks in orders]
    masses = torch.stack([prior.log_prob(tokens, condition) for tokens in each])
    return masses.logsumexp(0) - math.log(len(each))


def exact_token_log_prob(model: Any, x: Tensor) -> Any:
    """log sum_k p(x|e_k) p(k) by enumeration, of rows of the user."""
    T, K = model.prior.counts.shape
    tokens = all_sequences(T, K)
    with torch.no_grad():
        scaled = model.standardizer(x)
        each = model.log_likelihood(
            Batch(scaled), tokens[:, None].expand(-1, len(x), -1)
        )
        total = (each + token_log_mass(model.prior, tokens)[:, None]).logsumexp(0)
        return total - model.standardizer.log_scale
