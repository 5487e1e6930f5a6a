"""
One model, four answers
=======================

Every estimator encodes rows, decodes codes, draws new rows, and says how likely a row
is. Two moons are flat enough to see all four at once.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

from skgen import IWAE
from skgen.display import DensityDisplay

X, moon = make_moons(1000, noise=0.08, random_state=0)
model = IWAE(
    2, hidden_layer_sizes=(64, 64), learning_rate_init=1e-2, random_state=0
).fit(X)

# %%
# The code lies around the origin, as a normal prior asks; decoded, it is moons again.

codes = model.transform(X)
decoded = model.inverse_transform(codes)
drawn = model.sample(1000, random_state=0)
print(f"{np.mean((decoded - X) ** 2):.4f} mean squared error of the round trip")
print(f"{model.score(X):.2f} nats per row")

figure, axes = plt.subplots(2, 2, figsize=(7, 6), layout="constrained")
(data, code), (new, density) = axes
data.scatter(*X.T, c=moon, s=5, cmap="coolwarm")
data.set_title("X", family="monospace", fontsize=13)
code.scatter(*codes.T, c=moon, s=5, cmap="coolwarm")
code.set_title("transform(X)", family="monospace", fontsize=13)
new.scatter(*drawn.T, s=5, color="C4")
new.set_title("sample(1000)", family="monospace", fontsize=13)
display = DensityDisplay.from_estimator(model, X, ax=density)
display.colorbar_.remove()
display.points_.remove()
density.set_title("score_samples(grid)", family="monospace", fontsize=13)
for ax in axes.flat:
    ax.set(xlabel="", ylabel="", xticks=[], yticks=[])
plt.show()
