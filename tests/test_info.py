"""InfoVAE and TCVAE: closed forms, sums of parts, and the VAE as a special case."""

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.distributions import Independent, MultivariateNormal
from torch.distributions import Normal as TorchNormal

from skgen import TCVAE, VAE, InfoVAE
from skgen.objectives import (
    KERNELS,
    aggregate_log_probs,
    mean_of_pairs,
    squared_mmd,
    total_correlation,
)
from skgen.priors import Normal, StandardNormal
from tests.toys import normal

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.RandomState(0)
X = RNG.randn(120, 2) @ RNG.randn(2, 5) + 0.3 * RNG.randn(120, 5)
SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "max_iter": 4,
    "n_importance_samples": 8,
    "random_state": 0,
}


@pytest.mark.parametrize("components", [2, (3, 2)])
def test_an_info_vae_without_weights_is_the_vae_to_the_bit(components: Any) -> None:
    expected = VAE(components, **SMALL).fit(X)
    model = InfoVAE(components, alpha=0.0, mmd_weight=0.0, **SMALL).fit(X)
    assert model.loss_curve_ == expected.loss_curve_
    assert model.validation_curve_ == expected.validation_curve_
    assert_array_equal(model.score_samples(X), expected.score_samples(X))


def test_a_tcvae_of_beta_one_is_the_vae_to_the_bit() -> None:
    expected, model = VAE(2, **SMALL).fit(X), TCVAE(2, beta=1.0, **SMALL).fit(X)
    assert model.loss_curve_ == expected.loss_curve_
    assert_array_equal(model.score_samples(X), expected.score_samples(X))


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_mmd_of_normals_is_its_closed_form(shift: Any) -> None:
    k, n = 2, 4096
    z = shift + 0.5 * normal(n, k, seed=1)
    found = squared_mmd(z, normal(n, k, seed=2), kernel="rbf")

    def mean_kernel(
        variance: Any, distance: Any
    ) -> Any:  # E exp(-d^2 / 2k), d ~ N(distance, variance)
        width = k + variance
        return (k / width) ** (k / 2) * math.exp(-k * distance**2 / (2 * width))

    exact = mean_kernel(0.5, 0.0) + mean_kernel(2.0, 0.0)
    exact -= 2 * mean_kernel(1.25, shift)
    assert_allclose(float(found), exact, atol=2e-2)


@pytest.mark.parametrize("kernel", KERNELS)
def test_mmd_is_without_bias_at_the_prior(kernel: Any) -> None:
    values = [
        float(
            squared_mmd(normal(8, 3, seed=i), normal(8, 3, seed=1000 + i), None, kernel)
        )
        for i in range(300)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(300)
    assert min(values) < 0  # as an estimate without bias is


def test_one_row_has_no_mmd_that_is_not_finite() -> None:
    z = normal(1, 2, seed=1)
    assert torch.isfinite(squared_mmd(z, z + 1))


def test_weights_count_rows_of_mmd() -> None:
    z, prior = normal(6, 2, seed=1), normal(6, 2, seed=2)
    weight = torch.tensor([1.0, 0, 0, 2, 1, 0])
    kernel = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    found = mean_of_pairs(kernel, weight, torch.ones(6))
    assert_allclose(found, np.average(kernel.mean(1), weights=weight), rtol=1e-5)
    assert torch.isfinite(squared_mmd(z, prior, weight))


def test_many_rows_are_compared_in_blocks() -> None:
    z, prior = normal(600, 2, seed=1), normal(600, 2, seed=2)
    blocks = [squared_mmd(z[i : i + 200], prior[i : i + 200]) for i in (0, 200, 400)]
    torch.testing.assert_close(squared_mmd(z, prior), torch.stack(blocks).mean())


def test_the_parts_add_up_to_the_kl() -> None:
    rows, draws = 5, 4000  # all rows there are
    q = Normal(normal(rows, 2, seed=1), 0.3 + 0.5 * torch.rand(rows, 2).double())
    parts: Any = []
    for i in range(draws // 10):
        z = q.draw(normal(rows, 2, seed=10 + i))
        joint, each = aggregate_log_probs(q, z)
        information = q.log_prob(z) - joint
        correlation = joint - each.sum(-1)
        beyond = each.sum(-1) - StandardNormal(2).log_prob(z)
        parts.append(torch.stack([information, correlation, beyond]).mean(1))
    parts = torch.stack(parts)
    error = parts.sum(1).std() / math.sqrt(len(parts))
    kl = StandardNormal(2).kl(q, cast(Any, None)).sum(-1).mean()
    assert abs(parts.sum(1).mean() - kl) < 4 * error
    assert (parts.mean(0) > -0.02).all()  # each is a KL
    assert parts[:, 0].mean() < math.log(rows)  # a row is one of five


def test_the_total_correlation_of_independent_rows_is_a_normal_one() -> None:
    # Rows whose codes are points: q(z) is that of the points with a little noise.
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    points = normal(256, 2, seed=1) @ torch.linalg.cholesky(covariance).T
    q = Normal(points, torch.full_like(points, 0.5))
    z = q.draw(normal(256, 2, seed=2))
    wide = torch.cov(points.T) + 0.25 * torch.eye(2)
    joint = MultivariateNormal(points.mean(0), wide)
    alone = Independent(TorchNormal(points.mean(0), wide.diagonal().sqrt()), 1)
    expected = (joint.log_prob(z) - alone.log_prob(z)).mean()
    assert abs(total_correlation(q, z) - expected) < 0.08


def test_total_correlation_goes_down_where_it_is_weighed() -> None:
    settings: dict[str, Any] = {**SMALL, "max_iter": 12, "learning_rate_init": 3e-2}
    curves = [
        TCVAE(2, beta=beta, **settings).fit(X).loss_terms_["total_correlation"]
        for beta in (1.0, 30.0)
    ]
    assert curves[1][-1] < curves[0][-1]


def test_mmd_holds_codes_to_the_prior() -> None:
    settings: dict[str, Any] = {
        **SMALL,
        "max_iter": 15,
        "learning_rate_init": 3e-2,
        "batch_size": 64,
    }
    free, held = (
        InfoVAE(2, alpha=1.0, mmd_weight=weight, **settings).fit(X)
        for weight in (1e-3, 300.0)
    )
    assert held.loss_terms_["mmd"][-1] < 0.5 * free.loss_terms_["mmd"][-1]
    assert np.isfinite(held.score(X))


def test_a_tcvae_has_one_layer() -> None:
    with pytest.raises(ValueError, match=r"'n_components' .* one layer"):
        TCVAE((3, 2), **SMALL).fit(X)
