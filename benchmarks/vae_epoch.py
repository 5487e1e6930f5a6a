"""Time an epoch of VAE's training against a hand-written loop, pythae and PyOD.

    python benchmarks/vae_epoch.py [--quick] [--threads 2]

Equal networks, likelihood, batches and optimiser settings; validation off on all sides.
Ours without the linear path, which the others lack, then as it is by default; without
it with ``execution="compiled"``, and so with ``precision="bfloat16"``, which is not the
same arithmetic. The hand-written loop is the
best we could write in plain torch: fused Adam, batches by index, no wait for the
device; its bare matrix products, and its Adam, are timed beside it. Epochs of all sides
alternate in one process; the table has medians, and ratios to the hand-written loop.
Results go to ``benchmarks/results/vae_epoch.txt``.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from timing import machine, report, threads
from torch import Tensor, nn
from torch.nn import functional as F

from skgen import VAE
from skgen._training.loop import Loop

RESULTS = Path(__file__).parent / "results" / "vae_epoch.txt"


class Case(NamedTuple):
    """Rows, networks and batches."""

    rows: int
    features: int
    hidden: int
    latent: int
    likelihood: str
    batch_size: int

    def data(self) -> np.ndarray:
        """Draw rows that suit the likelihood."""
        rng = np.random.default_rng(0)
        shape = (self.rows, self.features)
        if self.likelihood == "bernoulli":
            return (rng.random(shape) < 0.2).astype(np.float32)
        low = rng.normal(size=(self.rows, 5)) @ rng.normal(size=(5, self.features))
        return (low + rng.normal(size=shape)).astype(np.float32)


CASES = [
    *(Case(60_000, 784, 400, 20, "bernoulli", size) for size in (64, 100, 512)),
    *(Case(5_000, 30, 64, 10, "gaussian", size) for size in (64, 128)),
]


class HandWritten(nn.Module):
    """Kingma & Welling's VAE, with a sigma per feature where it is Gaussian."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        d, h, k = case.features, case.hidden, case.latent
        self.encoder = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, 2 * k))
        self.decoder = nn.Sequential(nn.Linear(k, h), nn.ReLU(), nn.Linear(h, d))
        self.gaussian = case.likelihood == "gaussian"
        if self.gaussian:
            self.log_sigma = nn.Parameter(torch.zeros(d))

    def loss(self, x: Tensor) -> Tensor:
        """Minus the evidence lower bound, up to a constant."""
        mean, log_sigma = self.encoder(x).chunk(2, dim=1)
        z = mean + log_sigma.exp() * torch.randn_like(mean)
        output = self.decoder(z)
        if self.gaussian:
            error = (x - output) / self.log_sigma.exp()
            reconstruction = 0.5 * (error**2).sum() + len(x) * self.log_sigma.sum()
        else:
            reconstruction = F.binary_cross_entropy_with_logits(
                output, x, reduction="sum"
            )
        kl = 0.5 * (mean**2 + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum()
        return (reconstruction + kl) / len(x)


def hand_written(case: Case, device: str = "cpu") -> Callable[[int], float]:
    """Seconds of each of some epochs of the loop."""
    x = torch.from_numpy(case.data()).to(device)
    model = HandWritten(case).to(device)

    def run(epochs: int) -> float:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        start = time.perf_counter()
        for _ in range(epochs):
            total = torch.zeros((), device=device)
            for index in torch.randperm(len(x), device=device).split(case.batch_size):
                loss = model.loss(x[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach()
            float(total)
        return (time.perf_counter() - start) / epochs

    return run


def products(case: Case) -> Callable[[int], float]:
    """Likewise of the bare matrix products of its steps, and nothing between them."""
    model = HandWritten(case)
    weights = [p.detach() for p in model.parameters() if p.ndim == 2]
    (d, h), k = (case.features, case.hidden), case.latent
    x, u, v = (torch.randn(case.batch_size, size) for size in (d, h, 2 * k))
    inputs, slopes = [x, u, v[:, :k], u], [u, v, u, x]

    def step() -> None:
        for i, weight in enumerate(weights):
            inputs[i] @ weight.T  # forward
            slopes[i].T @ inputs[i]  # gradient of the weights
            if i:
                slopes[i] @ weight  # gradient of the inputs

    def run(epochs: int) -> float:
        n_steps = math.ceil(case.rows / case.batch_size)
        start = time.perf_counter()
        with torch.no_grad():
            for _ in range(n_steps * epochs):
                step()
        return (time.perf_counter() - start) / epochs

    return run


def adam(case: Case) -> Callable[[int], float]:
    """Likewise of the optimiser's steps alone, on gradients that stay."""
    model = HandWritten(case)
    for p in model.parameters():
        p.grad = torch.randn_like(p)

    def run(epochs: int) -> float:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        start = time.perf_counter()
        for _ in range(math.ceil(case.rows / case.batch_size) * epochs):
            optimizer.step()
        return (time.perf_counter() - start) / epochs

    return run


@contextmanager
def starts_of_epochs() -> Iterator[list[float]]:
    """Note when each epoch of a fit begins."""
    starts, epoch = [], Loop.epoch

    def noted(loop: Loop) -> Any:
        starts.append(time.perf_counter())
        return epoch(loop)

    Loop.epoch = noted  # type: ignore[method-assign]
    try:
        yield starts
    finally:
        Loop.epoch = epoch  # type: ignore[method-assign]


def ours(case: Case, skipped: int = 0, **settings: Any) -> Callable[[int], float]:
    """Likewise of ``VAE.fit``, from the beginning of an epoch to that of the next.

    Some epochs may be skipped. What is compiled is so in a fit that warms: programs
    are kept.
    """
    X = case.data()

    def run(epochs: int) -> float:
        model = VAE(
            case.latent,
            hidden_layer_sizes=(case.hidden,),
            likelihood=case.likelihood,
            batch_size=case.batch_size,
            max_iter=epochs + 1 + skipped,
            tol=0.0,
            n_iter_no_change=10_000,
            early_stopping=False,
            random_state=0,
            **settings,
        )
        with starts_of_epochs() as starts:
            model.fit(X)
        return (starts[-1] - starts[skipped]) / epochs

    return run


def pythae(case: Case) -> Callable[[int], float]:
    """Likewise of pythae's trainer, on networks like ours and rows in [0, 1].

    More epochs less one: what a fit does once is no epoch's.
    """
    from likelihood_pythae import train
    from likelihood_runs import Run

    x = case.data()
    x = (x - x.min()) / (x.max() - x.min())

    def fit(n: int) -> float:
        run = Run("static", "VAE", 1, "pythae", 0, ((n, 1e-3),))
        run = run._replace(
            n_components=case.latent,
            hidden_layer_sizes=(case.hidden,),
            activation="relu",
            batch_size=case.batch_size,
        )
        return train(run, x)[2]

    return lambda epochs: (fit(epochs + 1) - fit(1)) / epochs


def pyod(case: Case) -> Callable[[int], float]:
    """Likewise of PyOD's VAE, which is Gaussian with a fixed sigma."""
    from pyod.models.vae import VAE as PyODVAE

    x = case.data()

    def fit(n: int) -> float:
        model = PyODVAE(
            epoch_num=n,
            batch_size=case.batch_size,
            encoder_neuron_list=[case.hidden],
            decoder_neuron_list=[case.hidden],
            latent_dim=case.latent,
            dropout_rate=0.0,
            verbose=0,
            device="cpu",
        )
        start = time.perf_counter()
        model.fit(x)
        return time.perf_counter() - start

    return lambda epochs: (fit(epochs + 1) - fit(1)) / epochs


SIDES = {
    "hand-written": hand_written,
    "products": products,
    "Adam": adam,
    "skgen": partial(ours, linear_path=False),
    "linear path": ours,
    "compiled": partial(ours, linear_path=False, execution="compiled"),
    "bfloat16": partial(
        ours, linear_path=False, execution="compiled", precision="bfloat16"
    ),
    "pythae": pythae,
    "PyOD": pyod,
}


def available(case: Case, peers: bool) -> dict[str, Callable[[int], float]]:
    """All sides that are installed."""
    found = {}
    for name, side in SIDES.items():
        if peers or name not in ("pythae", "PyOD"):
            try:
                made = side(case)
                made(1)  # warm
                found[name] = made
            except ImportError as error:
                print(f"{name} is left out: {error}")
    return found


def compare(case: Case, n_threads: int, repeats: int, peers: bool) -> str:
    """One line: milliseconds a step, and ratios to the hand-written loop."""
    epochs = 1 if case.features == 784 else 4
    seconds: dict[str, list[float]] = {}
    sides = available(case, peers)
    for _ in range(repeats):  # interleaved
        for name, run in sides.items():
            seconds.setdefault(name, []).append(run(epochs))
    medians = {name: median(values) for name, values in seconds.items()}
    n_steps = math.ceil(case.rows / case.batch_size)
    parts = [
        f"{name} {value / n_steps * 1e3:7.3f} ({value / medians['hand-written']:4.2f})"
        for name, value in medians.items()
    ]
    shape = f"{case.rows} x {case.features}-{case.hidden}-{case.latent}"
    return f"{shape:22s} batch {case.batch_size:3d}  {n_threads} thread  " + "  ".join(
        parts
    )


def lines(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table."""
    yield from machine("pythae", "pyod")
    yield "milliseconds a step (ratio to hand-written)"
    most = 5_000 if arguments.quick else arguments.rows
    repeats = 3 if arguments.quick else arguments.repeats
    for n in arguments.threads:
        with threads(n):
            for case in CASES:
                some = case._replace(rows=min(case.rows, most))
                yield compare(some, n, repeats, not arguments.no_peers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=60_000, help="of images, at most")
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    report(lines(arguments), None if arguments.quick else RESULTS)


if __name__ == "__main__":
    main()
