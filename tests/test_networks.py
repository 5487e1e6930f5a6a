"""Networks of the user's, and the scale of rows."""

import math
import pickle
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import Tensor, nn

from skgen import VAE, VQVAE
from skgen._networks.dense import ACTIVATIONS, Standardizer, mlp
from skgen._training.data import StoredRows
from skgen._utils.tensors import forked_rng
from tests.toys import normal

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few epochs, on purpose.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

D, K = 4, 2
X = normal(60, D, seed=1).numpy() @ normal(D, D, seed=2).numpy()
SMALL: dict[str, Any] = {"max_iter": 3, "n_importance_samples": 4, "random_state": 0}


class Residual(nn.Module):
    """A network with a branch, and a buffer."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.skip = nn.Linear(n_inputs, n_outputs)
        self.rest = nn.Sequential(
            nn.Linear(n_inputs, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, n_outputs)
        )
        self.register_buffer("gain", torch.tensor(0.5))

    def forward(self, x: Tensor) -> Any:
        return self.skip(x) + self.gain * self.rest(x)


def build(cls: Any, *widths: Any) -> Any:
    """Make a module without drawing from the global generator."""
    with forked_rng(0):
        return cls(*widths)


def parameters_of(module: Any) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


# Multilayer perceptrons.


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hidden_layers_have_their_widths_and_activation(activation: str) -> None:
    network = build(mlp, 3, 5, (7, 6), activation)
    widths = [(m.in_features, m.out_features) for m in network[::2]]
    assert widths == [(3, 7), (7, 6), (6, 5)]
    assert {type(m) for m in network[1::2]} == {ACTIVATIONS[activation]}
    assert network(torch.zeros(2, 3)).shape == (2, 5)


def test_no_hidden_layers_are_a_linear_map() -> None:
    network = build(mlp, 3, 5, (), "relu")
    x = normal(1, 3, dtype=torch.float32)
    twice = network(2 * x) - network(0 * x)
    torch.testing.assert_close(twice, 2 * (network(x) - network(0 * x)))


def test_the_decoder_has_the_widths_in_reverse() -> None:
    model = VAE(K, hidden_layer_sizes=(9, 5), **SMALL).fit(X)
    encoder, decoder = model.module_.encoder, model.module_.decoder
    assert [m.out_features for m in encoder[::2]] == [9, 5, 2 * K]
    assert [m.out_features for m in decoder[::2]] == [5, 9, D]


# Networks of the user's.


def test_a_factory_is_given_the_widths() -> None:
    model = VAE(K, encoder=Residual, decoder=Residual, **SMALL).fit(X)
    assert isinstance(model.module_.encoder, Residual)
    assert model.module_.encoder.skip.weight.shape == (2 * K, D)
    assert model.module_.decoder.skip.weight.shape == (D, K)
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(model.score_samples(X.astype(np.float32))).all()


def test_a_factory_is_called_at_each_fit_and_seeded() -> None:
    model = VAE(K, encoder=Residual, **SMALL)
    first = parameters_of(model.fit(X).module_)
    assert first.equal(parameters_of(model.fit(X).module_))
    other = model.set_params(random_state=1).fit(X).module_
    assert not first.equal(parameters_of(other))


def test_a_vqvae_takes_networks_too() -> None:
    model = VQVAE(8, n_tokens=3, code_size=2, encoder=Residual, decoder=Residual)
    model.set_params(**SMALL).fit(X)
    assert model.module_.encoder.skip.weight.shape == (6, D)
    assert model.module_.decoder.skip.weight.shape == (D, 6)


def test_a_module_is_copied_and_its_weights_are_the_start() -> None:
    encoder, decoder = build(Residual, D, 2 * K), build(Residual, K, D)
    before = parameters_of(encoder), parameters_of(decoder)
    model = VAE(K, encoder=encoder, decoder=decoder, **SMALL)
    barely = clone(model).set_params(learning_rate_init=1e-12).fit(X).module_
    torch.testing.assert_close(parameters_of(barely.encoder), before[0])
    model.fit(X)
    assert model.encoder is encoder
    assert model.module_.encoder is not encoder
    assert not parameters_of(model.module_.encoder).equal(before[0])
    assert parameters_of(encoder).equal(before[0])
    assert parameters_of(decoder).equal(before[1])


def test_a_module_starts_afresh_at_each_fit() -> None:
    model = VAE(K, encoder=build(Residual, D, 2 * K), **SMALL)
    first = model.fit(X).score_samples(X)
    assert np.array_equal(model.fit(X).score_samples(X), first)
    assert np.array_equal(clone(model).fit(X).score_samples(X), first)


def test_models_with_modules_travel() -> None:
    model = VAE(K, encoder=build(Residual, D, 2 * K), decoder=Residual, **SMALL)
    unfitted = pickle.loads(pickle.dumps(model))
    fitted = pickle.loads(pickle.dumps(model.fit(X)))
    assert np.array_equal(fitted.score_samples(X), model.score_samples(X))
    assert np.array_equal(unfitted.fit(X).score_samples(X), model.score_samples(X))


def test_a_module_in_double_precision_is_trained_in_single() -> None:
    encoder = build(Residual, D, 2 * K).double()
    model = VAE(K, encoder=encoder, **SMALL).fit(X)
    assert {p.dtype for p in model.module_.parameters()} == {torch.float32}
    assert {p.dtype for p in encoder.parameters()} == {torch.float64}


def dropout(n_inputs: int, n_outputs: int) -> Any:
    return nn.Sequential(nn.Linear(n_inputs, n_outputs), nn.Dropout(0.5))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_dropout_is_seeded_and_acts_in_training_alone(method: str) -> None:
    # It draws from the global generator, which must not move, and need not stand.
    models = []
    for seed in (1, 2):
        with forked_rng(seed):
            models.append(getattr(VAE(K, encoder=dropout, **SMALL), method)(X))
    first, second = models
    assert not first.module_.training
    assert np.array_equal(first.score_samples(X), first.score_samples(X))
    assert np.array_equal(first.score_samples(X), second.score_samples(X))
    getattr(clone(first), method)(X)


class WrongDtype(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


class Pinned(nn.Linear):
    """Works in single precision only."""

    def forward(self, x: Tensor) -> Any:
        return nn.functional.linear(x, torch.zeros(self.out_features, x.shape[1]))


class Tuple(nn.Linear):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), None


def batch_norm(n_inputs: Any, n_outputs: Any) -> Any:
    return nn.Sequential(nn.Linear(n_inputs, n_outputs), nn.BatchNorm1d(n_outputs))


def crash(n_inputs: Any, n_outputs: Any) -> Any:
    return nn.Linear(n_inputs + 1, n_outputs)


def too_wide(n_inputs: Any, n_outputs: Any) -> Any:
    return nn.Linear(n_inputs, n_outputs + 1)


WRONG: dict[str, Any] = {
    "batch_norm": (batch_norm, "contains BatchNorm1d, .* Use LayerNorm"),
    "too_wide": (too_wide, "For two rows it gave"),
    "crash": (crash, "It failed with: .*shapes cannot be multiplied"),
    "wrong_dtype": (WrongDtype, r"in torch\.float64.* gave .*float32"),
    "pinned": (Pinned, r"in torch\.float64.* It failed with"),
    "tuple": (Tuple, "For two rows it gave"),
}


@pytest.mark.parametrize("name", ["encoder", "decoder"])
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_network_is_named(kind: str, name: str) -> None:
    factory, message = WRONG[kind]
    with pytest.raises(ValueError, match=f"given as '{name}'.*{message}"):
        VAE(K, **{name: factory}, **SMALL).fit(X)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_a_module_of_other_widths_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"given as '{name}' must map"):
        VAE(K, **{name: build(nn.Linear, 3, 3)}, **SMALL).fit(X)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_what_is_no_network_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' parameter of VAE must be"):
        VAE(K, **{name: cast(Any, "deep")}, **SMALL).fit(X)


def test_a_factory_that_makes_no_module_is_named() -> None:
    with pytest.raises(ValueError, match="given as 'encoder' must return a torch"):
        VAE(K, encoder=cast(Any, lambda n_inputs, n_outputs: None), **SMALL).fit(X)


# The scale of rows.


def standardizer_of(x: Tensor) -> Any:
    return Standardizer.of(x.mean(0), x.var(0, correction=0))


def test_standardised_rows_have_no_mean_and_unit_variance() -> None:
    x = normal(50, 3, seed=3) * torch.tensor([1e-3, 1.0, 1e6]) + 100
    z = standardizer_of(x)(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(3).double())


def test_rows_come_back() -> None:
    x = normal(50, 3, seed=3)
    standardizer = standardizer_of(x)
    torch.testing.assert_close(standardizer.inverse(standardizer(x)), x)
    expected = x.std(0, correction=0).log().sum()
    torch.testing.assert_close(standardizer.log_scale, expected)


@pytest.mark.parametrize("value", [0.0, 7.0, 1e12, 0.1])
def test_a_constant_column_keeps_its_unit(value: float) -> None:
    x = torch.cat([normal(50, 1), torch.full((50, 1), value)], dim=1)
    standardizer = standardizer_of(x)
    assert standardizer.scale[1] == 1
    assert standardizer(x)[:, 1].abs().max() <= 1e-15 * max(value, 1)


def test_a_small_spread_around_a_large_mean_is_no_constant() -> None:
    x = 1e6 + 1e-3 * normal(50, 1)
    assert standardizer_of(x).scale.item() == pytest.approx(1e-3, rel=0.3)


def test_the_identity_changes_nothing() -> None:
    x, standardizer = normal(5, 3), Standardizer.identity(3)
    assert standardizer(x).equal(x)
    assert standardizer.inverse(x).equal(x)
    assert standardizer.log_scale == 0


def test_rows_are_standardised_before_they_become_narrow() -> None:
    # In float32 these rows are 4 distinct numbers.
    x = 1e8 + torch.arange(32.0, dtype=torch.float64)[:, None]
    rows = standardizer_of(x).rows(StoredRows(x, None, x.device)).x
    assert rows.dtype == torch.float32
    assert len(rows.unique()) == 32


def test_a_large_offset_does_not_blur_a_fit() -> None:
    shifted = VAE(K, hidden_layer_sizes=(8,), **SMALL).fit(X + 2.0**30)
    plain = VAE(K, hidden_layer_sizes=(8,), **SMALL).fit(X)
    np.testing.assert_allclose(
        shifted.elbo(X + 2.0**30).kl, plain.elbo(X).kl, rtol=1e-4
    )
    assert math.isclose(shifted.score(X + 2.0**30), plain.score(X), abs_tol=0.5)


class Centring(nn.Module):
    """Rows less their mean: each sees the others."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Any:
        return self.linear(x - x.mean(0))


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (Centring(), "rows that do not see each other"),
        (nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 4)), "in place"),
    ],
)
def test_networks_that_mix_rows_or_overwrite_them_are_refused(
    encoder: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        VAE(2, encoder=encoder, random_state=0).fit(normal(20, 3).numpy())
