"""Fit a VAE to rows that stay where they are stored: seconds per epoch, and memory.

    python benchmarks/streaming.py [--quick] [--threads 1]

The same rows three ways, each in a new process: an array of which the fit keeps a
standardised copy, as it does of small data; the array, used where it is; and a
read-only memory map of a file, shuffled in windows. Memory is what the fit takes above
what there was before it, without the pages of the file that the system keeps (Linux
only). Results go to ``benchmarks/results/streaming.txt``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from timing import machine, report

RESULTS = Path(__file__).parent / "results" / "streaming.txt"
FEATURES, BATCH = 100, 512
FIT = """
import re, sys, threading, time, warnings
import numpy as np
import torch
from skgen import VAE
from skgen._training import data as training_rows
from skgen._training.loop import Loop

way, path, n_threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(n_threads)
warnings.simplefilter("ignore")
X = np.load(path, mmap_mode="r" if way == "memory map" else None)
settings = dict(batch_size={batch}, max_iter=2, tol=0.0, random_state=0)
VAE(10, **settings).fit(X[:2000])  # all libraries at work
if way == "copy":
    training_rows.KEPT_ELEMENTS = X.size


def in_use():
    status = open("/proc/self/status").read()
    return int(re.search(r"RssAnon:\\s+(\\d+)", status).group(1)) / 1024


peak = before = in_use()
starts, epoch = [], Loop.epoch


def watch():
    global peak
    while True:
        peak = max(peak, in_use())
        time.sleep(0.005)


def noted(loop):
    starts.append(time.perf_counter())
    return epoch(loop)


Loop.epoch = noted
threading.Thread(target=watch, daemon=True).start()
model = VAE(10, hidden_layer_sizes=(64,), early_stopping=False, **settings).fit(X)
print(starts[1] - starts[0], peak - before, model.loss_curve_[-1])
"""
WAYS = {"copy": "array, copied", "array": "array", "memory map": "memory map"}


def write(path: Path, n: int) -> None:
    """Write n rows of a low rank, with noise, a part at a time."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(5, FEATURES))
    shape = (n, FEATURES)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for part in np.array_split(rows, -(-n // 100_000)):
        low = rng.normal(size=(len(part), 5)) @ loadings
        part[:] = low + rng.normal(size=part.shape)


def measure(way: str, path: Path, n_threads: int) -> str:
    """One line: seconds per epoch, megabytes, and the loss of the last epoch."""
    code = FIT.format(batch=BATCH)
    command = [sys.executable, "-c", code, way, str(path), str(n_threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, megabytes, loss = map(float, done.stdout.split())
    return f"{WAYS[way]:14s} {seconds:10.1f} {megabytes:12.0f} {loss:12.2f}"


def lines(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table."""
    n = 750_000 if arguments.quick else 2_000_000
    yield from machine()
    yield (
        f"{n} x {FEATURES} rows of float32, {n * FEATURES * 4 / 2**20:.0f} MB; network "
        f"{FEATURES}-64-10, batch {BATCH}, {arguments.threads} thread"
    )
    yield f"{'rows':14s} {'s an epoch':>10s} {'MB of a fit':>12s} {'loss':>12s}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        write(path, n)
        for way in WAYS:
            yield measure(way, path, arguments.threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    report(lines(arguments), None if arguments.quick else RESULTS)


if __name__ == "__main__":
    main()
