"""Count the modes that a GAN's samples cover, and ask it for digits.

    python benchmarks/gan.py [--data FOLDER] [--seeds 0 1 2] [--losses ...]

**Modes**: 25 normal clusters at {-4, -2, 0, 2, 4}^2 with a standard deviation of 0.05
(Srivastava et al. 2017); 6,400 rows are fitted with the settings in ``SETTINGS``, and
2,500 drawn, 100 a cluster where all are equal. A mode is *reached*, as in the
literature (Srivastava et al. 2017, Lin et al. 2018), where a sample is within three
standard deviations (0.15) of its centre; and *covered*, which is stricter, where at
least 20 samples are nearer than 0.3 to it. The table also has the samples of the mode
that has fewest, the part of the samples that is within 0.15 (of "high quality" in these
papers) and 0.3 of a centre, and the squared MMD of held-out rows and samples at the
best epoch.

**Digits**: images of 28 x 28, given their label. Samples are of the digit asked for
where a classifier, fitted to other images, says so; the same for images of a test set
is the most that can be expected. FOLDER has ``mnist.npz``; the environment variable
SKGEN_DATA may name it, too. Left out where there is none.

Seconds are those of the processor, on one thread. Results go to
``benchmarks/results/gan.txt``.

References
----------
Srivastava et al., "VEEGAN: reducing mode collapse in GANs using implicit variational
learning", NeurIPS 2017.

Lin, Khetan, Fanti & Oh, "PacGAN: the power of two samples in generative adversarial
networks", NeurIPS 2018.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from timing import machine, report, threads

from skgen import GAN
from skgen.metrics import energy_distance

RESULTS = Path(__file__).parent / "results" / "gan.txt"
CENTRES = np.array([*itertools.product([-4.0, -2.0, 0.0, 2.0, 4.0], repeat=2)])
SPREAD = 0.05
SETTINGS: dict[str, Any] = {
    "n_components": 4,
    "learning_rate": "cosine",
    "learning_rate_init": 2e-3,
    "max_iter": 300,
    "n_iter_no_change": 300,
}
HEADER = (
    f"{'loss':16}{'seed':>5}{'reached':>9}{'covered':>9}{'fewest':>8}{'<0.15':>7}"
    f"{'<0.3':>7}{'MMD^2':>9}{'epochs':>8}{'best':>6}{'seconds':>9}"
)
# Pixels have one unit, and those at the border hardly vary: they are not standardised.
DIGITS: dict[str, Any] = {
    "condition": "classes",
    "n_components": 32,
    "standardize": False,
    "learning_rate_init": 5e-4,
    "weight_averaging": 0.99,
    "max_iter": 50,
}
DIGITS_HEADER = (
    f"{'networks':16}{'seed':>5}{'of the digit asked for':>24}{'energy':>9}"
    f"{'seconds':>9}"
)
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden_layer_sizes": (256, 256), "gradient_penalty": 1.0},
    "conv": {
        "gradient_penalty": 10.0,
        "architecture": "conv",
        "image_shape": (28, 28),
        "channels": 8,
    },
}


def rows_of_grid(n: int, seed: int) -> NDArray[Any]:
    rng = np.random.RandomState(seed)
    modes = CENTRES[rng.randint(len(CENTRES), size=n)]
    rows: NDArray[Any] = modes + SPREAD * rng.randn(n, 2)
    return rows


def fitted(model: GAN, *rows: NDArray[Any]) -> tuple[GAN, float]:
    """Fit, and take the time."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all epochs are taken
        model.fit(*rows)
    return model, time.process_time() - start


def line_of_modes(loss: Any, seed: int, epochs: int | None) -> str:
    settings = SETTINGS if epochs is None else {**SETTINGS, "max_iter": epochs}
    model = GAN(loss=loss, random_state=seed, **settings)
    model, seconds = fitted(model, rows_of_grid(6_400, seed))
    drawn = model.sample(2_500, random_state=0)
    distances = np.linalg.norm(drawn[:, None] - CENTRES, axis=2)
    nearest, distance = distances.argmin(1), distances.min(1)
    near, wide = (
        np.bincount(nearest[distance < radius], minlength=len(CENTRES))
        for radius in (3 * SPREAD, 0.3)
    )
    return (
        f"{loss:16}{seed:5}{(near >= 1).sum():9}{(wide >= 20).sum():9}{wide.min():8}"
        f"{(distance < 3 * SPREAD).mean():7.2f}{(distance < 0.3).mean():7.2f}"
        f"{min(model.validation_curve_):9.4f}{model.n_iter_:8}{model.best_epoch_:6}"
        f"{seconds:9.0f}"
    )


def digits(folder: str) -> tuple[NDArray[Any], ...]:
    """Training images and labels, and those of the test, in [0, 1]."""
    with np.load(Path(folder, "mnist.npz")) as data:
        images = [data[name].reshape(-1, 784) for name in ("x_train", "x_test")]
        labels = [data[name].astype(int) for name in ("y_train", "y_test")]
    X, X_test = (each.astype(np.float32) / 255 for each in images)
    return X, labels[0], X_test, labels[1]


def lines_of_digits(folder: str, seeds: list[int]) -> Iterator[str]:
    X, y, X_test, y_test = digits(folder)
    judge = KNeighborsClassifier(3).fit(X[-20_000:], y[-20_000:])
    right = (judge.predict(X_test[:1000]) == y_test[:1000]).mean()
    apart = energy_distance(X_test[:1000], X_test[1000:2000])
    yield "\n5,000 digits of 28 x 28 and their labels, 1,000 samples"
    yield DIGITS_HEADER
    yield f"{'test images':16}{'':5}{right:24.3f}{apart:9.3f}"
    asked = np.repeat(np.arange(10), 100)
    for name, networks in NETWORKS.items():
        for seed in seeds:
            model = GAN(random_state=seed, **DIGITS, **networks)
            model, seconds = fitted(model, X[:5000], y[:5000])
            drawn = model.sample(len(asked), y=asked, random_state=0)
            right = (judge.predict(drawn) == asked).mean()
            apart = energy_distance(X_test[:1000], drawn)
            yield f"{name:16}{seed:5}{right:24.3f}{apart:9.3f}{seconds:9.0f}"


def lines(options: argparse.Namespace) -> Iterator[str]:
    yield from machine()
    yield f"25 clusters, 6,400 rows; {GAN(**SETTINGS)}"
    yield HEADER
    for loss in options.losses:
        for seed in options.seeds:
            yield line_of_modes(loss, seed, options.epochs)
    if Path(options.data, "mnist.npz").exists():
        yield from lines_of_digits(options.data, options.seeds[:1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("SKGEN_DATA", ""))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="in place of max_iter; no file")
    games = ["non-saturating", "wasserstein"]
    parser.add_argument("--losses", nargs="*", default=games)
    options = parser.parse_args()
    with threads(1):
        report(lines(options), RESULTS if options.epochs is None else None)


if __name__ == "__main__":
    main()
