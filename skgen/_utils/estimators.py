"""scikit-learn's base class and decorators, with the types that they do not state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.callback import with_callbacks as _with_callbacks
from sklearn.utils.metaestimators import available_if as _available_if

from skgen._utils.parameters import Rules

Function = TypeVar("Function", bound=Callable[..., Any])


class Estimator(BaseEstimator):
    """Base of all estimators: scikit-learn's own, with types."""

    #: Rules of the parameters, by name; these are from the decorator ``estimator``.
    _parameters: ClassVar[Rules] = {}
    #: Parameters whose values at ``fit`` decide how the fitted model is evaluated.
    _fixed: ClassVar[tuple[str, ...]] = ()
    #: Parameters that multiply the memory of a step.
    _step_sizes: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:
        n_features_in_: int
        feature_names_in_: NDArray[np.str_]

        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Self: ...
        def set_output(self, *, transform: str | None = None) -> Self: ...
        def __getstate__(self) -> dict[str, Any]: ...
        def __setstate__(self, state: dict[str, Any]) -> None: ...
        def __sklearn_tags__(self) -> Any: ...


def available_if(check: Callable[[Any], bool]) -> Callable[[Function], Function]:
    """Decorate a method that is there only where a check of the instance holds."""
    decorate: Callable[[Function], Function] = _available_if(check)
    return decorate


def with_callbacks(fit: Function) -> Function:
    """Decorate a ``fit`` that calls callbacks."""
    decorated: Function = _with_callbacks(fit)
    return decorated
