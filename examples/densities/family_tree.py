"""
Transformers of distributions
=============================

A generative model draws from a prior that is simple, and turns its draws into rows.
Here is every model of tables, on the same two moons: its prior above, and below what it
becomes, in the same colours. Priors are normal, or they are choices among a few codes,
whose frequencies are the bars.

What to expect: a linear map gives an ellipse; choices give blobs; networks bend. A VAE
has noise around what it decodes; a flow and a diffusion model bend the plane one to
one, and a thread joins the moons; a GAN may fold it, and need not use all of its code.
:doc:`The family tree </family_tree>` has the words.
"""

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.exceptions import ConvergenceWarning

from skgen import (
    GAN,
    VAE,
    VQVAE,
    Autoencoder,
    Diffusion,
    FlowDensity,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
)
from skgen.metrics import energy_distance

# Some fits end after the epochs that they are given: the warning says so.
warnings.filterwarnings("ignore", category=ConvergenceWarning)

X, _ = make_moons(1000, noise=0.08, random_state=0)
fresh, _ = make_moons(1000, noise=0.08, random_state=1)

small = {"hidden_layer_sizes": (64, 64), "batch_size": 100, "random_state": 0}
fast = {**small, "learning_rate_init": 5e-3}
models = {
    "Gaussian": GaussianDensity(),
    "mixture": GaussianMixtureEM(8, random_state=0),
    "K-means": KMeansAutoencoder(12, random_state=0),
    "VQ-VAE": VQVAE(16, n_tokens=1, encode="ordinal", **fast),
    "VAE": VAE(2, **fast),
    "autoencoder": Autoencoder(2, latent_density=GaussianMixtureEM(5), **fast),
    "flow": FlowDensity(n_iter_no_change=5, **fast),
    "diffusion": Diffusion(n_iter_no_change=10, n_steps=32, **fast),
    "GAN": GAN(2, max_iter=20, weight_averaging=0.99, **fast),
}

# %%
# Draws of a prior, and the rows that they become.


def choices(model, n):
    """Codes of rows that are drawn: one of a few."""
    rows = model.sample(n, random_state=0)
    found = model.predict(rows) if hasattr(model, "predict") else model.transform(rows)
    return np.ravel(found).astype(int), rows


def places(model, n):
    """Codes (n, 2) of the prior, and their rows: the decoded means, without noise."""
    if isinstance(model, Autoencoder):
        codes = model.latent_density_.sample(n, random_state=0)
    else:
        codes = np.random.RandomState(0).normal(size=(n, 2))
    return codes, model.inverse_transform(codes)


figure, axes = plt.subplots(2, 10, figsize=(20, 4.4), layout="constrained")
axes[0, 0].axis("off")
axes[0, 0].text(0.5, 0.5, "prior p(z)\nabove,\nrows below", ha="center", va="center")
axes[1, 0].scatter(*X.T, s=2, color="0.4")
axes[1, 0].set(title="data")
print(f"{'':12}{'log p(x)':>9}{'energy distance':>17}{'seconds':>9}")
for (name, model), (above, below) in zip(models.items(), axes[:, 1:].T):
    start = time.perf_counter()
    model.fit(X)
    seconds = time.perf_counter() - start
    score = f"{model.score(fresh):.2f}" if hasattr(model, "score") else "none"
    distance = energy_distance(fresh, model.sample(1000, random_state=0))
    print(f"{name:12}{score:>9}{distance:17.4f}{seconds:9.1f}")
    if name in ("mixture", "K-means", "VQ-VAE"):
        codes, rows = choices(model, 800)
        values, counts = np.unique(codes, return_counts=True)
        above.bar(values, counts, color=plt.get_cmap("tab20")(values % 20))
        colours = plt.get_cmap("tab20")(codes % 20)
    else:
        codes, rows = places(model, 800)
        angle = np.arctan2(*(codes - codes.mean(0)).T)
        colours = plt.get_cmap("hsv")((angle / np.pi + 1) / 2)
        above.scatter(*codes.T, s=3, c=colours)
    below.scatter(*X[:300].T, s=1, color="0.8")
    below.scatter(*rows.T, s=3, c=colours)
    above.set(title=name)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
for ax in axes[1]:
    ax.set(xlim=(-1.8, 2.8), ylim=(-1.3, 1.8))
plt.show()
