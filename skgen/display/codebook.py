"""A codebook: what its codes decode to, and how much each is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.utils.validation import check_is_fitted

from skgen.display.columns import as_table, heat_map_lines
from skgen.display.drawing import (
    COLOURS,
    check_heat_map,
    check_lengths,
    draw_heat_map,
    draw_mosaic,
    figure_of,
    grey_range,
    heat_map_height,
    image_shape_of,
    in_lines,
    model_of,
    name_of,
    panel_axes,
    pyplot,
)

Array = NDArray[Any]

# Codes that are drawn, the most used first: bars, and what they decode to; and the
# codes that have room for their numbers.
MOST_BARS, MOST_CODES, MOST_NUMBERS = 200, 64, 24
# Images in a line.
LINE = 8


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
        The usage, in this order; of the 200 most used codes.
    image_ : AxesImage
        The mosaic or the heat map, in this order; of the 64 most used codes.

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
        X: Any = None,
        *,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
    ) -> Self:
        """Decode each code, and draw it beside its usage.

        Parameters
        ----------
        estimator : object
            Fitted ``VQVAE``, ``KMeansAutoencoder`` or ``GaussianMixtureEM``, or a
            ``GenerativePipeline`` or ``MixedDensity`` around one.
        X : array-like of shape (n_rows, n_features), default=None
            Rows by whose mean and standard deviation the features of a table are
            standardised; ``None`` is the training rows of ``KMeansAutoencoder``, and
            samples of other models.
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
        model = model_of(estimator)
        usage, codes = _codes_of(model)
        rows = as_table(estimator.inverse_transform(codes))
        shape, more = image_shape_of(estimator, image_shape, rows.shape[1]), {}
        if shape is None:
            lines = heat_map_lines(estimator, rows, X)
            rows, more = lines.rows, lines.parameters
        return cls(
            usage,
            np.asarray(rows),
            image_shape=shape,
            decoded="one code as every token, decoded"
            if hasattr(model, "codebook_usage_")
            else cls.decoded,
            title=f"Codes of {name_of(estimator)}",
            **more,
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
        n, d = self.rows.shape
        check_lengths(self, usage=(self.usage, n, "code"))
        names = check_heat_map(
            self, d, self.feature_names, self.feature_mean, self.feature_std
        )
        self.order_ = np.argsort(-np.asarray(self.usage), kind="stable")
        height = 4.0 if self.image_shape else max(4.0, heat_map_height(d))
        self.axes_ = panel_axes(self, ax, 2, title=self.title, size=(5.2, height))
        self.figure_ = figure_of(self.axes_[0])
        self._plot_usage()
        if self.image_shape is None:
            self._plot_table(names)
        else:
            self._plot_images(self.image_shape)
        return self

    def _plot_usage(self) -> None:
        n, panel = len(self.usage), self.axes_[0]
        shares = 100 * np.asarray(self.usage)[self.order_[:MOST_BARS]]
        width = 0.8 if len(shares) <= MOST_CODES else 1.0  # gaps would flicker
        self.bars_ = panel.bar(range(len(shares)), shares, width, color=COLOURS[0])
        panel.axhline(100 / n, color="0.3", linewidth=1, linestyle="--")
        panel.annotate(
            "equal use",
            (1.0, 100 / n),
            xycoords=panel.get_yaxis_transform(),
            ha="right",
            va="bottom",
            color="0.3",
        )
        unused = int(np.sum(np.asarray(self.usage) == 0))
        panel.set(
            title=f"perplexity {self.perplexity:.1f} of {n} codes"
            + (f", {unused} unused" if unused else ""),
            ylabel="usage in training rows, %",
        )
        self._label_codes(panel, len(shares))

    def _label_codes(self, panel: Any, n_shown: int) -> None:
        """Label codes by their numbers, where there is room, and say what is left out.

        Codes are at 0, 1, ... along the horizontal axis.
        """
        has_room = n_shown <= MOST_NUMBERS
        labels = self.order_[:n_shown].tolist() if has_room else []
        small = {"fontsize": "small"} if n_shown > MOST_NUMBERS // 2 else {}
        panel.set_xticks(range(len(labels)), labels, **small)
        n = len(self.usage)
        some = "" if n_shown == n else f", the {n_shown} most used of {n}"
        panel.set_xlabel(f"code{some or ', the most used first'}")

    def _plot_images(self, shape: tuple[int, ...]) -> None:
        """Draw codes in lines of eight, the most used first."""
        shown = self.order_[:MOST_CODES]
        self.image_ = draw_mosaic(
            self.axes_[1],
            in_lines(self.rows[shown], min(LINE, len(shown))),
            shape,
            limits=grey_range(self.rows),
        )
        some = "" if len(shown) == len(self.rows) else f", the {len(shown)} most used"
        self.axes_[1].set_title(self.decoded + some)

    def _plot_table(self, names: list[str]) -> None:
        panel, shown = self.axes_[1], self.order_[:MOST_CODES]
        scaled = (self.rows[shown] - self.feature_mean) / self.feature_std
        self.image_ = draw_heat_map(panel, scaled.T, names)
        panel.set_title(self.decoded)
        self._label_codes(panel, len(shown))


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
    if hasattr(model, "level_shapes_"):
        raise ValueError(
            f"{type(model).__name__} has a codebook for each level, and one code alone "
            "decodes to nothing. Draw what inverse_transform makes of tokens of yours."
        )
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
