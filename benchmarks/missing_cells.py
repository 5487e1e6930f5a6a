"""Rows with missing cells, held against conditionals in closed form.

    python benchmarks/missing_cells.py [--columns 2 4] [--rows 1200] [--quick]

Models are fitted on Gaussian tables, whose sample moments are exact, and on a label
with Gaussians: on complete rows, and with a part of their cells hidden at random. They
are asked for rows of which one cell is known, at the mean of its column and three
standard deviations from it, and for rows of which one cell is not known:

- the largest and the mean error of imputed means, in standard deviations of the column
  (of the label, that of the numbers given it);
- those of log p of what is known: by ``log_likelihood``, and by ``score_samples``;
- the least effective part of the draws; and
- what complete rows of the density lose on average.

All in nats, "at" the means and "far" from them. The far rows also see how well a model
learned tails in which the table has two or three rows. A table goes to
``benchmarks/results/missing_cells.txt``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from timing import machine, report

from skgen import IWAE, VAE, VQVAE
from skgen.likelihoods import Mixed

RESULTS = Path(__file__).parent / "results" / "missing_cells.txt"
HOLES = (0.0, 0.05, 0.2, 0.5)
MODELS: dict[str, Any] = {
    "VAE(2)": lambda: VAE(2, random_state=0),
    "VAE(10)": lambda: VAE(10, random_state=0),
    "IWAE(2)": lambda: IWAE(2, random_state=0),
    "VQVAE(64)": lambda: VQVAE(64, random_state=0),
}
HEADER = (
    f"{'table':10}{'holes':>6} {'model':10}{'imputed at':>12}{'far':>12}"
    f"{'careful at':>12}{'far':>12}{'score at':>12}{'far':>12}"
    f"{'ESS':>7}{'whole':>8}{'seconds':>9}"
)


class Table(NamedTuple):
    """Rows, queries and what is right for them."""

    name: str
    kinds: list[Any]
    rows: NDArray[Any]
    fresh: NDArray[Any]  # rows that nothing was fitted on
    fresh_log_prob: float
    asked: NDArray[Any]
    far: NDArray[np.bool_]
    means: NDArray[Any]  # of numbers; NaN where nothing is asked
    log_probs: NDArray[Any]
    scale: NDArray[Any]


def exact_normal(n: int, d: int, seed: int) -> NDArray[Any]:
    """Draw rows with exact means and covariances."""
    z = np.random.RandomState(seed).randn(n, d)
    z -= z.mean(0)
    root = np.linalg.cholesky(np.cov(z.T, bias=True).reshape(d, d))
    whitened: NDArray[Any] = z @ np.linalg.inv(root).T
    return whitened


def gaussian(d: int, n: int) -> Table:
    rng = np.random.RandomState(d)
    A = rng.randn(d, d)
    covariance = A @ A.T / d + 0.1 * np.eye(d)
    mean, root = 3 * rng.randn(d), np.linalg.cholesky(covariance)
    scale = np.sqrt(np.diag(covariance))

    def known(row: NDArray[Any]) -> tuple[NDArray[Any], float]:
        there = ~np.isnan(row)
        own = covariance[np.ix_(there, there)]
        slope = covariance[:, there] @ np.linalg.inv(own)
        log_prob = multivariate_normal(mean[there], own).logpdf(row[there])
        return mean + slope @ (row - mean)[there], float(log_prob)

    asked, far = [], []
    for j in range(d):
        for z in (0.0, 3.0, -3.0):
            row = np.full(d, np.nan)
            row[j] = mean[j] + z * scale[j]
            fuller = known(row)[0]
            fuller[(j + 1) % d] = np.nan
            asked += [row, fuller]
            far += [z != 0] * 2
    means, log_probs = zip(*map(known, np.array(asked)))
    fresh = mean + np.random.RandomState(99).randn(500, d) @ root.T
    return Table(
        f"Gauss {d}",
        ["real"] * d,
        mean + exact_normal(n, d, 0) @ root.T,
        fresh,
        float(multivariate_normal(mean, covariance).logpdf(fresh).mean()),
        np.array(asked),
        np.array(far),
        np.where(np.isnan(asked), means, np.nan),
        np.array(log_probs),
        scale,
    )


def label(n: int) -> Table:
    centres = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    shares = np.array([0.5, 0.3, 0.2])

    def draw(n: int, seed: int) -> NDArray[Any]:
        counts = (shares * n).round().astype(int)
        parts = [
            np.column_stack([centres[k] + exact_normal(m, 2, seed + k), np.full(m, k)])
            for k, m in enumerate(counts)
        ]
        return np.random.RandomState(seed).permutation(np.concatenate(parts))

    def log_joint(x: NDArray[Any], columns: list[int]) -> NDArray[Any]:
        own = (x[:, None, columns] - centres[:, columns]) ** 2
        sizes = len(columns) * np.log(2 * np.pi)
        joint: NDArray[Any] = np.log(shares) - 0.5 * (own.sum(-1) + sizes)
        return joint

    nan, asked, means, log_probs, far = np.nan, [], [], [], []
    for k in range(3):
        asked.append([nan, nan, k])
        means.append([*centres[k], nan])
        log_probs.append(np.log(shares[k]))
        far.append(False)
    for value in (0.0, 3.0, 6.0):
        asked.append([value, nan, nan])
        joint = log_joint(np.array(asked[-1:], dtype=float), [0])[0]
        total = np.logaddexp.reduce(joint)
        means.append([nan, np.exp(joint - total) @ centres[:, 1], nan])
        log_probs.append(total)
        far.append(value == 6.0)
    fresh = draw(500, 99)
    fresh_log_prob = log_joint(fresh, [0, 1])[
        range(len(fresh)), fresh[:, 2].astype(int)
    ]
    return Table(
        "label",
        ["real", "real", 3],
        draw(n, 0),
        fresh,
        float(fresh_log_prob.mean()),
        np.array(asked),
        np.array(far),
        np.array(means),
        np.array(log_probs),
        np.ones(3),
    )


def both(error: NDArray[Any], far: NDArray[np.bool_]) -> str:
    """Largest and mean error, at the means and far from them."""
    parts = (error[~far], error[far])
    return "".join(f"{f'{e.max():.2f} ({e.mean():.2f})':>12}" for e in parts)


def measured(table: Table, holes: float, name: str) -> str:
    rng = np.random.RandomState(1)
    rows = np.where(rng.rand(*table.rows.shape) < holes, np.nan, table.rows)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MODELS[name]().set_params(likelihood=Mixed(table.kinds)).fit(rows)
        seconds = time.process_time() - start
        careful = model.log_likelihood(table.asked, 5000)
        whole = model.log_likelihood(table.fresh, 500).mean_log_prob
    error = abs(model.impute(table.asked) - table.means) / table.scale
    scores = model.score_samples(table.asked)
    cells = (
        both(np.nanmax(error, axis=1), table.far),
        both(abs(careful.log_prob - table.log_probs), table.far),
        both(abs(scores - table.log_probs), table.far),
    )
    effective = careful.effective_sample_size.min() / careful.n_samples
    return (
        f"{table.name:10}{holes:>6.2f} {name:10}{''.join(cells)}{effective:>7.3f}"
        f"{whole - table.fresh_log_prob:>8.3f}{seconds:>9.1f}"
    )


def main() -> None:
    """Fit, ask, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--rows", type=int, default=1200)
    parser.add_argument("--quick", action="store_true", help="one table, fewer models")
    args = parser.parse_args()
    columns = args.columns[:1] if args.quick else args.columns
    tables = [gaussian(d, args.rows) for d in columns]
    if not args.quick:
        tables.append(label(args.rows))
    lines = chain(
        machine(),
        ["", HEADER],
        (
            measured(table, holes, name)
            for table in tables
            for name in (["VAE(2)"] if args.quick else MODELS)
            for holes in (HOLES[::2] if name.startswith("VQ") else HOLES)
        ),
    )
    report(lines, None if args.quick else RESULTS)


if __name__ == "__main__":
    main()
