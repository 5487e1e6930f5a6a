"""
Networks of your own
====================

``encoder=`` and ``decoder=`` take a factory of a torch module. Here are convolutional
ones for images of 8 x 8 pixels, which are too small for ``architecture="conv"``, beside
the default fully connected ones.

What to expect: on images as small as these both do about as well. The point is how
little there is to write.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skgen import VAE
from skgen.display import LossCurveDisplay, SamplesDisplay

X = load_digits().data
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
X_train, X_test = train_test_split(X, random_state=0)

# %%
# A factory is asked for a module from ``n_inputs`` to ``n_outputs`` numbers per row. It
# need not know what the model does with them.


def encoder(n_inputs, n_outputs):
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(32 * 2 * 2, n_outputs),
    )


def decoder(n_inputs, n_outputs):
    return nn.Sequential(
        nn.Linear(n_inputs, 32 * 2 * 2),
        nn.SiLU(),
        nn.Unflatten(1, (32, 2, 2)),
        nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        nn.Flatten(),
    )


# %%
# Fit both
# --------

quick = {"learning_rate_init": 1e-2, "n_iter_no_change": 5, "image_shape": (8, 8)}
models = {
    "fully connected": VAE(10, random_state=0, **quick),
    "convolutional": VAE(10, encoder=encoder, decoder=decoder, random_state=0, **quick),
}
print(f"{'':16} {'score':>6} {'weights':>8}")
for name, model in models.items():
    model.fit(X_train)
    parts = [model.module_.encoder, model.module_.decoder]
    n_weights = sum(p.numel() for part in parts for p in part.parameters())
    print(f"{name:16} {model.score(X_test):6.2f} {n_weights:8}")

# %%
# What they draw
# --------------

figure, axes = plt.subplots(1, 2, figsize=(13, 4), layout="constrained")
for ax, (name, model) in zip(axes, models.items()):
    SamplesDisplay.from_estimator(model, n_samples=40, ax=ax)
    ax.set_title(f"{name}: {model.score(X_test):.1f} nats a held-out row")
plt.show()

# %%
# How the convolutional one learned
# ---------------------------------

LossCurveDisplay.from_estimator(models["convolutional"])
plt.show()
