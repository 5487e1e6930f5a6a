"""VQ-VAE-2: levels of tokens, each given the levels above it, and given labels.

Level after level, from the top, the vectors of a level are what the encoder gives plus
what a network makes of the codes above; the decoder sees the codes of all levels. As a
density, ``p(x|y) = sum_k p(x|e_k) p(k_1|y) p(k_2|k_1, y) ...``: what rows are
conditioned on reaches them through the prior over tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from skgen._networks.codebooks import Codebooks, straight_through
from skgen._networks.dense import Standardizer
from skgen._networks.proposals import TokenProposal
from skgen._networks.token_priors import TokenPrior
from skgen._training.batches import Batch
from skgen._utils.parameters import attribute, estimator, integer, parameter
from skgen._utils.tensors import inverse_cdf
from skgen.likelihoods import Likelihood
from skgen.models.building import default_networks, image_networks, networks
from skgen.models.conditions import (
    Classes,
    ConditionedModel,
    Numbers,
    OptionallyConditioned,
)
from skgen.models.evaluation import estimate_log_likelihood
from skgen.models.neural import NeuralModel
from skgen.models.vqvae import (
    VQVAE,
    FollowCodes,
    VectorQuantizedAutoencoder,
    explored,
    mean_error,
)
from skgen.objectives import importance_weighted_bound, log_weights
from skgen.priors import Categorical

# The largest grid of an image is 8 x 8: above its fourth level there is one token.
MOST_LEVELS = 8


def halved_shapes(shape: tuple[int, ...], n_levels: int) -> list[tuple[int, ...]]:
    """Return the shape of each level, from the top to the one that is given.

    Each side of a level is half of that below, rounded up.
    """
    shapes = [shape]
    for _ in range(n_levels - 1):
        shapes.insert(0, tuple(-(-size // 2) for size in shapes[0]))
    return shapes


# The model.


class GivenCondition(NamedTuple):
    """Model of rows given conditions, as bounds see it: p(k|y) in place of p(k)."""

    model: Any
    condition: Tensor | None  # (n, c)

    @property
    def prior(self) -> GivenCondition:
        """p(k|y)."""
        return self

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Log p(k|y), (S, n), of tokens (S, n, T)."""
        found: Tensor = self.model.prior.log_prob(tokens, self.condition)
        return found

    def posterior(self, batch: Batch) -> Any:
        """q(k|x) of rows (n, d)."""
        return self.model.posterior(batch)

    def log_likelihood(self, batch: Batch, z: Tensor) -> Tensor:
        """Log p(x|k), (S, n), of rows (n, d) and tokens (S, n, T)."""
        found: Tensor = self.model.log_likelihood(batch, z)
        return found


class LevelPosterior(NamedTuple):
    """q(k_1|x) q(k_2|k_1, x) ...: the tokens of each level given those above."""

    model: Any
    encoded: Tensor  # (n, T, c), what the encoder gives
    explore: float  # part of the tokens that comes from the unigrams

    def draw(self, uniform: Tensor) -> Tensor:
        """Draw tokens (S, n, T) from uniform noise (S, n, T), by the inverse CDF."""

        def choose(level: int, log_probs: Tensor) -> Tensor:
            noise = uniform.split(self.model.sizes, -1)[level]
            if log_probs.ndim == 3:  # (n, T, K), the same for all draws
                return Categorical(log_probs).draw(noise)
            return inverse_cdf(log_probs.exp().cumsum(-1), noise)

        return torch.cat([tokens for tokens, _ in self._levels(choose)], dim=-1)

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Log-mass (S, n) of tokens (S, n, T)."""
        each = tokens.split(self.model.sizes, -1)
        parts = [
            Categorical(log_probs).log_prob(chosen)
            if log_probs.ndim == 3
            else log_probs.gather(-1, chosen[..., None]).squeeze(-1).sum(-1)
            for chosen, log_probs in self._levels(lambda level, _: each[level])
        ]
        return torch.stack(parts).sum(0)

    def _levels(
        self, choose: Callable[[int, Tensor], Tensor]
    ) -> Iterable[tuple[Tensor, Tensor]]:
        """Yield tokens (S, n, T_l) and log-probabilities (S?, n, T_l, K) of levels."""
        above: list[Tensor] = []
        for level, part in enumerate(self.encoded.split(self.model.sizes, 1)):
            log_probs = self.model.level_log_probs(level, part, above, self.explore)
            tokens = choose(level, log_probs)
            above.append(self.model.codebook[level](tokens))
            yield tokens, log_probs


class HierarchicalAutoencoder(ConditionedModel, VectorQuantizedAutoencoder):
    """Encoder, codebooks of levels with networks between them, decoder and prior.

    Parameters
    ----------
    encoder, decoder : Module
        Networks of rows, and of the code vectors (n, T * c) of all levels.
    between : sequence of Module
        Network of each level but the first: code vectors (n, T' * c) of all levels
        above, to what they add to the vectors (n, T_l * c) of the level.
    likelihood : Likelihood
        p(x|k).
    standardizer : Standardizer
        Scale of the rows.
    prior : TokenPrior
        p(k|y), over the tokens of all levels from the top.
    codebook : Codebooks
        Code vectors of each level.
    condition : Classes, Numbers or None
        Makes of a context what the prior sees.
    n_importance_samples : int
        Draws of a score.
    """

    codebook: Codebooks
    relative: Tensor  # (L,): scale of squared distances of a level, that of the top 1

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        between: Sequence[nn.Module],
        likelihood: Likelihood,
        standardizer: Standardizer,
        prior: TokenPrior,
        codebook: Codebooks,
        condition: Classes | Numbers | None,
        n_importance_samples: int,
    ) -> None:
        super().__init__(
            encoder,
            decoder,
            likelihood,
            standardizer,
            prior,
            codebook,
            n_importance_samples,
        )
        self.between, self.condition = nn.ModuleList(between), condition
        self.register_buffer("relative", torch.ones(len(codebook.sizes)))

    @property
    def sizes(self) -> list[int]:
        """Tokens of each level, from the top."""
        return self.codebook.sizes

    def set_context(self, context: Tensor | None, weight: Tensor | None) -> None:
        """Adapt to the conditions of training rows, where there are some."""
        if self.condition is not None:
            super().set_context(context, weight)

    # As objectives call it: rows are standardised.

    def start_codebook(self, batch: Batch, generator: torch.Generator) -> None:
        """Start the codebooks from the vectors of rows, level after level."""
        for level in range(len(self.sizes)):
            z = self.latents(batch).split(self.sizes, 1)[level]
            self.codebook[level].start(z.flatten(0, 1), generator)

    def level_vectors(
        self, level: int, encoded: Tensor, above: Sequence[Tensor]
    ) -> Tensor:
        """Vectors z_e (..., n, T_l, c) of a level, of what the encoder gives of it.

        ``above`` has the codes (..., n, T_i, c) of each level above.
        """
        if not above:
            return encoded
        codes = torch.cat(list(above), dim=-2).flatten(-2)
        rows = self._outputs(
            self.between[level - 1], codes.reshape(-1, codes.shape[-1])
        )
        added = rows.view(*codes.shape[:-1], *encoded.shape[-2:])
        return self.codebook[level].project(encoded + added)

    def resolved(self, encoded: Tensor) -> Tensor:
        """Vectors z_e (n, T, c), each level given the nearest codes above."""
        vectors: list[Tensor] = []
        codes: list[Tensor] = []
        for level, part in enumerate(encoded.split(self.sizes, 1)):
            z, book = self.level_vectors(level, part, codes), self.codebook[level]
            vectors.append(z)
            codes.append(straight_through(z, book(book.nearest(z))))
        return torch.cat(vectors, dim=1)

    def level_log_probs(
        self, level: int, encoded: Tensor, above: Sequence[Tensor], explore: float
    ) -> Tensor:
        """Log q of each token of a level, (..., n, T_l, K), given the codes above."""
        z = self.level_vectors(level, encoded, above)
        distances = self.codebook[level].distances(z) / self.relative[level]
        log_probs = super().log_assignments(distances)
        if explore == 0:
            return log_probs
        unigrams = self.prior.log_unigrams.split(self.sizes)[level]
        return explored(log_probs, unigrams, explore)

    def log_assignments(self, distances: Tensor) -> Tensor:
        """Log-probabilities (..., T, K), each level's distances on their own scale."""
        scale = self.relative[self.prior.level_places(distances.device)]
        return super().log_assignments(distances / scale[:, None])

    def assignments(self, encoded: Tensor) -> LevelPosterior:
        """Tokens k of encoded rows with probability exp(-||z_e - e_k||^2 / tau)."""
        return LevelPosterior(self, encoded, 0.0)

    def tokens_given(self, encoded: Tensor) -> LevelPosterior:
        """q(k|x) of encoded rows: assignments, with a few unigrams among them."""
        return LevelPosterior(self, encoded, self.explore)

    def error_scale(self, batch: Batch) -> Tensor:
        """Mean squared distance of vectors from their codes, (), at the top.

        Those of the other levels, relative to it, are kept.
        """
        distances = self.codebook.distances(self.latents(batch))
        errors = torch.stack([mean_error(d) for d in distances.split(self.sizes, 1)])
        self.relative.copy_(errors / errors[0])
        return errors[0]

    def usage_of(self, counts: Tensor) -> Tensor:
        """Return the part of a level's tokens that each code has, (L, K)."""
        return torch.stack([*map(super().usage_of, counts.split(self.sizes))])

    def condition_of(self, context: Tensor | None) -> Tensor | None:
        """Return what the prior sees (n, c) of a context (n, m)."""
        if self.condition is None:
            return None
        return self.conditions(Batch(self.noise[0], context=context))

    def bound(self, batch: Batch) -> Tensor:
        """Importance-weighted bound on log p(x|y) of standardised rows, (n,)."""

        def bound(part: Batch, q: Any) -> Tensor:
            given = GivenCondition(self, self.condition_of(part.context))
            return importance_weighted_bound(log_weights(given, part, q))

        return self.by_completeness(batch, bound)

    def class_log_joints(self, batch: Batch) -> Tensor:
        """Bounds on log p(x, y) of each class, (K, n): they share the decoded draws."""
        q = self.posterior(batch)
        z = q.draw(batch.draws)
        rest = self.log_likelihood(batch, z) - q.log_prob(z)

        def bound(of_class: Batch) -> Tensor:
            log_prior = self.prior.log_prob(z, self.condition_of(of_class.context))
            return importance_weighted_bound(rest + log_prior)

        bounds = self.for_each_class(bound, batch)
        return bounds + self.log_prior(bounds)[:, None]

    def careful_bound(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        """Return it from many draws, and its standard error, (n, 2)."""

        def estimate(part: Batch, q: Any) -> Tensor:
            given = GivenCondition(self, self.condition_of(part.context))

            def draw_log_weights(n_draws: int) -> Tensor:
                noise = self.standard_noise((n_draws, len(part.x)), generator)
                return log_weights(given, part._replace(noise=noise), q)

            n_per_pass = self.noise.shape[1]
            found = estimate_log_likelihood(draw_log_weights, n_samples, n_per_pass)
            return torch.stack(found, dim=1)

        return self.by_completeness(batch, estimate)

    # As estimators call it: rows and scores are in the units of the user.

    def draw(
        self,
        n: int,
        noise: bool,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> Tensor:
        """Draw rows (n, d) from p(x|y), or decoded means; y too, where missing."""
        condition = self.condition_of(self.drawn_labels(context, n, generator))
        tokens = self.prior.draw(n, generator, condition)
        return self.drawn_at(self.codebook(tokens).flatten(1), noise, generator)


@estimator
class VQVAE2(OptionallyConditioned, VQVAE):  # type: ignore[misc]
    """VQ-VAE-2: a density with levels of discrete tokens, and of rows given labels.

    Tokens of the level at the top say what a row is like as a whole, those of each
    level below what is left to say: their vectors are what the encoder gives plus what
    a network makes of the codes above, and the decoder sees the codes of all levels.
    Then a prior is learned over the tokens of all levels, from the top, so that each
    level is drawn given those above it; with a ``condition``, given y. The score is an
    importance-weighted bound on ``log p(x|y) = log sum_k p(x|e_k) p(k|y)``, over tokens
    that are drawn level by level from a softmax of distances.

    Parameters
    ----------
    codebook_size : int, default=64
        Number of code vectors of each level, shared by its tokens.
    code_size : int, default=4
        Width of a code vector.
    n_levels : int, default=2
        Levels of tokens. With one, the model is that of :class:`VQVAE`.
    n_tokens : int, default=8
        Tokens of the level next to the data; each level above has half as many, rounded
        up. With ``architecture="conv"`` the image decides: a grid with a token at each
        place, 7 x 7 for images of 28 x 28, and above it one of 4 x 4.
    condition : {"auto", "classes", "numbers"} or None, default=None
        Kind of y that rows are conditioned on; None ignores y. "auto" takes one column
        for classes, unless it holds numbers with fractions; and several columns for
        numbers.
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
        (n, T * code_size) for the T tokens of all levels, from the top; token indices,
        (n, T); or a sparse one-hot row of each token, (n, T * codebook_size).
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
        Number of classes, or columns of y. Only where there is a condition.
    codebook_ : ndarray of shape (n_levels, codebook_size, code_size)
        The code vectors of each level, from the top.
    level_shapes_ : tuple of tuple of int
        Shape of the tokens of each level, from the top, in the order of ``transform``.
    grid_shape_ : tuple of int
        Shape of the tokens of the level next to the data: (height, width) with
        ``architecture="conv"``, otherwise (n_tokens,).
    codebook_usage_ : ndarray of shape (n_levels, codebook_size)
        Part of the training rows' tokens of a level that each code has.
    perplexity_ : float
        Codes in effective use: the exponential of the entropy of ``codebook_usage_``,
        in the geometric mean over the levels.
    temperature_ : float
        tau, chosen on held-out rows, of the level at the top; those of the others are
        to it as the squared distances from their codes are.
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
    VQVAE : One level of tokens.
    ConditionalVAE : A continuous code, and rows given labels.

    Notes
    -----
    A condition reaches rows through the prior alone: the code of a row does not
    depend on y, and ``p(x|y) = sum_k p(x|e_k) p(k|y)``. ``score_samples(X, y)`` is the
    bound on ``log p(x|y)``, and for classes ``score_samples(X)`` that on ``log p(x)``,
    p(y) the frequency of each class in training.

    Where the likelihood allows missing cells, and there is no condition, those of the
    rows of ``fit`` are drawn, given the others of their row, from a :class:`VAE` that
    is fitted to them first.

    References
    ----------
    Razavi, van den Oord & Vinyals, "Generating diverse high-fidelity images with
    VQ-VAE-2", NeurIPS 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import VQVAE2
    >>> X, y = load_wine(return_X_y=True)
    >>> model = VQVAE2(16, n_tokens=4, condition="auto", encode="ordinal")
    >>> model = model.set_params(random_state=0).fit(X, y)
    >>> model.transform(X).shape  # two tokens at the top, and four below
    (178, 6)
    >>> model.sample(2, y=1, random_state=0).shape
    (2, 13)
    >>> model.score(X, y) > model.score(X)  # the label says something about a row
    True
    """

    _fits_together = False

    classes_: NDArray[Any] = attribute()
    n_conditions_: int = attribute()
    level_shapes_: tuple[tuple[int, ...], ...] = attribute()

    _rates: ClassVar[dict[str, float]] = {
        **NeuralModel._rates,
        "codebook.levels.": 10.0,
    }

    _: KW_ONLY
    n_levels: int = parameter(integer(1, MOST_LEVELS), default=2, builds=True)

    # Fitting.

    @property
    def _allows_missing(self) -> bool:
        return super()._allows_missing and self._kind_of_condition is None

    @property
    def _without_missing(self) -> str | None:
        """Why there are no cells to impute; None where there may be."""
        if self._kind_of_condition is None:
            return super()._without_missing
        return (
            f"This {type(self).__name__} has no impute, since it has a condition. "
            "Leave condition=None, and put labels into the table of a MixedDensity."
        )

    @property
    def _update(self) -> FollowCodes:
        levels = range(len(self.module_.sizes))
        names = tuple(f"codebook.levels.{level}" for level in levels)
        return super()._update._replace(codebooks=names)

    @property
    def _stack_key(self) -> str:
        return "VQVAE2"

    def _level_shapes(self, n_features: int) -> list[tuple[int, ...]]:
        """Shape of the tokens of each level, from the top."""
        return halved_shapes(self._grid_shape(n_features), self._fitted("n_levels"))

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> HierarchicalAutoencoder:
        K, c = self.codebook_size, self.code_size
        shapes, condition = self._level_shapes(n_features), self._new_condition
        sizes = [math.prod(shape) for shape in shapes]
        T, factories = sum(sizes), None
        if self.architecture == "conv":
            images = image_networks(self, n_features)
            encoder = partial(images.grids_encoder, shapes=shapes)
            factories = encoder, partial(images.grids_decoder, shapes=shapes)
        widths = n_features, T * c, T * c
        pair = networks(self, widths, likelihood, factories)
        prior = self._new_prior(sizes, 0 if condition is None else condition.width)
        module = HierarchicalAutoencoder(
            *pair,
            [self._between(n_features, shapes[: i + 1]) for i in range(1, len(shapes))],
            likelihood,
            standardizer,
            prior,
            Codebooks(sizes, K, c, self.distance),
            condition,
            self.n_importance_samples,
        )
        if likelihood.allows_missing and condition is None:
            n_inputs = likelihood.encoder_width(n_features)
            module.set_proposal(TokenProposal(n_inputs, T, K))
        return module

    def _between(self, n_features: int, shapes: Sequence[tuple[int, ...]]) -> nn.Module:
        """Make the network from the codes of levels to the vectors of the last."""
        *above, size = shapes
        n_inputs = self.code_size * sum(map(math.prod, above))
        n_outputs = self.code_size * math.prod(size)
        if self.architecture == "conv":
            images = image_networks(self, n_features)
            return images.between_grids(n_inputs, n_outputs, above, size)
        encoder, _ = default_networks(self, n_features)
        return encoder(n_inputs, n_outputs)

    @property
    def _code_vectors(self) -> Tensor:
        """Code vectors (L, K, c), where they may be."""
        books: Any = self.module_.codebook.levels
        return torch.stack([book.project(book.vectors) for book in books])

    def _of_tokens(self, usage: Tensor, n_features: int) -> dict[str, Any]:
        """Return what describes the codebooks, the prior and the usage (L, K)."""
        shapes = tuple(self._level_shapes(n_features))
        return {**super()._of_tokens(usage, n_features), "level_shapes_": shapes}

    # Evaluating.

    @property
    def _levels(self) -> NDArray[np.intp]:
        """Level of each token, (T,)."""
        sizes = self.module_.sizes
        return np.repeat(np.arange(len(sizes)), sizes)

    def _vectors_of(self, tokens: NDArray[np.intp]) -> NDArray[Any]:
        found: NDArray[Any] = self.codebook_[self._levels, tokens]
        return found

    def _mixed_vectors(self, weight: NDArray[Any]) -> NDArray[Any]:
        parts = np.split(weight, np.cumsum(self.module_.sizes)[:-1], axis=1)
        pairs = zip(parts, self.codebook_)
        return np.concatenate([part @ book for part, book in pairs], axis=1)

    def transform(self, X: ArrayLike, y: Any = None) -> Any:
        """Encode rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored: the code of a row does not depend on a condition.

        Returns
        -------
        code : ndarray or csr_matrix of shape (n_samples, n_latent)
            Code vectors in the dtype of ``X``, token indices, or sparse one-hot rows,
            as ``encode`` says, of all levels, from the top.
        """
        return VQVAE.transform(self, X)

    def inverse_transform(self, X: ArrayLike, y: Any = None) -> Any:
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_latent)
            Codes, as ``transform`` gives them.
        y : None
            Ignored: what a code decodes to does not depend on a condition.

        Returns
        -------
        X_decoded : array or DataFrame of shape (n_samples, n_features)
            Decoded mean.
        """
        return VQVAE.inverse_transform(self, X)

    def reconstruct(self, X: ArrayLike, y: Any = None) -> Any:
        """Encode rows and decode the codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored: codes do not depend on a condition.

        Returns
        -------
        X_decoded : array or DataFrame of shape (n_samples, n_features)
            ``inverse_transform(transform(X))``.
        """
        return VQVAE.reconstruct(self, X)
