"""Variational autoencoders with discrete codes: Bernoulli and categorical.

``p(z) = prod_t p(z_t)`` and ``q(z|x) = prod_t q(z_t|x)`` over levels, ``p(x|z)`` a
likelihood of the decoder's outputs. No gradient goes through a draw: it is estimated,
by the likelihood ratio or by a relaxation (``skgen/objectives.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY
from typing import Any, Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F

from skgen._networks.dense import Standardizer
from skgen._training.batches import Batch
from skgen._training.data import WeightedRows
from skgen._training.driver import Steps
from skgen._utils.moments import Moments
from skgen._utils.parameters import (
    LARGEST_STEP,
    attribute,
    estimator,
    integer,
    options,
    parameter,
    real,
)
from skgen.likelihoods import Likelihood
from skgen.models.building import networks
from skgen.models.evaluation import BoundedModel
from skgen.models.neural import NeuralModel
from skgen.models.planning import TrainingPlan
from skgen.models.vae import ACTIVE_VARIANCE, WARM_UP_STEPS, Elbo
from skgen.objectives import DISCRETE_BOUNDS, DiscreteLoss
from skgen.priors import Categorical


class LevelsPrior(nn.Module):
    """p(z) = prod_t p(z_t), with a learned probability of each level.

    Parameters
    ----------
    n_components : int
        T, coordinates.
    n_categories : int
        K.
    """

    def __init__(self, n_components: int, n_categories: int) -> None:
        super().__init__()
        self.layer_sizes = (n_components,)
        self.logits = nn.Parameter(torch.zeros(n_components, n_categories))

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Log-mass (S, n) of levels (S, n, T)."""
        places = torch.arange(tokens.shape[-1], device=tokens.device)
        return self.logits.log_softmax(-1)[places, tokens].sum(-1)

    def kl(self, q: Categorical, tokens: Tensor) -> Tensor:
        """KL(q || p) of each coordinate, (n, T), in closed form: levels are unused."""
        log_ratio = q.log_probs - self.logits.log_softmax(-1)
        return (q.log_probs.exp() * log_ratio).sum(-1)

    def draw(self, uniform: Tensor) -> Tensor:
        """Draw levels (n, T) from uniform noise (n, T)."""
        log_probs = self.logits.log_softmax(-1).expand(len(uniform), -1, -1)
        return Categorical(log_probs).draw(uniform[None])[0]


class DiscreteAutoencoder(BoundedModel):
    """Encoder, decoder, likelihood, and a prior over the levels of coordinates.

    A code of the user has a number in [0, 1] for each coordinate of two levels, the
    second's probability; of more levels, it has the probability of each.

    Parameters
    ----------
    encoder, decoder : Module
        Networks of rows to logits, and of codes to outputs.
    likelihood : Likelihood
        p(x|z).
    standardizer : Standardizer
        Scale of the rows.
    prior : LevelsPrior
        p(z).
    n_importance_samples : int
        Draws of a score.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        standardizer: Standardizer,
        prior: LevelsPrior,
        n_importance_samples: int,
    ) -> None:
        super().__init__(likelihood, standardizer)
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.n_components, self.n_categories = prior.logits.shape
        self.register_noise(n_importance_samples)

    def standard_noise(
        self, shape: Sequence[int], generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw uniform noise (..., T)."""
        noise = self.prior.logits.new_empty(*shape, self.n_components)
        return noise.uniform_(generator=generator)

    def gumbel_noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Draw Gumbel noise (..., T, K)."""
        noise = self.prior.logits.new_empty(
            *shape, self.n_components, self.n_categories
        )
        return -noise.exponential_(generator=generator).log()

    def posterior(self, batch: Batch) -> Categorical:
        """q(z|x) of rows (n, d)."""
        logits = self.encoder_outputs(batch.x)
        if self.n_categories == 2:  # the logit of the second
            both = torch.stack([-logits, logits], -1)
            return Categorical(F.logsigmoid(both))
        return Categorical(
            logits.unflatten(-1, (-1, self.n_categories)).log_softmax(-1)
        )

    def embedded(self, shares: Tensor) -> Tensor:
        """Codes (..., k) of the user, from shares of levels (..., T, K)."""
        return shares[..., 1] if self.n_categories == 2 else shares.flatten(-2)

    def code_of(self, tokens: Tensor) -> Tensor:
        """Codes (..., k) of the user, from levels (..., T)."""
        return self.embedded(F.one_hot(tokens, self.n_categories).to(self.prior.logits))

    def outputs_of(self, z: Tensor) -> Tensor:
        """Decode levels (..., n, T), to outputs (..., n, p)."""
        return self.decoder_outputs(self.code_of(z))

    def log_likelihood_at(self, batch: Batch, shares: Tensor) -> Tensor:
        """Log p(x|z), (S, n), at codes between levels, by their shares (S, n, T, K)."""
        outputs = self.decoder_outputs(self.embedded(shares))
        return self.likelihood.log_prob(outputs, batch.x)

    def code_means(self, batch: Batch) -> Tensor:
        """Posterior probabilities (n, k) of levels, of standardised rows."""
        return self.embedded(self.posterior(batch).log_probs.exp())

    def encode(self, x: Tensor) -> Tensor:
        """Posterior probabilities (n, k) of levels."""
        return self.code_means(Batch(self.view(x)))

    def elbo(self, x: Tensor) -> Tensor:
        """Reconstruction and KL of each row, (n, 2)."""
        batch = self.scored(x, self.noise_of(x))
        q = self.posterior(batch)
        tokens = q.draw(batch.draws)
        reconstruction = self.log_likelihood(batch, tokens).mean(0)
        kl = self.prior.kl(q, tokens).sum(-1)
        return torch.stack([reconstruction - self.standardizer.log_scale, kl], dim=1)

    def draw_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw codes (n, k) from p(z)."""
        return self.code_of(self.prior.draw(self.standard_noise((n,), generator)))


@estimator
class DiscreteVAE(NeuralModel):
    """Variational autoencoder whose code is bits, or levels of some variables.

    Each of ``n_components`` coordinates has ``n_categories`` levels: ``p(z)`` is a
    product of learned probabilities, ``q(z|x)`` one of an encoder network. Trained on
    the evidence lower bound, or on the importance-weighted one, by which it is scored.
    ``transform`` gives posterior probabilities.

    Parameters
    ----------
    n_components : int, default=20
        Number of coordinates of the code.
    n_categories : int, default=2
        Levels of each. With 2, a coordinate is a bit, and the code has its
        probability; with more, the code has the probability of each level.
    gradient : {"score", "vimco", "gumbel"}, default="score"
        Estimator of the encoder's gradient. "score" is the likelihood ratio, with the
        mean over the other draws as baseline of each; "vimco" is the same of the
        importance-weighted bound of ``n_draws`` (Mnih & Rezende 2016). Both are
        unbiased. "gumbel" puts codes between the levels (Gumbel-softmax), so that the
        gradient goes through them: it varies less, and is that of another model.
    n_draws : int, default=4
        Draws from the encoder for each row and step, two at least with "score" and
        "vimco". (The score takes ``n_importance_samples``.)
    temperature : float, default=0.5
        Of "gumbel": low is near the levels, where the gradient varies much.
    kl_warmup : int or "auto", default="auto"
        Epochs over which the KL term rises to its weight. Early stopping waits for its
        end. "auto" is as many as make up 200 steps, a quarter of ``max_iter`` at most;
        0 is none.
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
    active_units_ : int
        Coordinates in use: the variances of their posterior probabilities over the
        (last given) training rows sum to more than 0.01.
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
    VAE : A continuous code.
    VQVAE : Tokens of one codebook, with an autoregressive prior.

    Notes
    -----
    In training, "gumbel" reports the reconstruction at the codes between levels; on
    held-out rows, and in scores, all codes are levels.

    References
    ----------
    Williams, "Simple statistical gradient-following algorithms for connectionist
    reinforcement learning", Machine Learning 8, 1992 ("score"). Kool, van Hoof &
    Welling, "Buy 4 REINFORCE samples, get a baseline for free!", 2019.

    Mnih & Rezende, "Variational inference for Monte Carlo objectives", ICML 2016
    ("vimco").

    Jang, Gu & Poole, "Categorical reparameterization with Gumbel-softmax", ICLR 2017.
    Maddison, Mnih & Teh, "The concrete distribution", ICLR 2017.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import DiscreteVAE
    >>> X = load_wine().data
    >>> model = DiscreteVAE(8, random_state=0).fit(X)
    >>> model.transform(X).shape
    (178, 8)
    >>> DiscreteVAE(4, n_categories=3, random_state=0).fit_transform(X).shape
    (178, 12)
    """

    active_units_: int = attribute()

    n_components: int = parameter(integer(1), default=20, builds=True)
    _: KW_ONLY
    n_categories: int = parameter(integer(2), default=2, builds=True)
    gradient: Literal["score", "vimco", "gumbel"] = parameter(
        options(*DISCRETE_BOUNDS), default="score"
    )
    n_draws: int = parameter(integer(1), default=4, repeats=True)
    temperature: float = parameter(real(0, LARGEST_STEP, closed="neither"), default=0.5)
    kl_warmup: int | Literal["auto"] = parameter(
        options("auto"), integer(0), default="auto"
    )

    def elbo(self, X: ArrayLike) -> Elbo:
        """Evaluate the parts of the evidence lower bound.

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
    def _objective(self) -> DiscreteLoss:
        return DiscreteLoss(self.gradient, float(self.temperature))

    def _noise(self, module: Any, n: int, generator: torch.Generator) -> Tensor:
        relaxed = self.gradient == "gumbel"
        draw = module.gumbel_noise if relaxed else module.standard_noise
        noise: Tensor = draw((self.n_draws, n), generator)
        return noise

    def _warm_up(self, plan: TrainingPlan) -> int:
        if isinstance(self.kl_warmup, str):
            return min(plan.epochs(WARM_UP_STEPS), self.max_iter // 4)
        return self.kl_warmup

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> DiscreteAutoencoder:
        if self.n_draws < 2 and self.gradient != "gumbel":
            raise ValueError(
                f"n_draws={self.n_draws!r} of {type(self).__name__} must be at least 2 "
                f"with gradient={self.gradient!r}: the baseline of a draw is a mean "
                "over the others."
            )
        T, K = self.n_components, self.n_categories
        k = T if K == 2 else T * K
        encoder, decoder = networks(self, (n_features, k, k), likelihood)
        prior = LevelsPrior(T, K)
        return DiscreteAutoencoder(
            encoder, decoder, likelihood, standardizer, prior, self.n_importance_samples
        )

    @property
    def _allows_missing(self) -> bool:
        return False

    def _finish(
        self,
        plan: TrainingPlan,
        train: WeightedRows,
        held_out: WeightedRows | None,
        generator: torch.Generator,
    ) -> Steps | None:
        self.__dict__.update(self._described(train))
        return None

    def _described(self, train: WeightedRows) -> dict[str, Any]:
        module = self.module_
        with torch.no_grad():
            moments = Moments.of_parts(
                (module.code_means(Batch(chunk.x)), chunk.weight)
                for chunk in train.chunks(module.pass_rows)
            )
        of_each = moments.variance.unflatten(0, (module.n_components, -1)).sum(-1)
        return {"active_units_": int((of_each > ACTIVE_VARIANCE).sum())}

    @property
    def _n_features_out(self) -> int:
        width: int = self.module_.n_components
        return (
            width
            if self.module_.n_categories == 2
            else width * self.module_.n_categories
        )
