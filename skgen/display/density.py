"""A density in two dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from skgen.display.columns import as_table, features_of
from skgen.display.drawing import (
    SCALE_DRAWS,
    check_lengths,
    feature_names_of,
    figure_of,
    last_step,
    name_of,
    one_axes,
    plain,
    pyplot,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]

# Nats below the highest point at which colours end: e^-10 of its density.
DEPTH = 10.0
STEP = 0.5


@dataclass(eq=False, repr=False)
class DensityDisplay:
    """log p(x) of a model of two features, over a grid, with rows on top.

    Parameters
    ----------
    xx0, xx1 : ndarray of shape (n, n)
        Both features of the grid's points, as from ``numpy.meshgrid``.
    log_density : ndarray of shape (n, n)
        log p(x) at these points, in nats.
    data : ndarray of shape (n_rows, 2), default=None
        Rows that are drawn on top.
    feature_names : sequence of 2 str, default=("x0", "x1")
        What the axes are.
    title : str, default="Density"
        Title of the picture.

    Attributes
    ----------
    figure_ : Figure
        The figure.
    ax_ : Axes
        The axes.
    contours_ : QuadContourSet
        The filled contours, every half nat. What is more than 10 nats below the
        highest point has the colour of the lowest.
    colorbar_ : Colorbar
        Their scale.
    points_ : PathCollection or None
        The rows on top.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from skgen import GaussianMixtureEM
    >>> from skgen.display import DensityDisplay
    >>> X, _ = make_moons(200, noise=0.1, random_state=0)
    >>> model = GaussianMixtureEM(6, random_state=0).fit(X)
    >>> display = DensityDisplay.from_estimator(model, X)
    >>> display.log_density.shape
    (100, 100)
    """

    xx0: Array
    xx1: Array
    log_density: Array
    data: Array | None = None
    feature_names: Sequence[str] = ("x0", "x1")
    title: str = "Density"

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        *,
        grid_resolution: int = 100,
        margin: float = 0.2,
        ax: Axes | None = None,
    ) -> Self:
        """Score a grid of points, and draw it.

        Parameters
        ----------
        estimator : object
            Estimator or ``GenerativePipeline`` that was fitted on two features, or a
            ``MixedDensity`` of two columns of numbers.
        X : array-like of shape (n_rows, 2), default=None
            Rows that are drawn on top, and that the grid covers. Without them it
            covers samples of the model.
        grid_resolution : int, default=100
            Points along each side of the grid.
        margin : float, default=0.2
            Room around the rows, in parts of their range. A ``MixedDensity`` has none:
            its columns may end there.
        ax : Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : DensityDisplay
            The picture, drawn.

        Raises
        ------
        ValueError
            If the estimator was not fitted on two features, or on levels or dates.
        """
        pyplot(cls, "from_estimator")
        check_is_fitted(estimator)
        check_scalar(grid_resolution, "grid_resolution", Integral, min_val=2)
        check_scalar(margin, "margin", Real, min_val=0)
        if estimator.n_features_in_ != 2:
            raise ValueError(
                f"DensityDisplay draws a density of 2 features, and this "
                f"{name_of(estimator)} has n_features_in_={estimator.n_features_in_}. "
                "Fit it on two columns."
            )
        covered = estimator.sample(SCALE_DRAWS, random_state=0) if X is None else X
        is_table = hasattr(last_step(estimator), "kinds_")
        rows = _numbers(covered, estimator)
        xx0, xx1 = _grid(rows, grid_resolution, 0 if is_table else margin, is_table)
        points = np.column_stack([xx0.ravel(), xx1.ravel()])
        with warnings.catch_warnings():
            # Of points that are nobody's rows: names are missing, or no way leads back.
            warnings.simplefilter("ignore", UserWarning)
            log_density = estimator.score_samples(_like(X, points))
        return cls(
            xx0,
            xx1,
            log_density.reshape(xx0.shape),
            data=None if X is None else rows,
            feature_names=feature_names_of(estimator, 2),
            title=f"Density of {name_of(estimator)}",
        ).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : DensityDisplay
            This object, with the artists as attributes.
        """
        check_lengths(
            self,
            feature_names=(self.feature_names, 2, "axis"),
            xx0=(self.xx0, len(self.log_density), "line of log_density"),
            xx1=(self.xx1, len(self.log_density), "line of log_density"),
        )
        finite = np.isfinite(self.log_density)
        if not finite.any():
            raise ValueError(
                "The log-density is finite nowhere on the grid: there is nothing to "
                "draw."
            )
        self.ax_ = ax = one_axes(self, ax, (6.0, 4.6))
        self.figure_, self.points_ = figure_of(ax), None
        highest = float(self.log_density[finite].max())
        top = np.ceil(highest)
        levels = np.arange(top - DEPTH, top + STEP / 2, STEP)
        floored = np.where(finite, np.maximum(self.log_density, levels[0]), levels[0])
        self.contours_ = ax.contourf(
            self.xx0, self.xx1, floored, levels=levels, cmap="viridis"
        )
        self.colorbar_ = self.figure_.colorbar(
            self.contours_,
            ax=ax,
            ticks=levels[::4],
            label=f"log p(x), nats ({levels[0]:.0f} and below: darkest)",
        )
        if self.data is not None:
            x, y = self.data.T
            self.points_ = ax.scatter(
                x, y, s=8, color="white", edgecolor="black", linewidth=0.4, alpha=0.6
            )
        first, second = self.feature_names
        ax.set(xlabel=plain(first), ylabel=plain(second))
        ax.set_title(self.title, wrap=True)
        return self


def _numbers(X: Any, estimator: Any) -> Array:
    """Return rows (n, 2) as numbers, NaN where missing; a ValueError of others."""
    features = features_of([as_table(X)], feature_names_of(estimator, 2))
    for feature in features:
        if feature.kind != "number":
            raise ValueError(
                f"DensityDisplay draws a density of numbers, and the feature "
                f"{feature.name!r} has {feature.kind}s. SamplesDisplay draws them."
            )
    return np.column_stack([feature.tables[0] for feature in features])


def _grid(rows: Array, n: int, margin: float, keeps_whole: bool) -> tuple[Array, Array]:
    """Return points that cover rows (m, 2) and a margin around them: (n, n) or fewer.

    With ``keeps_whole``, columns of whole numbers have whole numbers.
    """
    sides = []
    for x in rows.T:
        x = x[np.isfinite(x)]
        low, high = x.min(), x.max()
        room = margin * (high - low) if high > low else 1.0
        side = np.linspace(low - room, high + room, n)
        if keeps_whole and (x == np.round(x)).all():
            side = np.unique(np.clip(np.round(side), low, max(high, low + 1)))
        sides.append(side)
    xx0, xx1 = np.meshgrid(*sides)
    return xx0, xx1


def _like(X: Any, points: Array) -> Any:
    """Points (n, 2) as a DataFrame where X is one."""
    if not hasattr(X, "columns"):
        return points
    return type(X)(dict(zip(X.columns, points.T)))
