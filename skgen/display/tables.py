"""The report of a synthetic table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from skgen.display.drawing import COLOURS, figure_of, name_of, panel_axes, plain, pyplot
from skgen.metrics import table_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]

# Columns that a panel shows, the worst ones.
MOST_COLUMNS = 20
# What a report says of each column, of each pair, and of whole rows, and how panels
# call it. Distances and nats have no place on a scale from 0 to 1.
OF_COLUMNS = {"column_shape": "Shapes of columns", "efficacy": "Efficacy by target"}
OF_ROWS = {
    "column_shape": "column shapes",
    "pair_trend": "pair trends",
    "efficacy": "efficacy",
    "two_sample": "two-sample score",
    "closest_record_share": "share closer to real",
    "copied_rows": "copied rows",
}


@dataclass(eq=False, repr=False)
class TableReportDisplay:
    """A synthetic table against the real one: measures, columns and pairs.

    Parameters
    ----------
    report : DataFrame
        What :func:`skgen.metrics.table_report` gives.
    title : str, default="Synthetic against real rows"
        Title of the picture.

    Attributes
    ----------
    figure_ : Figure
        The figure.
    axes_ : list of Axes
        The panels: the measures of the whole table, the shapes of the columns, the
        trends of pairs, and the efficacy of each column as the target, where the report
        has them.
    points_ : dict of str to Line2D
        The points of each panel, by its title. Rings are the references.
    image_ : AxesImage or None
        The trends of pairs: 1 is bright.

    See Also
    --------
    skgen.metrics.table_report : Says what the measures are.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgen import GaussianMixtureEM
    >>> from skgen.display import TableReportDisplay
    >>> X = load_iris().data
    >>> model = GaussianMixtureEM(3, random_state=0).fit(X[::2])
    >>> display = TableReportDisplay.from_estimator(
    ...     model, X[::2], X[1::2], random_state=0
    ... )
    >>> sorted(display.points_)
    ['Efficacy by target', 'Shapes of columns', 'Whole table']
    """

    report: Any
    title: str = "Synthetic against real rows"

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        holdout: Any = None,
        *,
        random_state: Any = 0,
        ax: Any = None,
        **options: Any,
    ) -> Self:
        """Draw as many rows of a model as it was fitted on, and report on them.

        Parameters
        ----------
        estimator : object
            Fitted density.
        X : DataFrame or array-like of shape (n_samples, n_features)
            Rows that it was fitted on.
        holdout : DataFrame or array-like of shape (n_holdout, n_features), default=None
            Rows that it has not seen. With them the report says how much the model has
            learned by heart.
        random_state : int, RandomState, Generator or None, default=0
            Source of the draws and of the report.
        ax : Axes or array of Axes, default=None
            Where to draw; ``None`` makes a figure.
        **options : dict
            Passed to :func:`skgen.metrics.table_report`.

        Returns
        -------
        display : TableReportDisplay
            The picture, drawn.
        """
        pyplot(cls, "from_estimator")
        synthetic = estimator.sample(len(X), random_state=random_state)
        if holdout is not None:
            options = {"model": estimator, **options}
        report = table_report(
            X, synthetic, holdout, random_state=random_state, **options
        )
        title = f"Draws of {name_of(estimator)} against real rows"
        return cls(report, title=title).plot(ax)

    @classmethod
    def from_report(cls, report: Any, *, ax: Any = None) -> Self:
        """Draw a report.

        Parameters
        ----------
        report : DataFrame
            What :func:`skgen.metrics.table_report` gives.
        ax : Axes or array of Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : TableReportDisplay
            The picture, drawn.
        """
        return cls(report).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : Axes or array of Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : TableReportDisplay
            This object, with the artists as attributes.
        """
        whole = self.report[self.report["column"].isna()].set_index("measure")
        single = self.report[self.report["column"].notna()]
        panels = {"Whole table": whole.loc[[m for m in OF_ROWS if m in whole.index]]}
        for measure, name in OF_COLUMNS.items():
            panels[name] = single[single["measure"] == measure].set_index("column")
        panels = {name: rows for name, rows in panels.items() if len(rows)}
        pairs = single[single["measure"] == "pair_trend"]
        n_panels = len(panels) + bool(len(pairs))
        if not n_panels:
            raise ValueError(
                "The report has no measure that TableReportDisplay draws: it has "
                f"{sorted(set(self.report['measure']))}."
            )
        self.axes_ = axes = panel_axes(
            self, ax, n_panels, title=self.title, n_columns=2, size=(4.6, 3.4)
        )
        self.figure_, self.image_ = figure_of(axes[0]), None
        self.points_ = {
            name: _draw_points(axis, name, rows)
            for axis, (name, rows) in zip(axes, panels.items())
        }
        if "Whole table" in panels:
            axes[0].set_xlabel(_without_scale(whole))
        if len(pairs):
            self.image_ = _draw_pairs(axes[-1], pairs)
        return self


def _without_scale(whole: Any) -> str:
    """Say what the report has in nats or as a distance."""
    lines = ["ring: the reference; bar: two standard errors"]
    if "memorisation" in whole.index:
        row = whole.loc["memorisation"]
        lines.append(
            f"memorisation {row['value']:.2f} ± {row['standard_error']:.2f} nats"
        )
    return "\n".join(lines)


def _draw_points(ax: Axes, name: str, rows: Any) -> Any:
    """Draw values with bars of two standard errors, and references as rings."""
    if len(rows) > MOST_COLUMNS:
        kept = np.sort(np.argsort(rows["value"], kind="stable")[:MOST_COLUMNS])
        name = f"{name}: the lowest {MOST_COLUMNS} of {len(rows)}"
        rows = rows.iloc[kept]
    places = np.arange(len(rows))
    ax.plot(rows["reference"], places, "o", mfc="none", mec="0.5", ms=9)
    errors = 2 * rows["standard_error"].fillna(0)
    ax.errorbar(rows["value"], places, xerr=errors, fmt="none", ecolor=COLOURS[0])
    (points,) = ax.plot(rows["value"], places, "o", color=COLOURS[0], ms=5)
    labels = [
        OF_ROWS.get(x, x) if rows.index.name == "measure" else x for x in rows.index
    ]
    ax.set_yticks(places, [plain(label, 22) for label in labels])
    ax.tick_params(axis="y", labelsize="small")
    ax.invert_yaxis()
    ax.set_xlim(min(0.0, float(rows["value"].min()) - 0.05), 1.05)
    ax.grid(axis="x", alpha=0.3)
    ax.set_title(name)
    return points


def _draw_pairs(ax: Axes, pairs: Any) -> Any:
    """Draw the trends of pairs as a square."""
    names = list(dict.fromkeys([*pairs["column"], *pairs["other"]]))
    places: Mapping[Any, int] = {name: i for i, name in enumerate(names)}
    square = np.full((len(names), len(names)), np.nan)
    for column, other, value in pairs[["column", "other", "value"]].to_numpy():
        i, j = places[column], places[other]
        square[i, j] = square[j, i] = value
    image = ax.imshow(square, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    few = len(names) <= MOST_COLUMNS
    ax.set_yticks(range(len(names)) if few else [], [plain(x, 16) for x in names] * few)
    ax.set_xticks([])
    ax.tick_params(axis="y", labelsize="small")
    ax.figure.colorbar(image, ax=ax)
    ax.set_title("Trends of pairs")
    ax.set_xlabel("columns, in the same order")
    return image
