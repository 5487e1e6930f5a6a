"""Pictures of rows: samples of a model, and reconstructions beside originals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from skgen.display.drawing import (
    COLOURS,
    RowsPicture,
    choose_features,
    draw_mosaic,
    feature_names_of,
    figure_of,
    grey_range,
    image_shape_of,
    legend_outside,
    mosaic_size,
    name_of,
    one_axes,
    panel_axes,
    pyplot,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]

N_BINS = 30


@dataclass(eq=False, repr=False)
class SamplesDisplay(RowsPicture):
    """Samples of a model: a mosaic of images, or histograms of a table's features.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features)
        Samples.
    data : ndarray of shape (n_rows, n_features), default=None
        Rows of the data, to compare with. Images of them are drawn above the samples.
    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the image in a row; ``None``
        draws a table.
    feature_names : list of str, default=None
        Names of features.
    features : list of int, default=None
        Features of a table that are shown, a panel each; ``None`` is the first nine.
    title : str, default="Samples"
        Title of the picture.

    Attributes
    ----------
    figure_ : Figure
        The figure.
    ax_ : Axes
        The axes of a mosaic.
    image_ : AxesImage
        The mosaic.
    axes_ : list of Axes
        The panels of a table.
    bars_ : list of StepPatch
        Histograms of the samples, one a panel.

    See Also
    --------
    ReconstructionDisplay : Rows beside what is left of them.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgen import GaussianDensity
    >>> from skgen.display import SamplesDisplay
    >>> model = GaussianDensity(30).fit(load_digits().data)
    >>> display = SamplesDisplay.from_estimator(model, image_shape=(8, 8))
    >>> display.rows.shape
    (50, 64)
    """

    rows: Array
    data: Array | None = None
    image_shape: tuple[int, ...] | None = None
    feature_names: list[str] | None = None
    features: list[int] | None = None
    title: str = "Samples"

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        *,
        n_samples: int | None = None,
        noise: bool | None = None,
        image_shape: Sequence[int] | None = None,
        features: Sequence[int | str] | None = None,
        random_state: Any = 0,
        ax: Any = None,
    ) -> Self:
        """Draw samples, and a picture of them.

        Parameters
        ----------
        estimator : object
            Fitted estimator or ``GenerativePipeline``.
        X : array-like of shape (n_rows, n_features), default=None
            Rows of the data, to compare with.
        n_samples : int, default=None
            Number of samples; ``None`` is 50 images, or 1000 rows of a table.
        noise : bool, default=None
            Whether samples have the noise of p(x|z). ``None`` leaves it out of
            images, which are then decoded means, and keeps it in tables.
        image_shape : sequence of int, default=None
            Shape of the image in a row; ``None`` is the estimator's own, if any.
        features : sequence of int or str, default=None
            Features of a table that are shown; ``None`` is the first nine.
        random_state : int, RandomState instance or None, default=0
            Source of the samples.
        ax : Axes or array of Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : SamplesDisplay
            The picture, drawn.
        """
        pyplot(cls, "from_estimator")
        shape = image_shape_of(estimator, image_shape, estimator.n_features_in_)
        is_image = shape is not None
        noise = not is_image if noise is None else noise
        n_samples = n_samples or (50 if is_image else 1000)
        drawn = estimator.sample(n_samples, noise=noise, random_state=random_state)
        rows = np.asarray(drawn)
        names = feature_names_of(estimator, rows.shape[1])
        display = cls(
            rows,
            data=None if X is None else np.asarray(X),
            image_shape=shape,
            feature_names=names,
            features=None if is_image else choose_features(features, names),
            title=f"Samples from {name_of(estimator)}"
            + ("" if noise else " (decoded means)"),
        )
        return display.plot(ax)

    def _plot_images(self, ax: Axes | None, shape: tuple[int, ...]) -> None:
        """Draw lines of ten; those of the data come first, and are named."""
        n_columns = min(10, len(self.rows))
        samples = _lines(self.rows, n_columns)
        n_lines = len(samples)
        labels: list[str] = []
        if self.data is not None:
            data = _lines(self.data[: 2 * n_columns], n_columns)
            labels = ["data"] * len(data) + ["samples"] * n_lines
            samples = np.concatenate([data, samples])
        self.ax_ = one_axes(self, ax, mosaic_size(len(samples), n_columns, shape))
        self.figure_ = figure_of(self.ax_)
        limits = grey_range(self.rows if self.data is None else self.data)
        self.image_ = draw_mosaic(
            self.ax_, samples, shape, limits=limits, row_labels=labels
        )
        self.ax_.set_title(self.title)

    def _plot_table(self, ax: Any) -> None:
        """Draw a histogram of each feature over that of the data."""
        names = self.feature_names or feature_names_of(None, self.rows.shape[1])
        features = self.features or choose_features(None, names)
        self.axes_ = panel_axes(self, ax, len(features), title=self.title)
        self.figure_, self.bars_ = figure_of(self.axes_[0]), []
        for panel, j in zip(self.axes_, features):
            shown = [x[:, j] for x in (self.data, self.rows) if x is not None]
            edges = np.histogram_bin_edges(np.concatenate(shown), N_BINS)
            if self.data is not None:
                heights, _ = np.histogram(self.data[:, j], edges, density=True)
                panel.stairs(heights, edges, fill=True, color="0.8", label="data")
            heights, _ = np.histogram(self.rows[:, j], edges, density=True)
            bars = panel.stairs(
                heights, edges, color=COLOURS[0], linewidth=1.5, label="samples"
            )
            self.bars_.append(bars)
            panel.set(xlabel=names[j], yticks=[])
        self.axes_[0].set_ylabel("density")
        _legend_of_panels(self.axes_)


@dataclass(eq=False, repr=False)
class ReconstructionDisplay(RowsPicture):
    """Reconstructions beside originals: pairs of images, or a panel for each feature.

    Parameters
    ----------
    originals : ndarray of shape (n_rows, n_features)
        Rows.
    reconstructions : ndarray of shape (n_rows, n_features)
        What is decoded from their codes.
    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the image in a row; ``None``
        draws a table.
    feature_names : list of str, default=None
        Names of features.
    features : list of int, default=None
        Features of a table that are shown, a panel each; ``None`` is the first nine.
    title : str, default="Reconstructions"
        Title of the picture.

    Attributes
    ----------
    figure_ : Figure
        The figure.
    ax_ : Axes
        The axes of a mosaic.
    image_ : AxesImage
        The mosaic: originals above, reconstructions below.
    axes_ : list of Axes
        The panels of a table.
    points_ : list of PathCollection
        A point a row, one collection a panel.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgen import GaussianDensity
    >>> from skgen.display import ReconstructionDisplay
    >>> X = load_digits().data
    >>> model = GaussianDensity(10).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(model, X, image_shape=(8, 8))
    >>> display.reconstructions.shape
    (10, 64)
    """

    originals: Array
    reconstructions: Array
    image_shape: tuple[int, ...] | None = None
    feature_names: list[str] | None = None
    features: list[int] | None = None
    title: str = "Reconstructions"

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_rows: int | None = None,
        image_shape: Sequence[int] | None = None,
        features: Sequence[int | str] | None = None,
        ax: Any = None,
    ) -> Self:
        """Reconstruct rows, and draw both.

        Parameters
        ----------
        estimator : object
            Fitted estimator or ``GenerativePipeline``.
        X : array-like of shape (n_rows, n_features)
            Rows.
        n_rows : int, default=None
            Number of rows, from the first on; ``None`` is ten images, or all rows of
            a table.
        image_shape : sequence of int, default=None
            Shape of the image in a row; ``None`` is the estimator's own, if any.
        features : sequence of int or str, default=None
            Features of a table that are shown; ``None`` is the first nine.
        ax : Axes or array of Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : ReconstructionDisplay
            The picture, drawn.
        """
        pyplot(cls, "from_estimator")
        shape = image_shape_of(estimator, image_shape, estimator.n_features_in_)
        is_image = shape is not None
        X = X[: n_rows or (10 if is_image else len(X))]
        names = feature_names_of(estimator, estimator.n_features_in_)
        display = cls(
            np.asarray(X),
            np.asarray(estimator.reconstruct(X)),
            image_shape=shape,
            feature_names=names,
            features=None if is_image else choose_features(features, names),
            title=f"Reconstructions by {name_of(estimator)}",
        )
        return display.plot(ax)

    def _plot_images(self, ax: Axes | None, shape: tuple[int, ...]) -> None:
        pairs = np.stack([self.originals, self.reconstructions])
        self.ax_ = one_axes(self, ax, mosaic_size(2, pairs.shape[1], shape))
        self.figure_ = figure_of(self.ax_)
        self.image_ = draw_mosaic(
            self.ax_,
            pairs,
            shape,
            limits=grey_range(self.originals),
            row_labels=["original", "decoded"],
        )
        self.ax_.set_title(self.title)

    def _plot_table(self, ax: Any) -> None:
        """Draw decoded against original values, and the line where they are equal."""
        names = self.feature_names or feature_names_of(None, self.originals.shape[1])
        features = self.features or choose_features(None, names)
        self.axes_ = panel_axes(
            self, ax, len(features), title=self.title, size=(2.8, 2.6)
        )
        self.figure_, self.points_ = figure_of(self.axes_[0]), []
        for panel, j in zip(self.axes_, features):
            x, decoded = self.originals[:, j], self.reconstructions[:, j]
            points = panel.scatter(
                x, decoded, s=8, color=COLOURS[0], alpha=0.6, linewidth=0, label="row"
            )
            self.points_.append(points)
            panel.axline(
                (x.mean(), x.mean()), slope=1, color="0.3", lw=1, label="exact"
            )
            panel.set(title=names[j], xlabel="original", ylabel="decoded")
        _legend_of_panels(self.axes_)


def _lines(rows: Array, n_columns: int) -> Array:
    """Rows (n, d) as lines (n // n_columns, n_columns, d); what is over is left out."""
    n_lines = max(1, len(rows) // n_columns)
    return rows[: n_lines * n_columns].reshape(n_lines, -1, rows.shape[1])


def _legend_of_panels(axes: list[Axes]) -> None:
    """Draw one legend, to the right of the first line of panels."""
    first = axes[0].get_subplotspec()
    line = [
        ax
        for ax in axes
        if first is None or ax.get_subplotspec().is_first_row()  # type: ignore[union-attr]
    ]
    legend_outside(line[-1])
