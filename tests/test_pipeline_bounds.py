"""The bound and the posterior of a pipeline's last step, in the units of the data."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.preprocessing import MinMaxScaler, PowerTransformer, StandardScaler

from skgen import (
    IWAE,
    VAE,
    VQVAE,
    BetaVAE,
    GaussianDensity,
    make_generative_pipeline,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "max_iter": 3,
    "n_importance_samples": 8,
    "random_state": 0,
}
TRAIN, TEST = np.split(np.random.RandomState(0).lognormal(size=(240, 4)) - 0.7, [200])
models = pytest.mark.parametrize(
    "last",
    [VAE(2, **SMALL), BetaVAE(2, **SMALL), IWAE((3, 2), **SMALL)],
    ids=lambda model: type(model).__name__,
)


def pipeline(last: Any) -> Any:
    return make_generative_pipeline(PowerTransformer(), StandardScaler(), clone(last))


def by_hand(model: Any, X: NDArray[Any]) -> tuple[Any, ...]:
    """Rows behind Yeo-Johnson and two scalers, and log |det| of the map."""
    power, scale, _ = (step for _, step in model.steps)
    lambdas, sizes = power.lambdas_, np.abs(X)
    slopes = np.where(
        X >= 0, (1 + sizes) ** (lambdas - 1), (1 + sizes) ** (1 - lambdas)
    )
    scales = power._scaler.scale_ * scale.scale_
    return scale.transform(power.transform(X)), np.log(slopes / scales).sum(axis=1)


@models
def test_the_bound_changes_its_units_and_the_kl_does_not(last: Any) -> None:
    model = pipeline(last).fit(TRAIN)
    rows, log_det = by_hand(model, TEST)
    here, there = model.elbo(TEST), model[-1].elbo(rows)
    expected = there.reconstruction + log_det
    assert_allclose(here.reconstruction, expected, rtol=0, atol=1e-8)
    assert_array_equal(here.kl, there.kl)
    careful, alone = model.log_likelihood(TEST, 50), model[-1].log_likelihood(rows, 50)
    assert_allclose(careful.log_prob, alone.log_prob + log_det, rtol=0, atol=1e-8)
    assert_array_equal(careful.standard_error, alone.standard_error)
    # Reconstruction minus KL is a bound on what is estimated.
    assert (here.reconstruction - here.kl).mean() < careful.mean_log_prob


@models
def test_the_bound_is_that_of_rows_in_other_units(last: Any) -> None:
    # y = 3 x: the same model, and log 3 a column less.
    scaled = make_generative_pipeline(StandardScaler(), clone(last)).fit(3 * TRAIN)
    plain = make_generative_pipeline(StandardScaler(), clone(last)).fit(TRAIN)
    difference = plain.elbo(TEST).reconstruction - scaled.elbo(3 * TEST).reconstruction
    assert_allclose(difference, 4 * np.log(3), atol=1e-4)
    assert plain.elbo(TEST.astype(np.float32)).kl.dtype == np.float32


@models
def test_a_posterior_is_that_of_the_rows_behind_the_steps(last: Any) -> None:
    model = pipeline(last).fit(TRAIN)
    rows, _ = by_hand(model, TEST)
    here, there = model.posterior(TEST), model[-1].posterior(rows)
    assert_array_equal(here.mean, there.mean)
    assert_array_equal(here.std, there.std)
    assert_array_equal(here.mean, model.transform(TEST))
    # A row that a step has no way back from has a code.
    clipped = make_generative_pipeline(MinMaxScaler(clip=True), clone(last)).fit(TRAIN)
    assert np.isfinite(clipped.posterior(1e3 * TEST).mean).all()


def test_rows_outside_have_no_bound() -> None:
    model = make_generative_pipeline(MinMaxScaler(clip=True), VAE(2, **SMALL))
    model.fit(TRAIN)
    rows = TRAIN[:4].copy()
    alone = model.elbo(rows[[0, 2, 3]])
    rows[1] = 1e3
    with pytest.warns(UserWarning, match="1 of 4 rows"):
        found = model.elbo(rows)
    assert np.isneginf(found.reconstruction[1])
    assert found.kl[1] == 0
    inside = [0, 2, 3]
    assert_allclose(found.reconstruction[inside], alone.reconstruction, rtol=1e-9)
    assert_allclose(found.kl[inside], alone.kl, rtol=1e-9)
    with pytest.warns(UserWarning, match="1 of 1 rows"):
        found = model.elbo(rows[1:2])
    assert_array_equal(found, [[-np.inf], [0.0]])


def test_a_bound_on_masses_has_no_units() -> None:
    X = (np.random.RandomState(0).rand(80, 4) < 0.5).astype(float)
    vae = VAE(2, likelihood="bernoulli", **SMALL)
    model = make_generative_pipeline(MinMaxScaler(), clone(vae)).fit(10 * X - 3)
    assert_array_equal(model.elbo(10 * X - 3), vae.fit(X).elbo(X))


@pytest.mark.parametrize(
    "last", [GaussianDensity(), VQVAE(4, n_tokens=2, **SMALL)], ids=str
)
def test_a_model_without_them_has_none_in_a_pipeline(last: Any) -> None:
    model = make_generative_pipeline(StandardScaler(), last)
    for name in ("elbo", "posterior"):
        assert not hasattr(model, name)
        with pytest.raises(AttributeError, match=name):
            getattr(model, name)
