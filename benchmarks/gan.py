"""Count the modes of a grid of 25 normal clusters that a GAN's samples cover.

    python benchmarks/gan.py [--seeds 0 1 2] [--epochs 100] [--losses ...]

Clusters are at {-4, -2, 0, 2, 4}^2 with a standard deviation of 0.05 (Srivastava et al.
2017); 6,400 rows are fitted, and 2,500 drawn, 100 a cluster where all are equal. A mode
is reached where a sample is within three standard deviations (0.15) of its centre, and
covered where at least 20 samples are nearer than 0.3 to it. The table also has the part
of the samples that is within 0.15 and 0.3 of a centre, and the squared MMD of held-out
rows and samples at the best epoch. Results go to ``benchmarks/results/gan.txt``.

References
----------
Srivastava et al., "VEEGAN: reducing mode collapse in GANs using implicit variational
learning", NeurIPS 2017.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timing import machine, report

from skgen import GAN

RESULTS = Path(__file__).parent / "results" / "gan.txt"
CENTRES = np.array([*itertools.product([-4.0, -2.0, 0.0, 2.0, 4.0], repeat=2)])
SPREAD = 0.05
HEADER = (
    f"{'loss':16}{'seed':>5}{'reached':>9}{'covered':>9}{'<0.15':>7}{'<0.3':>7}"
    f"{'MMD^2':>9}{'epochs':>8}{'best':>6}{'seconds':>9}"
)


def rows_of_grid(n: int, seed: int) -> NDArray[Any]:
    rng = np.random.RandomState(seed)
    modes = CENTRES[rng.randint(len(CENTRES), size=n)]
    rows: NDArray[Any] = modes + SPREAD * rng.randn(n, 2)
    return rows


def fitted_line(loss: str, seed: int, epochs: int) -> str:
    model = GAN(
        4,
        loss=loss,
        hidden_layer_sizes=(128, 128, 128),
        batch_size=128,
        learning_rate="cosine",
        learning_rate_init=2e-3,
        max_iter=epochs,
        n_iter_no_change=epochs,
        random_state=seed,
    )
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all epochs are taken
        model.fit(rows_of_grid(6_400, seed))
    seconds = time.perf_counter() - start
    drawn = model.sample(2_500, random_state=0)
    distances = np.linalg.norm(drawn[:, None] - CENTRES, axis=2)
    nearest, distance = distances.argmin(1), distances.min(1)
    reached, covered = (
        np.bincount(nearest[distance < radius], minlength=len(CENTRES)) >= least
        for radius, least in ((3 * SPREAD, 1), (0.3, 20))
    )
    return (
        f"{loss:16}{seed:5}{reached.sum():9}{covered.sum():9}"
        f"{(distance < 3 * SPREAD).mean():7.2f}{(distance < 0.3).mean():7.2f}"
        f"{min(model.validation_curve_):9.4f}{model.n_iter_:8}{model.best_epoch_:6}"
        f"{seconds:9.0f}"
    )


def lines(options: argparse.Namespace) -> Iterator[str]:
    yield from machine()
    yield f"25 clusters, {options.epochs} epochs of 45 steps"
    yield HEADER
    for loss in options.losses:
        for seed in options.seeds:
            yield fitted_line(loss, seed, options.epochs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=100)
    games = ["non-saturating", "wasserstein"]
    parser.add_argument("--losses", nargs="+", default=games)
    report(lines(parser.parse_args()), RESULTS)


if __name__ == "__main__":
    main()
