"""Libraries around the models: `make test-clients` installs them."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from skgen import BetaVAE, GaussianDensity, GenerativeOverSampler
from tests.estimators import features

# Few epochs, on purpose; and libraries warn of their own futures.
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
)


def test_optuna_searches_over_beta() -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    X = features()

    def score(beta: float) -> float:
        model = BetaVAE(
            2, beta=beta, hidden_layer_sizes=(8,), max_iter=2, random_state=0
        )
        return float(cross_val_score(model, X, cv=2).mean())

    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.optimize(
        lambda trial: score(trial.suggest_float("beta", 0.1, 10, log=True)), n_trials=3
    )
    assert study.best_value == score(study.best_params["beta"])


def test_an_over_sampler_is_a_step_of_imbalanced_learn() -> None:
    pipeline = pytest.importorskip("imblearn.pipeline")
    X = features()
    y = np.arange(len(X)) < 12  # a fifth
    seen: dict[str, Any] = {}

    class Noting(LogisticRegression):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            seen["counts"] = np.bincount(y)
            return super().fit(X, y, sample_weight)

    sampler = GenerativeOverSampler(GaussianDensity(reg_covar=1e-3), random_state=0)
    model = pipeline.make_pipeline(sampler, Noting()).fit(X, y)
    assert seen["counts"].tolist() == [48, 48]
    assert model.predict(X).shape == y.shape
