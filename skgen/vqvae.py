"""The vector-quantised autoencoder: several tokens a row, and a prior over them.

Tokens ``k_t = argmin_i ||z_e(x)_t - e_i||`` point into one codebook ``e``. As a
density, ``p(x) = sum_k p(x|e_k) p(k)`` over all token sequences, with a learned
autoregressive ``p(k)``; it is bounded by drawing tokens from a softmax posterior.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from skgen.covariance import squared_distances
from skgen.engine import Rows
from skgen.evaluation import BoundedModel
from skgen.likelihoods import Likelihood
from skgen.networks import Standardizer
from skgen.neural import NeuralModel
from skgen.objectives import TokenTerms, vq_loss
from skgen.parameters import Rules, integer, options, real
from skgen.prior_learning import code_usage, learn_prior
from skgen.priors import AutoregressivePrior, Categorical
from skgen.settings import estimator
from skgen.shared_docs import with_shared_docs
from skgen.tensors import check_tokens, one_hot, to_array, wide_dtype

# Part of the draws from q(k|x) that has a token from the unigrams. It bounds the
# importance weights where the softmax misses a code that explains the row.
EXPLORATION = 0.1


class VectorQuantizedAutoencoder(BoundedModel):
    """Encoder to T vectors, codebook, decoder, and a prior over tokens.

    ``latents``, ``posterior`` and ``log_likelihood`` see standardised rows;
    ``tokens``, ``decode``, ``log_prob`` and ``draw`` the rows of the user.
    """

    prior: AutoregressivePrior
    temperature: Tensor  # tau, of the posterior q(k|x)

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        standardizer: Standardizer,
        prior: AutoregressivePrior,
        codebook: Tensor,
        n_importance_samples: int,
    ) -> None:
        super().__init__(likelihood, standardizer)
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.codebook = nn.Parameter(codebook)  # e, (K, c)
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_noise(n_importance_samples)

    def standard_noise(
        self, shape: Sequence[int], generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw uniform noise (..., T)."""
        noise = self.codebook.new_empty(*shape, self.prior.n_tokens)
        return noise.uniform_(generator=generator)

    def set_rows(self, x: Tensor) -> None:
        """Start the codebook from encoded rows (n, d)."""
        super().set_rows(x)
        z = self.latents(x).flatten(0, 1)
        K, c = self.codebook.shape
        picks = torch.randperm(len(z)).repeat(-(-K // len(z)))[:K].to(z.device)
        # Codes that start from one vector must be able to part.
        jitter = 1e-3 * z.std(correction=0) * torch.randn(K, c).to(z)
        self.codebook.data = z[picks] + jitter

    def latents(self, x: Tensor) -> Tensor:
        """z_e(x), (n, T, c)."""
        return self.encoder(x).unflatten(-1, (self.prior.n_tokens, -1))

    def distances(self, z_e: Tensor) -> Tensor:
        """||z_e - e_k||^2, (n, T, K), of vectors (n, T, c)."""
        flat = squared_distances(self.codebook, z_e.flatten(0, 1))  # (K, n * T)
        return flat.T.unflatten(0, z_e.shape[:2])

    def nearest(self, z_e: Tensor) -> Tensor:
        """Tokens (n, T) of the codes nearest to z_e (n, T, c)."""
        return self.distances(z_e).argmin(-1)

    def assignments(self, z_e: Tensor) -> Categorical:
        """Tokens k with probability exp(-||z_e - e_k||^2 / tau), normalised."""
        logits = -self.distances(z_e) / self.temperature
        return Categorical(logits.log_softmax(-1))

    def posterior(self, x: Tensor) -> Categorical:
        """q(k|x) of rows (n, d): assignments, with a few unigrams among them."""
        explore = EXPLORATION / self.prior.n_tokens
        return Categorical(
            torch.logaddexp(
                self.assignments(self.latents(x)).log_probs + math.log1p(-explore),
                self.prior.log_unigrams + math.log(explore),
            )
        )

    def nearest_one_hot(self, z_e: Tensor) -> Tensor:
        """One-hot rows (n, T, K) of the nearest codes."""
        return F.one_hot(self.nearest(z_e), len(self.codebook)).to(z_e)

    def expected_one_hot(self, z_e: Tensor) -> Tensor:
        """q(k|x) as probabilities (n, T, K)."""
        return self.assignments(z_e).log_probs.exp()

    def log_likelihood_at(self, x: Tensor, z_q: Tensor) -> Tensor:
        """log p(x|z_q), (..., n), of rows (n, d) and code vectors (..., n, T, c)."""
        return self.likelihood.log_prob(self.decoder_outputs(z_q.flatten(-2)), x)

    def log_likelihood(self, x: Tensor, tokens: Tensor) -> Tensor:
        """log p(x|e_k), (S, n), of rows (n, d) and tokens (S, n, T)."""
        return self.log_likelihood_at(x, self.codebook[tokens])

    def tokens(self, x: Tensor) -> Tensor:
        """Tokens (n, T) of rows (n, d)."""
        return self.nearest(self.latents(self.view(x)))

    def encode(self, x: Tensor) -> Tensor:
        """Quantised vectors (n, T * c)."""
        return self.codebook[self.tokens(x)].flatten(1)

    def draw_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw vectors (n, T * c) of tokens from p(k)."""
        return self.codebook[self.prior.draw(n, generator)].flatten(1)

    @property
    def row_elements(self) -> int:
        """Numbers that one pass of a row holds: a distance to every code, or more."""
        return max(super().row_elements, self.prior.counts.numel())


@with_shared_docs
@estimator
class VQVAE(NeuralModel):
    """Vector-quantised autoencoder: a density with a code of discrete tokens.

    An encoder network gives ``n_tokens`` vectors, each is replaced by the nearest of
    ``codebook_size`` code vectors, and a decoder network gives p(x|codes). Trained
    with a straight-through gradient; then an autoregressive prior is learned over
    the tokens of a row, which are not independent. The score is an
    importance-weighted bound on ``log p(x) = log sum_k p(x|e_k) p(k)``, over tokens
    that are drawn from ``q(k|x)`` proportional to ``exp(-||z_e - e_k||^2 / tau)``,
    with a few unigrams among them, which keep the importance weights bounded.

    Parameters
    ----------
    codebook_size : int, default=64
        Number of code vectors, shared by all tokens.
    code_size : int, default=4
        Width of a code vector.
    n_tokens : int, default=8
        Tokens of a row.
    commitment_cost : float, default=0.25
        Weight of the term that keeps the encoder near the codes.
    encode : {"embedding", "ordinal", "onehot"}, default="embedding"
        What ``transform`` gives and ``inverse_transform`` takes: the code vectors,
        (n, n_tokens * code_size); token indices, (n, n_tokens); or a sparse one-hot
        row of each token, (n, n_tokens * codebook_size).
    {network parameters}

    Attributes
    ----------
    codebook_ : ndarray of shape (codebook_size, code_size)
        The code vectors.
    codebook_usage_ : ndarray of shape (codebook_size,)
        Part of the training rows' tokens that each code has.
    perplexity_ : float
        Exponential of the entropy of ``codebook_usage_``: codes in effective use.
    temperature_ : float
        tau, chosen on held-out rows.
    prior_curve_ : list of float
        Mean ``-log p(k)`` of the tokens of training rows, in nats, each epoch of the
        prior.
    prior_mixing_ : float
        Weight of the autoregressive network in the prior, against independent
        tokens; chosen on held-out rows.
    {network attributes}

    See Also
    --------
    KMeansAutoencoder : One token a row, and no networks.
    VAE : A continuous code.

    Notes
    -----
    A part ``validation_fraction`` of the rows trains neither the codebook nor the
    prior, whatever ``early_stopping`` is: it decides when the prior stops, how it is
    mixed with independent tokens, and tau. The prior trains in batches of "auto"
    size. The gradient from the decoder is copied to the encoder's output as in the
    paper.

    The gap between the score and log p(x) grows with the codebook: on digits, with 64
    importance samples against 5000, it is about 1 nat with 16 codes and 2 with 64.
    Where candidates are that close, compare :meth:`log_likelihood`.

    References
    ----------
    van den Oord, Vinyals & Kavukcuoglu, "Neural discrete representation learning",
    NeurIPS 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import VQVAE
    >>> X = load_wine().data
    >>> model = VQVAE(16, n_tokens=4, encode="ordinal", random_state=0).fit(X)
    >>> model.transform(X).shape
    (178, 4)
    >>> model.sample(2, random_state=0).shape
    (2, 13)
    """

    _parameters: ClassVar[Rules] = {
        **NeuralModel._parameters,
        "codebook_size": integer(1),
        "code_size": integer(1),
        "n_tokens": integer(1),
        "commitment_cost": real(0),
        "encode": options("embedding", "ordinal", "onehot"),
    }
    _architecture: ClassVar[tuple[str, ...]] = (
        *NeuralModel._architecture,
        "codebook_size",
        "code_size",
        "n_tokens",
    )
    _always_holds_out = True
    # The codes have to keep up with the encoder.
    _rates: ClassVar[dict[str, float]] = {"codebook": 10.0}

    codebook_size: int = 64
    _: KW_ONLY
    code_size: int = 4
    n_tokens: int = 8
    commitment_cost: float = 0.25
    encode: str = "embedding"

    def transform(self, X: ArrayLike) -> Any:
        """Encode rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        code : ndarray or csr_matrix of shape (n_samples, n_latent)
            Code vectors in the dtype of ``X``, token indices, or sparse one-hot
            rows, as ``encode`` says.
        """
        if self.encode == "embedding":
            return super().transform(X)
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        tokens = self._map(lambda model, x: model.tokens(x), X)
        if self.encode == "ordinal":
            return tokens
        return one_hot(tokens, len(self.codebook_), X.dtype)

    def _check_code(self, code: NDArray[Any]) -> NDArray[Any]:
        """Turn any code into code vectors (n, T * c)."""
        if self.encode == "embedding":
            return code
        K, T = len(self.codebook_), self.module_.prior.n_tokens
        if self.encode == "onehot":
            vectors = code.reshape(len(code), T, K) @ self.codebook_
            return vectors.reshape(len(code), -1).astype(code.dtype, copy=False)
        check_tokens(code, K)
        vectors = self.codebook_[code.astype(np.intp)]
        return vectors.reshape(len(code), -1).astype(code.dtype, copy=False)

    def _loss(self, module: Any, x: Tensor, noise: None, warmth: float) -> TokenTerms:
        return vq_loss(module, x, self.commitment_cost)

    def _noise(self, module: Any, n: int, generator: torch.Generator) -> None:
        return None

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> VectorQuantizedAutoencoder:
        K, T, c = self.codebook_size, self.n_tokens, self.code_size
        encoder, decoder = self._networks(n_features, T * c, T * c, likelihood)
        return VectorQuantizedAutoencoder(
            encoder,
            decoder,
            likelihood,
            standardizer,
            AutoregressivePrior(T, K),
            torch.randn(K, c),
            self.n_importance_samples,
        )

    def _finish(
        self,
        train: Rows,
        held_out: Rows | None,
        generator: torch.Generator,
        *,
        incremental: bool,
    ) -> None:
        model = self.module_
        history = learn_prior(
            model,
            train,
            held_out,
            generator,
            learning_rate=self.learning_rate_init,
            max_iter=1 if incremental else self.max_iter,
            tol=self.tol,
            patience=self._patience(len(train.x)),
            keep_counts=incremental,
        )
        before = getattr(self, "prior_curve_", []) if incremental else []
        self.prior_curve_ = [*before, *history.curves["loss"]]
        if history.status == "diverged":
            self._warn(history)
        self.codebook_ = to_array(model.codebook).copy()
        self.temperature_ = float(model.temperature)
        self.prior_mixing_ = float(model.prior.mixing)
        usage = code_usage(model, train)
        self.codebook_usage_ = to_array(usage)
        self.perplexity_ = float(torch.special.entr(usage.cpu()).sum().exp())

    def _tensor_dtype(self, dtype: np.dtype[Any]) -> torch.dtype:
        """Wide, so that no token depends on how a sum over a chunk was rounded."""
        return wide_dtype(torch.device(self.device_))

    @property
    def _n_features_out(self) -> int:
        T, (K, c) = self.module_.prior.n_tokens, self.codebook_.shape
        width: int = T * {"embedding": c, "ordinal": 1, "onehot": K}[self.encode]
        return width

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.encode != "embedding":
            tags.transformer_tags.preserves_dtype = []
        return tags
