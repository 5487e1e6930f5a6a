"""
Between two rows, and towards an attribute
==========================================

Halfway between two images, pixel by pixel, is a double exposure. Halfway between their
codes is a digit of its own: the decoder has learned what digits look like. And a
difference of mean codes is a direction that adds an attribute to any row.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skgen import VAE
from skgen.display import InterpolationDisplay, ReconstructionDisplay
from skgen.latent import attribute_vector

X, y = load_digits(return_X_y=True)
# Uniform noise makes the grey levels continuous: a density on integers has no ceiling.
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
model = VAE(10, learning_rate_init=3e-3, image_shape=(8, 8), random_state=0).fit(X)

# %%
# From a 0 to a 6, and from a 1 to a 7
# ------------------------------------

for a, b in [(0, 6), (1, 7)]:
    InterpolationDisplay.from_estimator(
        model, X[y == a][0], X[y == b][0], path="spherical"
    )
    plt.show()

# %%
# The same way through pixels is a cross-fade.

a, b = X[y == 0][0], X[y == 6][0]
faded = np.linspace(a, b, 9)
InterpolationDisplay(faded, np.stack([a, b]), (8, 8), title="Through pixels").plot()
plt.show()

# %%
# An attribute: a bar at the foot
# -------------------------------
#
# Ones with a foot, and ones without: the difference of their mean codes, added to ones
# that have none.

ones = X[y == 1]
foot = ones.reshape(-1, 8, 8)[:, 7, 2:7].mean(axis=1)
has_foot = foot > np.median(foot)
vector = attribute_vector(model, ones, has_foot)

plain = ones[np.argsort(foot)[:10]]
with_foot = model.inverse_transform(model.transform(plain) + 2 * vector)
display = ReconstructionDisplay(
    plain, with_foot, image_shape=(8, 8), title="Ones, and the same with more foot"
).plot()
plt.show()
