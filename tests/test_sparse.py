"""Sparse rows: what takes them gives what it gives of the dense rows, in blocks."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skgen import (
    VAE,
    VQVAE,
    ConditionalVAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
    MixedDensity,
)
from skgen._training import data
from skgen.model_selection import BatchedGridSearchCV
from skgen.models import gaussian

# Few iterations, and dense rows of zeros, on purpose.
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:Components of:UserWarning",
)

RNG = np.random.RandomState(0)
GROUPS = RNG.randint(3, size=80)
# Three groups of rows, each with cells in columns of its own, (80, 12).
DENSE = RNG.exponential(size=(80, 12)) * (RNG.uniform(size=(80, 12)) < 0.3)
DENSE = DENSE + 3 * (np.arange(12) % 3 == GROUPS[:, None]) * RNG.uniform(size=(80, 12))
SPARSE = scipy.sparse.csr_array(DENSE)
WEIGHT = np.linspace(0.0, 2, 80)

TINY: dict[str, Any] = {
    "hidden_layer_sizes": (4,),
    "max_iter": 3,
    "n_importance_samples": 8,
}
TINY = {**TINY, "random_state": 0}
MODELS: dict[str, Any] = {
    "k-means": KMeansAutoencoder(3, random_state=0),
    "k-means, ten starts": KMeansAutoencoder(
        3, init="random", n_init=3, random_state=0
    ),
    "diagonal": GaussianDensity(covariance_type="diag"),
    "spherical": GaussianDensity(covariance_type="spherical"),
    "axes": GaussianDensity(3),
    "axes by a share": GaussianDensity(0.7),
    "mixture": GaussianMixtureEM(3, covariance_type="diag", random_state=0),
    "mixture, picked": GaussianMixtureEM(
        2,
        covariance_type="spherical",
        init_params="k-means++",
        n_init=3,
        random_state=0,
    ),
    "mixture, random": GaussianMixtureEM(
        2, covariance_type="diag", init_params="random_from_data", random_state=0
    ),
    "vae": VAE(2, **TINY),
    "vqvae": VQVAE(4, n_tokens=2, **TINY),
}
every_model = pytest.mark.parametrize("name", MODELS)


def dense(code: Any) -> Any:
    return code.toarray() if scipy.sparse.issparse(code) else code


def assert_same(found: Any, expected: Any) -> None:
    scores = expected.score_samples(DENSE)
    assert_allclose(found.score_samples(SPARSE), scores, rtol=1e-10, atol=1e-10)
    codes = dense(expected.transform(DENSE))
    assert_allclose(dense(found.transform(SPARSE)), codes, rtol=1e-7, atol=1e-9)


@every_model
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
def test_sparse_rows_give_what_dense_rows_do(
    name: Any, dtype: Any, weight: Any
) -> None:
    rows, model = DENSE.astype(dtype), clone(MODELS[name])
    expected = clone(model).fit(rows, sample_weight=weight)
    found = model.fit(scipy.sparse.csr_matrix(rows), sample_weight=weight)
    tol = 1e-10 if dtype == np.float64 else 1e-5
    scores = expected.score_samples(rows)
    assert_allclose(found.score_samples(rows), scores, rtol=tol, atol=tol)
    assert np.array_equal(found.score_samples(SPARSE), found.score_samples(DENSE))
    assert found.transform(SPARSE).shape == expected.transform(DENSE).shape
    assert found.score(SPARSE) == found.score(DENSE)


@every_model
def test_batches_may_be_sparse(name: Any) -> None:
    if not hasattr(MODELS[name], "partial_fit"):
        return
    found, expected = clone(MODELS[name]), clone(MODELS[name])
    for part in (slice(40), slice(40, None)):
        found.partial_fit(SPARSE[part])
        expected.partial_fit(DENSE[part])
    assert_same(found, expected)


@pytest.mark.parametrize("form", ["csc", "coo", "lil", "dok", "bsr"])
def test_all_formats_are_read(form: Any) -> None:
    model = GaussianDensity(covariance_type="diag").fit(DENSE)
    assert model.score(SPARSE.asformat(form)) == model.score(DENSE)
    wide = SPARSE.copy()
    wide.indices, wide.indptr = wide.indices.astype("l"), wide.indptr.astype("l")
    assert KMeansAutoencoder(2, random_state=0).fit(wide).n_features_in_ == 12


@pytest.mark.parametrize("shape", ["fewer rows", "many columns"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
def test_axes_of_wide_sparse_rows_are_those_of_dense_ones(
    shape: Any, weight: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = DENSE
    if shape == "fewer rows":
        rows = np.concatenate([DENSE, np.roll(DENSE, 1, 1) ** 2] * 4, axis=1)
        rows = rows * np.linspace(1, 2, 96)
    else:
        monkeypatch.setattr(gaussian, "MOST_COLUMNS", 8)
    sparse = scipy.sparse.csr_array(rows)
    found = GaussianDensity(4).fit(sparse, sample_weight=weight)
    expected = GaussianDensity(4).fit(rows, sample_weight=weight)
    assert_allclose(found.score_samples(rows), expected.score_samples(rows), 1e-10)
    assert_allclose(found.components_, expected.components_, atol=1e-8)
    ratios = expected.explained_variance_ratio_
    assert_allclose(found.explained_variance_ratio_, ratios, 1e-10)
    with pytest.raises(ValueError, match="Begin with partial_fit"):
        found.partial_fit(sparse)
    with pytest.raises(ValueError, match="n_components of GaussianDensity as an int"):
        GaussianDensity(0.5).fit(sparse)


@pytest.mark.parametrize("search", [GridSearchCV, BatchedGridSearchCV])
@pytest.mark.parametrize("name", ["mixture", "vae", "k-means"])
def test_a_search_takes_sparse_rows(search: Any, name: Any) -> None:
    grid = {"device": ["cpu", "auto"]}
    found, expected = (
        search(MODELS[name], grid, cv=2).fit(rows).cv_results_["mean_test_score"]
        for rows in (SPARSE, DENSE)
    )
    assert_allclose(found, expected, rtol=1e-6)


def test_labels_go_with_sparse_rows() -> None:
    model = ConditionalVAE(2, **TINY).fit(SPARSE, GROUPS)
    assert model.score(SPARSE, GROUPS) == model.score(DENSE, GROUPS)
    assert np.array_equal(model.predict_proba(SPARSE), model.predict_proba(DENSE))


def test_a_likelihood_checks_blocks_of_sparse_rows() -> None:
    grey = SPARSE / SPARSE.max()
    ones = (grey > 0).astype(float)
    model = VAE(2, likelihood="bernoulli", **TINY)
    assert clone(model).fit(ones).score(ones) == model.fit(ones.toarray()).score(ones)
    with pytest.raises(ValueError, match="needs X in the range"):
        model.fit(-ones)


REFUSED: dict[str, Any] = {
    "give n_components": GaussianDensity(),
    "take 'diag' or 'spherical'": GaussianMixtureEM(2),
    "all pairs": GaussianMixtureEM(2, covariance_type="tied"),
    "or a DataFrame": MixedDensity(VAE(2, **TINY)),
}


@pytest.mark.parametrize("words", REFUSED)
def test_sparse_rows_are_refused_with_a_remedy(words: Any) -> None:
    with pytest.raises(TypeError, match=f"(?i)Sparse data was passed.*{words}"):
        REFUSED[words].fit(SPARSE)
    with pytest.raises(TypeError, match="Sparse data was passed"):
        clone(REFUSED[words]).fit(DENSE).score_samples(SPARSE)


def test_missing_cells_of_sparse_rows_are_refused() -> None:
    holed = SPARSE.copy()
    holed.data[0] = np.nan
    for model in (GaussianDensity(2), KMeansAutoencoder(2), VAE(2, **TINY)):
        with pytest.raises(ValueError, match="sparse and contains NaN"):
            clone(model).fit(holed)


WIDE: dict[str, Any] = {
    "k-means": KMeansAutoencoder(2, max_iter=2, n_init=1, random_state=0),
    "diagonal": GaussianDensity(covariance_type="diag"),
    "axes": GaussianDensity(2),
    "mixture": GaussianMixtureEM(2, covariance_type="diag", max_iter=2, random_state=0),
    "vae": VAE(2, **{**TINY, "max_iter": 1}, early_stopping=False),
}


@pytest.mark.parametrize("name", WIDE)
def test_no_model_makes_all_rows_dense(
    name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "CHUNK_ELEMENTS", 2**16)
    blocks: Any
    blocks, toarray = [], scipy.sparse.csr_array.toarray
    monkeypatch.setattr(
        scipy.sparse.csr_array,
        "toarray",
        lambda self: blocks.append(self.shape[0]) or toarray(self),
    )
    monkeypatch.setattr(data.StoredRows, "in_memory", None)
    drawn = scipy.sparse.random(30_000, 300, density=0.003, random_state=0)
    rows = scipy.sparse.csr_array(drawn)
    model = clone(WIDE[name])
    tracemalloc.start()
    try:
        model.fit(rows).score(rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < max(blocks) < 15_000
    assert peak < rows.shape[0] * rows.shape[1] * 8
