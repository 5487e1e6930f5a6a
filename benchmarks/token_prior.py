"""Compare the priors of VQVAE with independent tokens, on held-out rows.

    python benchmarks/token_prior.py [--seeds 0 1 2 3 4] [--sizes 16 64 256]
        [--priors nade transformer masked]

For each codebook size, seed and prior, one VQVAE is fitted to digits (made continuous
as (x + u) / 17); its held-out rows are scored with its prior, and with unigrams alone
(add-one smoothed), under the same codebook, decoder and posterior. Models of two priors
start from other codes, so that only scores compare, in nats, and over several seeds.
Results go to ``benchmarks/results/token_prior.txt``.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skgen import VQVAE

RESULTS = Path(__file__).parent / "results" / "token_prior.txt"


def with_independent_tokens(model: VQVAE) -> VQVAE:
    """Copy a model, and give its prior to the unigrams alone."""
    model = copy.deepcopy(model)
    model.module_.prior.mixing.zero_()
    return model


def compare(codebook_size: int, seed: int, prior: Any) -> str:
    X = load_digits().data
    X = (X + np.random.RandomState(0).uniform(size=X.shape)) / 17
    train, test = train_test_split(X, random_state=seed)
    model = VQVAE(codebook_size, prior=prior, random_state=seed).fit(train)
    joint = model.score_samples(test)
    gain = joint - with_independent_tokens(model).score_samples(test)
    return (
        f"codebook {codebook_size:3d} seed {seed}  {prior:11s}  "
        f"score {joint.mean():.2f}  "
        f"independent {joint.mean() - gain.mean():.2f}  "
        f"gain {gain.mean():.2f} +- {gain.std(ddof=1) / np.sqrt(len(gain)):.2f}  "
        f"codes in use {model.perplexity_:.1f}  mixing {model.prior_mixing_:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 64, 256])
    priors = ["nade", "transformer", "masked"]
    parser.add_argument("--priors", nargs="+", default=priors)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    with RESULTS.open("w") as file:
        choices = arguments.sizes, arguments.seeds, arguments.priors
        for codebook_size, seed, prior in itertools.product(*choices):
            line = compare(codebook_size, seed, prior)
            print(line, flush=True)
            print(line, file=file)


if __name__ == "__main__":
    main()
