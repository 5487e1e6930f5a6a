"""Laws of EM from several starts: as one batch, it ends where each would alone."""

import math
import signal
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from skgen import GaussianMixtureEM
from skgen._em import restarts, starts
from skgen._em.covariance import COVARIANCES, ExpandedFull, Full
from skgen._em.restarts import STACK_ROWS, EMRun, Restarts, run_em_stack
from skgen._em.steps import Mixture, expectation, one_pass, start_from
from skgen._utils.chunks import CentredRows, chunk_rows

TYPES = [*COVARIANCES]
FORMS: dict[str, Any] = {**COVARIANCES, "expanded": ExpandedFull()}

every_type = pytest.mark.parametrize("covariance_type", TYPES)
quiet = pytest.mark.filterwarnings("ignore:Best performing initialization did not conv")

RNG = np.random.RandomState(0)
X = RNG.randn(240, 3) @ RNG.randn(3, 3) + 2 * RNG.randint(3, size=(240, 1))
WEIGHT = RNG.randint(1, 4, 240)


def rows_of(x: Any = X, weight: Any = None) -> Any:
    weight = None if weight is None else torch.from_numpy(weight).double()
    return CentredRows.of(torch.from_numpy(x), weight).normalise_weights()


def start(kind: Any, rows: Any, seed: int, K: int = 3, reg_covar: Any = 1e-6) -> Any:
    generator = torch.Generator().manual_seed(seed)
    resp = torch.rand(len(rows.x), K, generator=generator).double() ** 3
    return start_from(kind, rows, resp / resp.sum(1, keepdim=True), reg_covar)


def em_runs(
    kind: Any,
    rows: Any,
    tols: tuple[Any, ...],
    reg_covars: tuple[Any, ...] = (1e-6,) * 9,
    max_iter: int = 60,
) -> list[Any]:
    return [
        EMRun(start(kind, rows, seed), -math.inf, reg_covar, tol, max_iter)
        for seed, (tol, reg_covar) in enumerate(zip(tols, reg_covars))
    ]


def assert_same_run(one: Any, other: Any) -> None:
    assert (one.converged, one.stopped) == (other.converged, other.stopped)
    assert_allclose(one.bounds, other.bounds, rtol=0, atol=1e-9)
    for part, expected in zip(one.state, other.state):
        assert_allclose(part, expected, rtol=1e-6, atol=1e-8)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Mixtures in each stacked step that is taken."""
    sizes = []

    def counted(form: Any, rows: Any, theta: Any, reg_covar: Any) -> Any:
        sizes.append(len(theta.weights))
        return one_pass(form, rows, theta, reg_covar)

    monkeypatch.setattr(restarts, "one_pass", counted)
    return sizes


# Steps.


@pytest.mark.parametrize("name", FORMS)
def test_a_step_of_a_stack_is_one_of_each(name: str) -> None:
    form, rows = FORMS[name], rows_of(weight=WEIGHT)
    thetas = [start(form, rows, seed) for seed in range(4)]
    reg_covars = torch.tensor([0.0, 1e-3, 0.1, 1.0]).double()
    ndim = thetas[0].covariances.ndim
    found: Any = one_pass(
        form, rows, Mixture.stack(thetas), reg_covars.view(-1, *[1] * ndim)
    )
    for i, (theta, reg_covar) in enumerate(zip(thetas, reg_covars.tolist())):
        expected = one_pass(form, rows, theta, reg_covar)
        assert_allclose(found.bound[i], expected.bound, atol=1e-12)
        for part, other in zip(found.state.take(i), expected.state):
            assert_allclose(part, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", FORMS)
def test_each_of_a_stack_has_responsibilities_that_sum_to_one(name: str) -> None:
    form, rows = FORMS[name], rows_of()
    theta = Mixture.stack([start(form, rows, seed) for seed in range(2)])
    log_prob, resp, _ = expectation(form, theta)(rows.x - rows.centre)
    assert log_prob.shape == (2, 240)
    assert_allclose(resp.sum(1), 1)


# Climbs.


@every_type
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_each_ends_where_and_when_it_would_alone(
    covariance_type: str, weight: NDArray[Any] | None, steps: list[Any]
) -> None:
    kind, rows = COVARIANCES[covariance_type], rows_of(weight=weight)
    settings = ((1e-2, 1e-3, 1e-4, 0.0), (1e-6, 0.1, 1e-6, 0.0))
    together = Restarts(kind, rows, em_runs(kind, rows, *settings)).run()
    assert steps[0] == 4
    assert len(steps) > 1
    alone = em_runs(kind, rows, *settings)
    for em_run, found in zip(alone, together.each, strict=True):
        em_run.go_on(kind, rows)
        assert_same_run(found, em_run.so_far)
    assert len({len(run.bounds) for run in together.each}) > 2
    assert together.n_iter == sum(len(run.bounds) for run in together.each)


@quiet
@every_type
@pytest.mark.parametrize("init_params", ["kmeans", "random"])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_n_init_gives_what_one_after_the_other_gives(
    covariance_type: Any, init_params: Any, weight: NDArray[Any] | None
) -> None:
    model = GaussianMixtureEM(
        4,
        covariance_type=covariance_type,
        n_init=5,
        init_params=init_params,
        max_iter=40,
        random_state=0,
    )
    together = model.fit(X, sample_weight=weight)
    found = together.lower_bounds_, together.score_samples(X)
    rng = np.random.RandomState(0)
    model.set_params(n_init=1, random_state=rng)
    alone = [
        (model.fit(X, sample_weight=weight).lower_bounds_, model.score_samples(X))
        for _ in range(5)
    ]
    best = max(alone, key=lambda fit: fit[0][-1])
    assert_allclose(found[0], best[0], atol=1e-9)
    assert_allclose(found[1], best[1], atol=1e-6)


def test_those_that_want_whitening_go_on_alone(steps: list[Any]) -> None:
    kind, rows = Full(), rows_of()
    some = em_runs(kind, rows, (0.0,) * 3, max_iter=5)
    narrow = some[1].theta._replace(
        means=some[1].theta.means + 1e4, roots=some[1].theta.roots * 1e4
    )
    some[1].theta = narrow._replace(covariances=kind.covariances(narrow.roots))
    run_em_stack(kind, rows, some)
    assert set(steps) == {2}
    assert [len(em_run.bounds) for em_run in some] == [5, 5, 5]


def test_rows_as_starts_take_their_first_step_alone(steps: list[Any]) -> None:
    model = GaussianMixtureEM(
        3, n_init=4, init_params="random_from_data", random_state=0
    )
    model.fit(X)
    assert steps[0] == 4
    assert len(steps) > 2


def test_those_that_become_narrow_leave_the_stack(steps: list[Any]) -> None:
    # The rows lie on two points all but: only a large reg_covar keeps a spread.
    kind = Full()
    ends = np.repeat([[-1.0, -1.0], [1.0, 1.0]], 100, axis=0)
    rows = rows_of(ends + 1e-7 * RNG.randn(200, 2))
    unit = torch.eye(2).double().expand(2, 2, 2)
    means = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).double()
    theta = Mixture(torch.full((2,), 0.5).double(), means, unit / 16, 4 * unit)

    def some() -> Any:
        return [EMRun(theta, -math.inf, c, 0.0, 6) for c in (0.1, 1e-16, 0.2)]

    together = Restarts(kind, rows, some()).run()
    assert steps[:2] == [3, 2]
    for em_run, found in zip(some(), together.each):
        em_run.go_on(kind, rows)
        assert_same_run(found, em_run.so_far)


@every_type
def test_an_ill_defined_covariance_is_an_error_still(covariance_type: Any) -> None:
    collapsed = np.repeat(X[:4], 5, axis=0)
    model = GaussianMixtureEM(
        4, covariance_type=covariance_type, means_init=X[:4], reg_covar=0, n_init=3
    )
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        model.fit(collapsed)


@every_type
def test_one_whose_step_fails_leaves_the_others_alone(covariance_type: str) -> None:
    kind, rows = COVARIANCES[covariance_type], rows_of(np.repeat(100 * X[:4], 5, 0))
    theta = start_from(kind, rows, torch.eye(4).double().repeat_interleave(5, 0), 0.1)

    def work(reg_covar: Any) -> Any:
        return Restarts(kind, rows, [EMRun(theta, -math.inf, reg_covar, 0.0, 4)])

    first: Any
    last: Any
    first, error, last = restarts.run_together([work(0.1), work(0.0), work(0.2)])
    assert "ill-defined empirical covariance" in str(error)
    assert_same_run(first.each[0], work(0.1).run().each[0])
    assert_same_run(last.each[0], work(0.2).run().each[0])


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(("K", "d"), [(3, 2), (8, 8), (16, 32), (32, 50)])
def test_a_stack_leaves_chunks_long_enough(name: str, K: int, d: int) -> None:
    form, means = FORMS[name], torch.zeros(K, d)
    size = restarts._stack_size(form, 1000, means, 64)
    alone, chunk = (
        chunk_rows(means.device, form.row_elements(K, d, C)) for C in (1, size)
    )
    assert 1 <= size <= 64
    assert size == 1 or chunk >= min(STACK_ROWS, alone // 2)
    if (K, d) == (3, 2):
        assert size == 64


def test_tied_covariances_share_steps_over_few_rows_alone() -> None:
    means = torch.zeros(8, 16)
    sizes = [
        [
            restarts._stack_size(COVARIANCES[name].forms[0], n, means, 8)
            for n in (10**3, 10**6)
        ]
        for name in ("tied", "diag")
    ]
    assert sizes == [[8, 1], [8, 8]]


# Starts.


@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.PCG64])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_what_is_drawn_once_is_what_would_be_drawn(
    weight: NDArray[Any] | None, bits: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clusterings, cluster = [], starts._cluster

    def counted(*args: Any) -> Any:
        clusterings.append(args)
        return cluster(*args)

    monkeypatch.setattr(starts, "_cluster", counted)

    def draw(x: Any, K: int, seed: int) -> Any:
        rng = np.random.RandomState(bits(seed))
        rows = rows_of(x, weight)
        labels = [starts.draw_responsibilities(rows, K, "kmeans", rng)[1] for _ in "12"]
        return *labels, torch.tensor(rng.randint(1000))

    settings = [(X, 3, 0), (X, 3, 0), (X, 2, 0), (X, 3, 1), (X + 1, 3, 0), (X, 3, 0)]
    alone = [draw(*setting) for setting in settings]
    clusterings.clear()
    with starts.drawn_once():
        once = [draw(*setting) for setting in settings]
    assert len(clusterings) == 2 * 4
    assert all(
        a.equal(b) for one, other in zip(alone, once) for a, b in zip(one, other)
    )


# Ctrl-C and observers.


def test_an_interrupted_stack_keeps_the_best_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Also where shells let background processes ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    calls = []

    def pressed(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return one_pass(*args)

    model = GaussianMixtureEM(3, n_init=4, tol=0.0, max_iter=3, random_state=0)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        cut = model.fit(X).lower_bounds_
    monkeypatch.setattr(restarts, "one_pass", pressed)
    model.set_params(max_iter=50)
    with pytest.warns(ConvergenceWarning, match="in 3 iterations"):
        assert model.fit(X).lower_bounds_ == cut
    calls[:] = [()] * 3
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    signal.signal(signal.SIGINT, before)


def test_an_observer_hears_of_one_start_after_the_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = GaussianMixtureEM(3, n_init=3, verbose=1, random_state=0).fit(X)
    heard = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert heard.count("Initialization") == 6
    quiet = GaussianMixtureEM(3, n_init=3, random_state=0).fit(X)
    assert_allclose(model.lower_bounds_, quiet.lower_bounds_, atol=1e-9)
