"""Curves of a training: the loss and its parts, or the bound of EM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skgen.display.drawing import (
    COLOURS,
    figure_of,
    legend_below,
    model_of,
    name_of,
    panel_axes,
    pyplot,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Range of a curve, in those of its last three quarters, beyond which its start is cut.
MOST_FLATTENED = 30.0

# What the parts of a loss are, in the order in which they are drawn, with the signs
# with which they are in it.
PARTS = {
    "reconstruction": ("reconstruction: −E log p(x|z)", -1),
    "kl": ("KL(q(z|x) ‖ p(z))", 1),
    "mmd": ("squared MMD of q(z) to p(z)", 1),
    "total_correlation": ("total correlation of q(z)", 1),
    # The commitment is the same distance, with another gradient.
    "codebook": ("squared distance to the codes", 1),
}


@dataclass(eq=False, repr=False)
class LossCurveDisplay:
    """Curves of a training: the loss and its parts, or the bound that EM raises.

    Parameters
    ----------
    curves : dict of str to dict of str to array-like
        A panel for each key, and in it a line for each key of the inner dictionary,
        with a value per epoch.
    unit : str, default="epoch"
        What a step along the horizontal axis is.
    best : dict of str to int, default=None
        Number of the step whose model was kept, for some of the panels: counted from
        1, and 0 for the start. It is marked by a vertical line.
    title : str, default="Training"
        Title of the picture.

    Attributes
    ----------
    figure_ : Figure
        The figure.
    axes_ : list of Axes
        The panels.
    lines_ : dict of str to Line2D
        The curves, by their labels.
    marks_ : dict of str to Line2D
        The vertical lines at what was kept, by the names in ``best``.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import GaussianMixtureEM
    >>> from skgen.display import LossCurveDisplay
    >>> X = np.random.RandomState(0).randn(100, 2)
    >>> model = GaussianMixtureEM(2, random_state=0).fit(X)
    >>> display = LossCurveDisplay.from_estimator(model)
    >>> list(display.lines_)
    ['mean log p(x), training rows']
    """

    curves: Mapping[str, Mapping[str, ArrayLike]]
    unit: str = "epoch"
    best: Mapping[str, int] | None = None
    title: str = "Training"

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the curves of a fit.

        Parameters
        ----------
        estimator : object
            Fitted estimator that was trained step by step: a network,
            ``GaussianMixtureEM``, or a ``GenerativePipeline`` or ``MixedDensity``
            around one.
        ax : Axes or array of Axes, default=None
            Where to draw; ``None`` makes a figure.

        Returns
        -------
        display : LossCurveDisplay
            The picture, drawn.

        Raises
        ------
        ValueError
            If the fit keeps no curve: it has a closed form, or is scikit-learn's.
        """
        pyplot(cls, "from_estimator")
        check_is_fitted(estimator)
        model, name = model_of(estimator), name_of(estimator)
        if hasattr(model, "loss_terms_"):
            curves, best = _loss_curves(model), _best_epochs(model)
            display = cls(curves, best=best, title=f"Training of {name}")
        elif hasattr(model, "lower_bounds_"):
            curves = {
                "Lower bound": {"mean log p(x), training rows": model.lower_bounds_}
            }
            display = cls(curves, unit="iteration of EM", title=f"Fit of {name}")
        else:
            raise ValueError(
                f"{type(model).__name__} keeps no curve of its fit: there is nothing "
                "to draw. The networks and GaussianMixtureEM keep one."
            )
        return display.plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : Axes or array of Axes, default=None
            Where to draw: all lines in one axes, or a panel in each of several;
            ``None`` makes a figure with panels.

        Returns
        -------
        display : LossCurveDisplay
            This object, with the artists as attributes.
        """
        panels = [(name, lines, [name]) for name, lines in self.curves.items()]
        if hasattr(ax, "plot"):
            together = chain.from_iterable(c.items() for c in self.curves.values())
            panels = [(self.title, dict(together), list(self.curves))]
        self.axes_ = panel_axes(
            self, ax, len(panels), title=self.title, size=(4.6, 3.6)
        )
        self.figure_ = figure_of(self.axes_[0])
        self.lines_: dict[str, Any] = {}
        self.marks_: dict[str, Any] = {}
        for panel, (title, lines, names) in zip(self.axes_, panels):
            self._plot_lines(panel, lines)
            self._mark_best(panel, names)
            panel.set(title=title, xlabel=self.unit, ylabel="nats per row")
            panel.locator_params(axis="x", integer=True)
            panel.locator_params(axis="y", nbins=6)
            panel.grid(alpha=0.3)
            _show_late_values(panel, lines.values())
            legend_below(panel)
        return self

    def _plot_lines(self, panel: Axes, lines: Mapping[str, ArrayLike]) -> None:
        """Draw the curves of a panel."""
        for colour, (label, values) in zip(cycle(COLOURS), lines.items()):
            n_steps = len(np.asarray(values))
            (self.lines_[label],) = panel.plot(
                np.arange(1, n_steps + 1),
                values,
                color=colour,
                label=label,
                marker="o" if n_steps == 1 else None,
            )

    def _mark_best(self, panel: Axes, names: Sequence[str]) -> None:
        """Mark what was kept in one of the original panels, or in several of them."""
        kept = self.best or {}
        best = {name: kept[name] for name in names if name in kept}
        for step in dict.fromkeys(best.values()):
            label = f"kept: {self.unit} {step}" if step else "kept: the start"
            of = [name for name in best if best[name] == step]
            if len(set(best.values())) > 1:
                label += f" ({', '.join(of)})"
            mark = panel.axvline(
                step, color="0.3", linestyle=":", linewidth=1.5, label=label
            )
            self.marks_.update(dict.fromkeys(of, mark))


def _show_late_values(panel: Axes, curves: Iterable[ArrayLike]) -> None:
    """Leave the first values out of a panel if they would flatten all others."""
    values = [np.asarray(curve, dtype=float) for curve in curves]
    late = np.concatenate([curve[len(curve) // 4 :] for curve in values])
    late, every = (x[np.isfinite(x)] for x in (late, np.concatenate(values)))
    span = np.ptp(late) if len(late) else 0.0
    if span > 0 and np.ptp(every) > MOST_FLATTENED * span:
        panel.set_ylim(late.min() - 0.1 * span, late.max() + 0.3 * span)
        panel.set_ylabel("nats per row\n(starts outside)")


def _best_epochs(model: Any) -> dict[str, int]:
    """Return the epoch that was kept, by panel; models of old files do not know it."""
    names = {
        "Loss": "best_epoch_",
        "Parts of the loss, training rows": "best_epoch_",
        "Prior over tokens": "best_prior_epoch_",
    }
    found = {panel: getattr(model, name, None) for panel, name in names.items()}
    return {panel: epoch for panel, epoch in found.items() if epoch is not None}


def _loss_curves(model: Any) -> dict[str, dict[str, ArrayLike]]:
    """Panels of a network's training: the loss, its parts, the prior over tokens."""
    terms, held_out = model.loss_terms_, model.validation_curve_
    loss = {"loss, training rows": model.loss_curve_}
    layers = {n: (f"KL of layer {n[3:]}", 1) for n in terms if n.startswith("kl_")}
    parts = {
        label: sign * np.asarray(terms[name])
        for name, (label, sign) in {**PARTS, **layers}.items()
        if name in terms
    }
    curves = {"Loss": loss, "Parts of the loss, training rows": parts}
    if held_out and "codebook" in terms:  # VQVAE watches its reconstruction
        parts["reconstruction, held-out rows"] = np.asarray(held_out)
    elif held_out:
        loss["loss, held-out rows"] = held_out
    if hasattr(model, "prior_curve_"):
        curves["Prior over tokens"] = {"−log p(tokens)": model.prior_curve_}
    return curves
