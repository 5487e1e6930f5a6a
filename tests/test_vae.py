"""The VAE estimator, against probabilistic PCA, closed forms and laws of scale."""

import math
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.model_selection import train_test_split

from skgen import IWAE, VAE, BetaVAE, GaussianDensity
from skgen.likelihoods import Gaussian
from tests.toys import draws_of, linear_gaussian, normal

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few epochs, on purpose.
    pytest.mark.filterwarnings(
        "ignore:.*maximum iterations:sklearn.exceptions.ConvergenceWarning"
    ),
]

X = normal(160, 2, seed=1).numpy() @ [[3, 1, 0, 2, -1], [0, 1, 2, -1, 1]]
X = X + 0.3 * normal(160, 5, seed=2).numpy() + [0, 1, 2, 3, 4]
SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (16,),
    "learning_rate_init": 1e-2,
    "max_iter": 30,
    "random_state": 0,
}
# Weights that all but stand still, and every epoch the best so far or not.
FROZEN: dict[str, Any] = {
    **SMALL,
    "learning_rate_init": 1e-10,
    "tol": 0.0,
    "n_iter_no_change": 1_000,
}


def small(cls: type[Any] = VAE, n_components: int = 2, **params: Any) -> Any:
    return cls(n_components, **{**SMALL, **params})


@pytest.fixture(scope="module")
def model() -> Any:
    return small(max_iter=60).fit(X)


# Probabilistic PCA.


def exact_marginal(model: Any) -> Any:
    """N(b, W W^T + s2 I) of a linear decoder."""
    decoder = model.module_.decoder[0]
    W, b = decoder.weight.detach().double(), decoder.bias.detach().double()
    s2 = model.module_.likelihood.sigma.item() ** 2
    covariance = W @ W.T + s2 * torch.eye(len(W), dtype=W.dtype)
    return torch.distributions.MultivariateNormal(b, covariance)


@pytest.mark.parametrize("n_components", [2, 5])
def test_a_linear_vae_finds_probabilistic_pca(n_components: int) -> None:
    rows = load_wine().data
    rows = (rows - rows.mean(0)) / rows.std(0)
    model = VAE(
        n_components,
        hidden_layer_sizes=(),
        likelihood=Gaussian("shared"),
        standardize=False,
        early_stopping=False,
        learning_rate_init=1e-2,
        batch_size=60,
        max_iter=300,
        n_iter_no_change=300,
        random_state=0,
    ).fit(rows)
    exact = exact_marginal(model).log_prob(torch.from_numpy(rows)).numpy()
    best = GaussianDensity(n_components=n_components, reg_covar=0).fit(rows)
    gap = best.score(rows) - exact.mean()
    assert 0 <= gap < 0.05
    assert abs(model.score(rows) - exact.mean()) < 0.05
    careful = model.log_likelihood(rows, 500)
    assert abs(careful.mean_log_prob - exact.mean()) < 4 * careful.mean_standard_error


def test_a_fit_recovers_the_model_that_drew_its_rows() -> None:
    _, truth = linear_gaussian()
    train, test = draws_of(truth, 1_000, seed=8), draws_of(truth, 1_000, seed=9)
    model = VAE(
        2,
        hidden_layer_sizes=(),
        learning_rate_init=3e-3,
        max_iter=300,
        random_state=0,
    ).fit(train)
    scores, exact = model.score_samples(test.numpy()), truth.log_prob(test).numpy()
    assert abs(scores.mean() - exact.mean()) < exact.std() / math.sqrt(1_000)
    assert (scores - exact).std() < 0.3
    drawn = model.sample(20_000, random_state=0)
    assert_allclose(drawn.mean(0), truth.mean, atol=0.15)
    assert_allclose(np.cov(drawn.T), truth.covariance_matrix, atol=0.3)


# Codes.


def test_transform_is_the_posterior_mean(model: Any) -> None:
    posterior = model.posterior(X)
    assert posterior.mean.shape == posterior.std.shape == (len(X), 2)
    assert_array_equal(model.transform(X), posterior.mean)
    assert (posterior.std > 0).all()
    assert posterior.mean.dtype == posterior.std.dtype == np.float64
    assert model.posterior(X.astype(np.float32)).std.dtype == np.float32


def test_the_kl_is_that_of_the_posterior(model: Any) -> None:
    mean, std = model.posterior(X)
    expected = 0.5 * (mean**2 + std**2 - 1 - 2 * np.log(std)).sum(1)
    assert_allclose(model.elbo(X).kl, expected)


def test_the_score_is_above_the_elbo_in_the_mean(model: Any) -> None:
    reconstruction, kl = model.elbo(X)
    assert reconstruction.shape == kl.shape == (len(X),)
    assert (kl > 0).all()
    # Row for row: both have the same noise, and a mean of logs is below.
    assert model.score(X) > (reconstruction - kl).mean()
    assert model.score(X) - (reconstruction - kl).mean() < 1


@pytest.mark.parametrize("cls", [BetaVAE, IWAE])
def test_elbo_has_no_beta_and_no_draws(cls: type[Any]) -> None:
    # The same networks, whatever they would be trained on: BetaVAE has no linear start.
    settings: dict[str, Any] = {
        "learning_rate_init": 1e-12,
        "max_iter": 1,
        "linear_path": False,
    }
    plain, other = small(**settings).fit(X), small(cls, **settings).fit(X)
    assert_allclose(other.elbo(X), plain.elbo(X), rtol=1e-5)
    assert_allclose(other.score_samples(X), plain.score_samples(X), rtol=1e-5)


def test_units_that_the_data_do_not_need_are_not_active() -> None:
    # From the factor analysis of 6 components on, four stay in use.
    settings: dict[str, Any] = {"n_components": 6, "max_iter": 200, "batch_size": 32}
    settings["linear_path"] = False
    model = small(**settings, random_state=1).fit(X)
    assert model.active_units_ == 2
    assert_allclose(model.latent_variances_.shape, (6,))
    assert (model.latent_variances_ > 0.01).sum() == 2
    variances = model.transform(X).var(0)
    assert ((variances > 0.01) == (model.latent_variances_ > 0.01)).all()


# What is reported.


@pytest.mark.parametrize("weighted", [False, True])
def test_the_curve_is_the_bound_in_nats_and_in_the_units_of_the_rows(
    weighted: bool,
) -> None:
    weight = np.linspace(0.2, 3, len(X)) if weighted else None
    model = VAE(2, **FROZEN, early_stopping=False)
    rows = X * [1, 10, 100, 1_000, 0.1]
    model.fit(rows, sample_weight=weight)
    terms = {name: np.array(curve) for name, curve in model.loss_terms_.items()}
    reconstruction, kl = (np.average(part, weights=weight) for part in model.elbo(rows))
    assert_allclose(terms["kl"], kl, rtol=1e-4)
    for name, expected in {
        "reconstruction": reconstruction,
        "loss": kl - reconstruction,
    }.items():
        error = terms[name].std() / math.sqrt(len(terms[name]))
        assert abs(terms[name].mean() - expected) < 5 * error
        assert error < 0.1
    assert model.loss_curve_ == model.loss_terms_["loss"]


def test_the_validation_curve_is_minus_the_elbo_of_the_rows_held_out() -> None:
    # Half the rows are held out; all are alike but for noise.
    rows = np.repeat(X[:3], 80, axis=0)
    model = VAE(2, **FROZEN, validation_fraction=0.5, standardize=False)
    model.fit(rows)
    reconstruction, kl = model.elbo(X[:3])
    each = kl - reconstruction
    assert len(model.validation_curve_) == model.n_iter_ == 30
    assert min(each) - 1 < model.validation_curve_[0] < max(each) + 1
    assert np.ptp(model.validation_curve_) < 1e-3  # the same noise each epoch


def test_without_early_stopping_every_row_trains() -> None:
    model = small(early_stopping=False, max_iter=3).fit(X)
    assert model.validation_curve_ == []
    assert len(model.loss_curve_) == model.n_iter_ == 3
    assert_allclose(model.module_.standardizer.shift, X.mean(0))


def test_with_early_stopping_rows_are_held_out() -> None:
    model = small(max_iter=3).fit(X)
    assert len(model.validation_curve_) == model.n_iter_ == 3
    shift = model.module_.standardizer.shift.numpy()
    assert np.abs(shift - X.mean(0)).max() > 1e-6


def test_training_stops_early() -> None:
    model = small(max_iter=500).fit(X)
    assert model.n_iter_ < 500
    best = int(np.argmin(model.validation_curve_))
    assert best < model.n_iter_ - 5


# Scale.


def test_the_scale_of_the_rows_shifts_the_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Noise is a function of the row's bits: give all rows the same.
    monkeypatch.setattr(
        "skgen.models.evaluation.row_blocks",
        lambda x: torch.zeros(len(x), dtype=torch.int64),
    )
    model, scaled = small(max_iter=5).fit(X), small(max_iter=5).fit(1024 * X)
    assert_array_equal(scaled.transform(1024 * X), model.transform(X))
    shift = -X.shape[1] * math.log(1024)
    assert_allclose(scaled.score_samples(1024 * X), model.score_samples(X) + shift)
    assert_allclose(scaled.reconstruct(1024 * X), 1024 * model.reconstruct(X))
    for curve in ("loss_curve_", "validation_curve_"):
        assert_allclose(getattr(scaled, curve), np.array(getattr(model, curve)) - shift)


def test_the_score_in_other_units_is_the_same_within_its_noise() -> None:
    model, scaled = small().fit(X), small().fit(1_000 * X)
    shift = -X.shape[1] * math.log(1_000)
    assert abs(scaled.score(1_000 * X) - model.score(X) - shift) < 0.1


def test_the_order_of_the_columns_is_of_no_account() -> None:
    order = [3, 0, 4, 2, 1]
    with torch.random.fork_rng(devices=[]):
        encoder, decoder = torch.nn.Linear(5, 4), torch.nn.Linear(2, 5)
        encoder_of_permuted, decoder_of_permuted = (
            torch.nn.Linear(5, 4),
            torch.nn.Linear(2, 5),
        )
    encoder_of_permuted.weight.data = encoder.weight.data[:, order]
    encoder_of_permuted.bias.data = encoder.bias.data
    decoder_of_permuted.weight.data = decoder.weight.data[order]
    decoder_of_permuted.bias.data = decoder.bias.data[order]
    model = small(encoder=encoder, decoder=decoder).fit(X)
    permuted = small(encoder=encoder_of_permuted, decoder=decoder_of_permuted)
    permuted.fit(X[:, order])
    assert_allclose(permuted.transform(X[:, order]), model.transform(X), atol=1e-3)
    assert_allclose(permuted.loss_curve_, model.loss_curve_, atol=1e-3)


def test_a_density_of_rows_that_are_not_standardised_is_of_the_same_units() -> None:
    model = small(standardize=False, max_iter=150).fit(X)
    assert abs(model.score(X) - small(max_iter=150).fit(X).score(X)) < 0.5


# Awkward columns.

AWKWARD: dict[str, Any] = {
    "constant": lambda X: np.c_[X, np.full(len(X), 7.0)],
    "duplicated": lambda X: np.c_[X, X[:, 0]],
    "combined": lambda X: np.c_[X, X[:, 0] - X[:, 1], np.zeros(len(X))],
    "wide_scales": lambda X: X * [1e-8, 1e8, 1, 1e3, 1e-3],
    "offset": lambda X: X + 1e6,
}


@pytest.mark.parametrize("kind", AWKWARD)
def test_awkward_columns_do_no_harm(kind: str) -> None:
    rows = AWKWARD[kind](X)
    model = small().fit(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # reg_covar, of columns of 1e-8
        factorised = GaussianDensity(covariance_type="diag").fit(rows)
    assert np.isfinite(model.score_samples(rows)).all()
    assert np.isfinite(model.sample(20)).all()
    assert model.score(rows) > factorised.score(rows)


def test_a_constant_column_weighs_as_in_a_gaussian_density() -> None:
    rows = np.c_[X, np.full(len(X), 7.0)]
    constant = GaussianDensity(reg_covar=1e-6).fit(rows[:, 5:]).score(rows[:, 5:])
    model, other = small(max_iter=300).fit(rows), small(max_iter=300).fit(X)
    assert abs(model.score(rows) - other.score(X) - constant) < 0.3
    assert_array_equal(model.reconstruct(rows)[:, 5], 7)
    assert_allclose(model.sample(1_000)[:, 5].std(), 1e-3, rtol=0.1)


def test_more_components_than_features_do_no_harm() -> None:
    model = small(n_components=12).fit(X)
    assert model.transform(X).shape == (len(X), 12)
    assert model.score(X) > GaussianDensity(covariance_type="diag").fit(X).score(X)


def test_two_rows_are_enough() -> None:
    model = small(max_iter=2).fit(X[:2])
    assert np.isfinite(model.score_samples(X)).all()


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer, load_diabetes])
def test_by_default_a_vae_beats_independent_columns_on_raw_tables(
    load: Callable[..., Any],
) -> None:
    train, test = train_test_split(load().data, random_state=0)
    independent = GaussianDensity(covariance_type="diag", reg_covar=1e-7)
    factorised = independent.fit(train)
    assert VAE(random_state=0).fit(train).score(test) > factorised.score(test) + 1


# Going on.


def test_a_warm_start_goes_on() -> None:
    path: dict[str, Any] = {"linear_path": False}  # else a fit starts where it ends
    model = small(warm_start=True, max_iter=5, **path).fit(X)
    first, module = model.loss_curve_, model.module_
    both = model.fit(X).loss_curve_
    assert both[:5] == first
    second = both[5:]
    assert model.module_.standardizer.shift.equal(module.standardizer.shift)
    assert second[0] < first[-1] + 0.1
    assert second[-1] < first[-1]
    again = small(warm_start=False, max_iter=5, **path)
    assert again.fit(X).fit(X).loss_curve_ == first


@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_warm_start_continues_the_warm_up_and_the_curves(
    early_stopping: bool,
) -> None:
    model = small(
        warm_start=True, max_iter=3, kl_warmup=5, early_stopping=early_stopping
    )
    for n_fits in range(1, 4):
        model.fit(X)
        assert model.n_iter_ == len(model.loss_curve_) == 3 * n_fits
        assert len(model.validation_curve_) == 3 * n_fits * early_stopping
    loss, reconstruction, kl = (
        np.array(model.loss_terms_[name]) for name in ("loss", "reconstruction", "kl")
    )
    left_out = kl - reconstruction - loss  # (1 - warmth) KL
    assert (left_out[:5] > 0.01 * kl[:5]).all()
    assert_allclose(left_out[5:], 0, atol=1e-4)


def test_a_warm_start_from_nothing_is_a_start() -> None:
    models = [small(warm_start=warm, max_iter=3).fit(X) for warm in (True, False)]
    assert_array_equal(*(m.score_samples(X) for m in models))


def test_a_warm_start_keeps_its_features() -> None:
    model = small(warm_start=True, max_iter=2).fit(X)
    with pytest.raises(ValueError, match="has 4 features, but VAE with warm_start"):
        model.fit(X[:, :4])


def test_partial_fits_learn() -> None:
    model, scores = small(linear_path=False), []
    for _ in range(6):
        for _ in range(5):
            model.partial_fit(X)
        scores.append(model.score(X))
    assert scores[:3] == sorted(scores[:3])
    assert scores[-1] > scores[0] + 0.5
    assert model.n_iter_ == len(model.loss_curve_) == len(model.loss_terms_["kl"]) == 30


def test_partial_fits_share_one_warm_up() -> None:
    model, kls = small(kl_warmup=4), []
    for _ in range(5):
        model.partial_fit(X)
        terms = {name: curve[-1] for name, curve in model.loss_terms_.items()}
        kls.append((terms["loss"] + terms["reconstruction"]) / terms["kl"])
    # The weight of the KL: a mean over the steps of each epoch.
    assert kls == sorted(kls)
    assert kls[0] == pytest.approx(0.15, abs=0.05)
    assert kls[-1] == pytest.approx(1, abs=1e-4)


def test_partial_fits_over_parts_are_close_to_a_fit() -> None:
    model = small()
    for _ in range(60):
        for part in np.array_split(X, 2):
            model.partial_fit(part)
    fitted = small(early_stopping=False, max_iter=60, n_iter_no_change=60)
    fitted.fit(X)
    assert abs(model.score(X) - fitted.score(X)) < 0.3


def test_partial_fits_repeat_themselves() -> None:
    models = [small(), small()]
    for model in models:
        for part in np.array_split(X, 3):
            model.partial_fit(part)
    assert_array_equal(*(m.score_samples(X) for m in models))


def test_partial_fits_survive_a_pickle() -> None:
    straight = small().partial_fit(X).partial_fit(X)
    broken = pickle.loads(pickle.dumps(small().partial_fit(X))).partial_fit(X)
    assert_array_equal(broken.score_samples(X), straight.score_samples(X))


def test_a_partial_fit_goes_on_from_a_fit() -> None:
    model = small(max_iter=5, linear_path=False).fit(X)
    before, curve = model.score(X), list(model.loss_curve_)
    for _ in range(5):
        model.partial_fit(X)
    assert model.score(X) > before
    assert model.loss_curve_[:5] == curve
    assert model.n_iter_ == 10


def test_a_partial_fit_keeps_its_features() -> None:
    model = small().partial_fit(X)
    with pytest.raises(ValueError, match="has 4 features, but VAE is expecting 5"):
        model.partial_fit(X[:, :4])


def test_a_partial_fit_takes_one_row() -> None:
    model = small().partial_fit(X).partial_fit(X[:1])
    assert np.isfinite(model.score_samples(X)).all()


# Other densities and objectives.


def test_a_bernoulli_vae_beats_independent_columns() -> None:
    rows = (X.mean(0) < X).astype(float)
    model = small(likelihood="bernoulli", max_iter=60).fit(rows)
    p = rows.mean(0)
    independent = (rows * np.log(p) + (1 - rows) * np.log(1 - p)).sum(1).mean()
    assert independent + 0.5 < model.score(rows) < 0


def test_a_bernoulli_vae_sums_to_one() -> None:
    rows = (X.mean(0) < X).astype(float)
    model = small(likelihood="bernoulli").fit(rows)
    every = np.array(np.meshgrid(*[[0.0, 1.0]] * 5)).reshape(5, -1).T
    careful = model.log_likelihood(every, 2_000)
    mass = np.exp(careful.log_prob)
    error = np.sqrt(((mass * careful.standard_error) ** 2).sum())
    assert error < 0.01
    assert abs(mass.sum() - 1) < 4 * error


def test_a_fixed_sigma_stays() -> None:
    model = small(likelihood=Gaussian(0.5), max_iter=3).fit(X)
    assert model.module_.likelihood.sigma.item() == pytest.approx(0.5)


@pytest.mark.parametrize("cls", [VAE, IWAE])
def test_draws_have_the_moments_of_the_density(cls: type[Any]) -> None:
    model = clone(small(cls, max_iter=60)).fit(X)
    drawn = model.sample(50_000, random_state=1)
    z = (drawn.mean(0) - X.mean(0)) / X.std(0)
    assert np.abs(z).max() < 0.3
    assert_allclose(drawn.std(0), X.std(0), rtol=0.2)


# Constants that later rows contradict.


def test_a_column_that_was_constant_at_first_is_freed_when_it_varies() -> None:
    model = small(learning_rate_init=1e-2)
    first = X.copy()
    first[:, 0] = 0
    model.partial_fit(first)
    for _ in range(30):
        model.partial_fit(X)
    assert model.reconstruct(X)[:, 0].std() > 0.1
    assert model.score(X) > -50


def test_a_warm_start_frees_constants_too() -> None:
    first = X.copy()
    first[:, 0] = 0
    model = small(warm_start=True, max_iter=30).fit(first)
    assert model.fit(X).score(X) > -50


def test_a_warm_start_refuses_another_architecture() -> None:
    model = small(warm_start=True, max_iter=2).fit(X)
    with pytest.raises(ValueError, match=r"n_components=5 differs from the 2"):
        model.set_params(n_components=5).fit(X)


# Measures that do not compare.


def test_a_gaussian_on_binary_columns_warns_that_its_score_has_no_ceiling() -> None:
    rows = (X.mean(0) < X).astype(float)
    with pytest.warns(UserWarning, match="no ceiling"):
        small(max_iter=2).fit(rows)


# Threads.


def test_fits_in_threads_are_those_of_one_thread() -> None:
    def fit(seed: int) -> Any:
        return small(random_state=seed, max_iter=5).fit(X).score(X)

    alone = [fit(seed) for seed in range(8)]
    together = Parallel(n_jobs=4, backend="threading")(
        delayed(fit)(seed) for seed in range(8)
    )
    assert together == alone


# A failed fit.


def test_a_failed_refit_leaves_the_model_as_it_was() -> None:
    model = small(max_iter=5).fit(X)
    before = model.score_samples(X)
    with pytest.raises(ValueError, match="beta"):
        BetaVAE(beta=-1).fit(X).score(X)
    with pytest.raises(ValueError, match="warm_start"):
        model.set_params(warm_start=True, n_components=3).fit(X[:, :4])
    assert model.n_features_in_ == X.shape[1]
    assert_array_equal(model.score_samples(X), before)
