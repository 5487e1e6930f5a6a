"""The vector-quantised autoencoder: several tokens per row, and a prior over them.

Tokens ``k_t = argmin_i ||z_e(x)_t - e_i||`` point into one codebook ``e``. As a
density, ``p(x) = sum_k p(x|e_k) p(k)`` over all token sequences, with a learned
``p(k)``, autoregressive or masked; it is bounded by drawing tokens from a softmax
posterior.
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
    Codebooks,
    rotated,
    straight_through,
)
from skgen._networks.dense import Standardizer, is_mlp
from skgen._networks.images import grid_shape
from skgen._networks.proposals import TokenProposal, WithPrior
from skgen._networks.token_priors import (
    AnyOrderPrior,
    AutoregressivePrior,
    MaskedPrior,
    RandomOrderPrior,
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
from skgen._utils.reduce import alone, rank
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
from skgen.objectives import (
    EncodedTerms,
    TokenLoss,
    importance_weighted_bound,
    log_weights,
)
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
PRIORS: dict[str, Callable[..., TokenPrior]] = {
    "nade": AutoregressivePrior,
    "transformer": TransformerPrior,
    "nade, masked": AnyOrderPrior,
    "transformer, masked": MaskedPrior,
}


class FollowCodes(NamedTuple):
    """Keep the averages of a codebook, and revive dead codes, after each step."""

    codebook_size: int
    moves: bool  # whether the code vectors are these averages
    codebooks: tuple[str, ...] = ("codebook",)  # their names

    @property
    def changes(self) -> tuple[str, ...]:
        """Names of the buffers that are changed."""
        return tuple(
            f"{name}.{part}" for name in self.codebooks for part in ("shares", "mass")
        )

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw what picks vectors for dead codes."""
        K, device = self.codebook_size, generator.device
        return torch.rand(K, generator=generator, device=device)

    @torch.no_grad()
    def __call__(
        self, model: Any, terms: EncodedTerms, batch: Batch, noise: Tensor
    ) -> None:
        """Follow the vectors of a step's rows."""
        given = () if batch.weight is None else (batch.weight,)
        share = {} if batch.share is None else {"share": batch.share}
        averages = model.followed(terms.z_e, noise, *given, moves=self.moves, **share)
        model.codebook.set_averages(averages)


def mean_error(distances: Tensor) -> Tensor:
    """Return the mean of the least of distances (..., K), and never zero."""
    error = distances.amin(-1)
    # Rows whose squares overflow do not decide.
    return error[error.isfinite()].mean().nan_to_num(1.0).clamp(min=1e-12)


def explored(log_probs: Tensor, log_unigrams: Tensor, explore: float) -> Tensor:
    """Mix log-probabilities (..., T, K) with a part of the unigrams (T, K)."""
    return torch.logaddexp(
        log_probs + math.log1p(-explore), log_unigrams + math.log(explore)
    )


class InOrder(NamedTuple):
    """A density of tokens, with an order of their places beside them.

    All orders are equally probable here and under the prior, so that their number is
    left out of both.
    """

    tokens: Any  # a Categorical, or another density of tokens (S, n, T)
    prior: RandomOrderPrior

    def draw(self, uniform: Tensor) -> Tensor:
        """Draw tokens and ranks (S, n, 2 T) from uniform noise (S, n, 2 T) or more."""
        T = self.prior.n_tokens
        ranks = self.prior.ranks(uniform[..., T : 2 * T])
        return torch.cat([self.tokens.draw(uniform[..., :T]), ranks], dim=-1)

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Log-mass (S, n) of tokens (S, n, T), whatever their order."""
        found: Tensor = self.tokens.log_prob(tokens[..., : self.prior.n_tokens])
        return found


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
        codebook: Codebook | Codebooks,
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
        plain = type(self) is VectorQuantizedAutoencoder and not self.prior.has_order
        return plain and networks

    def standard_noise(
        self, shape: Sequence[int], generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw uniform noise (..., T), or as much as tokens and their order take."""
        noise = self.temperature.new_empty(*shape, self.prior.n_noise)
        return noise.uniform_(generator=generator)

    def set_rows(self, x: Tensor) -> None:
        """Start the codebook from encoded rows (n, d)."""
        super().set_rows(x)
        picks = torch.randperm(len(x))[:START_ROWS].to(x.device)
        seed = int(torch.randint(2**31 - 1, ()))
        cpu = torch.device("cpu")
        self.start_codebook(Batch(x[picks]), make_generator(seed, cpu))

    def start_codebook(self, batch: Batch, generator: torch.Generator) -> None:
        """Start the codebook from the vectors of rows."""
        assert isinstance(self.codebook, Codebook)
        self.codebook.start(self.latents(batch).flatten(0, 1), generator)

    def encoded(self, batch: Batch) -> Tensor:
        """Encode rows (n, d) by the encoder alone, to (n, T, c)."""
        z_e = self.encoder_outputs(batch.x).unflatten(-1, (self.prior.n_tokens, -1))
        return self.codebook.project(z_e)

    def resolved(self, encoded: Tensor) -> Tensor:
        """Return the vectors z_e (n, T, c) of what the encoder gives."""
        return encoded

    def latents(self, batch: Batch) -> Tensor:
        """z_e(x), (n, T, c)."""
        return self.resolved(self.encoded(batch))

    def followed(
        self, z: Tensor, uniform: Tensor, weight: Tensor | None = None, **how: Any
    ) -> CodeAverages | list[CodeAverages]:
        """Averages of the codebook, brought up to the vectors (n, T, c) of a step."""
        return self.codebook.followed(z, uniform, weight, **how)

    def token_log_prob(
        self, encoded: Tensor, uniform: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """Log p(k), (n,), of the prior's network, of tokens drawn for encoded rows.

        From noise (1, n, T); ``context`` (n, m) is what rows are conditioned on.
        """
        tokens = self.in_order(self.assignments(encoded)).draw(uniform)[0]
        condition = self.condition_of(context)
        return self.prior.learned_log_prob(tokens, uniform[0], condition)

    def token_log_probs(
        self, encoded: Tensor, uniform: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities (S, n, T) of each token, of the network and the unigrams.

        Of tokens that are drawn for encoded rows from noise (S, n, T).
        """
        tokens = self.in_order(self.assignments(encoded)).draw(uniform)
        return self.prior.token_log_probs(tokens, self.condition_of(context))

    def condition_of(self, context: Tensor | None) -> Tensor | None:
        """Return what the prior sees (n, c) of a context: nothing."""
        return None

    def in_order(self, q: Any) -> Any:
        """Return a density of tokens, with their order where the prior has one."""
        prior = self.prior
        return InOrder(q, prior) if isinstance(prior, RandomOrderPrior) else q

    @property
    def explore(self) -> float:
        """Part of the tokens that are drawn from the unigrams."""
        return EXPLORATION / self.prior.n_tokens

    def log_assignments(self, distances: Tensor) -> Tensor:
        """Log-probabilities exp(-||z_e - e_k||^2 / tau), normalised, (..., K)."""
        logits = -distances / self.temperature
        return logits.log_softmax(-1).clamp(min=LOG_TINY)

    def assignments(self, encoded: Tensor) -> Any:
        """Tokens k of encoded rows with probability exp(-||z_e - e_k||^2 / tau)."""
        return Categorical(self.log_assignments(self.codebook.distances(encoded)))

    def tokens_given(self, encoded: Tensor) -> Any:
        """q(k|x) of encoded rows: assignments, with a few unigrams among them."""
        log_probs = self.assignments(encoded).log_probs
        return Categorical(explored(log_probs, self.prior.log_unigrams, self.explore))

    def posterior(self, batch: Batch) -> Any:
        """q(k|x) of rows (n, d), with the order of the tokens where there is one."""
        return self.in_order(self.tokens_given(self.encoded(batch)))

    def bound(self, batch: Batch) -> Tensor:
        """Importance-weighted bound on log p of standardised rows, (n,)."""
        return importance_weighted_bound(log_weights(self, batch))

    def error_scale(self, batch: Batch) -> Tensor:
        """Return the mean squared distance of vectors from their codes, ()."""
        return mean_error(self.codebook.distances(self.latents(batch)))

    def set_learns_incomplete(self, holds: bool) -> None:
        """Say that no proposal is trained with the networks: rows are completed."""
        super().set_learns_incomplete(False)

    def proposed(self, batch: Batch) -> Any:
        """Density that tokens of incomplete rows (n, d) are drawn from."""
        assert self.proposal is not None
        inputs = self.likelihood.sparse_inputs(batch.x)
        return self.in_order(self.proposal(inputs, self.prior, self.explore))

    def simulated_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw tokens (n, T) from p(k)."""
        return self.prior.draw(n, generator)

    def nearest_one_hot(self, encoded: Tensor) -> Tensor:
        """One-hot rows (n, T, K) of the nearest codes."""
        tokens = self.codebook.nearest(self.resolved(encoded))
        return F.one_hot(tokens, len(self.codebook)).to(encoded)

    def usage_of(self, counts: Tensor) -> Tensor:
        """Return the part of tokens that each code has, (K,), from counts (T, K)."""
        return (counts.sum(0) / counts.sum()).float()

    def expected_one_hot(self, encoded: Tensor) -> Tensor:
        """q(k|x) as probabilities (n, T, K)."""
        distances = self.codebook.distances(self.resolved(encoded))
        return self.log_assignments(distances).exp()

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
        tokens = tokens[..., : self.prior.n_tokens]  # without their order
        return self.decoder_outputs(self.codebook(tokens).flatten(-2))

    def tokens(self, x: Tensor) -> Tensor:
        """Tokens (n, T) of rows (n, d): of incomplete ones, those that are likely."""
        whole = self.scored(x, None)
        if self.proposal is None:
            return self.codebook.nearest(self.latents(whole))

        def found(batch: Batch, q: Any) -> Tensor:
            q = q.tokens if isinstance(q, InOrder) else q
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
    start from K-means, and dead ones are revived while they are trained; then a prior
    is learned over the tokens of a row, which are not independent. The score is an
    importance-weighted bound on
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
    prior : {"auto", "nade", "transformer", "masked"}, default="auto"
        Network over the tokens. Autoregressive: "nade" has weights of its own for each
        place; "transformer" shares them, for many tokens. In random order: "masked",
        which gives every token from any others; a transformer that draws several at
        once with ``architecture="conv"``, else weights for each place. "auto" is
        "transformer" with ``architecture="conv"``, else "nade".
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
        Weight of the network in the prior, against independent tokens; chosen on
        held-out rows.
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

    ``prior="masked"``: Hoogeboom et al., "Autoregressive diffusion models", ICLR 2022;
    Chang et al., "MaskGIT: masked generative image transformer", CVPR 2022; and Austin
    et al., "Structured denoising diffusion models in discrete state-spaces", NeurIPS
    2021, whose absorbing diffusion in continuous time has the same bound.

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

    _fits_together = True
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
    prior: Literal["auto", "nade", "transformer", "masked"] = parameter(
        options("auto", "nade", "transformer", "masked"), default="auto", builds=True
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
        return one_hot(tokens, self.codebook_.shape[-2], X.dtype)

    def _check_code(self, code: NDArray[Any]) -> NDArray[Any]:
        """Turn any code into code vectors (n, T * c)."""
        encode = self._current("encode")
        if encode == "embedding":
            return code
        K, T = self.codebook_.shape[-2], self.module_.prior.n_tokens
        if encode == "onehot":
            vectors = self._mixed_vectors(code.reshape(len(code), T, K))
        else:
            check_tokens(code, K)
            vectors = self._vectors_of(code.astype(np.intp))
        found: NDArray[Any] = vectors.reshape(len(code), -1)
        return found.astype(code.dtype, copy=False)

    def _vectors_of(self, tokens: NDArray[np.intp]) -> NDArray[Any]:
        """Look up the code vectors (n, T, c) of tokens (n, T)."""
        found: NDArray[Any] = self.codebook_[tokens]
        return found

    def _mixed_vectors(self, weight: NDArray[Any]) -> NDArray[Any]:
        """Sum up code vectors, (n, T, c), by their weights (n, T, K)."""
        found: NDArray[Any] = weight @ self.codebook_
        return found

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
        module = VectorQuantizedAutoencoder(
            encoder,
            decoder,
            likelihood,
            standardizer,
            self._new_prior([T]),
            Codebook(K, c, self.distance),
            self.n_importance_samples,
        )
        if likelihood.allows_missing:
            n_inputs = likelihood.encoder_width(n_features)
            module.set_proposal(TokenProposal(n_inputs, T, K))
        return module

    @property
    def _code_vectors(self) -> Tensor:
        """Code vectors (K, c), where they may be."""
        codebook = self.module_.codebook
        found: Tensor = codebook.project(codebook.vectors)
        return found

    def _new_prior(self, levels: Sequence[int], n_conditions: int = 0) -> TokenPrior:
        """Make a prior over the tokens of levels, from the top."""
        name: str = self.prior
        is_grid = self.architecture == "conv"
        if name == "auto":
            name = "transformer" if is_grid else "nade"
        elif name == "masked":
            name = "transformer, masked" if is_grid else "nade, masked"
        about = {"levels": levels, "n_conditions": n_conditions}
        return PRIORS[name](sum(levels), self.codebook_size, **about)

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
        if len(rows):
            with alone():
                rows = model.impute(rows, noise=True, random_state=seed)
        return self._place(rows, x.device)

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
                if self.verbose and not (incremental or rank())
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
        model, entropies = self.module_, torch.special.entr(usage.cpu()).sum(-1)
        return {
            "codebook_": to_array(self._code_vectors).copy(),
            "grid_shape_": self._grid_shape(n_features),
            "temperature_": float(model.temperature),
            "prior_mixing_": float(model.prior.mixing),
            "codebook_usage_": to_array(usage),
            "perplexity_": float(entropies.mean().exp()),
        }

    def _described(self, train: WeightedRows) -> dict[str, Any]:
        usage = token_usage(self.module_, encoded(self.module_, train))
        return self._of_tokens(usage, train.shape[1])

    def _tensor_dtype(self, dtype: np.dtype[Any]) -> torch.dtype:
        """Wide, so that no token depends on how a sum over a chunk was rounded."""
        return wide_dtype(torch.device(self.device_))

    @property
    def _n_features_out(self) -> int:
        T, (K, c) = self.module_.prior.n_tokens, self.codebook_.shape[-2:]
        widths = {"embedding": c, "ordinal": 1, "onehot": K}
        width: int = T * widths[self._current("encode")]
        return width

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.encode != "embedding":
            tags.transformer_tags.preserves_dtype = []
        return tags
