"""VAEs whose p(z) is learned: everything that reads a prior reads this one."""

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import skgen
from skgen import IWAE, VAE, BetaVAE, ConditionalVAE, GaussianDensity, MixedDensity
from skgen._networks.flows import code_flow
from skgen.model_selection import BatchedGridSearchCV
from skgen.priors import FlowPrior, MixturePrior

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.RandomState(0)
X = RNG.randn(200, 2) @ RNG.randn(2, 4) * 2 + 0.5 * RNG.randn(200, 4)
SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "max_iter": 3,
    "n_importance_samples": 8,
    "prior_components": 3,
    "random_state": 0,
}
LINEAR: dict[str, Any] = {
    "hidden_layer_sizes": (),
    "learning_rate_init": 3e-2,
    "learning_rate": "cosine",
    "max_iter": 60,
    "batch_size": 100,
    "early_stopping": False,
    "random_state": 0,
}
learned = pytest.mark.parametrize("prior", ["mixture", "vamp", "flow"])
of_modes = pytest.mark.parametrize("prior", ["mixture", "vamp"])


@of_modes
def test_one_component_is_a_normal_prior(prior: Any) -> None:
    # Codes may be shifted and scaled: linear networks lose nothing by it.
    settings: dict[str, Any] = {**LINEAR, "max_iter": 250, "n_iter_no_change": 250}
    expected = VAE(2, **settings).fit(X)
    model = VAE(2, prior=prior, prior_components=1, **settings).fit(X)
    exact = GaussianDensity(2).fit(X).score(X)  # with one sigma for all features
    assert abs(expected.score(X) - exact) < 0.1
    assert abs(model.score(X) - expected.score(X)) < 0.05


@of_modes
@pytest.mark.parametrize("cls", [VAE, BetaVAE, IWAE])
def test_a_prior_learns_and_is_scored_by(cls: Any, prior: Any) -> None:
    model = cls(2, prior=prior, **SMALL).fit(X)
    module = model.module_
    before = model.score_samples(X)
    other = copy.deepcopy(model)
    other.module_.prior.logits.data += torch.tensor([3.0, 0, 0])
    assert np.abs(other.score_samples(X) - before).max() > 1e-3
    assert not np.array_equal(
        other.sample(9, random_state=0), model.sample(9, random_state=0)
    )
    assert module.prior.logits.detach().abs().max() > 0  # it was trained
    assert np.isfinite(model.log_likelihood(X[:5], 100).log_prob).all()


# A row in the tail of a flow has few draws that count.
@pytest.mark.filterwarnings("ignore::skgen.exceptions.DegenerateWeightsWarning")
@learned
def test_scores_are_bounds_on_what_samples_come_from(prior: Any) -> None:
    model = VAE(1, prior=prior, **{**SMALL, "n_importance_samples": 200}).fit(X)
    drawn = model.sample(2000, random_state=0)
    careful = model.log_likelihood(drawn[:300], 2000)
    assert careful.mean_log_prob > GaussianDensity().fit(X).score(drawn[:300]) - 1
    assert model.score(drawn[:300]) < careful.mean_log_prob + 0.05


@learned
def test_copies_files_and_pickles_have_it(prior: Any, tmp_path: Path) -> None:
    model = VAE(2, prior=prior, **SMALL).fit(X)
    skgen.save(model, tmp_path / "model.safetensors")
    for same in (
        skgen.load(tmp_path / "model.safetensors"),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
    ):
        assert_array_equal(same.score_samples(X), model.score_samples(X))
        assert_array_equal(same.partial_fit(X).loss_curve_[:3], model.loss_curve_)


def encoder(n_inputs: Any, n_outputs: Any) -> Any:
    return torch.nn.Linear(n_inputs, n_outputs)


def test_a_network_of_ones_own_encodes_pseudo_inputs(tmp_path: Path) -> None:
    model = VAE(2, prior="vamp", encoder=encoder, **SMALL).fit(X)
    skgen.save(model, tmp_path / "model.safetensors")
    same = skgen.load(tmp_path / "model.safetensors", encoder=encoder)
    assert_array_equal(same.score_samples(X), model.score_samples(X))


def test_more_modes_gain_where_codes_have_clusters() -> None:
    rows = np.concatenate([X[:100], X[100:] + 15])
    settings: dict[str, Any] = {**LINEAR, "hidden_layer_sizes": ()}
    scores = [
        VAE(1, prior=prior, prior_components=2, **settings).fit(rows).score(rows)
        for prior in ("normal", "mixture", "vamp", "flow")
    ]
    assert min(scores[1:]) > scores[0] + 0.1


@learned
def test_missing_cells_are_integrated_out(prior: Any) -> None:
    rows = X.copy()
    rows[::3, 1] = np.nan
    model = MixedDensity(VAE(2, prior=prior, **SMALL)).fit(rows)
    assert np.isfinite(model.score_samples(rows)).all()
    assert np.isfinite(model.impute(rows)).all()


@pytest.mark.parametrize(("k", "n"), [(1, 14_001), (2, 561)])
def test_the_density_of_a_flow_is_that_of_its_draws(k: int, n: int) -> None:
    torch.manual_seed(0)
    prior = FlowPrior(k, code_flow("VAE", k)).double().requires_grad_(False)
    for weight in prior.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    ticks = torch.linspace(-7, 7, n).double()
    cells = torch.cartesian_prod(*[ticks] * k).view(-1, k)
    mass = prior.log_prob(cells).exp().sum() * (14 / (n - 1)) ** k
    assert mass == pytest.approx(1, abs=2e-3)
    noise = torch.randn(5, 3, k).double()
    codes = prior.draw_layers(noise)
    back = prior.transform(None)(codes)
    torch.testing.assert_close(back, noise, rtol=1e-5, atol=1e-5)


def test_a_flow_without_its_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError, match=r"VAE\(prior='flow'\) needs zuko.*\[flow\]"):
        VAE(2, prior="flow", **SMALL).fit(X)


def test_layers_have_a_mixture_above() -> None:
    model = VAE((3, 2), prior="mixture", **SMALL).fit(X)
    assert isinstance(model.module_.prior.prior, MixturePrior)
    assert np.isfinite(model.score(X))
    with pytest.raises(ValueError, match=r"'prior' .* stochastic layers"):
        VAE((3, 2), prior="vamp", **SMALL).fit(X)


def test_a_conditional_vae_has_the_normal_prior() -> None:
    with pytest.raises(ValueError, match="'prior' parameter of ConditionalVAE"):
        ConditionalVAE(2, prior="vamp", max_iter=1).fit(X, X[:, 0] > 0)  # type: ignore[arg-type]


@learned
def test_a_batched_search_trains_it_alone(prior: Any) -> None:
    model = VAE(2, prior=prior, **SMALL)
    search = BatchedGridSearchCV(model, {"prior": ["normal", prior]}, cv=2).fit(X)
    alone = VAE(2, **{**SMALL, **search.best_params_}).fit(X)
    assert_allclose(search.best_estimator_.score(X), alone.score(X), rtol=1e-5)


def test_pseudo_inputs_start_at_training_rows() -> None:
    model = VAE(2, prior="vamp", **{**SMALL, "max_iter": 1, "learning_rate_init": 1e-9})
    module = model.fit(X).module_
    rows = module.standardizer(torch.from_numpy(X).float())
    distances = torch.cdist(module.prior.inputs.detach(), rows)
    assert distances.min(1).values.max() < 1e-4
