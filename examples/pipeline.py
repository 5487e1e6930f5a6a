"""A VAE as a step of a pipeline, in the place of PCA.

``transform`` gives the latent code of a row, so that any estimator of this library
stands where PCA stands: in ``make_pipeline``, under ``cross_val_score``, with
``set_output`` naming the columns. The code is learned without labels; a logistic
regression then reads the digit from it.

What to expect: a code is worth more labels than as many principal components, most
of all when there are few of them. About 20 seconds.
"""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgen import VAE

matplotlib.use("Agg")  # pictures go to files: no display is needed
torch.set_num_threads(1)  # small tensors: more threads only wait for each other
PICTURE = Path(__file__).parent / "output" / "pipeline.png"
N_COMPONENTS = [2, 5, 10, 20]


def load_rows():
    """Return digits with continuous grey levels in [0, 1], and their labels."""
    X, y = load_digits(return_X_y=True, as_frame=True)
    # A density on integers has no ceiling; uniform noise makes the levels continuous.
    noise = np.random.RandomState(0).uniform(size=X.shape)
    return (X + noise) / 17, y


def make_vae(n_components):
    # Larger steps and less patience than the defaults: there are twelve fits to do.
    return VAE(
        n_components, learning_rate_init=3e-3, n_iter_no_change=5, random_state=0
    )


def make_classifier(code):
    """Scale, encode, classify: the scaler sees the training folds only."""
    return make_pipeline(StandardScaler(), code, LogisticRegression(max_iter=1000))


def compare(X, y):
    """Print and return accuracies (n_folds,) for each code and number of components."""
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    print("accuracy of a logistic regression on the code, 3-fold cross-validation")
    print(f"{'components':>10} {'PCA':>15} {'VAE':>15}")
    accuracies = {"PCA": [], "VAE": []}
    for n in N_COMPONENTS:
        cells = []
        for name, code in {"PCA": PCA(n), "VAE": make_vae(n)}.items():
            accuracy = cross_val_score(make_classifier(code), X, y, cv=folds)
            accuracies[name].append(accuracy)
            cells.append(f"{accuracy.mean():.3f} +- {accuracy.std():.3f}")
        print(f"{n:>10} {cells[0]:>15} {cells[1]:>15}", flush=True)
    return accuracies


def draw_codes(figure, X, y):
    """Draw the two-dimensional codes of all rows, coloured by their digit."""
    for ax, code in zip(figure.subplots(1, 2), [PCA(2), make_vae(2)], strict=True):
        pipeline = make_pipeline(StandardScaler(), code)
        # Columns are named after the step: pca0, pca1; vae0, vae1.
        table = pipeline.set_output(transform="pandas").fit_transform(X)
        first, second = table.columns
        points = ax.scatter(
            table[first], table[second], c=y, cmap="tab10", s=6, vmin=-0.5, vmax=9.5
        )
        ax.set(title=f"{type(code).__name__}, 2 components", xlabel=first)
        ax.set_ylabel(second)
    figure.colorbar(points, ticks=range(10), label="digit")
    return table


def draw_accuracies(ax, accuracies):
    for name, folds in accuracies.items():
        mean, std = np.mean(folds, axis=1), np.std(folds, axis=1)
        ax.errorbar(N_COMPONENTS, mean, std, marker="o", capsize=3, label=name)
    ax.axhline(0.1, color="grey", linestyle=":", label="guessing")
    ax.set(
        title="Digits read from the code",
        xlabel="number of components",
        ylabel="accuracy (3 folds, mean and deviation)",
        xticks=N_COMPONENTS,
        ylim=(0, 1),
    )
    ax.legend(loc="center right")


def main():
    X, y = load_rows()
    accuracies = compare(X, y)

    figure = plt.figure(figsize=(14, 4.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[2, 1])
    table = draw_codes(left, X, y)
    draw_accuracies(right.subplots(), accuracies)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=100)

    print('\nset_output(transform="pandas") names the columns of the code:')
    print(table.head(3).round(2))
    print(f"\nPicture: {PICTURE}")


if __name__ == "__main__":
    main()
