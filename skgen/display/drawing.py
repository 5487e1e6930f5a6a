"""Share axes, mosaics of images, heat maps, names and colours among the pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

Array = NDArray[Any]

# Ten colours that readers with a colour vision deficiency can tell apart (Petroff
# 2021, arXiv:2107.02270), and markers that tell the groups apart without colours.
COLOURS = [
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
]
MARKERS = "os^vdP*X<>"
# More distinct labels than this are a continuous scale.
MOST_GROUPS = 20
# Features that a picture of a table shows where none are chosen.
MOST_PANELS = 9
# Features of a heat map, and the least and the largest deviation from the mean at which
# its colours may end.
MOST_LINES, LEAST_DEVIATIONS, MOST_DEVIATIONS = 40, 0.5, 4.0
# Draws that the scale of features is taken from.
SCALE_DRAWS = 1000


def pyplot(owner: Any, method: str) -> Any:
    """Import matplotlib.pyplot; an ImportError names the extra where it is missing."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        name = owner.__name__ if isinstance(owner, type) else type(owner).__name__
        raise ImportError(
            f"{name}.{method} requires matplotlib. Install it with "
            '`pip install "scikit-generative[plot]"`.'
        ) from error
    return plt


class RowsPicture:
    """Base of pictures of rows: one mosaic of images, or panels of a table."""

    image_shape: tuple[int, ...] | None
    _plot_table: Callable[[Any], None]
    _plot_images: Callable[[Any, tuple[int, ...]], None]

    def plot(self, ax: Any = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : Axes or array of Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : object
            This object, with the artists as attributes.
        """
        pyplot(self, "plot")
        if self.image_shape is None:
            self._plot_table(ax)
        else:
            self._plot_images(ax, self.image_shape)
        return self


# Axes.


def one_axes(owner: Any, ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes that are given, or those of a new figure of a size in inches."""
    plt = pyplot(owner, "plot")
    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    assert ax is not None
    return ax


def panel_axes(
    owner: Any,
    ax: Any,
    n_panels: int,
    *,
    title: str,
    n_columns: int = 3,
    size: tuple[float, float] = (3.0, 2.4),
) -> list[Axes]:
    """Return axes of several panels, under one title.

    In a new figure; in the place of the axes that are given; or the given array of
    axes itself. ``size`` is that of a panel, in inches.
    """
    plt = pyplot(owner, "plot")
    n_columns = min(n_columns, n_panels)
    n_rows = math.ceil(n_panels / n_columns)
    if isinstance(ax, Sequence | np.ndarray):
        axes = list(np.ravel(np.asarray(ax, dtype=object)))
        if len(axes) < n_panels:
            raise ValueError(
                f"{type(owner).__name__} draws {n_panels} panels. Got {len(axes)} "
                "axes; give one, which is divided, or one for each panel."
            )
        return axes[:n_panels]
    if n_panels == 1 and ax is not None:
        return [ax]
    if ax is None:
        width, height = size
        size = (max(width * n_columns, 5.0), height * n_rows + 0.4)
        figure = plt.figure(figsize=size, layout="constrained")
    elif ax.get_subplotspec() is None:
        raise ValueError(
            f"{type(owner).__name__} divides its axes into panels, and these have no "
            "place in a grid. Make them by plt.subplots()."
        )
    else:
        ax.set_axis_off()
        figure = ax.figure.add_subfigure(ax.get_subplotspec())
    figure.suptitle(title, wrap=True)
    grid = figure.add_gridspec(n_rows, n_columns)
    return [figure.add_subplot(grid[i]) for i in range(n_panels)]


def figure_of(ax: Axes) -> Any:
    """Return the whole figure, also of axes in a part of it."""
    return ax.figure.figure


def legend_outside(ax: Axes, **options: Any) -> Any:
    """Draw the legend to the right of the axes, where no data are."""
    return ax.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.02), frameon=False, **options
    )


def legend_below(ax: Axes) -> Any:
    """Draw the legend below the label of the horizontal axis."""
    return ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.17), frameon=False, fontsize="small"
    )


# Words.


def plain(text: Any, width: int = 28) -> str:
    """Return text as matplotlib draws it: no formula, no hidden label, not too long."""
    text = " ".join(str(text).split())
    if len(text) > width:
        tail = width // 3
        text = f"{text[: width - tail - 1]}…{text[-tail:]}"
    # Legends leave labels out that begin with an underscore.
    found: str = (" " + text if text.startswith("_") else text).replace("$", r"\$")
    return found


def level_ticks(axis: Any, names: Sequence[Any], *, chars: int = 24) -> None:
    """Label the places 0, 1, ... of an axis; upright where they do not fit beside."""
    texts = [plain(name, 16) for name in names]
    crowded = axis.axis_name == "x" and sum(len(t) + 1 for t in texts) > chars
    small = {"fontsize": "small"} if len(texts) > 6 or crowded else {}
    axis.set_ticks(range(len(texts)), texts, rotation=90 if crowded else 0, **small)


def date_ticks() -> dict[str, Any]:
    """Return a few ticks of dates, and how they are written."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=2, maxticks=5)
    return {"ticks": locator, "format": ConciseDateFormatter(locator)}


def check_lengths(owner: Any, **expected: tuple[Any, int, str]) -> None:
    """Raise a ValueError where something has another length than it should.

    ``expected`` gives, by the name of a parameter, its value, the number of items that
    it should have, and what there is one for. A value of None or a single number has no
    length.
    """
    for name, (value, n, one_for) in expected.items():
        if not hasattr(value, "__len__") or len(value) == n:
            continue
        raise ValueError(
            f"{name} of {type(owner).__name__} has {len(value)} items, and should have "
            f"{n}: one for each {one_for}."
        )


# Rows: images or tables.


def last_step(estimator: Any) -> Any:
    """Return the model: the last step of a pipeline, or the estimator itself."""
    steps = getattr(estimator, "steps", None)
    return steps[-1][1] if steps else estimator


def model_of(estimator: Any) -> Any:
    """Return the model with the code: the last step, or what is inside a table's."""
    last = last_step(estimator)
    return getattr(last, "estimator_", last)


def name_of(estimator: Any) -> str:
    """Name of the model's class."""
    return type(last_step(estimator)).__name__


def image_shape_of(
    estimator: Any, image_shape: Sequence[int] | None, n_features: int
) -> tuple[int, ...] | None:
    """Shape of the image in a row: as given, or the estimator's own; None of a table.

    The last step of a pipeline speaks for rows that are as wide as its own.
    """
    if image_shape is None:
        image_shape = getattr(last_step(estimator), "image_shape", None)
        if image_shape is None or math.prod(image_shape) != n_features:
            return None
    return check_shape(image_shape, n_features)


def check_shape(image_shape: Sequence[int], n_features: int) -> tuple[int, ...]:
    """Return (height, width) or (height, width, 3 or 4), which rows must have."""
    shape = tuple(int(size) for size in image_shape)
    if shape[2:] == (1,):
        shape = shape[:2]
    if len(shape) not in (2, 3) or math.prod(shape) != n_features:
        raise ValueError(
            f"image_shape={image_shape!r} is not the shape of rows with {n_features} "
            "features: give (height, width) or (height, width, channels), whose "
            "product they are."
        )
    if len(shape) == 3 and shape[2] not in (3, 4):
        raise ValueError(
            f"image_shape={image_shape!r} has {shape[2]} channels, and a picture shows "
            "1, 3 (RGB) or 4 (RGBA)."
        )
    return shape


def feature_names_of(estimator: Any, n_features: int) -> list[str]:
    """Names that were seen during fit, or x0, x1, ... as scikit-learn has them."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return [f"x{i}" for i in range(n_features)]
    return [str(name) for name in names]


def latent_name(index: int) -> str:
    """Name of a latent coordinate, by its column in what ``transform`` gives."""
    return f"$z_{{{index}}}$"


# Images.


def tile(images: Array) -> Array:
    """Lay images (r, c, h, w[, C]) out as one, with a gap of no colour."""
    r, c, h, w = images.shape[:4]
    gap = tile_gap(h)
    empty = np.nan if images.ndim == 4 else 1.0
    edges = [(0, 0), (0, 0), (0, gap), (0, gap), *[(0, 0)] * (images.ndim - 4)]
    padded = np.pad(images, edges, constant_values=empty)
    picture = padded.swapaxes(1, 2).reshape(
        r * (h + gap), c * (w + gap), *padded.shape[4:]
    )
    return picture[:-gap, :-gap]


def tile_gap(height: int) -> int:
    """Pixels between tiles."""
    return max(1, height // 14)


def grey_range(rows: Array) -> tuple[float, float]:
    """Values that are black and white; a few pixels far out take no contrast away."""
    low, high = np.nanquantile(rows, [0.005, 0.995])
    if low == high:
        low, high = np.nanmin(rows), np.nanmax(rows)
    return float(low), float(high)


def mosaic_size(
    n_rows: int, n_columns: int, shape: Sequence[int]
) -> tuple[float, float]:
    """Size in inches of a figure of a mosaic, with room for its words."""
    side = min(0.8, 9 / n_columns, 10 / n_rows * shape[1] / shape[0])
    width = max(n_columns * side, 3.4)
    return 1.6 + width, 0.9 + n_rows * side * shape[0] / shape[1]


def in_lines(rows: Array, n_columns: int) -> Array:
    """Return rows (n, d) as lines (r, n_columns, d), the last filled up with NaN."""
    n_lines = max(1, math.ceil(len(rows) / n_columns))
    filled = np.full((n_lines * n_columns, rows.shape[1]), np.nan)
    filled[: len(rows)] = rows
    return filled.reshape(n_lines, n_columns, -1)


def thinned(labels: Sequence[str], most: int = 13) -> list[str]:
    """Return labels of which at most some are left, evenly spread, and others empty."""
    step = math.ceil(len(labels) / most)
    return [label if i % step == 0 else "" for i, label in enumerate(labels)]


def draw_mosaic(
    ax: Axes,
    rows: Array,
    shape: Sequence[int],
    *,
    limits: tuple[float, float],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    **options: Any,
) -> AxesImage:
    """Draw rows (r, c, d) as a mosaic of images, with a label a line or a column."""
    shape = check_shape(shape, rows.shape[-1])
    images = rows.reshape(*rows.shape[:2], *shape)
    if len(shape) == 3:  # colours: integers up to 255, or numbers up to 1
        images = np.clip(images / (255.0 if limits[1] > 1.5 else 1.0), 0, 1)
        images = np.nan_to_num(images, nan=1.0)  # no image is white
    low, high = limits
    options = {"cmap": "gray", "vmin": low, "vmax": high, **options}
    picture = ax.imshow(tile(images), interpolation="nearest", **options)
    gap = tile_gap(shape[0])
    y, x = (
        np.arange(n) * (side + gap) + (side - 1) / 2
        for n, side in zip(images.shape[:2], shape)
    )
    ax.set_yticks(y if len(row_labels) else [], row_labels)
    ax.set_xticks(x if len(column_labels) else [], thinned(column_labels))
    bare(ax)
    return picture


def bare(ax: Axes) -> None:
    """Take the frame and the tick marks away; labels stay."""
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


# Tables.


def heat_map_height(n_features: int) -> float:
    """Height in inches of a heat map of so many features, with room for its words."""
    return 1.6 + 0.25 * max(8, min(n_features, MOST_LINES))


def draw_heat_map(ax: Axes, values: Array, names: Sequence[str]) -> AxesImage:
    """Draw standardised features (d, columns), with the mean as the middle colour.

    Of many features, those that vary most are drawn, in their order.
    """
    if len(values) > MOST_LINES:
        spread = np.nan_to_num(values).std(axis=1)
        kept = np.sort(np.argsort(-spread, kind="stable")[:MOST_LINES])
        ax.set_ylabel(f"the {MOST_LINES} of {len(values)} features that vary most")
        values, names = values[kept], [names[k] for k in kept]
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    limit = float(np.clip(largest, LEAST_DEVIATIONS, MOST_DEVIATIONS))
    picture = ax.imshow(
        values,
        aspect="auto",
        interpolation="nearest",
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
    )
    ax.set_yticks(range(len(names)), [plain(name) for name in names])
    ax.tick_params(labelsize="small" if len(names) > 20 else "medium")
    ax.tick_params(length=0)
    extend = "both" if largest > limit else "neither"
    bar = ax.figure.colorbar(picture, ax=ax, extend=extend)
    bar.set_label("feature, in standard deviations\nfrom its mean")
    return picture


def check_heat_map(
    owner: Any, d: int, names: Sequence[str] | None, mean: Any, std: Any
) -> list[str]:
    """Return the names of d features; a ValueError where something does not fit."""
    check_lengths(
        owner,
        feature_names=(names, d, "feature"),
        feature_mean=(mean, d, "feature"),
        feature_std=(std, d, "feature"),
    )
    return list(names) if names else feature_names_of(None, d)


def choose_features(
    features: Sequence[int | str] | None, names: Sequence[str]
) -> list[int]:
    """Columns of features that are given by index or name, or the first few."""
    if features is None:
        return list(range(min(len(names), MOST_PANELS)))
    try:
        chosen = [names.index(f) if isinstance(f, str) else int(f) for f in features]
    except ValueError:
        chosen = [-1]
    if not chosen or not all(0 <= index < len(names) for index in chosen):
        raise ValueError(
            f"The 'features' parameter must list names or columns among {len(names)} "
            f"features. Got {features!r}."
        )
    return chosen


def part_of(chosen: Sequence[int] | None, names: Sequence[str]) -> str:
    """Return words for a title that say how many features are left out, if any."""
    if chosen is None or len(chosen) == len(names):
        return ""
    return f", {len(chosen)} of {len(names)} features"


def check_columns(owner: Any, names: Sequence[str], *tables: Any) -> None:
    """Raise a ValueError unless tables have a column for each name."""
    widths = [table.shape[-1] for table in tables]
    if len(set(widths)) > 1:
        raise ValueError(
            f"{type(owner).__name__} compares tables of the same features. Got "
            f"{' and '.join(map(str, widths))} features."
        )
    check_lengths(owner, feature_names=(names, widths[0], "feature"))


# Labels of rows.


def group_style(index: int) -> dict[str, Any]:
    """Colour and marker of a group: twenty groups have twenty pairs."""
    n = len(COLOURS)
    shift = index // n  # the second ten have other markers
    return {
        "color": COLOURS[index % n],
        "marker": MARKERS[(index + shift) % len(MARKERS)],
    }
