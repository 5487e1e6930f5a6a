"""
Seven densities of two moons
============================

Two features are few enough to look at a density itself. ``score_samples`` evaluates
it on a grid, and ranks rows by how unusual they are: uniform noise is told from
moons by a low log-density, as with any outlier detector of scikit-learn.

What to expect: one Gaussian cannot bend. Many components, centres or codes tile the
moons with pieces; the VAEs bend one sheet of codes over both, and leave some mass
between them, IWAE the least.
"""

import matplotlib.pyplot as plt
import numpy as np
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
from skgen.display import DensityDisplay
from skgen.likelihoods import Gaussian

# %%
# Moons to learn from; moons and uniform noise to tell apart.

LEFT, RIGHT, BOTTOM, TOP = -1.75, 2.75, -1.25, 1.75
X, _ = make_moons(1000, noise=0.08, random_state=0)
moons, _ = make_moons(500, noise=0.08, random_state=1)
rng = np.random.RandomState(0)
X_test = np.concatenate([moons, rng.uniform([LEFT, BOTTOM], [RIGHT, TOP], (500, 2))])
is_moon = np.repeat([1, 0], 500)

# %%
# The models
# ----------
#
# On data as small as these, a VAE that learns sigma starts from a wide one and may
# stay there, its code unused. The moons are 0.08 wide and have a standard deviation of
# 0.9 and 0.5: a sigma of 0.15 (standardised) is about that width. More importance
# samples than by default make pictures without grain.

network = {
    "hidden_layer_sizes": (64, 64),
    "learning_rate_init": 1e-2,
    "n_iter_no_change": 20,
    "max_iter": 200,
    "likelihood": Gaussian(sigma=0.15),
    "n_importance_samples": 96,
    "random_state": 0,
}
models = {
    "GaussianDensity": GaussianDensity(),
    "GaussianMixtureEM, 8 components": GaussianMixtureEM(8, random_state=0),
    "KMeansAutoencoder, 32 centres": KMeansAutoencoder(32, random_state=0),
    "VAE": VAE(2, **network),
    "BetaVAE, beta=0.5": BetaVAE(2, beta=0.5, **network),
    "IWAE": IWAE(2, **network),
    "VQVAE, one token of 32 codes": VQVAE(32, n_tokens=1, **network),
}
for model in models.values():
    model.fit(X)

# %%
# The densities
# -------------

figure, axes = plt.subplots(2, 4, figsize=(14, 6.4), layout="constrained")
panels = axes.ravel()
panels[0].scatter(*X_test.T, c=is_moon, s=6, cmap="coolwarm_r")
panels[0].set(title="test rows: moons (blue), noise (red)")
for ax, (name, model) in zip(panels[1:], models.items()):
    display = DensityDisplay.from_estimator(model, X, grid_resolution=64, ax=ax)
    display.points_.remove()
    display.colorbar_.remove()
    ax.set(title=name, xlabel="", ylabel="")
figure.suptitle("log p(x): bright at each one's highest, dark from 10 nats below")
plt.show()

# %%
# The same in numbers
# -------------------
#
# score: mean log p(x) of held-out moons, in nats. mass: the integral of the density
# over the window, 1 if all of it is there; a bound on log p(x) gives a little less. ROC
# AUC: held-out moons against uniform noise, by ``score_samples``.

n = 80
x = LEFT + (RIGHT - LEFT) * (np.arange(n) + 0.5) / n
y = BOTTOM + (TOP - BOTTOM) * (np.arange(n) + 0.5) / n
grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
cell_area = (RIGHT - LEFT) * (TOP - BOTTOM) / n**2

print(f"{'':32} {'score':>6} {'mass':>6} {'ROC AUC':>8}")
for name, model in models.items():
    score = model.score(moons)
    mass = np.exp(model.score_samples(grid)).sum() * cell_area
    auc = roc_auc_score(is_moon, model.score_samples(X_test))
    print(f"{name:32} {score:6.2f} {mass:6.3f} {auc:8.3f}")
