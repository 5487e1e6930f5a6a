"""The autoencoder: a code that reconstructs, and a density that is fitted to codes.

``z = f(x)``, ``x ~ p(x|z)`` about the decoder, and ``p(z)`` any density of the codes of
the training rows. Without it there are codes and reconstructions, and no scores.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import KW_ONLY
from itertools import chain
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter
from torch import Tensor, nn

from skgen._networks.dense import Standardizer
from skgen._networks.proposals import CoupledNormal
from skgen._training.batches import Batch
from skgen._training.data import Rows, WeightedRows
from skgen._utils.moments import Moments
from skgen._utils.parameters import (
    LARGEST_STEP,
    Rule,
    attribute,
    estimator,
    integer,
    none,
    options,
    parameter,
    real,
)
from skgen._utils.tensors import to_array, wide_dtype
from skgen.likelihoods import Gaussian, Likelihood
from skgen.models.base import GenerativeModel
from skgen.models.building import networks
from skgen.models.evaluation import BoundedModel, LogLikelihood
from skgen.models.neural import NeuralModel, available_unless
from skgen.models.planning import TrainingPlan
from skgen.objectives import CORRUPTIONS, ReconstructionLoss

# Step of the slopes of a decoder, in standard deviations of each coordinate.
SLOPE_STEP = 0.1
# Variance of a coordinate of the code, at least, as a part of the largest one.
LEAST_VARIANCE = 1e-6

density = Rule(
    lambda value: (
        not isinstance(value, type)
        and all(hasattr(value, name) for name in ("fit", "score_samples", "sample"))
    ),
    "a density: an estimator with fit, score_samples and sample",
)


class DensityPrior(NamedTuple):
    """p(z) of a fitted estimator, which takes arrays."""

    density: Any

    def log_prob(self, codes: Tensor) -> Tensor:
        """Log-density (..., n) of codes (..., n, k)."""
        rows = to_array(codes.flatten(0, -2)).astype(np.float64)
        found = np.asarray(self.density.score_samples(rows), dtype=np.float64)
        return torch.from_numpy(found).to(codes).view(codes.shape[:-1])

    def draw(self, n: int, seed: int) -> NDArray[Any]:
        """Draw codes (n, k), in random order."""
        density = self.density
        if "random_state" in inspect.signature(density.sample).parameters:
            drawn = density.sample(n, random_state=seed)
        else:  # as scikit-learn's mixtures, which give rows by component, and labels
            density = copy.copy(density)
            density.random_state = seed
            drawn = density.sample(n)
        rows = drawn[0] if isinstance(drawn, tuple) else drawn
        return np.asarray(rows)[np.random.RandomState(seed).permutation(n)]


class DeterministicAutoencoder(BoundedModel):
    """Encoder, decoder, likelihood, and what proposals need to know of codes.

    Codes of a row are proposed by the linear model that the decoder is near its code:
    with slopes J (d, k) and residual r, ``x = J (z' - z) + r``, noise diag v and a
    normal p(z) with the moments of all codes, the posterior of z' is normal.
    """

    prior: DensityPrior | None = None  # where a density was fitted
    code_mean: Tensor  # (k,)
    code_covariance: Tensor  # (k, k)
    residual: Tensor  # v, (d,)

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
        self.n_components = n_components
        self.register_buffer("code_mean", torch.zeros(n_components))
        self.register_buffer("code_covariance", torch.eye(n_components))
        self.register_buffer("residual", torch.ones(len(standardizer.shift)))
        if is_squared(likelihood):  # its sigma is that of what is left
            likelihood.requires_grad_(False)
        self.register_noise(n_importance_samples)

    def standard_noise(
        self, shape: Sequence[int], generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw standard normal noise (..., k)."""
        like = next(chain(self.encoder.parameters(), self.parameters()))
        noise = like.new_empty(*shape, self.n_components)
        return noise.normal_(generator=generator)

    def reconstructed(self, x: Tensor) -> Tensor:
        """Decode the codes of rows (n, d), to outputs (n, p)."""
        return self.decoder_outputs(self.encoder_outputs(x))

    def encode(self, x: Tensor) -> Tensor:
        """Code (n, k)."""
        return self.encoder_outputs(self.view(x))

    def outputs_of(self, z: Tensor) -> Tensor:
        """Decode codes (..., n, k), to outputs (..., n, p)."""
        return self.decoder_outputs(z)

    def draw_codes(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw codes (n, k) from p(z), or from N(0, I) where there is none yet."""
        noise = self.standard_noise((n,), generator)
        if self.prior is None:
            return noise
        seed = torch.randint(2**31 - 1, (), generator=generator, device=noise.device)
        return torch.from_numpy(self.prior.draw(n, int(seed))).to(noise)

    # The proposal.

    def posterior(self, batch: Batch) -> CoupledNormal:
        """Return the normal density of codes about those of rows (n, d)."""
        wide, z = wide_dtype(batch.x.device), self.encoder_outputs(batch.x)
        left = batch.x - self.likelihood.mean(self.decoder_outputs(z))
        slopes = self._slopes(z).to(wide)  # (k, n, d)
        weighted = slopes / self.residual.to(wide)
        of_codes = self.code_covariance.to(wide).inverse()
        precision = torch.einsum("ind,jnd->nij", slopes, weighted) + of_codes
        pull = torch.einsum("ind,nd->ni", weighted, left.to(wide))
        pull += (self.code_mean - z).to(wide) @ of_codes
        step = torch.linalg.solve(precision, pull)
        return CoupledNormal.of_precision(z + step, precision).to(batch.x.dtype)

    def _slopes(self, z: Tensor) -> Tensor:
        """Slopes (k, n, d) of the decoded mean at codes (n, k).

        By differences over a step that looks across the kinks of activations.
        """
        steps = SLOPE_STEP * self.code_covariance.diagonal().sqrt().diag()  # (k, k)
        codes = torch.stack([z + steps[:, None], z - steps[:, None]])  # (2, k, n, k)
        above, below = self.likelihood.mean(self.decoder_outputs(codes))
        slopes: Tensor = (above - below) / (2 * steps.diagonal()[:, None, None])
        return slopes

    def set_codes(self, codes: Tensor, weight: Tensor | None) -> Tensor:
        """Take notice of the codes (n, k) of training rows; return their variances."""
        moments = Moments.of(codes, weight, full=True)
        scatter = moments.scatter
        scatter = scatter.T @ scatter if moments.is_factor else scatter
        covariance = scatter / moments.weight
        least = LEAST_VARIANCE * covariance.diagonal().max().clamp(min=1e-12)
        self.code_mean.copy_(moments.mean)
        self.code_covariance.copy_(
            covariance + least * torch.eye(len(scatter)).to(least)
        )
        return moments.variance

    def left_of(self, rows: WeightedRows) -> Tensor:
        """Mean squared residual (d,) of standardised rows."""

        def squared(part: Rows) -> Tensor:
            return (part.x - self.likelihood.mean(self.reconstructed(part.x))) ** 2

        chunks = rows.chunks(self.pass_rows)
        return Moments.of_parts((squared(part), part.weight) for part in chunks).mean

    def set_residual(self, variance: Tensor) -> None:
        """Take residual variances (d,); they are the noise of a squared error."""
        if is_squared(self.likelihood):
            near = self.likelihood.noise_near(variance).clamp(min=1e-12)
            self.likelihood.start_noise(near.to(self.residual), near)
            variance = cast(Gaussian, self.likelihood).sigma ** 2
        self.residual.copy_(variance.clamp(min=1e-12))

    @property
    def score_elements(self) -> int:
        """Numbers that scoring a row holds: its draws, or what slopes are from."""
        slopes = 2 * self.n_components * self.row_elements
        return max(super().score_elements, slopes)


def is_squared(likelihood: Likelihood) -> bool:
    """Return whether networks are trained on the squared error, and sigma follows."""
    return isinstance(likelihood, Gaussian) and likelihood.kind in ("feature", "shared")


def _without_density(model: Any) -> str | None:
    """Return why a model has no density; None where it has."""
    fitted = getattr(model, "latent_density_", None)
    if fitted is not None or not (
        hasattr(model, "module_") or model.latent_density is None
    ):
        return None
    return (
        f"{type(model).__name__} has no density of its own: latent_density=None. Give "
        "one that is fitted to its codes, such as latent_density=skgen."
        "GaussianMixtureEM(10), to sample and to score; or pass scoring= to a search."
    )


@estimator
class Autoencoder(NeuralModel):
    """Autoencoder: a code from which a row is reconstructed.

    An encoder network maps a row to its code, a decoder network the code to the row,
    and both learn to bring training rows back, from the rows as they are or with noise
    in them (the denoising autoencoder). Linear networks find the subspace of PCA. There
    is no density in this; ``latent_density`` is fitted to the codes afterwards, which
    gives ``sample`` and scores.

    Parameters
    ----------
    n_components : int, default=2
        Number of coordinates of the code.
    noise : float, default=0.0
        Noise that the encoder sees rows with in training: of "gaussian" corruption its
        standard deviation, in units of the standardised columns; of "masking" the part
        of the cells that are hidden, below 1.
    corruption : {"gaussian", "masking"}, default="gaussian"
        Kind of that noise: normal numbers that are added, or cells set to zero, which
        is the mean of a standardised column.
    latent_density : estimator, default=None
        Density of the codes: any with ``fit``, ``score_samples`` and ``sample``, of
        skgen or scikit-learn. A clone of it is fitted to the codes of the training rows
        after the networks. With ``None``, there is no ``sample`` and no score.
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
        What a reconstruction is judged by. "gaussian", or ``Gaussian`` with a sigma
        that is learned: by the squared error of standardised columns, and about the
        decoder p(x|z) is normal, with the variance of the residuals. Any other: by
        ``-log p(x|z)``, of complete rows.
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
    latent_density_ : estimator or None
        The density that was fitted to the codes.
    latent_variances_ : ndarray of shape (n_components,)
        Variance of each coordinate of the code over the (last given) training rows.
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
    VAE : A density whose encoder and decoder are learned together.
    GaussianDensity : With fewer components, the linear case, and exact.

    Notes
    -----
    With a ``latent_density`` p(z), rows are ``x ~ p(x|z)``, ``z ~ p(z)``, and the score
    is the importance-weighted bound on ``log p(x) = log int p(x|z) p(z) dz``, in nats:
    comparable with those of the other estimators. Codes are drawn from a narrow normal
    proposal about the code of the row, which follows the slopes of the decoder there.
    For linear networks and a Gaussian density of codes it is the posterior, and the
    score is exact.

    The residuals that make the noise of p(x|z) are those of the training rows in their
    proportions, and of the held-out rows, where there are any, in their size.

    ``partial_fit`` fits ``latent_density`` anew, to the codes of the rows of that call.
    A density that has a ``random_state`` of None gets a seed of its own.

    References
    ----------
    Ghosh, Sajjadi, Vergari, Black & Schoelkopf, "From variational to deterministic
    autoencoders", ICLR 2020.

    Vincent, Larochelle, Bengio & Manzagol, "Extracting and composing robust features
    with denoising autoencoders", ICML 2008.

    Baldi & Hornik, "Neural networks and principal component analysis: learning from
    examples without local minima", Neural Networks 2, 1989.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import Autoencoder, GaussianMixtureEM
    >>> X = load_wine().data
    >>> model = Autoencoder(3, latent_density=GaussianMixtureEM(3), random_state=0)
    >>> model.fit(X).transform(X).shape
    (178, 3)
    >>> model.sample(2, random_state=0).shape
    (2, 13)
    >>> model.score(X) > -22  # independent Gaussians: -22.0
    True
    """

    latent_density_: Any = attribute()
    latent_variances_: NDArray[Any] = attribute()

    n_components: int = parameter(integer(1), default=2, builds=True)
    _: KW_ONLY
    noise: float = parameter(real(0, LARGEST_STEP), default=0.0)
    corruption: Literal["gaussian", "masking"] = parameter(
        options(*CORRUPTIONS), default="gaussian"
    )
    latent_density: Any = parameter(density, none, default=None)

    # Training.

    @property
    def _objective(self) -> ReconstructionLoss:
        if self.corruption == "masking" and self.noise >= 1:
            raise ValueError(
                f"The 'noise' parameter of {type(self).__name__} must be a float in "
                "the range [0.0, 1.0) with corruption='masking': the part of the cells "
                f"that are hidden. Got {self.noise!r} instead."
            )
        squared = is_squared(self.module_.likelihood)
        return ReconstructionLoss(self.noise, self.corruption, squared)

    def _noise(self, module: Any, n: int, generator: torch.Generator) -> Tensor | None:
        if self.noise == 0:
            return None
        like = module.standardizer.shift.new_empty(0, dtype=torch.float32)
        noise = like.new_empty(1, n, len(module.standardizer.shift))
        draw = noise.normal_ if self.corruption == "gaussian" else noise.uniform_
        found: Tensor = draw(generator=generator)
        return found

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> DeterministicAutoencoder:
        if likelihood.allows_missing:
            raise ValueError(
                f"The 'likelihood' parameter of {type(self).__name__} must be one of "
                f"complete rows. Got {likelihood!r} instead; use VAE for tables with "
                "missing cells."
            )
        k = self.n_components
        encoder, decoder = networks(self, (n_features, k, k), likelihood)
        return DeterministicAutoencoder(
            encoder, decoder, likelihood, standardizer, k, self.n_importance_samples
        )

    def _finish(
        self,
        plan: TrainingPlan,
        train: WeightedRows,
        held_out: WeightedRows | None,
        generator: torch.Generator,
    ) -> None:
        self.__dict__.update(self._described(train))
        if held_out is None:
            return
        module = self.module_
        with torch.no_grad():
            left, here = module.left_of(held_out), module.left_of(train)
            larger = left.sum() / here.sum().clamp(min=1e-12)
            module.set_residual(here * larger.clamp(min=1))

    def _described(self, train: WeightedRows) -> dict[str, Any]:
        module = self.module_
        with torch.no_grad():
            chunks = train.chunks(module.pass_rows)
            codes = torch.cat([module.encoder_outputs(part.x) for part in chunks])
            variances = module.set_codes(codes, train.weight)
            module.set_residual(module.left_of(train))
        return {
            "latent_density_": self._density_of(codes, train.weight),
            "latent_variances_": to_array(variances),
        }

    def _density_of(self, codes: Tensor, weight: Tensor | None) -> Any:
        """Fit the density of codes (n, k) with weights (n,), where one is given."""
        if self.latent_density is None:
            return None
        density, given = clone(self.latent_density), {}
        if density.get_params().get("random_state", 0) is None:
            density.set_params(random_state=0)
        if weight is not None:
            if not has_fit_parameter(density, "sample_weight"):
                raise ValueError(
                    f"latent_density={self.latent_density!r} of {type(self).__name__} "
                    "takes no sample_weight. Use one that does, such as skgen."
                    "GaussianMixtureEM, or leave the weights out."
                )
            given["sample_weight"] = to_array(weight)
        return density.fit(to_array(codes).astype(np.float64), **given)

    def _set_file_state(self, state: dict[str, Any]) -> None:
        density = state.get("latent_density_")
        if density is not None and not isinstance(density, GenerativeModel):
            raise ValueError("the density of the codes is none")
        super()._set_file_state(state)
        if density is not None and density.n_features_in_ != self._n_features_out:
            raise ValueError("the density is of other codes")

    # Evaluating.

    def _model(self, dtype: torch.dtype) -> Any:
        model = copy.copy(super()._model(dtype))
        if self.latent_density_ is not None:
            model.prior = DensityPrior(self.latent_density_)
        return model

    @available_unless(_without_density)
    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        noise: bool = True,
        given: None = None,
        return_code: bool = False,
    ) -> Any:
        """Draw rows from the density that ``score_samples`` evaluates.

        Only with a ``latent_density``.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.
        noise : bool, default=True
            Whether to add the noise of p(x|z). Without it, a row is the decoded
            draw of a code: the picture that people look at.
        given : None
            There is no density of some cells given others: anything else is an error.
        return_code : bool, default=False
            Whether to return the latent codes of the rows, too.

        Returns
        -------
        X : array or DataFrame of shape (n_samples, n_features)
            Rows in random order, in the dtype of the training data.
        code : array of shape (n_samples, n_components)
            If ``return_code``: the latent draws.
        """
        return super().sample(
            n_samples, random_state, noise=noise, given=given, return_code=return_code
        )

    @available_unless(_without_density)
    def score_samples(self, X: ArrayLike, given: None = None) -> NDArray[Any]:
        """Evaluate the log-density of each row.

        Only with a ``latent_density``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        given : None
            There is no density of some cells given others: anything else is an error.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            Lower bound on log p(x) in nats, by importance sampling.
        """
        return super().score_samples(X, given)

    @available_unless(_without_density)
    def score(
        self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the mean log-density of the rows.

        Only with a ``latent_density``: a reconstruction error is no score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, not negative; only their ratios matter.

        Returns
        -------
        score : float
            Weighted mean of ``score_samples(X)``, in nats per row.
        """
        return super().score(X, y, sample_weight)

    @available_unless(_without_density)
    def log_likelihood(
        self, X: ArrayLike, n_samples: int = 5000, *, random_state: Any = 0
    ) -> LogLikelihood:
        """Estimate log p(x) carefully, with many importance samples.

        Only with a ``latent_density``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        n_samples : int, default=5000
            Draws of codes, for each row.
        random_state : int, RandomState, Generator or None, default=0
            Source of the draws; ``None`` is fresh entropy at each call.

        Returns
        -------
        estimate : LogLikelihood
            ``log_prob`` and its Monte Carlo ``standard_error``, in nats.

        Warns
        -----
        DegenerateWeightsWarning
            If the effective sample size of a row is below 2, of 500 draws or more.
        """
        return super().log_likelihood(X, n_samples, random_state=random_state)

    @property
    def _allows_missing(self) -> bool:
        return False

    @property
    def _without_missing(self) -> str:
        return (
            f"{type(self).__name__} has no impute: its code is that of a complete row. "
            "Use skgen.MixedDensity(skgen.VAE())."
        )

    @property
    def _code_variances(self) -> NDArray[Any]:
        return self.latent_variances_

    @property
    def _code_mean(self) -> NDArray[Any]:
        return to_array(self.module_.code_mean)

    @property
    def _n_features_out(self) -> int:
        n_components: int = self.module_.n_components
        return n_components
