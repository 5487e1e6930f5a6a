"""
What a label leaves to the code
===============================

A conditional VAE is told which digit a row shows, so that its code is left with how the
digit is written. Holding the code and varying the label writes other digits in one
hand; holding the label and varying the code shows all hands that write one digit.

What to expect: digits in a line of the first picture have one slant and one width. Rows
without labels are of use: a few more are classified right than by the labels alone.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skgen import ConditionalVAE
from skgen.display import ManifoldDisplay

# A few epochs are meant here: the warning that they are few is not.
warnings.filterwarnings("ignore", category=ConvergenceWarning)

X, y = load_digits(return_X_y=True)
# Uniform noise makes the grey levels continuous: a density on integers has no ceiling.
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
settings = {
    "hidden_layer_sizes": (128,),
    "learning_rate_init": 3e-3,
    "image_shape": (8, 8),
    "random_state": 0,
}
model = ConditionalVAE(2, max_iter=60, **settings).fit(X[:1000], y[:1000])

# %%
# Analogies: a row for each of eight digits that the model has not seen, as it is on the
# left. Then its code, decoded under each label.

rows, labels = X[1000:1008], y[1000:1008]
codes = model.transform(rows, labels)
written = [model.inverse_transform(codes, digit) for digit in model.classes_]
_, axes = plt.subplots(8, 11, figsize=(7, 5.4))
for line, images in zip(axes, np.stack([rows, *written], axis=1)):
    for ax, image in zip(line, images):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
for ax, name in zip(axes[0], ["row", *model.classes_]):
    ax.set_title(name)
plt.show()

# %%
# The plane of codes, with the label held.

_, axes = plt.subplots(1, 2, figsize=(9, 4.5))
for ax, digit in zip(axes, (2, 7)):
    ManifoldDisplay.from_estimator(model.conditioned_on(digit), n_steps=9, ax=ax)
    ax.set_title(f"Hands that write {digit}")
plt.show()

# %%
# The label says something about a row, in nats; and by Bayes' rule the row says
# something about its label.

given, alone = model.score(X[1000:], y[1000:]), model.score(X[1000:])
right = (model.predict(X[1000:]) == y[1000:]).mean()
print(f"log p(x|y) {given:.1f}, log p(x) {alone:.1f} nats per row")
print(f"held-out rows that are classified right: {right:.2f}")

# %%
# Few labels
# ----------
#
# -1 stands for a label that is missing.

few = np.where(np.arange(1000) < 60, y[:1000], -1)
for name, n in (("60 rows with labels", 60), ("and 940 without", 1000)):
    model = ConditionalVAE(5, max_iter=40, **settings).fit(X[:n], few[:n])
    right = (model.predict(X[1000:]) == y[1000:]).mean()
    print(f"{name}: {right:.2f} of the held-out rows are classified right")
