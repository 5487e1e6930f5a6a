"""
A threshold for outliers
========================

A density orders rows by how unusual they are; which of them are outliers takes a
threshold. ``DensityOutlierDetector`` holds some rows out of the fit, and calls a row an
outlier if few of them are as unlikely. So the rate of false alarms is the one that was
asked for, whatever the density.

What to expect: p-values of new inliers are spread evenly, also under a density that is
wrong; those of outliers are near zero, the more so the better the density.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

from skgen import GaussianDensity, GaussianMixtureEM
from skgen.outliers import DensityOutlierDetector

X, _ = make_moons(1600, noise=0.07, random_state=0)
train, test = X[:800], X[800:]
outliers = np.random.RandomState(0).uniform([-1.5, -1.2], [2.5, 1.7], size=(800, 2))

detectors = {
    name: DensityOutlierDetector(model, level=0.05, random_state=0).fit(train)
    for name, model in {
        "one Gaussian": GaussianDensity(),
        "mixture of 12": GaussianMixtureEM(12, random_state=0),
    }.items()
}

# %%
# Where the threshold lies, and what p-values are
# -----------------------------------------------

figure, axes = plt.subplots(2, 2, figsize=(10, 7.2), layout="constrained")
u, v = np.meshgrid(np.linspace(-1.5, 2.5, 120), np.linspace(-1.2, 1.7, 120))
grid = np.stack([u.ravel(), v.ravel()], axis=1)
for (name, detector), (plane, bars) in zip(detectors.items(), axes):
    decision = detector.decision_function(grid).reshape(u.shape)
    plane.contourf(
        u, v, decision, levels=[-np.inf, 0, np.inf], colors=["C1", "C0"], alpha=0.2
    )
    plane.scatter(*test.T, s=3, color="C0")
    plane.set(title=f"{name}: inliers are blue", xlabel="first", ylabel="second")
    for rows, label in [(test, "inliers"), (outliers, "uniform rows")]:
        found = np.mean(detector.predict(rows) == -1)
        bars.hist(
            detector.p_values(rows),
            np.linspace(0, 1, 21),
            alpha=0.6,
            label=f"{label}: {found:.0%} flagged",
        )
    bars.set(title=name, xlabel="p-value", ylabel="rows")
    bars.legend()
plt.show()
