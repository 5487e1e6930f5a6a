"""Seven generative models of scikit-learn's digits, side by side.

Every estimator has the same methods, so one loop fits, scores, reconstructs and
samples them all. The score is the same quantity for all of them, log p(x) in nats per
row (a lower bound of it for the four with networks), so that one table compares them.

What to expect: on rows they have not seen, the mixture and the four networks beat one
full Gaussian by several nats, 64 centres of K-means come near it, and all of them beat
independent pixels by far. The reconstruction error says something else, how much of a
row its code keeps: all of it in the 64 numbers of a Gaussian's code, little in the
five probabilities of a mixture's. About 20 seconds.
"""

from pathlib import Path
from time import perf_counter

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skgen import (
    IWAE,
    VAE,
    VQVAE,
    BetaVAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
)

matplotlib.use("Agg")  # pictures go to files: no display is needed
torch.set_num_threads(1)  # small tensors: more threads only wait for each other
PICTURE = Path(__file__).parent / "output" / "quickstart.png"

FLOOR = "independent pixels"
MODELS = {
    # One normal density a pixel: what a model must beat to have learned anything.
    FLOOR: GaussianDensity(covariance_type="diag"),
    "GaussianDensity": GaussianDensity(reg_covar=1e-2),
    "GaussianMixtureEM": GaussianMixtureEM(5, reg_covar=1e-2, random_state=0),
    "KMeansAutoencoder": KMeansAutoencoder(64, random_state=0),
    "VAE": VAE(max_iter=400, random_state=0),
    "BetaVAE": BetaVAE(beta=2, max_iter=400, random_state=0),
    "IWAE": IWAE(max_iter=400, random_state=0),
    "VQVAE": VQVAE(max_iter=400, random_state=0),
}


def load_rows():
    """Return continuous, standardised digits, their labels, and the way back."""
    X, y = load_digits(return_X_y=True)
    # A density on integers has no ceiling: it can grow as narrow as it likes around
    # each of them. Uniform noise makes the grey levels 0..16 continuous.
    noise = np.random.RandomState(0).uniform(size=X.shape)
    X = (X + noise) / 17
    X_train, X_test, _, y_test = train_test_split(X, y, random_state=0)
    scaler = StandardScaler().fit(X_train)
    return scaler.transform(X_train), scaler.transform(X_test), y_test, scaler


def mean_and_error(values):
    """Return the mean over rows, and its standard error."""
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def beats(log_prob, reference):
    """Whether the mean is higher by two paired standard errors."""
    difference, error = mean_and_error(log_prob - reference)
    return bool(difference > 2 * error)


def fit_and_score(models, X_train, X_test):
    """Print the table; return log p(x) of the held-out rows for each model."""
    print(f"{'':18} {'score':>7} {'+-':>5}   {'vs Gaussian':>11} {'+-':>5}", end="")
    print(f"   {'recon. error':>12} {'fit, s':>7}")
    log_probs = {}
    # The reference comes first; the order of the lines stays that of MODELS.
    reference = models["GaussianDensity"].fit(X_train).score_samples(X_test)
    for name, model in models.items():
        start = perf_counter()
        model.fit(X_train)
        seconds = perf_counter() - start
        log_probs[name] = log_prob = model.score_samples(X_test)
        score, score_error = mean_and_error(log_prob)
        gain, gain_error = mean_and_error(log_prob - reference)
        error = np.mean((model.reconstruct(X_test) - X_test) ** 2)
        print(
            f"{name:18} {score:7.2f} {score_error:5.2f}   {gain:+11.2f} "
            f"{gain_error:5.2f}   {error:12.3f} {seconds:7.2f}",
            flush=True,
        )
    return log_probs


def print_checks(log_probs):
    """Print which models beat the two simplest ones."""
    floor, gaussian = log_probs[FLOOR], log_probs["GaussianDensity"]
    print("\nbetter by two paired standard errors than")
    print(f"{'':18} {FLOOR:>18} {'GaussianDensity':>16}")
    for name, log_prob in log_probs.items():
        if name != FLOOR:
            answers = [
                "yes" if beats(log_prob, other) else "no" for other in (floor, gaussian)
            ]
            print(f"{name:18} {answers[0]:>18} {answers[1]:>16}")


def strip(rows, scaler):
    """Put rows next to each other, as 8 x 8 pictures in grey levels."""
    grey = scaler.inverse_transform(rows) * 17
    pictures = grey.reshape(-1, 8, 8)
    return np.hstack([np.pad(p, 1, constant_values=0) for p in pictures])


def draw_picture(models, log_probs, X_test, y_test, scaler):
    """Save samples and reconstructions of every model, a line each."""
    # One held-out row of each class, so that reconstructions can be told apart.
    originals = X_test[[np.flatnonzero(y_test == digit)[0] for digit in range(10)]]
    n = len(originals)
    lines = [("held-out digits", [originals] * 3)]
    for name, model in models.items():
        blocks = [
            model.sample(n, random_state=1),
            model.sample(n, random_state=1, noise=False),
            model.reconstruct(originals),
        ]
        lines.append((f"{name}\n{log_probs[name].mean():.1f} nats", blocks))

    titles = [
        "samples: sample()",
        "the same without the noise of p(x|z):\nsample(noise=False)",
        "reconstructions of the top line:\nreconstruct()",
    ]
    figure, axes = plt.subplots(
        len(lines), 3, figsize=(15, 6), layout="constrained", squeeze=False
    )
    for line, (label, blocks) in zip(axes, lines, strict=True):
        for ax, rows in zip(line, blocks, strict=True):
            ax.imshow(strip(rows, scaler), cmap="gray_r", vmin=0, vmax=17)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    figure.suptitle("Seven models of 8 x 8 digits (mean log p(x) of held-out rows)")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=100)


def main():
    X_train, X_test, y_test, scaler = load_rows()
    print(
        f"Digits: {len(X_train)} rows to train on, {len(X_test)} held out, "
        f"{X_train.shape[1]} standardised pixels."
    )
    print("score: mean log p(x) of held-out rows, in nats, +- its standard error;")
    print(
        "recon. error: mean squared, per pixel (1 is the mean digit for every row).\n"
    )
    log_probs = fit_and_score(MODELS, X_train, X_test)
    print_checks(log_probs)
    draw_picture(MODELS, log_probs, X_test, y_test, scaler)
    print(f"\nPicture: {PICTURE}")


if __name__ == "__main__":
    main()
