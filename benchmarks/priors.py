"""Compare priors, posteriors and layers of a VAE, and an autoencoder, on digits.

    python benchmarks/priors.py [--seeds 3]

Equal networks and epochs: 1,000 rows of 8 x 8 grey levels with uniform noise, the other
797 held out, two and eight coordinates. Scores are bounds of 64 importance samples, in
nats per row. Some ten minutes on one core. Results go to
``benchmarks/results/priors.txt``.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skgen import VAE, Autoencoder, GaussianMixtureEM, InfoVAE

RESULTS = Path(__file__).parent / "results" / "priors.txt"
SETTINGS: dict[str, Any] = {
    "hidden_layer_sizes": (128,),
    "learning_rate_init": 3e-3,
    "max_iter": 80,
}


def models(k: int, seed: int) -> dict[str, Any]:
    settings = {**SETTINGS, "n_components": k, "random_state": seed}
    mixture = GaussianMixtureEM(10, random_state=0)
    return {
        "VAE, normal prior": VAE(**settings),
        "VAE, mixture of 20": VAE(prior="mixture", prior_components=20, **settings),
        "VAE, VampPrior of 20": VAE(prior="vamp", prior_components=20, **settings),
        "VAE, full covariance": VAE(posterior_type="full", **settings),
        "VAE, mixture posterior": VAE(posterior_type="mixture", **settings),
        "VAE, flow posterior": VAE(posterior_type="flow", **settings),
        "VAE, and 2 above": VAE(**{**settings, "n_components": (k, 2)}),
        "VAE, and 2 above, top-down": VAE(
            inference="top-down", **{**settings, "n_components": (k, 2)}
        ),
        "InfoVAE, alpha 0.5": InfoVAE(alpha=0.5, **settings),
        "Autoencoder, mixture of 10": Autoencoder(latent_density=mixture, **settings),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    n_seeds = parser.parse_args().seeds
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    X = load_digits().data
    X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
    lines = ["held-out score in nats per row: mean over seeds, and their spread", ""]
    for k in (2, 8):
        for name in models(k, 0):
            scores = [
                models(k, seed)[name].fit(X[:1000]).score(X[1000:])
                for seed in range(n_seeds)
            ]
            line = f"{k} coordinates  {name:28} {np.mean(scores):6.2f}"
            lines.append(f"{line} +- {np.std(scores):.2f}")
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
