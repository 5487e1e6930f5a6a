"""
What a code keeps of a row
==========================

Encoding and decoding again shows what a code of few numbers has kept. More coordinates
keep more, up to where a VAE leaves them unused; principal components go on to copy
noise.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_wine
from sklearn.model_selection import train_test_split

from skgen import VAE, VQVAE, GaussianDensity
from skgen.display import ReconstructionDisplay

X = load_digits().data
# Uniform noise makes the grey levels continuous: a density on integers has no ceiling.
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
X_train, X_test = train_test_split(X, random_state=0)

# %%
# Held-out digits, decoded from 2 and from 16 numbers, and from 8 tokens (48 bits).

quick = {
    "learning_rate_init": 1e-2,
    "n_iter_no_change": 5,
    "image_shape": (8, 8),
    "random_state": 0,
}
models = {
    "VAE, 2 coordinates": VAE(2, **quick),
    "VAE, 16 coordinates": VAE(16, **quick),
    "VQVAE, 8 tokens of 64 codes": VQVAE(64, n_tokens=8, **quick),
}


def squared_error(model):
    """Mean over held-out rows and their pixels."""
    return np.mean((model.reconstruct(X_test) - X_test) ** 2)


figure, axes = plt.subplots(3, 1, figsize=(8, 7), layout="constrained")
for ax, (name, model) in zip(axes, models.items()):
    error = squared_error(model.fit(X_train))
    ReconstructionDisplay.from_estimator(model, X_test, ax=ax)
    ax.set_title(f"{name}: mean squared error {error:.4f}")
plt.show()

# %%
# By number of coordinates
# ------------------------

sizes = [2, 4, 8, 16]
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
by_size = {
    "GaussianDensity": [GaussianDensity(n).fit(X_train) for n in sizes],
    "VAE": [
        models["VAE, 2 coordinates"],
        *(VAE(n, **quick).fit(X_train) for n in sizes[1:-1]),
        models["VAE, 16 coordinates"],
    ],
}
for name, fitted in by_size.items():
    ax.plot(sizes, [*map(squared_error, fitted)], marker="o", label=name)
ax.set(
    xscale="log",
    yscale="log",
    xlabel="n_components",
    ylabel="mean squared error, held-out digits",
    title="What is lost",
)
ax.set_xticks(sizes, sizes)
ax.set_xticks([], minor=True)
ax.legend()
plt.show()

# %%
# A table
# -------
#
# Thirteen features of wines from three numbers: what lies on the line is kept.

wine = load_wine(as_frame=True).data
model = VAE(3, learning_rate_init=5e-3, random_state=0).fit(wine)
ReconstructionDisplay.from_estimator(
    model,
    wine,
    features=["flavanoids", "proline", "color_intensity", "hue", "magnesium", "ash"],
)
plt.show()
