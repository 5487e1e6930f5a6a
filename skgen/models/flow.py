"""Normalising flows: exact densities by invertible maps to a standard normal.

``z = f(x)`` with f invertible, so ``log p(x) = log N(f(x); 0, I) + log |det df/dx|``.
f is a sequence of maps that are autoregressive, or couple one half of the columns with
the other; each moves a column by a monotonic function whose parameters a network makes
of the columns before it. The maps are those of the library zuko.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skgen._networks.dense import ACTIVATIONS, Activation, PassSize, Standardizer
from skgen._networks.flows import invertible_map, shapes_of
from skgen._training.batches import Batch
from skgen._utils.parameters import (
    attribute,
    boolean,
    estimator,
    integer,
    options,
    parameter,
    sequence,
)
from skgen._utils.sizes import COPIES
from skgen.likelihoods import Likelihood
from skgen.likelihoods.cells import Cells
from skgen.models.conditions import (
    Classes,
    ConditionedModel,
    Numbers,
    OptionallyConditioned,
)
from skgen.models.evaluation import (
    N_BLOCKS,
    BoundedModel,
    estimate_log_likelihood,
    row_blocks,
)
from skgen.models.hyperparameters import MOST_LAYERS
from skgen.objectives import NegativeLogLikelihood, importance_weighted_bound
from skgen.priors import StandardNormal


class NormalizingFlow(ConditionedModel):
    """An invertible map of standardised rows to normal codes, and its density.

    Parameters
    ----------
    transform : Module
        A lazy transformation of zuko: called with conditions (n, c) or None, it gives
        a ``torch.distributions.Transform`` of rows.
    likelihood : Cells
        Says which columns are discrete.
    standardizer : Standardizer
        Scale of the rows.
    condition : Classes, Numbers or None
        Makes of a context what networks see.
    n_importance_samples : int
        Draws of a score within the cells of discrete columns.
    """

    likelihood: Cells

    def __init__(
        self,
        transform: nn.Module,
        likelihood: Cells,
        standardizer: Standardizer,
        condition: Classes | Numbers | None,
        n_importance_samples: int,
    ) -> None:
        super().__init__(likelihood, standardizer)
        self.transform, self.condition = transform, condition
        self.prior = StandardNormal(len(standardizer.shift))
        self.has_cells = bool((likelihood.step > 0).any())
        likelihood.draws_rows = self.has_cells
        n, d = (n_importance_samples, self.n_features) if self.has_cells else (1, 0)
        self.register_buffer("noise", torch.rand(N_BLOCKS, n, d))
        self.register_buffer("thresholds", torch.rand(N_BLOCKS, d))

    @property
    def n_features(self) -> int:
        """Return the number of columns, d."""
        return len(self.standardizer.shift)

    def set_rows(self, x: Tensor) -> None:
        """Adapt to training rows, standardised."""
        self.count_outputs(x[:1])

    def count_outputs(self, x: Tensor) -> None:
        """Count the numbers that layers make of a row (1, d), and their work."""
        self.widest, self.work = PassSize.of(self, x)

    def forward(self, x: Tensor) -> Tensor:
        """Return codes (n, d) of standardised rows under a condition of zeros."""
        condition = None
        if self.condition is not None:
            condition = x.new_zeros(len(x), self.condition.width)
        codes: Tensor = self.transform(condition)(x)
        return codes

    def set_context(self, context: Tensor | None, weight: Tensor | None) -> None:
        """Adapt to the conditions of training rows, where there are some."""
        if self.condition is not None:
            super().set_context(context, weight)

    # As objectives call it: rows are standardised, and discrete columns are spread.

    def log_density(self, batch: Batch) -> Tensor:
        """Log p(x|y), (..., n), of rows (..., n, d) and their conditions."""
        condition = None if self.condition is None else self.conditions(batch)
        z, log_det = self.transform(condition).call_and_ladj(batch.x)
        density: Tensor = self.prior.log_prob(z) + log_det
        return density

    def spread(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Move rows (n, d) within the cells of their discrete columns."""
        widths = self.likelihood.widths(self.standardizer.scale).to(x.dtype)
        return x + (uniform - 0.5) * widths

    def observe(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Spread training rows (n, d) afresh."""
        if not self.has_cells:
            return x
        return self.spread(x, torch.empty_like(x).uniform_(generator=generator))

    # As estimators call it: rows and scores are in the units of the user.

    def view(self, x: Tensor) -> Tensor:
        """Rows (n, d) as the map sees them, spread in a way that is theirs."""
        scaled: Tensor = self.standardizer(x)
        if not self.has_cells:
            return scaled
        return self.spread(scaled, self.thresholds[row_blocks(x)])

    def scored_given(self, x: Tensor, context: Tensor | None) -> Batch:
        """Rows (n, d) as a batch that is scored, with places in their cells."""
        noise = self.noise_of(x) if self.has_cells else None
        return Batch(self.standardizer(x), noise, context=context)

    def bound(self, batch: Batch) -> Tensor:
        """Log p(x|y), (n,): exact, or in cells the log of a mean over draws."""
        if batch.noise is None:
            return self.log_density(batch)
        spread = batch._replace(x=self.spread(batch.x, batch.noise))
        return importance_weighted_bound(self.log_density(spread))

    def careful_bound(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        """Return it from many draws, and its standard error, (n, 2)."""
        if batch.noise is None:
            exact = self.log_density(batch)
            return torch.stack([exact, torch.zeros_like(exact)], dim=1)
        like = batch.noise

        def draw_log_weights(n_draws: int) -> Tensor:
            uniform = like.new_empty(n_draws, *like.shape[1:])
            uniform.uniform_(generator=generator)
            return self.log_density(batch._replace(x=self.spread(batch.x, uniform)))

        found = estimate_log_likelihood(draw_log_weights, n_samples, len(like))
        return torch.stack(found, dim=1)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Codes (n, d) of rows, standard normal where rows are of the density."""
        codes: Tensor = self._map_given(x, context)(self.view(x))
        return codes

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Rows (n, d) of codes."""
        rows = self.standardizer.inverse(self._map_given(z, context).inv(z))
        return self.likelihood.mean(rows) if self.has_cells else rows

    def draw(
        self,
        n: int,
        noise: bool,
        generator: torch.Generator,
        context: Tensor | None = None,
    ) -> Tensor:
        """Draw rows (n, d) from p(x|y); y too, where it is missing."""
        z = self.noise.new_empty(n, self.n_features).normal_(generator=generator)
        return self.decode(z, self.drawn_labels(context, n, generator))

    def _map_given(self, x: Tensor, context: Tensor | None) -> Any:
        """Return the map under the conditions of rows (n, d)."""
        if self.condition is None:
            return self.transform(None)
        if context is None or not self.condition.is_known(context).all():
            raise ValueError(
                "Codes of a FlowDensity with a condition are codes given y. Pass y, "
                "a label or numbers for each row, or one for all; none may be missing."
            )
        return self.transform(self.conditions(Batch(x, context=context)))

    @property
    def score_elements(self) -> int:
        """Numbers that scoring a row holds at a time: its draws, in all layers."""
        return self.noise.shape[1] * self.row_elements


@estimator
class FlowDensity(OptionallyConditioned):
    """Normalising flow: an exact density by an invertible map to a standard normal.

    ``log p(x) = log N(f(x); 0, I) + log |det df/dx|``, with f of several layers, each
    of which moves every column by a monotonic function that depends on the columns
    before it: rational-quadratic splines (Durkan et al. 2019) or affine maps. Trained
    by maximum likelihood. ``transform`` gives f(x), ``inverse_transform`` is its
    inverse, and ``score_samples`` is exact: the density that models of tables are
    measured against. It needs zuko: ``pip install "scikit-generative[flow]"``.

    Parameters
    ----------
    n_transforms : int, default=3
        Layers of the map.
    univariate : {"spline", "affine"}, default="spline"
        Monotonic function that moves a column: a rational-quadratic spline between -5
        and 5 standard deviations and the identity beyond, or an affine map, for which
        the flow is the masked autoregressive flow, or RealNVP.
    structure : {"autoregressive", "coupling"}, default="autoregressive"
        What a column's function depends on: "autoregressive", all columns before it,
        in one order and the reverse by turns, which fits best, and takes a pass for
        each column to invert; "coupling", one half of the columns on the other, which
        is inverted in two passes, whatever the number of columns.
    n_bins : int, default=8
        Bins of a spline.
    hidden_layer_sizes : sequence of int or int, default=(64, 64)
        Widths of the hidden layers of the network of each layer.
    activation : str, default="relu"
        Activation of the hidden layers: "relu", "tanh", "logistic", "identity", "gelu",
        "silu" or "softplus".
    condition : {"auto", "classes", "numbers"} or None, default=None
        Kind of y that rows are conditioned on; None ignores y. "auto" takes one column
        for classes, unless it holds numbers with fractions; and several columns for
        numbers.
    dequantize : {"auto"}, bool or sequence of int, default="auto"
        Columns whose values are discrete, and are spread over cells as wide as the
        step between them: "auto", those whose values are all integers; all of them;
        none; or those of the given places.
    standardize : bool, default=True
        Whether rows are shifted and scaled inside the model by the mean and standard
        deviation of the training rows. Densities are those of the rows as given,
        either way. Splines want it.
    n_importance_samples : int, default=16
        Draws within the cells of discrete columns, for each row in ``score_samples``.
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
        The trained flow, in float32: ``transform``, ``likelihood``, ``standardizer``
        and ``prior``.
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
    GaussianDensity : One normal density, exact and at once.
    GaussianMixtureEM : An exact density of clusters.
    VAE : A code of fewer coordinates, and a bound.

    Notes
    -----
    A discrete column has no density. Its value x stands for the cell of width h around
    it, and the score has ``log 1/h int p(x + u) du`` over the cell, from below, by
    ``n_importance_samples`` draws that are a function of the row; with h = 1 that is
    the log-probability of the value. Draws are rounded to such values, and so is
    ``inverse_transform``. ``log_likelihood`` takes more draws. Without discrete columns
    score and ``log_likelihood`` are exact, and equal.

    With a condition, ``score_samples(X, y)`` is log p(x|y), and for classes
    ``score_samples(X)`` is log p(x), p(y) the frequency of each class in training.

    Beyond 5 standard deviations a spline is the identity: rows there have the finite
    density of normal tails. Clip or transform columns with much heavier ones
    (:class:`GenerativePipeline`).

    References
    ----------
    Durkan, Bekasov, Murray & Papamakarios, "Neural spline flows", NeurIPS 2019.

    Papamakarios, Pavlakou & Murray, "Masked autoregressive flow for density
    estimation", NeurIPS 2017.

    Dinh, Sohl-Dickstein & Bengio, "Density estimation using Real NVP", ICLR 2017.

    Theis, van den Oord & Bethge, "A note on the evaluation of generative models", ICLR
    2016 (dequantisation).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_moons
    >>> from skgen import FlowDensity, GaussianDensity
    >>> X, y = make_moons(500, noise=0.1, random_state=0)
    >>> model = FlowDensity(2, hidden_layer_sizes=32, max_iter=20, random_state=0)
    >>> model = model.set_params(learning_rate_init=5e-3, n_iter_no_change=20).fit(X)
    >>> model.score(X) > GaussianDensity().fit(X).score(X) + 0.5
    True
    >>> codes = model.transform(X)
    >>> bool(np.allclose(model.inverse_transform(codes), X))
    True
    """

    classes_: NDArray[Any] = attribute()
    n_conditions_: int = attribute()

    n_transforms: int = parameter(integer(1, MOST_LAYERS), default=3, builds=True)
    _: KW_ONLY
    univariate: Literal["spline", "affine"] = parameter(
        options("spline", "affine"), default="spline", builds=True
    )
    structure: Literal["autoregressive", "coupling"] = parameter(
        options("autoregressive", "coupling"), default="autoregressive", builds=True
    )
    n_bins: int = parameter(integer(2), default=8, builds=True)
    hidden_layer_sizes: Sequence[int] | int = parameter(
        sequence(integer(1), 0, MOST_LAYERS), integer(1), default=(64, 64), builds=True
    )
    activation: Activation = parameter(
        options(*ACTIVATIONS), default="relu", builds=True
    )
    dequantize: Literal["auto"] | bool | Sequence[int] = parameter(
        options("auto"), boolean, sequence(integer(0)), default="auto", builds=True
    )
    standardize: bool = parameter(boolean, default=True, builds=True)
    n_importance_samples: int = parameter(integer(1), default=16, builds=True)

    # Fitting.

    @property
    def _new_likelihood(self) -> Cells:
        return Cells(self.dequantize)

    @property
    def _condition_width(self) -> int:
        """Numbers that networks see of a condition."""
        return 0 if self.condition is None else self.n_conditions_

    @property
    def _bins(self) -> int | None:
        """Bins of the spline of a column; None where it is affine."""
        return self.n_bins if self.univariate == "spline" else None

    def _layer_elements(self, n_features: int) -> tuple[int, int]:
        """Return how many weights a layer of the map has, and how many biases."""
        n_outputs = n_features * sum(sum(shape) or 1 for shape in shapes_of(self._bins))
        c = self._condition_width
        if n_features == 1 and not c:
            return 0, n_outputs
        widths = [n_features + c if n_features > 1 else c, *self._layer_sizes[0]]
        pairs = [*itertools.pairwise([*widths, n_outputs])]
        return sum(a * b for a, b in pairs), sum(b for _, b in pairs)

    def _module_bytes(
        self, n_features: int, build: Callable[[], BoundedModel]
    ) -> float:
        weights, biases = self._layer_elements(n_features)
        masks = weights  # a byte each
        return float(self.n_transforms * (4 * COPIES * (weights + biases) + masks))

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> NormalizingFlow:
        assert isinstance(likelihood, Cells)
        transform = invertible_map(
            type(self).__name__,
            n_features,
            self.n_transforms,
            self._layer_sizes[0],
            self.activation,
            n_bins=self._bins,
            structure=self.structure,
            n_conditions=self._condition_width,
        )
        return NormalizingFlow(
            transform,
            likelihood,
            standardizer,
            self._new_condition,
            self.n_importance_samples,
        )

    @property
    def _objective(self) -> NegativeLogLikelihood:
        return NegativeLogLikelihood()

    def _noise(self, module: Any, n: int, generator: torch.Generator) -> None:
        return None

    # Evaluating.

    @property
    def _n_features_out(self) -> int:
        return self.n_features_in_

    @property
    def _code_variances(self) -> NDArray[Any]:
        return np.ones(self.n_features_in_)  # codes are standard normal

    # State.

    def _rebuilt(
        self, state: dict[str, Any], built_with: dict[str, Any]
    ) -> BoundedModel:
        """Put the map together, if the weights at hand are as many as it has."""
        weights = state["weights"]
        n_features = len(weights["standardizer.shift"])
        here = sum(
            value.numel()
            for name, value in weights.items()
            if name.startswith("transform.") and value.is_floating_point()
        )
        builder = self._as_blank(built_with)
        n_weights = builder.n_transforms * sum(builder._layer_elements(n_features))
        if n_weights != here:
            raise ValueError(f"the flow has {n_weights} weights, and there are {here}")
        return super()._rebuilt(state, built_with)
