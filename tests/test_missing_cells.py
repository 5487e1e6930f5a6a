"""Rows with missing cells, held against conditionals in closed form."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp, multivariate_normal, norm
from sklearn.base import clone

from skgen import IWAE, VAE, VQVAE, MixedDensity
from skgen._networks.proposals import (
    CoupledNormal,
    TokenProposal,
    WithPrior,
    hidden_sizes,
)
from skgen._networks.token_priors import AutoregressivePrior
from skgen.exceptions import DegenerateWeightsWarning
from skgen.likelihoods import Mixed
from skgen.models.evaluation import LogLikelihood
from skgen.models.planning import TrainingPlan
from skgen.models.proposal_learning import hide_cells
from skgen.models.vae import Posterior
from skgen.priors import StandardNormal
from tests.toys import generator, normal, uniform

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NAN = np.nan
MEAN = np.array([1.0, -2.0, 0.0])
ROOT = np.array([[1.0, 0.0, 0.0], [2.0, 1.0, 0.0], [-1.0, 0.0, 0.5]])
COVARIANCE = ROOT @ ROOT.T
SD = np.sqrt(np.diag(COVARIANCE))


def gaussian_rows(n: int, seed: int = 0) -> Any:
    """Rows whose sample moments are those of the density, exactly."""
    z = np.random.RandomState(seed).randn(n, 3)
    z -= z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T, bias=True))).T
    return MEAN + z @ ROOT.T


def with_holes(rows: NDArray[Any], part: float, seed: int = 0) -> NDArray[Any]:
    rng = np.random.RandomState(seed)
    return np.where(rng.rand(*rows.shape) < part, NAN, rows)


def conditional(row: NDArray[Any]) -> tuple[Any, ...]:
    """Conditional mean of a Gaussian row, and the log-density of what is there."""
    there = ~np.isnan(row)
    own = COVARIANCE[np.ix_(there, there)]
    slope = COVARIANCE[:, there] @ np.linalg.inv(own)
    mean = MEAN + slope @ (row - MEAN)[there]
    return mean, multivariate_normal(MEAN[there], own).logpdf(row[there])


def queries() -> Any:
    """Rows with one cell that is there, and with one that is missing."""
    rows = []
    for j in range(3):
        for z in (0, 3, -3):
            row = np.full(3, NAN)
            row[j] = MEAN[j] + z * SD[j]
            rows.append(row)
            fuller = conditional(row)[0]
            fuller[(j + 1) % 3] = NAN
            rows.append(fuller)
    return np.array(rows)


QUERIES = queries()
# Of a linear decoder, which has the exact density, so that what is left to be wrong is
# what is said of missing cells.
LINEAR: dict[str, Any] = {
    "hidden_layer_sizes": (),
    "learning_rate_init": 0.01,
    "learning_rate": "cosine",
    "max_iter": 60,
    "random_state": 0,
    "likelihood": Mixed(["real"] * 3),
}


def law_rows(part: float, n: int = 1000, seed: int = 1) -> NDArray[Any]:
    """Rows of which each column has the exact moments where it is there."""
    rows = gaussian_rows(n)
    return with_holes(rows, part, seed) if part else rows


@pytest.fixture(scope="module")
def complete() -> Any:
    return VAE(2, **LINEAR).fit(law_rows(0))


@pytest.fixture(scope="module")
def holed() -> Any:
    return VAE(2, **{**LINEAR, "max_iter": 120}).fit(law_rows(0.3, n=2000))


def check_the_law(model: Any, tol: Any = 0.15, far: Any = None) -> None:
    means, log_probs = map(np.array, zip(*map(conditional, QUERIES)))
    at_mean = np.arange(len(QUERIES)) % 6 < 2
    assert (abs(model.impute(QUERIES) - means) / SD).max() < tol
    careful = model.log_likelihood(QUERIES, 1000)
    error = abs(careful.log_prob - log_probs)
    assert error[at_mean].max() < tol
    assert error.mean() < tol
    assert abs(model.score_samples(QUERIES) - careful.log_prob).mean() < tol
    assert careful.effective_sample_size.min() > 100


def test_a_vae_of_complete_rows_knows_marginals_and_conditionals(complete: Any) -> None:
    check_the_law(complete)


def test_a_vae_of_rows_with_holes_knows_marginals_and_conditionals(holed: Any) -> None:
    check_the_law(holed)
    rows = gaussian_rows(300, seed=3)
    truth = multivariate_normal(MEAN, COVARIANCE).logpdf(rows).mean()
    assert truth - holed.score(rows) < 0.1


def test_an_iwae_of_complete_rows_knows_marginals_and_conditionals() -> None:
    check_the_law(IWAE(2, **LINEAR).fit(law_rows(0)))


def test_a_label_and_numbers_know_of_each_other() -> None:
    label = np.repeat([0, 1], 500)
    noise = norm.ppf((np.arange(500) + 0.5) / 500)
    x = np.where(label, 2.0, -2.0) + np.tile(noise, 2)
    table = pd.DataFrame({"x": x, "label": np.array(["no", "yes"])[label]})
    settings: dict[str, Any] = {
        "hidden_layer_sizes": (64,),
        "learning_rate_init": 0.003,
    }
    settings = {
        **LINEAR,
        **settings,
        "max_iter": 100,
        "likelihood": "gaussian",
    }
    model = MixedDensity(IWAE(2, **settings)).fit(table)
    asked = pd.DataFrame(
        {"x": [NAN, NAN, -2.0, 2.0], "label": ["no", "yes", None, None]}
    )
    filled = model.impute(asked)
    np.testing.assert_allclose(filled.x[:2], [-2, 2], atol=0.15 * x.std())
    assert filled.label[2:].tolist() == ["no", "yes"]
    halves = 0.5 * norm.pdf(-2, [-2, 2]).sum()
    found = model.log_likelihood(asked, 1000).log_prob
    np.testing.assert_allclose(found, np.log([0.5, 0.5, halves, halves]), atol=0.15)


def test_the_posterior_of_missing_cells_leaves_the_density_alone(
    complete: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = gaussian_rows(1000)
    monkeypatch.setattr(TrainingPlan, "learn_proposal", lambda *_: iter(()))
    without = VAE(2, **LINEAR).fit(rows)
    scores = without.score_samples(rows[:50])
    np.testing.assert_array_equal(complete.score_samples(rows[:50]), scores)


def test_complete_rows_and_others_do_not_see_each_other(complete: Any) -> None:
    rows = np.concatenate([QUERIES, gaussian_rows(20)])
    order = np.random.RandomState(0).permutation(len(rows))
    for method in (
        complete.score_samples,
        complete.transform,
        complete.impute,
        lambda x: complete.posterior(x).std,
        lambda x: complete.elbo(x).kl,
    ):
        together = method(rows)
        np.testing.assert_allclose(method(rows[order]), together[order], rtol=1e-9)
        np.testing.assert_allclose(method(rows[3:4]), together[3:4], rtol=1e-9)


def test_the_code_of_a_row_without_cells_is_that_of_the_prior(complete: Any) -> None:
    nothing = np.full((1, 3), NAN)
    posterior = complete.posterior(nothing)
    assert abs(posterior.mean).max() < 0.3
    np.testing.assert_allclose(posterior.std, 1, atol=0.3)
    assert abs(complete.score_samples(nothing)) < 0.15


def test_the_bound_of_a_row_with_missing_cells_is_below_its_density(
    complete: Any,
) -> None:
    bound = complete.elbo(QUERIES)
    careful = complete.log_likelihood(QUERIES, 1000).log_prob
    gap = careful - (bound.reconstruction - bound.kl)
    assert (gap > -0.1).all()
    assert gap.mean() < 0.5


def test_draws_of_equal_rows_are_as_various_as_the_density(complete: Any) -> None:
    row = np.full((1000, 3), NAN)
    row[:, 0] = MEAN[0] + 2 * SD[0]
    drawn = complete.impute(row, noise=True, random_state=0)
    for j, (slope, sigma) in {1: (2, 1), 2: (-1, 0.5)}.items():
        truth = norm(MEAN[j] + slope * 2 * SD[0], sigma)
        assert abs(drawn[:, j].mean() - truth.mean()) < 0.25 * sigma
        assert drawn[:, j].std() == pytest.approx(sigma, rel=0.15)
    assert len(np.unique(drawn[:, 1])) == 1000
    again = complete.impute(row, noise=True, random_state=0)
    np.testing.assert_array_equal(drawn, again)
    assert (complete.impute(row, noise=True, random_state=1) != drawn)[:, 1:].all()


def test_draws_of_rows_without_cells_are_samples(complete: Any) -> None:
    drawn = complete.impute(np.full((1000, 3), NAN), noise=True, random_state=0)
    sample = complete.sample(1000, random_state=0)
    for j in range(3):
        assert ks_2samp(drawn[:, j], sample[:, j]).pvalue > 1e-3


def test_draws_pick_fresh_latent_codes() -> None:
    # Nearly no noise: a row tells its code, and so how many there are.
    rng = np.random.RandomState(0)
    rows = rng.randn(500, 3) @ rng.randn(3, 6) + 0.05 * rng.randn(500, 6)
    params: dict[str, Any] = {
        **LINEAR,
        "likelihood": Mixed(["real"] * 6),
        "max_iter": 40,
    }
    model = VAE(3, **params).fit(rows)
    drawn = model.impute(np.full((300, 6), NAN), noise=True, random_state=0)
    near = (abs(drawn[:, None] - drawn) < 0.3 * rows.std(0)).all(-1)
    sample = model.sample(300, random_state=1)
    expected = (abs(sample[:, None] - sample) < 0.3 * rows.std(0)).all(-1)
    assert near.sum() < 1.2 * expected.sum()


# Tokens.


@pytest.fixture(scope="module")
def tokens() -> Any:
    model = VQVAE(
        8,
        code_size=2,
        n_tokens=2,
        hidden_layer_sizes=(16,),
        learning_rate_init=0.01,
        max_iter=30,
        random_state=0,
        likelihood=Mixed(["real"] * 3),
    )
    return model.fit(gaussian_rows(400))


def enumerated(model: Any, rows: NDArray[Any]) -> tuple[Any, ...]:
    """Log p of rows, (n,), over all sequences of two tokens."""
    module, K = model.module_.double(), model.codebook_size
    every = torch.cartesian_prod(torch.arange(K), torch.arange(K))
    x = module.view(torch.tensor(rows))
    with torch.no_grad():
        outputs = module.outputs_of(every[:, None])
        log_joint = module.likelihood.log_prob(outputs, x)
        log_joint = log_joint + module.prior.log_prob(every)[:, None]
        found = log_joint.logsumexp(0) - module.standardizer.log_scale
        mean = module.likelihood.mixture_mean([(outputs, log_joint)])
    module.float()
    return found.numpy(), module.standardizer.inverse(mean).numpy()


def test_tokens_of_rows_with_missing_cells_have_the_exact_sums(tokens: Any) -> None:
    near = QUERIES[np.arange(len(QUERIES)) % 6 < 2]
    log_prob, mean = enumerated(tokens, near)
    careful = tokens.log_likelihood(near, 1000)
    np.testing.assert_allclose(careful.log_prob, log_prob, atol=0.15)
    error = abs(tokens.impute(near) - np.where(np.isnan(near), mean, near))
    assert (error / SD).max() < 0.15
    assert (tokens.score_samples(near) < careful.log_prob + 0.5).all()
    drawn = tokens.impute(np.repeat(near[:1], 500, 0), noise=True, random_state=0)
    assert len(np.unique(drawn[:, 1])) == 500


def test_a_token_proposal_is_a_density_and_draws_from_it() -> None:
    prior = AutoregressivePrior(2, 3, 64)
    for seed, p in enumerate(prior.parameters()):
        p.data = normal(*p.shape, seed=seed).float()
    prior.counts = torch.tensor([[5.0, 0, 1], [2.0, 2, 9]])
    proposal = TokenProposal(4, 2, 3)
    inputs = normal(1, 4).float()
    proposal.start_from(prior)
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3))[:, None]
    with torch.no_grad():
        network = prior.token_log_probs(every[:, 0])[0].sum(-1)
        q = proposal(inputs, prior, 1e-9).proposal
        torch.testing.assert_close(q.log_prob(every)[:, 0], network, atol=1e-2, rtol=0)
        proposal.outputs.normal_(generator=generator(3))
        q = proposal(inputs, prior, 0.1).proposal
        mass = q.log_prob(every)[:, 0].exp()
        drawn = q.draw(uniform(20_000, 1, 2).float())[:, 0]
    assert mass.sum().item() == pytest.approx(1)
    shares = (3 * drawn[:, 0] + drawn[:, 1]).bincount(minlength=9) / 20_000
    np.testing.assert_allclose(shares, mass, atol=0.02)


# The parts.


def coupled(n: int = 2, k: Any = 3) -> Any:
    below = torch.tril(normal(n, k, k, seed=2), -1)
    coupling = below + torch.eye(k, dtype=below.dtype)
    return CoupledNormal(normal(n, k), 0.3 * normal(n, k, seed=1), coupling)


def test_a_coupled_normal_is_the_multivariate_normal() -> None:
    q = coupled()
    root = torch.linalg.inv(q.coupling) @ q.log_scale.exp().diag_embed()
    covariance = root @ root.mT
    exact = torch.distributions.MultivariateNormal(q.mean, covariance)
    eps = normal(50_000, 2, 3, seed=4)
    z = q.draw(eps)
    torch.testing.assert_close(q.log_prob(z), exact.log_prob(z))
    torch.testing.assert_close(q.draw(eps[0]), z[0])
    torch.testing.assert_close(q.log_prob(z[0]), exact.log_prob(z[0]))
    torch.testing.assert_close(q.sigma, covariance.diagonal(dim1=1, dim2=2).sqrt())
    np.testing.assert_allclose(torch.cov(z[:, 0].T), covariance[0], atol=0.2)
    kl = torch.distributions.kl_divergence(
        exact,
        torch.distributions.MultivariateNormal(torch.zeros_like(q.mean), torch.eye(3)),
    )
    torch.testing.assert_close(StandardNormal(3).kl(q, z).sum(-1), kl)


def test_draws_from_the_prior_bound_the_weights() -> None:
    q = WithPrior(coupled(), StandardNormal(3))
    z = q.draw(normal(40, 2, 3, seed=4))
    log_ratio = q.prior.log_prob(z) - q.log_prob(z)
    assert log_ratio.max() <= np.log(10) + 1e-9
    far = normal(20_000, 2, 3, seed=5)
    weight = (q.prior.log_prob(q.draw(far)) - q.log_prob(q.draw(far))).exp()
    np.testing.assert_allclose(weight.mean(0), 1, rtol=0.1)


def test_any_number_of_cells_is_hidden_as_often() -> None:
    hidden = hide_cells(torch.zeros(10_000, 4), generator()).isnan()
    shares = hidden.sum(1).bincount(minlength=5) / 10_000
    np.testing.assert_allclose(shares, [0, 0.25, 0.25, 0.25, 0.25], atol=0.03)
    np.testing.assert_allclose(hidden.double().mean(0), 0.625, atol=0.03)
    assert hide_cells(torch.full((1, 1), torch.inf), generator()).isnan().all()


# What is said of an estimate.


def test_estimates_say_when_few_draws_have_all_the_weight(complete: Any) -> None:
    other = VAE(2, **{**LINEAR, "max_iter": 5}).fit(gaussian_rows(200))
    other.module_.proposal = None  # as in a file of 0.1: only the encoder is left
    row = np.full((1, 3), NAN)
    row[0, 0] = 60.0
    with pytest.warns(DegenerateWeightsWarning, match="effective sample size 1"):
        estimate = other.log_likelihood(row, 1000)
    assert estimate.effective_sample_size < 2
    assert estimate.standard_error > 0.7
    fine = complete.log_likelihood(QUERIES, 1000)
    variance = (1000 / fine.effective_sample_size - 1) / 999
    np.testing.assert_allclose(variance, fine.standard_error**2, atol=1e-9)


def test_results_are_arrays_to_numpy() -> None:
    estimate = LogLikelihood(np.array([1.0, 3.0]), np.array([0.1, 0.2]), 100)
    assert np.mean(estimate) == estimate.mean_log_prob == 2
    assert np.max(estimate) == 3
    np.testing.assert_array_equal(np.asarray(estimate), [1, 3])
    log_prob, error = estimate
    assert (log_prob[1], error[1]) == (3, 0.2)
    assert not {*dir(estimate)} & {name for name in dir(np.ndarray) if name[0] != "_"}
    posterior = Posterior(np.array([[1.0, 3.0]]), np.ones((1, 2)))
    assert np.mean(posterior) == 2
    np.testing.assert_array_equal(np.std(posterior, axis=0), [0, 0])
    np.testing.assert_array_equal(np.asarray(posterior), [[1, 3]])


def test_tokens_learn_from_rows_with_holes_as_from_complete_ones(tokens: Any) -> None:
    rows = gaussian_rows(400)
    model = clone(tokens).fit(with_holes(rows, 0.3))
    test = gaussian_rows(300, seed=5)
    assert tokens.score(test) - model.score(test) < 0.3


@pytest.mark.parametrize("cls", [VAE, VQVAE])
def test_partial_fits_learn_of_missing_cells(cls: type[Any]) -> None:
    params: dict[str, Any] = {"hidden_layer_sizes": (8,), "random_state": 0}
    model = cls(likelihood=Mixed(["real"] * 3), **params)
    rows = gaussian_rows(300)
    before = None
    for part in (rows[:150], with_holes(rows[150:], 0.3)):
        model.partial_fit(part)
        weights = [p.clone() for p in model.module_.proposal.parameters()]
        if before is not None:
            assert any((a != b).any() for a, b in zip(before, weights))
        before = weights
    assert np.isfinite(model.score_samples(QUERIES)).all()


def test_a_proposal_of_many_levels_is_narrow() -> None:
    widths = {n: hidden_sizes(n)[0] for n in (3, 4096, 20_000, 10**6)}
    assert widths == {3: 256, 4096: 256, 20_000: 52, 10**6: 16}
