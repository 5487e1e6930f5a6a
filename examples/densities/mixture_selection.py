"""
How many components?
====================

Two answers to one question. The Bayesian information criterion needs no held-out rows
and charges for each parameter; the mean log p(x) of held-out rows is what a density is
for. ``MixtureSearch`` takes either, for numbers of components and types of covariance
together.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_blobs
from sklearn.model_selection import KFold

from skgen import GaussianMixtureEM
from skgen.display import DensityDisplay, SearchCurveDisplay
from skgen.model_selection import MixtureSearch

# %%
# Four clusters, stretched by a common matrix.

X, _ = make_blobs(600, centers=4, cluster_std=0.7, random_state=3)
X = X @ np.array([[0.6, -0.6], [-0.4, 0.8]])

folds = KFold(5, shuffle=True, random_state=0)
searches = {
    criterion: MixtureSearch(
        GaussianMixtureEM(random_state=0, n_init=3),
        n_components=range(1, 9),
        covariance_types=["full", "spherical"],
        criterion=criterion,
        cv=folds,
    ).fit(X)
    for criterion in ("cv", "bic")
}
for criterion, search in searches.items():
    print(criterion, search.best_params_)

# %%
# Both criteria find the four stretched components. Round ones have to tile each cluster
# with several, and go on gaining.

figure, axes = plt.subplots(1, 2, figsize=(13, 4.4), layout="constrained")
for ax, search in zip(axes, searches.values()):
    SearchCurveDisplay.from_estimator(search, param="n_components", ax=ax)
axes[0].set_ylabel("mean held-out log p(x)")
axes[1].set_ylabel("minus BIC")
plt.show()

# %%
# The density that was chosen
# ---------------------------

DensityDisplay.from_estimator(searches["bic"].best_estimator_, X)
plt.show()
