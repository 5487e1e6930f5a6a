"""Search over beta, and over the size of a codebook, with scikit-learn's GridSearchCV.

The score of every estimator is log p(x) of the rows in nats, or a lower bound of it.
It never contains beta, nor any part of a training loss, so that the searches below
compare like with like: one beta with another, and a BetaVAE with a VQVAE.

What to expect: the best beta is inside the grid, and a long way above it the code
falls out of use; more codes are better, up to the largest codebook tried. A bound
has a gap, though, which grows as beta falls: ``log_likelihood``, with many more
draws, is the careful estimate for the finalists. About 30 seconds.
"""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, KFold, train_test_split

from skgen import VQVAE, BetaVAE

matplotlib.use("Agg")  # pictures go to files: no display is needed
torch.set_num_threads(1)  # small tensors: more threads only wait for each other
PICTURE = Path(__file__).parent / "output" / "grid_search.png"

# Smaller networks, larger steps and less patience than the defaults, and half of the
# rows: the search shall take seconds here.
QUICK = {
    "hidden_layer_sizes": (64,),
    "learning_rate_init": 5e-3,
    "n_iter_no_change": 5,
    "random_state": 0,
}
SEARCHES = {
    "beta": (BetaVAE(**QUICK), [0.25, 0.5, 1, 2, 4]),
    "codebook_size": (VQVAE(n_tokens=4, **QUICK), [4, 16, 64]),
}


def load_rows():
    """Return some digits with continuous grey levels, to search on and to test on."""
    X, _ = load_digits(return_X_y=True)
    # A density on integers has no ceiling; uniform noise makes the levels continuous.
    noise = np.random.RandomState(0).uniform(size=X.shape)
    # There is no scaler: the networks standardise inside, and their densities are
    # those of the rows as given. Small units make large densities, here above 1.
    return train_test_split(
        (X + noise) / 17, train_size=900, test_size=200, random_state=0
    )


def search(name, X):
    """Search over one parameter, print its table, and return the search."""
    estimator, values = SEARCHES[name]
    folds = KFold(3, shuffle=True, random_state=0)
    # No `scoring`: the default is estimator.score, the mean log p(x) in nats.
    grid = GridSearchCV(estimator, {name: values}, cv=folds, n_jobs=2).fit(X)
    print(f"{type(estimator).__name__}, {name}")
    for value, mean, std in zip(values, *fold_scores(grid), strict=True):
        mark = "  <- best" if value == grid.best_params_[name] else ""
        print(f"{value:>8} {mean:8.2f} +- {std:.2f}{mark}")
    print(flush=True)
    return grid


def fold_scores(grid):
    """Return mean score of each candidate, and the deviation over the folds."""
    results = grid.cv_results_
    return results["mean_test_score"], results["std_test_score"]


def judge_finalists(finalists, X):
    """Print score and log_likelihood of fitted models on rows that no search saw."""
    print(
        f"{'finalists on held-out rows':28} {'score':>7} {'log_likelihood':>17}", end=""
    )
    print(f" {'gap':>6}")
    for name, model in finalists.items():
        score, careful = model.score(X), model.log_likelihood(X, n_samples=1000)
        estimate = f"{careful.mean:.2f} +- {careful.mean_standard_error:.2f}"
        print(f"{name:28} {score:7.2f} {estimate:>17} {careful.mean - score:6.2f}")


def main():
    X_train, X_test = load_rows()
    print("Mean log p(x) in nats over 3 folds, +- its deviation over the folds.")
    print("It is the same quantity in both tables: they may be compared.\n")
    grids = {name: search(name, X_train) for name in SEARCHES}

    beta, size = (grids[name].best_params_[name] for name in SEARCHES)
    smallest = SEARCHES["beta"][1][0]
    judge_finalists(
        {
            f"BetaVAE, beta={beta} (best)": grids["beta"].best_estimator_,
            f"BetaVAE, beta={smallest}": BetaVAE(beta=smallest, **QUICK).fit(X_train),
            f"VQVAE, {size} codes (best)": grids["codebook_size"].best_estimator_,
        },
        X_test,
    )

    titles = ["BetaVAE: weight of the KL term", "VQVAE: size of the codebook"]
    figure, axes = plt.subplots(
        1, 2, sharey=True, figsize=(11, 4.5), layout="constrained"
    )
    for ax, title, (name, grid) in zip(axes, titles, grids.items(), strict=True):
        values = SEARCHES[name][1]
        ax.errorbar(values, *fold_scores(grid), marker="o", capsize=4)
        ax.axvline(grid.best_params_[name], color="grey", linestyle=":", label="best")
        ax.set_xscale("log", base=2)
        ax.set_xticks(values, values)
        ax.set(title=title, xlabel=name)
        ax.legend()
    axes[0].set_ylabel(
        "score: mean log p(x), nats a row\n(3 folds, mean and deviation)"
    )
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=100)
    print(f"\nPicture: {PICTURE}")


if __name__ == "__main__":
    main()
