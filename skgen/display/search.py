"""The curve of a grid search, with error bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skgen.display.drawing import (
    figure_of,
    group_style,
    legend_outside,
    name_of,
    one_axes,
    pyplot,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]


class Curves(NamedTuple):
    """Scores of candidates, a line for each value of a second parameter."""

    param: str
    values: list[Any]
    lines: str | None
    labels: list[str]
    means: Array  # (n_lines, n_values), NaN where there is no candidate
    errors: Array  # (n_lines, n_values)
    fixed: dict[str, Any]  # parameters that the lines share, and others do not


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
        a logarithmic scale; values that are no numbers are in their order.
    lines_ : list of ErrorbarContainer
        The lines with their bars.
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
            Parameter with a line for each value; ``None`` is the next one, if any.
            Of all others, the lines have the values of the best candidate.
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
        unit = ", nats a row" if in_nats else ""
        score_name = f"mean test {metric} of {search.n_splits_} folds{unit}"
        title = f"Grid search of {name_of(search.estimator)}"
        if curves.fixed:
            fixed = ", ".join(f"{name}={value}" for name, value in curves.fixed.items())
            title += f"\nat {fixed}"
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
        self.ax_ = ax = one_axes(self, ax, (6.4, 4.0))
        self.figure_ = figure_of(ax)
        numbers = _are_numbers(self.values)
        x = np.array(self.values if numbers else range(len(self.values)), dtype=float)
        self.lines_ = [
            ax.errorbar(x, mean, error, capsize=3, label=label, **group_style(line))
            for line, (mean, error, label) in enumerate(
                zip(self.means, self.errors, self.labels)
            )
        ]
        line, best = np.unravel_index(np.nanargmax(self.means), self.means.shape)
        (self.best_,) = ax.plot(
            x[best],
            self.means[line, best],
            marker="o",
            markersize=14,
            markerfacecolor="none",
            markeredgecolor="0.2",
            linestyle="none",
            label="best",
        )
        if numbers and _is_geometric(x):
            ax.set_xscale("log")
            ax.minorticks_off()
        ax.set_xticks(x, [str(value) for value in self.values])
        ax.set(xlabel=self.param, ylabel=self.score_name, title=self.title)
        ax.grid(alpha=0.3)
        legend_outside(ax)
        return self


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
    best = params[int(np.nanargmax(means))]
    fixed = {name: best[name] for name in others if name in best}
    kept = [
        i
        for i, each in enumerate(params)
        if param in each and all(_same(each.get(k), best.get(k)) for k in others)
    ]
    values = _distinct([params[i][param] for i in kept])
    labels = _distinct([params[i].get(lines) for i in kept])
    names, places = [str(v) for v in labels], [str(v) for v in values]
    table = np.full((2, len(labels), len(values)), np.nan)
    for i in kept:
        line, place = str(params[i].get(lines)), str(params[i][param])
        at = names.index(line), places.index(place)
        table[:, *at] = means[i], errors[i]
    return Curves(param, values, lines, names, table[0], table[1], fixed)


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
    if lines is None and free:
        lines = free.pop(0)
    return param, lines, free


def _are_numbers(values: Sequence[Any]) -> bool:
    """Whether values have places on an axis."""
    return all(
        isinstance(value, Real) and not isinstance(value, bool | np.bool_)
        for value in values
    )


def _distinct(values: Sequence[Any]) -> list[Any]:
    """Distinct values: numbers by size, others in their order."""
    distinct = list({str(value): value for value in values}.values())
    return sorted(distinct) if _are_numbers(distinct) else distinct


def _same(a: Any, b: Any) -> bool:
    """Whether two values of a parameter, estimators among them, are the same."""
    return str(a) == str(b)


def _is_geometric(x: Array) -> bool:
    """Whether numbers are spaced by ratios rather than by differences."""
    if len(x) < 3 or x[0] <= 0:
        return False
    steps, ratios = np.diff(x), np.diff(np.log(x))
    return bool(ratios.std() / ratios.mean() < steps.std() / steps.mean())
