"""Compare gradient estimators of discrete codes on binary digits.

    python benchmarks/discrete_latents.py [--seeds 3] [--quick]

1,000 binary digits of 8 x 8 for training, the other 797 held out; twenty bits, or ten
coordinates of four levels; equal networks, epochs and draws. "score" is the likelihood
ratio with a leave-one-out baseline, "vimco" that of the importance-weighted bound,
"gumbel" a relaxation. The spread is that of the encoder's gradient on one batch, over
fresh draws, at the weights that "score" ends with: its standard deviation over the norm
of its mean. Some five minutes on one core. Results go to
``benchmarks/results/discrete_latents.txt``.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skgen import VAE, DiscreteVAE
from skgen.objectives import Batch, DiscreteLoss

RESULTS = Path(__file__).parent / "results" / "discrete_latents.txt"
CODES = {"20 bits": (20, 2), "10 of 4 levels": (10, 4)}
GRADIENTS = ("score", "vimco", "gumbel")


def spread(model: Any, gradient: str, X: Any, n_repeats: int = 50) -> float:
    """Return the spread of an encoder's gradient over draws, relative to its mean."""
    module, generator = model.module_, torch.Generator().manual_seed(0)
    x = torch.from_numpy(X[:100]).float()
    weights = list(module.encoder.parameters())
    draw = module.gumbel_noise if gradient == "gumbel" else module.standard_noise
    found = []
    for _ in range(n_repeats):
        noise = draw((model.n_draws, len(x)), generator)
        loss = DiscreteLoss(gradient)(module, Batch(x, noise)).loss.mean()
        grads = torch.autograd.grad(loss, weights)
        found.append(torch.cat([g.flatten() for g in grads]))
    each = torch.stack(found)
    return float(each.var(0).sum().sqrt() / each.mean(0).norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="shows that it runs")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    torch.set_num_threads(1)
    X = (load_digits().data > 7).astype(float)
    train, test = X[:1000], X[1000:]
    settings: dict[str, Any] = {
        "hidden_layer_sizes": (128,),
        "likelihood": "bernoulli",
        "learning_rate_init": 3e-3,
        "max_iter": 2 if args.quick else 100,
    }
    seeds = range(1 if args.quick else args.seeds)
    lines = [
        "held-out score in nats per row (mean over seeds, and their spread), active",
        "units, spread of the encoder's gradient over draws",
        "",
    ]

    def report(name: str, fits: list[Any], more: str = "") -> None:
        scores = [model.score(test) for model in fits]
        units = np.mean([model.active_units_ for model in fits])
        line = f"{name:26}{np.mean(scores):8.2f} +- {np.std(scores):.2f}"
        lines.append(f"{line}{units:7.1f}{more}")
        print(lines[-1], flush=True)

    for code, (T, K) in CODES.items():
        reference: Any = None
        for gradient in GRADIENTS:
            fits = []
            for seed in seeds:
                model = DiscreteVAE(
                    T, n_categories=K, gradient=gradient, random_state=seed, **settings
                )
                fits.append(model.fit(train))
            reference = reference or fits[0]
            more = f"{spread(reference, gradient, train):9.2f}"
            report(f"{code}, {gradient}", fits, more)
    normal = [VAE(10, random_state=seed, **settings).fit(train) for seed in seeds]
    report("VAE of 10 coordinates", normal)
    if not args.quick:
        RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
