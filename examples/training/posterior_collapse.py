"""
Posterior collapse, and what helps
==================================

A decoder that knows how columns depend on each other needs no code: the KL term takes
it away, and the encoder is left without a gradient. Each remedy is tried on the same
rows.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skgen import VAE, BetaVAE, InfoVAE
from skgen.likelihoods import Autoregressive, Bernoulli

warnings.filterwarnings("ignore", category=ConvergenceWarning)  # epochs are few
X = (load_digits().data > 7).astype(float)
X = X[:, X.std(axis=0) > 0.05]
train, test = X[:1300], X[1300:]

# %%
# A strong decoder
# ----------------
#
# ``Autoregressive`` makes each pixel depend on the pixels before it, and on the code
# where that helps. The score is the same bound for all models, in nats per row; the KL
# says how many of them the code carries, and ``active_units_`` how many coordinates
# vary. With independent pixels the code carries all that pixels share.

# %%
# Each remedy
# -----------
#
# A warm-up lets the code be of use before it costs; free bits and capacity make its
# first nats free; a minimum rate is a bound on sigma, so that no row can pay less; a
# fast encoder keeps up with a decoder that changes; MMD in the place of half the KL
# leaves the mutual information alone.

settings = {
    "n_components": 8,
    "hidden_layer_sizes": (64,),
    "learning_rate_init": 3e-3,
    "max_iter": 60,
    "random_state": 0,
}
strong = {
    **settings,
    "likelihood": Autoregressive(Bernoulli(), n_hidden=256),
    "kl_warmup": 0,
}
MODELS = {
    "independent pixels": VAE(likelihood="bernoulli", **settings),
    "strong decoder": VAE(**strong),
    "warm-up": VAE(**{**strong, "kl_warmup": 30}),
    "free bits": BetaVAE(beta=1, free_bits=0.5, **strong),
    "capacity": BetaVAE(beta=5, capacity=4, **strong),
    "minimum rate": VAE(min_rate=4.0, **strong),
    "fast encoder": VAE(encoder_rate=5.0, **strong),
    "MMD": InfoVAE(alpha=0.5, mmd_weight=10.0, **strong),
}
rows = {}
print(f"{'':20}{'score':>9}{'KL':>9}{'active units':>15}")
for name, model in MODELS.items():
    model.fit(train)
    rows[name] = model.score(test), model.elbo(test).kl.mean(), model.active_units_
    score, kl, units = rows[name]
    print(f"{name:20}{score:9.2f}{kl:9.2f}{units:15d}")

# %%
# A strong decoder beats independent pixels even where it gives most of the code up. The
# warm-up and free bits bring the code back, and the score gains. The minimum rate holds
# whatever is learned, and costs some of that gain. A faster encoder does little here,
# and the MMD-VAE, whose loss is no bound, has the most of a code and a score below the
# collapsed one: a rate is no gain by itself, but by what the decoder makes of it.

figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained", sharey=True)
places = np.arange(len(rows))
titles = "bound on log p(x), nats per row", "KL, nats per row", "active units of 8"
for ax, title, values in zip(axes, titles, zip(*rows.values())):
    ax.barh(places, values, color=["C3", *["C0"] * (len(rows) - 1)])
    ax.set(title=title, yticks=places, yticklabels=list(rows))
scores = [score for score, *_ in rows.values()]
axes[0].set_xlim(min(scores) - 1, max(scores) + 1)
axes[0].invert_yaxis()
plt.show()
