"""Pictures of rows: samples of a model, and reconstructions beside originals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from skgen.display.columns import (
    Feature,
    as_table,
    features_of,
    levels_of,
    names_of,
)
from skgen.display.drawing import (
    COLOURS,
    RowsPicture,
    check_columns,
    check_lengths,
    choose_features,
    date_ticks,
    draw_mosaic,
    feature_names_of,
    figure_of,
    grey_range,
    image_shape_of,
    in_lines,
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]

N_BINS = 30


@dataclass(eq=False, repr=False)
class SamplesDisplay(RowsPicture):
    """Samples of a model: a mosaic of images, or the distribution of each column.

    Numbers and dates of a table are histograms, and levels are bars, of the samples
    beside the data. Missing cells are left out.

    Parameters
    ----------
    rows : array or DataFrame of shape (n_samples, n_features)
        Samples.
    data : array or DataFrame of shape (n_rows, n_features), default=None
        Rows of the data, to compare with. Images of them are drawn above the samples.
    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the image in a row; ``None``
        draws a table.
    feature_names : list of str, default=None
        Names of features.
    features : list of int, default=None
        Features of a table that are shown, a panel each; ``None`` is the first nine.
    levels : list of lists or None, default=None
        Levels of each feature in their order; None where its values say.
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
    bars_ : list of StepPatch or BarContainer
        Histograms or bars of the samples, one for each panel.

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
    levels: list[Any] | None = None
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
            Fitted estimator, ``GenerativePipeline`` or ``MixedDensity``.
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
        random_state : int, RandomState, Generator or None, default=0
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
        rows = np.asarray(drawn) if is_image else as_table(drawn)
        names = feature_names_of(estimator, rows.shape[1])
        chosen = None if is_image else choose_features(features, names)
        return cls(
            rows,
            data=None if X is None else np.asarray(X) if is_image else as_table(X),
            image_shape=shape,
            feature_names=names,
            features=chosen,
            levels=levels_of(estimator, names),
            title=f"Samples from {name_of(estimator)}"
            + ("" if noise else " (decoded means)")
            + part_of(chosen, names),
        ).plot(ax)

    def _plot_images(self, ax: Axes | None, shape: tuple[int, ...]) -> None:
        """Draw lines of ten or more; those of the data come first, and are named."""
        n = len(self.rows)
        n_columns = min(max(10, math.ceil(n**0.5)), n)
        samples = in_lines(self.rows, n_columns)
        n_lines = len(samples)
        labels: list[str] = []
        if self.data is not None:
            data = in_lines(self.data[: 2 * n_columns], n_columns)
            labels = ["data"] * len(data) + ["samples"] * n_lines
            samples = np.concatenate([data, samples])
        self.ax_ = one_axes(self, ax, mosaic_size(len(samples), n_columns, shape))
        self.figure_ = figure_of(self.ax_)
        limits = grey_range(self.rows if self.data is None else self.data)
        self.image_ = draw_mosaic(
            self.ax_, samples, shape, limits=limits, row_labels=labels
        )
        self.ax_.set_title(self.title, wrap=True)

    def _plot_table(self, ax: Any) -> None:
        """Draw the distribution of each feature over that of the data."""
        tables = {"data": self.data, "samples": self.rows}
        tables = {name: table for name, table in tables.items() if table is not None}
        features = _chosen_features(self, list(tables.values()))
        self.axes_ = panel_axes(self, ax, len(features), title=self.title)
        self.figure_ = figure_of(self.axes_[0])
        self.bars_ = [
            _draw_distributions(panel, feature, list(tables))
            for panel, feature in zip(self.axes_, features)
        ]
        _legend_of_panels(self.axes_)


@dataclass(eq=False, repr=False)
class ReconstructionDisplay(RowsPicture):
    """Reconstructions beside originals: pairs of images, or a panel for each feature.

    Numbers and dates of a table are drawn against the originals; of levels, bars say
    how many rows have each before and after. Cells that are missing in the originals
    are left out.

    Parameters
    ----------
    originals : array or DataFrame of shape (n_rows, n_features)
        Rows.
    reconstructions : array or DataFrame of shape (n_rows, n_features)
        What is decoded from their codes.
    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of the image in a row; ``None``
        draws a table.
    feature_names : list of str, default=None
        Names of features.
    features : list of int, default=None
        Features of a table that are shown, a panel each; ``None`` is the first nine.
    levels : list of lists or None, default=None
        Levels of each feature in their order; None where its values say.
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
    points_ : list of PathCollection or BarContainer
        A point for each row, or bars of what was decoded, one for each panel.

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
    levels: list[Any] | None = None
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
            Fitted estimator, ``GenerativePipeline`` or ``MixedDensity``.
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
        decoded = estimator.reconstruct(X)
        names = feature_names_of(estimator, estimator.n_features_in_)
        chosen = None if is_image else choose_features(features, names)
        return cls(
            np.asarray(X) if is_image else as_table(X),
            np.asarray(decoded) if is_image else as_table(decoded),
            image_shape=shape,
            feature_names=names,
            features=chosen,
            levels=levels_of(estimator, names),
            title=f"Reconstructions by {name_of(estimator)}" + part_of(chosen, names),
        ).plot(ax)

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
        self.ax_.set_title(self.title, wrap=True)

    def _plot_table(self, ax: Any) -> None:
        """Draw decoded against original values, and the line where they are equal."""
        check_lengths(
            self,
            reconstructions=(self.reconstructions, len(self.originals), "original row"),
        )
        features = _chosen_features(self, [self.originals, self.reconstructions])
        self.axes_ = panel_axes(
            self, ax, len(features), title=self.title, size=(2.8, 2.6)
        )
        self.figure_ = figure_of(self.axes_[0])
        self.points_ = [
            _draw_pairs(panel, feature) for panel, feature in zip(self.axes_, features)
        ]
        _legend_of_panels(self.axes_)


def _chosen_features(display: Any, tables: list[Any]) -> list[Feature]:
    """Read the features of tables that a display shows; the lengths must agree."""
    names, d = display.feature_names or names_of(tables[-1]), tables[-1].shape[1]
    check_columns(display, names, *tables)
    check_lengths(display, levels=(display.levels, d, "feature"))
    chosen = choose_features(display.features, names)
    return features_of(tables, names, display.levels, chosen)


def _draw_distributions(panel: Axes, feature: Feature, names: list[str]) -> Any:
    """Draw a feature of the data, if any, and of the samples; return the latter's."""
    draw = _draw_levels if feature.kind == "level" else _draw_histograms
    artists = draw(panel, feature, names)
    panel.set_xlabel(plain(feature.name))
    holes = [np.isnan(x).sum() / max(len(x), 1) for x in feature.tables]
    missing = [f"{n}: {100 * h:.3g} % missing" for n, h in zip(names, holes) if h]
    _note(panel, "\n".join(missing))
    return artists[-1]


def _draw_histograms(panel: Axes, feature: Feature, names: list[str]) -> list[Any]:
    """Draw the density of numbers or dates: the data filled, samples as an outline."""
    edges, is_log = bin_edges(feature.everything)
    places = np.log10(edges) if is_log else edges
    artists = []
    for i, name in enumerate(names):
        x = feature.seen(i)
        inside = x[(x >= edges[0]) & (x <= edges[-1])]
        heights, _ = np.histogram(inside, edges)
        heights = heights / (max(len(inside), 1) * np.diff(places))
        look: dict[str, Any] = {"color": COLOURS[0], "linewidth": 1.5}
        if name == "data":
            look = {"fill": True, "color": "0.8"}
        artists.append(panel.stairs(heights, edges, label=name, **look))
    _number_axis(panel.xaxis, feature.kind, is_log)
    panel.set(yticks=[], ylabel="density")
    return artists


def _draw_levels(panel: Axes, feature: Feature, names: list[str]) -> list[Any]:
    """Draw the share of each level as bars, side by side; rare levels are one."""
    shown = feature.common_levels()
    labels = [feature.levels[k] for k in shown]
    n_others = len(feature.levels) - len(shown)
    width, artists = 0.8 / len(names), []
    for i, name in enumerate(names):
        x = feature.seen(i).astype(int)
        counts = np.bincount(x, minlength=len(feature.levels))
        heights = [*counts[shown], counts.sum() - counts[shown].sum()]
        places = np.arange(len(shown) + bool(n_others)) + (i + 0.5) * width - 0.4
        bars = panel.bar(
            places,
            100 * np.array(heights[: len(places)]) / max(len(x), 1),
            width,
            color=COLOURS[0] if i == len(names) - 1 else "0.8",
            label=name,
        )
        artists.append(bars)
    others = [f"{n_others} others"] if n_others else []
    level_ticks(panel.xaxis, [*labels, *others])
    panel.set_ylabel("share, %")
    panel.locator_params(axis="y", nbins=4)
    return artists


def _draw_pairs(panel: Axes, feature: Feature) -> Any:
    """Draw decoded against original values, where there are originals."""
    there = np.isfinite(feature.tables[0]) & np.isfinite(feature.tables[1])
    feature = feature._replace(tables=[x[there] for x in feature.tables])
    missing = 100 * (~there).sum() / max(len(there), 1)
    notes = [f"{missing:.3g} % missing"] if missing else []
    original, decoded = feature.tables
    if feature.kind == "level":
        points = _draw_levels(panel, feature, ["original", "decoded"])[-1]
        panel.set_title(plain(feature.name), fontsize="medium")
        same = 100 * (original == decoded).mean() if len(original) else 0.0
        panel.set_xlabel(f"{same:.3g} % decoded as they were", fontsize="small")
    else:
        points = panel.scatter(
            original, decoded, s=8, color=COLOURS[0], alpha=0.6, lw=0, label="row"
        )
        at = original.mean() if len(original) else 0.0
        panel.axline((at, at), slope=1, color="0.3", lw=1, label="exact")
        for axis in (panel.xaxis, panel.yaxis):
            _number_axis(axis, feature.kind, is_log=False)
        panel.set_title(plain(feature.name), fontsize="medium")
        panel.set(xlabel="original", ylabel="decoded")
    if notes:
        panel.set_xlabel("\n".join([panel.get_xlabel(), *notes]))
    return points


def bin_edges(x: Array, n_bins: int = N_BINS) -> tuple[Array, bool]:
    """Return edges of bins for values (n,), and whether they are spaced by ratios.

    A few values far out do not stretch them. Bins of whole numbers are centred on
    them; positive numbers most of which are a small part of the range have bins of
    equal ratios.
    """
    if not len(x):
        return np.linspace(0, 1, n_bins + 1), False
    low, high = _central_range(x)
    whole = bool((x == np.round(x)).all()) and high - low < 2**31
    is_log = low > 0 and high > 100 * low and np.median(x) < low + (high - low) / 10
    if is_log:
        edges = np.geomspace(low, high, n_bins + 1)
        edges = np.floor(edges) + 0.5 if whole else edges
        edges[[0, -1]] = low - 0.5 * whole, high + 0.5 * whole
    elif whole:
        step = np.ceil((high - low + 1) / n_bins)
        edges = np.arange(low - 0.5, high + step, step)
    else:
        edges = np.linspace(low, high, n_bins + 1)
    edges = np.unique(edges)
    if len(edges) < 2 or edges[-1] - edges[0] <= 4e-15 * abs(edges[0]):
        room = max(0.5, abs(low) / 1000)
        edges = np.linspace(low - room, low + room, n_bins + 1)
    return edges, bool(is_log)


def _central_range(x: Array) -> tuple[float, float]:
    """Return the range of values (n,), without those that are far out."""
    first, last = np.quantile(x, [0.005, 0.995])
    low, high = x.min(), x.max()
    if last > first:
        room = 2 * (last - first)
        low, high = max(low, first - room), min(high, last + room)
    return float(low), float(high)


def _number_axis(axis: Any, kind: str, is_log: bool) -> None:
    """Give an axis of numbers or dates a few ticks."""
    if kind == "date":
        ticks = date_ticks()
        axis.set_major_locator(ticks["ticks"])
        axis.set_major_formatter(ticks["format"])
    elif is_log:
        axis.axes.set_xscale("log")
    else:
        axis.axes.locator_params(axis=axis.axis_name, nbins=4)


def _note(panel: Axes, text: str) -> None:
    """Write small above the right end of a panel."""
    panel.set_title(text, loc="right", fontsize="small", color="0.35")


def _legend_of_panels(axes: list[Axes]) -> None:
    """Draw one legend of all panels, to the right of their first line."""
    found: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels()):
            found.setdefault(label, handle)
    line = [ax for ax in axes if _is_first_row(ax)]
    legend_outside(line[-1], handles=list(found.values()), labels=list(found))


def _is_first_row(ax: Axes) -> bool:
    place = ax.get_subplotspec()
    return place is None or place.is_first_row()
