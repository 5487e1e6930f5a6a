"""VQVAE2: one level as VQVAE, codes that are enumerated, conditions, levels."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn.datasets import load_digits

import skgen
from skgen import VQVAE, VQVAE2, MixedDensity
from skgen._networks.codebooks import Codebooks
from skgen._networks.dense import Standardizer
from skgen._networks.token_priors import AnyOrderPrior, AutoregressivePrior
from skgen._training.batches import Batch
from skgen.models.vqvae2 import HierarchicalAutoencoder
from skgen.objectives import importance_weighted_bound, log_weights
from tests.toys import (
    all_sequences,
    exact_token_log_prob,
    gaussian,
    generator,
    leaves_generators,
    linear,
    normal,
)

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few epochs, on purpose.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

CENTRES = np.array([[4.0, 0, 0, 2], [-4, 1, 3, 0], [0, -4, 1, 2]])
LABELS = np.random.RandomState(0).randint(3, size=150)
X = CENTRES[LABELS] + normal(150, 4, seed=2).numpy() @ np.diag([1, 0.5, 0.7, 0.6])
NAMES = np.array(["ash", "elm", "oak"])
SMALL: dict[str, Any] = {
    "code_size": 2,
    "hidden_layer_sizes": (16,),
    "learning_rate_init": 1e-2,
    "max_iter": 12,
    "n_importance_samples": 16,
    "random_state": 0,
}
IMAGES: dict[str, Any] = {
    "architecture": "conv",
    "image_shape": (8, 8),
    "channels": 4,
    "max_iter": 1,
    "code_size": 2,
    "n_importance_samples": 4,
    "random_state": 0,
}


def small(codebook_size: int = 3, n_tokens: int = 2, **params: Any) -> Any:
    return VQVAE2(codebook_size, n_tokens=n_tokens, **{**SMALL, **params})


@pytest.fixture(scope="module")
def model() -> Any:
    return small().fit(X)


@pytest.fixture(scope="module")
def by_class() -> Any:
    model = small(6, condition="auto", max_iter=40)
    return model.fit(X, NAMES[LABELS])


@leaves_generators
def toy(n_importance_samples: int = 8) -> Any:
    """A linear model of two levels in float64, of one and of two tokens."""
    sizes, K, c, d = [1, 2], 3, 2, 4
    prior = AutoregressivePrior(3, K, 5, levels=sizes).double()
    for seed, p in enumerate(prior.parameters()):
        p.data = normal(*p.shape, seed=seed + 20)
    prior.counts = torch.rand(3, K, generator=generator(30)).double() * 20
    prior.mixing.fill_(0.7)
    books = Codebooks(sizes, K, c).double()
    for seed, book in enumerate(books.levels):
        book.vectors.data = normal(K, c, seed=seed + 40)
    W, b = normal(3 * c, d, seed=11), normal(3 * c, seed=12)
    model = HierarchicalAutoencoder(
        linear(W, b),
        linear(torch.linalg.pinv(W), -torch.linalg.pinv(W) @ b),
        [linear(normal(2 * c, c, seed=13), normal(2 * c, seed=14))],
        gaussian(0.8),
        Standardizer.identity(d),
        prior,
        books,
        None,
        n_importance_samples,
    ).double()
    model.temperature.fill_(3.0)
    model.relative.copy_(torch.tensor([1.0, 0.5]))
    return model


# One level is VQVAE.


@pytest.mark.parametrize(
    "params",
    [{}, {"codebook_update": "ema", "distance": "cosine"}, {"prior": "masked"}],
    ids=str,
)
def test_one_level_is_a_vqvae(params: dict[str, Any]) -> None:
    settings = {**SMALL, "max_iter": 2, "n_tokens": 3, **params}
    expected = VQVAE(4, **settings).fit(X)
    model = VQVAE2(4, n_levels=1, **settings).fit(X)
    assert_allclose(model.score_samples(X), expected.score_samples(X), rtol=1e-5)
    assert_allclose(model.transform(X), expected.transform(X), rtol=1e-5)
    assert_allclose(
        model.sample(9, random_state=0), expected.sample(9, random_state=0), rtol=1e-4
    )
    assert_allclose(model.codebook_[0], expected.codebook_, rtol=1e-5)
    assert model.perplexity_ == pytest.approx(expected.perplexity_, rel=1e-5)


@pytest.mark.parametrize("prior", ["nade", "masked"])
def test_one_level_of_images_is_a_vqvae(prior: Any) -> None:
    images = load_digits().data[:60]
    settings = {**IMAGES, "prior": prior}
    expected = VQVAE(4, **settings).fit(images)
    model = VQVAE2(4, n_levels=1, **settings).fit(images)
    assert_allclose(
        model.score_samples(images), expected.score_samples(images), rtol=1e-5
    )


# The density.


def test_the_posterior_of_all_levels_sums_to_one() -> None:
    model, x = toy(), normal(20, 4, seed=3)
    tokens = all_sequences(3, 3)[:, None].expand(-1, 20, -1)
    q = model.posterior(Batch(x))
    log_q = q.log_prob(tokens)
    torch.testing.assert_close(log_q.logsumexp(0), torch.zeros(20).double())
    # And weights are the exact density in the mean.
    log_joint = model.log_likelihood(Batch(x), tokens) + model.prior.log_prob(tokens)
    log_w = log_joint - log_q
    total = (log_q + log_w).logsumexp(0)
    torch.testing.assert_close(total, exact_token_log_prob(model, x))


def test_draws_have_the_frequencies_of_the_posterior() -> None:
    model, n = toy(), 20_000
    q = model.posterior(Batch(normal(1, 4, seed=3)))
    drawn = q.draw(model.standard_noise((n, 1), generator()))
    index = (drawn[:, 0] * torch.tensor([9, 3, 1])).sum(1)
    found = torch.bincount(index, minlength=27) / n
    expected = q.log_prob(all_sequences(3, 3)[:, None])[:, 0].exp()
    error = (expected * (1 - expected) / n).sqrt()
    assert ((found - expected).abs() < 5 * error + 1e-4).all()


def test_lower_levels_are_drawn_given_the_codes_above() -> None:
    model, x = toy(), normal(5, 4, seed=3)
    encoded = model.encoded(Batch(x))[:, 1:]
    each = [
        model.level_log_probs(1, encoded, [model.codebook[0](k.expand(5, 1))], 0.0)
        for k in torch.arange(3)
    ]
    assert (each[0] - each[1]).abs().amax((1, 2)).min() > 1e-3
    nearest = model.tokens(x)[:, :1]
    expected = model.level_vectors(1, encoded, [model.codebook[0](nearest)])
    torch.testing.assert_close(model.latents(Batch(x))[:, 1:], expected)


def test_the_bound_rises_to_the_exact_density() -> None:
    model, x = toy(1), normal(100, 4, seed=3)
    exact = exact_token_log_prob(model, x)
    noise = model.standard_noise((2**11, 100), generator())
    log_w = log_weights(model, Batch(x, noise)).detach()
    gaps = []
    for n_draws in (1, 4, 16, 64, 256):
        bounds = [importance_weighted_bound(w) for w in log_w.split(n_draws)]
        gaps.append((exact - torch.stack(bounds)).mean().item())
    assert gaps == sorted(gaps, reverse=True)
    assert 0 < gaps[-1] < 0.2 < gaps[0]


@pytest.mark.parametrize("prior", ["nade", "transformer"])
def test_the_score_is_below_the_exact_density_and_near_it(prior: str) -> None:
    model = small(prior=prior, max_iter=4).fit(X)
    module = model._model(torch.float64)
    exact = exact_token_log_prob(module, torch.from_numpy(X)).numpy()
    gap = exact - model.score_samples(X)
    assert 0 < gap.mean() < 0.3
    careful = model.log_likelihood(X[:10], 1000)
    assert (abs(careful.log_prob - exact[:10]) < 5 * careful.standard_error).all()


def test_a_masked_prior_bounds_the_mean_over_orders() -> None:
    model = small(prior="masked", max_iter=3, n_importance_samples=2).fit(X[:60])
    module, x = model._model(torch.float64), torch.from_numpy(X)
    assert isinstance(module.prior, AnyOrderPrior)
    log_prob = exact_token_log_prob(module, x).numpy()
    gap = log_prob - model.score_samples(X)
    assert 0 < gap.mean() < 0.6
    careful = model.log_likelihood(X[:10], 1000)
    assert (abs(careful.log_prob - log_prob[:10]) < 5 * careful.standard_error).all()
    assert careful.standard_error.max() < 0.2


def test_a_second_level_says_more_of_a_row() -> None:
    one, two = (small(6, n_levels=n, max_iter=15).fit(X) for n in (1, 2))
    error = [((m.reconstruct(X) - X) ** 2).mean() for m in (one, two)]
    assert error[1] < error[0]


# Levels of tokens.


def test_codes_have_the_levels_side_by_side(model: Any) -> None:
    assert model.level_shapes_ == ((1,), (2,))
    assert model.grid_shape_ == (2,)
    assert model.codebook_.shape == (2, 3, 2)
    assert_allclose(model.codebook_usage_.sum(1), 1, rtol=1e-5)
    assert 1 <= model.perplexity_ <= 3
    spelled = [
        copy.copy(model).set_params(encode=e)
        for e in ("ordinal", "onehot", "embedding")
    ]
    tokens, one_hot, vectors = (each.transform(X) for each in spelled)
    assert tokens.shape == (150, 3)
    assert one_hot.shape == (150, 9)
    expected = model.codebook_[[0, 1, 1], tokens]
    assert_allclose(vectors, expected.reshape(150, 6))
    rows = model.reconstruct(X)
    for each, code in zip(spelled, (tokens, one_hot.toarray(), vectors)):
        assert_allclose(each.inverse_transform(code), rows, rtol=1e-6)


def test_shapes_are_halved_to_the_top() -> None:
    images = load_digits().data[:60]
    model = VQVAE2(4, n_levels=3, prior="nade", **IMAGES).fit(images)
    assert model.level_shapes_ == ((1, 1), (2, 2), (4, 4))
    assert model.transform(images).shape == (60, 2 * 21)
    assert model.reconstruct(images).shape == images.shape
    assert small(n_tokens=5, n_levels=3, max_iter=1).fit(X).level_shapes_ == (
        (2,),
        (3,),
        (5,),
    )


def test_averages_follow_each_level() -> None:
    model = small(codebook_update="ema", max_iter=8).fit(X)
    assert (np.ptp(model.codebook_, axis=1) > 0).all()
    assert model.perplexity_ > 1.5


def test_a_codebook_of_levels_has_no_picture(model: Any) -> None:
    pytest.importorskip("matplotlib")
    from skgen.display import CodebookDisplay

    with pytest.raises(ValueError, match="codebook for each level"):
        CodebookDisplay.from_estimator(model)


# Conditions.


def test_a_label_says_something_about_a_row(by_class: Any) -> None:
    given, marginal = by_class.score(X, NAMES[LABELS]), by_class.score(X)
    assert given > marginal + 0.5
    assert (by_class.predict(X) == NAMES[LABELS]).mean() > 0.9
    assert_array_equal(by_class.classes_, NAMES)


def test_scores_without_labels_are_sums_over_classes(by_class: Any) -> None:
    each = [by_class.score_samples(X, name) for name in NAMES]
    counts = by_class.module_.condition.log_prior.numpy()
    assert_allclose(
        by_class.score_samples(X), logsumexp(np.transpose(each) + counts, axis=1)
    )
    joint = np.transpose(each) + counts
    expected = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    assert_allclose(by_class.predict_proba(X), expected, atol=1e-9)


def test_draws_given_a_class_are_of_it(by_class: Any) -> None:
    for name, centre in zip(NAMES, CENTRES):
        drawn = by_class.sample(300, y=name, random_state=0)
        distance = np.linalg.norm(drawn.mean(0) - CENTRES, axis=1)
        assert distance.argmin() == (centre == CENTRES).all(1).argmax()
    mixed = by_class.sample(6, y=NAMES[[0, 1, 2, 0, 1, 2]], random_state=0)
    assert mixed.shape == (6, 4)
    held = by_class.conditioned_on("elm")
    assert_allclose(held.score(X), by_class.score(X, "elm"))


def test_the_careful_estimate_takes_labels(by_class: Any) -> None:
    rows, labels = X[:30], NAMES[LABELS[:30]]
    careful = by_class.log_likelihood(rows, 500, y=labels)
    assert careful.log_prob.mean() > by_class.score(rows, labels) - 0.05
    whole = by_class.log_likelihood(rows, 500)
    assert whole.log_prob.mean() > by_class.score(rows) - 0.05


def test_codes_do_not_depend_on_a_condition(by_class: Any) -> None:
    codes = by_class.transform(X)
    assert_array_equal(by_class.transform(X, NAMES[LABELS]), codes)
    assert_array_equal(by_class.inverse_transform(codes), by_class.reconstruct(X))


@pytest.mark.parametrize("prior", ["transformer", "masked"])
def test_every_prior_takes_conditions(prior: str) -> None:
    model = small(prior=prior, condition="classes", max_iter=25).fit(X, LABELS)
    assert model.score(X, LABELS) > model.score(X) + 0.3
    assert model.sample(5, y=2, random_state=0).shape == (5, 4)


def test_numbers_are_conditions() -> None:
    model = small(condition="numbers").fit(X, X[:, :1] + 0.01)
    assert model.score(X, X[:, :1]) > model.score(X, np.zeros((1, 1))) + 0.5
    with pytest.raises(ValueError, match="needs y"):
        model.score(X)


def test_without_a_condition_y_is_ignored(model: Any) -> None:
    assert_array_equal(small().fit(X, LABELS).score_samples(X), model.score_samples(X))
    assert not hasattr(model, "predict")
    with pytest.raises(ValueError, match="requires y"):
        small(condition="auto").fit(X)


def test_a_model_with_conditions_comes_back(by_class: Any, tmp_path: Path) -> None:
    skgen.save(by_class, tmp_path / "model.safetensors")
    found = skgen.load(tmp_path / "model.safetensors")
    assert_array_equal(found.score_samples(X, "oak"), by_class.score_samples(X, "oak"))
    assert_array_equal(
        found.sample(5, y="ash", random_state=0),
        by_class.sample(5, y="ash", random_state=0),
    )


# Missing cells.


def test_missing_cells_are_integrated_out() -> None:
    holes = X.copy()
    holes[::3, 1] = np.nan
    model = MixedDensity(small(max_iter=2)).fit(holes)
    scores = model.score_samples(holes)
    assert np.isfinite(scores).all()
    assert not np.isnan(model.impute(holes)).any()
    with pytest.raises(AttributeError, match="since it has a condition"):
        small(condition="auto").impute(holes)
    given = MixedDensity(small(max_iter=1, prior="masked")).fit(holes)
    assert np.isfinite(given.score_samples(holes)).all()
