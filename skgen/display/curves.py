"""Curves of a training: the loss and its parts, or the bound of EM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skgen.display.drawing import (
    COLOURS,
    figure_of,
    last_step,
    legend_below,
    panel_axes,
    pyplot,
)

# What the parts of a loss are, in the order in which they are drawn, with the signs
# with which they are in it.
PARTS = {
    "reconstruction": ("reconstruction: −E log p(x|z)", -1),
    "kl": ("KL(q(z|x) ‖ p(z))", 1),
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
        with a value an epoch.
    unit : str, default="epoch"
        What a step along the horizontal axis is.
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
    title: str = "Training"

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the curves of a fit.

        Parameters
        ----------
        estimator : object
            Fitted estimator that was trained step by step, or a pipeline that ends in
            one: a network, or ``GaussianMixtureEM``.
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
        model = last_step(estimator)
        name = type(model).__name__
        if hasattr(model, "loss_terms_"):
            display = cls(_loss_curves(model), title=f"Training of {name}")
        elif hasattr(model, "lower_bounds_"):
            curves = {
                "Lower bound": {"mean log p(x), training rows": model.lower_bounds_}
            }
            display = cls(curves, unit="iteration of EM", title=f"Fit of {name}")
        else:
            raise ValueError(
                f"{name} keeps no curve of its fit: there is nothing to draw. The "
                "networks and GaussianMixtureEM keep one."
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
        curves = self.curves
        if hasattr(ax, "plot"):
            together = (lines.items() for lines in curves.values())
            curves = {self.title: dict(chain.from_iterable(together))}
        self.axes_ = panel_axes(
            self, ax, len(curves), title=self.title, size=(4.6, 3.6)
        )
        self.figure_, self.lines_ = figure_of(self.axes_[0]), {}
        for panel, (name, lines) in zip(self.axes_, curves.items()):
            for colour, (label, values) in zip(COLOURS, lines.items()):
                epochs = np.arange(1, len(np.asarray(values)) + 1)
                (line,) = panel.plot(epochs, values, color=colour, label=label)
                self.lines_[label] = line
            panel.set(title=name, xlabel=self.unit, ylabel="nats a row")
            panel.locator_params(axis="x", integer=True)
            panel.grid(alpha=0.3)
            legend_below(panel)
        return self


def _loss_curves(model: Any) -> dict[str, dict[str, ArrayLike]]:
    """Panels of a network's training: the loss, its parts, the prior over tokens."""
    terms, held_out = model.loss_terms_, model.validation_curve_
    loss = {"loss, training rows": model.loss_curve_}
    parts = {
        label: sign * np.asarray(terms[name])
        for name, (label, sign) in PARTS.items()
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
