"""Check that a grid search by ``score`` chooses what a careful estimate would.

    python benchmarks/search_agreement.py [beta] [codebook] [--seeds 5]

``score`` is a bound from 64 importance samples; its gap to log p(x) depends on beta
and on the codebook size. Here GridSearchCV ranks the candidates by ``score``, and the
same fitted models are scored by ``log_likelihood(n_samples=5000)`` on the same
held-out folds. The choice agrees when its careful score is within one standard error
(of the mean over the folds) of the best careful score.

Data: scikit-learn's digits, made continuous as (x + u) / 17; all 1797 rows, and the
first 150. Results are appended to ``benchmarks/results/search_agreement.txt``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from skgen import VQVAE, BetaVAE

RESULTS = Path(__file__).parent / "results" / "search_agreement.txt"
SEARCHES = {
    "beta": (BetaVAE, "beta", [0.25, 0.5, 1, 2, 4]),
    "codebook": (VQVAE, "codebook_size", [16, 64, 256]),
}


def digits() -> np.ndarray:
    X = load_digits().data
    X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
    return X.astype(np.float32)  # half the time; sums over draws are float64


def by_score(model, X, y=None) -> float:
    return model.score(X)


def by_care(model, X, y=None) -> float:
    return model.log_likelihood(X, n_samples=5000).mean_log_prob


def search(which: str, X: np.ndarray, seed: int) -> str:
    """Run one search and describe it in a line."""
    estimator, name, values = SEARCHES[which]
    start = time.perf_counter()
    found = GridSearchCV(
        estimator(random_state=seed),
        {name: values},
        scoring={"score": by_score, "care": by_care},
        refit=False,
        n_jobs=2,
    ).fit(X)
    results = found.cv_results_
    score, care = results["mean_test_score"], results["mean_test_care"]
    n_folds = sum(key.startswith("split") for key in results) // 2
    error = results["std_test_care"][care.argmax()] / np.sqrt(n_folds - 1)
    chosen = score.argmax()
    loss = care.max() - care[chosen]
    return (
        f"{which:8s} n={len(X):4d} seed={seed}  "
        f"score {np.round(score, 2)}  careful {np.round(care, 2)}  "
        f"chosen {values[chosen]} best {values[care.argmax()]}  "
        f"loss {loss:.2f} se {error:.2f}  {'agrees' if loss <= error else 'DISAGREES'}"
        f"  ({time.perf_counter() - start:.0f} s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", default=list(SEARCHES))
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    X = digits()
    for which in arguments.which:
        for rows in (X[:150], X):
            for seed in range(arguments.seeds):
                line = search(which, rows, seed)
                print(line, flush=True)
                with RESULTS.open("a") as file:
                    print(line, file=file)


if __name__ == "__main__":
    import os

    # Workers are processes: filters reach them by the environment.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
