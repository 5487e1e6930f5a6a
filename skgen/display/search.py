"""The curve of a grid search, with error bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skgen.display.drawing import (
    check_lengths,
    figure_of,
    group_style,
    legend_outside,
    name_of,
    one_axes,
    plain,
    pyplot,
    thinned,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]

# Lines of a picture; characters that have room beside each other below its axis.
MOST_LINES, MOST_CHARACTERS = 10, 48


class Curves(NamedTuple):
    """Scores of candidates, a line for each value of a second parameter."""

    param: str
    values: list[Any]
    lines: str | None
    labels: list[str]
    means: Array  # (n_lines, n_values), NaN where there is no candidate
    errors: Array  # (n_lines, n_values)
    fixed: dict[str, Any]  # parameters that the lines share, and others do not
    best_over: list[str]  # parameters of which each candidate shown has its best values


@dataclass(eq=False, repr=False)
class SearchCurveDisplay:
    """Scores of a grid search over one parameter, with error bars.

    Parameters
    ----------
    param : str
        Name of the parameter.
    values : list
        Its values, in order.
    means : ndarray of shape (n_lines, n_values)
        Mean test scores; NaN where there is no candidate.
    errors : ndarray of shape (n_lines, n_values)
        Their standard errors over the folds.
    labels : list of str, default=("",)
        What each line is.
    score_name : str, default="mean test score"
        What the scores are.
    title : str, default="Grid search"
        Title of the picture.

    Attributes
    ----------
    figure_ : Figure
        The figure.
    ax_ : Axes
        The axes. Numbers that are spaced by ratios rather than by differences are on
        a logarithmic scale, which is linear near 0 where 0 is among them. Where any
        value is no finite number, all are categories, in their order.
    lines_ : list of ErrorbarContainer
        The lines with their bars; the ten best, where there are more.
    best_ : Line2D
        The ring around the best candidate.

    Notes
    -----
    The folds share most of their training rows, so that a standard error over them
    is too small for the spread over other data, and too large for differences
    between candidates, which all see the same folds.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skgen import GaussianDensity
    >>> from skgen.display import SearchCurveDisplay
    >>> search = GridSearchCV(GaussianDensity(), {"n_components": [2, 6, 10]})
    >>> display = SearchCurveDisplay.from_estimator(search.fit(load_wine().data))
    >>> display.values
    [2, 6, 10]
    """

    param: str
    values: list[Any]
    means: Array
    errors: Array
    labels: Sequence[str] = ("",)
    score_name: str = "mean test score"
    title: str = "Grid search"

    @classmethod
    def from_estimator(
        cls,
        search: Any,
        *,
        param: str | None = None,
        lines: str | None = None,
        metric: str = "score",
        ax: Axes | None = None,
    ) -> Self:
        """Draw the scores of a search.

        Parameters
        ----------
        search : object
            Fitted ``GridSearchCV``, ``BatchedGridSearchCV`` or the like.
        param : str, default=None
            Parameter along the horizontal axis; ``None`` is the one with the most
            values, numbers before others.
        lines : str, default=None
            Parameter with a line for each value; ``None`` is the next one of ten values
            at most, if any. Of all others, the lines have the values of the best
            candidate, or, in a search that has no grid, the best that were tried.
        metric : str, default="score"
            Name of the metric, where there are several.
        ax : Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : SearchCurveDisplay
            The picture, drawn.

        Raises
        ------
        ValueError
            If the search has no such parameter or metric.
        """
        pyplot(cls, "from_estimator")
        check_is_fitted(search)
        curves = _curves(search.cv_results_, param, lines, metric)
        in_nats = search.scoring is None and hasattr(search.estimator, "score_samples")
        unit = ", nats per row" if in_nats else ""
        score_name = f"mean test {metric} of {search.n_splits_} folds{unit}"
        title = f"Grid search of {name_of(search.estimator)}"
        if curves.fixed:
            fixed = ", ".join(f"{name}={value}" for name, value in curves.fixed.items())
            title += f"\nat {fixed}"
        if curves.best_over:
            title += f"\nbest over {', '.join(curves.best_over)}"
        labels = [f"{curves.lines} = {label}" for label in curves.labels]
        return cls(
            curves.param,
            curves.values,
            curves.means,
            curves.errors,
            labels=labels if curves.lines else ("",),
            score_name=score_name + "\n± standard error over folds",
            title=title,
        ).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : SearchCurveDisplay
            This object, with the artists as attributes.
        """
        n_values = self._checked_shape()[1]
        name, labels = self._legend()
        width = 5.2 + 0.08 * max(map(len, [*labels, "best  ", *name.split("\n")]))
        self.ax_ = ax = one_axes(self, ax, (width, 4.0))
        self.figure_ = figure_of(ax)
        scale = axis_scale(self.values)
        places = range(n_values) if scale == "category" else self.values
        x = np.array(places, dtype=float)
        means = np.where(np.isfinite(self.means), self.means, np.nan)
        highest = np.nanmax(np.nan_to_num(means, nan=-np.inf), axis=1)
        shown = np.sort(np.argsort(-highest, kind="stable")[:MOST_LINES])
        self.lines_ = [
            ax.errorbar(
                x,
                means[line],
                self.errors[line],
                capsize=3,
                label=labels[line],
                **group_style(i),
            )
            for i, line in enumerate(shown)
        ]
        line, best = np.unravel_index(np.nanargmax(means), means.shape)
        (self.best_,) = ax.plot(
            x[best],
            means[line, best],
            marker="o",
            markersize=14,
            markerfacecolor="none",
            markeredgecolor="0.2",
            linestyle="none",
            label="best",
        )
        _label_values(ax, x, self.values, scale)
        ax.set(xlabel=self.param, ylabel=self.score_name)
        ax.set_title(self.title, wrap=True)
        ax.grid(alpha=0.3)
        legend_outside(ax, title=name)
        return self

    def _legend(self) -> tuple[str, list[str]]:
        """Return the title of the legend, and a short label of each line.

        A name that all labels begin with is the title.
        """
        n, parts = len(self.labels), [label.partition(" = ") for label in self.labels]
        names = {name for name, equals, _ in parts if equals}
        title, labels = "", list(self.labels)
        if len(names) == 1 and all(equals for _, equals, _ in parts):
            title, labels = names.pop(), [value for *_, value in parts]
        if n > MOST_LINES:
            title += f"\nthe {MOST_LINES} best of {n}"
        title = "\n".join(plain(line, 30) for line in title.splitlines())
        return title, [plain(label, 30) for label in labels]

    def _checked_shape(self) -> tuple[int, int]:
        """Return the numbers of lines and values; a ValueError where they disagree."""
        self.means, self.errors = np.asarray(self.means), np.asarray(self.errors)
        n_lines, n_values = self.means.shape
        if self.errors.shape != self.means.shape:
            raise ValueError(
                f"errors of SearchCurveDisplay have the shape {self.errors.shape}, and "
                f"should have that of means, {self.means.shape}."
            )
        check_lengths(
            self,
            labels=(self.labels, n_lines, "line"),
            values=(self.values, n_values, "column of means"),
        )
        if not np.isfinite(self.means).any():
            raise ValueError(
                "No candidate of the search has a finite mean score: there is nothing "
                "to draw."
            )
        return n_lines, n_values


def _label_values(ax: Axes, x: Array, values: Sequence[Any], scale: str) -> None:
    """Set the scale of the horizontal axis, and ticks at the values if they fit."""
    if scale == "category":
        texts = [plain(value, 24) for value in values]
        steep = sum(len(text) + 2 for text in texts) > 60
        turned: dict[str, Any] = {"rotation": 45, "ha": "right"} if steep else {}
        ax.set_xticks(x, thinned(texts, 20), rotation_mode="anchor", **turned)
        return
    if scale == "symlog":
        ax.set_xscale("symlog", linthresh=x[x > 0].min())
    elif scale == "log":
        ax.set_xscale("log")
    texts = [_written(value) for value in values]
    # Within a decade, the ticks of Matplotlib's log scale are too many or too few.
    least = 2 if scale == "log" and x.max() < 10 * x.min() else len(x)
    for step in range(1, max(len(x), 2)):
        if len(some := texts[::step]) >= least and _fit(ax, x[::step], some):
            ax.set_xticks(x[::step], some)
            ax.minorticks_off()
            return


def _fit(ax: Axes, x: Array, texts: list[str]) -> bool:
    """Return whether labels at x, in order, are distinct and leave room between."""
    if len(x) < 2 or len(set(texts)) < len(texts):
        return len(x) < 2
    at = ax.transScale.transform(np.column_stack([x, np.ones(len(x))]))[:, 0]
    gaps = np.diff(at) / (at[-1] - at[0])  # parts of the axis
    widths = np.array([len(text) + 1.5 for text in texts]) / MOST_CHARACTERS
    return bool((gaps >= (widths[1:] + widths[:-1]) / 2).all())


def _written(value: Any) -> str:
    return str(value) if isinstance(value, Integral) else f"{float(value):.4g}"


def _curves(
    results: Mapping[str, Any], param: str | None, lines: str | None, metric: str
) -> Curves:
    """Part the candidates of a search into lines."""
    params, scores = results["params"], _scores_of_folds(results, metric)
    means = scores.mean(axis=1)
    errors = np.zeros_like(means)
    if scores.shape[1] > 1:
        errors = scores.std(axis=1, ddof=1) / np.sqrt(scores.shape[1])
    param, lines, others = _roles(params, param, lines)
    if not np.isfinite(means).any():
        raise ValueError(
            f"No candidate of the search has a finite mean test {metric}: there is "
            "nothing to draw."
        )
    best = params[int(np.nanargmax(np.where(np.isfinite(means), means, np.nan)))]
    fixed = {name: best[name] for name in others if name in best}
    there = [i for i, each in enumerate(params) if param in each]
    kept = [
        i for i in there if all(_same(params[i].get(k), best.get(k)) for k in others)
    ]
    values = _distinct([params[i][param] for i in there])
    best_over: list[str] = []
    if len(_distinct([params[i][param] for i in kept])) < len(values):  # no grid
        kept, fixed, best_over = there, {}, others
    labels = _distinct([params[i].get(lines) for i in kept])
    names, places = [str(v) for v in labels], [str(v) for v in values]
    table = np.full((2, len(labels), len(values)), np.nan)
    for i in kept:
        line, place = str(params[i].get(lines)), str(params[i][param])
        at = names.index(line), places.index(place)
        if not table[0][at] >= means[i]:
            table[:, *at] = means[i], errors[i]
    return Curves(param, values, lines, names, table[0], table[1], fixed, best_over)


def _scores_of_folds(results: Mapping[str, Any], metric: str) -> Array:
    """Test scores (n_candidates, n_folds)."""
    ending = f"_test_{metric}"
    folds = [name for name in results if name[:5] == "split" and name.endswith(ending)]
    if not folds:
        there = [name[10:] for name in results if name.startswith("mean_test_")]
        raise ValueError(f"metric={metric!r} is none of the search's: {there}.")
    return np.stack([results[name] for name in folds], axis=1)


def _roles(
    params: Sequence[Mapping[str, Any]], param: str | None, lines: str | None
) -> tuple[str, str | None, list[str]]:
    """Parameter along the axis, that of the lines, and the others that vary."""
    names = list(dict.fromkeys(name for each in params for name in each))
    values = {n: _distinct([each[n] for each in params if n in each]) for n in names}
    for name in (param, lines):
        if name is not None and name not in names:
            raise ValueError(f"{name!r} is none of the search's parameters: {names}.")
    # Where one is not given, it has its default: that is a value, too.
    given = {n: {str(each[n]) if n in each else None for each in params} for n in names}
    varied = [name for name in names if len(given[name]) > 1] or names
    varied.sort(key=lambda n: (not _are_numbers(values[n]), -len(values[n])))
    param = param or next(name for name in varied if name != lines)
    free = [name for name in varied if name not in (param, lines)]
    few = [name for name in free if len(values[name]) <= MOST_LINES]
    if lines is None and few:
        lines = few[0]
        free.remove(lines)
    return param, lines, free


def _are_numbers(values: Sequence[Any]) -> bool:
    """Return whether all values are finite numbers."""
    return all(
        isinstance(value, Real)
        and not isinstance(value, bool | np.bool_)
        and math.isfinite(value)
        for value in values
    )


def _distinct(values: Sequence[Any]) -> list[Any]:
    """Distinct values: numbers by size, others in their order."""
    distinct = list({str(value): value for value in values}.values())
    return sorted(distinct) if _are_numbers(distinct) else distinct


def _same(a: Any, b: Any) -> bool:
    """Return whether two values of a parameter are written alike."""
    return str(a) == str(b)


def axis_scale(values: Sequence[Any]) -> str:
    """Return the scale that suits values: "category", "linear", "log" or "symlog"."""
    if not _are_numbers(values):
        return "category"
    x = np.sort(np.array(values, dtype=float))
    positive = x[x > 0]
    if x[0] > 0 and _is_geometric(x):
        return "log"
    spans_decades = len(positive) > 1 and positive[-1] >= 100 * positive[0]
    if x[0] == 0 and spans_decades and _is_geometric(positive):
        return "symlog"
    return "linear"


def _is_geometric(x: Array) -> bool:
    """Return whether positive numbers are spaced by ratios, not by differences."""
    if len(x) < 3:
        return bool(x[-1] >= 10 * x[0])
    steps, ratios = np.diff(x), np.diff(np.log(x))
    return bool(ratios.std() / ratios.mean() < steps.std() / steps.mean())
