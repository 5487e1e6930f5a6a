"""A plane of a continuous code: where rows are, and what it decodes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skgen.display.columns import Feature, features_of, labels_of, levels_of
from skgen.display.drawing import (
    COLOURS,
    MOST_GROUPS,
    RowsPicture,
    check_columns,
    check_lengths,
    choose_features,
    date_ticks,
    draw_mosaic,
    feature_names_of,
    figure_of,
    grey_range,
    group_style,
    image_shape_of,
    latent_name,
    legend_outside,
    level_ticks,
    mosaic_size,
    name_of,
    one_axes,
    panel_axes,
    part_of,
    plain,
    pyplot,
)
from skgen.latent import (
    choose_two,
    code_variances,
    manifold,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

Array = NDArray[Any]


@dataclass(eq=False, repr=False)
class LatentSpaceDisplay:
    """Codes of rows in a plane of the latent space, coloured by a label.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, 2)
        Two coordinates of each row's code.
    y : array-like of shape (n_samples,), default=None
        Labels. Strings, booleans and up to 20 distinct whole numbers are groups with a
        legend, of which the 20 most common have a colour; other numbers and dates are
        a scale with a colour bar.
    axis_labels : sequence of 2 str, default=("$z_0$", "$z_1$")
        What the coordinates are.
    label_name : str, default="label"
        What the labels are.
    title : str, default="Latent space"
        Title of the picture.

    Attributes
    ----------
    figure_ : Figure
        The figure.
    ax_ : Axes
        The axes.
    points_ : list of PathCollection
        The points, a collection a group.
    colorbar_ : Colorbar or None
        The scale of labels that are no groups.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skgen import GaussianDensity
    >>> from skgen.display import LatentSpaceDisplay
    >>> X, y = load_wine(return_X_y=True)
    >>> model = GaussianDensity(3).fit(X)
    >>> display = LatentSpaceDisplay.from_estimator(model, X, y)
    >>> display.codes.shape, len(display.points_)
    ((178, 2), 3)
    """

    codes: Array
    y: ArrayLike | None = None
    axis_labels: Sequence[str] = (latent_name(0), latent_name(1))
    label_name: str = "label"
    title: str = "Latent space"

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        latents: Sequence[int] | None = None,
        label_name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Encode rows, and draw their codes.

        Parameters
        ----------
        estimator : object
            Fitted estimator with a continuous code.
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Label of each row.
        latents : sequence of 2 ints, default=None
            Coordinates that are drawn; ``None`` is the two most used.
        label_name : str, default=None
            What the labels are; ``None`` is the name of a Series, or "label".
        ax : Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : LatentSpaceDisplay
            The picture, drawn.

        Raises
        ------
        ValueError
            If the code of the estimator is not continuous, or has one coordinate.
        """
        pyplot(cls, "from_estimator")
        chosen, used = choose_two(estimator, latents), code_variances(estimator)
        axis_labels = [f"{latent_name(j)}   (variance {used[j]:.2f})" for j in chosen]
        rest = "" if len(used) == 2 else f", 2 of {len(used)} coordinates"
        return cls(
            np.asarray(estimator.transform(X))[:, chosen],
            y,
            axis_labels=axis_labels,
            label_name=label_name or getattr(y, "name", None) or "label",
            title=f"Latent code of {name_of(estimator)}{rest}",
        ).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : LatentSpaceDisplay
            This object, with the artists as attributes.
        """
        n = len(self.codes)
        if np.shape(self.codes)[1:] != (2,):
            raise ValueError(
                "codes of LatentSpaceDisplay must have the shape (n_samples, 2). Got "
                f"{np.shape(self.codes)}; choose two coordinates."
            )
        check_lengths(
            self, y=(self.y, n, "code"), axis_labels=(self.axis_labels, 2, "axis")
        )
        labels = None if self.y is None else labels_of(self.y)
        n_groups = 0 if labels is None else min(len(labels.levels), MOST_GROUPS)
        self.ax_ = ax = one_axes(self, ax, (5.8, max(4.6, 0.8 + 0.2 * n_groups)))
        self.figure_, self.colorbar_ = figure_of(ax), None
        if labels is None:
            self.points_ = [self._scatter(slice(None), **group_style(0))]
        elif labels.kind == "level":
            self._plot_groups(labels)
        else:
            self._plot_scale(labels)
        x_label, y_label = self.axis_labels
        ax.set(xlabel=x_label, ylabel=y_label)
        ax.set_title(self.title, wrap=True)
        return self

    def _plot_groups(self, labels: Feature) -> None:
        """Draw the points of each common level, and the others in grey."""
        groups, y = labels.common_levels(MOST_GROUPS), labels.tables[0]
        styles = {k: group_style(i) for i, k in enumerate(groups)}
        parts = {plain(labels.levels[k]): (y == k, styles[k]) for k in groups}
        grey = {"color": "0.75", "marker": "o"}
        rest = {
            f"{len(labels.levels) - len(groups)} others": ~np.isin(y, groups)
            & ~np.isnan(y),
            "missing": np.isnan(y),
        }
        # Grey lies below.
        self.points_ = [
            self._scatter(rows, label=name, zorder=0.5, **grey)
            for name, rows in rest.items()
            if rows.any()
        ]
        self.points_ = [
            self._scatter(rows, label=name, **style)
            for name, (rows, style) in parts.items()
        ] + self.points_
        legend_outside(
            self.ax_,
            title=plain(self.label_name),
            markerscale=1.8,
            handles=self.points_,
            **({"fontsize": "small"} if len(self.points_) > 12 else {}),
        )

    def _plot_scale(self, labels: Feature) -> None:
        """Draw points in colours of a scale; those without a label are grey."""
        y, options = labels.tables[0], {}
        if labels.kind == "date":
            options = date_ticks()
        missing = np.isnan(y)
        self.points_ = [self._scatter(slice(None), c=y, cmap="viridis")]
        if missing.any():
            grey = {"color": "0.75", "marker": "o", "label": "missing"}
            self.points_.append(self._scatter(missing, zorder=0.5, **grey))
            legend_outside(self.ax_, handles=self.points_[1:])
        self.colorbar_ = self.figure_.colorbar(
            self.points_[0], ax=self.ax_, label=plain(self.label_name), **options
        )

    def _scatter(self, rows: Any, **style: Any) -> Any:
        """Draw the points of some rows."""
        size = float(np.clip(9000 / max(len(self.codes), 1), 9, 25))
        x, y = self.codes[rows].T
        return self.ax_.scatter(x, y, s=size, alpha=0.7, linewidth=0, **style)


@dataclass(eq=False, repr=False)
class ManifoldDisplay(RowsPicture):
    """Decode a plane of the latent space, spaced equally in probability.

    Parameters
    ----------
    rows : ndarray of shape (n_steps, n_steps, n_features)
        Decoded rows: ``rows[i, j]`` of value ``j`` along the horizontal axis, and
        value ``i`` upwards.
    values : ndarray of shape (n_steps,)
        Values of either coordinate.
    axis_labels : sequence of 2 str, default=("$z_0$", "$z_1$")
        What the coordinates are.
    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the image in a row; ``None``
        draws a table: a panel for each feature, with its decoded value as colour.
    feature_names : list of str, default=None
        Names of features.
    features : list of int, default=None
        Features of a table that are shown; ``None`` is the first nine.
    levels : list of lists or None, default=None
        Levels of each feature in their order; None where its values say.
    title : str, default="Manifold"
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
    images_ : list of AxesImage
        Their pictures.

    References
    ----------
    Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014, figure 4.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgen import GaussianDensity
    >>> from skgen.display import ManifoldDisplay
    >>> model = GaussianDensity(2).fit(load_digits().data)
    >>> display = ManifoldDisplay.from_estimator(model, image_shape=(8, 8))
    >>> display.rows.shape
    (15, 15, 64)
    """

    rows: Array
    values: Array
    axis_labels: Sequence[str] = (latent_name(0), latent_name(1))
    image_shape: tuple[int, ...] | None = None
    feature_names: list[str] | None = None
    features: list[int] | None = None
    levels: list[Any] | None = None
    title: str = "Manifold"

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        latents: Sequence[int] | None = None,
        row: Any = None,
        n_steps: int = 15,
        image_shape: Sequence[int] | None = None,
        features: Sequence[int | str] | None = None,
        ax: Any = None,
    ) -> Self:
        """Decode a grid of two coordinates, and draw it.

        Parameters
        ----------
        estimator : object
            Fitted estimator with a continuous code.
        latents : sequence of 2 ints, default=None
            Coordinates of the grid; ``None`` is the two most used.
        row : array-like of shape (n_features,) or (1, n_features), default=None
            Row whose code gives the other coordinates; ``None`` sets them to 0.
        n_steps : int, default=15
            Values of either coordinate: quantiles of the standard normal prior.
        image_shape : sequence of int, default=None
            Shape of the image in a row; ``None`` is the estimator's own, if any.
        features : sequence of int or str, default=None
            Features of a table that are shown; ``None`` is the first nine.
        ax : Axes or array of Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : ManifoldDisplay
            The picture, drawn.

        Raises
        ------
        ValueError
            If the code of the estimator is not continuous, or has one coordinate.
        """
        pyplot(cls, "from_estimator")
        grid = manifold(estimator, latents, row=row, n_steps=n_steps)
        d = grid.rows.shape[-1]
        names = feature_names_of(estimator, d)
        shape = image_shape_of(estimator, image_shape, d)
        chosen = None if shape else choose_features(features, names)
        return cls(
            grid.rows,
            grid.values,
            axis_labels=[latent_name(j) for j in grid.latents],
            image_shape=shape,
            feature_names=names,
            features=chosen,
            levels=levels_of(estimator, names),
            title=f"What two latent coordinates of {name_of(estimator)} decode to"
            + part_of(chosen, names),
        ).plot(ax)

    def _plot_images(self, ax: Axes | None, shape: tuple[int, ...]) -> None:
        n = len(self.values)
        self.ax_ = one_axes(self, ax, mosaic_size(n, n, shape))
        self.figure_ = figure_of(self.ax_)
        labels = _sparse(self.values)
        self.image_ = draw_mosaic(
            self.ax_,
            self.rows[::-1],
            shape,
            limits=grey_range(self.rows),
            row_labels=labels[::-1],
            column_labels=labels,
        )
        self._label(self.ax_)
        self.ax_.set_title(self.title, wrap=True)

    def _label(self, ax: Axes) -> None:
        first, second = (f"{name}, quantiles of N(0, 1)" for name in self.axis_labels)
        ax.set(xlabel=first, ylabel=second)

    def _plot_table(self, ax: Any) -> None:
        """Draw the decoded value of each feature over the plane."""
        n, d = len(self.values), self.rows.shape[-1]
        table = self.rows.reshape(-1, d)
        names = self.feature_names or feature_names_of(None, d)
        check_columns(self, names, table)
        check_lengths(
            self,
            levels=(self.levels, d, "feature"),
            rows=(self.rows, n, "value"),
            axis_labels=(self.axis_labels, 2, "axis"),
        )
        chosen = choose_features(self.features, names)
        self.axes_ = panel_axes(self, ax, len(chosen), title=self.title)
        self.figure_ = figure_of(self.axes_[0])
        self.images_ = [
            self._plot_feature(panel, feature)
            for panel, feature in zip(
                self.axes_, features_of([table], names, self.levels, chosen)
            )
        ]
        self._label(self.axes_[0])

    def _plot_feature(self, panel: Axes, feature: Feature) -> AxesImage:
        """Draw the decoded values of a feature as colours, with their scale."""
        n = len(self.values)
        shown = feature.tables[0]
        options: dict[str, Any] = {"cmap": "viridis"}
        ticks: dict[str, Any] = {}
        if feature.kind == "level":
            shown, options = _level_colours(feature)
        elif feature.kind == "date":
            ticks = date_ticks()
        picture = panel.imshow(
            shown.reshape(n, n), origin="lower", aspect="auto", **options
        )
        labels = _sparse(self.values, 3)
        panel.set_xticks(range(n), labels)
        panel.set_yticks(range(n), labels)
        panel.tick_params(length=0)
        panel.set_title(plain(feature.name), fontsize="medium")
        bar = figure_of(panel).colorbar(picture, ax=panel, **ticks)
        if feature.kind == "level":
            level_ticks(bar.ax.yaxis, [feature.levels[k] for k in _decoded(feature)])
        return picture


def _decoded(feature: Feature) -> list[int]:
    """Return the most common levels that are decoded, at most one for each colour."""
    return feature.common_levels(len(COLOURS))


def _level_colours(feature: Feature) -> tuple[Array, dict[str, Any]]:
    """Return places among the levels that are decoded, and their colours.

    Levels that are too rare for a colour are left white.
    """
    from matplotlib.colors import ListedColormap

    shown = _decoded(feature)
    places = np.full(len(feature.levels) + 1, np.nan)  # the last is of missing cells
    places[shown] = np.arange(len(shown))
    x = np.nan_to_num(feature.tables[0], nan=len(feature.levels)).astype(int)
    colours = ListedColormap(COLOURS[: max(len(shown), 1)])
    options = {"cmap": colours, "vmin": -0.5, "vmax": max(len(shown), 1) - 0.5}
    return places[x], options


def _sparse(values: Array, n_labels: int = 5) -> list[str]:
    """Labels of some values, evenly spread, and none of the others."""
    shown = set(np.linspace(0, len(values) - 1, n_labels).round().astype(int).tolist())
    return [f"{v:.2f}" if i in shown else "" for i, v in enumerate(values)]
