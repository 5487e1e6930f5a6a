"""
A linear VAE is probabilistic PCA
=================================

With linear maps, one sigma, and rows that it does not standardise itself, a VAE is the
model of probabilistic PCA, whose maximum likelihood has a closed form. So gradients
have to arrive where an eigendecomposition starts: a test of the whole machinery, and a
way to see what a VAE does.

What to expect: the bound comes close to the exact likelihood and stays below it, and
both decode to the same subspace.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import orthogonal_procrustes, subspace_angles
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from skgen import VAE, GaussianDensity
from skgen.likelihoods import Gaussian

# A few epochs are meant here: the warning that they are few is not.
warnings.filterwarnings("ignore", category=ConvergenceWarning)

X, y = load_wine(return_X_y=True)
X = StandardScaler().fit_transform(X)
pca = GaussianDensity(2, reg_covar=0).fit(X)

# %%
# The bound after a few epochs, and after many
# --------------------------------------------

model = VAE(
    2,
    hidden_layer_sizes=(),
    likelihood=Gaussian(sigma="shared"),
    standardize=False,
    learning_rate_init=1e-2,
    early_stopping=False,
    n_iter_no_change=1000,
    kl_warmup=0,
    warm_start=True,
    random_state=0,
)
epochs, scores, angles = [], [], []
for n in [2, 3, 5, 10, 20, 40, 60, 100]:
    model.set_params(max_iter=n).fit(X)  # goes on from where it was
    epochs.append(n + (epochs[-1] if epochs else 0))
    scores.append(model.score(X))
    decoded = model.inverse_transform(np.eye(2)) - model.inverse_transform(
        np.zeros((1, 2))
    )
    angles.append(np.degrees(subspace_angles(decoded.T, pca.components_.T)).max())
print(f"probabilistic PCA {pca.score(X):.3f}, linear VAE {scores[-1]:.3f} nats per row")
print(f"largest angle between both subspaces: {angles[-1]:.2f} degrees")

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
left.plot(epochs, scores, marker="o", label="linear VAE, score (a bound)")
left.axhline(
    pca.score(X), color="black", linestyle="--", label="probabilistic PCA, exact"
)
left.set(xscale="log", xlabel="epoch", ylabel="nats per row", title="Log-likelihood")
left.legend(loc="lower right")
right.plot(epochs, angles, marker="o")
right.set(
    xscale="log",
    xlabel="epoch",
    ylabel="degrees",
    title="Largest angle between both subspaces",
    ylim=(0, None),
)
plt.show()

# %%
# The same plane, turned
# ----------------------
#
# The prior looks the same from all sides, so that nothing says which way the axes of a
# code point. A rotation takes one code to the other.

codes = {"GaussianDensity(2)": pca.transform(X), "linear VAE": model.transform(X)}
rotation, _ = orthogonal_procrustes(*reversed(codes.values()))
codes["linear VAE, turned"] = codes["linear VAE"] @ rotation
figure, axes = plt.subplots(
    1, 3, figsize=(13, 4.2), layout="constrained", sharex=True, sharey=True
)
for ax, (name, code) in zip(axes, codes.items()):
    ax.scatter(*code.T, c=y, cmap="viridis", s=12)
    ax.set(title=name, aspect="equal", xlabel="first coordinate of the code")
axes[0].set_ylabel("second coordinate")
plt.show()
