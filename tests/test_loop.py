"""The training loop: what it keeps, when it stops, what it weighs."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from skgen import VAE, VQVAE, BetaVAE
from skgen._training.adam import SCHEDULES, ParamGroup, StepRule, paces
from skgen._training.batches import auto_batch_size
from skgen._training.data import ENOUGH_ROWS, Rows
from skgen._training.loop import Training
from skgen._training.trainer import Trainer
from skgen.likelihoods import Gaussian
from tests.toys import generator, normal

pytestmark = pytest.mark.usefixtures("guarded_generators")

few_epochs = pytest.mark.filterwarnings(
    "ignore:.*maximum iterations:sklearn.exceptions.ConvergenceWarning"
)


class Terms(NamedTuple):
    loss: torch.Tensor
    part: torch.Tensor

    @property
    def watched(self) -> Any:
        return self.loss


class Point(torch.nn.Module):
    """One parameter of two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.at = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))


def distance(module: Any, batch: Any, annealing: float = 1.0) -> Any:
    """Squared distance of the rows to the point."""
    return Terms(((batch.x - module.at) ** 2).sum(-1), batch.x[:, 0])


def as_they_are(x: Tensor) -> tuple[Any, ...]:
    return x, None


def trainer(
    module: Any,
    loss: Callable[..., Any] | None = None,
    observe: Callable[..., Any] = as_they_are,
    batch_size: int = 4,
    seed: int = 0,
    rate: float = 0.1,
    **rule: Any,
) -> Any:
    warm_up = rule.pop("warm_up", 0)
    return Trainer(
        module,
        loss or distance,
        observe,
        StepRule(rate, **rule),
        batch_size=batch_size,
        generator=generator(seed),
        warm_up=warm_up,
    )


def run(
    module: Any,
    rows: Any,
    held_out: Any = None,
    loss: Callable[..., Any] | None = None,
    observe: Callable[..., Any] = as_they_are,
    **settings: Any,
) -> Any:
    settings = {"max_iter": 10, "tol": 1e-4, "patience": 3, **settings}
    return Training(trainer(module, loss, observe), rows, held_out, **settings).run()


def epoch(made: Any, rows: Any) -> Any:
    """One epoch, of which the weights stay, and its history."""
    return Training(made, rows, None, max_iter=1, tol=0.0, patience=2).run()


X = normal(10, 2, seed=1)
ROWS = Rows(X, None)


# What it keeps.


def watching(script: Any) -> tuple[Any, ...]:
    """Held-out losses of a script, the start's first, and the weights that had them."""
    module, seen, script = Point(), [], iter(script)

    def loss(module: Any, batch: Any, annealing: Any) -> Any:
        terms = distance(module, batch)
        if torch.is_grad_enabled():
            return terms
        seen.append(module.at.detach().clone())
        return Terms(torch.full((len(batch.x),), next(script)), batch.x[:, 0])

    return module, seen, loss


def test_the_best_weights_come_back() -> None:
    module, seen, loss = watching([4.0, 3.0, 1.0, 2.0, 2.5, 4.0])
    history = run(module, ROWS, ROWS, loss, max_iter=5, patience=9)
    assert history.best_epoch == 1
    assert history.best_loss == 1
    assert history.held_out == [3, 1, 2, 2.5, 4]
    assert module.at.detach().equal(seen[2])
    assert not seen[2].equal(seen[-1])


def test_the_start_comes_back_where_no_epoch_is_better() -> None:
    module, seen, loss = watching([1.0, 3.0, 2.0, 2.5])
    history = run(module, ROWS, ROWS, loss, max_iter=9, patience=3)
    assert (history.n_iter, history.best_epoch, history.best_loss) == (3, -1, 1)
    assert module.at.detach().equal(seen[0])
    assert not seen[0].equal(seen[1])


def test_the_training_loss_decides_where_nothing_is_held_out() -> None:
    module = Point()
    history = run(module, ROWS, max_iter=5, patience=9)
    curve = history.curves["loss"]
    assert history.best_loss == min(curve)
    assert history.best_epoch == int(np.argmin(curve))
    assert history.held_out == []


def test_patience_counts_epochs_without_improvement() -> None:
    module, seen, loss = watching([4.0, 3.0, 1.0, *[2.0] * 20])
    history = run(module, ROWS, ROWS, loss, max_iter=20, patience=4)
    assert history.status == "converged"
    assert history.n_iter == len(seen) - 1 == 2 + 4


def test_an_improvement_within_tol_is_none() -> None:
    module, _, loss = watching([9.0, 1.0, 0.95, 0.9, 0.85])
    history = run(module, ROWS, ROWS, loss, max_iter=9, patience=3, tol=0.2)
    assert history.status == "converged"
    assert (history.n_iter, history.best_epoch) == (4, 0)
    module, _, loss = watching([9.0, 1.0, 0.95, 0.9, 0.85])
    history = run(module, ROWS, ROWS, loss, max_iter=4, patience=3, tol=0.01)
    assert history.status == "max_iter"
    assert history.best_epoch == 3


def test_small_steps_add_up_to_an_improvement() -> None:
    module, _, loss = watching([9.0, 1.0, 0.95, 0.9, 0.85, 0.8])
    history = run(module, ROWS, ROWS, loss, max_iter=5, patience=4, tol=0.12)
    assert history.best_epoch == 3


def test_a_callback_stops_and_sees_every_epoch() -> None:
    calls: Any
    module, calls = Point(), []
    history = run(
        module,
        ROWS,
        on_begin=lambda: calls.append("begin"),
        on_end=lambda: calls.append("end") or len(calls) == 6,
    )
    assert calls == ["begin", "end"] * 3
    assert history.status == "stopped"
    assert history.n_iter == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_last_good_weights_come_back_from_a_divergence(bad: float) -> None:
    module, seen, loss = watching([math.nan, 3.0, 2.0, bad])
    history = run(module, ROWS, ROWS, loss, patience=9)
    assert history.status == "diverged"
    assert (history.n_iter, history.best_epoch) == (3, 1)
    assert module.at.detach().equal(seen[2])


def test_weights_that_are_not_finite_are_a_divergence() -> None:
    module = Point()

    def loss(
        module: Any, batch: Any, annealing: Any
    ) -> Any:  # its gradient at 0 is infinite
        value = module.at.abs().sqrt().sum()
        return Terms(value.expand(len(batch.x)), batch.x[:, 0])

    history = run(module, ROWS, None, loss)
    assert history.status == "diverged"
    assert (history.n_iter, history.best_epoch) == (1, -1)
    assert module.at.tolist() == [0, 0]


# What it draws.


def test_held_out_noise_is_the_same_each_epoch() -> None:
    seen: list[Any]
    trained: list[Any]
    drawn: list[Any]
    seen, trained, drawn = [], [], []

    def observe(x: Any) -> Any:
        drawn.append(normal(1, len(x), seed=len(drawn)))
        return x, drawn[-1]

    module = Point()

    def loss(module: Any, batch: Any, annealing: Any) -> Any:
        (trained if torch.is_grad_enabled() else seen).append(batch.noise)
        return distance(module, batch)

    held_out = Rows(normal(7, 2, seed=2), None)
    run(module, ROWS, held_out, loss, observe, max_iter=4, patience=9)
    assert len(seen) == 1 + 4
    assert all(eps.equal(drawn[0]) for eps in seen)
    # Training noise is fresh at each step: three batches an epoch.
    numbers = torch.cat(trained, dim=1).flatten()
    assert len(trained) == 4 * 3
    assert len(numbers.unique()) == 4 * len(X)


def test_large_held_out_sets_come_in_chunks() -> None:
    module, sizes = Point(), []

    def loss(module: Any, batch: Any, annealing: Any) -> Any:
        sizes.append(len(batch.x))
        return Terms((batch.x * batch.noise[0]).sum(-1), batch.x[:, 0])

    noise = normal(1, 10, 2, seed=3)
    made = trainer(module, loss, lambda x: (x, noise))
    made.held_out_chunk = 3
    start = Training(made, ROWS, ROWS, max_iter=0, tol=0.0, patience=2).run()
    assert max(sizes) <= 4
    assert start.best_loss == pytest.approx((X * noise[0]).sum(-1).mean().item())


def test_a_small_held_out_set_is_repeated() -> None:
    rows = Rows(X, normal(10, seed=4).exp())
    repeated = rows.repeated()
    assert len(repeated.x) >= ENOUGH_ROWS
    assert len(repeated.x) % 10 == 0
    values = repeated.x.sum(1)
    assert repeated.mean(values).item() == pytest.approx(rows.mean(X.sum(1)).item())
    many = Rows(torch.zeros(ENOUGH_ROWS, 1), None)
    assert len(many.repeated().x) == ENOUGH_ROWS


@pytest.mark.parametrize(("n", "size"), [(10, 4), (129, 128), (7, 7), (5, 100), (3, 1)])
def test_batches_cover_the_rows_once_and_are_nearly_equal(n: int, size: int) -> None:
    batches = []
    module = Point()

    def loss(module: Any, batch: Any, annealing: Any) -> Any:
        batches.append(batch.x[:, 0].tolist())
        return distance(module, batch)

    rows = Rows(torch.arange(n, dtype=torch.float64)[:, None].expand(n, 2), None)
    epoch(trainer(module, loss, batch_size=size), rows)
    assert sorted(itertools.chain(*batches)) == list(range(n))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == math.ceil(n / size)


def test_every_epoch_is_shuffled_anew() -> None:
    orders = []
    module = Point()

    def loss(module: Any, batch: Any, annealing: Any) -> Any:
        orders.append(batch.x[:, 0].tolist())
        return distance(module, batch)

    run(module, ROWS, None, loss, max_iter=2)
    first, second = orders[:3], orders[3:]
    assert first != second
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second))


def test_a_small_set_has_some_ten_steps_an_epoch() -> None:
    assert [auto_batch_size(n) for n in (5, 100, 500, 5_000)] == [16, 16, 50, 128]


def test_a_parameter_may_have_a_rate_of_its_own() -> None:
    module = Point()
    module.other = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def loss(module: Any, batch: Any, annealing: Any) -> Any:
        both = ((batch.x - module.at - module.other) ** 2).sum(-1)
        return Terms(both, both)

    made = Trainer(
        module,
        loss,
        as_they_are,
        StepRule(0.01),
        batch_size=10,
        generator=generator(),
        rates={"other": 10.0},
    )
    epoch(made, ROWS)
    torch.testing.assert_close(module.other, 10 * module.at)


# What it weighs.


def step(rows: Any) -> tuple[Any, ...]:
    """The gradient of a step over all rows, and the reported means."""
    module = Point()
    history = epoch(trainer(module, batch_size=1_000), rows)
    return module.at.grad, history.curves, history.best_loss


def test_a_weight_of_two_is_a_row_twice() -> None:
    weight = torch.ones(10).double()
    weight[3] = 2
    weighted = step(Rows(X, weight / weight.mean()))
    twice = step(Rows(torch.cat([X, X[3:4]]), None))
    torch.testing.assert_close(weighted, twice)


def test_a_weight_of_zero_is_no_row() -> None:
    weight = torch.ones(10).double()
    weight[3] = 0
    weighted = step(Rows(X, weight / weight.mean()))
    without = step(Rows(torch.cat([X[:3], X[4:]]), None))
    torch.testing.assert_close(weighted, without)


def test_reported_means_are_weighted_means_on_any_scale_of_weights() -> None:
    weight = normal(10, seed=4).exp()
    _, means, watched = step(Rows(X, weight))
    loss = (X**2).sum(1)  # the point is still at zero
    expected = ((weight * loss).sum() / weight.sum()).item()
    assert means["loss"] == [watched] == [pytest.approx(expected)]
    part = ((weight * X[:, 0]).sum() / weight.sum()).item()
    assert means["part"] == [pytest.approx(part)]


def test_a_batch_has_the_weights_of_the_data_set() -> None:
    # Two batches of one row: each row's gradient has its own weight.
    seen = []
    module = Point()
    module.at.register_hook(lambda grad: seen.append(grad.clone()))
    rows: Any = Rows(X[:2], torch.tensor([0.5, 1.5]).double())
    epoch(trainer(module, batch_size=1, rate=1e-12), rows)
    expected = [-2 * w * x for w, x in zip(rows.weight, rows.x)]
    for grad in expected:
        assert any(torch.allclose(grad, other) for other in seen)


# Fits: divergence, weights.

TABLE = normal(90, 4, seed=5).numpy() @ normal(4, 4, seed=6).numpy()
SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "max_iter": 5,
    "n_importance_samples": 4,
    "random_state": 0,
}
small_models = pytest.mark.parametrize(
    "model",
    [
        VAE(2, **SMALL),
        BetaVAE(2, **SMALL),
        VQVAE(8, n_tokens=2, code_size=2, **SMALL),
    ],
    ids=lambda model: type(model).__name__,
)


def assert_usable(model: Any, X: NDArray[Any]) -> None:
    for name, value in model.module_.state_dict().items():
        assert value.isfinite().all(), name
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(model.sample(9)).all()


@few_epochs  # of VQVAE's prior
@small_models
@pytest.mark.parametrize("early_stopping", [True, False])
def test_an_absurd_learning_rate_leaves_a_usable_model(
    model: Any, early_stopping: bool
) -> None:
    model = clone(model).set_params(
        learning_rate_init=1e12, early_stopping=early_stopping
    )
    with pytest.warns(ConvergenceWarning, match=r"Lower\s+learning_rate_init"):
        model.fit(TABLE)
    assert_usable(model, TABLE)


@small_models
def test_an_absurd_learning_rate_leaves_a_partial_fit_usable(model: Any) -> None:
    model = clone(model).set_params(learning_rate_init=1e12)
    with pytest.warns(ConvergenceWarning, match=r"Lower\s+learning_rate_init"):
        model.partial_fit(TABLE)
    assert_usable(model, TABLE)
    model.set_params(learning_rate_init=1e-3).partial_fit(TABLE)
    assert_usable(model, TABLE)
    assert np.isfinite(model.loss_curve_).tolist() == [False, True]


@few_epochs
@small_models
@pytest.mark.parametrize("kind", ["feature", "shared"])
@pytest.mark.parametrize("value", [1e30, 1e100])
def test_rows_beyond_reason_leave_a_usable_model(
    model: Any, kind: Any, value: float
) -> None:
    X = TABLE.copy()
    X[3, 1] = value
    model = clone(model).set_params(standardize=False, likelihood=Gaussian(kind))
    with pytest.warns(ConvergenceWarning, match="scale X"):
        model.fit(X)
    assert_usable(model, TABLE)


@few_epochs
@small_models
def test_rows_beyond_reason_may_be_standardised(model: Any) -> None:
    X = TABLE.copy()
    X[3, 1] = 1e30
    assert_usable(clone(model).fit(X), X)


@few_epochs
@small_models
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_rows_of_weight_zero_have_no_influence(model: Any, method: str) -> None:
    weight = np.linspace(0.5, 2, len(TABLE))
    weight[::7] = 0
    garbage = TABLE.copy()
    garbage[::7] = 1e6
    fits = [
        getattr(clone(model), method)(rows, sample_weight=weight).module_.state_dict()
        for rows in (TABLE, garbage)
    ]
    for name in fits[0]:
        assert fits[0][name].equal(fits[1][name]), name


@few_epochs
@small_models
def test_weights_of_zero_and_one_are_the_rows_of_weight_one(model: Any) -> None:
    weight = np.ones(len(TABLE))
    weight[::7] = 0
    fits = [
        clone(model).fit(TABLE, sample_weight=weight),
        clone(model).fit(TABLE[weight == 1]),
    ]
    scores = [fit.score_samples(TABLE) for fit in fits]
    np.testing.assert_allclose(*cast(tuple[Any, Any], scores), rtol=1e-5, atol=1e-5)
    curves = [fit.loss_curve_ for fit in fits]
    np.testing.assert_allclose(*cast(tuple[Any, Any], curves), rtol=1e-5)


# How it steps.


def rates_of(schedule: str, max_iter: int, rate: Any = 0.1) -> NDArray[Any]:
    """Learning rate of each epoch."""
    module, seen = Point(), []
    made = trainer(module, rate=rate, schedule=schedule)
    Training(
        made,
        ROWS,
        None,
        max_iter=max_iter,
        tol=0.0,
        patience=max_iter + 1,
        on_begin=lambda: seen.append(made.optimizer.factor * made.rule.learning_rate),
    ).run()
    return np.array(seen)


def test_a_constant_schedule_is_constant() -> None:
    assert set(rates_of("constant", 5)) == {0.1}


def test_a_cosine_schedule_falls_from_the_rate_towards_zero() -> None:
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(8) / 8))
    np.testing.assert_allclose(rates_of("cosine", 8), expected)


def test_stages_are_those_of_the_paper() -> None:
    stages = [3**i for i in range(8)]
    expected = np.repeat(10 ** (-np.arange(8) / 7), stages)
    rates = [SCHEDULES["stages"](epoch / 3280) for epoch in range(3280)]
    np.testing.assert_allclose(rates, expected)
    np.testing.assert_allclose(
        rates_of("stages", 10)[[0, -1]], [0.1 * 10 ** (-0 / 7), 0.01]
    )


def test_weight_decay_shrinks_matrices_alone() -> None:
    module = Point()
    module.matrix = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    module.bias = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))

    def loss(module: Any, batch: Any, annealing: Any) -> Any:  # no gradient but zero
        still = 0 * (module.matrix.sum() + module.bias.sum() + module.at.sum())
        return Terms(still.expand(len(batch.x)), batch.x[:, 0])

    epoch(trainer(module, loss, batch_size=10, weight_decay=0.5), ROWS)
    torch.testing.assert_close(
        module.matrix.detach(), torch.full((2, 2), 0.95).double()
    )
    assert module.bias.tolist() == [1, 1]


def test_networks_with_a_rate_of_their_own_decay_and_single_tensors_do_not() -> None:
    with torch.random.fork_rng():
        layer, other = torch.nn.Linear(2, 2, bias=False), torch.nn.Bilinear(2, 2, 2)
    module = torch.nn.ModuleDict({"encoder": layer, "decoder": other})
    rates = {"encoder.": 3.0, "decoder.weight": 2.0}
    found = paces(module, StepRule(0.1, weight_decay=0.5), rates)
    assert found["encoder.weight"] == ParamGroup(3.0 * 0.1, 0.5)
    assert found["decoder.weight"] == ParamGroup(2.0 * 0.1, 0.0)
    assert found["decoder.bias"] == ParamGroup(0.1, 0.0)


def test_long_gradients_are_cut_to_a_norm() -> None:
    module: Any = Point()
    made = trainer(module, batch_size=10, max_grad_norm=1e-3)
    epoch(made, Rows(X + 100, None))
    assert module.at.grad.norm().item() == pytest.approx(1e-3, rel=1e-4)


def test_the_average_of_the_weights_is_judged_and_kept() -> None:
    module, seen, steps = Point(), [], []

    def loss(module: Any, batch: Any, annealing: Any) -> Any:
        if not torch.is_grad_enabled():
            seen.append(module.at.detach().clone())
        return distance(module, batch)

    made = trainer(module, loss, batch_size=10, averaging=0.75)

    class Watching(NamedTuple):
        def draw(self, generator: Any) -> Any:
            return None

        def __call__(self, module: Any, terms: Any, weight: Any, noise: Any) -> None:
            steps.append(module.at.detach().clone())

    made.update = Watching()
    settings: dict[str, Any] = {"max_iter": 6, "tol": 0.0, "patience": 9}
    history = Training(made, ROWS, Rows(X + 5, None), **settings).run()
    average, averages = torch.zeros(2).double(), []
    for i, at in enumerate(steps, start=1):
        decay = min(0.75, (1 + i) / (10 + i))
        average = decay * average + (1 - decay) * at
        averages.append(average)
    torch.testing.assert_close(torch.stack(seen[1:]), torch.stack(averages))
    torch.testing.assert_close(module.at.detach(), averages[history.best_epoch])


# A warm-up.


def warm_run(
    warm_up: int, held_out: Any, script: Any, **settings: Any
) -> tuple[Any, ...]:
    """Warmths of the steps of a run, and its history, held-out losses of a script."""
    warmths, script = [], iter(script)
    module = Point()

    def loss(module: Any, batch: Any, annealing: Any) -> Any:
        terms = distance(module, batch)
        if torch.is_grad_enabled():
            warmths.append(annealing)
            return terms
        assert annealing == 1
        return Terms(torch.full((len(batch.x),), next(script)), batch.x[:, 0])

    made = trainer(module, loss, batch_size=5, warm_up=warm_up)
    settings = {"max_iter": 10, "tol": 1e-4, "patience": 2, **settings}
    return warmths, Training(made, ROWS, held_out, **settings).run()


def test_warmth_rises_evenly_to_one() -> None:
    warmths, _ = warm_run(2, None, [], max_iter=3)
    assert warmths == [0.25, 0.5, 0.75, 1, 1, 1]
    warmths, _ = warm_run(0, None, [], max_iter=1)
    assert warmths == [1, 1]


def test_patience_waits_for_the_end_of_the_warm_up() -> None:
    script = [9.0, 1.0, *[2.0] * 9]
    _, history = warm_run(0, ROWS, script)
    assert (history.n_iter, history.best_epoch) == (3, 0)
    _, history = warm_run(5, ROWS, script)
    assert (history.n_iter, history.best_epoch) == (4 + 1 + 2, 0)


def test_training_losses_of_a_warm_up_do_not_compete() -> None:
    module, losses = Point(), iter([*[0.0] * 8, *[5.0, 4.0, 4.5, 4.2] * 2])

    def loss(module: Any, batch: Any, annealing: Any) -> Any:
        value = distance(module, batch).loss
        return Terms(value - value.detach() + next(losses), batch.x[:, 0])

    made = trainer(module, loss, batch_size=5, warm_up=4)
    history = Training(made, ROWS, None, max_iter=8, tol=0.0, patience=9).run()
    # Two batches an epoch; the warm-up's last epoch, the fourth, has the full loss.
    assert history.curves["loss"] == [0, 0, 0, 0, 4.5, 4.35, 4.5, 4.35]
    assert history.best_epoch == 3
