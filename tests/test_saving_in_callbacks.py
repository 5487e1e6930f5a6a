"""An estimator is saved by a callback of its fit, and what was saved goes on."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone

import skgen
from skgen import VAE, MixedDensity
from tests.estimators import ESTIMATORS, ONE_OF_EACH, is_dynamic, name_of, rows_for

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few epochs, on purpose.
    pytest.mark.filterwarnings(
        "ignore:.*(maximum iterations|did not converge)"
        ":sklearn.exceptions.ConvergenceWarning"
    ),
]
LIMITS: dict[str, Any] = {
    "max_iter": 2,
    "hidden_layer_sizes": (4,),
    "n_importance_samples": 2,
}


class Saver:
    """Saves what it is given at the end of each iteration, and of the fit."""

    def __init__(self, folder: Path) -> None:
        self.scores: dict[Any, Any]
        self.pickles: dict[Any, Any]
        self.folder, self.scores, self.pickles = folder, {}, {}

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    def teardown(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, X: NDArray[Any], fitted_estimator: Any
    ) -> None:
        name = f"{context.task_name}-{len(self.scores)}"
        self.scores[name] = fitted_estimator.score_samples(X)
        self.pickles[name] = pickle.dumps(fitted_estimator)
        skgen.save(fitted_estimator, self.folder / f"{name}-fitted")
        skgen.save(estimator, self.folder / f"{name}-itself")


def quick(estimator: Any) -> Any:
    """Return a clone that takes two iterations of little work."""
    params: dict[str, Any] = {
        name: v for name, v in LIMITS.items() if hasattr(estimator, name)
    }
    return clone(estimator).set_params(**params)


DEEP = [e for e in ESTIMATORS if getattr(e, "n_components", 0) == (3, 2)][:1]
MODELS = [*ONE_OF_EACH, *DEEP, *filter(is_dynamic, ESTIMATORS)]


@pytest.mark.parametrize("estimator", MODELS, ids=name_of)
def test_what_a_callback_saves_is_a_fit_that_ended_there(
    estimator: Any, tmp_path: Path
) -> None:
    X, saver, plain = rows_for(estimator), Saver(tmp_path), quick(estimator)
    model = quick(estimator).fit(X[:20])  # of which nothing must remain
    model.set_callbacks(saver).fit(X)
    assert_array_equal(model.score_samples(X), plain.fit(X).score_samples(X))
    assert saver.scores
    for name, scores in saver.scores.items():
        for kind in ("fitted", "itself"):
            found = skgen.load(tmp_path / f"{name}-{kind}")
            assert_array_equal(found.score_samples(X), scores)
            assert vars(found).keys() == vars(plain).keys()
            found.transform(X)
        pickled = pickle.loads(saver.pickles[name])
        assert_array_equal(pickled.score_samples(X), scores)
    goes_on(tmp_path / f"{next(iter(saver.scores))}-itself", X)


def goes_on(path: Path, X: NDArray[Any]) -> None:
    """Load a model that takes further rows, or another fit that starts from there."""
    if hasattr(skgen.load(path), "partial_fit"):
        model = skgen.load(path).partial_fit(X)
        assert np.isfinite(model.score_samples(X)).all()
    if hasattr(model := skgen.load(path), "warm_start"):
        model.set_params(warm_start=True).fit(X)
        assert np.isfinite(model.score_samples(X)).all()


def test_one_epoch_more_is_a_partial_fit(tmp_path: Path) -> None:
    X, saver = rows_for(ONE_OF_EACH[0]), Saver(tmp_path)
    model = VAE(1, **LIMITS, early_stopping=False, random_state=0)
    model.set_callbacks(saver).fit(X)
    first, last = (skgen.load(tmp_path / f"epoch-{i}-itself") for i in (0, 1))
    assert (first.n_iter_, last.n_iter_) == (1, 2)
    assert first.loss_curve_ == model.loss_curve_[:1]
    assert first.partial_fit(X).n_iter_ == 2
    assert len(first.loss_curve_) == 2


def test_the_model_inside_a_table_is_saved(tmp_path: Path) -> None:
    X, saver = rows_for(ONE_OF_EACH[0])[:, :2], Saver(tmp_path)
    inner = VAE(1, **LIMITS, random_state=0).set_callbacks(saver)
    model = MixedDensity(inner).fit(X)
    found = skgen.load(tmp_path / "epoch-0-itself")
    assert_array_equal(found.score_samples(X), saver.scores["epoch-0"])
    skgen.save(model, tmp_path / "table")
    assert_array_equal(skgen.load(tmp_path / "table").score(X), model.score(X))
