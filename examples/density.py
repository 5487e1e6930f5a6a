"""The densities that seven models learn from two moons, and outliers found by them.

Two features are few enough to look at a density itself. ``score_samples`` evaluates
it on a grid, and ranks rows by how unusual they are: uniform noise is told from
moons by a low log-density, as with any outlier detector of scikit-learn.

What to expect: one Gaussian cannot bend. Many components, centres or codes tile the
moons with pieces; the VAEs bend one sheet of codes over both, and leave some mass
between them, IWAE the least. About 20 seconds.
"""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import make_moons
from sklearn.metrics import roc_auc_score

from skgen import (
    IWAE,
    VAE,
    VQVAE,
    BetaVAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
)
from skgen.likelihoods import Gaussian

matplotlib.use("Agg")  # pictures go to files: no display is needed
torch.set_num_threads(1)  # small tensors: more threads only wait for each other
PICTURE = Path(__file__).parent / "output" / "density.png"

NETWORK = {
    "hidden_layer_sizes": (64, 64),
    "learning_rate_init": 5e-3,
    "n_iter_no_change": 20,
    "max_iter": 500,
    # On data as small as these, a VAE that learns sigma starts from a wide one and may
    # stay there, its code unused. The moons are 0.08 wide and have a standard
    # deviation of 0.9 and 0.5: a sigma of 0.15 (standardised) is about that width.
    "likelihood": Gaussian(sigma=0.15),
    # More draws than the default, for pictures without grain.
    "n_importance_samples": 256,
    "random_state": 0,
}
MODELS = {
    "GaussianDensity": GaussianDensity(),
    "GaussianMixtureEM, 8 components": GaussianMixtureEM(8, random_state=0),
    "KMeansAutoencoder, 32 centres": KMeansAutoencoder(32, random_state=0),
    "VAE": VAE(2, **NETWORK),
    "BetaVAE, beta=0.5": BetaVAE(2, beta=0.5, **NETWORK),
    "IWAE": IWAE(2, **NETWORK),
    "VQVAE, one token of 32 codes": VQVAE(32, n_tokens=1, **NETWORK),
}

# A window around the moons: left, right, bottom, top.
WINDOW = (-1.75, 2.75, -1.25, 1.75)
# Below this many nats, all is drawn in one colour.
LOWEST = -8


def make_grid(n=100):
    """Return the centres (n * n, 2) of square cells over the window, and their area."""
    left, right, bottom, top = WINDOW
    x = left + (right - left) * (np.arange(n) + 0.5) / n
    y = bottom + (top - bottom) * (np.arange(n) + 0.5) / n
    rows = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return rows, (right - left) * (top - bottom) / n**2


def make_test(rng):
    """Return moons and uniform noise over the window, and which rows are moons."""
    moons, _ = make_moons(500, noise=0.08, random_state=1)
    left, right, bottom, top = WINDOW
    noise = rng.uniform([left, bottom], [right, top], size=moons.shape)
    return np.concatenate([moons, noise]), np.repeat([1, 0], len(moons))


def draw_density(ax, log_prob, X, title):
    """Draw log-density (n * n,) as an image with contours, and rows on top."""
    n = round(len(log_prob) ** 0.5)
    image = np.maximum(log_prob.reshape(n, n), LOWEST)
    drawn = ax.imshow(
        image, extent=WINDOW, origin="lower", cmap="viridis", vmin=LOWEST, vmax=1
    )
    ax.contour(
        image,
        levels=[-6, -4, -2, 0],
        extent=WINDOW,
        colors="white",
        linewidths=0.6,
        linestyles="solid",
    )
    ax.scatter(*X.T, s=1, c="black", alpha=0.3)
    ax.set(title=title, xticks=[-1, 0, 1, 2], yticks=[-1, 0, 1])
    return drawn


def main():
    X, _ = make_moons(1000, noise=0.08, random_state=0)
    X_test, is_moon = make_test(np.random.RandomState(0))
    grid, cell_area = make_grid()

    figure, axes = plt.subplots(
        2, 4, figsize=(16, 6.4), layout="constrained", sharex=True, sharey=True
    )
    panels = axes.ravel()
    panels[0].scatter(*X_test.T, c=is_moon, s=6, cmap="coolwarm_r")
    panels[0].set(title="test rows: moons (blue), noise (red)", aspect="equal")
    panels[0].set(xlim=WINDOW[:2], ylim=WINDOW[2:])

    print("score: mean log p(x) of held-out moons, in nats;")
    print("mass: integral of the density over the window, 1 if all of it is there;")
    print("ROC AUC: held-out moons against uniform noise, by score_samples.\n")
    print(f"{'':32} {'score':>6} {'mass':>6} {'ROC AUC':>8}")
    for ax, (name, model) in zip(panels[1:], MODELS.items(), strict=True):
        model.fit(X)
        score = model.score(X_test[is_moon == 1])
        # A bound on log p(x) gives a little less than the mass.
        log_prob = model.score_samples(grid)
        mass = np.exp(log_prob).sum() * cell_area
        auc = roc_auc_score(is_moon, model.score_samples(X_test))
        print(f"{name:32} {score:6.2f} {mass:6.3f} {auc:8.3f}", flush=True)
        drawn = draw_density(
            ax, log_prob, X, f"{name}\n{score:.2f} nats, AUC {auc:.3f}"
        )

    label = f"log p(x), nats (cut at {LOWEST}; contours at -6, -4, -2, 0)"
    figure.colorbar(drawn, ax=axes, label=label)
    figure.suptitle("Log-densities learned from the black points")
    figure.supxlabel("first feature")
    figure.supylabel("second feature")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=100)
    print(f"\nPicture: {PICTURE}")


if __name__ == "__main__":
    main()
