"""Autoencoder: PCA, closed forms, denoising, and densities that are fitted to codes."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import subspace_angles
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

import skgen
from skgen import VAE, Autoencoder, GaussianDensity, GaussianMixtureEM, MixedDensity
from skgen._training.batches import Batch
from skgen.latent import manifold, traverse
from skgen.model_selection import BatchedGridSearchCV
from skgen.objectives import ReconstructionLoss

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.RandomState(0)
X = RNG.randn(300, 2) @ RNG.randn(2, 5) * 2 + 0.5 * RNG.randn(300, 5) + RNG.randn(5)
SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "max_iter": 3,
    "n_importance_samples": 4,
    "random_state": 0,
}
LINEAR: dict[str, Any] = {
    "hidden_layer_sizes": (),
    "standardize": False,
    "early_stopping": False,
    "learning_rate": "cosine",
    "learning_rate_init": 3e-2,
    "batch_size": 300,
    "max_iter": 300,
    "n_iter_no_change": 300,
    "n_importance_samples": 4,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def linear() -> Any:
    return Autoencoder(2, latent_density=GaussianDensity(), **LINEAR).fit(X)


def small(**params: Any) -> Any:
    return Autoencoder(**{**SMALL, **params})


# Linear networks.


def test_linear_networks_reach_the_subspace_of_pca(linear: Any) -> None:
    decoder = linear.module_.decoder[0].weight.detach().numpy()
    assert subspace_angles(decoder, PCA(2).fit(X).components_.T).max() < 1e-2
    expected = PCA(2).fit(X)
    rows = expected.inverse_transform(expected.transform(X))
    assert_allclose(linear.reconstruct(X), rows, atol=0.2)


def test_the_score_of_a_linear_autoencoder_is_exact(linear: Any) -> None:
    W = linear.module_.decoder[0].weight.detach().numpy().astype(float)
    codes = linear.transform(X)
    covariance = W @ np.cov(codes.T, bias=True) @ W.T
    noise = linear.module_.likelihood.sigma.detach().numpy().astype(float) ** 2
    mean = linear.inverse_transform(codes.mean(0, keepdims=True))[0]
    exact = multivariate_normal(mean, covariance + np.diag(noise))
    rows = np.concatenate([X[:20], X[:5] + 10])  # far from all codes, too
    assert_allclose(linear.score_samples(rows), exact.logpdf(rows), rtol=1e-4)
    assert linear.log_likelihood(X[:5], 50).standard_error.max() < 1e-3


def test_its_noise_is_that_of_the_residuals(linear: Any) -> None:
    left = ((X - linear.reconstruct(X)) ** 2).mean(0)
    sigma = linear.module_.likelihood.sigma.detach().numpy()
    assert_allclose(sigma**2, left, rtol=1e-4)


def test_samples_have_the_moments_of_the_rows(linear: Any) -> None:
    drawn = linear.sample(20_000, random_state=0)
    assert_allclose(drawn.mean(0), X.mean(0), atol=0.1)
    assert_allclose(np.cov(drawn.T), np.cov(X.T), atol=0.5)


# The loss.


def test_the_loss_is_half_the_squared_error() -> None:
    model, rows = small().fit(X), X[:4].astype(np.float32)
    module = model.module_
    x = module.view(torch.from_numpy(rows))
    loss = ReconstructionLoss()(module, Batch(x)).loss
    left = (rows - model.reconstruct(rows)) / module.standardizer.scale.numpy()
    assert_allclose(loss.detach(), 0.5 * (left**2).sum(1), rtol=1e-4)


def test_noise_is_seen_by_the_encoder_alone() -> None:
    module = small().fit(X).module_
    x, noise = torch.randn(3, 5), torch.rand(1, 3, 5)
    for kind, seen in (
        ("gaussian", x + 0.4 * noise[0]),
        ("masking", x * (noise[0] >= 0.4)),
    ):
        loss = ReconstructionLoss(0.4, kind)(module, Batch(x, noise)).loss
        left = x - module.likelihood.mean(module.reconstructed(seen))
        assert_allclose(loss.detach(), 0.5 * (left**2).sum(1).detach(), rtol=1e-6)


@pytest.mark.parametrize("corruption", ["gaussian", "masking"])
def test_a_denoising_autoencoder_brings_rows_back(corruption: Any) -> None:
    settings: dict[str, Any] = {
        **SMALL,
        "max_iter": 40,
        "learning_rate_init": 1e-2,
        "n_components": 4,
    }
    plain = Autoencoder(**settings).fit(X)
    model = Autoencoder(noise=0.4, corruption=corruption, **settings).fit(X)
    rng = np.random.RandomState(1)
    noisy = X + 0.4 * X.std(0) * rng.randn(*X.shape)
    if corruption == "masking":
        noisy = np.where(rng.rand(*X.shape) < 0.4, X.mean(0), X)
    error = [((m.reconstruct(noisy) - X) ** 2).sum() for m in (model, plain)]
    assert error[0] < error[1]


def test_masking_hides_a_part() -> None:
    with pytest.raises(ValueError, match=r"'noise' .* \[0.0, 1.0\) with corruption"):
        small(noise=1.5, corruption="masking").fit(X)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous_bernoulli"])
def test_other_likelihoods_are_descended_themselves(likelihood: Any) -> None:
    rows = (X.mean(0) < X) if likelihood == "bernoulli" else RNG.rand(*X.shape)
    rows = rows.astype(float)
    model = small(likelihood=likelihood, latent_density=GaussianDensity()).fit(rows)
    x = torch.from_numpy(rows[:4].astype(np.float32))
    outputs = model.module_.reconstructed(x)
    loss = ReconstructionLoss(squared=False)(model.module_, Batch(x)).loss
    assert_array_equal(
        loss.detach(), -model.module_.likelihood.log_prob(outputs, x).detach()
    )
    assert np.isfinite(model.score(rows))


# Densities of codes.


def test_without_a_density_there_are_codes_and_no_scores(tmp_path: Path) -> None:
    model = small().fit(X)
    for name in ("sample", "score", "score_samples", "log_likelihood"):
        assert not hasattr(Autoencoder(), name)
        with pytest.raises(AttributeError, match="latent_density=skgen"):
            getattr(model, name)
    assert hasattr(Autoencoder(latent_density=GaussianDensity()), "score")
    path = tmp_path / "model.safetensors"
    skgen.save(model, path)
    assert_array_equal(skgen.load(path).transform(X), model.transform(X))


@pytest.mark.parametrize(
    "density",
    [
        GaussianMixtureEM(2),
        VAE(1, hidden_layer_sizes=(4,), max_iter=2),
        GaussianMixture(2),
        KernelDensity(bandwidth=0.5),
    ],
    ids=lambda density: type(density).__name__,
)
def test_any_density_is_fitted_to_the_codes(density: Any) -> None:
    model = small(latent_density=density).fit(X)
    again = clone(model).fit(X)
    assert type(model.latent_density_) is type(density)
    assert_array_equal(model.score_samples(X), again.score_samples(X))
    draws = [m.sample(9, random_state=0) for m in (model, again, model)]
    assert_array_equal(draws[0], draws[1])
    assert_array_equal(draws[0], draws[2])
    assert not np.array_equal(draws[0], model.sample(9, random_state=1))
    copy = pickle.loads(pickle.dumps(model))
    assert_array_equal(copy.score_samples(X), model.score_samples(X))


def test_draws_of_a_mixture_come_in_random_order() -> None:
    model = small(latent_density=GaussianMixture(2, random_state=0)).fit(
        np.concatenate([X, X + 20])
    )
    first = model.sample(200, random_state=0)[:, 0] > X[:, 0].mean() + 10
    assert np.abs(np.diff(first.astype(int))).sum() > 20


@pytest.mark.parametrize("density", [GaussianMixtureEM(2), VAE(1, **SMALL)])
def test_a_file_holds_the_density(density: Any, tmp_path: Path) -> None:
    model = small(latent_density=density).fit(X)
    path = tmp_path / "model.safetensors"
    skgen.save(model, path)
    found = skgen.load(path)
    assert_array_equal(found.score_samples(X), model.score_samples(X))
    assert repr(found) == repr(model)


def test_a_file_refuses_a_density_of_others(tmp_path: Path) -> None:
    model = small(latent_density=KernelDensity()).fit(X)
    with pytest.raises(TypeError, match="joblib"):
        skgen.save(model, tmp_path / "model.safetensors")


def test_weights_reach_the_density() -> None:
    weight = RNG.rand(300)
    model = small(latent_density=GaussianDensity()).fit(X, sample_weight=weight)
    codes = model.transform(X)
    train = model.latent_density_.mean_
    assert np.linalg.norm(train - np.average(codes, axis=0, weights=weight)) < 0.2
    with pytest.raises(ValueError, match="takes no sample_weight"):
        small(latent_density=GaussianMixture()).fit(X, sample_weight=weight)


def test_a_partial_fit_fits_the_density_anew() -> None:
    model = small(latent_density=GaussianDensity())
    first = model.partial_fit(X[:100]).latent_density_
    model.partial_fit(X[100:])
    assert model.latent_density_ is not first
    assert model.n_iter_ == 2
    assert_allclose(
        model.latent_density_.mean_, model.transform(X[100:]).mean(0), atol=1e-5
    )


def test_a_warm_start_goes_on() -> None:
    model = small(warm_start=True, latent_density=GaussianDensity()).fit(X)
    assert model.fit(X).n_iter_ == 6
    model.set_params(latent_density=None).fit(X)
    assert not hasattr(model, "score")


def test_a_failed_density_leaves_the_fit_as_it_was() -> None:
    model = small(latent_density=GaussianDensity()).fit(X)
    before = model.score_samples(X)
    with pytest.raises(ValueError):
        model.set_params(latent_density=GaussianMixtureEM(1000)).fit(X)
    assert_array_equal(model.score_samples(X), before)


# With the rest of the house.


def test_a_batched_search_takes_it() -> None:
    model = small(latent_density=GaussianDensity())
    grid: dict[str, Any] = {
        "noise": [0.0, 0.3],
        "latent_density": [GaussianDensity(), None],
    }
    grid["latent_density"].pop()
    search = BatchedGridSearchCV(model, grid, cv=2).fit(X)
    alone = clone(model).set_params(**search.best_params_).fit(X)
    assert_array_equal(search.best_estimator_.score_samples(X), alone.score_samples(X))


def test_ways_through_the_code_go_by_its_spread() -> None:
    model = small(latent_density=GaussianDensity()).fit(X + 3)
    mean, spread = model._code_mean, np.sqrt(model.latent_variances_)
    found = traverse(model, n_steps=3, span=2.0)
    first = found.latents[0]
    code = mean + 2.0 * spread * (np.arange(2) == first)
    expected = model.inverse_transform(code[None].astype(float))
    assert_allclose(found.rows[0, 2], expected[0], rtol=1e-5)
    middle = manifold(model, n_steps=3).rows[1, 1]
    assert_allclose(middle, model.inverse_transform(mean[None])[0], rtol=1e-5)


def test_missing_cells_are_refused() -> None:
    rows = X.copy()
    rows[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        small().fit(rows)
    with pytest.raises(ValueError, match="complete rows"):
        MixedDensity(small()).fit(X)


def test_images_are_encoded_by_convolutions() -> None:
    rows = RNG.rand(40, 64)
    model = small(
        architecture="conv",
        image_shape=(8, 8),
        channels=2,
        max_iter=1,
        latent_density=GaussianDensity(),
    ).fit(rows)
    assert np.isfinite(model.score(rows))


def test_a_coordinate_that_is_not_used_does_no_harm() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = small(n_components=4, latent_density=GaussianDensity()).fit(X[:, :1])
    assert np.isfinite(model.score_samples(X[:, :1])).all()
