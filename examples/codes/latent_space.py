"""
The latent space of digits
==========================

Coordinates that are not worth their KL go unused: their posterior stays at the prior,
and ``active_units_`` counts the others. With two, all of a digit has to fit into
a plane, which can be looked at.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skgen import VAE, BetaVAE, GaussianDensity
from skgen.display import LatentSpaceDisplay

X, y = load_digits(return_X_y=True)
# Uniform noise makes the grey levels continuous: a density on integers has no ceiling.
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17

# %%
# A plane, curved and flat
# ------------------------
#
# The VAE's code was learned without labels: that digits of one class come to lie
# together is its own finding. The plane of probabilistic PCA is the best flat one.

quick = {"learning_rate_init": 5e-3, "n_iter_no_change": 10, "random_state": 0}
vae = VAE(2, **quick).fit(X)
pca = GaussianDensity(2).fit(X)
figure, axes = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
LatentSpaceDisplay.from_estimator(pca, X, y, label_name="digit", ax=axes[0])
LatentSpaceDisplay.from_estimator(vae, X, y, label_name="digit", ax=axes[1])
axes[0].get_legend().remove()
plt.show()

# %%
# How many coordinates are in use?
# --------------------------------
#
# Each coordinate's posterior mean varies over the rows by nearly one where it is used,
# and by nothing where it is not. With a beta of 4 a few of 64 are worth what they cost.

many = BetaVAE(64, beta=4, **quick).fit(X)
print(f"{many.active_units_} of 64 coordinates in use")
figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
ax.bar(range(64), sorted(many.latent_variances_, reverse=True))
ax.axhline(0.01, color="grey", linestyle=":", label="in use: above 0.01")
ax.set(
    xlabel="latent coordinate, the most used first",
    ylabel="variance of the posterior mean",
    title="BetaVAE(64, beta=4) on digits",
)
ax.legend()
plt.show()
