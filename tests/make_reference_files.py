"""Writes small files of every kind of model, and the scores and codes they gave.

``tests/files_0_1`` holds what skgen 0.1 wrote; ``tests/test_old_files.py`` loads it.
Do not write these again: a later version makes a folder of its own.

    python -m tests.make_reference_files tests/files_0_2
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from sklearn.datasets import load_digits

import skgen
from skgen import (
    IWAE,
    VAE,
    VQVAE,
    BetaVAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
    MixedDensity,
)
from skgen.likelihoods import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Mixed,
)
from tests.estimators import dense, features

SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (4,),
    "n_importance_samples": 2,
    "max_iter": 3,
    "random_state": 0,
}
TOKENS: dict[str, Any] = {**SMALL, "code_size": 2, "n_tokens": 2}
CONV: dict[str, Any] = {
    **SMALL,
    "architecture": "conv",
    "image_shape": (8, 8),
    "channels": 2,
}
DESCRIBED = 5  # rows whose scores and codes are kept

NUMBERS = features(60)
DIGITS = load_digits().data[:60]
LEVELS = np.random.RandomState(0).randint(5, size=(60, 3)).astype(float)
CELLS = np.column_stack([NUMBERS[:, 0], np.exp(NUMBERS[:, 3]), LEVELS])
CELLS[::7, 0] = np.nan


def table() -> Any:
    """Return columns of all kinds, with missing cells."""
    state = np.random.RandomState(1)
    frame = pd.DataFrame(NUMBERS[:, :2], columns=["real", "réal 2"])
    frame["positive"] = np.exp(NUMBERS[:, 3])
    frame["count"] = state.poisson(np.exp(state.randn(60) + 1))
    frame["small"] = state.randint(0, 9, size=60).astype(np.int8)
    frame["text"] = np.array(["a", "b", "ç"])[state.randint(3, size=60)]
    frame["yes"] = state.rand(60) < 0.4
    frame["level"] = pd.Categorical.from_codes(
        state.randint(3, size=60), ["low", "high", "never", "mid"], ordered=True
    )
    frame.loc[::7, "real"] = np.nan
    frame.loc[::5, "text"] = None
    return frame


def twice(model: Any, rows: Any) -> Any:
    """Two partial fits, whose state of the optimiser is in the file."""
    return model.partial_fit(rows).partial_fit(rows)


def models() -> Iterator[Any]:
    """Yield the name, the fitted model and the rows of each file."""
    yield from closed_form()
    yield from with_networks()
    yield from of_tables()


def closed_form() -> Iterator[Any]:
    frame = pd.DataFrame(NUMBERS, columns=list("abcdé"))
    kind: Any
    for kind in ("full", "diag", "spherical"):
        for k in (None, 2):
            model: Any = GaussianDensity(k, covariance_type=kind)
            yield f"gaussian_{kind}_{k or 'all'}", model.fit(NUMBERS), NUMBERS
    weight = np.linspace(0.5, 2, 60)
    small = GaussianDensity(3).fit(NUMBERS.astype(np.float32), sample_weight=weight)
    yield "gaussian_float32", small, NUMBERS.astype(np.float32)
    yield "gaussian_partial", twice(GaussianDensity(), NUMBERS), NUMBERS
    framed = GaussianDensity().fit(frame).set_output(transform="pandas")
    yield "gaussian_pandas", framed, frame
    for kind in ("full", "tied", "diag", "spherical"):
        model = GaussianMixtureEM(3, covariance_type=kind, random_state=0)
        yield f"mixture_{kind}", model.fit(NUMBERS), NUMBERS
    state = np.random.RandomState(3)
    model = GaussianMixtureEM(2, random_state=state, means_init=NUMBERS[:2], tol=0.1)
    rows = NUMBERS.astype(np.float32)
    yield "mixture_float32", model.set_params(warm_start=True).fit(rows), rows
    for encode in ("onehot", "onehot-dense", "ordinal"):
        model = KMeansAutoencoder(3, encode=encode, random_state=0)
        yield f"kmeans_{encode}", model.fit(NUMBERS), NUMBERS
    model = KMeansAutoencoder(3, random_state=0)
    yield "kmeans_partial", twice(model, NUMBERS), NUMBERS


def with_networks() -> Iterator[Any]:
    binary = (NUMBERS.mean(0) < NUMBERS).astype(float)
    constant = np.column_stack([NUMBERS, np.full(60, 3.0)])
    float32 = NUMBERS.astype(np.float32)
    makers: dict[str, Any] = {
        "vae": (VAE(2, **SMALL), constant),
        "vae_deep": (
            VAE((2, 1), **{**SMALL, "hidden_layer_sizes": ((4, 3), (3,))}),
            NUMBERS,
        ),
        "vae_linear": (
            VAE(2, **{**SMALL, "hidden_layer_sizes": ()}, standardize=False),
            NUMBERS,
        ),
        "vae_float32": (VAE(2, **SMALL, early_stopping=False), float32),
        "vae_conv": (VAE(2, **CONV), DIGITS),
        "vae_tanh": (
            VAE(1, **SMALL, activation="tanh", weight_averaging=0.5, weight_decay=0.1),
            NUMBERS,
        ),
        "vae_sigma_shared": (VAE(1, **SMALL, likelihood=Gaussian("shared")), NUMBERS),
        "vae_sigma_row": (VAE(1, **SMALL, likelihood=Gaussian("row", 0.1)), NUMBERS),
        "vae_sigma_fixed": (VAE(1, **SMALL, likelihood=Gaussian(0.7)), NUMBERS),
        "vae_bernoulli": (VAE(1, **SMALL, likelihood="bernoulli"), binary),
        "vae_dynamic": (
            VAE(1, **SMALL, likelihood=Bernoulli(binarize="dynamic")),
            LEVELS / 4,
        ),
        "vae_continuous_bernoulli": (
            VAE(1, **SMALL, likelihood=ContinuousBernoulli()),
            LEVELS / 4,
        ),
        "vae_discretized_logistic": (
            VAE(1, **SMALL, likelihood=DiscretizedLogistic(5)),
            LEVELS,
        ),
        "vae_categorical": (VAE(1, **SMALL, likelihood=Categorical(5)), LEVELS),
        "vae_mixed": (
            VAE(1, **SMALL, likelihood=Mixed(["real", "positive", "count", 5, 5])),
            CELLS,
        ),
        "betavae": (BetaVAE(2, **SMALL, beta=4.0, capacity=1.0), NUMBERS),
        "betavae_deep": (BetaVAE((2, 1), **SMALL, free_bits=0.1), NUMBERS),
        "iwae": (IWAE(2, **SMALL, n_draws=3), NUMBERS),
        "iwae_deep": (IWAE((2, 1), **SMALL, n_draws=3), NUMBERS),
        "vqvae": (VQVAE(4, **TOKENS), NUMBERS),
        "vqvae_ordinal": (VQVAE(4, **TOKENS, encode="ordinal"), float32),
        "vqvae_onehot": (VQVAE(4, **TOKENS, encode="onehot"), NUMBERS),
        "vqvae_ema": (
            VQVAE(4, **TOKENS, codebook_update="ema", gradient="straight-through"),
            NUMBERS,
        ),
        "vqvae_conv": (
            VQVAE(4, **CONV, code_size=2, n_tokens=4, distance="cosine"),
            DIGITS,
        ),
    }
    for name, (model, rows) in makers.items():
        yield name, model.fit(rows), rows
    for cls in (VAE, IWAE):
        model = cls((2, 1), **SMALL, weight_decay=0.1)
        yield f"{cls.__name__.lower()}_partial", twice(model, NUMBERS), NUMBERS
    model = VQVAE(4, **TOKENS, codebook_update="ema")
    yield "vqvae_partial", twice(model, NUMBERS), NUMBERS


def of_tables() -> Iterator[Any]:
    frame = table()
    polars = pl.from_pandas(frame)
    yield "table_pandas", MixedDensity(VAE(2, **SMALL)).fit(frame), frame
    yield "table_polars", MixedDensity(VQVAE(4, **TOKENS)).fit(polars), polars
    objects = frame.astype(object).to_numpy()
    model = MixedDensity(IWAE(1, **SMALL))
    yield "table_objects", model.fit(objects), objects
    kinds: dict[str, Any] = {
        "real": "real",
        "positive": "positive",
        "text": ["a", "b", "ç", "d"],
    }
    framed = MixedDensity(BetaVAE(1, **SMALL), kinds=kinds).fit(frame)
    yield "table_set_output", framed.set_output(transform="polars"), frame
    yield "mixed_numbers", MixedDensity(VAE(1, **SMALL)).fit(CELLS), CELLS


def rows_of(name: str, expected: dict[str, Any]) -> Any:
    """Return the rows that a file's scores and codes are of."""
    match name:
        case "table_polars":
            return pl.from_pandas(table()[:DESCRIBED])
        case "table_objects":
            return table()[:DESCRIBED].astype(object).to_numpy()
        case "table_pandas" | "table_set_output":
            return table()[:DESCRIBED]
        case "gaussian_pandas":
            return pd.DataFrame(expected[f"{name}/rows"], columns=list("abcdé"))
    return expected[f"{name}/rows"]


def main(folder: Any) -> None:
    folder.mkdir()
    kept: dict[str, Any] = {}
    for name, model, rows in models():
        skgen.save(model, folder / f"{name}.safetensors")
        described = rows[:DESCRIBED]
        if not name.startswith("table_"):
            kept[f"{name}/rows"] = np.asarray(described)
        kept[f"{name}/scores"] = model.score_samples(described)
        kept[f"{name}/codes"] = np.asarray(dense(model.transform(described)))
    np.savez_compressed(folder / "expected.npz", **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
