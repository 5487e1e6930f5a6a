"""
Holes filled, and rows that meet a condition
============================================

A mixture of Gaussians is fitted to a table with holes, as it is. It fills them with
draws given the rest of their rows, and draws new rows of which something is known.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris

from skgen import GaussianMixtureEM

# %%
# A third of the petal lengths, and a fifth of all other cells, are missing.

flowers = load_iris(as_frame=True).data
rng = np.random.RandomState(0)
hidden = rng.rand(*flowers.shape) < [0.2, 0.2, 0.33, 0.2]
holes = flowers.mask(hidden)
model = GaussianMixtureEM(3, random_state=0).fit(holes)
print("nats per complete row:", round(model.score(flowers), 2))

# %%
# Means of the missing cells lie on a few lines; draws have the spread of the data.

filled = {
    "impute: means": model.impute(holes),
    "impute(noise=True): draws": model.impute(holes, noise=True, random_state=0),
}
x, y = 2, 3  # petal length, petal width
touched = hidden[:, x] | hidden[:, y]
figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
for ax, (title, rows) in zip(axes, filled.items()):
    ax.scatter(*flowers.to_numpy()[:, [x, y]].T, s=12, color="0.8", label="truth")
    ax.scatter(*rows[touched][:, [x, y]].T, s=14, label="with filled cells")
    ax.set(title=title, xlabel=flowers.columns[x], ylabel=flowers.columns[y])
    ax.legend()

# Rows given their petal width, and given that petals are long: conditionals of the
# same density.

wide = model.sample(300, random_state=0, given={"petal width (cm)": 1.5})
long = model.sample(300, random_state=0, given={"petal length (cm)": (5.0, None)})
axes[2].scatter(*flowers.to_numpy()[:, [x, y]].T, s=12, color="0.8")
axes[2].scatter(*wide[:, [x, y]].T, s=8, label="petal width = 1.5")
axes[2].scatter(*long[:, [x, y]].T, s=8, label="petal length > 5")
axes[2].set(title="sample(given=...)", xlabel=flowers.columns[x])
axes[2].legend()
plt.show()
