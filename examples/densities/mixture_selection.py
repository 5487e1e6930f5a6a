"""
How many components?
====================

Two answers to one question. The Bayesian information criterion needs no held-out rows
and charges for each parameter; the mean log p(x) of held-out rows, which a grid search
takes, is what a density is for. Both are drawn here for two kinds of covariance.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, KFold

from skgen import GaussianMixtureEM
from skgen.display import DensityDisplay, SearchCurveDisplay

# %%
# Four clusters, stretched by a common matrix.

X, _ = make_blobs(600, centers=4, cluster_std=0.7, random_state=3)
X = X @ np.array([[0.6, -0.6], [-0.4, 0.8]])

sizes = list(range(1, 9))
grid = {"n_components": sizes, "covariance_type": ["full", "spherical"]}
search = GridSearchCV(
    GaussianMixtureEM(random_state=0, n_init=3),
    grid,
    cv=KFold(5, shuffle=True, random_state=0),
).fit(X)
print(search.best_params_)

# %%
# Both criteria find the four stretched components. Round ones have to tile each cluster
# with several, and go on gaining.

figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.4), layout="constrained")
SearchCurveDisplay.from_estimator(search, param="n_components", ax=left)
for kind in grid["covariance_type"]:
    bic = [
        GaussianMixtureEM(n, covariance_type=kind, n_init=3, random_state=0)
        .fit(X)
        .bic(X)
        for n in sizes
    ]
    right.plot(sizes, bic, marker="o", label=f"covariance_type = {kind}")
right.set(xlabel="n_components", ylabel="BIC (lower is better)", title="bic(X)")
right.legend()
plt.show()

# %%
# The density that was chosen
# ---------------------------

DensityDisplay.from_estimator(search.best_estimator_, X)
plt.show()
