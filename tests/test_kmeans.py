"""Laws of KMeansAutoencoder: scikit-learn's centres, and a density around them."""

import pickle
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.base import clone
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.preprocessing import StandardScaler

from skgen import GaussianMixtureEM, KMeansAutoencoder
from skgen._em.lloyd import assign, restarted_lloyd
from skgen._utils.chunks import CentredRows
from tests.estimators import features

ENCODINGS = ("onehot-dense", "onehot", "ordinal")
every_encoding = pytest.mark.parametrize("encode", ENCODINGS)


def blobs(n: int = 300, d: int = 3, K: int = 4, seed: int = 0) -> NDArray[Any]:
    rng = np.random.RandomState(seed)
    return (5 * rng.randn(K, d) + 2)[rng.randint(K, size=n)] + rng.randn(n, d)


def fitted(n_clusters: Any = 4, **params: Any) -> Any:
    return KMeansAutoencoder(n_clusters, random_state=0, **params).fit(blobs())


def weighted(n: int = 300, seed: int = 0) -> NDArray[Any]:
    return np.random.RandomState(seed).randint(0, 4, n)


# The centres are scikit-learn's.


@pytest.mark.parametrize("algorithm", ["lloyd", "elkan"])
@pytest.mark.parametrize("init", ["k-means++", "random", "array", "callable"])
def test_a_seed_gives_scikit_learns_centres(init: Any, algorithm: str) -> None:
    X = blobs()
    if init == "array":
        init = X[:5]
    elif init == "callable":
        init = lambda X, K, random_state: X[random_state.choice(len(X), K)]  # noqa: E731
    params: dict[str, Any] = {"init": init, "algorithm": algorithm, "random_state": 3}
    ours = KMeansAutoencoder(5, **params).fit(X)
    theirs = KMeans(5, **params).fit(X)
    assert_array_equal(ours.cluster_centers_, theirs.cluster_centers_)
    assert_array_equal(ours.labels_, theirs.labels_)
    assert_array_equal(ours.predict(X), theirs.predict(X))
    assert_allclose(ours.inertia_, theirs.inertia_)
    assert ours.n_iter_ == theirs.n_iter_


@pytest.mark.parametrize("weight", [None, weighted() + 0.5])
@pytest.mark.parametrize("init", ["k-means++", "random", "array"])
def test_lloyd_in_torch_gives_scikit_learns_centres(init: Any, weight: Any) -> None:
    X = blobs()
    init = X[:5] if init == "array" else init
    rows = CentredRows.of(
        torch.from_numpy(X), None if weight is None else torch.from_numpy(weight)
    )
    rng = np.random.RandomState(3)
    run = restarted_lloyd(
        rows, 5, init=init, n_init="auto", max_iter=300, tol=1e-6, rng=rng
    )
    theirs: Any = KMeans(5, init=init, random_state=3, tol=1e-6)
    theirs.fit(X, sample_weight=weight)
    assert_allclose(run.state, theirs.cluster_centers_, atol=1e-10)
    found = assign(rows, run.state)
    assert_array_equal(found.labels, theirs.labels_)
    assert_allclose(found.inertia(rows.weight), theirs.inertia_)


def test_lloyd_in_torch_reseeds_as_scikit_learn_does() -> None:
    X = blobs()
    far = np.concatenate([X[:2], [[1e3] * 3, [2e3] * 3, [3e3] * 3]])
    rows = CentredRows.of(torch.from_numpy(X), None)
    rng = np.random.RandomState(0)
    run = restarted_lloyd(rows, 5, init=far, n_init=1, max_iter=300, tol=0, rng=rng)
    theirs = KMeans(5, init=far, n_init=1, tol=0).fit(X)
    assert len(run.bounds) == theirs.n_iter_
    assert_allclose(run.state, theirs.cluster_centers_, atol=1e-10)


def test_lloyd_never_raises_the_inertia() -> None:
    X = torch.from_numpy(blobs())
    rows, rng = CentredRows.of(X, None), np.random.RandomState(0)
    run = restarted_lloyd(
        rows, 8, init="random", n_init=1, max_iter=300, tol=0, rng=rng
    )
    assert run.converged
    assert (np.diff(run.bounds) >= 0).all()


def test_parameters_are_scikit_learns_and_ours() -> None:
    theirs = KMeans().get_params()
    ours = KMeansAutoencoder().get_params()
    assert {name: ours[name] for name in theirs} == theirs


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_more_centres_than_rows_is_worded_as_scikit_learns(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = KMeansAutoencoder(8)
    if device != "cpu":
        monkeypatch.setattr(model, "_find_on_cpu", model._find_on_device)
    with pytest.raises(ValueError, match=r"n_samples=5 should be >= n_clusters=8\."):
        model.fit(blobs(5))


@pytest.mark.parametrize("is_callable", [False, True])
def test_centres_to_start_from_are_checked(is_callable: bool) -> None:
    X = blobs()
    start = np.where(X[:5] > X[0], np.nan, X[:5])
    init = (lambda X, K, random_state: start) if is_callable else start
    with pytest.raises(ValueError, match="contains NaN"):
        KMeansAutoencoder(5, init=init).fit(X)


def test_a_weight_is_a_number_of_copies() -> None:
    X, weight = blobs(), weighted()
    copies = np.repeat(X, weight, axis=0)
    model = KMeansAutoencoder(5, init=X[:5])
    once = model.fit(copies).score_samples(X)
    centres, variance = model.cluster_centers_, model.variance_
    assert_allclose(model.fit(X, sample_weight=weight).score_samples(X), once)
    assert_allclose(model.cluster_centers_, centres)
    assert_allclose(model.variance_, variance)


@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-3])
def test_a_weight_is_a_number_of_copies_to_the_tolerance_too(tol: float) -> None:
    X, weight = blobs(K=1), 1 + 20 * (blobs(K=1)[:, 0] > 4)
    model = KMeansAutoencoder(8, init=X[:8], tol=tol)
    n_iter = model.fit(np.repeat(X, weight, axis=0)).n_iter_
    assert model.fit(X, sample_weight=weight).n_iter_ == n_iter


def test_rows_of_weight_zero_are_not_there() -> None:
    X, weight = blobs(), weighted() > 1
    model = KMeansAutoencoder(4, random_state=0)
    left_out = model.fit(X[weight]).cluster_centers_
    X[~weight] += 1e3
    model.fit(X, sample_weight=weight)
    assert_array_equal(model.cluster_centers_, left_out)
    assert_array_equal(model.labels_, model.predict(X))


def test_float32_far_from_zero_finds_the_same_clusters() -> None:
    X = (blobs() + 1e4).astype(np.float32)
    single = KMeansAutoencoder(4, init=X[:4]).fit(X)
    double = KMeansAutoencoder(4, init=X[:4]).fit(X.astype(np.float64))
    assert single.cluster_centers_.dtype == single.weights_.dtype == np.float64
    assert_array_equal(single.labels_, double.labels_)
    assert_allclose(single.variance_, double.variance_, rtol=1e-6)


# Codes.


@every_encoding
def test_every_code_decodes_to_the_nearest_centre(encode: str) -> None:
    X, model = blobs(), fitted(encode=encode)
    code, nearest = model.transform(X), model.cluster_centers_[model.predict(X)]
    assert_allclose(model.inverse_transform(code), nearest, atol=1e-12)
    assert_allclose(model.reconstruct(X), nearest, atol=1e-12)


def test_codes_say_one_thing_in_three_ways() -> None:
    X = blobs().astype(np.float32)
    dense, sparse, ordinal = (fitted(encode=e).transform(X) for e in ENCODINGS)
    assert scipy.sparse.issparse(sparse)
    assert sparse.format == "csr"
    assert sparse.dtype == dense.dtype == np.float32
    assert ordinal.dtype.kind == "i"
    assert_array_equal(sparse.toarray(), dense)
    assert_array_equal(ordinal, dense.argmax(1)[:, None])
    assert_array_equal(dense.sum(1), 1)


def test_columns_are_named() -> None:
    names = fitted().get_feature_names_out()
    assert list(names) == [f"kmeansautoencoder{k}" for k in range(4)]
    assert list(fitted(encode="ordinal").get_feature_names_out()) == [names[0]]


def test_a_soft_code_decodes_between_centres() -> None:
    model = fitted()
    code = np.random.RandomState(0).dirichlet(np.ones(4), 10)
    expected = code @ model.cluster_centers_
    assert_allclose(model.inverse_transform(code), expected, atol=1e-12)


@pytest.mark.parametrize("value", [-1, 4, 1.5])
def test_an_index_without_a_centre_is_named_with_its_range(value: float) -> None:
    with pytest.raises(ValueError, match=rf"\[0, 3\].* Got {value} instead"):
        fitted(encode="ordinal").inverse_transform([[0], [value]])


def test_sparse_codes_refuse_data_frames() -> None:
    model = fitted(encode="onehot").set_output(transform="pandas")
    with pytest.raises(ValueError, match="sparse"):
        model.transform(blobs())


# The density.


@pytest.mark.parametrize("prior", ["empirical", "uniform"])
def test_the_score_is_the_isotropic_mixture_on_the_codebook(prior: str) -> None:
    X, model = blobs(), fitted(prior=prior, reg_covar=0.1)
    inertia = KMeans(4, random_state=0).fit(X).inertia_
    assert_allclose(model.variance_, inertia / X.size + 0.1)
    shares = np.bincount(model.labels_) / 300
    assert_allclose(model.weights_, shares if prior == "empirical" else 0.25)
    parts = norm(model.cluster_centers_, np.sqrt(model.variance_))
    log_p = parts.logpdf(X[:, None]).sum(2) + np.log(model.weights_)
    assert_allclose(model.score_samples(X), logsumexp(log_p, axis=1), atol=1e-10)


def test_the_score_is_that_of_a_mixture_of_the_same_parts() -> None:
    X, model = blobs(), fitted()
    mixture = GaussianMixtureEM(
        4,
        covariance_type="spherical",
        weights_init=model.weights_,
        means_init=model.cluster_centers_,
        precisions_init=np.full(4, 1 / model.variance_),
        max_iter=0,
    ).fit(X)
    assert_allclose(model.score_samples(X), mixture.score_samples(X), atol=1e-10)


@pytest.mark.parametrize("d", [1, 2])
def test_the_density_integrates_to_one(d: int) -> None:
    X = np.random.RandomState(0).randn(100, d)
    model = KMeansAutoencoder(3, random_state=0).fit(X)
    axis = np.linspace(-8, 8, 500)
    grid = np.stack(np.meshgrid(*[axis] * d), axis=-1).reshape(-1, d)
    p = np.exp(model.score_samples(grid)).sum() * (axis[1] - axis[0]) ** d
    assert_allclose(p, 1, atol=1e-9)


def test_rows_on_their_centres_need_reg_covar() -> None:
    X = np.repeat(blobs(4), 5, axis=0)
    params: dict[str, Any] = {"init": X[::5], "n_init": 1}
    assert KMeansAutoencoder(4, reg_covar=1e-3, **params).fit(X).variance_ == 1e-3
    with pytest.raises(ValueError, match="Lower n_clusters or increase reg_covar"):
        KMeansAutoencoder(4, reg_covar=0, **params).fit(X)


def test_samples_have_the_moments_of_the_model() -> None:
    model = fitted()
    X = model.sample(100_000, random_state=0)
    mean = model.weights_ @ model.cluster_centers_
    off = model.cluster_centers_ - mean
    covariance = (off.T * model.weights_) @ off + model.variance_ * np.eye(3)
    scale = np.trace(covariance)
    assert_allclose(X.mean(0), mean, atol=0.01 * np.sqrt(scale))
    assert_allclose(np.cov(X.T), covariance, atol=0.01 * scale)


def test_samples_without_noise_are_centres_in_random_order() -> None:
    model = fitted()
    X = model.sample(10_000, noise=False, random_state=0)
    k = model.predict(X)
    assert_allclose(X, model.cluster_centers_[k], atol=1e-12)
    assert_allclose(np.bincount(k) / len(k), model.weights_, atol=0.02)
    assert (np.diff(k) != 0).mean() > 0.5


# Mini-batches.


def test_partial_fit_moves_centres_as_mini_batch_k_means_does() -> None:
    X = blobs(600)
    ours = KMeansAutoencoder(4, random_state=0)
    theirs = MiniBatchKMeans(4, random_state=0)
    for batch in np.split(X, 6):
        ours.partial_fit(batch)
        theirs.partial_fit(batch)
    assert_array_equal(ours.cluster_centers_, theirs.cluster_centers_)
    assert ours.n_iter_ == 6


def test_partial_fit_counts_all_batches_into_the_density() -> None:
    X = blobs(600)
    model = KMeansAutoencoder(4, random_state=0, reg_covar=0)
    counts: Any
    counts, squares = 0, 0
    for batch in np.split(X, 6):
        model.partial_fit(batch)
        k = model.predict(batch)
        assert_array_equal(model.labels_, k)
        counts = counts + np.bincount(k, minlength=4)
        squares += ((batch - model.cluster_centers_[k]) ** 2).sum()
    assert_allclose(model.weights_, counts / 600)
    assert_allclose(model.variance_, squares / X.size)


def test_partial_fit_goes_on_where_fit_has_ended() -> None:
    X = blobs()
    model = fitted()
    centres, inertia = model.cluster_centers_, model.inertia_
    counts = np.bincount(model.labels_)
    model.partial_fit(X[:1] + 0.1)
    k = model.labels_[0]
    moved = centres.copy()
    moved[k] += (X[0] + 0.1 - centres[k]) / (counts[k] + 1)
    assert_allclose(model.cluster_centers_, moved, atol=1e-12)
    assert_allclose(model.weights_ * 301, counts + np.eye(4)[k])
    assert model.inertia_ > inertia


@pytest.mark.parametrize("is_fitted", [False, True])
@pytest.mark.parametrize(("offset", "scale"), [(1e9, 1.0), (1.6e12, 1e3), (1, 1e-9)])
def test_partial_fit_far_from_zero_finds_the_same_clusters(
    offset: float, scale: float, is_fitted: bool
) -> None:
    unit = blobs()
    X = offset + scale * unit
    models = [
        KMeansAutoencoder(4, random_state=0, init=rows[:4], reg_covar=0)
        for rows in (unit, X)
    ]
    for model, rows in zip(models, (unit, X)):
        if is_fitted:
            model.fit(rows)
        for batch in np.split(rows, 3):
            model.partial_fit(batch)
    near, far = models
    found = (far.cluster_centers_ - offset) / scale
    assert_allclose(found, near.cluster_centers_, atol=1e-3)
    assert_allclose(far.variance_ / scale**2, near.variance_, rtol=1e-3)
    assert_array_equal(far.predict(X), near.predict(unit))


def test_fit_forgets_the_batches() -> None:
    model = KMeansAutoencoder(4, random_state=0).partial_fit(blobs(seed=5))
    expected = fitted()
    model.fit(blobs())
    assert_array_equal(model.cluster_centers_, expected.cluster_centers_)
    assert model.variance_ == expected.variance_


def test_a_pickle_goes_on_with_the_batches() -> None:
    batches = np.split(blobs(600), 3)
    model = KMeansAutoencoder(4, random_state=0)
    model.partial_fit(batches[0])
    copy = pickle.loads(pickle.dumps(model))
    for batch in batches[1:]:
        model.partial_fit(batch)
        copy.partial_fit(batch)
    assert_array_equal(copy.cluster_centers_, model.cluster_centers_)


# Devices.


def test_a_model_whose_device_is_gone_evaluates_on_the_cpu() -> None:
    model = fitted()
    state = pickle.loads(pickle.dumps(model))
    state.device_ = "cuda:99"
    copy = pickle.loads(pickle.dumps(state))
    assert copy.device_ == "cpu"
    assert_array_equal(copy.score_samples(blobs()), model.score_samples(blobs()))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_a_device_gives_the_same_model(init: Any) -> None:
    X = blobs()
    there = fitted(init=init, device="cuda")
    here = fitted(init=init)
    assert_allclose(there.cluster_centers_, here.cluster_centers_, atol=1e-9)
    assert_allclose(there.score_samples(X), here.score_samples(X), atol=1e-9)


# A variance for each column.


def test_a_variance_for_each_column_is_k_means_of_scaled_columns() -> None:
    rows = features(80) * [1, 1e3, 1, 1e-3, 1]
    scaler = StandardScaler().fit(rows)
    model = KMeansAutoencoder(3, variance="feature", random_state=0, reg_covar=0)
    model.fit(rows)
    theirs = KMeans(3, random_state=0).fit(rows / scaler.scale_)
    assert_array_equal(model.labels_, theirs.labels_)
    assert_array_equal(model.predict(rows), model.labels_)
    assert_allclose(model.cluster_centers_, theirs.cluster_centers_ * scaler.scale_)
    within = rows - model.cluster_centers_[model.labels_]
    assert_allclose(model.variance_, (within**2).mean(0))
    assert model.score(rows) > KMeansAutoencoder(3, random_state=0).fit(rows).score(
        rows
    )


def test_rescaled_columns_shift_the_score_of_their_own_variances() -> None:
    rows, scale = features(80), np.array([1e-6, 1.0, 1e6, 30.0, 1e3])
    model = KMeansAutoencoder(3, variance="feature", random_state=0, reg_covar=0)
    plain = clone(model).fit(rows).score_samples(rows)
    scaled = clone(model).fit(rows * scale).score_samples(rows * scale)
    assert_allclose(scaled + np.log(scale).sum(), plain, atol=1e-7)


def test_a_variance_for_each_column_takes_holes_and_given_centres() -> None:
    rows = features(80)
    holes = np.where(np.random.RandomState(0).rand(80, 5) < 0.2, np.nan, rows)
    model = KMeansAutoencoder(3, variance="feature", init=rows[:3]).fit(holes)
    within = holes - model.cluster_centers_[model.labels_]
    assert_allclose(model.variance_, np.nanmean(within**2, axis=0) + 1e-6)
    assert_array_equal(model.predict(holes), model.labels_)
    assert np.isfinite(model.score(holes))
    assert model.bic(holes) > 0
    with pytest.raises(ValueError, match="variance='shared'"):
        model.partial_fit(rows)
