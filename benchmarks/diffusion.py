"""Diffusion beside a VAE and a mixture of 8, on two moons and on digits; and its cost.

    python benchmarks/diffusion.py [--seeds 0 1 2] [--quick]

- **Two moons**: 2,000 rows with noise of 0.1 are fitted, at the defaults of all
  models, and 4,000 others scored, in nats per row. "Diffusion, all rows" has
  ``early_stopping=False``: it learns from all rows, as the mixture does, while a
  tenth is held out at the default. ``Diffusion`` has its bound, which is its score,
  and the likelihood of its ODE on the first 300 test rows; a VAE its score (a bound
  from 64 draws) and the careful estimate from 5,000 on the same 300. The truth is
  known: a moon is a half circle, smoothed, and is integrated. "energy p" is the
  p-value of the energy test of 300 samples and 300 fresh rows.
- **Digits**: 8 x 8 images of 0 to 16, with uniform noise in [0, 1) added once, so
  that all models have one continuous density to learn; 1,437 rows are fitted, the
  other 360 scored. The U-Net has 16 channels, and at most 25 epochs.
- **Missing cells**: five correlated normal columns of known covariance; the root mean
  squared difference of imputed means from the closed form, in standard deviations of
  the column, and the mean difference of log p(known cells), by how many are missing.
- **Steps**: milliseconds of a training step of 128 rows, beside a loop that is
  written by hand for the same network, loss and optimiser.

Seconds are those of the processor, on one thread. A table goes to
``benchmarks/results/diffusion.txt``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits, make_moons
from sklearn.metrics.pairwise import euclidean_distances
from timing import interleaved, machine, report, threads
from torch import nn

from skgen import VAE, Diffusion, GaussianDensity, GaussianMixtureEM
from skgen.metrics import two_sample_test
from skgen.models.noising import FIRST, LAST, SMOOTH

RESULTS = Path(__file__).parent / "results" / "diffusion.txt"
NOISE, N_TRAIN, N_TEST, N_CAREFUL = 0.1, 2_000, 4_000, 300
Array = NDArray[Any]


def moons(n: int, seed: int) -> Array:
    rows: Array = make_moons(n, noise=NOISE, random_state=seed)[0]
    return rows


def true_log_density(X: Array) -> Array:
    """Log-density of two half circles with normal noise, by 1,000 points of each."""
    angles = np.pi * (np.arange(1_000) + 0.5) / 1_000
    upper = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = np.concatenate([upper, [1.0, 0.5] - upper])
    squared = euclidean_distances(X, points, squared=True) / NOISE**2
    density = np.exp(-0.5 * squared).mean(1) / (2 * np.pi * NOISE**2)
    found: Array = np.log(density)
    return found


def moon_lines(seeds: list[int], epochs: int | None) -> Iterator[str]:
    yield (
        f"\ntwo moons\n{'':22}{'seed':>5}{'score':>9}{'careful':>9}{'energy p':>10}"
        f"{'epochs':>8}{'seconds':>9}"
    )
    for seed in seeds:
        X, test = moons(N_TRAIN, 100 + seed), moons(N_TEST, 200 + seed)
        truth = true_log_density(test)
        yield f"{'truth':22}{seed:5}{truth.mean():9.3f}{truth[:N_CAREFUL].mean():9.3f}"
        limit = {} if epochs is None else {"max_iter": epochs}
        every: Any = {"early_stopping": False, **limit}
        for name, model in {
            "Diffusion, all rows": Diffusion(random_state=seed, **every),
            "Diffusion": Diffusion(random_state=seed, **limit),
            "VAE": VAE(random_state=seed, **limit),
            "GaussianMixtureEM(8)": GaussianMixtureEM(8, random_state=seed),
        }.items():
            start = time.process_time()
            model.fit(X)
            seconds = time.process_time() - start
            few = test[:N_CAREFUL]
            if hasattr(model, "log_likelihood"):
                careful = model.log_likelihood(few).mean_log_prob
            else:
                careful = model.score(few)
            drawn = model.sample(N_CAREFUL, random_state=0)
            fresh = moons(N_CAREFUL, 300 + seed)
            p = two_sample_test(fresh, drawn, random_state=0).p_value
            yield (
                f"{name:22}{seed:5}{model.score(test):9.3f}"
                f"{careful:9.3f}{p:10.3f}{model.n_iter_:8}{seconds:9.1f}"
            )


def digit_lines(epochs: int | None) -> Iterator[str]:
    rng = np.random.RandomState(0)
    X = load_digits().data
    X = (X + rng.uniform(size=X.shape))[rng.permutation(len(X))].astype(np.float32)
    train, test = X[:1_437], X[1_437:]
    limit = {} if epochs is None else {"max_iter": epochs}
    image: Any = {"architecture": "conv", "image_shape": (8, 8), "channels": 16}
    image |= {"max_iter": 25}
    yield f"\ndigits{'':16}{'':5}{'score':>9}{'':19}{'epochs':>8}{'seconds':>9}"
    for name, model in {
        "Diffusion, conv": Diffusion(**image | limit, random_state=0),
        "VAE, mlp": VAE(random_state=0, **limit),
        "GaussianMixtureEM(8)": GaussianMixtureEM(8, reg_covar=0.1, random_state=0),
    }.items():
        start = time.process_time()
        model.fit(train)
        seconds = time.process_time() - start
        yield (
            f"{name:27}{model.score(test):9.2f}{'':19}{model.n_iter_:8}{seconds:9.1f}"
        )


def missing_lines(n_rows: int, epochs: int | None) -> Iterator[str]:
    rng = np.random.RandomState(0)
    mixing = np.tril(rng.randn(5, 5)) + np.eye(5)
    covariance = mixing @ mixing.T
    law = multivariate_normal(np.zeros(5), covariance)
    scale = np.sqrt(np.diag(covariance))
    X, test = law.rvs(2_000, random_state=1), law.rvs(n_rows, random_state=2)
    limit = {} if epochs is None else {"max_iter": epochs}
    model = Diffusion(random_state=0, **limit).fit(X)
    fitted = GaussianDensity().fit(X)
    yield "\nmissing cells of 5 normal columns, learned from 2,000 rows"
    yield (
        f"{'missing':>8}{'RMS of means':>14}{'of columns':>12}{'nats':>9}{'seconds':>9}"
    )
    for n_missing in (1, 2, 3, 4):
        holes = test.copy()
        for row in holes:
            row[rng.permutation(5)[:n_missing]] = np.nan
        gone = np.isnan(holes)
        exact = fitted.impute(holes)
        start = time.process_time()
        found = model.impute(holes)
        seconds = time.process_time() - start
        error = ((found - exact) / scale)[gone]
        plain = (exact / scale)[gone]
        nats = model.score_samples(holes) - fitted.score_samples(holes)
        yield (
            f"{n_missing:8}{np.sqrt((error**2).mean()):14.3f}"
            f"{np.sqrt((plain**2).mean()):12.3f}{nats.mean():9.3f}{seconds:9.1f}"
        )


def by_hand(X: Array, epochs: int) -> Callable[[], None]:
    """Train the same network with the same loss in a plain loop of torch."""
    x = torch.from_numpy((X - X.mean(0)) / X.std(0)).float()
    d = x.shape[1]

    def run() -> None:
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for a, b in ((d + 13, 128), (128, 128), (128, 128)):
            layers += [nn.Linear(a, b), nn.GELU()]
        network = nn.Sequential(*layers, nn.Linear(128, d))
        average = torch.optim.swa_utils.AveragedModel(
            network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
        )
        adam = torch.optim.Adam(network.parameters(), 1e-3, foreach=True)
        powers = 2.0 ** torch.arange(6) * 0.5 * torch.pi
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(128):
                t = 2 * torch.rand(4, len(rows), 1) - 1
                part = 0.35 * t + 0.65 * t**3
                slope = (LAST - FIRST) * (0.35 + 3 * 0.65 * t**2)
                gamma = 0.5 * (LAST + FIRST) + 0.5 * (LAST - FIRST) * part
                alpha, sigma = (-gamma).sigmoid().sqrt(), gamma.sigmoid().sqrt()
                eps = torch.randn(4, len(rows), d)
                z = alpha * x[rows] + sigma * eps
                angles = part * powers
                inputs = torch.cat([z, part, angles.sin(), angles.cos()], -1)
                F = network(inputs) * sigma / (sigma**2 + SMOOTH**2).sqrt()
                v = alpha * eps - sigma * x[rows]
                error = (F - v).square().sum(-1, keepdim=True)
                loss = (0.5 * slope * alpha**2 * error).mean()
                adam.zero_grad()
                loss.backward()
                adam.step()
                average.update_parameters(network)

    return run


def step_lines(epochs: int) -> Iterator[str]:
    X = moons(12_800, 0)
    model = Diffusion(
        batch_size=128,
        max_iter=epochs,
        early_stopping=False,
        n_iter_no_change=epochs,
        random_state=0,
    )
    found = interleaved(
        {"Diffusion": lambda: model.fit(X), "by hand": by_hand(X, epochs)}, 3
    )
    yield f"\n{'a step':22}{'ms':>8}"
    for name, seconds in found.items():
        yield f"{name:22}{1e3 * seconds / (100 * epochs):8.3f}"
    yield f"{'ratio':22}{found['Diffusion'] / found['by hand']:8.2f}"


def lines(options: argparse.Namespace) -> Iterator[str]:
    epochs = 2 if options.quick else None
    yield from machine()
    yield from moon_lines(options.seeds, epochs)
    yield from digit_lines(epochs)
    yield from missing_lines(10 if options.quick else 60, epochs)
    yield from step_lines(1 if options.quick else 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="few epochs, no file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with threads(1):
        report(lines(options), None if options.quick else RESULTS)
