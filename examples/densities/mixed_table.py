"""
A table of several kinds of columns, with holes
===============================================

:class:`skgen.MixedDensity` takes a table as it is: numbers, counts, booleans and words,
with cells that nobody filled in. It gives one log-density of a row, rows like those of
the table, and what the missing cells may have been.

What to expect: three groups of patients, which the table does not name. The density
finds them through all columns at once, so that an age fills the hole beside a ward, and
a ward the hole beside an age.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from skgen import VAE, MixedDensity
from skgen.display import LatentSpaceDisplay, ManifoldDisplay, SamplesDisplay

rng = np.random.RandomState(0)
n = 600
group = rng.choice(3, n, p=[0.5, 0.3, 0.2])
truth = pd.DataFrame(
    {
        "age": (np.array([25, 50, 75])[group] + 5 * rng.randn(n)).round(1),
        "cost": np.exp(5 + group + 0.4 * rng.randn(n)).round(2),
        "visits": rng.poisson(np.array([1, 3, 8])[group]),
        "ward": np.array(["surgery", "medicine", "geriatrics"])[group],
        "insured": rng.rand(n) < np.array([0.9, 0.6, 0.3])[group],
    }
)
holes = rng.rand(*truth.shape) < 0.2
table = truth.astype({"visits": "Int64", "insured": "boolean"}).mask(holes)
print(table.head())

# %%
# One density of all columns
# --------------------------
# Each column has a density of its kind, which is guessed unless ``kinds`` says it.

quick = {"learning_rate_init": 1e-2, "n_iter_no_change": 10, "random_state": 0}
vae = VAE(2, hidden_layer_sizes=(64,), **quick)
model = MixedDensity(vae).fit(table)
print(pd.Series(model.kinds_).to_string())
print(f"{model.score(table):.2f} nats per row, of the cells that are there")

# %%
# Rows like these
# ---------------
# Samples have the columns of the table, and all cells.

print(model.sample(5, random_state=0))

# %%
# All columns beside those of the data: histograms of numbers and bars of levels. The
# cells that nobody filled in are left out.

SamplesDisplay.from_estimator(model, table)

# %%
# The code that all columns share
# -------------------------------
# The three groups are apart in the code, whichever cells a row has. Below, what each
# place of this plane decodes to: numbers on a scale, levels as colours.

LatentSpaceDisplay.from_estimator(model, table, truth["ward"])
ManifoldDisplay.from_estimator(model)

# %%
# What the holes may have been
# ----------------------------
# Means, and most probable levels; ``noise=True`` draws instead, as multiple imputation
# wants it.

filled = model.impute(table)
ward = holes[:, table.columns.get_loc("ward")]
right = (filled["ward"] == truth["ward"])[ward].mean()
guess = (truth["ward"] == table["ward"].mode()[0])[ward].mean()
print(f"wards filled in rightly: {right:.0%}; the most common one: {guess:.0%}")

age = holes[:, table.columns.get_loc("age")]
drawn = model.impute(table, noise=True, random_state=0)
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
for ax, rows, title in [(axes[0], filled, "means"), (axes[1], drawn, "draws")]:
    ax.plot([10, 95], [10, 95], color="0.7", zorder=0)
    for name in ("surgery", "medicine", "geriatrics"):
        of = age & (truth["ward"] == name).to_numpy()
        ax.scatter(truth["age"][of], rows["age"][of], s=14, label=name)
    ax.set(xlabel="age", title=f"Missing ages, filled in by {title}")
axes[0].set_ylabel("age that was filled in")
axes[1].legend(title="true ward", loc="lower right")
plt.show()
