"""Generative adversarial networks: a generator that learns to fool a critic.

``x = G(z)`` with ``z ~ N(0, I)``. The critic D learns to tell rows of the data from
those that G makes, and G to make rows that D takes for data. There is no density: what
is known of a model is what it draws. The two losses and the penalty of the critic's
slope are in `skgen.objectives.AdversarialLoss`, and one step of Adam, along the
gradient of their sum, moves both networks, the critic faster than the generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY
from typing import Any, Literal, NamedTuple, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.func import functional_call

from skgen._networks.dense import (
    ACTIVATIONS,
    Activation,
    LinearAndLayers,
    PassSize,
    Standardizer,
    with_linear_path,
)
from skgen._training.batches import Batch
from skgen._utils.parameters import (
    LARGEST_STEP,
    attribute,
    boolean,
    estimator,
    integer,
    none,
    options,
    parameter,
    real,
    sequence,
)
from skgen.likelihoods import Likelihood
from skgen.likelihoods.cells import Cells
from skgen.models.building import check_image, default_networks
from skgen.models.conditional import ImageEncoder
from skgen.models.conditions import (
    Classes,
    ConditionedModel,
    Numbers,
    OptionallyConditioned,
    beside,
)
from skgen.models.hyperparameters import MOST_LAYERS
from skgen.objectives import AdversarialLoss

# Widths of the kernels of the discrepancy that is watched, as parts of the median
# distance: narrow ones see whether modes are hit, wide ones whether they are there.
KERNEL_WIDTHS = (1.0, 1 / 4, 1 / 16, 1 / 64)
# Rows that the median is taken over, and that the discrepancy is computed for at once.
KERNEL_ROWS = 1024
LEAST_EXPONENT = -80.0
# Kernels of means below this are of rows too far apart: they are not scaled up more.
LEAST_SIMILARITY = 1e-3


class Game(NamedTuple):
    """How a game is played where nothing else is asked for."""

    critic_rate: float  # multiple of the generator's learning rate
    beta1: float  # of Adam: a Wasserstein critic that has momentum runs away


GAMES = {
    "non-saturating": Game(critic_rate=3.0, beta1=0.5),
    "wasserstein": Game(critic_rate=5.0, beta1=0.0),
}


class absent:
    """Attribute that a class of models lacks, although its base has it.

    Parameters
    ----------
    reason : str
        Message of the AttributeError; ``{name}`` stands for the attribute.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn the name."""
        self.message = f"{owner.__name__} has no {name}: {self.reason}"

    def __get__(self, instance: Any, owner: type) -> Any:
        """Raise an AttributeError, of instances and of the class."""
        raise AttributeError(self.message)


def without_density() -> Any:
    """Return what stands for a method of models that have a density."""
    return absent(
        "it is an implicit model, which draws rows and has no density of them. Compare "
        "its samples with rows: skgen.metrics.two_sample_test, energy_distance and "
        "kernel_mmd."
    )


def without_encoder() -> Any:
    """Return what stands for a method of models that encode rows."""
    return absent(
        "its generator maps codes to rows (inverse_transform), and nothing maps rows "
        "to codes. Use VAE or FlowDensity for codes of rows."
    )


class AdversarialNetworks(ConditionedModel):
    """Generator and critic.

    Parameters
    ----------
    generator, critic : Module
        Networks of codes (n, k), and of rows (n, d) to one number; conditions stand
        beside both.
    likelihood : Cells
        Says that what is drawn is a row as it is.
    standardizer : Standardizer
        Scale of the rows.
    condition : Classes, Numbers or None
        Makes of a context what networks see.
    n_components : int
        k.
    """

    median: Tensor  # distance of rows, standardised
    similarity: Tensor  # mean of each kernel over pairs of rows

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        likelihood: Likelihood,
        standardizer: Standardizer,
        condition: Classes | Numbers | None,
        n_components: int,
    ) -> None:
        super().__init__(likelihood, standardizer)
        self.generator, self.critic, self.condition = generator, critic, condition
        self.n_components = n_components
        self.register_buffer("median", torch.ones(()))
        self.register_buffer("similarity", torch.ones(len(KERNEL_WIDTHS)))

    def bound(self, batch: Batch) -> Tensor:
        """Refuse: there is no density."""
        raise NotImplementedError

    def careful_bound(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        """Refuse: there is no density."""
        raise NotImplementedError

    def set_rows(self, x: Tensor) -> None:
        """Adapt to training rows, standardised."""
        distances = torch.pdist(x[:KERNEL_ROWS])
        if (distances > 0).any():
            self.median.copy_(distances[distances > 0].median())
            exponents = distances.square() / (-2 * self.median**2)
            means = [(exponents / width**2).exp().mean() for width in KERNEL_WIDTHS]
            self.similarity.copy_(torch.stack(means).clamp(min=LEAST_SIMILARITY))
        if isinstance(self.generator, LinearAndLayers):
            self.start_from(x[:KERNEL_ROWS], self.generator)
        self.count_outputs(x[:1])

    def start_from(self, x: Tensor, generator: LinearAndLayers) -> None:
        """Start a generator near the normal density with the moments of rows (n, d).

        Draws then lie over all of the data. From its usual weights a generator draws
        one small cloud, which finds the modes one by one, or never.
        """
        mean = x.mean(0)
        _, scales, axes = torch.linalg.svd(x - mean, full_matrices=False)
        k = min(self.n_components, len(scales))
        loadings = (scales[:k, None] * axes[:k]).T / math.sqrt(len(x))
        generator.linear[:, :k].copy_(loadings)
        generator.start_from(mean)

    def count_outputs(self, x: Tensor) -> None:
        """Count the numbers that layers make of a row (1, d), and their work."""
        c = 0 if self.condition is None else self.condition.width
        passes = [
            PassSize.of(self.generator, x.new_zeros(1, self.n_components + c)),
            PassSize.of(self.critic, x.new_zeros(1, x.shape[1] + c)),
        ]
        self.widest = max(size.widest for size in passes)
        self.work = sum(size.work for size in passes)

    @property
    def pass_rows(self) -> int:
        """Rows that one pass of a fit may take: kernels are of pairs of them."""
        return min(super().pass_rows, KERNEL_ROWS)

    def standard_noise(
        self, shape: Sequence[int], generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw codes (..., k), and behind them the place (..., 1) of a mixed row."""
        noise = self.median.new_empty(*shape, self.n_components + 1)
        return noise.normal_(generator=generator)

    # As the objective calls it: rows are standardised.

    def given(self, x: Tensor, batch: Batch) -> Tensor:
        """Put the conditions of a batch, if there are some, beside (n, p)."""
        return x if self.condition is None else beside(x, self.conditions(batch))

    def generated(self, batch: Batch) -> Tensor:
        """Make rows (n, d) of the noise, under the conditions of a batch."""
        z = batch.draws[0, :, : self.n_components]
        rows: Tensor = self.generator(self.given(z, batch))
        return rows

    def judged(self, x: Tensor, batch: Batch, *, frozen: bool = False) -> Tensor:
        """Judge rows (n, d) under the conditions of a batch: (n,), high for data."""
        inputs = self.given(x, batch)
        if not frozen:
            judged: Tensor = self.critic(inputs)
        else:
            values = {name: p.detach() for name, p in self.critic.named_parameters()}
            judged = functional_call(self.critic, values, (inputs,))
        return judged.squeeze(-1)

    def mixed(self, batch: Batch, x: Tensor) -> Tensor:
        """Return points (n, d) at random places between the rows of a batch and x."""
        place = torch.special.ndtr(batch.draws[0, :, self.n_components :])
        return torch.lerp(batch.x, x, place)

    @torch.no_grad()
    def discrepancies(self, batch: Batch, x: Tensor, *, quick: bool) -> Tensor:
        """Return terms (n,) whose mean is the squared MMD of rows and draws (n, d).

        Unbiased, of rows with their conditions. The kernel is a mean of Gaussian ones,
        each relative to its mean over the data, so that narrow ones count as much.
        A ``quick`` one is of neighbours alone (Gretton et al. 2012, lemma 14).
        """
        rows, draws = self.given(batch.x, batch), self.given(x, batch)
        weight = x.new_ones(len(x)) if batch.weight is None else batch.weight.to(x)
        if quick:
            both = torch.stack([rows, draws])
            pairs = both[:, None] - both.roll(1, 1)  # (2, 2, n, d)
            k = self.kernel(pairs.square().sum(-1))
            return (k[0, 0] + k[1, 1] - k[0, 1] - k[1, 0]) * weight.roll(1)
        both = torch.cat([rows, draws])
        k = self.kernel(torch.cdist(both, both).square_()).fill_diagonal_(0)
        n, total = len(x), weight.sum()
        of_rows, of_draws = k[:, :n] @ weight, k[:, n:] @ weight
        others = (total - weight).clamp(min=torch.finfo(x.dtype).tiny)
        within = (of_rows[:n] + of_draws[n:]) / others
        return within - 2 * of_draws[:n] / total

    def kernel(self, squares: Tensor) -> Tensor:
        """Kernel (...) of squared distances (...): 1 on average, for the data."""
        squares = squares / (-2 * self.median.to(squares) ** 2)
        total, one = torch.zeros_like(squares), torch.empty_like(squares)
        for width, usual in zip(KERNEL_WIDTHS, self.similarity.to(squares)):
            # Powers of smaller ones are denormal, which take a hundred times as long.
            torch.mul(squares, 1 / width**2, out=one).clamp_(min=LEAST_EXPONENT).exp_()
            total.addcmul_(one, 1 / (len(KERNEL_WIDTHS) * usual))
        return total

    # As the estimator calls it: rows are in the units of the user.

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Rows (n, d) of codes (n, k)."""
        batch = Batch(z, context=context)
        if self.condition is not None and (
            context is None or not self.condition.is_known(context).all()
        ):
            raise ValueError(
                "A GAN with a condition makes rows of codes and y. Pass y, a label or "
                "numbers for each row, or one for all; none may be missing."
            )
        return self.standardizer.inverse(self.generator(self.given(z, batch)))

    def draw(
        self,
        n: int,
        noise: bool,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> Tensor:
        """Draw rows (n, d); y too, where it is missing."""
        z = self.standard_noise((n,), generator)[:, : self.n_components]
        return self.decode(z, self.drawn_labels(context, n, generator))


@estimator
class GAN(OptionallyConditioned):
    """Generative adversarial network: an implicit model, learned as a game.

    A generator makes rows of normal codes, ``x = G(z)``; a critic learns to tell them
    from the data, and the generator to fool it. There is no density and no encoder:
    ``sample`` and ``inverse_transform`` are what it has, and two-sample metrics say how
    good it is (:func:`skgen.metrics.two_sample_test`). Given labels or numbers, both
    networks see them (Mirza & Osindero 2014).

    Parameters
    ----------
    n_components : int, default=10
        Coordinates of the code z.
    condition : {"auto", "classes", "numbers"} or None, default=None
        Kind of y that rows are conditioned on; None ignores y. "auto" takes one column
        for classes, unless it holds numbers with fractions; and several columns for
        numbers.
    loss : {"non-saturating", "wasserstein"}, default="non-saturating"
        The game: the critic classifies, and the generator raises the log-probability
        of being taken for data (Goodfellow et al. 2014); or the critic's mean
        difference is the Wasserstein distance of data and samples, as long as its slope
        is 1 (Gulrajani et al. 2017).
    gradient_penalty : float, default=0.1
        Weight gamma of the penalty of the critic's slope in standardised rows:
        ``gamma / 2 |grad D|^2`` at the data for "non-saturating", without which the
        game may circle for ever (Mescheder et al. 2018); ``gamma (|grad D| - 1)^2``
        between data and samples for "wasserstein". Too little, and modes of the data
        are left out.
    hidden_layer_sizes : sequence of int or int, default=(128, 128)
        Widths of the hidden layers of the critic; the generator has them in reverse.
    activation : str, default="relu"
        Activation of the hidden layers: "relu", "tanh", "logistic", "identity", "gelu",
        "silu" or "softplus".
    architecture : {"mlp", "conv"}, default="mlp"
        Kind of both networks: fully connected layers for tables; convolutional and
        residual for images, which need ``image_shape``.
    image_shape : (height, width) or (height, width, channels), default=None
        Shape of the image that a row holds, channels last; each side from 8 to 128
        for "conv", with 1 to 4 channels.
    channels : int, default=32
        Channels of the first layers of "conv"; each halving of the image doubles
        them, up to four times.
    standardize : bool, default=True
        Whether rows are shifted and scaled inside the model by the mean and standard
        deviation of the training rows.
    batch_size : int or "auto", default="auto"
        Rows of a step; "auto" is a tenth of the rows, between 16 and 128.
    learning_rate : {"constant", "cosine", "stages"}, default="constant"
        Schedule of the step size over ``max_iter`` epochs: constant; falling to zero
        as half a cosine; or falling to a tenth in eight stages, each three times as
        long as the one before (Burda et al. 2016).
    learning_rate_init : float, default=1e-3
        Step size of Adam, at the start, for the generator; the critic's is three
        times as large, or for "wasserstein" five (Heusel et al. 2017).
    weight_decay : float, default=0.0
        Decoupled decay of the weight matrices, as in AdamW.
    max_grad_norm : float or None, default=None
        Norm that longer gradients are cut to; 100 is the default of IWAE.
    weight_averaging : float, default=0.999
        Decay, a step, of the exponential moving average of the weights that is judged
        and kept: the game circles its solution, and the average is near the middle.
        0 keeps the weights themselves.
    max_iter : int, default=200
        Most epochs.
    tol : float, default=0.0
        Improvement, in squared discrepancy, below which an epoch counts as none.
    early_stopping : bool, default=True
        Whether a part of the rows is held out and decides when to stop; otherwise the
        training rows do. Either way the weights of the best epoch come back: that
        whose samples have the least discrepancy (MMD) from the rows.
    validation_fraction : float, default=0.1
        Part of the rows that is held out.
    n_iter_no_change : int or "auto", default=100
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
    execution : {"eager"}, default="eager"
        How a step of training runs: as it is written. The penalty is a gradient of a
        gradient, which no other way takes.
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
    module_ : torch.nn.Module
        The trained networks, in float32: ``generator``, ``critic`` and
        ``standardizer``.
    loss_curve_ : list of float
        Sum of both losses and the penalty, an epoch each. It need not fall.
    loss_terms_ : dict of str to list of float
        The loss, its parts "critic", "generator" and "penalty", and "mmd", the squared
        discrepancy of training rows and samples, an epoch each.
    validation_curve_ : list of float
        Squared discrepancy of the held-out rows and as many samples, an epoch each; 0
        on average, or below, where they have one law. Empty without early stopping.
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
    VAE : A density, and codes of rows.
    FlowDensity : An exact density.
    skgen.metrics.two_sample_test : Whether samples and rows have one law.

    Notes
    -----
    The discrepancy is the unbiased squared MMD of :func:`skgen.metrics.kernel_mmd`, in
    standardised rows, with a mean of four Gaussian kernels, as wide as the median
    distance of rows, and a 4th, a 16th and a 64th of it, each relative to its mean over
    pairs of rows: 1 says that samples are far from all rows. Conditions are columns.

    References
    ----------
    Goodfellow et al., "Generative adversarial nets", NeurIPS 2014.

    Mirza & Osindero, "Conditional generative adversarial nets", 2014.

    Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017.

    Mescheder, Geiger & Nowozin, "Which training methods for GANs do actually
    converge?", ICML 2018.

    Heusel et al., "GANs trained by a two time-scale update rule converge to a local
    Nash equilibrium", NeurIPS 2017.

    Yazıcı et al., "The unusual effectiveness of averaging in GAN training", ICLR 2019.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from skgen import GAN
    >>> X, y = make_moons(200, noise=0.1, random_state=0)
    >>> model = GAN(4, condition="auto", max_iter=2, n_iter_no_change=1, random_state=0)
    >>> model = model.set_params(hidden_layer_sizes=16).fit(X, y)
    >>> model.sample(3, y=1).shape
    (3, 2)
    >>> hasattr(model, "score_samples")
    False
    """

    classes_: Any = attribute()
    n_conditions_: int = attribute()

    _loss_unit = ""

    n_components: int = parameter(integer(1), default=10, builds=True)
    _: KW_ONLY
    loss: Literal["non-saturating", "wasserstein"] = parameter(
        options(*GAMES), default="non-saturating"
    )
    gradient_penalty: float = parameter(real(0, LARGEST_STEP), default=0.1)
    hidden_layer_sizes: Sequence[int] | int = parameter(
        sequence(integer(1), 0, MOST_LAYERS),
        integer(1),
        default=(128, 128),
        builds=True,
    )
    activation: Activation = parameter(
        options(*ACTIVATIONS), default="relu", builds=True
    )
    architecture: Literal["mlp", "conv"] = parameter(
        options("mlp", "conv"), default="mlp", builds=True
    )
    image_shape: Sequence[int] | None = parameter(
        sequence(integer(1), 2, 3), none, default=None, builds=True
    )
    channels: int = parameter(integer(1), default=32, builds=True)
    standardize: bool = parameter(boolean, default=True, builds=True)
    weight_averaging: float = parameter(real(0, 1), default=0.999)
    tol: float = parameter(real(0), default=0.0)
    n_iter_no_change: int | Literal["auto"] = parameter(
        options("auto"), integer(1), default=100
    )
    execution: Literal["eager"] = parameter(options("eager"), default="eager")

    # What an implicit model lacks.

    score_samples = without_density()
    score = without_density()
    log_likelihood = without_density()
    predict = without_density()
    predict_proba = without_density()
    transform = without_encoder()
    fit_transform = without_encoder()
    reconstruct = without_encoder()

    # Fitting.

    @property
    def _new_likelihood(self) -> Cells:
        return Cells(False)

    def _check_features(self, n_features: int) -> None:
        settings: Any = self
        check_image(settings, n_features)

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> AdversarialNetworks:
        settings: Any = self
        make_critic, make_generator = default_networks(settings, n_features)
        if self.architecture == "mlp":
            make_generator = with_linear_path(make_generator, n_features)
        condition = self._new_condition
        c = 0 if condition is None else condition.width
        generator = make_generator(self.n_components + c, n_features)
        if self.architecture == "conv" and c:
            critic: nn.Module = ImageEncoder(make_critic(n_features, 1), n_features, c)
        else:
            critic = make_critic(n_features + c, 1)
        # There are no densities, whose units would be those of the rows.
        scale = Standardizer(standardizer.shift, standardizer.scale, is_mass=True)
        return AdversarialNetworks(
            generator, critic, likelihood, scale, condition, self.n_components
        )

    @property
    def _rates(self) -> dict[str, float]:  # type: ignore[override]
        return {"critic.": GAMES[self.loss].critic_rate}

    @property
    def _beta1(self) -> float:  # type: ignore[override]
        return GAMES[self.loss].beta1

    @property
    def _objective(self) -> AdversarialLoss:
        return AdversarialLoss(self.loss, self.gradient_penalty)

    def _noise(self, module: Any, n: int, generator: torch.Generator) -> Tensor:
        noise: Tensor = module.standard_noise((1, n), generator)
        return noise

    # Evaluating.

    def set_output(self, *, transform: Any = None) -> Self:
        """Set the container of the rows that are made: of samples, and of codes.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            Arrays, or DataFrames with the columns that were fitted; None changes
            nothing. The name is that of scikit-learn's transformers.

        Returns
        -------
        self : object
            The estimator.
        """
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}
        return self

    def inverse_transform(self, X: ArrayLike, y: Any = None) -> Any:
        """Make rows of codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Codes; those of ``sample`` are standard normal.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, or one for all, where there is a condition.

        Returns
        -------
        X_made : array or DataFrame of shape (n_samples, n_features)
            ``G(z)``, or ``G(z, y)``.
        """
        return super().inverse_transform(X, y)

    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        y: Any = None,
        noise: bool = True,
    ) -> Any:
        """Draw rows, of given conditions or of random classes.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.
        y : scalar or array-like of shape (n_samples, ...), default=None
            Condition of all rows, or of each. Where a label is missing, it is drawn
            with the frequencies of the training rows.
        noise : bool, default=True
            Ignored: a row is what the generator makes of its code. Present for API
            consistency.

        Returns
        -------
        X : array or DataFrame of shape (n_samples, n_features)
            Rows; in the order of ``y`` where it is given.
        """
        return super().sample(n_samples, random_state, y=y, noise=noise)

    @property
    def _n_features_out(self) -> int:
        size: int = self._fitted("n_components")
        return size

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags = tags.estimator_type = None
        return tags
