"""
Reading a training
==================

``loss_curve_``, ``loss_terms_`` and ``validation_curve_`` have what happened, epoch by
epoch, and :class:`skgen.display.LossCurveDisplay` draws them. Two things are worth
looking for: whether held-out rows still gain, and what the KL term does.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, make_moons
from sklearn.exceptions import ConvergenceWarning

from skgen import VAE, GaussianMixtureEM
from skgen.display import LossCurveDisplay
from skgen.likelihoods import Gaussian

X = load_digits().data
# Uniform noise makes the grey levels continuous: a density on integers has no ceiling.
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17

# %%
# A network
# ---------
#
# The KL rises as the code takes up information, and the reconstruction falls by more.
# Training stops where held-out rows have gained nothing for a while; the best weights
# come back.

model = VAE(10, learning_rate_init=5e-3, random_state=0).fit(X)
LossCurveDisplay.from_estimator(model)
plt.show()

# %%
# With and without a warm-up
# --------------------------
#
# Without one, the KL outweighs a code that is not yet of use, and coordinates may be
# given up for good. Two moons with a narrow sigma show it: the warm-up lets the KL grow
# first, and asks for it later.

# Both get as many epochs, few as they are.
warnings.filterwarnings("ignore", category=ConvergenceWarning)

moons, _ = make_moons(600, noise=0.08, random_state=0)
figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained", sharey=True)
for ax, kl_warmup in zip(axes, [0, 30]):
    model = VAE(
        2,
        hidden_layer_sizes=(64, 64),
        learning_rate_init=3e-3,
        likelihood=Gaussian(sigma="shared"),
        kl_warmup=kl_warmup,
        max_iter=80,
        early_stopping=False,
        random_state=0,
    ).fit(moons)
    ax.plot(model.loss_terms_["kl"], label="KL")
    ax.plot([-r for r in model.loss_terms_["reconstruction"]], label="-reconstruction")
    ax.set(
        title=f"kl_warmup={kl_warmup}: score {model.score(moons):.2f} nats, "
        f"{model.active_units_} of 2 coordinates in use",
        xlabel="epoch",
    )
axes[0].set_ylabel("nats per row")
axes[0].legend()
plt.show()

# %%
# EM
# --
#
# Each iteration raises the bound, which is the likelihood itself after an E-step.

mixture = GaussianMixtureEM(8, tol=1e-5, random_state=0)
LossCurveDisplay.from_estimator(mixture.fit(moons))
plt.show()
