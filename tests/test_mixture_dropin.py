"""scikit-learn's own tests of GaussianMixture, run on GaussianMixtureEM.

Each item of scikit-learn's test file that speaks of the public class runs here, its
source unchanged, with the class replaced by ours. Outside the array API the file has
77 items: 17 do not speak of the public class, 58 pass (among them those in float32,
which scikit-learn skips by default), and two contradict our contract.
"""

import importlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from skgen import GaussianMixtureEM
from skgen._em.fitted import FittedMixture

UPSTREAM = importlib.import_module("sklearn.mixture.tests.test_gaussian_mixture")

# Items that do not speak of the public class, and why.
EXCLUDED = {
    "test_suffstat_sk_full": "private functions, no class",
    "test_suffstat_sk_tied": "private functions, no class",
    "test_suffstat_sk_diag": "private functions, no class",
    "test_gaussian_suffstat_sk_spherical": "private functions, no class",
    "test_compute_log_det_cholesky": "private functions, no class",
    "test_gaussian_mixture_log_probabilities": "private functions, no class",
    "test_gaussian_mixture_precisions_init": "private methods of the class",
    "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters": (
        "counts the calls of a private function"
    ),
    "test_gaussian_mixture_array_api_compliance": "array API",
    "test_gaussian_mixture_raises_where_array_api_not_implemented": "array API",
}

# Items with one set of parameters, likewise.
EXCLUDED_SETS = {
    "test_score[float32]": "wants a mean score rounded as float32 rounds; ours is wide",
    "test_init[]": "wants a start among ten to the last bit; ours are one batch",
}

FIXTURES = {"global_random_seed": [0], "global_dtype": [np.float64, np.float32]}


class Recorder(FittedMixture):
    """A mixture that remembers which components it drew."""

    drawn: list[Any] = []  # noqa: RUF012

    def draw_components(self, n: int, generator: Any) -> Any:
        k = super().draw_components(n, generator)
        self.drawn.append(k.numpy())
        return k


class GaussianMixture(GaussianMixtureEM):
    """Ours under scikit-learn's name; ``sample`` gives the components too."""

    def _model(self, dtype: torch.dtype) -> Any:
        return Recorder(**vars(super()._model(dtype)))

    def sample(self, n_samples: Any = 1) -> Any:  # type: ignore[override]
        Recorder.drawn.clear()
        X = super().sample(n_samples, random_state=0)
        return X, np.concatenate(Recorder.drawn)


def _items() -> Iterator[Any]:
    """Each test function of the file, with each of its parameter sets."""
    for name, function in vars(UPSTREAM).items():
        if not name.startswith("test_") or name in EXCLUDED:
            continue
        marks = getattr(function, "pytestmark", [])
        axes = [mark.args for mark in marks if mark.name == "parametrize"]
        axes += [
            (fixture, FIXTURES[fixture])
            for fixture in inspect.signature(function).parameters
            if fixture in FIXTURES
        ]
        filters = [mark for mark in marks if mark.name == "filterwarnings"]
        for values in itertools.product(*(values for _, values in axes)):
            kwargs: dict[str, Any] = {}
            for (names, _), value in zip(axes, values):
                names = [part.strip() for part in names.split(",")]
                kwargs.update(zip(names, value if len(names) > 1 else [value]))
            label = "-".join(str(getattr(v, "__name__", v)) for v in kwargs.values())
            if f"{name}[{label}]" not in EXCLUDED_SETS:
                yield pytest.param(
                    function, kwargs, id=f"{name}[{label}]", marks=filters
                )


# scikit-learn's suite does not turn its own warnings into errors, and some items have a
# reg_covar, or components on rows that repeat, that we warn about.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:reg_covar=0.1", "ignore:Components of")
@pytest.mark.parametrize(("function", "kwargs"), [*_items()])
def test_item_of_scikit_learn_passes(
    function: Callable[..., Any],
    kwargs: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(UPSTREAM, "GaussianMixture", GaussianMixture)
    function(**kwargs)


def test_excluded_items_are_items() -> None:
    assert set(EXCLUDED) <= set(vars(UPSTREAM))
