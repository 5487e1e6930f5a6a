"""
Outliers by their log-density
=============================

A model of ordinary rows gives unusual ones a low log p(x). Here a density learns benign
tumours of the breast cancer data, thirty measured features each, and has to find the
malignant ones among held-out tumours. No label of a malignant one is ever seen.

What to expect: a mixture and a VAE find most of them; so does a single Gaussian, whose
tails are about right here. The curves are those of any detector.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import PowerTransformer

from skgen import VAE, GaussianDensity, GaussianMixtureEM, make_generative_pipeline

X, y = load_breast_cancer(return_X_y=True)
is_malignant = y == 0
X_train, X_test, _, malignant = train_test_split(
    X[~is_malignant], is_malignant[~is_malignant], test_size=0.4, random_state=0
)
X_test = np.concatenate([X_test, X[is_malignant]])
malignant = np.concatenate([malignant, is_malignant[is_malignant]])

# %%
# The features are skewed: a ``PowerTransformer`` makes them straight, and
# ``GenerativePipeline`` keeps scores in the units of the data.

models = {
    "GaussianDensity": GaussianDensity(reg_covar=1e-3),
    "GaussianMixtureEM": GaussianMixtureEM(2, reg_covar=1e-3, random_state=0),
    "VAE": VAE(5, learning_rate_init=3e-3, random_state=0),
}
models = {
    name: make_generative_pipeline(PowerTransformer(), model).fit(X_train)
    for name, model in models.items()
}

# %%
# How unusual, and how well told apart
# ------------------------------------

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
unusual = -models["VAE"].score_samples(X_test)
bins = np.linspace(unusual.min(), np.quantile(unusual, 0.99), 40)
for label, name in [(False, "benign"), (True, "malignant")]:
    left.hist(
        np.clip(unusual[malignant == label], None, bins[-1]),
        bins,
        alpha=0.6,
        label=name,
    )
left.set(
    title="VAE trained on benign tumours",
    xlabel="-log p(x), nats (the largest are in the last bar)",
    ylabel="held-out rows",
)
left.legend()
for name, model in models.items():
    RocCurveDisplay.from_predictions(
        malignant, -model.score_samples(X_test), name=name, ax=right
    )
right.set_title("Malignant tumours, found without their labels")
plt.show()
