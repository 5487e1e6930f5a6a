"""A search that trains its candidates together finds what one after the other finds."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import Tensor, nn

from skgen import (
    IWAE,
    VAE,
    VQVAE,
    BetaVAE,
    GaussianMixtureEM,
    KMeansAutoencoder,
    MixtureEM,
    StudentMixtureEM,
    make_generative_pipeline,
)
from skgen._em import restarts
from skgen.likelihoods import Bernoulli, Gaussian
from skgen.model_selection import (
    BatchedGridSearchCV,
    Fit,
    MixtureSearch,
    fit_together,
    stacks_as,
)
from skgen.models.vae import VariationalAutoencoder
from skgen.objectives import BetaLoss, KLWeight
from skgen.priors import Normal, StandardNormal

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # A grid goes to the values that blur.
    pytest.mark.filterwarnings("ignore:reg_covar"),
]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 2)) @ RNG.normal(size=(2, 4)) + 0.5 * RNG.normal(size=(90, 4))
GREY = RNG.random((60, 4))
SMALL: dict[str, Any] = {
    "n_components": 2,
    "hidden_layer_sizes": (8,),
    "batch_size": 16,
    "max_iter": 6,
    "kl_warmup": 2,
    "random_state": 0,
}


def small(cls: type[Any] = BetaVAE, **settings: Any) -> Any:
    return cls(**{**SMALL, **settings})


def tokens(**settings: Any) -> Any:
    shape: dict[str, Any] = {"codebook_size": 5, "n_tokens": 3, "code_size": 2}
    shared: dict[str, Any] = {
        k: v for k, v in SMALL.items() if k not in ("n_components", "kl_warmup")
    }
    return VQVAE(**{**shared, **shape, **settings})


# Fits that are trained as one.

NO_PATH: dict[str, Any] = {"linear_path": False}

STACKS = {
    # A fit of beta=1 alone would start from a linear model.
    "beta": [small(beta=beta, **NO_PATH) for beta in (0.5, 1.0, 4.0)],
    "rates": [small(VAE, learning_rate_init=rate) for rate in (1e-3, 1e-2, 1e-3)],
    "seeds": [small(VAE, random_state=seed) for seed in (0, 1, 1)],
    "warm-ups": [small(VAE, kl_warmup=epochs) for epochs in (0, 1, 5)],
    "schedules": [
        small(VAE, learning_rate="cosine", max_iter=epochs, weight_decay=decay)
        for epochs, decay in ((3, 0.0), (6, 0.1), (6, 0.0))
    ],
    "averages": [
        small(beta=beta, weight_averaging=0.9, max_grad_norm=0.5, **NO_PATH)
        for beta in (1.0, 2.0)
    ],
    "training rows decide": [
        small(beta=beta, early_stopping=False, **NO_PATH) for beta in (1.0, 2.0)
    ],
    "free bits": [small(beta=beta, free_bits=0.3) for beta in (1.0, 2.0)],
    "capacities": [small(capacity=nats) for nats in (0.5, 1.0)],
    "fixed sigmas": [small(VAE, likelihood=Gaussian(sigma=s)) for s in (0.5, 1.0)],
    "sigma per row": [
        small(beta=b, likelihood=Gaussian("row"), **NO_PATH) for b in (1.0, 2.0)
    ],
    "doubly reparameterised": [
        small(IWAE, n_draws=3, learning_rate_init=rate) for rate in (1e-3, 1e-2)
    ],
    "commitment": [
        tokens(commitment_cost=cost, random_state=seed)
        for cost, seed in ((0.1, 0), (1.0, 0), (1.0, 1))
    ],
    "codes that follow": [
        tokens(codebook_update="ema", distance="cosine", learning_rate_init=rate)
        for rate in (1e-3, 1e-2)
    ],
    "codes straight through": [
        tokens(gradient="straight-through", early_stopping=False, random_state=seed)
        for seed in (0, 1)
    ],
    "standard gradient": [
        small(IWAE, n_draws=3, gradient="standard", random_state=s) for s in (0, 1)
    ],
}


def fit_as_one(
    models: list[Any], rows: list[Any], weights: list[Any] | None = None
) -> tuple[Any, ...]:
    """Fit clones together; the kinds of their stacks, and the clones."""
    models = [clone(model) for model in models]
    weights = weights or [None] * len(models)
    fits = [Fit(m, r, None, w) for m, r, w in zip(models, rows, weights)]
    kinds = {stacks_as(fit.work) for fit in fits}
    fit_together(fits)
    assert [fit.error for fit in fits] == [None] * len(fits)
    return kinds, models


def assert_same_fit(one: Any, other: Any) -> None:
    assert one.n_iter_ == other.n_iter_
    assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-4)
    assert_allclose(one.validation_curve_, other.validation_curve_, rtol=1e-4)
    if isinstance(one, VQVAE):
        assert_allclose(one.prior_curve_, other.prior_curve_, rtol=1e-4)
        assert_allclose(one.codebook_, other.codebook_, rtol=1e-3, atol=1e-4)
    assert_allclose(one.score_samples(X[:5]), other.score_samples(X[:5]), rtol=1e-3)


@pytest.mark.parametrize("name", STACKS)
def test_models_of_one_shape_are_trained_as_one_to_the_same_end(name: str) -> None:
    models = STACKS[name]
    kinds, together = fit_as_one(models, [X] * len(models))
    assert len(kinds) == 1
    assert None not in kinds
    for model, found in zip(models, together):
        assert_same_fit(clone(model).fit(X), found)


class WideNormal(StandardNormal):
    """p(z) = N(0, s^2 I), with s learned."""

    def __init__(self, n_components: int) -> None:
        super().__init__(n_components)
        self.log_scale = nn.Parameter(torch.full((n_components,), 2.0))

    def log_prob(self, z: Tensor) -> Tensor:
        return Normal(torch.zeros_like(z), self.log_scale.exp().expand_as(z)).log_prob(
            z
        )

    def kl(self, q: Any, z: Tensor) -> Any:
        s2, m2 = (2 * self.log_scale).exp(), q.mean**2
        return 0.5 * ((q.sigma**2 + m2) / s2 - 1 - 2 * (q.sigma.log() - self.log_scale))

    def draw(self, eps: Tensor) -> Tensor:
        return eps * self.log_scale.exp()


class WideVAE(BetaVAE):
    """A VAE whose prior is learned."""

    def _prior(self, components: Any, hidden: Any, n_inputs: int = 0) -> Any:
        return WideNormal(components[0])


class Claims(VariationalAutoencoder):
    def stacks(self) -> bool:
        return True


class WronglyClaimed(WideVAE):
    def _build(self, *args: Any) -> Any:
        module = super()._build(*args)
        module.__class__ = Claims
        return module


def test_a_model_with_a_learned_prior_is_not_stacked() -> None:
    models = [small(WideVAE, beta=beta) for beta in (0.5, 2.0)]
    kinds, together = fit_as_one(models, [X] * 2)
    assert kinds == {None}
    for model, found in zip(models, together):
        assert_same_fit(clone(model).fit(X), found)
        assert (found.module_.prior.log_scale < 2).all()


def test_a_stack_in_which_something_would_not_learn_is_refused() -> None:
    fits = [Fit(small(WronglyClaimed, beta=beta), X, None, None) for beta in (0.5, 2.0)]
    assert None not in {stacks_as(fit.work) for fit in fits}
    with pytest.raises(RuntimeError, match=r"prior\.log_scale would get no gradient"):
        fit_together(fits)


class Heavy(BetaLoss):
    """An objective of the user's own, which reads the module."""

    def __call__(self, model: Any, batch: Any, annealing: float) -> Any:  # type: ignore[override]
        terms = super().__call__(model, batch, annealing)
        penalty = sum((p**2).sum() for p in model.encoder.parameters())
        return terms._replace(loss=terms.loss + penalty)


class HeavyVAE(BetaVAE):
    @property
    def _objective(self) -> Any:
        return Heavy(KLWeight(self.beta))


def test_an_objective_of_the_users_own_is_not_stacked() -> None:
    models = [small(HeavyVAE, beta=beta) for beta in (0.5, 2.0)]
    kinds, together = fit_as_one(models, [X] * 2)
    assert kinds == {None}
    for model, found in zip(models, together):
        assert_same_fit(clone(model).fit(X), found)


def test_members_have_rows_and_weights_of_their_own() -> None:
    rows = [X[:60], X[20:80], X[30:]]
    weights = [RNG.random(60) for _ in rows]
    models = [small(VAE) for _ in rows]
    kinds, together = fit_as_one(models, rows, weights)
    assert len(kinds) == 1
    for model, x, weight, found in zip(models, rows, weights, together):
        assert_same_fit(clone(model).fit(x, sample_weight=weight), found)


def test_rows_that_are_drawn_are_drawn_as_alone() -> None:
    models = [small(beta=b, likelihood=Bernoulli("dynamic")) for b in (0.5, 2.0)]
    kinds, together = fit_as_one(models, [GREY, GREY])
    assert len(kinds) == 1
    for model, found in zip(models, together):
        alone = clone(model).fit(GREY)
        assert_allclose(alone.loss_curve_, found.loss_curve_, rtol=1e-4)


def test_each_stops_when_it_would_alone() -> None:
    # Far from its optimum a small rate goes on, a large one is done or diverges.
    models = [
        small(VAE, learning_rate_init=rate, max_iter=60, n_iter_no_change=2)
        for rate in (1e-3, 3e-2, 1.0)
    ]
    _, together = fit_as_one(models, [X] * 3)
    alone = [clone(model).fit(X) for model in models]
    assert [m.n_iter_ for m in together] == [m.n_iter_ for m in alone]
    assert len({m.n_iter_ for m in together}) > 1


def test_one_that_diverges_leaves_the_others_alone() -> None:
    models = [small(VAE, learning_rate_init=rate) for rate in (1e-3, 1e30)]
    with pytest.warns(ConvergenceWarning, match="was not finite in epoch 1"):
        _, (sound, broken) = fit_as_one(models, [X] * 2)
    assert_same_fit(clone(models[0]).fit(X), sound)
    assert np.isfinite(broken.score(X))


@pytest.mark.parametrize(
    "others",
    [
        small(hidden_layer_sizes=(9,)),
        small(n_components=3),
        small(batch_size=17),
        small(likelihood=Gaussian("shared")),
        small(activation="tanh"),
        small(IWAE, n_draws=2),
        small(free_bits=0.1),
        small(early_stopping=False),
    ],
)
def test_models_that_differ_in_more_than_numbers_are_not_stacked(others: Any) -> None:
    kinds, _ = fit_as_one([small(), others], [X, X])
    assert len(kinds) == 2


@pytest.mark.parametrize(
    "model",
    [
        small(VAE, n_components=(3, 2)),
        small(encoder=lambda n, m: __import__("torch").nn.Linear(n, m)),
        small(verbose=1),
    ],
)
def test_what_cannot_be_stacked_says_so(
    model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds, _ = fit_as_one([model], [X])
    assert kinds == {None}


# The search.

GRID = {"beta": [0.5, 1.0, 4.0]}


def both(
    estimator: Any,
    grid: Any,
    X: NDArray[Any] = X,
    y: NDArray[Any] | None = None,
    fit: dict[str, Any] | None = None,
    **settings: Any,
) -> list[Any]:
    """Search one after the other, and together."""
    fit = fit or {}
    return [
        cls(estimator, grid, **{"cv": 3, **settings}).fit(X, y, **fit)
        for cls in (GridSearchCV, BatchedGridSearchCV)
    ]


def assert_same_search(one: Any, other: Any) -> None:
    assert list(one.cv_results_) == list(other.cv_results_)
    for key, values in one.cv_results_.items():
        if key.startswith("param"):
            assert_array_equal(values, other.cv_results_[key])
        elif not key.endswith("time"):
            assert_allclose(values, other.cv_results_[key], rtol=1e-4)
        else:
            assert (other.cv_results_[key] >= 0).all()
    fitted = {name for name in vars(one) if name.endswith("_")}
    assert fitted - {"refit_time_"} <= {n for n in vars(other) if n.endswith("_")}
    for name in ("best_params_", "best_index_", "n_splits_", "multimetric_"):
        assert getattr(one, name, None) == getattr(other, name, None)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"return_train_score": True},
        {"refit": False},
        {"refit": lambda results: 1},
        {"scoring": lambda model, X, y=None: -model.elbo(X).kl.mean()},
        {
            "scoring": lambda model, X, y=None: {"n": len(X), "nats": model.score(X)},
            "refit": "nats",
        },
        {
            "scoring": {
                "nats": lambda model, X, y=None: model.score(X),
                "units": lambda model, X, y=None: model.active_units_,
            },
            "refit": "nats",
            "return_train_score": True,
        },
    ],
)
def test_the_search_gives_what_scikit_learns_gives(settings: dict[str, Any]) -> None:
    one, other = both(small(), GRID, **settings)
    assert_same_search(one, other)
    if settings.get("refit", True) is not False:
        assert_allclose(one.score(X), other.score(X), rtol=1e-6)
        assert_allclose(one.transform(X), other.transform(X), rtol=1e-5)


def test_lists_of_grids_with_other_shapes() -> None:
    grid = [{"beta": [1.0, 2.0]}, {"n_components": [1, 2], "beta": [0.5]}]
    assert_same_search(*both(small(), grid))


def test_tokens_are_searched_over_too() -> None:
    model = VQVAE(4, n_tokens=2, hidden_layer_sizes=(8,), max_iter=3, random_state=0)
    grid = {"codebook_size": [3, 4], "commitment_cost": [0.1, 1.0]}
    assert_same_search(*both(model, grid))


def test_other_estimators_are_searched_as_ever() -> None:
    model = KMeansAutoencoder(random_state=0)
    assert_same_search(*both(model, {"n_clusters": [1, 2]}))


@pytest.fixture
def stacked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Numbers of EM runs that are started as one stack."""
    sizes, run_em_stack = [], restarts.run_em_stack

    def counted(kind: Any, rows: Any, em_runs: Any, *args: Any) -> None:
        sizes.append(len(em_runs))
        run_em_stack(kind, rows, em_runs, *args)

    monkeypatch.setattr(restarts, "run_em_stack", counted)
    return sizes


MIXTURE_GRIDS = {
    "numbers": {"reg_covar": [1e-6, 0.05], "tol": [1e-2, 1e-3], "max_iter": [5, 50]},
    "seeds": {"random_state": [0, 1, 2], "n_init": [1, 2]},
    "sizes": {"n_components": [1, 3], "init_params": ["kmeans", "random"]},
    "types": {"covariance_type": ["full", "tied", "diag", "spherical"]},
}


@pytest.mark.parametrize("name", MIXTURE_GRIDS)
def test_mixtures_are_searched_over_too(name: str) -> None:
    model = GaussianMixtureEM(3, n_init=2, random_state=0)
    grid = MIXTURE_GRIDS[name]
    assert_same_search(*both(model, grid, return_train_score=True))


def test_mixtures_of_a_fold_climb_together(stacked: list[Any]) -> None:
    model = GaussianMixtureEM(3, n_init=2, random_state=0)
    grid = {"reg_covar": [1e-6, 1e-3, 0.05]}
    BatchedGridSearchCV(model, grid, cv=3, refit=False).fit(X)
    assert stacked.count(3 * 2) == 3


def test_weighted_mixtures_at_the_end_of_a_pipeline() -> None:
    model = make_pipeline(StandardScaler(), GaussianMixtureEM(3, random_state=0))
    grid = {"gaussianmixtureem__reg_covar": [1e-6, 0.05]}
    weight = RNG.random(len(X))
    fit: dict[str, Any] = {"gaussianmixtureem__sample_weight": weight}
    assert_same_search(*both(model, grid, fit=fit))


def test_networks_and_mixtures_are_searched_in_one_grid() -> None:
    grid = [
        {"last": [GaussianMixtureEM(2, random_state=0)], "last__tol": [0.1, 0.01]},
        {"last": [small()], "last__beta": [0.5, 1.0]},
        {"last": [KMeansAutoencoder(2, random_state=0)]},
    ]
    assert_same_search(*both(Pipeline([("last", small())]), grid))


@pytest.mark.filterwarnings("ignore:reg_covar", "ignore:Components of")
def test_a_mixture_that_fails_has_the_score_that_was_asked_for(
    stacked: list[Any],
) -> None:
    rows = np.repeat(X[:6], 10, axis=0)
    model = GaussianMixtureEM(6, covariance_type="diag", random_state=0)
    grid = {"reg_covar": [0.0, 0.1, 0.2]}
    with pytest.warns(FitFailedWarning, match="ill-defined empirical covariance"):
        one, other = both(model, grid, rows, error_score=-99.0)
    assert 2 in stacked
    assert_same_search(one, other)
    assert other.cv_results_["mean_test_score"][0] == -99
    with pytest.raises(ValueError, match="ill-defined"):
        clone(other).set_params(error_score="raise").fit(rows)


def test_processes_share_the_fits() -> None:
    one = BatchedGridSearchCV(small(), GRID, cv=3, n_jobs=1).fit(X)
    assert_same_search(one, BatchedGridSearchCV(small(), GRID, cv=3, n_jobs=2).fit(X))


def test_names_of_columns_are_seen() -> None:
    frame = pd.DataFrame(X, columns=list("abcd"))
    search = BatchedGridSearchCV(small(), GRID, cv=2).fit(frame)
    assert_array_equal(search.feature_names_in_, list("abcd"))


class CountingScaler(TransformerMixin, BaseEstimator):
    """Counts its fits."""

    fits = 0

    def fit(self, X: NDArray[Any], y: Any = None) -> Any:
        CountingScaler.fits += 1
        self.mean_ = X.mean(0)
        return self

    def transform(self, X: Any) -> Any:
        return X - self.mean_


def test_steps_before_the_last_are_fitted_once_a_fold() -> None:
    pipeline = make_pipeline(CountingScaler(), StandardScaler(), small())
    grid = {"betavae__beta": [0.5, 1.0, 4.0]}
    one = GridSearchCV(pipeline, grid, cv=3).fit(X)
    CountingScaler.fits = 0
    other = BatchedGridSearchCV(pipeline, grid, cv=3).fit(X)
    assert CountingScaler.fits == 3 + 1  # and once for the best
    assert_same_search(one, other)


def test_steps_before_the_last_may_be_searched_over_and_want_targets() -> None:
    pipeline = make_pipeline(SelectKBest(f_regression), small())
    grid = {"selectkbest__k": [2, 3], "betavae__beta": [1.0, 2.0]}
    assert_same_search(*both(pipeline, grid, y=X[:, 0] + X[:, 1]))


def test_scalers_are_compared_in_the_units_of_the_data() -> None:
    pipeline = make_generative_pipeline(StandardScaler(), small())
    grid = {
        "standardscaler": [StandardScaler(), MinMaxScaler(), "passthrough"],
        "betavae__beta": [1.0, 2.0],
    }
    one, other = both(pipeline, grid)
    assert_allclose(
        one.cv_results_["mean_test_score"],
        other.cv_results_["mean_test_score"],
        rtol=1e-4,
    )


def test_a_pipeline_of_one_step() -> None:
    assert_same_search(*both(make_pipeline(small()), {"betavae__beta": [1.0, 2.0]}))


@pytest.mark.filterwarnings("ignore:.*does not support sample_weight:UserWarning")
@pytest.mark.parametrize("step", [None, StandardScaler()])
def test_weights_are_split_with_the_rows(step: Any) -> None:
    model = small() if step is None else make_pipeline(step, small())
    prefix = "" if step is None else "betavae__"
    fit: dict[Any, Any] = {f"{prefix}sample_weight": RNG.random(len(X))}
    one = GridSearchCV(model, {f"{prefix}beta": [1.0, 2.0]}, cv=3).fit(X, **fit)
    other = BatchedGridSearchCV(model, {f"{prefix}beta": [1.0, 2.0]}, cv=3)
    assert_same_search(one, other.fit(X, **fit))


def test_groups_go_to_the_splitter() -> None:
    groups = np.arange(len(X)) % 6
    one, other = both(small(), GRID, cv=GroupKFold(3), fit={"groups": groups})
    assert_same_search(one, other)


def test_a_fit_that_fails_has_the_score_that_was_asked_for() -> None:
    grid = {"learning_rate_init": [-1.0, 1e-3]}
    search = BatchedGridSearchCV(small(), grid, cv=2, error_score=-99.0)
    with pytest.warns(FitFailedWarning, match="learning_rate_init"):
        search.fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] == -99
    assert scores[1] > -99
    with pytest.raises(ValueError, match="learning_rate_init"):
        clone(search).set_params(error_score="raise").fit(X)


@pytest.mark.filterwarnings("ignore:One or more of the test scores:UserWarning")
def test_a_scorer_that_fails_has_the_score_that_was_asked_for() -> None:
    def broken(model: Any, X: Any, y: Any = None) -> None:
        raise RuntimeError("no score today")

    scoring: dict[str, Any] = {
        "nats": lambda model, X, y=None: model.score(X),
        "broken": broken,
    }
    search = BatchedGridSearchCV(small(), GRID, cv=2, scoring=scoring, refit="nats")
    with pytest.warns(UserWarning, match="no score today"):
        search.fit(X)
    assert np.isnan(search.cv_results_["mean_test_broken"]).all()
    assert np.isfinite(search.cv_results_["mean_test_nats"]).all()


# The choice of a mixture.


def clusters() -> Any:
    rng = np.random.RandomState(0)
    stretched = rng.randn(300, 2) @ [[1.0, 0.9], [0.0, 0.3]]
    return stretched + 6 * rng.randint(2, size=(300, 1)) * [1, -1]


@pytest.mark.parametrize("criterion", ["bic", "icl", "aic"])
def test_a_criterion_is_that_of_each_fit(criterion: Any) -> None:
    rows, model = clusters(), GaussianMixtureEM(random_state=0)
    weight = np.random.RandomState(1).rand(300)
    search = MixtureSearch(
        model,
        n_components=[1, 2, 3],
        covariance_types=["full", "spherical"],
        criterion=criterion,
    ).fit(rows, sample_weight=weight)
    for params, score in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"]
    ):
        alone = clone(model).set_params(**params).fit(rows, sample_weight=weight)
        expected = getattr(alone, criterion)(rows, sample_weight=weight)
        assert score == pytest.approx(-expected, rel=1e-9)
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()


@pytest.mark.parametrize("criterion", ["bic", "icl", "cv"])
def test_the_size_and_the_covariances_are_found(criterion: Any) -> None:
    rows = clusters()
    model = GaussianMixtureEM(random_state=0)
    search = MixtureSearch(model, n_components=range(1, 5), criterion=criterion)
    assert search.fit(rows).best_params_["n_components"] == 2
    assert search.best_params_["covariance_type"] in ("full", "tied")
    assert search.score(rows) == search.best_estimator_.score(rows)
    assert_array_equal(search.predict(rows), search.best_estimator_.predict(rows))
    assert_array_equal(search.score_samples(rows).shape, (300,))


def test_icl_is_bic_where_clusters_are_far_apart_and_above_it_elsewhere() -> None:
    rows = clusters()
    two = GaussianMixtureEM(2, random_state=0).fit(rows)
    three = GaussianMixtureEM(3, random_state=0).fit(rows)
    assert two.icl(rows) == pytest.approx(two.bic(rows), abs=1)
    assert three.icl(rows) > three.bic(rows) + 10


def test_mixtures_without_covariances_and_with_tails_are_chosen() -> None:
    rows = clusters()
    for model in (MixtureEM(random_state=0), StudentMixtureEM(random_state=0)):
        search = MixtureSearch(
            model, n_components=[1, 2], covariance_types=["full"]
        ).fit(rows)
        assert search.best_estimator_.n_components == 2
        assert isinstance(search.best_estimator_, type(model))


def test_errors_of_a_choice_name_the_parameter() -> None:
    with pytest.raises(ValueError, match="'criterion' parameter of MixtureSearch"):
        MixtureSearch(criterion="dic").fit(X)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'n_components' parameter of MixtureSearch"):
        MixtureSearch(n_components=[0]).fit(X)
    with pytest.raises(ValueError, match="must be a GaussianMixtureEM"):
        MixtureSearch(small()).fit(X)
    search = clone(MixtureSearch(n_components=[1, 2], criterion="icl"))
    assert not hasattr(search, "predict")
    assert search.get_params(deep=False)["n_components"] == [1, 2]
