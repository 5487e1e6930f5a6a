"""Time what a GPU changes: the step, the batched search, and EM.

    python benchmarks/gpu.py [--device cuda] [--quick]

The step of ``VAE.fit`` as written, as a CUDA graph, compiled, and compiled in bfloat16,
against the hand-written loop on the same device; the search of ``grid_search.py``
against GridSearchCV in one process, whose device is the same; and EM on a million rows
of 64 features with 64 components against scikit-learn's array-API path on torch
tensors of the device. Results go to ``benchmarks/results/gpu.txt``; ``--quick`` runs
small ones, on any device, and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median

# scikit-learn asks for this before SciPy is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import torch
from grid_search import GRID, searches, table
from mixture_speed import Fit, blobs, start
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from timing import interleaved, machine, report
from vae_epoch import CASES, Case, hand_written, ours

from skgen import BetaVAE, GaussianMixtureEM

RESULTS = Path(__file__).parent / "results" / "gpu.txt"
WAYS = {
    "skgen": {},
    "captured": {"execution": "captured"},
    "compiled": {"execution": "compiled"},
    "bfloat16": {"execution": "compiled", "precision": "bfloat16"},
}


def steps(case: Case, device: str, repeats: int) -> str:
    """Milliseconds a step, and ratios to the hand-written loop.

    Without a fit's first epoch, in which a graph is captured.
    """
    sides = {"hand-written": hand_written(case, device)}
    for name, settings in WAYS.items():
        sides[name] = ours(case, 1, device=device, **settings)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats + 1):  # interleaved; the first warms
        for name, run in sides.items():
            seconds[name].append(run(2))
    medians = {name: median(values[1:]) for name, values in seconds.items()}
    n_steps = -(-case.rows // case.batch_size)
    parts = [
        f"{name} {value / n_steps * 1e3:7.3f} ({value / medians['hand-written']:4.2f})"
        for name, value in medians.items()
    ]
    shape = f"{case.rows} x {case.features}-{case.hidden}-{case.latent}"
    return f"{shape:22s} batch {case.batch_size:3d}  " + "  ".join(parts)


def search(device: str, repeats: int, max_iter: int) -> Iterator[str]:
    """Seconds of a search over 8 betas and 5 folds of 5000 x 30."""
    model = BetaVAE(
        10,
        hidden_layer_sizes=(64,),
        batch_size=64,
        max_iter=max_iter,
        random_state=0,
        device=device,
    )
    functions, found = searches(model, GRID, table(), 1)
    names = ["GridSearchCV(n_jobs=1)", "BatchedGridSearchCV(n_jobs=1)"]
    seconds = interleaved({name: functions[name] for name in names}, repeats)
    for name, value in seconds.items():
        ratio = seconds[names[0]] / value
        best = found[name].best_params_
        yield f"  {name:32s} {value:8.2f} s  {ratio:5.2f} x  best {best}"


def mixtures(device: str, repeats: int, n: int, d: int, K: int) -> Iterator[str]:
    """Seconds of EM, of each covariance type."""
    X = blobs(n, d, K, "float32")
    for covariance_type in ("full", "tied", "diag", "spherical"):
        params = {"n_components": K, "covariance_type": covariance_type, "tol": 0}
        params |= {"max_iter": 3, **start(X, K, covariance_type)}
        tensors = {
            name: torch.from_numpy(value).to(device)
            if hasattr(value, "shape")
            else value
            for name, value in params.items()
        }
        theirs = GaussianMixture(**tensors, init_params="random")
        fits = {
            "torch": Fit(theirs, torch.from_numpy(X).to(device), array_api=True),
            "skgen": Fit(GaussianMixtureEM(**params, device=device), X),
        }
        works = {name: fit for name, fit in fits.items() if not fit.error}
        seconds = interleaved(works, repeats)
        times = "  ".join(f"{name} {value:8.3f} s" for name, value in seconds.items())
        why = "".join(
            f"  {name}: {fit.error}" for name, fit in fits.items() if fit.error
        )
        if not why:
            why = f"  {seconds['torch'] / seconds['skgen']:.2f} x"
        yield f"  {covariance_type:9s} {times}{why}"


def lines(device: str, quick: bool) -> Iterator[str]:
    """Yield the lines of the table."""
    repeats = 1 if quick else 5
    yield from machine()
    if torch.device(device).type == "cuda":
        yield torch.cuda.get_device_name(device)
    yield f"medians of {repeats}, interleaved, after a first round; milliseconds a step"
    for case in CASES[-1:] if quick else CASES:
        yield steps(case, device, repeats)
    yield "5000 x 30, hidden 64, 8 betas x 5 folds"
    yield from search(device, repeats, 1 if quick else 30)
    n, d, K = (2_000, 8, 4) if quick else (1_000_000, 64, 64)
    yield f"EM, three iterations: {n} x {d}, {K} components, float32"
    yield from mixtures(device, repeats, n, d, K)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    found = lines(options.device, options.quick)
    report(found, None if options.quick else RESULTS)


if __name__ == "__main__":
    main()
