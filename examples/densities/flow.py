"""
A flow between rows and a normal
================================

A normalising flow maps rows to a standard normal, one to one. So its density is exact,
every row has a code of as many coordinates, and a code has one row.

What to expect: two moons become one round cloud, in which the moons are still apart; a
grid of codes shows how space was bent; and samples fill the moons and little else.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

from skgen import FlowDensity, GaussianDensity
from skgen.display import DensityDisplay

X, side = make_moons(1000, noise=0.08, random_state=0)
fresh, _ = make_moons(1000, noise=0.08, random_state=1)

# %%
# Three layers of splines, trained by maximum likelihood.

model = FlowDensity(
    hidden_layer_sizes=(32, 32),
    batch_size=50,
    learning_rate_init=1e-2,
    weight_averaging=0.99,
    n_iter_no_change=5,
    random_state=0,
)
model.fit(X)
print(f"one normal {GaussianDensity().fit(X).score(fresh):6.2f}")
print(f"the flow   {model.score(fresh):6.2f} nats per held-out row")

# %%
# Rows, their codes, the density, and lines of codes as rows.

codes = model.transform(X)
back = model.inverse_transform(codes)
print(f"largest error of the inverse: {np.abs(back - X).max():.0e}")

figure, axes = plt.subplots(1, 4, figsize=(15, 4), layout="constrained")
axes[0].scatter(*X.T, c=side, s=5, cmap="coolwarm")
axes[0].set(title="rows")
axes[1].scatter(*codes.T, c=side, s=5, cmap="coolwarm")
axes[1].set(title="their codes: standard normal", aspect="equal")
display = DensityDisplay.from_estimator(model, X, grid_resolution=80, ax=axes[2])
display.points_.remove()
display.colorbar_.remove()
axes[2].set(title="log p(x)", xlabel="", ylabel="")
line = np.linspace(-2.5, 2.5, 200)
for level in np.linspace(-2, 2, 9):
    for code in (np.c_[line, 0 * line + level], np.c_[0 * line + level, line]):
        axes[3].plot(*model.inverse_transform(code).T, lw=0.7, color="0.3")
axes[3].scatter(*model.sample(500, random_state=0).T, s=4, color="C0")
axes[3].set(title="a grid of codes, and samples")
plt.show()
