"""The vector-quantised autoencoder: several tokens per row, and a prior over them.

Tokens ``k_t = argmin_i ||z_e(x)_t - e_i||`` point into one codebook ``e``. As a
density, ``p(x) = sum_k p(x|e_k) p(k)`` over all token sequences, with a learned
autoregressive ``p(k)``; it is bounded by drawing tokens from a softmax posterior.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import KW_ONLY
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from skgen._networks.codebooks import (
    CodeAverages,
    Codebook,
    code_sums,
    follow,
    pick,
    revive,
    rotated,
    straight_through,
)
from skgen._networks.dense import Standardizer, is_mlp
from skgen._networks.images import grid_shape
from skgen._networks.proposals import TokenProposal, WithPrior
from skgen._networks.token_priors import (
    AutoregressivePrior,
    TokenPrior,
    TransformerPrior,
)
from skgen._training.adam import StepRule
from skgen._training.batches import Batch
from skgen._training.data import StoredRows, WeightedRows
from skgen._training.driver import Steps, quietly
from skgen._utils.parameters import (
    LARGEST_STEP,
    attribute,
    estimator,
    integer,
    options,
    parameter,
    real,
)
from skgen._utils.tensors import (
    check_tokens,
    draw_seed,
    make_generator,
    one_hot,
    to_array,
    wide_dtype,
)
from skgen.likelihoods import Likelihood
from skgen.models.base import FitCallbacks
from skgen.models.building import image_networks, networks
from skgen.models.evaluation import BoundedModel
from skgen.models.neural import NeuralModel
from skgen.models.planning import TrainingPlan
from skgen.models.prior_learning import encoded, learn_prior, token_usage
from skgen.models.reporting import print_epoch, warn_of_end
from skgen.models.vae import VAE
from skgen.objectives import EncodedTerms, TokenLoss
from skgen.priors import Categorical

# Part of the draws from q(k|x) that has a token from the unigrams. It bounds the
# importance weights where the softmax misses a code that explains the row.
EXPLORATION = 0.1
# Least log-probability of a token: of less, float32 has the exponential as a denormal
# number, which takes ten times as long.
LOG_TINY = -87.0
# How messages name the second descent of a fit.
PRIOR = ", prior over tokens"
# Rows that the codebook starts from, at most.
START_ROWS = 4096
# How the gradient comes from a code to the vector that it replaces.
GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rotation": rotated,
    "straight-through": straight_through,
}
PRIORS: dict[str, type[TokenPrior]] = {
    "nade": AutoregressivePrior,
    "transformer": TransformerPrior,
}


class FollowCodes(NamedTuple):
    """Keep the averages of a codebook, and revive dead codes, after each step."""

    codebook_size: int
    moves: bool  # whether the code vectors are these averages

    @property
    def changes(self) -> tuple[str, ...]:
        """Names of the buffers that are changed."""
        return ("codebook.shares", "codebook.mass")

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw what picks vectors for dead codes."""
        K, device = self.codebook_size, generator.device
        return torch.rand(K, generator=generator, device=device)

    @torch.no_grad()
    def __call__(
        self, model: Any, terms: EncodedTerms, weight: Tensor | None, noise: Tensor
    ) -> None:
        """Follow the vectors of a step's rows, and their weights or None."""
        given = () if weight is None else (weight,)
        averages = model.followed(terms.z_e, noise, *given, moves=self.moves)
        model.codebook.set_averages(averages)


class VectorQuantizedAutoencoder(BoundedModel):
    """Encoder to T vectors, codebook, decoder, and a prior over tokens.

    ``latents``, ``posterior`` and ``log_likelihood`` see standardised rows;
    ``tokens``, ``decode``, ``log_prob`` and ``draw`` the rows of the user.
    """

    prior: TokenPrior
    temperature: Tensor  # tau, of the posterior q(k|x)

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        standardizer: Standardizer,
        prior: TokenPrior,
        codebook: Codebook,
        n_importance_samples: int,
    ) -> None:
        super().__init__(likelihood, standardizer)
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.codebook = codebook
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_noise(n_importance_samples)

    def stacks(self) -> bool:
        """Return whether the networks are plain."""
        networks = is_mlp(self.encoder) and is_mlp(self.decoder)
        return type(self) is VectorQuantizedAutoencoder and networks

    def standard_noise(
        self, shape: Sequence[int], generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw uniform noise (..., T)."""
        noise = self.codebook.vectors.new_empty(*shape, self.prior.n_tokens)
        return noise.uniform_(generator=generator)

    def set_rows(self, x: Tensor) -> None:
        """Start the codebook from encoded rows (n, d)."""
        super().set_rows(x)
        picks = torch.randperm(len(x))[:START_ROWS].to(x.device)
        seed = int(torch.randint(2**31 - 1, ()))
        z = self.latents(Batch(x[picks])).flatten(0, 1)
        self.codebook.start(z, make_generator(seed, torch.device("cpu")))

    def latents(self, batch: Batch) -> Tensor:
        """z_e(x), (n, T, c)."""
        z_e = self.encoder_outputs(batch.x).unflatten(-1, (self.prior.n_tokens, -1))
        return self.codebook.project(z_e)

    def followed(
        self, z: Tensor, uniform: Tensor, weight: Tensor | None = None, *, moves: bool
    ) -> CodeAverages:
        """Averages of the codebook, brought up to the vectors (n, T, c) of a step.

        ``moves`` says that code vectors are these averages. Those that are dead go to
        vectors of the batch that the noise (K,) picks.
        """
        before = self.codebook.averages
        tokens = self.codebook.nearest(z).flatten()
        if weight is not None:
            weight = weight.repeat_interleave(z.shape[1])
        z = z.flatten(0, 1)
        state = follow(before, *code_sums(z, tokens, weight, len(self.codebook)))
        if not moves:
            state = state._replace(vectors=before.vectors)
        return revive(state, pick(z, uniform))

    def token_log_prob(self, z_e: Tensor, uniform: Tensor) -> Tensor:
        """Log p(k), (n,), of the prior's network, of tokens drawn for vectors z_e.

        From noise (1, n, T).
        """
        tokens = self.assignments(z_e).draw(uniform)[0]
        return self.prior.token_log_probs(tokens)[0].sum(-1)

    def assignments(self, z_e: Tensor) -> Categorical:
        """Tokens k with probability exp(-||z_e - e_k||^2 / tau), normalised."""
        logits = -self.codebook.distances(z_e) / self.temperature
        return Categorical(logits.log_softmax(-1).clamp(min=LOG_TINY))

    def posterior(self, batch: Batch) -> Categorical:
        """q(k|x) of rows (n, d): assignments, with a few unigrams among them."""
        explore = EXPLORATION / self.prior.n_tokens
        return Categorical(
            torch.logaddexp(
                self.assignments(self.latents(batch)).log_probs + math.log1p(-explore),
                self.prior.log_unigrams + math.log(explore),
            )
        )

    def set_learns_incomplete(self, holds: bool) -> None:
        """Say that no proposal is trained with the networks: rows are completed."""
        super().set_learns_incomplete(False)

    def proposed(self, batch: Batch) -> WithPrior:
        """Density that tokens of incomplete rows (n, d) are drawn from."""
        assert self.proposal is not None
        explore = EXPLORATION / self.prior.n_tokens
        inputs = self.likelihood.sparse_inputs(batch.x)
        found: WithPrior = self.proposal(inputs, self.prior, explore)
        return found

    def simulated_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw tokens (n, T) from p(k)."""
        return self.prior.draw(n, generator)

    def nearest_one_hot(self, z_e: Tensor) -> Tensor:
        """One-hot rows (n, T, K) of the nearest codes."""
        return F.one_hot(self.codebook.nearest(z_e), len(self.codebook)).to(z_e)

    def expected_one_hot(self, z_e: Tensor) -> Tensor:
        """q(k|x) as probabilities (n, T, K)."""
        return self.assignments(z_e).log_probs.exp()

    def quantise(self, z_e: Tensor) -> Tensor:
        """Nearest code vectors (n, T, c) of vectors z_e."""
        found: Tensor = self.codebook(self.codebook.nearest(z_e))
        return found

    def log_likelihood_at(self, batch: Batch, z_q: Tensor) -> Tensor:
        """log p(x|z_q), (..., n), of rows (n, d) and code vectors (..., n, T, c)."""
        outputs = self.decoder_outputs(z_q.flatten(-2))
        return self.likelihood.log_prob(outputs, batch.x)

    def outputs_of(self, tokens: Tensor) -> Tensor:
        """Decode tokens (..., n, T), to outputs (..., n, p)."""
        return self.decoder_outputs(self.codebook(tokens).flatten(-2))

    def tokens(self, x: Tensor) -> Tensor:
        """Tokens (n, T) of rows (n, d): of incomplete ones, those that are likely."""
        whole = self.scored(x, None)
        if self.proposal is None:
            return self.codebook.nearest(self.latents(whole))

        def found(batch: Batch, q: Any) -> Tensor:
            if isinstance(q, WithPrior):
                mode: Tensor = q.proposal.mode(len(batch.x))
                return mode
            return self.codebook.nearest(self.latents(batch))

        return self.by_completeness(whole, found)

    def encode(self, x: Tensor) -> Tensor:
        """Quantised vectors (n, T * c)."""
        found: Tensor = self.codebook(self.tokens(x)).flatten(1)
        return found

    def draw_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw vectors (n, T * c) of tokens from p(k)."""
        found: Tensor = self.codebook(self.prior.draw(n, generator)).flatten(1)
        return found

    @property
    def row_work(self) -> int:
        """Multiplications that one pass of a row takes, with those of the prior."""
        return super().row_work + self.prior.row_work

    @property
    def row_elements(self) -> int:
        """Numbers that one pass of a row holds: a distance to every code, or more."""
        proposal: Any = self.proposal
        more = 0 if proposal is None else proposal.row_elements
        return max(super().row_elements, self.prior.row_elements, more)

    @property
    def score_elements(self) -> int:
        """Numbers that scoring one row holds: every draw goes through the prior."""
        return self.noise.shape[1] * self.row_elements


@estimator
class VQVAE(NeuralModel):
    """Vector-quantised autoencoder: a density with a code of discrete tokens.

    An encoder network gives several vectors, each is replaced by the nearest of
    ``codebook_size`` code vectors, and a decoder network gives p(x|codes). The codes
    start from K-means, and dead ones are revived while they are trained; then an
    autoregressive prior is learned over the tokens of a row, which are not
    independent. The score is an importance-weighted bound on
    ``log p(x) = log sum_k p(x|e_k) p(k)``, over tokens that are drawn from ``q(k|x)``
    proportional to ``exp(-||z_e - e_k||^2 / tau)``, with a few unigrams among them,
    which keep the importance weights bounded.

    Parameters
    ----------
    codebook_size : int, default=64
        Number of code vectors, shared by all tokens.
    code_size : int, default=4
        Width of a code vector.
    n_tokens : int, default=8
        Tokens of a row. With ``architecture="conv"`` the image decides: a grid with a
        token at each place, 7 x 7 for images of 28 x 28.
    codebook_update : {"gradient", "ema"}, default="gradient"
        How code vectors learn: by the gradient of their squared distance to the
        vectors that they replace, at ten times the learning rate; or as exponential
        moving averages of these vectors, which no learning rate concerns.
    distance : {"euclidean", "cosine"}, default="euclidean"
        What is nearest. Cosine puts vectors and codes on the unit sphere.
    gradient : {"rotation", "straight-through"}, default="rotation"
        How the decoder's gradient comes from a code to the vector that it replaced:
        turned back by the rotation, and scaled by the ratio of lengths, that takes
        the vector to the code (Fifty et al. 2025); or copied (van den Oord et al.
        2017).
    commitment_cost : float, default=0.25
        Weight of the term that keeps the encoder near the codes.
    prior : {"auto", "nade", "transformer"}, default="auto"
        Autoregressive network over the tokens: "nade" has weights of its own for each
        place; "transformer" shares them, for many tokens. "auto" is the transformer
        with ``architecture="conv"``.
    encode : {"embedding", "ordinal", "onehot"}, default="embedding"
        What ``transform`` gives and ``inverse_transform`` takes: the code vectors,
        (n, n_tokens * code_size); token indices, (n, n_tokens); or a sparse one-hot
        row of each token, (n, n_tokens * codebook_size).
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
    codebook_ : ndarray of shape (codebook_size, code_size)
        The code vectors.
    grid_shape_ : tuple of int
        Shape of a row's tokens, in the order of ``transform``: (height, width) with
        ``architecture="conv"``, otherwise (n_tokens,).
    codebook_usage_ : ndarray of shape (codebook_size,)
        Part of the training rows' tokens that each code has.
    perplexity_ : float
        Exponential of the entropy of ``codebook_usage_``: codes in effective use. On
        other rows, :func:`skgen.metrics.codebook_perplexity` of their tokens.
    temperature_ : float
        tau, chosen on held-out rows.
    prior_curve_ : list of float
        Mean ``-log p(k)`` of the tokens of training rows, in nats, each epoch of the
        prior.
    best_prior_epoch_ : int
        Epoch of the prior whose weights were kept, counted from 1; 0 where none was
        better than the start.
    prior_mixing_ : float
        Weight of the autoregressive network in the prior, against independent
        tokens; chosen on held-out rows.
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
    KMeansAutoencoder : One token per row, and no networks.
    VAE : A continuous code.

    Notes
    -----
    A part ``validation_fraction`` of the rows trains neither the codebook nor the
    prior, whatever ``early_stopping`` is: it decides when the prior stops, how it is
    mixed with independent tokens, and tau. A code is dead when it has less than a
    tenth of an equal share of the vectors, over the last steps; it is put on a random
    vector of the batch.

    Where the likelihood allows missing cells, those of the rows of ``fit`` are drawn,
    given the others of their row, from a :class:`VAE` that is fitted to them first.

    Ctrl-C ends the descent that is running: that of the networks, after which the prior
    is still learned, or that of the prior, which keeps what it has learned.

    The gap between the score and log p(x) grows with the codebook: on digits, with 64
    importance samples against 5000, it is about 1 nat with 16 codes and 2 with 64.
    Where candidates are that close, compare :meth:`log_likelihood`.

    References
    ----------
    van den Oord, Vinyals & Kavukcuoglu, "Neural discrete representation learning",
    NeurIPS 2017. Fifty et al., "Restructuring vector quantization with the rotation
    trick", ICLR 2025.

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

    codebook_: NDArray[Any] = attribute()
    grid_shape_: tuple[int, ...] = attribute()
    codebook_usage_: NDArray[Any] = attribute()
    perplexity_: float = attribute()
    temperature_: float = attribute()
    prior_curve_: list[float] = attribute()
    best_prior_epoch_: int = attribute()
    prior_mixing_: float = attribute()

    _always_holds_out = True
    _goes_on_from: ClassVar[Mapping[str, type]] = {
        **NeuralModel._goes_on_from,
        "prior_curve_": list,
    }
    # The codes have to keep up with the encoder.
    _rates: ClassVar[dict[str, float]] = {
        **NeuralModel._rates,
        "codebook.vectors": 10.0,
    }

    codebook_size: int = parameter(integer(1), default=64, builds=True)
    _: KW_ONLY
    code_size: int = parameter(integer(1), default=4, builds=True)
    n_tokens: int = parameter(integer(1), default=8, builds=True)
    codebook_update: Literal["ema", "gradient"] = parameter(
        options("ema", "gradient"), default="gradient"
    )
    distance: Literal["euclidean", "cosine"] = parameter(
        options("euclidean", "cosine"), default="euclidean", builds=True
    )
    gradient: Literal["rotation", "straight-through"] = parameter(
        options(*GRADIENTS), default="rotation"
    )
    commitment_cost: float = parameter(real(0, LARGEST_STEP), default=0.25)
    prior: Literal["auto", "nade", "transformer"] = parameter(
        options("auto", *PRIORS), default="auto", builds=True
    )
    encode: Literal["embedding", "ordinal", "onehot"] = parameter(
        options("embedding", "ordinal", "onehot"), default="embedding"
    )

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
        encode = self._current("encode")
        if encode == "embedding":
            return super().transform(X)
        check_is_fitted(self)
        X = self._validate_rows(X, reset=False)
        tokens = self._map(lambda model, x: model.tokens(x), X)
        if encode == "ordinal":
            return tokens
        return one_hot(tokens, len(self.codebook_), X.dtype)

    def _check_code(self, code: NDArray[Any]) -> NDArray[Any]:
        """Turn any code into code vectors (n, T * c)."""
        encode = self._current("encode")
        if encode == "embedding":
            return code
        K, T = len(self.codebook_), self.module_.prior.n_tokens
        if encode == "onehot":
            vectors = code.reshape(len(code), T, K) @ self.codebook_
            found: NDArray[Any] = vectors.reshape(len(code), -1).astype(
                code.dtype, copy=False
            )
            return found
        check_tokens(code, K)
        vectors = self.codebook_[code.astype(np.intp)]
        return vectors.reshape(len(code), -1).astype(code.dtype, copy=False)

    @property
    def _objective(self) -> TokenLoss:
        codebook_cost = 1.0 if self.codebook_update == "gradient" else 0.0
        through = GRADIENTS[self.gradient]
        return TokenLoss(self.commitment_cost, codebook_cost, through)

    def _noise(self, module: Any, n: int, generator: torch.Generator) -> None:
        return None

    @property
    def _update(self) -> FollowCodes:
        return FollowCodes(
            len(self.module_.codebook), moves=self.codebook_update == "ema"
        )

    @property
    def _stack_key(self) -> Hashable:
        return "VQVAE"

    def _grid_shape(self, n_features: int) -> tuple[int, ...]:
        """Shape of the tokens of a row."""
        if self._fitted("architecture") == "conv":
            images = image_networks(self, n_features)
            return grid_shape(images.height, images.width)
        return (self._fitted("n_tokens"),)

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> VectorQuantizedAutoencoder:
        K, c = self.codebook_size, self.code_size
        T = math.prod(self._grid_shape(n_features))
        factories = None
        if self.architecture == "conv":
            images = image_networks(self, n_features)
            factories = images.grid_encoder, images.grid_decoder
        widths = n_features, T * c, T * c
        encoder, decoder = networks(self, widths, likelihood, factories)
        prior = self.prior
        if prior == "auto":
            prior = "transformer" if self.architecture == "conv" else "nade"
        module = VectorQuantizedAutoencoder(
            encoder,
            decoder,
            likelihood,
            standardizer,
            PRIORS[prior](T, K),
            Codebook(K, c, self.distance),
            self.n_importance_samples,
        )
        if likelihood.allows_missing:
            n_inputs = likelihood.encoder_width(n_features)
            module.set_proposal(TokenProposal(n_inputs, T, K))
        return module

    def _fit(
        self,
        x: StoredRows,
        weight: Tensor | None,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
    ) -> Steps:
        if self._has_missing(x):
            x = yield from self._completed(x, weight, draw_seed(rng))
        yield from super()._fit(x, weight, rng, callbacks)

    def _completed(
        self, x: StoredRows, weight: Tensor | None, seed: int
    ) -> Generator[Any, Any, StoredRows]:
        """Draw the missing cells of training rows, given the others, from a VAE.

        There is no bound to train tokens of incomplete rows by: the nearest code is
        one of many that explain such a row, and the prior over codes would learn of
        that one alone.
        """
        rows = to_array(x.in_memory().x)
        model = VAE(
            likelihood=self.likelihood,
            max_iter=self.max_iter,
            batch_size=self.batch_size,
            standardize=self.standardize,
            device=self.device,
            random_state=seed,
        )
        weights = None if weight is None else to_array(weight)
        yield from quietly(model._steps(rows, None, weights), ConvergenceWarning)
        return self._place(model.impute(rows, noise=True, random_state=seed), x.device)

    def _reset_curves(self) -> None:
        super()._reset_curves()
        self.prior_curve_: list[float] = []
        self.best_prior_epoch_ = 0

    def _finish(
        self,
        plan: TrainingPlan,
        train: WeightedRows,
        held_out: WeightedRows | None,
        generator: torch.Generator,
    ) -> Steps:
        model, incremental = self.module_, plan.incremental
        history, usage = yield from learn_prior(
            model,
            train,
            held_out,
            generator,
            StepRule(
                self.learning_rate_init, self.learning_rate, execution=self.execution
            ),
            max_iter=plan.max_iter,
            tol=self.tol,
            patience=plan.patience,
            keep_counts=incremental,
            batch_size=plan.batch_size,
            report=(
                partial(print_epoch, self, part=PRIOR)
                if self.verbose and not incremental
                else None
            ),
            cache_key=self._cache_key,
        )
        if history.best_epoch >= 0:
            self.best_prior_epoch_ = len(self.prior_curve_) + history.best_epoch + 1
        self.prior_curve_ = [*self.prior_curve_, *history.curves.get("loss", [])]
        if model.proposal is not None and not incremental:
            model.proposal.start_from(model.prior)
        yield from plan.learn_proposal(generator)
        if not incremental or history.status == "diverged":
            warn_of_end(self, history, PRIOR)
        self.__dict__.update(self._of_tokens(usage, train.shape[1]))

    def _of_tokens(self, usage: Tensor, n_features: int) -> dict[str, Any]:
        """Return what describes a codebook, its prior, and the usage (K,) of codes."""
        model = self.module_
        codes = torch.arange(len(model.codebook), device=usage.device)
        return {
            "codebook_": to_array(model.codebook(codes)).copy(),
            "grid_shape_": self._grid_shape(n_features),
            "temperature_": float(model.temperature),
            "prior_mixing_": float(model.prior.mixing),
            "codebook_usage_": to_array(usage),
            "perplexity_": float(torch.special.entr(usage.cpu()).sum().exp()),
        }

    def _described(self, train: WeightedRows) -> dict[str, Any]:
        usage = token_usage(self.module_, encoded(self.module_, train))
        return self._of_tokens(usage, train.shape[1])

    def _tensor_dtype(self, dtype: np.dtype[Any]) -> torch.dtype:
        """Wide, so that no token depends on how a sum over a chunk was rounded."""
        return wide_dtype(torch.device(self.device_))

    @property
    def _n_features_out(self) -> int:
        T, (K, c) = self.module_.prior.n_tokens, self.codebook_.shape
        widths = {"embedding": c, "ordinal": 1, "onehot": K}
        width: int = T * widths[self._current("encode")]
        return width

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.encode != "embedding":
            tags.transformer_tags.preserves_dtype = []
        return tags
