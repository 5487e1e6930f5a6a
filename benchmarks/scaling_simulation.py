"""Simulate data-parallel fits of 2 to 1,024 processes, from stated latencies.

    python benchmarks/scaling_simulation.py [--em 1.5] [--step 0.027] [--quick]

Each process computes its part for a time that is drawn, and then all wait for an
all-reduce; the slowest decides. Times of a whole iteration of EM and of a step on one
process are arguments, in seconds: the defaults are of the size that
``benchmarks/scaling.py`` measures. Networks are given by the latency of a message and
by bandwidth: inside a rack, between data centres, over the internet. An all-reduce of
m bytes over P processes takes the faster of a ring, 2 (P - 1) messages of m / P bytes,
and of a tree, 2 log2 P messages of m bytes. Latencies are drawn log-normally about the
median, and part times with a spread of a twentieth; a straggler of twice the time comes
once in a thousand. Nothing of skgen runs. Results go to
``benchmarks/results/scaling_simulation.txt``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from timing import report

RESULTS = Path(__file__).parent / "results" / "scaling_simulation.txt"
SIZES = (2, 8, 32, 128, 512, 1024)


class Network(NamedTuple):
    """Time that messages take on a network."""

    name: str
    latency: float  # median seconds of a message
    spread: float  # of its logarithm
    bandwidth: float  # bytes a second


class Work(NamedTuple):
    """An iteration, or a step."""

    name: str
    seconds: float  # on one process
    n_bytes: int  # that are summed
    serial: float  # seconds that every process needs besides: the M-step, Adam


NETWORKS = (
    Network("rack", 20e-6, 0.2, 1.25e9),
    Network("data centres", 2e-3, 0.3, 1.25e8),
    Network("internet", 40e-3, 0.5, 1.25e7),
)


def reduce_seconds(
    network: Network, size: int, n_bytes: int, rng: np.random.Generator
) -> float:
    """Draw the seconds of an all-reduce."""

    def messages(n: int, n_bytes: float) -> float:
        # In each round all processes send: the slowest of them decides.
        logs = network.spread * rng.standard_normal((n, min(size, 64))).max(1)
        return float((network.latency * np.exp(logs)).sum() + n * n_bytes / network[3])

    rounds = math.ceil(math.log2(size))
    ring = messages(2 * (size - 1), n_bytes / size)
    return min(ring, messages(2 * rounds, n_bytes))


def iteration_seconds(
    work: Work, network: Network, size: int, rng: np.random.Generator
) -> float:
    """Draw the seconds of an iteration on so many processes."""
    parts = work.seconds / size * (1 + 0.05 * rng.standard_normal(size).clip(-3, 3))
    parts *= np.where(rng.random(size) < 1e-3, 2, 1)
    reduced = reduce_seconds(network, size, work.n_bytes, rng)
    return float(parts.max()) + reduced + work.serial


def lines(em: float, step: float, n: int) -> Iterator[str]:
    """Yield the lines of the report."""
    works = (
        Work("EM, 10^6 x 32, K = 16", em, 8 * 16 * (1 + 32 + 528), 2e-3),
        Work("EM, 10^9 x 32, K = 16", 1000 * em, 8 * 16 * (1 + 32 + 528), 2e-3),
        Work("VAE step, batch 512", step, 4 * 652_000, 1e-3),
        Work("VAE step, batch 65,536", 128 * step, 4 * 652_000, 1e-3),
    )
    yield f"Simulated: EM takes {em} s an iteration on one process, a step {step} s."
    yield ""
    yield f"| work | network | {' | '.join(f'{size:,}' for size in SIZES)} |"
    yield "|---|---|" + "---|" * len(SIZES)
    rng = np.random.default_rng(0)
    for work in works:
        for network in NETWORKS:
            ups = []
            for size in SIZES:
                drawn = [iteration_seconds(work, network, size, rng) for _ in range(n)]
                ups.append((work.seconds + work.serial) / float(np.mean(drawn)))
            row = " | ".join(f"{up:.1f}" for up in ups)
            yield f"| {work.name} | {network.name} | {row} |"


def main() -> None:
    """Parse the arguments, and simulate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--em", type=float, default=1.5)
    parser.add_argument("--step", type=float, default=0.027)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    n = 5 if args.quick else 100
    report(lines(args.em, args.step, n), None if args.quick else RESULTS)


if __name__ == "__main__":
    main()
