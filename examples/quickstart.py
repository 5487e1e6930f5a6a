"""
Seven models of digits, side by side
====================================

Every estimator has the same methods, so one loop fits, scores, reconstructs and
samples them all. The score is the same quantity for all of them, log p(x) in nats per
row (a lower bound of it for the four with networks), so that one table compares them.

What to expect: on rows they have not seen, the mixture and the four networks beat one
full Gaussian by several nats, 64 centres of K-means come near it, and all of them beat
independent pixels by far. The reconstruction error says something else, how much of a
row its code keeps: all of it in the 64 numbers of a Gaussian's code, little in the
five probabilities of a mixture's.
"""

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skgen import (
    IWAE,
    VAE,
    VQVAE,
    BetaVAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
)

# %%
# The data
# --------
#
# A density on integers has no ceiling: it can grow as narrow as it likes around each of
# them. Uniform noise makes the grey levels 0..16 continuous.

X, y = load_digits(return_X_y=True)
noise = np.random.RandomState(0).uniform(size=X.shape)
X_train, X_test, _, y_test = train_test_split((X + noise) / 17, y, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
print(
    f"Digits: {len(X_train)} rows to train on, {len(X_test)} held out, "
    f"{X_train.shape[1]} standardised pixels."
)

# %%
# Seven models and a floor: one normal density per pixel, which a model must beat to
# have learned anything. Networks take larger steps than by default, and fewer of them.

FLOOR = "independent pixels"
quick = {"learning_rate_init": 1e-2, "n_iter_no_change": 10, "random_state": 0}
MODELS = {
    FLOOR: GaussianDensity(covariance_type="diag"),
    "GaussianDensity": GaussianDensity(reg_covar=1e-2),
    "GaussianMixtureEM": GaussianMixtureEM(5, reg_covar=1e-2, random_state=0),
    "KMeansAutoencoder": KMeansAutoencoder(64, random_state=0),
    "VAE": VAE(**quick),
    "BetaVAE": BetaVAE(beta=2, **quick),
    "IWAE": IWAE(**quick),
    "VQVAE": VQVAE(**quick),
}

# %%
# Fit and score
# -------------
#
# Score is the mean log p(x) of held-out rows, in nats, +- its standard error; gains
# over the Gaussian are paired, row by row. The reconstruction error is the mean square,
# per pixel (1 is the mean digit for every row).


def mean_and_error(values):
    """Return the mean over rows, and its standard error."""
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def fit_and_score(name, model, reference):
    """Print a line of the table; return log p(x) of the held-out rows."""
    start = perf_counter()
    model.fit(X_train)
    seconds = perf_counter() - start
    log_prob = model.score_samples(X_test)
    score, score_error = mean_and_error(log_prob)
    gain, gain_error = mean_and_error(log_prob - reference)
    error = np.mean((model.reconstruct(X_test) - X_test) ** 2)
    print(
        f"{name:18} {score:7.2f} {score_error:5.2f}   {gain:+11.2f} "
        f"{gain_error:5.2f}   {error:12.3f} {seconds:7.2f}"
    )
    return log_prob


print(f"{'':18} {'score':>7} {'+-':>5}   {'vs Gaussian':>11} {'+-':>5}", end="")
print(f"   {'recon. error':>12} {'fit, s':>7}")
reference = MODELS["GaussianDensity"].fit(X_train).score_samples(X_test)
log_probs = {
    name: fit_and_score(name, model, reference) for name, model in MODELS.items()
}

# %%
# Which differences are more than noise?


def beats(log_prob, other):
    """Whether the mean is higher by two paired standard errors."""
    difference, error = mean_and_error(log_prob - other)
    return "yes" if difference > 2 * error else "no"


print("better by two paired standard errors than")
print(f"{'':18} {FLOOR:>18} {'GaussianDensity':>16}")
for name, log_prob in log_probs.items():
    if name != FLOOR:
        answers = beats(log_prob, log_probs[FLOOR]), beats(log_prob, reference)
        print(f"{name:18} {answers[0]:>18} {answers[1]:>16}")

# %%
# Look at them
# ------------
#
# A score is an average. The pictures show what it averages over: independent pixels
# make no strokes; means decoded from drawn codes (``noise=False``) are smoother than
# draws; and a mixture decodes five probabilities, so that its reconstructions are
# blends of five means.


def strip(rows):
    """Put rows next to each other, as 8 x 8 pictures in grey levels."""
    pictures = scaler.inverse_transform(rows).reshape(-1, 8, 8)
    return np.hstack([np.pad(p, 1, constant_values=0) for p in pictures])


# One held-out row of each class, so that reconstructions can be told apart.
originals = X_test[[np.flatnonzero(y_test == digit)[0] for digit in range(10)]]
lines = {"held-out digits": [originals] * 3}
for name, model in MODELS.items():
    lines[f"{name}\n{log_probs[name].mean():.1f} nats"] = [
        model.sample(10, random_state=1),
        model.sample(10, random_state=1, noise=False),
        model.reconstruct(originals),
    ]

titles = ["sample()", "sample(noise=False)", "reconstruct(top line)"]
figure, axes = plt.subplots(len(lines), 3, figsize=(15, 6), layout="constrained")
for line, (label, blocks) in zip(axes, lines.items()):
    for ax, rows in zip(line, blocks):
        ax.imshow(strip(rows), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(label, rotation=0, ha="right", va="center")
for ax, title in zip(axes[0], titles):
    ax.set_title(title)
figure.suptitle("Seven models of 8 x 8 digits (mean log p(x) of held-out rows)")
plt.show()
