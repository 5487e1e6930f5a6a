"""Compare VQVAE with a VAE on Fashion-MNIST, in bits per dimension at equal compute.

    python benchmarks/fashion_tokens.py --folder FOLDER [--models MODELS]
        [--rows 30000] [--epochs 12] [--vae-epochs 45] [--draws 1000]

FOLDER has the four files of Fashion-MNIST (``skgen.datasets.load_fashion_mnist``).
Both models are convolutional, with a discretised logistic over the 8-bit pixels, and
are trained at once, on one thread each. An epoch of the VQVAE, its prior included,
takes as long as 3.8 of the VAE, so the VAE gets so many more (``--vae-epochs``); the
seconds of the processor are in the results. The trained models are kept in MODELS: a
second run, with other draws, only scores them. On held-out images: the bound of
``log_likelihood`` in bits per dimension, their difference paired by row, and the
perplexity of the codebook.
Results go to ``benchmarks/results/fashion_tokens.txt``, and the picture (images, their
reconstructions, samples of the learned prior, of independent tokens, and of the VAE)
to ``docs/images/fashion_tokens.png``.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from token_prior import with_independent_tokens

from skgen import VAE, VQVAE, load, save
from skgen.datasets import load_fashion_mnist
from skgen.metrics import bits_per_dimension, codebook_perplexity

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "fashion_tokens.txt"
PICTURE = HERE.parent / "docs" / "images" / "fashion_tokens.png"
IMAGES: dict[str, Any] = {
    "architecture": "conv",
    "image_shape": (28, 28),
    "likelihood": "discretized_logistic",
    "batch_size": 32,
    "learning_rate": "cosine",
    "random_state": 0,
}


def models(epochs: dict[str, int]) -> dict[str, Any]:
    return {
        "VQVAE": VQVAE(512, code_size=16, max_iter=epochs["VQVAE"], **IMAGES),
        "VAE": VAE(32, max_iter=epochs["VAE"], **IMAGES),
    }


def trained(model: Any, X: np.ndarray, folder: Path) -> tuple[Any, float]:
    """Return the fitted model and its seconds, from ``folder`` where it is there."""
    import torch

    torch.set_num_threads(1)
    name = f"{type(model).__name__}-{len(X)}-{model.max_iter}"
    path, seconds = folder / f"{name}.skgen", folder / f"{name}.seconds"
    if not path.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            start = time.process_time()
            model.fit(X)
            seconds.write_text(str(time.process_time() - start))
        save(model, path)
    return load(path), float(seconds.read_text())


def likelihood(model: Any, test: np.ndarray, draws: int) -> Any:
    import torch

    torch.set_num_threads(1)
    return model.log_likelihood(test, n_samples=draws)


def line(name: str, model: Any, seconds: float, estimate: Any, test: np.ndarray) -> str:
    bits = bits_per_dimension(estimate.log_prob, test.shape[1])
    return (
        f"{name:6s} {bits.mean():.4f} bits per dimension "
        f"({-estimate.mean_log_prob:.1f} nats, score {model.score(test):.1f}; "
        f"Monte Carlo error {estimate.mean_standard_error:.2f}), "
        f"{model.n_iter_} epochs, {seconds:.0f} s"
    )


def report(
    fitted: dict[str, Any], seconds: dict[str, float], test: np.ndarray, draws: int
) -> str:
    estimates = dict(
        zip(
            fitted,
            Parallel(n_jobs=2)(
                delayed(likelihood)(model, test, draws) for model in fitted.values()
            ),
        )
    )
    lines = [
        line(name, fitted[name], seconds[name], estimates[name], test)
        for name in fitted
    ]
    gap = bits_per_dimension(
        estimates["VQVAE"].log_prob - estimates["VAE"].log_prob, test.shape[1]
    )
    error = gap.std(ddof=1) / np.sqrt(len(gap))
    lines.append(f"VQVAE less VAE, paired by row: {gap.mean():+.4f} +- {error:.4f}")
    vqvae = fitted["VQVAE"]
    independent = with_independent_tokens(vqvae).score(test)
    tokens = copy.copy(vqvae).set_params(encode="ordinal").transform(test)
    prior_loss = " ".join(f"{loss:.1f}" for loss in vqvae.prior_curve_)
    lines += [
        f"score with independent tokens {independent:.1f}",
        f"perplexity on {len(test)} held-out images: {codebook_perplexity(tokens):.0f}",
        f"weight of the learned prior {vqvae.prior_mixing_:.2f}, its loss {prior_loss}",
        f"active units of the VAE: {fitted['VAE'].active_units_}",
    ]
    return "\n".join(lines)


def draw(fitted: dict[str, Any], test: np.ndarray, n: int = 12) -> None:
    vqvae, vae = fitted["VQVAE"], fitted["VAE"]
    without = with_independent_tokens(vqvae)
    rows = {
        "images": test[:n],
        "VQVAE: reconstructions": vqvae.reconstruct(test[:n]),
        "VQVAE: samples": vqvae.sample(n, noise=False, random_state=0),
        "independent tokens": without.sample(n, noise=False, random_state=0),
        "VAE: samples": vae.sample(n, noise=False, random_state=0),
    }
    figure, axes = plt.subplots(len(rows), 1, figsize=(n, 1.25 * len(rows)))
    for ax, (name, images) in zip(axes, rows.items()):
        strip = images.reshape(n, 28, 28).transpose(1, 0, 2).reshape(28, -1)
        ax.imshow(strip, cmap="gray_r", vmin=0, vmax=255)
        ax.set_title(name, loc="left", fontsize=9)
        ax.axis("off")
    figure.tight_layout()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--models", type=Path, default=Path("fashion_models"))
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--vae-epochs", type=int, default=45)
    parser.add_argument("--test-rows", type=int, default=150)
    parser.add_argument("--draws", type=int, default=1_000)
    arguments = parser.parse_args()
    X = load_fashion_mnist(arguments.folder).data.astype(np.float32)
    test = load_fashion_mnist(arguments.folder, subset="test").data.astype(np.float32)
    X, test = X[: arguments.rows], test[: arguments.test_rows]
    arguments.models.mkdir(exist_ok=True)
    epochs = {"VQVAE": arguments.epochs, "VAE": arguments.vae_epochs}
    fits = Parallel(n_jobs=2)(
        delayed(trained)(model, X, arguments.models)
        for model in models(epochs).values()
    )
    fitted = {name: model for name, (model, _) in zip(epochs, fits)}
    seconds = {name: each for name, (_, each) in zip(epochs, fits)}
    lines = (
        f"{len(X)} training images, {len(test)} held out, {arguments.draws} draws\n"
        f"{report(fitted, seconds, test, arguments.draws)}"
    )
    print(lines)
    RESULTS.write_text(lines + "\n")
    draw(fitted, test)


if __name__ == "__main__":
    main()
