"""Time ``transform``, ``score_samples`` and ``sample`` against their bare mathematics.

    python benchmarks/throughput.py [--quick] [--threads 1]

100000 rows of float32. The floor of each is the same matrix products and elementwise
passes in plain torch, in the same dtype and the same chunks, on tensors that are there:
no validation, no conversion, no noise looked up. Also the seconds that an import adds
to torch and scikit-learn, each in a new process, and the memory that a fit takes above
its data. Results go to ``benchmarks/results/throughput.txt``.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from timing import interleaved, machine, report, threads
from torch import Tensor

from skgen import VAE, GaussianDensity, GaussianMixtureEM, KMeansAutoencoder

RESULTS = Path(__file__).parent / "results" / "throughput.txt"
Function = Callable[[], Any]
IMPORT = """
import time
import sklearn, torch
start = time.perf_counter()
{statement}
print(time.perf_counter() - start)
"""
STATEMENTS = ("import skgen", "from skgen import VAE", "from skgen import *")
MEMORY = """
import resource, sys
import numpy as np
import warnings
warnings.simplefilter("ignore")
import skgen
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
rng = np.random.default_rng(0)
X = rng.standard_normal((1_000_000, 30), dtype=np.float32)
skgen.VAE(5, max_iter=1, random_state=0).fit(X[:1000])
before = peak()
{model}.fit(X)
print(peak() - before, X.nbytes / 2**20)
"""


def rows(n: int, d: int = 30) -> np.ndarray:
    """Draw rows with a few directions in common."""
    rng = np.random.default_rng(0)
    low = rng.normal(size=(n, 5)) @ rng.normal(size=(5, d))
    return (low + rng.normal(size=(n, d))).astype(np.float32)


def in_chunks(function: Callable[[Tensor], Any], x: Tensor, size: int) -> Function:
    """Apply a function to chunks of rows, without gradients."""

    def run() -> None:
        with torch.inference_mode():
            for chunk in x.split(size):
                function(chunk)

    return run


def vae_floor(model: VAE, x: Tensor) -> tuple[Function, Function, Function]:
    """Encode; bound with S draws; decode as many codes."""
    module, S = model.module_, model.n_importance_samples
    k, width = model.n_components, model.hidden_layer_sizes[0]
    shift, scale = (
        b.float() for b in (module.standardizer.shift, module.standardizer.scale)
    )
    sigma = module.likelihood.sigma.detach()
    size = 3 * 2**16 // (S * width)
    noise = torch.randn(S, size, k)

    def encode(chunk: Tensor) -> Tensor:
        return module.encoder((chunk - shift) / scale)[:, :k]

    def score(chunk: Tensor) -> Tensor:
        x = (chunk - shift) / scale
        mean, log_sigma = module.encoder(x).chunk(2, 1)
        eps = noise[:, : len(chunk)]
        z = mean + log_sigma.exp() * eps
        out = module.decoder(z.flatten(0, 1)).view(S, len(chunk), -1)
        log_p = -0.5 * (((x - out) / sigma) ** 2).sum(-1) - sigma.log().sum()
        log_r = -0.5 * (z**2).sum(-1) + 0.5 * (eps**2).sum(-1) + log_sigma.sum(-1)
        return (log_p + log_r).logsumexp(0)

    codes = torch.randn(len(x), k)
    return (
        in_chunks(encode, x, 3 * 2**16 // width),
        in_chunks(score, x, size),
        in_chunks(
            lambda z: module.decoder(z) * scale + shift, codes, 3 * 2**16 // width
        ),
    )


def gaussian_floor(model: GaussianDensity, x: Tensor) -> tuple[Function, Function]:
    """Whiten, and half the squares, in float64 as the model does."""
    d = x.shape[1]
    mean, root = torch.from_numpy(model.mean_).double(), torch.eye(d).double()
    shift, turned = -(mean @ root), root.T.contiguous()

    def whiten(chunk: Tensor) -> Tensor:
        return torch.addmm(shift, chunk.double(), root)

    def square(chunk: Tensor) -> Tensor:
        white = torch.addmm(shift[:, None], turned, chunk.double().T)
        return white.square_().sum(0)

    size = 3 * 2**16 // d
    return in_chunks(whiten, x, size), in_chunks(square, x, size)


def mixture_floor(model: GaussianMixtureEM, x: Tensor) -> Function:
    """Distances to K components, and their log-sum-exp, in float64 and in place."""
    parts = (model.weights_, model.means_, model.precisions_cholesky_)
    weights, means, roots = (torch.from_numpy(part).double() for part in parts)
    K, d = means.shape
    log_scale = weights.log() - 0.5 * d * math.log(2 * math.pi)
    if model.covariance_type == "full":
        stacked = roots.mT.flatten(0, 1)
        shift = -(roots.mT @ means[:, :, None]).view(-1, 1)
        constant = log_scale + roots.diagonal(dim1=1, dim2=2).log().sum(1)
        size = 3 * 2**16 // (K * d)

        def joint(chunk: Tensor) -> Tensor:
            white = torch.addmm(shift, stacked, chunk.double().T).view(K, d, -1)
            squares = white.square_().sum(1)
            return torch.add(constant[:, None], squares, alpha=-0.5, out=squares)

    else:
        precisions = roots.square()
        pulled = means * precisions
        constant = log_scale + roots.log().sum(1) - 0.5 * (means * pulled).sum(1)
        size = 3 * 2**16 // (K + 2 * d)

        def joint(chunk: Tensor) -> Tensor:
            c = chunk.double()
            linear = torch.addmm(constant[:, None], pulled, c.T)
            return linear.addmm_(precisions, c.square_().T, alpha=-0.5)

    def score(chunk: Tensor) -> Tensor:
        log_masses = joint(chunk)
        top = log_masses.amax(0)
        return log_masses.sub_(top).exp_().sum(0).log_().add_(top)

    expected = torch.from_numpy(model.score_samples(x[:99].numpy()))
    torch.testing.assert_close(score(x[:99]).float(), expected)
    return in_chunks(score, x, size)


def kmeans_floor(model: KMeansAutoencoder, x: Tensor, by_min: bool = False) -> Function:
    """Distances to K centres, in float64, and the first of the least, in place.

    That by torch's ``min``, or without a branch a number, as the model does it.
    """
    centres = torch.from_numpy(model.cluster_centers_).double()
    K, d = centres.shape
    squares = centres.square().sum(1)[:, None]
    backwards = torch.arange(K, 0, -1).double()[:, None]

    def nearest(chunk: Tensor) -> Tensor:
        distances = torch.addmm(squares, centres, chunk.double().T, alpha=-2)
        if by_min:
            return distances.min(0).indices
        return K - distances.eq_(distances.amin(0)).mul_(backwards).amax(0).long()

    expected = torch.from_numpy(model.transform(x[:99].numpy()))[:, 0]
    torch.testing.assert_close(nearest(x[:99]), expected)
    return in_chunks(nearest, x, 3 * 2**16 // (K + d))


def pairs(n: int) -> dict[str, tuple[Function, Function]]:
    """Return what is timed: ours, and its floor."""
    X = rows(n)
    x, some = torch.from_numpy(X), X[:5_000]
    vae = VAE(10, hidden_layer_sizes=(256,), max_iter=2, random_state=0).fit(some)
    gaussian = GaussianDensity().fit(some)
    encode, _, decode = vae_floor(vae, x)
    whiten, square = gaussian_floor(gaussian, x)
    found: dict[str, tuple[Function, Function]] = {
        "VAE.transform": (lambda: vae.transform(X), encode),
        "VAE.score_samples": (
            lambda: vae.score_samples(X[: n // 20]),
            vae_floor(vae, x[: n // 20])[1],
        ),
        "VAE.sample(noise=False)": (lambda: vae.sample(n, noise=False), decode),
        "GaussianDensity.transform": (lambda: gaussian.transform(X), whiten),
        "GaussianDensity.score_samples": (lambda: gaussian.score_samples(X), square),
    }
    for kind in ("full", "diag"):
        mixture = GaussianMixtureEM(8, covariance_type=kind, max_iter=3, random_state=0)
        mixture.fit(some)
        found[f"GaussianMixtureEM({kind}).score_samples"] = (
            lambda mixture=mixture: mixture.score_samples(X),
            mixture_floor(mixture, x),
        )
    kmeans = KMeansAutoencoder(16, encode="ordinal", random_state=0).fit(some)
    for name, by_min in {"": False, " (by min)": True}.items():
        found[f"KMeansAutoencoder.transform{name}"] = (
            lambda: kmeans.transform(X),
            kmeans_floor(kmeans, x, by_min),
        )
    return found


def in_new_process(code: str) -> list[float]:
    """Numbers that a program prints, in a process of its own."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def speed_lines(n: int) -> Iterator[str]:
    """Yield how long each method takes, and its floor."""
    for name, (ours, floor) in pairs(n).items():
        seconds = interleaved({"ours": ours, "floor": floor}, repeats=15)
        rate = seconds["ours"] / seconds["floor"]
        yield (
            f"{name:42s} {seconds['ours'] * 1e3:8.1f} ms, floor "
            f"{seconds['floor'] * 1e3:8.1f} ms, ratio {rate:.2f}"
        )


def import_lines() -> Iterator[str]:
    """Yield the seconds that an import adds."""
    imports = {statement: list[float]() for statement in STATEMENTS}
    for _ in range(9):
        for statement, runs in imports.items():
            runs += in_new_process(IMPORT.format(statement=statement))
    for statement, runs in imports.items():
        yield f"{statement} adds {median(runs):.2f} s to torch and scikit-learn"


def memory_lines() -> Iterator[str]:
    """Yield the memory that fits take."""
    for model in (
        "skgen.VAE(5, max_iter=1, batch_size=512)",
        "skgen.GaussianDensity()",
        "skgen.GaussianMixtureEM(4, max_iter=2, init_params='random_from_data')",
    ):
        more, data = in_new_process(MEMORY.format(model=model))
        yield f"{model}.fit: {more:.0f} MiB above {data:.0f} MiB of data"


def lines(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table."""
    n = 20_000 if arguments.quick else 100_000
    yield from machine()
    yield f"{n} rows x 30, float32, {arguments.threads} thread"
    with threads(arguments.threads):
        yield from speed_lines(n)
    yield from import_lines()
    yield from memory_lines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    report(lines(arguments), None if arguments.quick else RESULTS)


if __name__ == "__main__":
    main()
