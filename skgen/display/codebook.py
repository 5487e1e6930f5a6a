"""A codebook: what its codes decode to, and how much each is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.utils.validation import check_is_fitted

from skgen.display.drawing import (
    COLOURS,
    draw_heat_map,
    draw_mosaic,
    feature_names_of,
    feature_scale,
    figure_of,
    grey_range,
    image_shape_of,
    last_step,
    name_of,
    panel_axes,
    pyplot,
)

Array = NDArray[Any]

# Codes that are drawn as images, the most used first, in lines of so many.
MOST_IMAGES, LINE = 64, 8


@dataclass(eq=False, repr=False)
class CodebookDisplay:
    """The codes of a model: how much each is used, and what it decodes to.

    The codes are the tokens of a ``VQVAE``, the centres of a ``KMeansAutoencoder`` or
    the components of a ``GaussianMixtureEM``, the most used first.

    Parameters
    ----------
    usage : ndarray of shape (n_codes,)
        Part of the tokens, or of the rows, that each code has.
    rows : ndarray of shape (n_codes, n_features)
        What each code decodes to: for a ``VQVAE``, as every token of a row.
    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the image in a row; ``None``
        draws a table: a heat map, with a column for each code.
    feature_names : list of str, default=None
        Names of features.
    feature_mean, feature_std : ndarray of shape (n_features,), default=None
        What the features of a table are standardised by.
    decoded : str, default="each code, decoded"
        What the rows are.
    title : str, default="Codebook"
        Title of the picture.

    Attributes
    ----------
    order_ : ndarray of shape (n_codes,)
        Codes from the most used on.
    figure_ : Figure
        The figure.
    axes_ : list of Axes
        The usage, and what codes decode to.
    bars_ : BarContainer
        The usage, in this order.
    image_ : AxesImage
        The mosaic or the heat map, in this order.

    See Also
    --------
    skgen.metrics.codebook_perplexity : Codes in effective use, of any tokens.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgen import KMeansAutoencoder
    >>> from skgen.display import CodebookDisplay
    >>> model = KMeansAutoencoder(10, random_state=0).fit(load_digits().data)
    >>> display = CodebookDisplay.from_estimator(model, image_shape=(8, 8))
    >>> round(display.perplexity, 1)
    9.2
    """

    usage: Array
    rows: Array
    image_shape: tuple[int, ...] | None = None
    feature_names: list[str] | None = None
    feature_mean: Array | float = 0.0
    feature_std: Array | float = 1.0
    decoded: str = "each code, decoded"
    title: str = "Codebook"

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
    ) -> Self:
        """Decode each code, and draw it beside its usage.

        Parameters
        ----------
        estimator : object
            Fitted ``VQVAE``, ``KMeansAutoencoder`` or ``GaussianMixtureEM``, or a
            ``GenerativePipeline`` that ends in one.
        image_shape : sequence of int, default=None
            Shape of the image in a row; ``None`` is the estimator's own, if any.
        ax : Axes or array of Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : CodebookDisplay
            The picture, drawn. Usage is that of the training rows.

        Raises
        ------
        ValueError
            If the estimator has no codebook.
        """
        pyplot(cls, "from_estimator")
        check_is_fitted(estimator)
        model = last_step(estimator)
        usage, codes = _codes_of(model)
        rows = np.asarray(estimator.inverse_transform(codes))
        shape = image_shape_of(estimator, image_shape, rows.shape[1])
        mean, std = (0.0, 1.0) if shape else feature_scale(estimator)
        return cls(
            usage,
            rows,
            image_shape=shape,
            feature_names=feature_names_of(estimator, rows.shape[1]),
            feature_mean=mean,
            feature_std=std,
            decoded="one code as every token, decoded"
            if hasattr(model, "codebook_usage_")
            else cls.decoded,
            title=f"Codes of {name_of(estimator)}",
        ).plot(ax)

    @property
    def perplexity(self) -> float:
        """Codes in effective use: the exponential of the entropy of the usage."""
        return float(np.exp(entropy(self.usage)))

    def plot(self, ax: Any = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : Axes or array of 2 Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : CodebookDisplay
            This object, with the artists as attributes.
        """
        self.order_ = np.argsort(-self.usage, kind="stable")
        self.axes_ = panel_axes(self, ax, 2, title=self.title, size=(5.0, 4.0))
        self.figure_ = figure_of(self.axes_[0])
        self._plot_usage()
        if self.image_shape is None:
            self._plot_table()
        else:
            self._plot_images(self.image_shape)
        return self

    def _plot_usage(self) -> None:
        n, panel = len(self.usage), self.axes_[0]
        shares = 100 * self.usage[self.order_]
        self.bars_ = panel.bar(range(n), shares, color=COLOURS[0])
        panel.axhline(100 / n, color="0.3", linewidth=1, linestyle="--")
        panel.annotate(
            "equal use", (n - 0.5, 100 / n), ha="right", va="bottom", color="0.3"
        )
        panel.set(
            title=f"perplexity {self.perplexity:.1f} of {n} codes",
            xlabel="code, the most used first",
            ylabel="usage in training rows, %",
            xticks=[],
        )

    def _plot_images(self, shape: tuple[int, ...]) -> None:
        """Draw codes in lines of eight, each with its usage above."""
        shown = self.order_[:MOST_IMAGES]
        n_columns = min(LINE, len(shown))
        n_lines = -(-len(shown) // n_columns)
        rows = np.full((n_lines * n_columns, self.rows.shape[1]), np.nan)
        rows[: len(shown)] = self.rows[shown]
        self.image_ = draw_mosaic(
            self.axes_[1],
            rows.reshape(n_lines, n_columns, -1),
            shape,
            limits=grey_range(self.rows),
        )
        some = "" if len(shown) == len(self.rows) else f", the {len(shown)} most used"
        self.axes_[1].set_title(self.decoded + some)

    def _plot_table(self) -> None:
        panel = self.axes_[1]
        scaled = (self.rows[self.order_] - self.feature_mean) / self.feature_std
        names = self.feature_names or feature_names_of(None, self.rows.shape[1])
        self.image_ = draw_heat_map(panel, scaled.T, names)
        panel.set(
            title=self.decoded,
            xlabel="code, the most used first",
            xticks=[],
        )


def _codes_of(model: Any) -> tuple[Array, Array]:
    """Usage (K,) of each code, and codes that ``inverse_transform`` takes."""
    usage = _usage_of(model)
    K, width = len(usage), model._n_features_out
    encode = getattr(model, "encode", "onehot")
    if encode == "ordinal":
        return usage, np.repeat(np.arange(K, dtype=float)[:, None], width, axis=1)
    vectors = model.codebook_ if encode == "embedding" else np.eye(K)
    return usage, np.tile(vectors, width // vectors.shape[1])


def _usage_of(model: Any) -> Array:
    """Part (K,) of the training rows, or of their tokens, that each code has."""
    if hasattr(model, "codebook_usage_"):
        usage: Array = model.codebook_usage_
    elif hasattr(model, "_counts"):  # of K-means, whose prior may be uniform
        usage = model._counts / model._counts.sum()
    elif hasattr(model, "weights_"):
        usage = model.weights_
    else:
        raise ValueError(
            f"{type(model).__name__} has no codebook. VQVAE, KMeansAutoencoder and "
            "GaussianMixtureEM have one."
        )
    return usage
