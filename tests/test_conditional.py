"""ConditionalVAE: closed forms, Bayes' rule, missing labels, and the contract."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

import skgen
import skgen._training.data
import skgen.models.base
from skgen import VAE, ConditionalVAE, GaussianDensity, MixedDensity
from skgen._training.batches import Batch
from skgen._training.data import StoredRows
from skgen.display import ManifoldDisplay, TraversalDisplay
from skgen.latent import manifold
from skgen.likelihoods import Gaussian
from skgen.model_selection import BatchedGridSearchCV
from skgen.models.conditional import (
    ConditionalLoss,
    LabelledLoss,
    SemiSupervisedLoss,
)
from skgen.models.conditions import as_labels
from tests.test_sklearn_checks import BY_NAME
from tests.toys import normal

# Few epochs, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Three classes along a line, and two directions that they share.
N = 240
LABELS = np.arange(N) % 3
CENTRES = np.array([[0, 0, 0, 0], [4, 0, 2, 0], [0, 5, 0, -3]], dtype=float)
MIXING = np.array([[2, 1, 0, 1], [0, 1, -1, 1]], dtype=float)
X = CENTRES[LABELS] + normal(N, 2, seed=1).numpy() @ MIXING
X = X + 0.5 * normal(N, 4, seed=2).numpy()
SMALL: dict[str, Any] = {
    "n_components": 2,
    "hidden_layer_sizes": (16,),
    "learning_rate_init": 1e-2,
    "max_iter": 20,
    "n_importance_samples": 16,
    "random_state": 0,
}
LINEAR: dict[str, Any] = {
    "hidden_layer_sizes": (),
    "likelihood": Gaussian("shared"),
    "standardize": False,
    "early_stopping": False,
    "learning_rate_init": 1e-2,
    "batch_size": 60,
    "max_iter": 300,
    "n_iter_no_change": 300,
    "random_state": 0,
}


def small(**params: Any) -> Any:
    return ConditionalVAE(**{**SMALL, **params})


def with_few_labels(n: int, seed: int = 5) -> NDArray[Any]:
    """Labels of n rows, -1 for the others."""
    known = np.random.RandomState(seed).permutation(N)[:n]
    y = np.full(N, -1)
    y[known] = LABELS[known]
    return y


@pytest.fixture(scope="module")
def model() -> Any:
    return small().fit(X, LABELS)


@pytest.fixture(scope="module")
def by_number() -> Any:
    return small().fit(X[:, 1:], X[:, 0])


# Linear maps.


def test_linear_maps_are_a_class_conditional_probabilistic_pca() -> None:
    model = ConditionalVAE(2, **LINEAR).fit(X, LABELS)
    means = np.stack([X[k == LABELS].mean(0) for k in range(3)])
    best = GaussianDensity(n_components=2, reg_covar=0).fit(X - means[LABELS])
    given = best.score_samples(X - means[LABELS])
    assert abs(model.score(X, LABELS) - given.mean()) < 0.05
    each = np.stack([best.score_samples(X - mean) for mean in means], axis=1)
    joint = each - np.log(3)
    exact = np.log(np.exp(joint).sum(1))
    assert abs(model.score(X) - exact.mean()) < 0.05
    exact_proba = np.exp(joint - exact[:, None])
    assert abs(model.predict_proba(X) - exact_proba).mean() < 0.03


def test_linear_maps_of_numbers_are_a_regression() -> None:
    y = normal(N, 2, seed=3).numpy() * [1, 100] + [0, 1000]
    rows = X - CENTRES[LABELS] + y @ [[1, 0, 2, 0], [0.02, 0.01, 0, 0]]
    rows = rows - rows.mean(0)
    model = ConditionalVAE(2, **LINEAR).fit(rows, y)
    design = np.c_[np.ones(N), y]
    residual = rows - design @ np.linalg.lstsq(design, rows, rcond=None)[0]
    best = GaussianDensity(n_components=2, reg_covar=0).fit(residual)
    assert abs(model.score(rows, y) - best.score(residual)) < 0.05
    assert not hasattr(model, "classes_")
    assert model.n_conditions_ == 2


# Bayes' rule.


def test_without_a_label_classes_are_summed_over(model: Any) -> None:
    given = np.stack([model.score_samples(X, k) for k in model.classes_], axis=1)
    joint = given + model.module_.condition.log_prior.numpy()
    marginal = np.logaddexp.reduce(joint, axis=1)
    assert_allclose(model.score_samples(X), marginal)
    assert_allclose(model.predict_proba(X), np.exp(joint - marginal[:, None]))
    assert_array_equal(model.predict(X), model.predict_proba(X).argmax(1))
    assert (model.predict(X) == LABELS).mean() > 0.9


def test_a_row_is_scored_by_its_own_label_or_without_one(model: Any) -> None:
    y = with_few_labels(100)
    some, known = model.score_samples(X, y), y >= 0
    assert_allclose(some[known], model.score_samples(X, LABELS)[known])
    assert_allclose(some[~known], model.score_samples(X)[~known])
    assert model.score(X, y) == some.mean()


def test_the_prior_is_the_weighted_frequency_of_each_class() -> None:
    weight = np.where(LABELS == 2, 2.0, 1.0)
    model = small(max_iter=1, early_stopping=False).fit(X, LABELS, weight)
    prior = model.module_.condition.log_prior.exp().numpy()
    assert_allclose(prior, [0.25, 0.25, 0.5])
    drawn = model.predict(model.sample(2000, random_state=0))
    assert set(drawn) <= {0, 1, 2}


def test_the_careful_estimate_agrees_with_the_score(model: Any) -> None:
    for y in (None, LABELS[:20]):
        careful = model.log_likelihood(X[:20], 2000, y=y)
        assert (careful.standard_error < 0.2).all()
        assert abs(careful.mean_log_prob - model.score(X[:20], y)) < 0.2


def test_elbos_are_below_the_scores(model: Any) -> None:
    for y in (None, LABELS):
        reconstruction, kl = model.elbo(X, y)
        assert (kl > 0).all()
        assert (reconstruction - kl).mean() < model.score(X, y)


# Codes and draws.


def test_codes_without_labels_are_averages_over_classes(model: Any) -> None:
    module, rows = model._model(torch.float64), torch.from_numpy(X)
    with torch.no_grad():
        weight = module.class_log_posterior(module.view(rows)).exp().numpy()
    each = np.stack([model.transform(X, k) for k in range(3)], axis=1)
    assert_allclose(model.transform(X), (weight[..., None] * each).sum(1))
    mean, std = model.posterior(X)
    assert_array_equal(mean, model.transform(X))
    assert (std > 0).all()
    codes = model.transform(X, LABELS)
    decoded = np.stack([model.inverse_transform(codes, k) for k in range(3)])
    prior = module.condition.log_prior.exp().numpy()
    assert_allclose(model.inverse_transform(codes), np.tensordot(prior, decoded, 1))


def test_reconstructions_are_decoded_codes(model: Any) -> None:
    for y in (None, LABELS, 1, with_few_labels(90)):
        expected = model.inverse_transform(model.transform(X, y), y)
        assert_allclose(model.reconstruct(X, y), expected)
    error = ((model.reconstruct(X, LABELS) - X) ** 2).mean()
    assert error < ((model.reconstruct(X, 0) - X) ** 2).mean()


def test_draws_are_of_the_classes_that_were_asked_for(model: Any) -> None:
    drawn = model.sample(300, y=1, random_state=0)
    assert_allclose(drawn.mean(0), X[LABELS == 1].mean(0), atol=0.7)
    y = np.repeat([0, 2], 150)
    drawn = model.sample(300, y=y, random_state=0)
    assert (model.predict(drawn) == y).mean() > 0.9
    assert_array_equal(drawn, model.sample(300, y=y, random_state=0))
    assert not np.array_equal(drawn, model.sample(300, y=y, random_state=1))
    some = np.where(np.arange(300) < 150, 1, -1)
    drawn = model.predict(model.sample(300, y=some, random_state=0))
    assert (drawn[:150] == 1).mean() > 0.9
    assert set(drawn[150:]) == {0, 1, 2}


def test_a_condition_that_is_held_stands_for_one_that_is_given(
    model: Any, by_number: Any
) -> None:
    held = model.conditioned_on(1)
    assert_array_equal(held.score_samples(X), model.score_samples(X, 1))
    assert_array_equal(held.transform(X), model.transform(X, 1))
    assert_array_equal(
        held.sample(5, random_state=0), model.sample(5, y=1, random_state=0)
    )
    assert_array_equal(held.score_samples(X, 2), model.score_samples(X, 2))
    assert_array_equal(held.predict(X), model.predict(X))
    held = by_number.conditioned_on(0.5)
    assert_array_equal(
        held.score_samples(X[:, 1:]), by_number.score_samples(X[:, 1:], 0.5)
    )
    assert not hasattr(by_number, "_held")


def test_pictures_and_ways_through_the_code_take_a_condition_that_is_held(
    model: Any,
) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    planes: Any = [manifold(model.conditioned_on(k)).rows for k in (0, 1)]
    assert not np.allclose(*planes)
    for display in (ManifoldDisplay, TraversalDisplay):
        display.from_estimator(model.conditioned_on(2))


# Training losses.


def batch_of(model: Any, y: NDArray[Any]) -> Any:
    module, n = model.module_, len(y)
    noise = module.standard_noise((2, n), torch.Generator().manual_seed(0))
    rows = module.standardizer(torch.from_numpy(X[:n])).float()
    return Batch(rows, noise, None, torch.tensor(y, dtype=torch.float64)[:, None])


def test_the_loss_of_known_labels_is_one_loss_in_three_ways(model: Any) -> None:
    batch = batch_of(model, LABELS[:30])
    plain = ConditionalLoss()(model.module_, batch, 0.5)
    labelled = LabelledLoss(3.0)(model.module_, batch, 0.5)
    semi = SemiSupervisedLoss(3.0)(model.module_, batch, 0.5)
    for one, other in zip(labelled, semi):
        assert_allclose(one.detach(), other.detach(), rtol=1e-4, atol=1e-4)
    extra = labelled.loss - plain.loss
    assert_allclose(extra.detach(), 3 * labelled.cross_entropy.detach(), atol=1e-5)
    assert_allclose(
        labelled.watched.detach(), (plain.kl - plain.reconstruction).detach()
    )


def test_the_loss_of_missing_labels_is_the_bound_of_m2(model: Any) -> None:
    module, y = model.module_, np.array([0, -1, 2, -1])
    batch = batch_of(model, y)
    terms = SemiSupervisedLoss(2.0)(module, batch)
    log_q = module.class_log_posterior(batch.x)
    each = []
    for k in range(3):
        labels = torch.full((4, 1), k)
        found = ConditionalLoss()(module, batch._replace(context=labels))
        each.append(found.reconstruction - found.kl)
    bound = torch.stack(each, 1)
    q, prior = log_q.exp(), module.condition.log_prior.float()
    missing = (q * (bound + prior - log_q)).sum(1)
    for i, label in enumerate(y):
        if label < 0:
            assert_allclose(terms.loss[i].item(), -missing[i].item(), rtol=1e-4)
            assert terms.cross_entropy[i] == 0
        else:
            # Half of the rows have a label: each counts twice.
            expected = -bound[i, label] - 2 * 2.0 * log_q[i, label]
            assert_allclose(terms.loss[i].item(), expected.item(), rtol=1e-4)


def test_rows_without_labels_teach_what_few_labels_do_not() -> None:
    rows, y = X + 2 * CENTRES[LABELS], with_few_labels(9)
    semi = small(max_iter=30).fit(rows, y)
    known = y >= 0
    alone = small(max_iter=30, early_stopping=False).fit(rows[known], y[known])
    assert semi.score(rows) > alone.score(rows) + 1
    assert (semi.predict(rows) == LABELS).mean() > 0.95
    assert set(semi.loss_terms_) == {"loss", "reconstruction", "kl", "cross_entropy"}


def test_all_labels_are_trained_on_where_some_are_missing() -> None:
    y = with_few_labels(9)
    model = small()
    model._context(y, N, reset=True)
    rows = StoredRows(
        torch.from_numpy(X),
        None,
        torch.device("cpu"),
        context=torch.from_numpy(model._encoded(y, N)),
    )
    for seed in range(5):
        train, held_out = model._split(rows, np.random.RandomState(seed))
        assert (train.context >= 0).sum() == 9
        assert (held_out.context < 0).all()


def test_rows_that_stay_in_a_file_keep_their_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    # Nothing is few: rows are read in pieces, and shuffled within windows of them.
    monkeypatch.setattr(skgen._training.data, "KEPT_ELEMENTS", 0)
    monkeypatch.setattr(skgen._training.data, "PIECE_ELEMENTS", 20 * 4)
    monkeypatch.setattr(skgen._training.data, "WINDOW_PIECES", 3)
    model = small().fit(mapped, LABELS)
    assert (model.predict(X) == LABELS).mean() > 0.9


# Conditions.


@pytest.mark.parametrize(
    "y",
    [
        LABELS + 5,
        LABELS.astype(float),
        np.array(["a", "b", "c"])[LABELS],
        np.array(["a", "b", "c"], dtype=object)[LABELS],
        list(LABELS),
        LABELS[:, None] == 1,
    ],
    ids=["int", "float", "text", "object", "list", "bool"],
)
@pytest.mark.filterwarnings("ignore:A column-vector y")
def test_labels_are_what_they_were(y: Any, tmp_path: Path) -> None:
    model = small(max_iter=2).fit(X, y)
    flat = np.ravel(y)
    assert_array_equal(model.classes_, np.unique(flat))
    assert set(model.predict(X)) <= set(flat)
    assert_allclose(model.score_samples(X, flat[:1]), model.score_samples(X, flat[0]))
    skgen.save(model, tmp_path / "model")
    assert_array_equal(skgen.load(tmp_path / "model").predict(X), model.predict(X))


def test_a_label_is_missing_in_several_ways() -> None:
    for y in (
        np.array([0, -1, 1]),
        np.array([0, np.nan, 1]),
        np.array([0.0, -1.0, 1]),
        np.array(["a", None, "b"], dtype=object),
        np.array(["a", np.nan, "b"], dtype=object),
        np.array(["a", -1, "b"], dtype=object),
    ):
        assert_array_equal(as_labels(y)[1], [False, True, False])
    assert not as_labels(np.array([True, False]))[1].any()


def test_a_parameter_says_what_is_a_class() -> None:
    numbers = small(condition="numbers", max_iter=1).fit(X, LABELS)
    assert numbers.n_conditions_ == 1
    assert not hasattr(numbers, "predict")
    halves = small(condition="classes", max_iter=1).fit(X, LABELS / 2)
    assert_array_equal(halves.classes_, [0, 0.5, 1])
    again = halves.set_params(condition="auto").fit(X, X[:, 0])
    assert not hasattr(again, "classes_")


BAD: dict[str, Any] = {
    "no y": (None, "requires y to be passed"),
    "no label": (np.full(N, -1), "every label in y is missing"),
    "length": (LABELS[:5], "inconsistent numbers of samples"),
    "one": (LABELS[:1], "inconsistent numbers of samples"),
    "infinite": (np.where(LABELS, 0.5, np.inf), "infinity"),
    "missing number": (np.where(LABELS, 0.5, np.nan), "NaN"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_conditions_are_named(case: str) -> None:
    y, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        small().fit(X, y)


def test_other_conditions_than_those_of_the_fit_are_named(
    model: Any, by_number: Any
) -> None:
    for call in (model.score_samples, model.transform, model.partial_fit):
        with pytest.raises(ValueError, match=r"label 7, .* \[0, 1, 2\]"):
            call(X, np.where(LABELS == 1, 7, LABELS))
    with pytest.raises(ValueError, match="label 'a'"):
        model.sample(y="a")
    with pytest.raises(ValueError, match="y has conditions of 5 rows, not of 240"):
        model.score(X, LABELS[:5])
    with pytest.raises(ValueError, match="real-valued conditions needs y"):
        by_number.score(X[:, 1:])
    with pytest.raises(ValueError, match="real-valued conditions needs y"):
        by_number.sample(2)
    with pytest.raises(ValueError, match="y has 2 columns"):
        by_number.score(X[:, 1:], X[:, :2])
    with pytest.raises(AttributeError, match="predicts classes only"):
        by_number.predict(X[:, 1:])
    with pytest.raises(ValueError, match="requires y"):
        MixedDensity(small()).fit(X)


def test_a_fit_that_fails_leaves_the_model_as_it_was(model: Any) -> None:
    again = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match="infinity"):
        again.fit(X, np.where(LABELS, 0.5, np.inf))
    assert_array_equal(again.score_samples(X, LABELS), model.score_samples(X, LABELS))


# The contract.


@parametrize_with_checks(
    [small(max_iter=1, n_importance_samples=8)],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": "mini-batches move",
        "check_sample_weight_equivalence_on_sparse_data": "mini-batches move",
        "check_estimator_sparse_array": "predict_proba is taken for a classifier's",
        "check_estimator_sparse_matrix": "predict_proba is taken for a classifier's",
    },
    xfail_strict=True,
)
def test_check_estimator(estimator: Any, check: Callable[..., Any]) -> None:
    check(estimator)


@pytest.mark.filterwarnings(
    "ignore:X (has|does not have valid) feature names:UserWarning"
)
@pytest.mark.parametrize("check", BY_NAME)
def test_check_by_name(check: str) -> None:
    estimator = small(max_iter=1, n_importance_samples=8)
    getattr(estimator_checks, check)(type(estimator).__name__, estimator)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("y", [None, LABELS, with_few_labels(70)], ids=str)
def test_a_row_sees_neither_its_neighbours_nor_chunks(
    model: Any,
    dtype: Any,
    y: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, order = X.astype(dtype), np.random.RandomState(0).permutation(N)[:50]
    part = None if y is None else y[order]
    methods = ("score_samples", "transform", "reconstruct")
    whole = {name: getattr(model, name)(rows, y) for name in methods}
    monkeypatch.setattr(skgen.models.base, "chunk_rows", lambda device, elements: 7)
    for name, expected in whole.items():
        found = getattr(model, name)(rows[order], part)
        assert found.dtype == dtype
        scale = (1e-9 if dtype == np.float64 else 2e-5) * np.abs(expected).max()
        assert_allclose(found, expected[order], atol=scale)


def test_names_of_classes_do_not_matter() -> None:
    names = np.array(["a", "b", "c"])[LABELS]
    found = [small(max_iter=2).fit(X, y).score_samples(X) for y in (LABELS, names)]
    assert_array_equal(*found)


def test_units_shift_the_score_by_their_log(model: Any) -> None:
    scaled = small().fit(X * 8, LABELS)
    expected = model.score_samples(X, LABELS) - 4 * np.log(8)
    assert_allclose(
        scaled.score_samples(X * 8, LABELS).mean(), expected.mean(), atol=0.1
    )


@pytest.mark.parametrize(
    "kind", ["classes", "numbers", "few labels", "held", "images", "deep"]
)
def test_a_model_comes_back(
    kind: str, tmp_path: Path, model: Any, by_number: Any
) -> None:
    rows, y = X, LABELS
    if kind == "numbers":
        model, rows, y = by_number, X[:, 1:], X[:, 0]
    elif kind == "few labels":
        model = small(max_iter=2).fit(X, with_few_labels(20))
    elif kind == "held":
        model = model.conditioned_on(1)
    elif kind == "deep":
        model = small(n_components=(3, 2), max_iter=2).fit(X, LABELS)
    elif kind == "images":
        rows = normal(N, 64, seed=4).numpy()
        image: dict[str, Any] = {
            "architecture": "conv",
            "image_shape": (8, 8),
            "channels": 2,
        }
        model = small(**image, max_iter=1).fit(rows, LABELS)
    skgen.save(pickle.loads(pickle.dumps(model)), tmp_path / "model")
    found = skgen.load(tmp_path / "model")
    assert_array_equal(found.score_samples(rows, y), model.score_samples(rows, y))
    assert_array_equal(
        found.sample(3, y=y[:3], random_state=0),
        model.sample(3, y=y[:3], random_state=0),
    )
    if kind != "numbers":
        assert_array_equal(found.predict_proba(rows), model.predict_proba(rows))
    found.partial_fit(rows, y)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_conditions_", 2),
        ("n_conditions_", "3"),
        ("classes_", np.arange(4)),
        ("_some_missing", 0.5),
        ("_held", np.zeros((1, 5))),
    ],
)
def test_a_state_that_makes_no_sense_is_refused(
    name: str, value: Any, model: Any
) -> None:
    state = {**model._file_state(), name: value}
    with pytest.raises(ValueError, match=r"condition|classes|module"):
        clone(model)._set_file_state(state)


def test_epochs_can_be_given_one_by_one() -> None:
    model = small()
    for _ in range(8):
        for part in (slice(0, N // 2), slice(N // 2, N)):
            model.partial_fit(X[part], with_few_labels(200)[part])
    assert (model.predict(X) == LABELS).mean() > 0.9
    warm = small(warm_start=True, max_iter=2).fit(X, LABELS)
    assert warm.fit(X, LABELS).n_iter_ == 4
    with pytest.raises(ValueError, match="label 3"):
        warm.fit(X, LABELS + 1)


@pytest.mark.parametrize("search", [GridSearchCV, BatchedGridSearchCV])
def test_a_search_compares_densities_of_rows_given_labels(search: type[Any]) -> None:
    grid = {"kl_warmup": [0, 2]}
    found = search(small(max_iter=2), grid, cv=2, error_score="raise").fit(X, LABELS)
    best = found.best_estimator_
    assert best.score(X, LABELS) == found.score(X, LABELS)
    plain = GridSearchCV(small(max_iter=2), grid, cv=2).fit(X, LABELS)
    assert_allclose(
        found.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )


def test_a_pipeline_passes_labels_on() -> None:
    pipeline = make_pipeline(StandardScaler(), small()).fit(X, LABELS)
    assert (pipeline.predict(X) == LABELS).mean() > 0.9
    assert pipeline.transform(X).shape == (N, 2)
    generative = skgen.make_generative_pipeline(StandardScaler(), small())
    generative.fit(X, LABELS)
    shift = np.log(X.std(0)).sum()
    assert_allclose(
        generative.score_samples(X),
        pipeline[-1].score_samples(pipeline[0].transform(X)) - shift,
    )


def test_every_fitted_attribute_is_documented(model: Any) -> None:
    public = {name for name in vars(model) if name.endswith("_") and name[0] != "_"}
    assert not {
        name for name in public if f"{name} :" not in cast(str, type(model).__doc__)
    }


def test_a_label_of_one_class_is_a_vae_with_a_constant_beside() -> None:
    model = small().fit(X, np.zeros(N, dtype=int))
    plain = VAE(**SMALL).fit(X)
    assert_allclose(model.score_samples(X, 0), model.score_samples(X))
    assert abs(model.score(X) - plain.score(X)) < 1
    assert_array_equal(model.predict(X), np.zeros(N))


def test_rows_of_the_dtype_of_a_frame_come_back_as_one() -> None:
    frame = pytest.importorskip("pandas").DataFrame(X, columns=list("abcd"))
    model = small(max_iter=1).fit(frame, LABELS).set_output(transform="pandas")
    assert list(model.sample(2, y=1).columns) == list("abcd")
    assert list(model.inverse_transform(np.zeros((2, 2)), 1).columns) == list("abcd")
    assert list(model.transform(frame).columns) == [
        "conditionalvae0",
        "conditionalvae1",
    ]


def test_networks_of_the_user_see_the_condition_beside() -> None:
    def encoder(n_inputs: Any, n_outputs: Any) -> Any:
        assert (n_inputs, n_outputs) == (4 + 3, 4)
        return torch.nn.Linear(n_inputs, n_outputs)

    model = small(encoder=encoder, max_iter=1).fit(X, LABELS)
    assert np.isfinite(model.score(X, LABELS))


@pytest.mark.usefixtures("guarded_generators")
def test_global_generators_are_left_alone() -> None:
    model = small(max_iter=1).fit(X, with_few_labels(100))
    model.sample(3, random_state=0)
    model.predict(X[:3])
