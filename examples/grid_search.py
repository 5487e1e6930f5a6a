"""
Searching over beta, and over a codebook
========================================

The score of every estimator is log p(x) of the rows in nats, or a lower bound of it.
It never contains beta, nor any part of a training loss, so that the searches below
compare like with like: one beta with another, and a BetaVAE with a VQVAE.

What to expect: the best beta is inside the grid, and a long way above it the code
falls out of use; more codes are better, up to the largest codebook tried. A bound
has a gap, though, which grows as beta falls: ``log_likelihood``, with many more
draws, is the careful estimate for the finalists.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import KFold, train_test_split

from skgen import VQVAE, BetaVAE
from skgen.display import SearchCurveDisplay
from skgen.exceptions import DegenerateWeightsWarning
from skgen.model_selection import BatchedGridSearchCV

# %%
# Some digits with continuous grey levels, to search on and to test on. There is no
# scaler: the networks standardise inside, and their densities are those of the rows as
# given. Small units make large densities, here above 1.

X, _ = load_digits(return_X_y=True)
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
X_train, X_test = train_test_split(X, train_size=400, test_size=200, random_state=0)

# %%
# The searches
# ------------
#
# There is no ``scoring``: the default is ``estimator.score``, the mean log p(x) in
# nats. Networks are smaller, steps larger and patience shorter than by default, so that
# this takes seconds. ``BatchedGridSearchCV`` is scikit-learn's ``GridSearchCV`` with
# candidates of one structure trained as one batch.

quick = {
    "hidden_layer_sizes": (64,),
    "learning_rate_init": 1e-2,
    "n_iter_no_change": 5,
    "random_state": 0,
}
folds = KFold(3, shuffle=True, random_state=0)
searches = {
    "beta": BatchedGridSearchCV(
        BetaVAE(**quick), {"beta": [0.25, 0.5, 1, 2, 4]}, cv=folds
    ),
    "codebook_size": BatchedGridSearchCV(
        VQVAE(n_tokens=4, **quick), {"codebook_size": [4, 16, 32]}, cv=folds
    ),
}
print("Mean log p(x) in nats over 3 folds, +- its deviation over the folds.")
print("It is the same quantity in both tables: they may be compared.")
for name, search in searches.items():
    results = search.fit(X_train).cv_results_
    print(f"\n{type(search.estimator).__name__}, {name}")
    for value, mean, std in zip(
        results[f"param_{name}"], results["mean_test_score"], results["std_test_score"]
    ):
        mark = "  <- best" if value == search.best_params_[name] else ""
        print(f"{value:>8} {mean:8.2f} +- {std:.2f}{mark}")

# %%
# The curves
# ----------

figure, axes = plt.subplots(1, 2, figsize=(13, 4.4), layout="constrained", sharey=True)
for ax, search in zip(axes, searches.values()):
    SearchCurveDisplay.from_estimator(search, ax=ax)
axes[1].set_ylabel("")
plt.show()

# %%
# The finalists
# -------------
#
# On rows that no search saw, by the bound and by the careful estimate.

beta = searches["beta"].best_params_["beta"]
size = searches["codebook_size"].best_params_["codebook_size"]
finalists = {
    f"BetaVAE, beta={beta} (best)": searches["beta"].best_estimator_,
    "BetaVAE, beta=0.25": BetaVAE(beta=0.25, **quick).fit(X_train),
    f"VQVAE, {size} codes (best)": searches["codebook_size"].best_estimator_,
}
# A few unusual digits rest on few of the draws, as a warning says: their estimates are
# low, and so are the means.
warnings.simplefilter("ignore", DegenerateWeightsWarning)
print(f"{'held-out rows':28} {'score':>7} {'log_likelihood':>17} {'gap':>6}")
for name, model in finalists.items():
    score, careful = model.score(X_test), model.log_likelihood(X_test, n_samples=500)
    estimate = f"{careful.mean_log_prob:.2f} +- {careful.mean_standard_error:.2f}"
    print(f"{name:28} {score:7.2f} {estimate:>17} {careful.mean_log_prob - score:6.2f}")
