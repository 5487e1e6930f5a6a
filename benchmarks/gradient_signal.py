"""Follow the bound of an IWAE and the signal of its gradients as draws are added.

    python benchmarks/gradient_signal.py [--epochs 20]

On scikit-learn's digits, binarised: (a) the bound L_K at K = 1, 5, 50 and 500 on
held-out rows, of one trained IWAE, differences paired by row; (b) the signal-to-noise
ratio |mean| / sd of the gradient of L_K, over repeated draws on one batch of training
rows, for each weight of the encoder and of the decoder, and each estimator (its mean
over the weights). Rainforth et al. (2018) predict that the encoder's falls as
1 / sqrt(K) with the standard estimator; Tucker et al. (2019) that it grows with DReG.
Results go to ``benchmarks/results/gradient_signal.txt``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from skgen import IWAE
from skgen._utils.tensors import make_generator
from skgen.objectives import ImportanceWeightedLoss

RESULTS = Path(__file__).parent / "results" / "gradient_signal.txt"
DRAWS = (1, 4, 16, 64, 256)
ESTIMATORS = ("standard", "stl", "dreg")
N_ROWS, N_REPEATS = 100, 400


def binary_digits() -> tuple[np.ndarray, np.ndarray]:
    X = load_digits().data / 16
    X = (np.random.RandomState(0).uniform(size=X.shape) < X).astype(np.float32)
    return train_test_split(X, random_state=0)


def bounds(model: IWAE, test: np.ndarray) -> Iterator[str]:
    """Compare the bounds of one model at more and more draws."""
    before = None
    for draws in (1, 5, 50, 500):
        # log_likelihood with K draws is one sample of the bound L_K a row.
        bound = np.mean(
            [
                model.log_likelihood(test, draws, random_state=r).log_prob
                for r in range(20)
            ],
            axis=0,
        )
        line = f"L_{draws:<4d} held out {bound.mean():9.3f}"
        if before is not None:
            rise = bound - before
            error = rise.std(ddof=1) / np.sqrt(len(rise))
            line += f"   rise {rise.mean():.3f} +- {error:.3f}"
        before = bound
        yield line


def gradients(model: IWAE, x: Tensor, draws: int, estimator: str) -> dict[str, Tensor]:
    """Gradients of the loss by both networks, (repeats, weights)."""
    module, generator = model.module_, make_generator(1, x.device)
    rows: dict[str, list[Tensor]] = {"encoder": [], "decoder": []}
    for _ in range(N_REPEATS):
        noise = module.standard_noise((draws, len(x)), generator)
        loss = ImportanceWeightedLoss(estimator)(module, x, noise).loss.mean()
        for name, found in rows.items():
            weights = list(getattr(module, name).parameters())
            slopes = torch.autograd.grad(loss, weights, retain_graph=True)
            found.append(torch.cat([slope.flatten() for slope in slopes]))
    return {name: torch.stack(found) for name, found in rows.items()}


def signal_to_noise(slopes: Tensor) -> float:
    """Mean over the weights of |mean| / sd over the repeats."""
    moving = slopes.std(0) > 0
    return float((slopes.mean(0).abs() / slopes.std(0))[moving].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    train, test = binary_digits()
    model = IWAE(
        10,
        n_draws=5,
        hidden_layer_sizes=(64,),
        likelihood="bernoulli",
        max_iter=arguments.epochs,
        early_stopping=False,
        tol=0.0,
        n_iter_no_change=arguments.epochs + 1,
        random_state=0,
    ).fit(train)
    x = torch.from_numpy(train[:N_ROWS])
    with RESULTS.open("w") as file:

        def report(line: str) -> None:
            print(line, flush=True)
            print(line, file=file)

        for line in bounds(model, test):
            report(line)
        for estimator in ESTIMATORS:
            for draws in DRAWS:
                slopes = gradients(model, x, draws, estimator)
                ratios = {name: signal_to_noise(each) for name, each in slopes.items()}
                each = "  ".join(f"{name} {r:6.3f}" for name, r in ratios.items())
                report(f"{estimator:8s}  K {draws:3d}  signal to noise: {each}")


if __name__ == "__main__":
    main()
