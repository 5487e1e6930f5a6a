"""
A VAE in the place of PCA
=========================

``transform`` gives the latent code of a row, so that any estimator of this library
stands where PCA stands: in ``make_pipeline``, under ``cross_val_score``, with
``set_output`` naming the columns. The code is learned without labels; a logistic
regression then reads the digit from it.

What to expect: a code is worth more labels than as many principal components, most
of all when there are few of them.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgen import VAE

# %%
# Digits with continuous grey levels in [0, 1]: a density on integers has no ceiling.

X, y = load_digits(return_X_y=True, as_frame=True)
X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
X, y = X[:1200], y[:1200]  # enough, and sooner done

# %%
# The pipeline
# ------------
#
# The scaler sees the training folds only. The VAE takes larger steps and has less
# patience than by default, since there are twelve fits to do. It has no linear path,
# from which its code would start near that of PCA.


def make_code(kind, n_components):
    if kind == "PCA":
        return PCA(n_components)
    return VAE(
        n_components,
        linear_path=False,
        learning_rate_init=1e-2,
        n_iter_no_change=5,
        random_state=0,
    )


N_COMPONENTS = [2, 5, 10]
folds = StratifiedKFold(3, shuffle=True, random_state=0)
accuracies = {"PCA": [], "VAE": []}
print("accuracy of a logistic regression on the code, 3-fold cross-validation")
print(f"{'components':>10} {'PCA':>15} {'VAE':>15}")
for n in N_COMPONENTS:
    cells = []
    for kind, found in accuracies.items():
        model = make_pipeline(
            StandardScaler(), make_code(kind, n), LogisticRegression(max_iter=1000)
        )
        found.append(cross_val_score(model, X, y, cv=folds))
        cells.append(f"{found[-1].mean():.3f} +- {found[-1].std():.3f}")
    print(f"{n:>10} {cells[0]:>15} {cells[1]:>15}")

# %%
# Both codes, in two dimensions
# -----------------------------
#
# ``set_output`` names the columns after the step: pca0, pca1; vae0, vae1.

figure, axes = plt.subplots(
    1, 3, figsize=(14, 4.6), layout="constrained", width_ratios=[1, 1, 0.9]
)
for ax, kind in zip(axes, accuracies):
    pipeline = make_pipeline(StandardScaler(), make_code(kind, 2))
    table = pipeline.set_output(transform="pandas").fit_transform(X)
    first, second = table.columns
    points = ax.scatter(
        table[first], table[second], c=y, cmap="tab10", s=6, vmin=-0.5, vmax=9.5
    )
    ax.set(title=f"{kind}, 2 components", xlabel=first, ylabel=second)
figure.colorbar(points, ax=axes[1], ticks=range(10), label="digit")

for kind, found in accuracies.items():
    mean, std = np.mean(found, axis=1), np.std(found, axis=1)
    axes[2].errorbar(N_COMPONENTS, mean, std, marker="o", capsize=3, label=kind)
axes[2].axhline(0.1, color="grey", linestyle=":", label="guessing")
axes[2].set(
    title="Digits read from the code",
    xlabel="number of components",
    ylabel="accuracy (3 folds, mean and deviation)",
    xticks=N_COMPONENTS,
    ylim=(0, 1),
)
axes[2].legend(loc="center right")
print(table.head(3).round(2))
plt.show()
