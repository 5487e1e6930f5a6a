"""Parameters inside parameters, hashes and pickles, as clients ask for them."""

import copy
import importlib
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.covariance import EmpiricalCovariance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skgen import (
    VAE,
    ConditionalVAE,
    GaussianDensity,
    GenerativeClassifier,
    MixedDensity,
    load,
    make_generative_pipeline,
    save,
)
from skgen.io import TRUSTED_TYPES
from skgen.likelihoods import (
    Autoregressive,
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Laplace,
    Likelihood,
    Mixed,
    StudentT,
)
from skgen.model_selection import BatchedGridSearchCV
from skgen.outliers import DensityOutlierDetector
from tests.estimators import (
    ESTIMATORS,
    ONE_OF_EACH,
    class_name,
    dense,
    fitted,
    name_of,
    rows_for,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.RandomState(0).randn(40, 3)
TINY: dict[str, Any] = {"hidden_layer_sizes": (4,), "max_iter": 2, "random_state": 0}

# Constructors of likelihoods, and what they read as.
LIKELIHOODS: dict[str, Any] = {
    "Gaussian()": Gaussian,
    "Gaussian(sigma='shared')": lambda: Gaussian("shared"),
    "Gaussian(sigma=0.5, min_sigma=0.1)": lambda: Gaussian(0.5, min_sigma=0.1),
    "Laplace(sigma='row')": lambda: Laplace("row"),
    "StudentT()": StudentT,
    "StudentT(df=3.0)": lambda: StudentT(df=3.0),
    "Bernoulli()": Bernoulli,
    "Bernoulli(binarize='dynamic')": lambda: Bernoulli("dynamic"),
    "ContinuousBernoulli()": ContinuousBernoulli,
    "DiscretizedLogistic(n_levels=5)": lambda: DiscretizedLogistic(5),
    "Categorical(n_levels=5)": lambda: Categorical(5),
    "Mixed(kinds=('real', ('ordinal', 3), 2))": lambda: Mixed(
        ["real", ("ordinal", 3), 2]
    ),
}
every_likelihood = pytest.mark.parametrize("shown", LIKELIHOODS)


@every_likelihood
def test_likelihoods_of_the_same_options_are_one_to_clients(shown: Any) -> None:
    one, other = (LIKELIHOODS[shown]() for _ in range(2))
    assert repr(one) == shown
    assert one == other
    assert hash(one) == hash(other)
    for copied in (clone(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert copied is not one
        assert copied == one
        assert copied.get_params() == one.get_params() == dict(one.options)
    assert joblib.hash(one) == joblib.hash(other) == joblib.hash(clone(one))
    model = VAE(2, likelihood=one)
    assert joblib.hash(model) == joblib.hash(clone(model))


def test_likelihoods_of_other_options_differ() -> None:
    every = [make() for make in LIKELIHOODS.values()]
    assert len(set(every)) == len({joblib.hash(each) for each in every}) == len(every)
    assert Gaussian() != "gaussian"


def test_options_are_set_as_if_made_with_them() -> None:
    likelihood = Gaussian("row")
    assert likelihood.set_params(sigma="shared") is likelihood
    assert likelihood == Gaussian("shared")
    assert likelihood.n_outputs == 1
    assert likelihood.set_params() == Gaussian("shared")
    with pytest.raises(ValueError, match="'sigma' parameter of Gaussian must be"):
        likelihood.set_params(sigma="none")
    with pytest.raises(ValueError, match="Invalid parameter 'scale' for likelihood"):
        likelihood.set_params(scale=1.0)
    assert likelihood == Gaussian("shared")


@pytest.mark.parametrize("search", [GridSearchCV, BatchedGridSearchCV])
def test_a_search_sets_options_of_likelihoods(search: Any) -> None:
    model = VAE(2, likelihood=Gaussian(), **TINY)
    params = model.get_params()
    assert params["likelihood__sigma"] == "feature"
    assert params["likelihood__min_sigma"] == 1e-3
    grid: dict[str, Any] = {"likelihood__sigma": ["feature", "shared", 0.5]}
    found = search(model, grid, cv=2).fit(X).cv_results_["mean_test_score"]
    for sigma, score in zip(grid["likelihood__sigma"], found, strict=True):
        one: dict[str, Any] = {"likelihood": [Gaussian(sigma)]}
        expected = search(model, one, cv=2, refit=False).fit(X).cv_results_
        assert score == pytest.approx(expected["mean_test_score"][0], rel=1e-4)
    assert model.likelihood == Gaussian()
    assert repr(model.set_params(likelihood__sigma=0.5).likelihood) in repr(model)


def test_options_of_a_likelihood_inside_another_are_options() -> None:
    whole = Autoregressive(Gaussian())
    assert "base__sigma" not in whole.get_params(deep=False)
    model = VAE(2, likelihood=whole, **TINY)
    assert model.get_params()["likelihood__base__sigma"] == "feature"
    grid: dict[str, Any] = {"likelihood__base__sigma": ["feature", "shared"]}
    search = GridSearchCV(model, grid, cv=2).fit(X)
    best = search.best_params_["likelihood__base__sigma"]
    assert search.best_estimator_.likelihood == Autoregressive(Gaussian(best))
    assert model.likelihood == Autoregressive(Gaussian())
    changed = Autoregressive().set_params(base=Laplace(), base__sigma="row")
    assert changed == Autoregressive(Laplace("row"))
    with pytest.raises(ValueError, match="'scale' for likelihood Gaussian"):
        Autoregressive(Gaussian()).set_params(base__scale=1.0)
    with pytest.raises(ValueError, match="'base__sigma' for likelihood Auto"):
        Autoregressive().set_params(base__sigma="row")


def test_a_name_has_no_options() -> None:
    with pytest.raises(ValueError, match=r"such as likelihood=Gaussian\(\)"):
        VAE().set_params(likelihood__sigma="shared")
    model = VAE().set_params(likelihood=Gaussian(), likelihood__sigma="shared")
    assert model.likelihood == Gaussian("shared")


def test_a_cache_of_a_pipeline_knows_a_likelihood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: Any
    fits, fit = [], VAE.fit
    monkeypatch.setattr(
        VAE, "fit", lambda self, *args, **kw: fits.append(1) or fit(self, *args, **kw)
    )
    steps = [
        ("code", VAE(2, likelihood=Gaussian(), **TINY)),
        ("class", LogisticRegression()),
    ]
    pipeline = Pipeline(steps, memory=str(tmp_path))
    for _ in range(3):
        clone(pipeline).fit(X, X[:, 0] > 0)
    assert len(fits) == 1


def test_a_pickle_has_what_a_likelihood_has_learned() -> None:
    likelihood = Gaussian()
    likelihood.set_rows(torch.from_numpy(X))
    assert pickle.loads(pickle.dumps(likelihood)).sigma.equal(likelihood.sigma)
    model = VAE(2, likelihood=likelihood, **TINY).fit(X)
    again = pickle.loads(pickle.dumps(model))
    assert again.score(X) == model.score(X)
    assert again.likelihood == model.likelihood


class TwoNormals(Likelihood):
    """A likelihood of the user's, of two that are equal."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([Gaussian("shared"), Gaussian("shared")])

    def log_prob(self, outputs: Any, x: Any) -> Any:
        return sum(
            part.log_prob(outputs[..., i::2], x[..., i::2])
            for i, part in enumerate(cast(Any, self.parts))
        )

    def mean(self, outputs: Any) -> Any:
        return outputs

    def draw(self, outputs: Any, generator: Any) -> Any:
        return outputs


def test_equal_likelihoods_in_one_network_have_weights_of_their_own() -> None:
    model = VAE(2, likelihood=TwoNormals(), **TINY).fit(X)
    one, other = model.module_.likelihood.parts
    assert one != other
    names = [name for name, _ in model.module_.likelihood.named_parameters()]
    assert names == ["parts.0.log_sigma", "parts.1.log_sigma"]
    assert one.log_sigma != other.log_sigma
    assert {part.training for part in (one, other)} == {False}


class Triangular(Likelihood):
    """A likelihood of the user's, whose argument is no option."""

    def __init__(self, scale: Any) -> None:
        super().__init__()
        self.scale = scale

    def log_prob(self, outputs: Any, x: Any) -> Any:
        return -((x - outputs).abs() / self.scale).sum(-1)

    def mean(self, outputs: Any) -> Any:
        return outputs

    def draw(self, outputs: Any, generator: Any) -> Any:
        return outputs


def test_a_likelihood_that_does_not_say_its_options_is_copied() -> None:
    mine = Triangular(2.0)
    assert mine != Triangular(2.0)
    assert mine == mine
    assert mine.get_params() == {}
    assert clone(VAE(likelihood=mine)).likelihood.scale == 2
    assert pickle.loads(pickle.dumps(mine)).scale == 2
    with pytest.raises(ValueError, match="It has none"):
        mine.set_params(scale=1.0)


# Rows of a table in other containers.

TABLE = np.random.RandomState(0).randint(1, 90, size=(40, 3)) / 10
INT_TABLE = (10 * TABLE).astype(int)
HIDDEN = TABLE > 8
CONTAINERS: dict[str, Any] = {
    "tensor": (torch.from_numpy(TABLE), TABLE),
    "gradient": (torch.from_numpy(TABLE).requires_grad_(), TABLE),
    "bfloat16": (
        torch.from_numpy(TABLE).bfloat16(),
        torch.from_numpy(TABLE).bfloat16().float().numpy(),
    ),
    "integers": (torch.from_numpy(INT_TABLE), INT_TABLE),
    "masked": (
        np.ma.masked_array(TABLE, mask=HIDDEN),
        np.where(HIDDEN, np.nan, TABLE),
    ),
    "masked integers": (
        np.ma.masked_array(INT_TABLE, mask=HIDDEN),
        np.where(HIDDEN, cast(Any, None), INT_TABLE.astype(object)),
    ),
}


def mixed() -> Any:
    return MixedDensity(VAE(2, **TINY), kinds=dict.fromkeys(range(3), "real"))


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_mixed_density_reads_containers_as_arrays(name: Any) -> None:
    rows, same = CONTAINERS[name]
    model, expected = mixed().fit(rows), mixed().fit(same)
    assert model.score(rows) == expected.score(same)
    assert np.array_equal(model.transform(rows), expected.transform(same))
    filled = model.impute(rows)
    assert isinstance(filled, np.ndarray)
    there = np.array([x == x and x is not None for x in same.ravel()])
    there = there.reshape(same.shape)
    assert (filled[there] == same[there]).all()
    if "integers" in name:
        assert filled.dtype == model.sample(2).dtype == int


def test_a_mixed_density_reads_decimals() -> None:
    rows = np.array([[Decimal(str(x)) for x in row] for row in TABLE], dtype=object)
    model = mixed().fit(rows)
    assert model.score(rows) == pytest.approx(mixed().fit(TABLE).score(TABLE))
    assert isinstance(model.sample(1)[0, 0], Decimal)


def test_a_mixed_density_reads_tables_of_arrow() -> None:
    arrow, pandas = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    numbers = [Decimal(str(x)) for x in TABLE[:, 1]]
    columns: dict[str, Any] = {
        "size": TABLE[:, 0],
        "price": numbers,
        "count": [None, *INT_TABLE[1:, 0].tolist()],
        "kind": list("abcd") * 10,
        "code": arrow.array(list("abcd") * 10).dictionary_encode(),
        "day": arrow.array(INT_TABLE[:, 1].astype("datetime64[s]")),
    }
    table = arrow.table(columns)
    model = MixedDensity(VAE(2, **TINY), kinds={"size": "positive"}).fit(table)
    assert list(model.feature_names_in_) == list(columns)
    assert model.kinds_["size"] == "positive"
    assert model.levels_["kind"] == model.levels_["code"] == list("abcd")
    drawn = model.sample(3, random_state=0)
    assert isinstance(drawn, pandas.DataFrame)
    assert list(drawn.columns) == list(columns)
    assert isinstance(drawn["price"][0], Decimal)
    assert np.isfinite(model.score_samples(table)).all()
    assert model.impute(table)["count"].notna().all()
    (batch,) = table.to_batches()
    assert model.score(batch) == model.score(table)
    with pytest.raises(ValueError, match=r"in the same order|feature names"):
        model.score(table.rename_columns(list("abcdef")))


def test_a_lazy_table_is_to_be_collected() -> None:
    polars = pytest.importorskip("polars")
    for model in (VAE(1, **TINY), GaussianDensity(), mixed()):
        with pytest.raises(TypeError, match=r"Give X\.collect\(\)"):
            model.fit(polars.DataFrame(TABLE).lazy())


# Names and arguments of scikit-learn's.

one_of_each = pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)


@one_of_each
def test_random_states_of_samples_are_taken_by_position(estimator: Any) -> None:
    model = fitted(estimator)
    assert np.array_equal(model.sample(3, 1), model.sample(3, random_state=1))


@one_of_each
@pytest.mark.parametrize("search", [GridSearchCV, BatchedGridSearchCV])
def test_a_weighted_search_scores_with_weights(estimator: Any, search: Any) -> None:
    rows = rows_for(estimator)
    weight = np.linspace(0.1, 2, len(rows))
    found = search(clone(estimator), {}, cv=2).fit(rows, sample_weight=weight)
    half = slice(len(rows) // 2)
    rest = slice(len(rows) // 2, None)
    model = clone(estimator).fit(rows[rest], sample_weight=weight[rest])
    score = model.score(rows[half], sample_weight=weight[half])
    assert found.cv_results_["split0_test_score"][0] == pytest.approx(score, rel=1e-4)


@one_of_each
def test_a_device_of_torch_is_a_device(estimator: Any, tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    rows = rows_for(estimator)
    model = clone(estimator).set_params(device=cpu).fit(rows)
    assert model.device_ == "cpu"
    assert model.score(rows) == fitted(estimator).score(rows)
    save(model, tmp_path / "model")
    assert load(tmp_path / "model").score(rows) == model.score(rows)


def test_a_cuda_device_in_a_forked_process_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    for device in ("cuda", "auto"):
        with pytest.raises(RuntimeError, match="Start processes by 'spawn'"):
            GaussianDensity(device=device).fit(X)
    assert GaussianDensity().fit(X).device_ == "cpu"


GAUSSIANS = [each for each in ESTIMATORS if isinstance(each, GaussianDensity)]


@pytest.mark.parametrize("estimator", GAUSSIANS, ids=str)
def test_mahalanobis_distances_are_those_of_the_covariance(estimator: Any) -> None:
    rows = rows_for(estimator)
    model = fitted(estimator)
    centred = rows - model.mean_
    expected = np.einsum("ni,ij,nj->n", centred, model.get_precision(), centred)
    np.testing.assert_allclose(model.mahalanobis(rows), expected, rtol=1e-9)
    # A row with holes has the distance of the rest, under the rest's covariance.
    seen = [0, 2, 3]
    holed = np.full_like(rows, np.nan)
    holed[:, seen] = rows[:, seen]
    precision = np.linalg.inv(model.get_covariance()[np.ix_(seen, seen)])
    expected = np.einsum("ni,ij,nj->n", centred[:, seen], precision, centred[:, seen])
    np.testing.assert_allclose(model.mahalanobis(holed), expected, rtol=1e-6)


def test_mahalanobis_distances_are_as_in_scikit_learn() -> None:
    ours, theirs = GaussianDensity(reg_covar=0).fit(X), EmpiricalCovariance().fit(X)
    np.testing.assert_allclose(ours.mahalanobis(X), theirs.mahalanobis(X))
    np.testing.assert_allclose(ours.get_covariance(), theirs.covariance_)
    np.testing.assert_allclose(ours.get_precision(), theirs.get_precision())


# Pickles of plain values, and skops.

every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)


def through_skops(model: Any) -> Any:
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(model)
    assert set(skops.get_untrusted_types(data=data)) <= set(TRUSTED_TYPES)
    return skops.loads(data, trusted=TRUSTED_TYPES)


def assert_same(one: Any, other: Any, rows: Any) -> None:
    """Scores, codes and draws are equal to the bit."""
    assert np.array_equal(one.score_samples(rows), other.score_samples(rows))
    assert np.array_equal(dense(one.transform(rows)), dense(other.transform(rows)))
    drawn = (each.sample(3, random_state=0) for each in (one, other))
    assert np.array_equal(*cast(Any, map(np.asarray, drawn)))


@every_estimator
def test_skops_loads_an_estimator_of_trusted_types(estimator: Any) -> None:
    rows, model = rows_for(estimator), fitted(estimator)
    assert_same(through_skops(model), model, rows)
    if hasattr(model, "partial_fit"):
        found, other = through_skops(model), copy.deepcopy(model)
        assert_same(found.partial_fit(rows), other.partial_fit(rows), rows)


def test_skops_loads_what_is_around_estimators() -> None:
    rows = rows_for(ONE_OF_EACH[0])
    y = np.where(rows[:, 0] > 0, "one", "two")
    vae = VAE(2, **TINY)
    mixed = MixedDensity(VAE(2, **TINY), kinds={0: "positive"}).fit(abs(rows))
    pipeline = make_generative_pipeline(StandardScaler(), vae).fit(rows)
    for model in (mixed, pipeline, ConditionalVAE(2, **TINY).fit(rows, y)):
        assert_same(through_skops(model), model, abs(rows))
    classifier = GenerativeClassifier(GaussianDensity()).fit(rows, y)
    found = through_skops(classifier)
    assert np.array_equal(found.predict_proba(rows), classifier.predict_proba(rows))
    detector = DensityOutlierDetector(GaussianDensity(), level=0.1).fit(rows)
    found = through_skops(detector)
    assert np.array_equal(found.predict(rows), detector.predict(rows))


def test_trusted_types_are_there() -> None:
    for name in TRUSTED_TYPES:
        home, _, cls = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(home), cls), type)


@every_estimator
def test_pickles_hold_no_tensors(estimator: Any) -> None:
    assert b"torch" not in pickle.dumps(fitted(estimator))


@one_of_each
def test_a_pickle_on_a_file_that_is_mapped_evaluates_and_goes_on(
    estimator: Any, tmp_path: Path
) -> None:
    rows, model = rows_for(estimator), fitted(estimator)
    joblib.dump(model, tmp_path / "model")
    found = joblib.load(tmp_path / "model", mmap_mode="r")
    assert_same(found, model, rows)
    if hasattr(model, "partial_fit"):
        assert_same(
            found.partial_fit(rows), copy.deepcopy(model).partial_fit(rows), rows
        )


def test_networks_that_are_not_built_again_are_pickled_as_they_are() -> None:
    changed = VAE(2, **TINY).fit(X)
    changed.set_params(activation="none", hidden_layer_sizes="none")
    own = VAE(2, encoder=nn.Linear(3, 4), **TINY).fit(X)
    replaced = VAE(2, **TINY).fit(X)
    replaced.module_.decoder = nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 3))
    mine = VAE(2, likelihood=Laplace(2.0), **TINY).fit(X)
    for model in (changed, own, replaced, mine):
        assert_same(pickle.loads(pickle.dumps(model)), model, X)


def test_copies_share_or_own_what_is_inside() -> None:
    model = fitted(next(each for each in ONE_OF_EACH if isinstance(each, VAE)))
    shallow, deep = copy.copy(model), copy.deepcopy(model)
    assert shallow.module_ is model.module_
    assert deep.module_ is not model.module_
    assert_same(deep, model, rows_for(model))
