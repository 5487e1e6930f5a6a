"""Fit a mixture and a VAE to Parquet on a cluster of two: seconds, memory, agreement.

    python benchmarks/parquet.py [--quick] [--folder FOLDER]

A data set of 4 GiB is written in files of 64 MiB: rows of 32 columns of float32, drawn
from a mixture of four. A Dask `LocalCluster` of two workers of one thread, each limited
to 1 GiB, fits a mixture and a VAE to it, by `skgen.distributed.fit`; then this process
fits the mixture alone, without a cluster. Memory is sampled from the workers' processes
while they fit (Linux only): what is theirs alone (RssAnon), and with the pages of files
that they have mapped (VmRSS), which is what Dask ends a worker for. Results go to
``benchmarks/results/parquet.txt``.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster
from timing import machine, report

from skgen import VAE, GaussianMixtureEM
from skgen.distributed import fit

RESULTS = Path(__file__).parent / "results" / "parquet.txt"
FEATURES, K = 32, 4
FILE_ROWS = 2**19  # of 64 MiB
MODELS: dict[str, Any] = {
    "GaussianMixtureEM(4)": GaussianMixtureEM(K, max_iter=3, tol=0.0, random_state=0),
    "VAE(4), an epoch": VAE(
        4,
        hidden_layer_sizes=(32,),
        max_iter=1,
        batch_size=2**14,
        early_stopping=False,
        random_state=0,
    ),
    "the same, rows held out": VAE(
        4, hidden_layer_sizes=(32,), max_iter=1, batch_size=2**14, random_state=0
    ),
}


def write(folder: Path, n_files: int) -> None:
    """Write rows of a mixture, a file after the other."""
    centres = 3 * np.random.default_rng(0).normal(size=(K, FEATURES))
    names = [f"x{i}" for i in range(FEATURES)]
    for i in range(n_files):
        rng = np.random.default_rng(1 + i)
        k = rng.choice(K, FILE_ROWS, p=[0.4, 0.3, 0.2, 0.1])
        rows = rng.standard_normal((FILE_ROWS, FEATURES), dtype=np.float32)
        rows += centres[k].astype(np.float32)
        pd.DataFrame(rows, columns=names).to_parquet(
            folder / f"part-{i:04d}.parquet", compression=None, use_dictionary=False
        )


class Memory:
    """Samples the memory of processes, in MiB."""

    def __init__(self, pids: list[int]) -> None:
        self.pids, self.watches = pids, True
        self.before = self.now()
        self.peaks = dict(self.before)
        threading.Thread(target=self._watch, daemon=True).start()

    def now(self) -> dict[str, float]:
        """Return the largest figure of the processes."""
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in self.pids]
        return {
            name: max(
                int(re.search(rf"{name}:\s+(\d+)", text).group(1)) / 1024  # type: ignore[union-attr]
                for text in texts
            )
            for name in ("RssAnon", "VmRSS")
        }

    def _watch(self) -> None:
        while self.watches:
            with suppress(OSError, AttributeError):  # of a process that ends
                for name, value in self.now().items():
                    self.peaks[name] = max(self.peaks[name], value)
            time.sleep(0.02)


@contextmanager
def watched(pids: list[int]) -> Iterator[Memory]:
    """Sample memory inside the block."""
    memory = Memory(pids)
    try:
        yield memory
    finally:
        memory.watches = False
        time.sleep(0.1)


def row(name: str, where: str, seconds: float, memory: Memory) -> str:
    """Return a row of the table."""
    before, peaks = memory.before, memory.peaks
    return (
        f"| {name} | {where} | {seconds:.0f} | {before['RssAnon']:.0f} | "
        f"{peaks['RssAnon']:.0f} | {peaks['VmRSS']:.0f} |"
    )


def lines(quick: bool, folder: Path) -> Iterator[str]:
    """Yield the lines of the report."""
    n_files = 2 if quick else 64
    write(folder, n_files)
    size = sum(path.stat().st_size for path in folder.iterdir())
    rows = dd.read_parquet(folder, split_row_groups=False)
    yield from machine()
    yield (
        f"{n_files * FILE_ROWS} x {FEATURES} rows of float32 in {n_files} files of "
        f"Parquet, {size / 2**30:.2f} GiB; two workers of one thread and 1 GiB"
    )
    yield ""
    yield "| fit | where | s | MiB before | MiB at most | with mapped pages |"
    yield "|---|---|---|---|---|---|"
    found = {}
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="1GiB",
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(__import__, "skgen.models.vae")
        pids = [int(pid) for pid in client.run(os.getpid).values()]
        for name, model in MODELS.items():
            with watched(pids) as memory:
                start = time.perf_counter()
                found[name] = fit(model, rows, client=client)
                seconds = time.perf_counter() - start
            yield row(name, "each worker", seconds, memory)
    name = next(iter(MODELS))
    with watched([os.getpid()]) as memory, dask.config.set(scheduler="synchronous"):
        start = time.perf_counter()
        alone = GaussianMixtureEM(**found[name].get_params()).fit(rows)
        seconds = time.perf_counter() - start
    yield row(name, "one process", seconds, memory)
    names = ("weights_", "means_", "covariances_")
    pairs = [(getattr(found[name], each), getattr(alone, each)) for each in names]
    largest = max(float(np.abs(one - other).max()) for one, other in pairs)
    yield ""
    yield f"The mixtures differ by {largest:.1e} at most, in any parameter."


def main() -> None:
    """Parse the arguments, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", help="where the files are written; it has 12 GiB")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.folder:
        tempfile.tempdir = os.environ["TMPDIR"] = args.folder
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        report(lines(args.quick, Path(folder)), None if args.quick else RESULTS)


if __name__ == "__main__":
    main()
