"""Laws of GaussianMixtureEM: it is scikit-learn's mixture, and EM climbs."""

import io
import itertools
import operator
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skgen import GaussianDensity, GaussianMixtureEM
from skgen._em import lloyd, starts
from skgen._em.covariance import COVARIANCES, ExpandedFull, Full, Whitened
from skgen._em.steps import EMSteps, expectation, one_pass, start_from
from skgen._utils.chunks import CentredRows

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
INITS = ("kmeans", "k-means++", "random", "random_from_data")
PARTS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")

every_type = pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
# Types and starts, less those of a tied mixture that keep scikit-learn where it is.
every_start = pytest.mark.parametrize(
    ("covariance_type", "init_params"),
    [
        (covariance_type, init_params)
        for covariance_type, init_params in itertools.product(COVARIANCE_TYPES, INITS)
        if covariance_type != "tied" or init_params == "kmeans"
    ],
)


def blobs(n: int = 300, d: int = 3, K: int = 3, seed: int = 0) -> Any:
    rng = np.random.RandomState(seed)
    means, k = 6 * rng.randn(K, d) + 3, rng.randint(K, size=n)
    mixing = rng.randn(K, d, d) + np.eye(d)
    return means[k] + np.einsum("ni,nij->nj", rng.randn(n, d), mixing[k])


def given_start(
    covariance_type: str, d: int = 3, K: int = 3, seed: int = 1
) -> dict[str, Any]:
    """Weights, means and precisions for a fit to begin with."""
    rng = np.random.RandomState(seed)
    A = rng.randn(K, d, d)
    full = A @ A.transpose(0, 2, 1) / d + 0.1 * np.eye(d)
    precisions: dict[str, Any] = {
        "full": full,
        "tied": full[0],
        "diag": full.diagonal(axis1=1, axis2=2),
        "spherical": full[:, 0, 0],
    }
    return {
        "n_components": K,
        "covariance_type": covariance_type,
        "weights_init": np.arange(1, K + 1) / sum(range(1, K + 1)),
        "means_init": blobs(d=d)[:K],
        "precisions_init": precisions[covariance_type],
    }


def covariance_matrices(model: Any) -> Any:
    """Covariances (K, d, d), whatever the type."""
    K, d = model.means_.shape
    match model.covariance_type:
        case "full":
            return model.covariances_
        case "tied":
            return np.broadcast_to(model.covariances_, (K, d, d))
    each = model.covariances_.reshape(K, -1) * np.ones((1, d))
    return each[:, :, None] * np.eye(d)


# It is scikit-learn's mixture.


def assert_same_mixture(
    ours: Any, theirs: Any, X: NDArray[Any], atol: float = 1e-9
) -> None:
    for name in PARTS:
        expected = getattr(theirs, name)
        assert_allclose(getattr(ours, name), expected, rtol=1e-7, atol=atol)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.converged_ == theirs.converged_
    assert_allclose(ours.lower_bound_, theirs.lower_bound_, atol=atol)
    assert_allclose(ours.score_samples(X), theirs.score_samples(X), atol=atol)
    assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=atol)
    assert_array_equal(ours.predict(X), theirs.predict(X))
    assert_allclose(ours.aic(X), theirs.aic(X))
    assert_allclose(ours.bic(X), theirs.bic(X))


@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
@every_type
@pytest.mark.parametrize("max_iter", [1, 5, 100])
def test_a_given_start_leads_where_scikit_learn_gets(
    covariance_type: str, max_iter: int
) -> None:
    X, start = blobs(), given_start(covariance_type)
    ours = GaussianMixtureEM(**start, max_iter=max_iter).fit(X)
    theirs = GaussianMixture(**start, max_iter=max_iter).fit(X)
    assert_same_mixture(ours, theirs, X)
    assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, atol=1e-9)


@every_start
def test_a_seed_leads_where_scikit_learn_gets(
    covariance_type: str, init_params: str
) -> None:
    X = blobs()
    params: dict[str, Any] = {
        "n_components": 3,
        "covariance_type": covariance_type,
        "init_params": init_params,
        "random_state": 4,
    }
    ours, theirs = GaussianMixtureEM(**params).fit(X), GaussianMixture(**params).fit(X)
    assert_same_mixture(ours, theirs, X)
    # Of two starts that lead to one optimum, rounding picks: their labels may differ.
    ours, theirs = (m.set_params(n_init=2).fit(X) for m in (ours, theirs))
    assert_allclose(ours.lower_bound_, theirs.lower_bound_, atol=1e-9)


@every_start
def test_a_seed_starts_where_scikit_learn_does(
    covariance_type: str, init_params: str
) -> None:
    X = blobs()
    params: dict[str, Any] = {
        "n_components": 3,
        "covariance_type": covariance_type,
        "init_params": init_params,
        "max_iter": 0,
        "n_init": 3,
        "random_state": 4,
    }
    ours, theirs = GaussianMixtureEM(**params).fit(X), GaussianMixture(**params).fit(X)
    for name in PARTS[:3]:
        expected = getattr(theirs, name)
        if name == "weights_":  # which do not sum to one where rows were picked
            expected = expected / expected.sum()
        assert_allclose(getattr(ours, name), expected, rtol=1e-9, atol=1e-10)


@every_type
@pytest.mark.parametrize("init_params", INITS)
def test_a_start_is_a_mixture(covariance_type: str, init_params: str) -> None:
    X = blobs()
    params: dict[str, Any] = {
        "covariance_type": covariance_type,
        "init_params": init_params,
    }
    model = GaussianMixtureEM(3, max_iter=0, random_state=0, **params).fit(X)
    assert_allclose(model.weights_.sum(), 1)
    traces = covariance_matrices(model).trace(axis1=1, axis2=2)
    assert (traces < 1.2 * X.var(0).sum()).all()


@pytest.mark.parametrize("init_params", INITS)
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_tied_components_come_apart_from_every_start(
    init_params: str, scale: float
) -> None:
    rng = np.random.RandomState(0)
    X = np.array([[0, 0], [10, 0], [0, 10.0]])[rng.randint(3, size=300)]
    X = (X + rng.randn(300, 2)) * [1, scale]
    params: dict[str, Any] = {"init_params": init_params, "n_init": 10, "reg_covar": 0}
    params |= {"covariance_type": "tied", "max_iter": 500, "random_state": 0}
    model = GaussianMixtureEM(3, **params).fit(X)
    assert_allclose(model.score(X) + np.log(scale), -3.95956, atol=1e-4)


@pytest.mark.parametrize("init_params", INITS[:3])
def test_many_rows_start_from_some_of_them(
    init_params: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skgen._utils.chunks.MANY_ROWS", 200)
    seen: list[Any] = []
    for module, name in ((starts, "kmeans_plusplus"), (lloyd, "KMeans.fit")):
        original = operator.attrgetter(name)(module)

        def spy(*args: Any, original: Any = original, **kwargs: Any) -> Any:
            seen.extend(len(arg) for arg in args if isinstance(arg, np.ndarray))
            return original(*args, **kwargs)

        monkeypatch.setattr(f"{module.__name__}.{name}", spy)
    params: dict[str, Any]
    X, params = blobs(1000), {"init_params": init_params, "random_state": 0}
    model = GaussianMixtureEM(3, tol=1e-7, max_iter=500, **params).fit(X)
    assert seen == ([] if init_params == "random" else [200])
    whole = GaussianMixtureEM(3, means_init=model.means_, random_state=0).fit(X[:900])
    assert_allclose(np.sort(model.means_, 0), np.sort(whole.means_, 0), atol=0.5)


@pytest.mark.parametrize(
    "given", [("means_init",), ("weights_init", "precisions_init")]
)
@every_type
def test_part_of_a_start_may_be_given(
    covariance_type: str, given: tuple[Any, ...]
) -> None:
    X, start = blobs(), given_start(covariance_type)
    for name in {"weights_init", "means_init", "precisions_init"} - set(given):
        del start[name]
    ours = GaussianMixtureEM(**start, random_state=0).fit(X)
    theirs = GaussianMixture(**start, random_state=0).fit(X)
    assert_same_mixture(ours, theirs, X)


@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
@every_type
def test_a_warm_start_goes_on_as_scikit_learn_does(covariance_type: str) -> None:
    X = blobs(seed=3)
    params: dict[str, Any] = {
        "n_components": 4,
        "covariance_type": covariance_type,
        "max_iter": 2,
        "tol": 1e-6,
        "warm_start": True,
        "random_state": 0,
    }
    ours, theirs = GaussianMixtureEM(**params), GaussianMixture(**params)
    for _ in range(3):
        assert_same_mixture(ours.fit(X), theirs.fit(X), X, atol=1e-8)


@pytest.mark.parametrize(
    "changed",
    [{"n_components": 3}, {"covariance_type": "diag"}, {"covariance_type": "tied"}],
    ids=str,
)
def test_a_warm_start_refuses_another_mixture(changed: dict[str, Any]) -> None:
    X, (name,) = blobs(), changed
    model = GaussianMixtureEM(2, warm_start=True, random_state=0).fit(X)
    with pytest.raises(ValueError, match=f"{name}=.* differs from .*Set {name} back"):
        model.set_params(**changed).fit(X)
    with pytest.raises(ValueError, match="X has 2 features, but GaussianMixtureEM"):
        model.set_params(n_components=2, covariance_type="full").fit(X[:, :2])


def test_parameters_are_scikit_learns_and_a_device() -> None:
    theirs = GaussianMixture().get_params(deep=False)
    ours = GaussianMixtureEM().get_params(deep=False)
    new = {"device": "cpu", "checkpoint": None, "n_factors": 1, "decay": 0.7}
    more = {"covariance_prior": None, "weight_prior": 0.0, "acceleration": None}
    assert ours == {**theirs, **new, **more}


@every_type
def test_parameters_count_as_scikit_learn_counts(covariance_type: str) -> None:
    params: dict[str, Any]
    X, params = blobs(), {"covariance_type": covariance_type, "random_state": 0}
    ours, theirs = GaussianMixtureEM(3, **params), GaussianMixture(3, **params)
    assert ours.fit(X)._n_parameters() == theirs.fit(X)._n_parameters()


@pytest.mark.parametrize("verbose", [1, 2])
def test_verbose_says_what_scikit_learn_says(
    verbose: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(cls: Any) -> Any:
        params: dict[str, Any] = {
            "verbose": verbose,
            "verbose_interval": 1,
            "random_state": 0,
        }
        cls(3, **params).fit(blobs())
        # Times differ; so does all that follows them.
        return [line.split("lapse")[0] for line in capsys.readouterr().out.splitlines()]

    assert said(GaussianMixtureEM) == said(GaussianMixture)


def test_errors_are_worded_as_scikit_learns() -> None:
    X = blobs()
    bad: list[dict[str, Any]] = [
        {"n_components": 400},
        {"n_components": 3, "weights_init": [0.5, 0.5]},
        {"n_components": 3, "weights_init": [0.5, 0.5, 0.5]},
        {"n_components": 3, "weights_init": [-0.5, 0.75, 0.75]},
        {"n_components": 3, "means_init": np.zeros((3, 2))},
        {"n_components": 3, "precisions_init": np.zeros((3, 2, 2))},
        {"n_components": 3, "precisions_init": np.zeros((3, 3, 3))},
    ]
    for params in bad:
        with pytest.raises(ValueError) as ours:
            GaussianMixtureEM(**params).fit(X)
        with pytest.raises(ValueError) as theirs:
            GaussianMixture(**params).fit(X)
        # Ours may add a remedy.
        assert str(ours.value).startswith(str(theirs.value))


def test_no_convergence_is_said_in_scikit_learns_words() -> None:
    with pytest.warns(ConvergenceWarning, match="Best performing initialization did"):
        GaussianMixtureEM(3, max_iter=1, random_state=0).fit(blobs())


@every_type
def test_a_collapsed_component_needs_reg_covar(covariance_type: str) -> None:
    X = np.repeat(blobs(4), 5, axis=0)
    params: dict[str, Any] = {"covariance_type": covariance_type, "means_init": X[::5]}
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        GaussianMixtureEM(4, reg_covar=0, **params).fit(X)
    with pytest.warns(UserWarning, match="no width but reg_covar=1e-06"):
        model = GaussianMixtureEM(4, reg_covar=1e-6, **params).fit(X)
    assert np.isfinite(model.score_samples(X)).all()


# EM.


def em_state(covariance_type: str, seed: int = 0) -> tuple[Any, ...]:
    kind, x = COVARIANCES[covariance_type], torch.from_numpy(blobs(seed=seed))
    rows = CentredRows.of(x, None).normalise_weights()
    resp = torch.rand(300, 3, generator=torch.Generator().manual_seed(seed)).double()
    return kind, rows, start_from(kind, rows, resp / resp.sum(1, keepdim=True), 0.0)


@every_type
@pytest.mark.parametrize("seed", range(3))
def test_no_iteration_lowers_the_likelihood(covariance_type: str, seed: int) -> None:
    kind, rows, theta = em_state(covariance_type, seed)
    bounds = []
    for _ in range(50):
        theta, bound = EMSteps(kind, rows, 0.0)(theta)
        bounds.append(bound)
    assert (np.diff(bounds) > -1e-12).all()
    assert bounds[-1] > bounds[0]


@every_type
def test_the_e_step_makes_the_bound_tight(covariance_type: str) -> None:
    kind, rows, theta = em_state(covariance_type)
    x = rows.x - rows.centre
    log_prob, resp, _ = expectation(kind, theta)(x)

    def bound(q: Any) -> Any:
        """E_q[log p(x, z)] + H(q), a row."""
        d = x.shape[1]
        y = kind.project(x, theta.means, theta.roots)
        distances = kind.distances(y, theta.means, theta.roots)
        log_det = kind.log_det(theta.roots, d) - d / 2 * np.log(2 * np.pi)
        joint = (theta.weights.log() + log_det)[:, None] - distances / 2
        return (q * joint).sum(0) - torch.xlogy(q, q).sum(0)

    assert_allclose(bound(resp), log_prob, atol=1e-10)
    assert (bound(0.9 * resp + 0.1 / 3) < log_prob).all()


@every_type
def test_chunks_change_nothing(
    covariance_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, start = blobs(), given_start(covariance_type)
    whole = GaussianMixtureEM(**start).fit(X)
    monkeypatch.setattr("skgen._utils.chunks.CPU_CHUNK", 100)
    parts = GaussianMixtureEM(**start).fit(X)
    for name in PARTS:
        assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-10)
    assert_allclose(parts.score_samples(X), whole.score_samples(X), atol=1e-10)


@every_type
@pytest.mark.parametrize("max_iter", [3, 100])
@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
def test_a_weight_is_a_number_of_copies(covariance_type: str, max_iter: int) -> None:
    X, start = blobs(), given_start(covariance_type)
    weight = np.random.RandomState(0).randint(0, 4, len(X))
    model = GaussianMixtureEM(**start, max_iter=max_iter)
    copies = model.fit(np.repeat(X, weight, axis=0)).score_samples(X)
    assert_allclose(model.fit(X, sample_weight=weight).score_samples(X), copies)
    assert_allclose(model.fit(X, sample_weight=0.1 * weight).score_samples(X), copies)


@pytest.mark.parametrize("init_params", INITS)
def test_equal_weights_are_no_weights(init_params: str) -> None:
    params: dict[str, Any]
    X, params = blobs(), {"init_params": init_params, "random_state": 0}
    plain = GaussianMixtureEM(3, **params).fit(X)
    weighted = GaussianMixtureEM(3, **params).fit(X, sample_weight=np.full(300, 2.5))
    assert_array_equal(weighted.means_, plain.means_)


@pytest.mark.parametrize("init_params", INITS)
def test_rows_of_weight_zero_are_not_there(init_params: Any) -> None:
    X, weight = blobs(), np.random.RandomState(0).randint(0, 2, 300)
    X[weight == 0] += 1e3
    model = GaussianMixtureEM(3, init_params=init_params, random_state=0)
    left_out = model.fit(X[weight == 1]).means_
    assert_array_equal(model.fit(X, sample_weight=weight).means_, left_out)


def test_too_few_rows_of_positive_weight_are_too_few_rows() -> None:
    with pytest.raises(ValueError, match="n_components = 3, n_samples = 2"):
        GaussianMixtureEM(3).fit(blobs(5), sample_weight=[1, 1, 0, 0, 0])


@every_type
def test_float32_far_from_zero_loses_nothing_but_its_digits(
    covariance_type: str,
) -> None:
    X = (blobs() + 1e4).astype(np.float32)
    start = given_start(covariance_type)
    start["means_init"] = X[:3].astype(np.float64)
    single = GaussianMixtureEM(**start).fit(X)
    double = GaussianMixtureEM(**start).fit(X.astype(np.float64))
    # A mean near 1e4 would lose 5e-4 in float32.
    assert {getattr(single, name).dtype for name in PARTS} == {np.dtype(np.float64)}
    for name in PARTS:
        expected = getattr(double, name)
        assert_allclose(getattr(single, name), expected, rtol=1e-6, atol=1e-6)
    assert_allclose(single.score(X), double.score(X), atol=1e-6)


def test_full_components_of_any_scale_lie_side_by_side() -> None:
    rng = np.random.RandomState(0)
    scales, means = [1e-3, 1.0, 1e3], [0.0, 10.0, 1e5]
    X = np.concatenate([m + s * rng.randn(200, 2) for m, s in zip(means, scales)])
    model = GaussianMixtureEM(3, means_init=[[m] * 2 for m in means], reg_covar=0)
    model.fit(X)
    deviations = np.sqrt([np.diag(c) for c in model.covariances_])
    assert_allclose(np.sort(deviations, 0), [[s] * 2 for s in scales], rtol=0.15)


# The expanded form of full covariances.


def full_state(x: NDArray[Any], d: int, K: int = 3, seed: int = 0) -> tuple[Any, ...]:
    rows = CentredRows.of(torch.from_numpy(x), None)
    generator = torch.Generator().manual_seed(seed)
    resp = torch.rand(len(x), K, generator=generator).double() ** 4
    return rows, start_from(Full(), rows, resp / resp.sum(1, keepdim=True), 0.0)


def assert_same_step(found: Any, expected: Any, rtol: float = 0.0) -> None:
    assert_allclose(found.bound, expected.bound, rtol=rtol)
    for part, other in zip(found.state, expected.state):
        assert_allclose(part, other, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("d", [1, 2, 3, 4, 7])
def test_the_expanded_form_is_the_whitened_one(d: int) -> None:
    rows, theta = full_state(blobs(d=d), d)
    expected = one_pass(Full(), rows, theta, 0.0)
    assert_same_step(one_pass(ExpandedFull(), rows, theta, 0.0), expected, rtol=1e-9)
    log_prob, resp, _ = expectation(Full(), theta)(rows.x)
    seen = theta.minus(rows.centre)
    found = expectation(ExpandedFull(), seen)(rows.x - rows.centre)
    assert_allclose(found[0], log_prob, atol=1e-10)
    assert_allclose(found[1], resp, atol=1e-10)


def test_components_narrow_for_where_they_lie_are_whitened() -> None:
    x = blobs() + 1e6 * np.repeat([[0], [1], [2]], 100, axis=0)
    rows, theta = full_state(x, 3)
    theta = EMSteps(Full(), rows, 0.0)(theta).state
    narrow = theta._replace(roots=theta.roots * 1e6)
    covariances = Full().covariances(narrow.roots)
    narrow = narrow._replace(covariances=covariances)
    assert narrow.loses(ExpandedFull(), rows.centre)
    expected = one_pass(Full(), rows, narrow, 0.0)
    assert_same_step(EMSteps(Full(), rows, 0.0)(narrow), expected)


def test_components_that_become_narrow_in_one_step_are_whitened() -> None:
    rng = np.random.RandomState(0)
    ends = np.array([[-1.0, -1.0], [1.0, 1.0]])
    x = np.repeat(ends, 100, axis=0) + 1e-7 * rng.randn(200, 2)
    rows = CentredRows.of(torch.from_numpy(x), None)
    _, theta = full_state(x, 2, K=2)
    unit = torch.eye(2).double().expand(2, 2, 2)
    theta = theta._replace(
        means=torch.from_numpy(ends), covariances=unit / 16, roots=4 * unit
    )
    assert not theta.loses(ExpandedFull(), rows.centre)
    found = EMSteps(Full(), rows, 0.0)(theta)
    assert_same_step(found, one_pass(Whitened(), rows, theta, 0.0))
    deviations = found.state.covariances.diagonal(dim1=1, dim2=2).sqrt()
    assert_allclose(deviations, 1e-7, rtol=0.2)


# The density.


@every_type
def test_one_component_is_one_gaussian(covariance_type: Any) -> None:
    X = blobs()
    mixture = GaussianMixtureEM(covariance_type=covariance_type).fit(X)
    kind: Any = "full" if covariance_type == "tied" else covariance_type
    gaussian = GaussianDensity(covariance_type=kind).fit(X)
    expected = gaussian.score_samples(X)
    assert_allclose(mixture.score_samples(X), expected, atol=1e-10)


@every_type
def test_the_density_is_the_sum_of_its_components(covariance_type: Any) -> None:
    X = blobs()
    model = GaussianMixtureEM(3, covariance_type=covariance_type, random_state=0)
    model.fit(X)
    parts = zip(model.weights_, model.means_, covariance_matrices(model))
    p = [w * multivariate_normal(m, S).pdf(X) for w, m, S in parts]
    assert_allclose(model.score_samples(X), np.log(np.sum(p, 0)), atol=1e-9)
    assert_allclose(model.transform(X), (p / np.sum(p, 0)).T, atol=1e-9)


@every_type
@pytest.mark.parametrize("d", [1, 2])
def test_the_density_integrates_to_one(covariance_type: Any, d: int) -> None:
    X = np.random.RandomState(0).randn(100, d) + np.repeat([[-3], [2]], 50, axis=0)
    model = GaussianMixtureEM(2, covariance_type=covariance_type, random_state=0)
    axis = np.linspace(-12, 12, 500)
    grid = np.stack(np.meshgrid(*[axis] * d), axis=-1).reshape(-1, d)
    p = np.exp(model.fit(X).score_samples(grid)).sum() * (axis[1] - axis[0]) ** d
    assert_allclose(p, 1, atol=1e-9)


def test_a_code_decodes_to_its_mean_of_means() -> None:
    X = blobs()
    model = GaussianMixtureEM(3, random_state=0).fit(X)
    code = model.transform(X)
    assert_array_equal(code, model.predict_proba(X))
    assert_allclose(code.sum(1), 1)
    assert_allclose(model.inverse_transform(code), code @ model.means_, atol=1e-12)


@every_type
def test_samples_have_the_moments_of_the_model(covariance_type: Any) -> None:
    model = GaussianMixtureEM(3, covariance_type=covariance_type, random_state=0)
    X = model.fit(blobs()).sample(100_000, random_state=0)
    mean = model.weights_ @ model.means_
    off = model.means_ - mean
    within = np.einsum("k,kij->ij", model.weights_, covariance_matrices(model))
    covariance = within + (off.T * model.weights_) @ off
    scale = np.trace(covariance)
    assert_allclose(X.mean(0), mean, atol=0.01 * np.sqrt(scale))
    assert_allclose(np.cov(X.T), covariance, atol=0.01 * scale)


def test_samples_without_noise_are_means_as_often_as_their_weights() -> None:
    model = GaussianMixtureEM(3, random_state=0).fit(blobs())
    X = model.sample(100_000, noise=False, random_state=0)
    nearest = ((X[:, None] - model.means_) ** 2).sum(2).argmin(1)
    assert_allclose(X, model.means_[nearest], atol=1e-12)
    shares = np.bincount(nearest) / len(X)
    assert_allclose(shares, model.weights_, atol=0.01)


@every_type
def test_a_fit_to_samples_recovers_the_model(covariance_type: Any) -> None:
    model = GaussianMixtureEM(3, covariance_type=covariance_type, random_state=0)
    model.fit(blobs())
    X = model.sample(20_000, random_state=0)
    again = GaussianMixtureEM(
        3, covariance_type=covariance_type, means_init=model.means_, random_state=0
    ).fit(X)
    assert_allclose(again.weights_, model.weights_, atol=0.02)
    assert_allclose(again.means_, model.means_, atol=0.15)
    assert again.score(X) - model.score(X) < 0.01


# The house.


def test_fit_leaves_its_parameters_alone() -> None:
    start = given_start("full")
    start["means_init"] = start["means_init"].tolist()
    model = GaussianMixtureEM(**start).fit(blobs())
    assert all(getattr(model, name) is value for name, value in start.items())


def test_the_best_of_several_starts_is_kept() -> None:
    X = blobs(K=6)
    params: dict[str, Any] = {"init_params": "random_from_data", "tol": 1e-2}
    rng = np.random.RandomState(0)
    bounds = [
        GaussianMixtureEM(6, random_state=rng, **params).fit(X).lower_bound_
        for _ in range(5)
    ]
    best = GaussianMixtureEM(6, n_init=5, random_state=0, **params).fit(X)
    assert best.lower_bound_ == pytest.approx(max(bounds), abs=1e-12)
    assert max(bounds) > min(bounds) + 1e-3


def test_a_pickle_is_small_and_the_same() -> None:
    X = blobs(3000)
    model = GaussianMixtureEM(3, random_state=0).fit(X)
    file = io.BytesIO(pickle.dumps(model))
    assert file.getbuffer().nbytes < 10_000
    assert_array_equal(pickle.load(file).score_samples(X), model.score_samples(X))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    ("covariance_type", "init_params"), [*itertools.product(COVARIANCE_TYPES, INITS)]
)
def test_a_device_gives_the_same_model(covariance_type: Any, init_params: Any) -> None:
    X = blobs()
    params: dict[str, Any] = {
        "covariance_type": covariance_type,
        "init_params": init_params,
        "random_state": 0,
    }
    here = GaussianMixtureEM(3, **params).fit(X)
    there = GaussianMixtureEM(3, **params, device="cuda").fit(X)
    for name in PARTS:
        expected = getattr(here, name)
        assert_allclose(getattr(there, name), expected, rtol=1e-6, atol=1e-8)
