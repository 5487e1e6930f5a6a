"""Fit models with their defaults to tables and images: no collapse, no NaN, no tuning.

    python benchmarks/defaults.py [--folder FOLDER] [--seeds 3]

VAE, IWAE and VQVAE, nothing set but the seed, on digits, two moons, wine and (with the
folder of its files) Fashion-MNIST; held-out log-likelihood in nats by the careful
estimate of 500 draws, beside one Gaussian's, with coordinates or codes in use. Columns
that are nearly always one value are left out, and discrete ones get uniform noise of
the width of their rounding, so that densities compare. Results go to
``benchmarks/results/defaults.txt``.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, load_wine, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skgen import IWAE, VAE, VQVAE, GaussianDensity
from skgen.datasets import load_fashion_mnist

RESULTS = Path(__file__).parent / "results" / "defaults.txt"


def continuous(pixels: np.ndarray, levels: int) -> np.ndarray:
    noise = np.random.RandomState(0).uniform(size=pixels.shape)
    return ((pixels + noise) / levels).astype(np.float32)


def data_sets(folder: str | None) -> dict[str, np.ndarray]:
    sets = {
        "moons": make_moons(2_000, noise=0.08, random_state=0)[0],
        "wine": load_wine().data,
        "digits": continuous(load_digits().data, 17),
    }
    if folder is not None:
        clothes = load_fashion_mnist(folder).data[:6_000]
        sets["fashion"] = continuous(clothes, 256)
    return sets


def compare(name: str, X: np.ndarray, seed: int) -> list[str]:
    train, test = train_test_split(X, test_size=0.3, random_state=seed)
    gaussian = GaussianDensity(reg_covar=1e-6).fit(train).score(test)
    lines = [f"{name:8s} seed {seed}  GaussianDensity {gaussian:.2f}"]
    for cls in (VAE, IWAE, VQVAE):
        model = cls(random_state=seed).fit(train)
        careful = model.log_likelihood(test[:500], 500).mean_log_prob
        used = (
            f"perplexity {model.perplexity_:.0f}"
            if cls is VQVAE
            else f"active {model.active_units_}"
        )
        lines.append(
            f"{name:8s} seed {seed}  {cls.__name__:5s} {careful:.2f}  {used}  "
            f"epochs {model.n_iter_}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    with RESULTS.open("w") as file:
        for name, X in data_sets(arguments.folder).items():
            for seed in range(arguments.seeds):
                for line in compare(name, X, seed):
                    print(line, flush=True)
                    print(line, file=file, flush=True)


if __name__ == "__main__":
    main()
