"""Parts of docstrings that several classes share: written once, read everywhere."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T", bound=type)

LATENT_PARAMETERS = """\
    n_components : int or sequence of int, default=10
        Number of latent coordinates. More than the data need are left unused: their
        posterior stays at the prior. A sequence stacks stochastic layers, the one
        next to the data first: with ``(100, 50)``, p(z) is itself a latent variable
        model of 50 coordinates, and ``transform`` gives the 100. A sequence of
        sequences as ``hidden_layer_sizes`` then gives each layer its own widths.
    kl_warmup : int or "auto", default="auto"
        Epochs over which the KL term rises to its weight, so that coordinates are
        not given up before they are of use. Early stopping waits for its end. "auto"
        is as many as make up 200 steps, a quarter of ``max_iter`` at most; 0 is none.
"""

LATENT_ATTRIBUTES = """\
    active_units_ : int or tuple of int
        Latent coordinates in use: the variance of their posterior mean over the
        (last given) training rows is above 0.01. With stochastic layers stacked,
        those of each.
    latent_variances_ : ndarray of shape (n_components,)
        Those variances, of all layers.
"""

NETWORK_PARAMETERS = """\
    hidden_layer_sizes : sequence of int or int, default=(256,)
        Widths of the hidden layers of the encoder; the decoder has them in reverse.
        ``()`` makes both linear maps.
    activation : {"relu", "tanh", "logistic", "identity", "gelu", "silu", \
"softplus"}, default="relu"
        Activation of the hidden layers.
    architecture : {"mlp", "conv"}, default="mlp"
        Kind of both networks: fully connected layers for tables; convolutional and
        residual for images, which need ``image_shape``.
    image_shape : (height, width) or (height, width, channels), default=None
        Shape of the image that a row holds, channels last; each side from 8 to 128
        for "conv", with 1 to 4 channels.
    channels : int, default=32
        Channels of the first layers of "conv"; each halving of the image doubles
        them, up to four times.
    likelihood : {"gaussian", "bernoulli", "continuous_bernoulli", \
"discretized_logistic", "categorical"} or Likelihood, default="gaussian"
        Density p(x|z) of a row given its code: normal with a learned sigma a feature;
        Bernoulli for binary rows; continuous Bernoulli for rows in [0, 1]; for pixels
        of 8 bits a discretised logistic or a categorical; or an object of
        :mod:`skgen.likelihoods`, where each has its options.
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
        Improvement, in nats a row, below which an epoch counts as none.
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
        extend those of the earlier fits, and a KL warm-up continues where it was.
    random_state : int, RandomState, Generator or None, default=None
        Source of initial weights, held-out rows, shuffles and noise.
    device : str, default="cpu"
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
        Whether to print a line an epoch.
"""

NETWORK_ATTRIBUTES = """\
    module_ : torch.nn.Module
        The trained networks, in float32: ``encoder``, ``decoder``, ``likelihood``,
        ``standardizer`` and ``prior``.
    loss_curve_ : list of float
        Mean training loss of each epoch, in nats a row.
    loss_terms_ : dict of str to list of float
        The loss and its parts, an epoch each.
    validation_curve_ : list of float
        What the held-out rows were watched for, an epoch each: the loss (for VQVAE
        minus the reconstruction). Empty without early stopping.
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
"""


def with_shared_docs(cls: T) -> T:
    """Fill the placeholders in a class's docstring."""
    doc = cls.__doc__ or ""
    doc = doc.replace("    {network parameters}\n", NETWORK_PARAMETERS)
    doc = doc.replace("    {latent parameters}\n", LATENT_PARAMETERS)
    doc = doc.replace("    {latent attributes}\n", LATENT_ATTRIBUTES)
    cls.__doc__ = doc.replace("    {network attributes}\n", NETWORK_ATTRIBUTES)
    return cls
