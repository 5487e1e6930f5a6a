"""The VQVAE estimator, on codes that can be enumerated, and its tokens."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

from skgen import VQVAE, GaussianDensity
from skgen._networks.token_priors import TransformerPrior
from skgen._training.batches import Batch
from skgen.models.vqvae import FollowCodes
from skgen.objectives import TokenLoss, importance_weighted_bound, log_weights
from tests.toys import (
    all_sequences,
    exact_token_log_prob,
    generator,
    normal,
    token_model,
    uniform,
)

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few epochs, on purpose.
    pytest.mark.filterwarnings(
        "ignore:.*maximum iterations:sklearn.exceptions.ConvergenceWarning"
    ),
]

X = normal(200, 2, seed=1).numpy() @ [[3, 1, 0, 2], [0, 1, 2, -1]]
X = X + 0.5 * normal(200, 4, seed=2).numpy() + [0, 1, 2, 3]
SMALL: dict[str, Any] = {
    "code_size": 2,
    "hidden_layer_sizes": (16,),
    "learning_rate_init": 1e-2,
    "max_iter": 30,
    "n_importance_samples": 16,
    "random_state": 0,
}


def small(codebook_size: int = 4, n_tokens: int = 2, **params: Any) -> Any:
    return VQVAE(codebook_size, n_tokens=n_tokens, **{**SMALL, **params})


@pytest.fixture(scope="module")
def model() -> Any:
    return small().fit(X)


def exact_scores(model: Any, X: NDArray[Any]) -> Any:
    """log sum_k p(x|e_k) p(k), by enumeration."""
    module = model._model(torch.float64)
    return exact_token_log_prob(module, torch.from_numpy(X)).numpy()


# The density.


def test_the_enumerated_density_integrates_to_one() -> None:
    rng = np.random.RandomState(0)
    rows = np.repeat([[-20.0], [10.0]], 100, axis=0) + 5 * rng.randn(200, 1)
    model = small().fit(rows)
    points = np.linspace(-100, 100, 4_001)[:, None]
    mass = np.exp(exact_scores(model, points)).sum() * 0.05
    assert mass == pytest.approx(1, abs=1e-6)


def test_the_score_is_below_the_exact_density_and_near_it(model: Any) -> None:
    gap = exact_scores(model, X) - model.score_samples(X)
    assert 0 < gap.mean() < 0.2


def test_the_bound_rises_to_the_exact_density() -> None:
    model = token_model(n_importance_samples=1)
    x = normal(100, 3, seed=3)
    exact = exact_token_log_prob(model, x)
    noise = model.standard_noise((2**12, 100), generator())
    log_w = log_weights(model, Batch(x, noise)).detach()
    gaps = []
    for n_draws in (1, 4, 16, 64, 256):
        bounds = [importance_weighted_bound(w) for w in log_w.split(n_draws)]
        gaps.append((exact - torch.stack(bounds)).mean().item())
    assert gaps == sorted(gaps, reverse=True)
    assert 0 < gaps[-1] < 0.02 < gaps[0]


def test_weights_are_the_exact_density_in_the_mean() -> None:
    # Over all sequences: sum_k q(k|x) p(x, k) / q(k|x).
    model, x = token_model(), normal(50, 3, seed=3)
    tokens = all_sequences(2, 4)[:, None].expand(-1, 50, -1)
    q = model.posterior(Batch(x))
    log_joint = model.log_likelihood(Batch(x), tokens) + model.prior.log_prob(tokens)
    log_w = log_joint - q.log_prob(tokens)
    total = (q.log_prob(tokens) + log_w).logsumexp(0)
    torch.testing.assert_close(total, exact_token_log_prob(model, x))
    torch.testing.assert_close(
        q.log_prob(tokens).logsumexp(0), torch.zeros(50).double()
    )


def test_log_likelihood_is_the_exact_density_within_its_error(model: Any) -> None:
    exact = exact_scores(model, X)
    errors = []
    for n_samples in (10, 100, 2_000):
        careful = model.log_likelihood(X, n_samples)
        errors.append(abs(exact - careful.log_prob).mean())
    assert errors == sorted(errors, reverse=True)
    assert abs(exact.mean() - careful.mean_log_prob) < 4 * careful.mean_standard_error
    assert careful.mean_standard_error < 0.01


def test_one_code_is_a_looser_bound(model: Any) -> None:
    # log p(x|z_q) + log p(k) of the nearest codes: one term of the sum.
    module = model._model(torch.float64)
    x = module.standardizer(torch.from_numpy(X))
    with torch.no_grad():
        tokens = module.codebook.nearest(module.latents(Batch(x)))[None]
        one = (
            module.log_likelihood(Batch(x), tokens)[0]
            + module.prior.log_prob(tokens)[0]
        )
    one = one.numpy() - float(module.standardizer.log_scale)
    assert (one <= exact_scores(model, X) + 1e-9).all()
    assert one.mean() < model.score(X)


def test_assignments_are_a_softmax_of_distances() -> None:
    model, x = token_model(), normal(50, 3, seed=3)
    z_e = model.latents(Batch(x))
    distances = torch.cdist(z_e, model.codebook.vectors.expand(50, -1, -1)) ** 2
    expected = (-distances / model.temperature).log_softmax(-1)
    torch.testing.assert_close(model.assignments(z_e).log_probs, expected)
    model.temperature.fill_(1e-6)
    nearest = nn.functional.one_hot(model.codebook.nearest(z_e), 4).double()
    torch.testing.assert_close(model.assignments(z_e).log_probs.exp(), nearest)


def test_the_posterior_is_assignments_with_a_tenth_of_rows_exploring() -> None:
    model, x = token_model(), normal(50, 3, seed=3)
    explore = 0.1 / model.prior.n_tokens
    assigned = model.assignments(model.latents(Batch(x))).log_probs.exp()
    expected = (1 - explore) * assigned + explore * model.prior.log_unigrams.exp()
    torch.testing.assert_close(model.posterior(Batch(x)).log_probs.exp(), expected)


def test_importance_weights_are_bounded_where_assignments_miss() -> None:
    model, x = token_model(), normal(50, 3, seed=3)
    model.temperature.fill_(1e-6)  # one sequence a row, and the wrong one for most
    noise = model.standard_noise((2**14, 50), generator())
    estimate = importance_weighted_bound(log_weights(model, Batch(x, noise)))
    exact = exact_token_log_prob(model, x)
    assert (estimate - exact).abs().max() < 0.5
    assert (estimate - exact).mean().abs() < 0.05


# Two copies of one signal: tokens of a row depend on each other.


def two_copies(n: int, K: int = 6, seed: int = 0) -> NDArray[Any]:
    rng = np.random.RandomState(seed)
    centres = 5 * np.random.RandomState(99).randn(K, 2)
    rows = np.tile(centres[rng.randint(K, size=n)], 2)
    return rows + 0.1 * rng.randn(n, 4)


def k_means_of_halves(**params: Any) -> Any:
    """The code vectors are the halves themselves."""
    settings: dict[str, Any] = {
        **SMALL,
        "max_iter": 100,
        "standardize": False,
        **params,
    }
    identity = nn.Identity()
    return VQVAE(24, n_tokens=2, encoder=identity, decoder=identity, **settings)


@pytest.fixture(scope="module")
def copies() -> tuple[Any, ...]:
    return k_means_of_halves().fit(two_copies(600)), two_copies(400, seed=1)


def with_mixing(model: Any, mixing: float) -> Any:
    module = model.module_.prior.mixing
    before = float(module)
    module.fill_(mixing)
    try:
        return model.score(two_copies(400, seed=1))
    finally:
        module.fill_(before)


def test_the_learned_prior_knows_that_tokens_depend(copies: tuple[Any, ...]) -> None:
    model, rows = copies
    alone = with_mixing(model, 0.0)
    # The second half of a row is known from the first: log 6 nats in the limit.
    assert model.score(rows) > alone + 0.7 * math.log(6)
    assert model.score(rows) < alone + math.log(6) + 0.1
    assert model.prior_mixing_ > 0.5


def test_samples_have_dependent_halves(copies: tuple[Any, ...]) -> None:
    model, _ = copies
    drawn = model.sample(1_000, random_state=0)
    apart = np.linalg.norm(drawn[:, :2] - drawn[:, 2:], axis=1)
    assert (apart < 1.5).mean() > 0.85


def test_independent_tokens_lose_nothing_to_the_prior() -> None:
    rows = two_copies(400)
    rows[:, 2:] = two_copies(400, seed=5)[:, 2:]
    model = k_means_of_halves().fit(rows)
    test = two_copies(300, seed=1)
    test[:, 2:] = two_copies(300, seed=6)[:, 2:]
    score, before = model.score(test), float(model.module_.prior.mixing)
    model.module_.prior.mixing.zero_()
    alone = model.score(test)
    model.module_.prior.mixing.fill_(before)
    assert score > alone - 0.02


def test_the_mixing_is_a_weight(model: Any) -> None:
    assert 0 <= model.prior_mixing_ <= 1
    assert model.prior_mixing_ == float(model.module_.prior.mixing)
    assert model.temperature_ == float(model.module_.temperature) > 0
    assert len(model.prior_curve_) >= 1


def test_the_prior_curve_is_that_of_the_tokens(copies: tuple[Any, ...]) -> None:
    model, _ = copies
    # Two tokens of a row: between log 6 (one of them is free) and 2 log 24.
    curve = np.array(model.prior_curve_)
    assert ((curve > math.log(6) - 0.1) & (curve < 2 * math.log(24))).all()
    assert curve[-1] < curve[0] - 0.5


# Tokens, in three spellings.

ENCODINGS = ["embedding", "ordinal", "onehot"]


def spelled(model: Any, encode: str) -> Any:
    return copy.copy(model).set_params(encode=encode)


def test_the_spelling_of_codes_changes_no_reconstruction(model: Any) -> None:
    decoded = []
    for encode in ENCODINGS:
        other = spelled(model, encode)
        decoded.append(other.inverse_transform(other.transform(X)))
        assert_array_equal(other.score_samples(X), model.score_samples(X))
    assert_allclose(decoded[1], decoded[0], rtol=1e-9)
    assert_allclose(decoded[2], decoded[0], rtol=1e-9)


def test_spellings_agree_with_each_other(model: Any) -> None:
    vectors, tokens, onehot = (spelled(model, e).transform(X) for e in ENCODINGS)
    assert tokens.shape == (200, 2)
    assert tokens.dtype.kind == "i"
    assert_array_equal(vectors, model.codebook_[tokens].reshape(200, 4))
    assert scipy.sparse.issparse(onehot)
    assert_array_equal(onehot.toarray().reshape(200, 2, 4).argmax(-1), tokens)
    assert_array_equal(np.asarray(onehot.sum(1)).ravel(), 2)


def test_a_sparse_and_a_dense_one_hot_decode_alike(model: Any) -> None:
    other = spelled(model, "onehot")
    code = other.transform(X)
    assert_array_equal(
        other.inverse_transform(code), other.inverse_transform(code.toarray())
    )


def test_tokens_are_the_nearest_codes(model: Any) -> None:
    with torch.no_grad():
        module = model._model(torch.float64)
        z_e = module.latents(Batch(module.standardizer(torch.from_numpy(X)))).numpy()
    distances = ((z_e[:, :, None] - model.codebook_) ** 2).sum(-1)
    tokens = spelled(model, "ordinal").transform(X)
    assert_array_equal(tokens, distances.argmin(-1))


@pytest.mark.parametrize("bad", [-1, 4, 1.5])
def test_tokens_outside_the_codebook_are_refused(model: Any, bad: float) -> None:
    other = spelled(model, "ordinal")
    tokens = other.transform(X[:5]).astype(float)
    tokens[2, 1] = bad
    with pytest.raises(ValueError, match=r"range \[0, 3\], indices into the codebook"):
        other.inverse_transform(tokens)


def test_codes_of_another_width_are_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="expecting 4 latent features"):
        model.inverse_transform(np.zeros((2, 3)))


# The codebook.


def test_usage_and_perplexity_count_the_tokens_of_the_training_rows() -> None:
    # Held-out rows are alike: three distinct rows, many times each.
    rows = np.repeat(X[:3], 100, axis=0)
    model = small(encode="ordinal").fit(rows)
    usage = np.bincount(model.transform(rows).ravel(), minlength=4) / 600
    assert_allclose(model.codebook_usage_, usage, atol=0.05)
    assert model.codebook_usage_.sum() == pytest.approx(1)


def test_perplexity_is_the_exponential_of_the_entropy(model: Any) -> None:
    p = model.codebook_usage_[model.codebook_usage_ > 0]
    assert model.perplexity_ == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-5)
    assert 1 <= model.perplexity_ <= 4
    assert model.codebook_.shape == (4, 2)
    assert_allclose(model.codebook_, model.module_.codebook.vectors.detach().numpy())


def test_codes_are_used() -> None:
    model = small(codebook_size=16, n_tokens=4, max_iter=60).fit(X)
    assert model.perplexity_ > 8


def test_a_codebook_larger_than_the_rows_works() -> None:
    model = small(codebook_size=64, n_tokens=1).fit(X[:20])
    assert model.codebook_.shape == (64, 2)
    # Of 18 training rows most have a code of their own, and others may go unused.
    assert model.perplexity_ > 9
    assert np.isfinite(model.score_samples(X)).all()


def test_one_code_is_one_gaussian() -> None:
    model = small(codebook_size=1, n_tokens=1, max_iter=100).fit(X)
    assert_array_equal(model.codebook_usage_, [1])
    assert model.perplexity_ == 1
    factorised = GaussianDensity(covariance_type="diag").fit(X).score(X)
    assert abs(model.score(X) - factorised) < 0.05
    assert_allclose(model.score_samples(X), exact_scores(model, X), rtol=1e-6)


def test_one_token_is_a_mixture() -> None:
    model = small(codebook_size=8, n_tokens=1, max_iter=60).fit(X)
    assert model.transform(X).shape == (200, 2)
    factorised = GaussianDensity(covariance_type="diag").fit(X).score(X)
    assert model.score(X) > factorised
    # A prior over one token has no one before it: unigrams are all there is.
    assert abs(exact_scores(model, X) - model.score_samples(X)).mean() < 0.2


def test_equal_rows_do_no_harm() -> None:
    model = small().fit(np.ones((30, 4)))
    assert np.isfinite(model.score_samples(np.ones((2, 4)))).all()
    assert np.isfinite(model.sample(5)).all()


# What is chosen of the quantiser and the prior.


@pytest.mark.parametrize(
    "params",
    [
        {"codebook_update": "ema"},
        {"gradient": "straight-through"},
        {"distance": "cosine"},
        {"prior": "transformer"},
        {"prior": "masked"},
    ],
    ids=str,
)
def test_every_choice_keeps_the_bound(params: dict[str, Any]) -> None:
    model = small(codebook_size=4, max_iter=60, **params).fit(X)
    careful = model.log_likelihood(X, 500)
    gap = abs(exact_scores(model, X).mean() - careful.mean_log_prob)
    assert gap < 4 * careful.mean_standard_error < 0.05
    factorised = GaussianDensity(covariance_type="diag").fit(X).score(X)
    assert model.score(X) > factorised
    assert model.perplexity_ > 2


def test_codes_that_follow_averages_are_means_of_their_vectors() -> None:
    # An encoder that cannot move, and more steps than averages remember.
    model = k_means_of_halves(codebook_update="ema", early_stopping=False)
    model.set_params(random_state=0, batch_size=600, n_iter_no_change=100)
    rows = two_copies(600)
    halves = model.fit(rows).module_.standardizer(torch.from_numpy(rows)).view(1200, 2)
    tokens = spelled(model, "ordinal").transform(rows).ravel()
    for k in np.unique(tokens):
        mean = halves[tokens == k].mean(0).numpy()
        assert_allclose(model.codebook_[k], mean, atol=0.05)


@pytest.mark.parametrize("moves", [True, False])
def test_a_weight_of_two_moves_codes_as_a_row_given_twice(moves: bool) -> None:
    x, noise, states = normal(9, 3, seed=2), uniform(4, seed=4), []
    weight = torch.ones(9).double()
    weight[:4] = 2
    for rows, weights in ((x, weight), (torch.cat([x[:4], x]), None)):
        model = token_model()
        model.codebook.double()
        with torch.no_grad():
            terms = TokenLoss(0.25)(model, Batch(rows))
            batch = Batch(rows, weight=weights)
            FollowCodes(len(noise), moves)(model, terms, batch, noise)
        states.append(model.codebook.averages)
    torch.testing.assert_close(*states)
    moved = not states[0].vectors.equal(token_model().codebook.vectors)
    assert moved == moves


def test_cosine_codes_are_on_the_unit_sphere() -> None:
    model = small(distance="cosine", codebook_size=6).fit(X)
    assert_allclose(np.linalg.norm(model.codebook_, axis=1), 1, rtol=1e-6)
    z_e = model.module_.latents(Batch(torch.zeros(3, 4)))
    torch.testing.assert_close(z_e.norm(dim=-1), torch.ones(3, 2))


def test_dead_codes_are_revived_in_a_fit() -> None:
    model = small(codebook_size=16, n_tokens=4, warm_start=True, max_iter=2).fit(X)
    codebook = model.module_.codebook
    codebook.vectors.data[4:] = 1e3  # nearest to nothing
    codebook.shares[4:] = 0
    model.set_params(max_iter=20).fit(X)
    assert model.perplexity_ > 8


# Images.

PICTURES = load_digits().data[:300]


@pytest.fixture(scope="module")
def images() -> Any:
    return small(
        codebook_size=16,
        architecture="conv",
        image_shape=(8, 8),
        channels=8,
        likelihood="discretized_logistic",
        max_iter=8,
        n_importance_samples=4,
    ).fit(15 * PICTURES)


def test_images_have_a_grid_of_tokens(images: Any) -> None:
    assert images.grid_shape_ == (4, 4)
    tokens = spelled(images, "ordinal").transform(15 * PICTURES[:5])
    assert tokens.shape == (5, 16)
    assert images.transform(15 * PICTURES[:5]).shape == (5, 32)
    assert small().fit(X).grid_shape_ == (2,)


def test_a_token_is_where_its_part_of_the_image_is(images: Any) -> None:
    # Far corners of an image: tokens of the other corner stay.
    other = 15 * PICTURES[:50]
    other.reshape(-1, 8, 8)[:, :2, :2] = 240 - other.reshape(-1, 8, 8)[:, :2, :2]
    ordinal = spelled(images, "ordinal")
    before = ordinal.transform(15 * PICTURES[:50]).reshape(50, 4, 4)
    changed = (ordinal.transform(other).reshape(50, 4, 4) != before).mean(0)
    assert changed[0, 0] > 0.3
    assert changed[3, 3] == 0


def test_images_have_a_transformer_over_their_tokens(images: Any) -> None:
    assert isinstance(images.module_.prior, TransformerPrior)
    assert images.prior_curve_[-1] < images.prior_curve_[0]
    assert images.prior_mixing_ > 0.5
    drawn = images.sample(3, noise=False, random_state=0)
    assert drawn.shape == (3, 64)
    assert ((drawn >= 0) & (drawn <= 255)).all()


# Samples.


def test_samples_without_noise_are_decoded_codes(model: Any) -> None:
    drawn = model.sample(300, noise=False, random_state=0)
    every = model.codebook_[all_sequences(2, 4).numpy()].reshape(16, 4)
    possible = model.inverse_transform(every.astype(np.float64))
    distance = np.abs(drawn[:, None] - possible).max(-1).min(1)
    assert distance.max() < 1e-6
    assert len(np.unique(drawn.round(6), axis=0)) > 4


def test_samples_follow_the_prior(model: Any) -> None:
    drawn = model.sample(20_000, noise=False, random_state=0)
    sequences = all_sequences(2, 4)
    every = model.codebook_[sequences.numpy()].reshape(16, 4)
    possible = model.inverse_transform(every.astype(np.float64))
    labels = np.abs(drawn[:, None] - possible).max(-1).argmin(1)
    share = np.bincount(labels, minlength=16) / 20_000
    with torch.no_grad():
        expected = model.module_.prior.log_prob(sequences).exp().numpy()
    assert_allclose(share, expected, atol=5 * math.sqrt(0.25 / 20_000))


def test_draws_have_the_moments_of_the_rows(model: Any) -> None:
    drawn = model.sample(50_000, random_state=1)
    assert (np.abs(drawn.mean(0) - X.mean(0)) < 0.3 * X.std(0)).all()
    assert_allclose(drawn.std(0), X.std(0), rtol=0.25)


def test_draws_score_as_the_rows_do(model: Any) -> None:
    drawn = model.sample(2_000, random_state=1)
    assert abs(model.score(drawn) - model.score(X)) < 0.6


# Going on.


def test_the_loss_is_in_the_units_of_the_rows(model: Any) -> None:
    terms = {name: np.array(curve) for name, curve in model.loss_terms_.items()}
    expected = -terms["reconstruction"] + terms["codebook"] + 0.25 * terms["commitment"]
    assert_allclose(terms["loss"], expected, rtol=1e-5)
    frozen = clone(model).set_params(
        learning_rate_init=1e-10, standardize=False, max_iter=1
    )
    rows = 10 * X
    frozen.fit(rows)
    noise = rows - frozen.reconstruct(rows)
    sigma = frozen.module_.likelihood.sigma.detach().numpy()
    log_prob = -0.5 * (noise / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2 * np.pi)
    # Most rows train; the others are alike.
    reported = frozen.loss_terms_["reconstruction"][0]
    assert reported == pytest.approx(log_prob.sum(1).mean(), rel=0.05)


def test_rows_are_held_out_without_early_stopping_too() -> None:
    model = small(early_stopping=False, max_iter=3).fit(X)
    assert model.validation_curve_ == []
    assert model.n_iter_ == 3
    with_all = torch.tensor(X.mean(0))
    assert (model.module_.standardizer.shift - with_all).abs().max() > 1e-6


def test_partial_fits_learn() -> None:
    model = small(codebook_size=8).partial_fit(X)
    first = model.score(X)
    for _ in range(39):
        model.partial_fit(X)
    assert model.score(X) > first + 0.5
    assert model.n_iter_ == len(model.loss_curve_) == 40


def test_partial_fits_go_on_with_the_codebook_that_was_built() -> None:
    model = small().partial_fit(X).set_params(codebook_size=9).partial_fit(X)
    assert model.codebook_.shape == (4, 2)


def test_partial_fits_count_tokens_on() -> None:
    model = small().partial_fit(X)
    first = model.module_.prior.counts.sum().item()
    model.partial_fit(X)
    # A tenth of the rows is held out; two tokens per row, one place each.
    assert first == pytest.approx(180 * 2, rel=1e-3)
    # The codes have moved: a tenth of the earlier counts is forgotten.
    assert model.module_.prior.counts.sum().item() == pytest.approx(684, rel=1e-3)


def test_a_fit_counts_tokens_anew() -> None:
    model = small(warm_start=True, max_iter=2).fit(X).fit(X)
    assert model.module_.prior.counts.sum().item() == pytest.approx(360, rel=1e-3)


def test_a_warm_start_goes_on() -> None:
    model = small(warm_start=True, max_iter=5).fit(X)
    first, score = model.validation_curve_, model.score(X)
    assert model.fit(X).validation_curve_[5] < first[0]
    assert len(model.prior_curve_) > 5
    assert model.score(X) > score
