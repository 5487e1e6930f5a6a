"""VAEs that weigh the parts of the KL: InfoVAE and MMD-VAE, beta-TCVAE.

The mean over rows of ``KL(q(z|x) || p(z))`` is the mutual information of row and code,
and ``KL(q(z) || p(z))`` of the aggregate posterior. Models and scores are those of the
VAE; the training loss is another.
"""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Literal

from skgen._networks.dense import Standardizer
from skgen._utils.parameters import LARGEST_STEP, estimator, options, parameter, real
from skgen.likelihoods import Likelihood
from skgen.models.vae import VAE, VariationalAutoencoder
from skgen.objectives import KERNELS, InfoLoss, TotalCorrelationLoss


@estimator
class InfoVAE(VAE):
    """InfoVAE: a VAE that keeps what its code says of a row, and fits the prior by MMD.

    Trained on ``E_q[log p(x|z)] - (1 - alpha) KL(q(z|x) || p(z)) - c MMD^2(q(z),
    p(z))``: with ``alpha`` above 0 a code may say more of its row for nothing, and the
    codes of all rows together are held to the prior. ``alpha=1``, the default, is the
    MMD-VAE. The score is the VAE's bound on ``log p(x)``, whatever the weights.

    Parameters
    ----------
    n_components : int or sequence of int, default=10
        Number of latent coordinates. More than the data need are left unused: their
        posterior stays at the prior. A sequence stacks stochastic layers, the one
        next to the data first: with ``(100, 50)``, p(z) is itself a latent variable
        model of 50 coordinates, and ``transform`` gives the 100. A sequence of
        sequences as ``hidden_layer_sizes`` then gives each layer its own widths.
    inference : {"bottom-up", "top-down"}, default="bottom-up"
        How stacked layers are inferred. "bottom-up" encodes the code of each from that
        of the layer below. "top-down" draws the last first, and each other given the
        one above: there the prior meets the evidence of the row, the two weighed by
        their precisions (a ladder VAE). Its networks have residual cells; with
        ``architecture="conv"``, a layer whose coordinates are a multiple of the places
        of the smallest grid (49 of images of 28 x 28) is a grid of codes. An encoder of
        your own gives the means of all layers then, and their log sigmas behind them.
    prior : {"normal", "mixture", "vamp", "flow"}, default="normal"
        p(z): the standard normal density; or one that is learned with the networks. A
        "mixture" of normal densities; a mixture of the posteriors of pseudo-inputs,
        rows that are learned ("vamp", Tomczak & Welling 2018); or a normalising
        "flow", three layers of splines, which needs zuko: ``pip install
        "scikit-generative[flow]"``. Of stochastic layers that are stacked, the last
        has it, and "vamp" is for one.
    prior_components : int, default=50
        Components of a mixture, and pseudo-inputs.
    posterior_type : {"diag", "full", "mixture", "flow"}, default="diag"
        Family of q(z|x), for one stochastic layer: normal with independent coordinates;
        normal with a full covariance; a mixture of four normal densities, each with
        independent coordinates; or a conditional normalising flow, four coupling
        layers of splines, which needs zuko: ``pip install "scikit-generative[flow]"``.
        The closer it comes to p(z|x), the tighter the bound. Under a flow, codes and
        their spread are moments over 64 points.
    min_rate : float, default=0.0
        Nats that the code carries at least: a bound on sigma(x) keeps the KL of every
        row above it, whatever the networks learn (a delta-VAE), so that codes are not
        given up. For ``prior="normal"`` and ``posterior_type="diag"`` of one layer.
    encoder_rate : float, default=1.0
        Multiple of the learning rate for the encoder. Above 1 it keeps up with a
        decoder that learns fast, in the place of several updates of the encoder for
        each of the decoder (He et al. 2019).
    kl_warmup : int or "auto", default="auto"
        Epochs over which the KL term rises to its weight, so that coordinates are
        not given up before they are of use. Early stopping waits for its end. "auto"
        is as many as make up 200 steps, a quarter of ``max_iter`` at most; 0 is none.
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
    alpha : float, default=1.0
        Weight of the mutual information of row and code, at most 1. At 0, with
        ``mmd_weight=0``, it is :class:`VAE`, to the bit.
    mmd_weight : float, default=100.0
        Weight c of the squared maximum mean discrepancy between the codes of a batch
        and draws from the prior: ``alpha + lambda - 1`` in the terms of the paper.
    kernel : {"imq", "rbf"}, default="imq"
        Kernel of MMD: inverse multiquadratic, a mean over seven scales; or normal, with
        a variance of as much as there are coordinates.

    Attributes
    ----------
    active_units_ : int or tuple of int
        Latent coordinates in use: the variance of their posterior mean over the
        (last given) training rows is above 0.01. With stochastic layers stacked,
        those of each.
    latent_variances_ : ndarray of shape (n_components,)
        Those variances, of all layers.
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
    VAE : ``alpha = 0``, without MMD.
    TCVAE : Weighs the dependence of coordinates.
    BetaVAE : Weighs the whole KL.

    Notes
    -----
    MMD is estimated for each batch, without bias: batches of some 100 rows are better
    than small ones. With ``alpha=1`` nothing keeps q(z|x) wide, and the score, which
    draws codes from it, may be loose: compare :meth:`log_likelihood`.

    References
    ----------
    Zhao, Song & Ermon, "InfoVAE: balancing learning and inference in variational
    autoencoders", AAAI 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import InfoVAE
    >>> X = load_wine().data
    >>> model = InfoVAE(3, alpha=0.5, random_state=0).fit(X)
    >>> model.transform(X).shape
    (178, 3)
    """

    _: KW_ONLY
    # The loss couples the rows of a batch.
    _fits_together = False

    alpha: float = parameter(real(0, 1, closed="both"), default=1.0)
    mmd_weight: float = parameter(real(0, LARGEST_STEP), default=100.0)
    kernel: Literal["imq", "rbf"] = parameter(options(*KERNELS), default="imq")

    @property
    def _objective(self) -> InfoLoss:
        return InfoLoss(self.alpha, self.mmd_weight, self.kernel)

    @property
    def _n_training_draws(self) -> int:
        return 2 if self.mmd_weight else 1  # the second is of the prior

    @property
    def _stack_key(self) -> None:
        return None

    @property
    def _descends_bound(self) -> bool:
        return not (self.alpha or self.mmd_weight)

    @property
    def _gains_by_linear_path(self) -> bool:
        return super()._gains_by_linear_path and self._descends_bound


@estimator
class TCVAE(VAE):
    """beta-TCVAE: a VAE that weighs the dependence of its code's coordinates.

    The mean KL over rows is the mutual information of row and code, the total
    correlation of the code, and how far each coordinate is from the prior. BetaVAE
    weighs all three; this one the total correlation alone, so that coordinates become
    independent at less cost to reconstructions. The score never contains ``beta``.

    Parameters
    ----------
    n_components : int, default=10
        Number of latent coordinates.
    inference : {"bottom-up", "top-down"}, default="bottom-up"
        How stacked layers are inferred. "bottom-up" encodes the code of each from that
        of the layer below. "top-down" draws the last first, and each other given the
        one above: there the prior meets the evidence of the row, the two weighed by
        their precisions (a ladder VAE). Its networks have residual cells; with
        ``architecture="conv"``, a layer whose coordinates are a multiple of the places
        of the smallest grid (49 of images of 28 x 28) is a grid of codes. An encoder of
        your own gives the means of all layers then, and their log sigmas behind them.
    prior : {"normal", "mixture", "vamp", "flow"}, default="normal"
        p(z): the standard normal density; or one that is learned with the networks. A
        "mixture" of normal densities; a mixture of the posteriors of pseudo-inputs,
        rows that are learned ("vamp", Tomczak & Welling 2018); or a normalising
        "flow", three layers of splines, which needs zuko: ``pip install
        "scikit-generative[flow]"``. Of stochastic layers that are stacked, the last
        has it, and "vamp" is for one.
    prior_components : int, default=50
        Components of a mixture, and pseudo-inputs.
    posterior_type : {"diag"}, default="diag"
        Family of q(z|x): normal with independent coordinates.
    min_rate : float, default=0.0
        Nats that the code carries at least: a bound on sigma(x) keeps the KL of every
        row above it, whatever the networks learn (a delta-VAE), so that codes are not
        given up. For ``prior="normal"`` and ``posterior_type="diag"`` of one layer.
    encoder_rate : float, default=1.0
        Multiple of the learning rate for the encoder. Above 1 it keeps up with a
        decoder that learns fast, in the place of several updates of the encoder for
        each of the decoder (He et al. 2019).
    kl_warmup : int or "auto", default="auto"
        Epochs over which the KL term rises to its weight, so that coordinates are
        not given up before they are of use. Early stopping waits for its end. "auto"
        is as many as make up 200 steps, a quarter of ``max_iter`` at most; 0 is none.
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
    beta : float, default=6.0
        Weight of the total correlation. At 1 it is :class:`VAE`, to the bit.

    Attributes
    ----------
    active_units_ : int or tuple of int
        Latent coordinates in use: the variance of their posterior mean over the
        (last given) training rows is above 0.01. With stochastic layers stacked,
        those of each.
    latent_variances_ : ndarray of shape (n_components,)
        Those variances, of all layers.
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
    BetaVAE : Weighs the whole KL.
    InfoVAE : Weighs the mutual information, and MMD to the prior.

    Notes
    -----
    The total correlation is estimated for each batch, in which every code meets the
    posterior of every row: batches of some 100 rows are better than small ones. Its
    value in ``loss_terms_`` is that of the batch, up to a constant.

    References
    ----------
    Chen, Li, Grosse & Duvenaud, "Isolating sources of disentanglement in variational
    autoencoders", NeurIPS 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import TCVAE
    >>> X = load_wine().data
    >>> model = TCVAE(3, random_state=0).fit(X)
    >>> model.transform(X).shape
    (178, 3)
    """

    _: KW_ONLY
    # The loss couples the rows of a batch.
    _fits_together = False

    posterior_type: Literal["diag"] = parameter(
        options("diag"), default="diag", builds=True
    )
    beta: float = parameter(real(0, LARGEST_STEP), default=6.0)

    @property
    def _objective(self) -> TotalCorrelationLoss:
        return TotalCorrelationLoss(self.beta)

    @property
    def _stack_key(self) -> None:
        return None

    @property
    def _descends_bound(self) -> bool:
        return self.beta == 1

    @property
    def _gains_by_linear_path(self) -> bool:
        return super()._gains_by_linear_path and self._descends_bound

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> VariationalAutoencoder:
        if len(self._component_sizes) > 1:
            raise ValueError(
                f"The 'n_components' parameter of {type(self).__name__} must be an int "
                "or a sequence of one: the total correlation is that of one layer. Got "
                f"{self.n_components!r} instead."
            )
        return super()._build(n_features, likelihood, standardizer)
