"""
A generator and a critic
========================

A GAN plays a game: a critic learns to tell rows from samples, and a generator to fool
it. There is neither a density nor an encoder, so that samples have to be judged beside
rows: by a picture, by their discrepancy, by a two-sample test.

What to expect: the generator starts as one normal cloud over all eight clusters, and
the game pulls it apart; the critic is high where rows are missing, and flat at the end;
the discrepancy falls towards zero, while neither loss says anything of the kind.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skgen import GAN
from skgen.metrics import energy_distance

# Fits end after the epochs that they are given: the warning says so.
warnings.filterwarnings("ignore", category=ConvergenceWarning)

angles = np.arange(8) * np.pi / 4
centres = 2 * np.c_[np.cos(angles), np.sin(angles)]


def ring(n, seed):
    """Rows of eight clusters, and the cluster of each."""
    rng = np.random.RandomState(seed)
    label = rng.randint(8, size=n)
    return centres[label] + 0.15 * rng.randn(n, 2), label


X, label = ring(1200, 0)
fresh, _ = ring(1000, 1)
settings = {
    "hidden_layer_sizes": (64, 64),
    "batch_size": 100,
    "learning_rate_init": 2e-3,
    "weight_averaging": 0.98,
    "random_state": 0,
}
game = GAN(2, **settings)

# %%
# The same game, ended after one, five and thirty epochs.

models = {n: clone(game).set_params(max_iter=n).fit(X) for n in (1, 5, 30)}
figure, axes = plt.subplots(1, 4, figsize=(15, 3.8), layout="constrained")
axes[0].scatter(*X.T, s=4, color="0.5")
axes[0].set(title="rows")
grid = np.linspace(-3, 3, 80)
points = np.array([(x0, x1) for x1 in grid for x0 in grid], dtype=np.float32)
for ax, (n, model) in zip(axes[1:], models.items()):
    networks, samples = model.module_, model.sample(1000, random_state=0)
    with torch.no_grad():
        judged = networks.critic(networks.standardizer(torch.from_numpy(points)))
    ax.contourf(grid, grid, judged.reshape(80, 80), levels=20, cmap="RdBu", alpha=0.6)
    ax.scatter(*samples.T, s=3, color="k")
    distance = energy_distance(fresh, samples)
    ax.set(title=f"{n} epochs: energy distance {distance:.3f}")
    print(f"{n:3} epochs: energy distance of samples and fresh rows {distance:.3f}")
for ax in axes:
    ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
plt.show()

# %%
# What the losses say, and what is watched instead.

model = models[30]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for name in ("critic", "generator"):
    left.plot(model.loss_terms_[name], label=name)
left.set(title="losses", xlabel="epoch")
left.legend()
right.semilogy(np.maximum(model.validation_curve_, 1e-4))
right.set(title="squared MMD of held-out rows and samples", xlabel="epoch")
plt.show()

# %%
# Rows of a class: both networks see the label.

given = GAN(2, condition="auto", max_iter=20, **settings).fit(X, label)
figure, ax = plt.subplots(figsize=(4.2, 4), layout="constrained")
for which in range(8):
    samples = given.sample(100, y=which, random_state=0)
    ax.scatter(*samples.T, s=4, label=which)
ax.set(title="samples, by the label asked for", aspect="equal", xticks=[], yticks=[])
ax.legend(markerscale=3, ncols=2, loc="center")
plt.show()
