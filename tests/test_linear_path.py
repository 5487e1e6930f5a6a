"""The linear path of networks, and the factor analysis that a fit starts from."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from torch import Tensor

from skgen import IWAE, VAE, VQVAE, BetaVAE, GaussianDensity
from skgen._em.moments import likeliest_moments
from skgen._networks.factors import covariance_of, factor_analysis
from skgen._networks.proposals import LinearPosterior
from skgen.likelihoods import Gaussian, Mixed
from tests.toys import normal

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

D = 4
ROOT = np.array([[1, 0, 0, 0], [2, 1, 0, 0], [-1, 0.3, 0.5, 0], [0.5, 1, 0, 0.8]])
MEAN = np.array([1.0, -2.0, 0.0, 5.0])
COVARIANCE = ROOT @ ROOT.T
SD = np.sqrt(np.diag(COVARIANCE))


def gaussian_rows(n: int = 600) -> Any:
    """Rows whose sample moments are those of the density, exactly."""
    z = np.random.RandomState(0).randn(n, D)
    z -= z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T, bias=True))).T
    return MEAN + z @ ROOT.T


ROWS = gaussian_rows()
START: dict[str, Any] = {
    "linear_path": "auto",
    "max_iter": 1,
    "learning_rate_init": 1e-30,
    "random_state": 0,
}


# Factor analysis.


def log_likelihood(factors: Any, covariance: Tensor) -> Any:
    """Mean log-density of rows with a covariance."""
    W = factors.loadings
    model = (W @ W.T + factors.noise.diag()).numpy()
    inner = np.trace(np.linalg.solve(model, covariance.numpy()))
    return -0.5 * (np.linalg.slogdet(model)[1] + inner)


def test_factor_analysis_is_at_least_probabilistic_pca() -> None:
    rows = torch.tensor(normal(200, 6, seed=3).numpy() @ np.diag([3, 2, 1, 1, 1, 0.5]))
    covariance = covariance_of(rows, rows.mean(0))
    free = factor_analysis(covariance, 2, lambda noise: noise)
    shared = factor_analysis(covariance, 2, lambda noise: noise.mean().expand(6))
    pca = GaussianDensity(2, reg_covar=0).fit(rows.numpy()).score(rows.numpy())
    pca += 3 * np.log(2 * np.pi)
    assert_allclose(log_likelihood(shared, covariance), pca, atol=1e-6)
    assert log_likelihood(free, covariance) > pca + 0.05
    posterior = (free.loadings.T / free.noise) @ free.loadings
    assert_allclose(posterior, posterior.diagonal().diag(), atol=1e-8)


def test_one_factor_less_than_columns_is_the_whole_covariance() -> None:
    factors = factor_analysis(torch.tensor(COVARIANCE), D - 1, lambda noise: noise)
    found = factors.loadings @ factors.loadings.T + factors.noise.diag()
    assert_allclose(found, COVARIANCE, atol=1e-8)


def test_the_posterior_of_a_linear_model_is_exact_for_any_cells() -> None:
    linear = LinearPosterior(5, 3).double()
    linear.loadings = normal(5, 3).double()
    linear.noise, linear.mean = normal(5).double() ** 2 + 0.1, normal(5).double()
    x = normal(4, 5, seed=4).double()
    x[1, 2:] = x[2] = torch.nan
    q = linear(x)
    for i, row in enumerate(x):
        seen = ~row.isnan()
        W, psi = linear.loadings[seen], linear.noise[seen]
        precision = W.T @ (W / psi[:, None]) + torch.eye(3)
        mean = torch.linalg.solve(precision, W.T @ ((row - linear.mean)[seen] / psi))
        exact = torch.distributions.MultivariateNormal(mean, precision_matrix=precision)
        z = normal(4, 3, seed=5).double()
        assert_allclose(q.log_prob(z)[i], exact.log_prob(z)[i], atol=1e-10)


# The start of a fit.


@pytest.mark.parametrize("sigma", ["feature", "shared", "row"])
@pytest.mark.parametrize("n_components", [1, 2, 10])
def test_a_fit_starts_at_least_at_probabilistic_pca(
    sigma: Any, n_components: int
) -> None:
    model = VAE(
        n_components, likelihood=Gaussian(sigma), early_stopping=False, **START
    ).fit(ROWS)
    # In standardised units, of which the networks have one noise.
    scaled = (ROWS - MEAN) / SD
    pca = GaussianDensity(min(n_components, D), reg_covar=0).fit(scaled)
    careful = model.log_likelihood(ROWS[:200], 1000).mean_log_prob
    assert careful > pca.score(scaled[:200]) - np.log(SD).sum() - 0.02


def test_a_fit_of_little_gain_stays_at_its_start() -> None:
    model = VAE(2, linear_path="auto", max_iter=20, random_state=0).fit(ROWS)
    assert model.best_epoch_ == 0
    layers = model.module_.decoder
    assert not layers[-1].weight.any()
    assert layers.linear.any()


def test_a_fit_of_much_gain_leaves_it() -> None:
    x = np.random.RandomState(0).uniform(-2, 2, 400)
    rows = np.column_stack([x, x**2]) + 0.1 * np.random.RandomState(1).randn(400, 2)
    model = VAE(
        1, linear_path="auto", random_state=0, max_iter=40, learning_rate_init=5e-3
    ).fit(rows)
    assert model.score(rows) > GaussianDensity().fit(rows).score(rows) + 0.3


def test_networks_without_normal_columns_or_of_the_user_have_no_path() -> None:
    binary = (ROWS > MEAN).astype(float)
    for model in (
        VAE(2, likelihood="bernoulli", **START).fit(binary),
        VAE(2, hidden_layer_sizes=(), **START).fit(ROWS),
        VAE(2, **{**START, "linear_path": False}).fit(ROWS),
        VAE(2, decoder=torch.nn.Linear(2, D), **START).fit(ROWS),
        VAE((2, 1), **START).fit(ROWS),
    ):
        assert not hasattr(model.module_.encoder, "linear")
    asked = VAE(2, likelihood="bernoulli", **{**START, "linear_path": True}).fit(binary)
    assert not asked.module_.decoder.linear.any()
    with pytest.raises(ValueError, match="linear_path=True of VAE is for its own"):
        VAE(2, linear_path=True, decoder=torch.nn.Linear(2, D)).fit(ROWS)


def test_a_vqvae_has_a_path_where_it_is_asked_for() -> None:
    settings: dict[str, Any] = {
        "hidden_layer_sizes": (8,),
        "max_iter": 1,
        "random_state": 0,
    }
    model = VQVAE(4, linear_path=True, **settings).fit(ROWS)
    assert model.module_.decoder.linear.any()


# The law of missing cells, by default networks.


def conditional(row: NDArray[Any]) -> tuple[Any, ...]:
    """Conditional mean of a Gaussian row, and the log-density of what is there."""
    there = ~np.isnan(row)
    own = COVARIANCE[np.ix_(there, there)]
    slope = COVARIANCE[:, there] @ np.linalg.inv(own)
    log_prob = multivariate_normal(MEAN[there], own).logpdf(row[there])
    return MEAN + slope @ (row - MEAN)[there], log_prob


def queries() -> NDArray[Any]:
    rows = np.full((3 * D, D), np.nan)
    for i, z in enumerate((0, 3, -3)):
        places = np.arange(D)
        rows[i * D + places, places] = MEAN + z * SD
    return rows


@pytest.mark.parametrize(("cls", "n_components"), [(VAE, 10), (IWAE, 3)])
def test_tails_of_a_gaussian_table_are_right(cls: type[Any], n_components: int) -> None:
    model = cls(
        n_components,
        likelihood=Mixed(["real"] * D),
        max_iter=15,
        random_state=0,
        linear_path="auto",
    ).fit(gaussian_rows(1000))
    asked = queries()
    means, log_probs = map(np.array, zip(*map(conditional, asked)))
    assert abs(model.log_likelihood(asked, 1000).log_prob - log_probs).max() < 0.2
    assert (abs(model.impute(asked) - means) / SD).max() < 0.2
    far = MEAN + 3 * np.vstack([ROOT[:, 0], -ROOT[:, 0]])
    truth = multivariate_normal(MEAN, COVARIANCE).logpdf(far)
    assert abs(model.log_likelihood(far, 1000).log_prob - truth).max() < 0.2


def test_tails_are_those_of_rows_with_holes() -> None:
    rows = gaussian_rows(2000)
    rows[np.random.RandomState(1).rand(*rows.shape) < 0.2] = np.nan
    model = VAE(
        3,
        likelihood=Mixed(["real"] * D),
        max_iter=10,
        random_state=0,
        linear_path="auto",
    )
    model.fit(rows)
    asked = queries()
    means, log_probs = map(np.array, zip(*map(conditional, asked)))
    assert abs(model.log_likelihood(asked, 1000).log_prob - log_probs).mean() < 0.15
    assert (abs(model.impute(asked) - means) / SD).mean() < 0.15


def test_another_weight_of_the_divergence_is_no_reason_to_go_back() -> None:
    # Its start, at a weight of one, has a better bound, and is not what is asked for.
    model = BetaVAE(2, beta=50.0, **{**START, "max_iter": 40, "linear_path": True})
    model.set_params(learning_rate_init=1e-2).fit(ROWS)
    assert model.best_epoch_ > 0
    assert model.elbo(ROWS).kl.mean() < 0.1


# Rows with holes.


def with_holes_at_random(rows: Any) -> Any:
    """Hide the others where the first cell is large: moments of cells are wrong."""
    found = rows.clone()
    found[rows[:, 0] > 0.5, 1:] = torch.nan
    found[::7, 0] = torch.nan
    return found[~found.isnan().all(1)]


def correlated_rows(n: int = 400) -> Any:
    z = torch.randn(n, 1, generator=torch.Generator().manual_seed(0)).double()
    e = torch.randn(n, 3, generator=torch.Generator().manual_seed(1)).double()
    return z * torch.tensor([1.0, 2.0, -1.0]) + 0.5 * e


def test_moments_of_rows_with_holes_are_the_likeliest() -> None:
    holes = with_holes_at_random(correlated_rows())
    found = likeliest_moments(holes)
    assert found is not None
    exact = GaussianDensity(reg_covar=0, tol=1e-10).fit(holes.numpy())
    # Steps end where they gain less than chance does.
    assert_allclose(found[0], exact.mean_, atol=0.1)
    assert_allclose(found[1], exact.get_covariance(), atol=0.5)
    assert abs(np.nanmean(holes[:, 1]) - exact.mean_[1]) > 0.5  # of what is there


@pytest.mark.parametrize("n", [9, 200])
def test_few_rows_or_an_empty_column_have_no_likeliest_moments(n: int) -> None:
    rows = correlated_rows(n)
    rows[0, 0] = torch.nan
    if n > 9:
        rows[:, 1] = torch.nan
    assert likeliest_moments(rows) is None


def test_a_fit_with_holes_starts_at_the_likeliest_linear_model() -> None:
    holes = with_holes_at_random(correlated_rows()).numpy()
    model = VAE(2, likelihood=Mixed(["real"] * 3), **START)
    score = model.fit(holes).log_likelihood(holes, 500).mean_log_prob
    exact = GaussianDensity().fit(holes).score(holes)
    assert abs(score - exact) < 0.1
