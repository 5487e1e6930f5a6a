"""
What a plane of codes decodes to
================================

The decoder of a VAE with two coordinates is a curved sheet in the space of images.
Codes spaced equally in probability show all of it: neighbours are alike, and one digit
turns into another without a jump.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_wine

from skgen import VAE
from skgen.display import ManifoldDisplay

X = load_digits().data
# Uniform noise makes the grey levels continuous: a density on integers has no ceiling.
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
model = VAE(
    2,
    hidden_layer_sizes=(256, 64),
    learning_rate_init=1e-2,
    n_iter_no_change=10,
    image_shape=(8, 8),
    random_state=0,
).fit(X)
ManifoldDisplay.from_estimator(model)
plt.show()

# %%
# A table's sheet
# ---------------
#
# The same for the wine data: how each feature changes over the plane. Two causes run
# through the wines, more or less at right angles.

wine = load_wine(as_frame=True).data
model = VAE(2, learning_rate_init=5e-3, random_state=0).fit(wine)
ManifoldDisplay.from_estimator(
    model,
    features=[
        "alcohol",
        "flavanoids",
        "color_intensity",
        "hue",
        "malic_acid",
        "proline",
    ],
)
plt.show()
