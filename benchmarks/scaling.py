"""Time data-parallel fits: strong and weak scaling of EM and of a VAE's step.

    python benchmarks/scaling.py [--quick] [--processes 1 2] [--rounds 3]

Processes of one thread each, started by torchrun (gloo); one process fits without a
group. Strong scaling divides a problem among processes, weak scaling gives each a
problem of that size: EM for 16 full Gaussians on 10^6 rows of 32 columns, from given
parameters, and steps of a VAE (784-400-20) on batches of 512. Seconds are the median
over iterations, or over epochs of 20 steps, between callbacks of rank 0; the first is
left out. Numbers of processes take turns in each round, and the median over rounds
counts.
Results go to ``benchmarks/results/scaling.txt``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from timing import machine, report

from skgen import VAE, GaussianMixtureEM
from skgen.distributed import data_parallel

RESULTS = Path(__file__).parent / "results" / "scaling.txt"
N_ROWS, D, K = 1_000_000, 32, 16
BATCH, STEPS = 512, 20
# Numbers that a process sends, for one: an all-reduce of m bytes sends 2 m (P - 1) / P.
PARAMETERS = 784 * 400 + 400 + 400 * 40 + 40 + 20 * 400 + 400 + 400 * 784 + 784


class Clock:
    """A callback that notes when iterations end."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, *args: Any, **kwargs: Any) -> bool:
        """Note the time."""
        self.times.append(perf_counter())
        return False

    @property
    def seconds(self) -> float:
        """Median between two iterations; the end of the fit is one more call."""
        return float(np.median(np.diff(self.times[:-1])[1:]))


def mixture_seconds(n: int, n_iter: int) -> float:
    """Time an iteration of EM on n rows."""
    rng = np.random.default_rng(dist_rank())
    X = rng.standard_normal((n, D))
    X += 3 * rng.standard_normal((K, D))[rng.integers(K, size=n)]
    shared = np.random.default_rng(0)
    clock = Clock()
    model = GaussianMixtureEM(
        K,
        weights_init=np.full(K, 1 / K),
        means_init=3 * shared.standard_normal((K, D)),
        precisions_init=np.stack([np.eye(D)] * K),
        max_iter=n_iter,
        tol=0.0,
    )
    with group():
        model.set_callbacks(clock).fit(X)
    return clock.seconds


def step_seconds(n: int, batch: int, n_iter: int) -> float:
    """Time a step of a VAE on n rows, in epochs of `STEPS` steps."""
    rng = np.random.default_rng(dist_rank())
    X = (rng.random((n, 784)) < 0.2).astype(np.float32)
    clock = Clock()
    model = VAE(
        20,
        hidden_layer_sizes=(400,),
        likelihood="bernoulli",
        batch_size=batch,
        max_iter=n_iter,
        early_stopping=False,
        tol=0.0,
        random_state=0,
    )
    with group():
        model.set_callbacks(clock).fit(X)
    return clock.seconds / STEPS


def dist_rank() -> int:
    """Return the rank of this process."""
    return dist.get_rank() if dist.is_initialized() else 0


def group() -> Any:
    """Return the block that fits run in."""
    return data_parallel() if dist.is_initialized() else nullcontext()


def worker(quick: bool) -> None:
    """Time all cases in this process, and print them as rank 0."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        dist.init_process_group("gloo")
    n, n_iter, epochs = (N_ROWS // 20, 5, 4) if quick else (N_ROWS, 8, 8)
    rows = BATCH * STEPS
    found = {
        "EM, strong": mixture_seconds(n // size, n_iter),
        "EM, weak": mixture_seconds(n, n_iter),
        "VAE step, strong": step_seconds(rows // size, BATCH, epochs),
        "VAE step, weak": step_seconds(rows, BATCH * size, epochs),
    }
    if dist_rank() == 0:
        print(json.dumps(found), flush=True)
    if size > 1:
        dist.destroy_process_group()


def timed(size: int, quick: bool) -> dict[str, float]:
    """Start processes, and return what rank 0 has printed."""
    command = [sys.executable]
    if size > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={size}"]
    command += [__file__, "--worker", *["--quick"] * quick]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def lines(sizes: list[int], quick: bool, rounds: int) -> Iterator[str]:
    """Yield the lines of the report."""
    yield from machine()
    yield f"{rounds} rounds; processes of one thread; gloo on one machine"
    yield ""
    seconds: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for size in sizes:
            for name, each in timed(size, quick).items():
                seconds[name, size].append(each)
    yield "| case | processes | ms | speed-up, or efficiency |"
    yield "|---|---|---|---|"
    for name, size in sorted(seconds):
        own, base = median(seconds[name, size]), median(seconds[name, sizes[0]])
        yield f"| {name} | {size} | {1e3 * own:.2f} | {base / own:.2f} |"
    moments = K * (1 + D + D * (D + 1) // 2)
    yield ""
    yield f"EM sums {8 * moments:,} bytes an iteration (pairs counted once),"
    yield f"the VAE {4 * PARAMETERS:,} bytes a step."


def main() -> None:
    """Parse the arguments, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true")
    args = parser.parse_args()
    if args.worker:
        worker(args.quick)
        return
    rounds = 1 if args.quick else args.rounds
    found = lines(args.processes, args.quick, rounds)
    report(found, None if args.quick else RESULTS)


if __name__ == "__main__":
    main()
