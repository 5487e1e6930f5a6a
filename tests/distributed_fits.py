"""Fits that processes make together, and their cases.

``python -m tests.distributed_fits FOLDER 2 fits`` leaves in ``FOLDER/2 fits`` what the
fits of two processes have learned, in a file for each case and rank, which
`tests.test_distributed` compares. The processes are started by what torchrun is made of
(`elastic_launch`), forked from one that has imported all, since that takes most of the
time; under torchrun itself this makes what the arguments say.
"""

import math
import os
import pickle
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from skgen import (
    IWAE,
    VAE,
    VQVAE,
    BetaVAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
    MixtureEM,
    StudentMixtureEM,
)
from skgen._files import checkpoints
from skgen.distributed import data_parallel
from skgen.exceptions import DistributedError
from skgen.likelihoods import Bernoulli, Mixed

RNG = np.random.RandomState(0)
N = 240
X = np.concatenate([RNG.randn(90, 3) - 2, 0.5 * RNG.randn(150, 3) @ RNG.randn(3, 3)])
X = X[RNG.permutation(N)] * [1.0, 10.0, 0.1] + [0.0, 100.0, 0.0]
HOLES = np.where(RNG.rand(*X.shape) < 0.1, np.nan, X)
WEIGHT = RNG.choice([0.0, 0.5, 1.0, 3.0], N)
WIDE = RNG.randn(12, 20)
COUNTS = np.column_stack(
    [
        RNG.randn(N),
        RNG.poisson(RNG.gamma(1, 4, N)),
        RNG.randint(3, size=N),
        RNG.choice([0, 0, 7], N),
    ]
).astype(float)
COUNTS[::5, 3] = RNG.rand(N // 5) * 5
KINDS = ["normal", "negative_binomial", "categorical", "inflated"]
BINARY = (RNG.rand(N, 6) < RNG.rand(6)).astype(np.float32)
EMPTY = np.concatenate([np.zeros((60, 2)), np.ones((60, 2)), RNG.randn(120, 2) + 5])

NETWORK: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "batch_size": 32,
    "n_importance_samples": 4,
    "max_iter": 4,
    "random_state": 0,
}
# Steps on all rows, whose gradients are those of one process.
STEPS: dict[str, Any] = {**NETWORK, "batch_size": N, "max_iter": 2}
STEPS["early_stopping"] = False
VQ: dict[str, Any] = {"codebook_size": 8, "code_size": 2, "n_tokens": 2, **NETWORK}


def mixture(K: int = 3, **params: Any) -> GaussianMixtureEM:
    """Make a mixture of few iterations."""
    return GaussianMixtureEM(K, **{"max_iter": 10, "random_state": 0, **params})


# A model, its rows, and their weights or None.
CASES: dict[str, tuple[Any, NDArray[Any], Any]] = {
    "gaussian": (GaussianDensity(), X, None),
    "gaussian, weighted": (GaussianDensity(), X, WEIGHT),
    "gaussian, wide": (GaussianDensity(), WIDE, None),
    "gaussian, axes": (GaussianDensity("mle"), X, None),
    "gaussian, diag": (GaussianDensity(covariance_type="diag"), X, WEIGHT),
    "gaussian, holes": (GaussianDensity(), HOLES, WEIGHT),
    "mixture": (mixture(), X, None),
    "mixture, float32": (mixture(), X.astype(np.float32), None),
    "mixture, weighted": (mixture(), X, WEIGHT),
    "mixture, tied": (mixture(covariance_type="tied", init_params="random"), X, WEIGHT),
    "mixture, diag": (mixture(covariance_type="diag", n_init=3), X, None),
    "mixture, spherical": (
        mixture(covariance_type="spherical", init_params="k-means++"),
        X,
        None,
    ),
    "mixture, starts": (mixture(n_init=3, init_params="random_from_data"), X, None),
    "mixture, holes": (mixture(), HOLES, WEIGHT),
    "mixture, diag, holes": (mixture(covariance_type="diag"), HOLES, None),
    "mixture, factors": (
        mixture(covariance_type="factor", n_factors=1, weight_prior=1.0),
        HOLES,
        None,
    ),
    "student": (StudentMixtureEM(2, max_iter=5, random_state=0), X, WEIGHT),
    "student, holes": (StudentMixtureEM(2, max_iter=5, random_state=0), HOLES, None),
    "products": (MixtureEM(3, kinds=KINDS, max_iter=8, random_state=0), COUNTS, None),
    "products, holes": (MixtureEM(2, max_iter=8, random_state=0), HOLES, WEIGHT),
    "products, auto": (
        MixtureEM(2, kinds="auto", max_iter=5, init_params="random", random_state=0),
        COUNTS,
        WEIGHT,
    ),
    "products, stepwise": (
        MixtureEM(2, batch_size=50, max_iter=3, random_state=0),
        X,
        WEIGHT,
    ),
    "k-means": (KMeansAutoencoder(4, random_state=0), X, None),
    "k-means, starts": (
        KMeansAutoencoder(
            3, init="random", n_init=4, variance="feature", random_state=0
        ),
        X,
        WEIGHT,
    ),
    "k-means, holes": (KMeansAutoencoder(3, random_state=0), HOLES, None),
    "k-means, no rows": (
        KMeansAutoencoder(3, init=[[0, 0], [9, 9], [90, 90]], max_iter=3),
        EMPTY,
        None,
    ),
    "vae": (VAE(2, **NETWORK), X, None),
    "vae, weighted": (
        VAE(
            2, early_stopping=False, weight_averaging=0.9, max_grad_norm=1.0, **NETWORK
        ),
        X,
        WEIGHT,
    ),
    "vae, draws": (VAE(2, likelihood=Bernoulli("dynamic"), **NETWORK), BINARY, None),
    "vae, holes": (
        VAE(2, likelihood=Mixed(["real"] * 3), **NETWORK),
        HOLES,
        None,
    ),
    "vae, steps": (VAE(2, **STEPS), X, None),
    "beta, steps": (BetaVAE(2, beta=4.0, **STEPS), X, WEIGHT),
    "iwae, steps": (IWAE(2, n_draws=3, **STEPS), X, WEIGHT),
    "vqvae, steps": (VQVAE(**{**VQ, **STEPS}), X, None),
    "beta": (BetaVAE(2, beta=4.0, **NETWORK), X, None),
    "vae, vamp": (VAE(2, prior="vamp", prior_components=3, **NETWORK), X, None),
    "iwae": (IWAE(2, n_draws=3, **NETWORK), X, None),
    "vqvae": (VQVAE(**VQ), X, None),
    "vqvae, ema": (VQVAE(codebook_update="ema", **VQ), X, WEIGHT),
}
DISPERSED = ("products", "products, auto")
NETWORKS = ("vae", "beta", "iwae", "vqvae")


def shard(values: Any, rank: int, size: int) -> Any:
    """Return what a process has of rows: unequal parts, one of three is empty."""
    cuts = [0, 0.7, 1] if size == 2 else [0, 0.6, 0.6, 1]
    first, last = (int(cut * len(values)) for cut in cuts[rank : rank + 2])
    return values[first:last]


def fit_all(folder: Path) -> None:
    """Fit the cases, and leave their states."""
    rank, size = dist.get_rank(), dist.get_world_size()
    for name, (model, rows, weight) in CASES.items():
        own = None if weight is None else shard(weight, rank, size)
        with data_parallel(timeout=60):
            model.fit(shard(rows, rank, size), sample_weight=own)
        (folder / f"{name}-{rank}").write_bytes(pickle.dumps(model._file_state()))


def errors(folder: Path) -> None:
    """Leave the errors of fits that cannot be."""
    rank, size = dist.get_rank(), dist.get_world_size()
    rows = shard(X, rank, size)
    said = {}

    def caught(name: str, fit: Any) -> None:
        try:
            with data_parallel(timeout=60):
                fit()
        except (ValueError, DistributedError) as error:
            said[name] = f"{type(error).__name__}: {error}"

    bad = np.where(rank == 1, np.inf, rows)
    caught("rows of one", lambda: GaussianDensity().fit(bad))
    caught("features", lambda: GaussianDensity().fit(rows[:, : 3 - rank]))
    caught("parameter", lambda: GaussianMixtureEM(0).fit(rows))
    caught("too few", lambda: KMeansAutoencoder(500).fit(rows))
    caught("collapse", lambda: mixture(reg_covar=0.0).fit(np.round(rows * 0)))
    caught("partial_fit", lambda: GaussianDensity().partial_fit(rows))
    caught("compiled", lambda: VAE(2, execution="compiled").fit(rows))
    caught("callback", lambda: VAE(2, **NETWORK).set_callbacks(Failing(rank)).fit(rows))
    with data_parallel(timeout=60):  # an error that all know of leaves the group as is
        for each in (bad, rows):
            with suppress(ValueError, DistributedError):
                model = GaussianDensity().fit(each)
    said["after"] = str(model.mean_.shape)
    (folder / f"errors-{rank}").write_bytes(pickle.dumps(said))


class Failing:
    """A callback that fails in the second epoch, in one process."""

    def __init__(self, rank: int) -> None:
        self.rank, self.n = rank, 0

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, *args: Any, **kwargs: Any) -> bool:
        """Fail, or go on."""
        self.n += 1
        if self.rank == 1 and self.n > 2:
            raise ValueError("the callback fails")
        return False


class Killing(Failing):
    """A callback that kills its process in the fourth iteration."""

    def on_fit_task_end(self, *args: Any, **kwargs: Any) -> bool:
        """Kill this process, or go on."""
        self.n += 1
        if self.n == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return False


# Fits that are killed, and go on.
LONG: dict[str, Any] = {
    "mixture": mixture(tol=0.0),
    "vae": VAE(2, **{**NETWORK, "max_iter": 8, "n_iter_no_change": 100}),
}


def killed(folder: Path) -> None:
    """Fit with a checkpoint; the last process is killed at the first attempt."""
    checkpoints.PART = math.inf  # every iteration is saved
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    for i, (name, model) in enumerate(LONG.items()):
        model.set_params(checkpoint=folder / f"{name}.checkpoint")
        if rank == size - 1 and attempt == i:
            model.set_callbacks(Killing(rank))
        caught = warnings.catch_warnings(record=True, action="always")
        with caught as said, data_parallel(timeout=60):
            model.fit(shard(X, rank, size))
        state = model._file_state()
        if attempt == i + 1 and rank == 0:  # it went on after three iterations
            assert any("goes on after 3" in str(each.message) for each in said)
        (folder / f"killed {name}-{rank}").write_bytes(pickle.dumps(state))


JOBS: dict[str, Any] = {"fits": fit_all, "errors": errors, "killed": killed}


def work(folder: Path, name: str) -> None:
    """Do a job in a process of a group."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if name == "killed":  # data_parallel makes the groups
        killed(folder)
        return
    dist.init_process_group("gloo")
    JOBS[name](folder)
    dist.destroy_process_group()


def launch(folder: Path, size: int, name: str) -> None:
    """Have so many processes do a job, as torchrun would, again if one is killed."""
    folder.mkdir()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=size,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=folder.name,
        max_restarts=len(LONG) if name == "killed" else 0,
        monitor_interval=0.1,
        start_method="fork",
    )
    elastic_launch(config, work)(folder, name)


def main() -> None:
    """Do the jobs that the arguments say, one after the other."""
    folder, *jobs = sys.argv[1:]
    if "RANK" in os.environ:  # torchrun's
        work(Path(folder), *jobs)
        return
    for size, name in zip(jobs[::2], jobs[1::2], strict=True):
        launch(Path(folder) / f"{size} {name}", int(size), name)


if __name__ == "__main__":
    main()
