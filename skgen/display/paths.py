"""Ways through a continuous code: along each coordinate, and between two rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from skgen.display.columns import as_table, heat_map_lines
from skgen.display.drawing import (
    check_heat_map,
    check_lengths,
    draw_heat_map,
    draw_mosaic,
    figure_of,
    grey_range,
    heat_map_height,
    image_shape_of,
    latent_name,
    mosaic_size,
    name_of,
    one_axes,
    pyplot,
    thinned,
)
from skgen.latent import (
    code_variances,
    interpolate,
    latent_order,
    traverse,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]

# Coordinates that a traversal shows where none are chosen.
MOST_LATENTS = 10


@dataclass(eq=False, repr=False)
class TraversalDisplay:
    """Decode codes in which one latent coordinate moves and the others stay.

    Images are a mosaic with a line for each coordinate; a table is a heat map of its
    features, with a block of columns for each coordinate.

    Parameters
    ----------
    rows : ndarray of shape (n_latents, n_steps, n_features)
        Decoded rows.
    values : ndarray of shape (n_steps,)
        What the coordinate is set to.
    latents : ndarray of shape (n_latents,)
        The coordinates.
    variances : ndarray of shape (n_latents,), default=None
        How much each is used.
    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the image in a row; ``None``
        draws a table.
    feature_names : list of str, default=None
        Names of features.
    feature_mean, feature_std : ndarray of shape (n_features,), default=None
        What the features of a table are standardised by.
    title : str, default="Latent traversal"
        Title of the picture.

    Attributes
    ----------
    figure_ : Figure
        The figure.
    ax_ : Axes
        The axes.
    image_ : AxesImage
        The mosaic or the heat map.

    See Also
    --------
    skgen.latent.traverse : The rows alone.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgen import GaussianDensity
    >>> from skgen.display import TraversalDisplay
    >>> model = GaussianDensity(5).fit(load_digits().data)
    >>> display = TraversalDisplay.from_estimator(model, image_shape=(8, 8))
    >>> display.rows.shape
    (5, 9, 64)
    """

    rows: Array
    values: Array
    latents: Array
    variances: Array | None = None
    image_shape: tuple[int, ...] | None = None
    feature_names: list[str] | None = None
    feature_mean: Array | float = 0.0
    feature_std: Array | float = 1.0
    title: str = "Latent traversal"

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        row: Any = None,
        *,
        latents: Sequence[int] | None = None,
        n_steps: int = 9,
        span: float = 2.5,
        image_shape: Sequence[int] | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Decode codes along each coordinate, and draw them.

        Parameters
        ----------
        estimator : object
            Fitted estimator with a continuous code.
        row : array-like of shape (n_features,) or (1, n_features), default=None
            Row whose code gives the coordinates that stay; ``None`` sets them to 0.
        latents : sequence of int, default=None
            Coordinates, in their order; ``None`` is the ten most used, the most used
            first.
        n_steps : int, default=9
            Number of values.
        span : float, default=2.5
            Values go from ``-span`` to ``span``.
        image_shape : sequence of int, default=None
            Shape of the image in a row; ``None`` is the estimator's own, if any.
        ax : Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : TraversalDisplay
            The picture, drawn.

        Raises
        ------
        ValueError
            If the code of the estimator is not continuous.
        """
        pyplot(cls, "from_estimator")
        if latents is None:
            latents = latent_order(estimator)[:MOST_LATENTS].tolist()
        steps = traverse(estimator, latents, row=row, n_steps=n_steps, span=span)
        rows, d = steps.rows, steps.rows.shape[-1]
        shape, more = image_shape_of(estimator, image_shape, d), {}
        if shape is None:
            lines = heat_map_lines(estimator, rows.reshape(-1, d))
            rows, more = lines.rows.reshape(*rows.shape[:2], -1), lines.parameters
        return cls(
            rows,
            steps.values,
            steps.latents,
            code_variances(estimator)[steps.latents],
            image_shape=shape,
            title=f"What each latent coordinate of {name_of(estimator)} does",
            **more,
        ).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : TraversalDisplay
            This object, with the artists as attributes.
        """
        n_latents, n_steps, _ = self.rows.shape
        check_lengths(
            self,
            values=(self.values, n_steps, "step"),
            latents=(self.latents, n_latents, "latent coordinate"),
            variances=(self.variances, n_latents, "latent coordinate"),
        )
        if self.image_shape is None:
            self._plot_table(ax)
        else:
            self._plot_images(ax, self.image_shape)
        self.figure_ = figure_of(self.ax_)
        self.ax_.set_title(self.title, wrap=True)
        return self

    def _names(self, between: str) -> list[str]:
        """Names of the coordinates, and how much they are used."""
        names = [latent_name(j) for j in self.latents]
        if self.variances is None:
            return names
        return [
            f"{name}{between}({used:.2f})" for name, used in zip(names, self.variances)
        ]

    @property
    def _what(self) -> str:
        used = "" if self.variances is None else "\n(variance over training rows)"
        return "latent coordinate" + used

    def _plot_images(self, ax: Axes | None, shape: tuple[int, ...]) -> None:
        n_latents, n_steps, _ = self.rows.shape
        size = mosaic_size(n_latents, n_steps, shape)
        self.ax_ = one_axes(self, ax, size)
        self.image_ = draw_mosaic(
            self.ax_,
            self.rows,
            shape,
            limits=grey_range(self.rows),
            row_labels=self._names("  "),
            column_labels=[f"{value:.3g}" for value in self.values],
        )
        self.ax_.set(xlabel="value of the coordinate", ylabel=self._what)

    def _plot_table(self, ax: Axes | None) -> None:
        n_latents, n_steps, d = self.rows.shape
        names = check_heat_map(
            self, d, self.feature_names, self.feature_mean, self.feature_std
        )
        width = 3.0 + max(0.9 * min(n_latents, 12), 2.8)
        self.ax_ = one_axes(self, ax, (width, heat_map_height(d)))
        scaled = (self.rows - self.feature_mean) / self.feature_std
        self.image_ = draw_heat_map(self.ax_, scaled.reshape(-1, d).T, names)
        for edge in np.arange(1, n_latents) * n_steps - 0.5:
            self.ax_.axvline(edge, color="black", linewidth=1)
        centres = (np.arange(n_latents) + 0.5) * n_steps - 0.5
        self.ax_.set_xticks(centres, thinned(self._names("\n")))
        low, high = self.values[[0, -1]]
        self.ax_.set_xlabel(f"{self._what}, each from {low:.3g} to {high:.3g}")


@dataclass(eq=False, repr=False)
class InterpolationDisplay:
    """Decode codes on the way between two rows.

    Images are a line of a mosaic; a table is a heat map of its features.

    Parameters
    ----------
    rows : ndarray of shape (n_steps, n_features)
        Decoded rows, from one end to the other.
    ends : ndarray of shape (2, n_features), default=None
        The rows at the ends, as they are. They are drawn beside images.
    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the image in a row; ``None``
        draws a table.
    feature_names : list of str, default=None
        Names of features.
    feature_mean, feature_std : ndarray of shape (n_features,), default=None
        What the features of a table are standardised by.
    title : str, default="Interpolation"
        Title of the picture.

    Attributes
    ----------
    figure_ : Figure
        The figure.
    ax_ : Axes
        The axes.
    image_ : AxesImage
        The mosaic or the heat map.

    See Also
    --------
    skgen.latent.interpolate : The rows alone.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgen import GaussianDensity
    >>> from skgen.display import InterpolationDisplay
    >>> X = load_digits().data
    >>> model = GaussianDensity(10).fit(X)
    >>> display = InterpolationDisplay.from_estimator(
    ...     model, X[0], X[1], image_shape=(8, 8)
    ... )
    >>> display.rows.shape
    (9, 64)
    """

    rows: Array
    ends: Array | None = None
    image_shape: tuple[int, ...] | None = None
    feature_names: list[str] | None = None
    feature_mean: Array | float = 0.0
    feature_std: Array | float = 1.0
    title: str = "Interpolation"

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        a: Any,
        b: Any,
        *,
        n_steps: int = 9,
        path: str = "straight",
        image_shape: Sequence[int] | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Decode the codes on the way from one row to another, and draw them.

        Parameters
        ----------
        estimator : object
            Fitted estimator with a continuous code.
        a, b : array-like of shape (n_features,) or (1, n_features)
            The rows at the ends.
        n_steps : int, default=9
            Number of decoded rows, both ends among them.
        path : {"straight", "spherical"}, default="straight"
            Line between the codes, or arc around the origin.
        image_shape : sequence of int, default=None
            Shape of the image in a row; ``None`` is the estimator's own, if any.
        ax : Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : InterpolationDisplay
            The picture, drawn.

        Raises
        ------
        ValueError
            If the code of the estimator is not continuous.
        """
        pyplot(cls, "from_estimator")
        rows = as_table(interpolate(estimator, a, b, n_steps, path=path))
        d = rows.shape[1]
        shape, more = image_shape_of(estimator, image_shape, d), {}
        if shape is None:
            lines = heat_map_lines(estimator, rows)
            rows, more = lines.rows, lines.parameters
        return cls(
            np.asarray(rows),
            np.stack([np.asarray(row).reshape(d) for row in (a, b)]),
            image_shape=shape,
            title=f"From row to row through the latent space of {name_of(estimator)}",
            **more,
        ).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : InterpolationDisplay
            This object, with the artists as attributes.
        """
        if self.image_shape is None:
            self._plot_table(ax)
        else:
            self._plot_images(ax, self.image_shape)
        self.figure_ = figure_of(self.ax_)
        self.ax_.set_title(self.title, wrap=True)
        return self

    @property
    def _steps(self) -> list[str]:
        """How far on the way each row is."""
        return [f"{part:.3g}" for part in np.linspace(0, 1, len(self.rows))]

    def _plot_images(self, ax: Axes | None, shape: tuple[int, ...]) -> None:
        rows, labels, decoded = self.rows, self._steps, self.rows
        if self.ends is not None:
            rows = np.stack([self.ends[0], *rows, self.ends[1]])
            labels = ["row a", *labels, "row b"]
            decoded = self.ends
        self.ax_ = one_axes(self, ax, mosaic_size(1, len(rows), shape))
        self.image_ = draw_mosaic(
            self.ax_,
            rows[None],
            shape,
            limits=grey_range(decoded),
            column_labels=labels,
        )
        self.ax_.set_xlabel("decoded, by part of the way between the codes")

    def _plot_table(self, ax: Axes | None) -> None:
        n_steps, d = self.rows.shape
        names = check_heat_map(
            self, d, self.feature_names, self.feature_mean, self.feature_std
        )
        width = 3.4 + 0.4 * min(max(n_steps, 5), 24)
        self.ax_ = one_axes(self, ax, (width, heat_map_height(d)))
        scaled = (self.rows - self.feature_mean) / self.feature_std
        self.image_ = draw_heat_map(self.ax_, scaled.T, names)
        self.ax_.set_xticks(range(n_steps), thinned(self._steps))
        self.ax_.set_xlabel("part of the way between the codes")
