"""
Codes of an autoencoder and of a VAE
====================================

Both have an encoder and a decoder, and codes of two coordinates here. An autoencoder is
trained to bring rows back, and nothing else: its codes lie where they like, with holes
between them. A VAE also pays for codes that tell rows apart more than it is worth: they
fill a standard normal density without holes, and reconstructions are looser.

What to expect: the codes of the autoencoder spread wider, with gaps, and its
reconstructions are closer to the rows that it was trained on; on other rows the two are
about even. With a mixture that is fitted to its codes it is a density, too, and its
score compares with that of the VAE.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skgen import VAE, Autoencoder, GaussianMixtureEM
from skgen.display import LatentSpaceDisplay, ManifoldDisplay, ReconstructionDisplay

# A few epochs are meant here: the warning that they are few is not.
warnings.filterwarnings("ignore", category=ConvergenceWarning)

X, y = load_digits(return_X_y=True)
# Uniform noise makes the grey levels continuous: a density on integers has no ceiling.
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
rows, others = X[:1000], X[1000:]
settings = {
    "hidden_layer_sizes": (128,),
    "learning_rate_init": 3e-3,
    "image_shape": (8, 8),
    "max_iter": 80,
    "random_state": 0,
}
density = GaussianMixtureEM(10, random_state=0)
models = {
    "Autoencoder": Autoencoder(2, latent_density=density, **settings),
    "VAE": VAE(2, **settings),
}
for model in models.values():
    model.fit(rows)

# %%
# Codes
# -----

_, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
for ax, (name, model) in zip(axes, models.items()):
    LatentSpaceDisplay.from_estimator(model, rows, y=y[:1000], latents=(0, 1), ax=ax)
    ax.set_title(name)
plt.show()

# %%
# Reconstructions of rows that neither has seen
# ---------------------------------------------

_, axes = plt.subplots(2, 1, figsize=(8, 5))
for ax, (name, model) in zip(axes, models.items()):
    ReconstructionDisplay.from_estimator(model, others[:10], ax=ax)
    ax.set_title(name)
plt.show()

# %%
# Tightness: how far reconstructions are from rows, of those that were trained on and of
# others; and how far the codes spread.

for name, model in models.items():
    errors = [((part - model.reconstruct(part)) ** 2).mean() for part in (rows, others)]
    spread = model.transform(rows).std(axis=0).max()
    print(f"{name}: mean squared error {errors[0]:.4f}, of other rows {errors[1]:.4f}")
    print(f"    codes spread by {spread:.1f}, held-out score {model.score(others):.1f}")

# %%
# The plane of codes
# ------------------

_, axes = plt.subplots(1, 2, figsize=(9, 4.5))
for ax, (name, model) in zip(axes, models.items()):
    ManifoldDisplay.from_estimator(model, n_steps=12, ax=ax)
    ax.set_title(name)
plt.show()
