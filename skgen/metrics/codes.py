"""Which parts of a code are in use."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import entropy
from sklearn.utils import check_array, check_scalar

from skgen._utils.tensors import check_tokens, without_mask


def active_units(codes: ArrayLike, threshold: float = 0.01) -> int:
    """Count the latent coordinates that vary with the rows.

    Parameters
    ----------
    codes : array-like of shape (n_samples, n_components)
        Posterior means, as ``transform`` of a VAE gives them.
    threshold : float, default=0.01
        A coordinate is active when its variance over the rows is above it.

    Returns
    -------
    n_active : int
        Number of active coordinates.

    References
    ----------
    Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.

    Examples
    --------
    >>> from skgen.metrics import active_units
    >>> active_units([[0.0, 1.0], [0.1, -1.0]])
    1
    """
    check_scalar(threshold, "threshold", Real, min_val=0)
    variances = check_array(without_mask(codes, "codes"), dtype=np.float64).var(0)
    return int((variances > threshold).sum())


def codebook_perplexity(tokens: ArrayLike, codebook_size: int | None = None) -> float:
    """Count the codes of a codebook in effective use.

    The exponential of the entropy of their frequencies: the number of codes when all
    are used alike, and 1 when only one is used.

    Parameters
    ----------
    tokens : array-like of shape (n_samples, n_tokens) or any other
        Indices into the codebook, as ``transform`` of a VQVAE with
        ``encode="ordinal"`` gives them.
    codebook_size : int, default=None
        Size of the codebook, the bound that tokens are checked against; ``None`` is
        no bound.

    Returns
    -------
    perplexity : float
        From 1 to the number of distinct tokens.

    Raises
    ------
    ValueError
        If a token is not an index into the codebook.

    References
    ----------
    van den Oord, Vinyals & Kavukcuoglu, "Neural discrete representation learning",
    NeurIPS 2017.

    Examples
    --------
    >>> from skgen.metrics import codebook_perplexity
    >>> round(codebook_perplexity([[0, 1], [2, 3]], codebook_size=8), 6)
    4.0
    """
    K = np.iinfo(np.int64).max if codebook_size is None else codebook_size
    check_scalar(K, "codebook_size", Integral, min_val=1)
    indices = check_array(
        without_mask(tokens, "tokens"), ensure_2d=False, allow_nd=True
    )
    check_tokens(indices, K)
    _, counts = np.unique(indices, return_counts=True)
    return float(np.exp(entropy(counts)))
