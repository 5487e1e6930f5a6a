"""
Noise, taken out step by step
=============================

A diffusion model learns to take out noise that was added to rows. A row is drawn by
starting from nothing but noise; without a draw on the way, the same steps are a map of
rows to standard normal codes and back, and give an exact density.

What to expect: a normal cloud becomes two moons, and a few steps go most of the way;
with guidance, samples keep away from the other moon, and vary less.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

from skgen import Diffusion, GaussianMixtureEM
from skgen.display import DensityDisplay

X, side = make_moons(1000, noise=0.08, random_state=0)
fresh, fresh_side = make_moons(500, noise=0.08, random_state=1)

model = Diffusion(
    condition="auto",
    hidden_layer_sizes=(64, 64),
    batch_size=100,
    learning_rate_init=5e-3,
    n_times=16,
    n_steps=24,
    n_iter_no_change=15,
    random_state=0,
)
model.fit(X, side)

# %%
# The bound, and the density that it bounds, of rows given their moon.

exact = model.log_likelihood(fresh[:50], y=fresh_side[:50]).mean_log_prob
print(f"bound on log p(x|y) {model.score(fresh[:50], fresh_side[:50]):6.2f}")
print(f"log p(x|y), by the ODE {exact:6.2f} nats per held-out row")
apart = [
    GaussianMixtureEM(4, random_state=0).fit(X[side == y]).score(fresh[fresh_side == y])
    for y in (0, 1)
]
print(f"a mixture of four, for each moon {np.mean(apart):6.2f}")

# %%
# The way: the same normal draws, seen after a part of the steps. A sampler with few
# steps stops on a coarser way, so the pictures are of 1, 2, 4 and 24 steps.

steps = (1, 2, 4, 24)
figure, axes = plt.subplots(1, 6, figsize=(17, 3.2), layout="constrained")
labels = np.arange(600) % 2
for ax, n in zip(axes, steps):
    samples = model.sample(600, y=labels, n_steps=n, random_state=0)
    ax.scatter(*samples.T, c=labels, s=4, cmap="coolwarm")
    ax.set(title=f"{n} steps")
samples = model.sample(600, y=labels, guidance=4, random_state=0)
axes[4].scatter(*samples.T, c=labels, s=4, cmap="coolwarm")
axes[4].set(title="24 steps, guidance 4")
axes[5].scatter(*model.transform(X, side).T, c=side, s=4, cmap="coolwarm")
axes[5].set(title="codes of rows: normal")
for ax in axes[:5]:
    ax.set(xlim=(-1.8, 2.8), ylim=(-1.3, 1.8), xticks=[], yticks=[])
plt.show()

# %%
# The density of each moon.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for ax, y in zip(axes, (0, 1)):
    of_moon = model.conditioned_on(y)
    DensityDisplay.from_estimator(of_moon, X[side == y], grid_resolution=32, ax=ax)
    ax.set(title=f"log p(x|y={y})")
plt.show()
