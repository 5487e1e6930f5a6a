"""FlowDensity beside a plain training loop of zuko, and beside other densities.

    python benchmarks/flow.py --data FOLDER [--steps 1000] [--splits 3] [--quick]

On the three tables of ``uci.npz`` (the folder may also be named by the environment
variable SKGEN_DATA): concrete, wine-quality-red and power-plant, all columns. Each
value is spread over the least step between values of its column, once, so that every
model sees the same continuous rows, and no density gains from ties. A fifth of the rows
is held out for the test, another fifth in each split.

- "zuko" is what its tutorial does: ``zuko.flows.NSF`` on standardised rows, Adam,
  shuffled batches, a fixed number of steps.
- "FlowDensity, as many steps" has the same nets, batches, rate and number of steps, and
  no early stopping.
- "FlowDensity" holds a tenth of the training rows out and stops by it, at its defaults.
- ``VAE``, ``GaussianMixtureEM(10)`` and ``GaussianDensity`` at their defaults.

Test scores are nats per row, in the units of the columns: for the first two means over
splits, and the mean of paired differences with its standard error; for the others, of
the first split. Seconds are those of the processor, on one thread. A table goes to
``benchmarks/results/flow.txt``.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zuko
from numpy.typing import NDArray
from timing import machine, report, threads

from skgen import VAE, FlowDensity, GaussianDensity, GaussianMixtureEM

RESULTS = Path(__file__).parent / "results" / "flow.txt"
TABLES = ("concrete", "wine-quality-red", "power-plant")
TRANSFORMS, HIDDEN, BATCH, RATE = 3, (64, 64), 100, 1e-3

Score = Callable[[NDArray[Any]], float]


def table(folder: str, name: str) -> NDArray[Any]:
    """Rows of a table, spread over the steps of their columns."""
    path = Path(folder, "uci.npz")
    if not path.exists():
        raise SystemExit(
            f"There is no {path}. Name the folder by --data, or by the environment "
            "variable SKGEN_DATA."
        )
    rows = np.load(path)[name]
    steps = [np.diff(np.unique(column)).min() for column in rows.T]
    noise = np.random.RandomState(0).uniform(-0.5, 0.5, rows.shape)
    spread: NDArray[Any] = rows + noise * steps
    return spread


def zuko_loop(X: NDArray[Any], n_steps: int, seed: int) -> Score:
    """Train a flow as zuko's tutorial does, and return its score."""
    shift, scale = X.mean(0), X.std(0)

    def scaled(rows: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy((rows - shift) / scale).float()

    torch.manual_seed(seed)
    flow = zuko.flows.NSF(X.shape[1], transforms=TRANSFORMS, hidden_features=HIDDEN)
    optimizer = torch.optim.Adam(flow.parameters(), RATE)
    data = torch.utils.data.TensorDataset(scaled(X))
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True)
    done = 0
    while done < n_steps:
        for (x,) in loader:
            loss = -flow().log_prob(x).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1

    def score(rows: NDArray[Any]) -> float:
        with torch.no_grad():
            mean = flow().log_prob(scaled(rows)).mean()
        return float(mean) - float(np.log(scale).sum())

    return score


def models(n_rows: int, n_steps: int, seed: int) -> dict[str, Callable[..., Score]]:
    """Functions that fit a model to rows and return its score."""
    epochs = math.ceil(n_steps / math.ceil(n_rows / BATCH))
    nets = {"hidden_layer_sizes": HIDDEN, "dequantize": False, "random_state": seed}
    equal = FlowDensity(
        TRANSFORMS,
        **nets,
        batch_size=BATCH,
        learning_rate_init=RATE,
        early_stopping=False,
        max_iter=epochs,
        n_iter_no_change=epochs,
    )
    others = {
        "FlowDensity, as many steps": equal,
        "FlowDensity": FlowDensity(TRANSFORMS, **nets),
        "VAE": VAE(random_state=seed),
        "GaussianMixtureEM(10)": GaussianMixtureEM(10, random_state=seed),
        "GaussianDensity": GaussianDensity(),
    }
    fits = {name: lambda X, m=model: m.fit(X).score for name, model in others.items()}
    return {"zuko": lambda X: zuko_loop(X, n_steps, seed), **fits}


def measured(X: NDArray[Any], n_steps: int, n_splits: int) -> Iterator[str]:
    """Lines of one table."""
    scores: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(n_splits):
        parts = np.array_split(np.random.RandomState(7).permutation(len(X)), 5)
        test = X[parts[seed % 5]]
        train = X[np.concatenate([p for i, p in enumerate(parts) if i != seed % 5])]
        fits = list(models(len(train), n_steps, seed).items())
        for name, fit in fits if seed == 0 else fits[:2]:
            start = time.process_time()
            score = fit(train)
            seconds.setdefault(name, []).append(time.process_time() - start)
            scores.setdefault(name, []).append(score(test))
    for name, found in scores.items():
        yield f"  {name:28}{np.mean(found):10.3f}{np.mean(seconds[name]):10.1f}"
    ours, theirs = scores["FlowDensity, as many steps"], scores["zuko"]
    gain = np.subtract(ours, theirs)
    error = gain.std(ddof=1) / math.sqrt(len(gain)) if len(gain) > 1 else math.nan
    yield f"  as many steps, less zuko: {gain.mean():+.3f} +- {error:.3f} nats"


def lines(options: argparse.Namespace) -> Iterator[str]:
    yield from machine("zuko")
    yield (
        f"{TRANSFORMS} layers of splines, nets of {HIDDEN}, {options.steps} steps of "
        f"{BATCH} rows at rate {RATE}; {options.splits} splits, of which models below "
        "the first two have the first"
    )
    yield f"\n{'':30}{'test nats':>10}{'seconds':>10}"
    for name in TABLES:
        X = table(options.data, name)
        yield f"\n{name}, {X.shape[0]} rows of {X.shape[1]} columns"
        yield from measured(X, options.steps, options.splits)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("SKGEN_DATA", ""))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few steps, no file")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.splits = 50, 1
    warnings.simplefilter("ignore")
    with threads(1):
        report(lines(options), None if options.quick else RESULTS)
