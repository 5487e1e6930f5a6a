"""
Rows like those of a table, in real units
=========================================

:class:`skgen.GenerativePipeline` puts transformers in front of a model, and is a
density of the rows as they are: it scores and samples in their units, and gives a
DataFrame back with the names and dtypes of the one it was fitted on.

What to expect: skewed columns of the wine data come out skewed, since the pipeline
draws straight ones and bends them back; without the transformer, a Gaussian misses
their shapes, and more often draws amounts below zero.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.preprocessing import PowerTransformer, StandardScaler

from skgen import GaussianMixtureEM, make_generative_pipeline
from skgen.display import SamplesDisplay

X = load_wine(as_frame=True).data
mixture = GaussianMixtureEM(2, reg_covar=1e-3, random_state=0)
model = make_generative_pipeline(PowerTransformer(), mixture)
model.set_output(transform="pandas").fit(X)

# %%
# A table of wines that never were
# --------------------------------

wines = model.sample(1000, random_state=0)
print(wines[["alcohol", "malic_acid", "color_intensity", "proline"]].head().round(2))

# %%
# Drawn columns over real ones
# ----------------------------

SamplesDisplay.from_estimator(
    model,
    X,
    features=[
        "alcohol",
        "hue",
        "magnesium",
        "flavanoids",
        "color_intensity",
        "proline",
    ],
)
plt.show()

# %%
# The bend has a price: malic acid has a power below zero, and its draws a tail that is
# longer than the data's. Look at such columns before using their draws.

print(X["malic_acid"].describe()[["50%", "max"]])
print(wines["malic_acid"].describe()[["50%", "max"]])

# %%
# And columns together
# --------------------
#
# Marginals are the easier half. Two columns at a time show whether they go together.

pairs = [
    ("flavanoids", "color_intensity"),
    ("alcohol", "proline"),
    ("flavanoids", "hue"),
]
figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
for ax, (first, second) in zip(axes, pairs):
    ax.scatter(wines[first], wines[second], s=6, alpha=0.4, label="drawn")
    ax.scatter(X[first], X[second], s=10, color="black", label="real")
    ax.set(xlabel=first, ylabel=second)
axes[0].legend()
plt.show()

# %%
# What the transformer is worth
# -----------------------------
#
# In nats per row, in the units of the data, whatever the scaler: that is what makes the
# comparison one.

for scaler in [StandardScaler(), PowerTransformer()]:
    other = make_generative_pipeline(scaler, mixture).fit(X[::2])
    below = (np.asarray(other.sample(1000, random_state=0)) < 0).any(axis=1).mean()
    print(
        f"{type(scaler).__name__:18} {other.score(X[1::2]):7.2f} nats a held-out row, "
        f"{below:.1%} of its draws have an amount below zero"
    )
