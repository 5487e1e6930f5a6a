"""Train a classifier on samples of class-conditional models, and test it on real rows.

    SKGEN_DATA=folder python benchmarks/class_samples.py [--rows 3000] [--epochs 10]
    python benchmarks/class_samples.py --quick

The classification accuracy score (Ravuri & Vinyals 2019) of ``ConditionalVAE`` and
``VQVAE2`` on digits of MNIST, from ``mnist.npz`` in the folder: as many samples of each
class as there are training rows of it train a small neural network, which is tested on
5000 rows that no model has seen; beside it, the same network on the training rows
themselves. Samples are drawn from p(x|y) ("draws"), or are decoded means of draws of
the code ("means"). Scores are bounds on log p(x|y) and log p(x) of 100 held-out rows,
in bits per dimension. ``--quick`` takes the digits of 8 x 8 pixels of scikit-learn.
Results go to ``benchmarks/results/class_samples.txt``.

References
----------
Ravuri & Vinyals, "Classification accuracy score for conditional generative models",
NeurIPS 2019.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from timing import machine, report, threads

from skgen import VQVAE2, ConditionalVAE
from skgen.likelihoods import DiscretizedLogistic
from skgen.metrics import bits_per_dimension, classification_accuracy_score

RESULTS = Path(__file__).parent / "results" / "class_samples.txt"
SCORED = 200
HEADER = (
    f"{'trained on':28s} {'accuracy':>8s} {'bits, x|y':>9s} {'bits, x':>8s} "
    f"{'epochs':>6s} {'seconds':>8s}"
)


def digits(options: argparse.Namespace) -> tuple[Any, ...]:
    """Return training rows, test rows and their classes."""
    if options.quick:
        X, y = load_digits(return_X_y=True)
        return tuple(train_test_split(X, y, test_size=0.3, random_state=0))
    path = Path(os.environ.get("SKGEN_DATA", ""), "mnist.npz")
    if not path.exists():
        sys.exit(
            "There is no mnist.npz. Set the environment variable SKGEN_DATA to the "
            "folder that has it, or take --quick."
        )
    arrays, n = np.load(path), options.rows
    X, X_test = (
        arrays[f"x_{part}"].reshape(-1, 784).astype(np.float32)
        for part in ("train", "test")
    )
    return X[:n], X_test[:5000], arrays["y_train"][:n], arrays["y_test"][:5000]


def models(quick: bool, epochs: int) -> dict[str, Any]:
    """Return the models that are compared, of about equal networks."""
    settings: dict[str, Any] = {
        "architecture": "conv",
        "image_shape": (8, 8) if quick else (28, 28),
        "channels": 8 if quick else 16,
        "likelihood": DiscretizedLogistic(17 if quick else 256),
        "learning_rate": "cosine",
        "learning_rate_init": 2e-3,
        "batch_size": 64,
        "max_iter": epochs,
        "random_state": 0,
    }
    tokens: dict[str, Any] = {"codebook_size": 64, "code_size": 8}
    return {
        "ConditionalVAE": ConditionalVAE(20, **settings),
        "VQVAE2": VQVAE2(**tokens, condition="classes", **settings),
    }


def accuracy(X: Any, y: Any, test: tuple[Any, Any]) -> float:
    """Return the score of rows that a network learns from, brought to [0, 1]."""
    classifier = MLPClassifier((128,), early_stopping=True, random_state=0)
    top = test[0].max()
    return classification_accuracy_score(
        np.clip(X, 0, top) / top, y, test[0] / top, test[1], classifier
    )


def lines_of(name: str, model: Any, rows: tuple[Any, ...]) -> Iterator[str]:
    """Fit a model, and judge both kinds of its samples."""
    X, X_test, y, y_test = rows
    start = process_time()
    model.fit(X, y)
    seconds = process_time() - start
    bits = [
        bits_per_dimension(model.score_samples(X_test[:SCORED], *given), X.shape[1])
        for given in ([y_test[:SCORED]], [])
    ]
    for kind, noise in (("draws", True), ("means", False)):
        samples = model.sample(len(y), random_state=0, y=y, noise=noise)
        found = accuracy(samples, y, (X_test, y_test))
        yield (
            f"{f'{name}, {kind}':28s} {found:8.3f} {bits[0].mean():9.3f} "
            f"{bits[1].mean():8.3f} {model.n_iter_:6d} {seconds:8.0f}"
        )


def lines(options: argparse.Namespace) -> Iterator[str]:
    """Yield the table."""
    rows = digits(options)
    X, X_test, y, y_test = rows
    yield from machine()
    yield f"{len(X)} training rows of {X.shape[1]} pixels, {len(X_test)} for the test"
    yield HEADER
    yield f"{'training rows':28s} {accuracy(X, y, (X_test, y_test)):8.3f}"
    for name, model in models(options.quick, options.epochs).items():
        yield from lines_of(name, model, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.epochs = options.epochs or (5 if options.quick else 10)
    warnings.simplefilter("ignore")  # all epochs are taken
    with threads(1):
        report(lines(options), None if options.quick else RESULTS)


if __name__ == "__main__":
    main()
