"""Compare a linear VAE with probabilistic PCA, whose model it has.

    python benchmarks/linear_vae.py [--seeds 3]

Linear maps, one sigma, a random start, training rows standardised by hand (constant
columns left out). The exact marginal of the trained decoder stays below the likelihood
of probabilistic PCA; the table has how far, in nats per row. Results go to
``benchmarks/results/linear_vae.txt``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits, load_wine

from skgen import VAE, GaussianDensity
from skgen.likelihoods import Gaussian

RESULTS = Path(__file__).parent / "results" / "linear_vae.txt"
EPOCHS = {"wine": 1_000, "digits": 1_000}


def standardised(rows: np.ndarray) -> np.ndarray:
    rows = rows[:, rows.std(0) > 0]
    return (rows - rows.mean(0)) / rows.std(0)


def exact_score(model: VAE, rows: np.ndarray) -> float:
    """Mean log N(x; b, W W^T + s^2 I) of the decoder W z + b."""
    layer = model.module_.decoder[-1]
    W, b = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
    s2 = model.module_.likelihood.sigma.item() ** 2
    marginal = multivariate_normal(b, W @ W.T + s2 * np.eye(len(b)))
    return float(marginal.logpdf(rows).mean())


def compare(name: str, rows: np.ndarray, n_components: int, seed: int) -> str:
    n_epochs = EPOCHS[name]
    model = VAE(
        n_components,
        hidden_layer_sizes=(),
        likelihood=Gaussian("shared"),
        standardize=False,
        batch_size=100,
        learning_rate_init=1e-2,
        learning_rate="cosine",
        max_iter=n_epochs,
        n_iter_no_change=n_epochs + 1,
        early_stopping=False,
        tol=0.0,
        random_state=seed,
    ).fit(rows)
    best = GaussianDensity(n_components=n_components, reg_covar=0).fit(rows).score(rows)
    exact = exact_score(model, rows)
    return (
        f"{name:6s} q {n_components}  seed {seed}  probabilistic PCA {best:.3f}  "
        f"VAE's marginal {exact:.3f}  below by {best - exact:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    sets = {"wine": load_wine().data, "digits": load_digits().data}
    with RESULTS.open("w") as file:
        for name, rows in sets.items():
            for n_components in (2, 5):
                for seed in range(arguments.seeds):
                    line = compare(name, standardised(rows), n_components, seed)
                    print(line, flush=True)
                    print(line, file=file, flush=True)


if __name__ == "__main__":
    main()
