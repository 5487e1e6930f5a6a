"""GAN: modes that are covered, conditions, the game's gradients, the contract."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits

import skgen
from skgen import GAN
from skgen._training.batches import Batch
from skgen.metrics import kernel_mmd
from skgen.models.gan import GAMES, KERNEL_WIDTHS
from skgen.objectives import AdversarialLoss

# Few epochs, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ANGLES = np.arange(8) * np.pi / 4
RING = 2 * np.c_[np.cos(ANGLES), np.sin(ANGLES)]
SMALL: dict[str, Any] = {"hidden_layer_sizes": (16,), "max_iter": 2, "random_state": 0}
X = np.random.RandomState(0).randn(80, 3) * [1, 10, 0.1] + [0, 5, 100]
Y = (X[:, 0] > 0).astype(int)
every_game = pytest.mark.parametrize("loss", GAMES)


def gan(n_components: Any = 2, **params: Any) -> Any:
    return GAN(n_components, **{**SMALL, **params})


def ring(n: int, seed: int = 0) -> Any:
    """Rows of eight modes, and the mode of each."""
    rng = np.random.RandomState(seed)
    mode = rng.randint(8, size=n)
    return RING[mode] + 0.15 * rng.randn(n, 2), mode


@pytest.fixture(scope="module")
def by_class() -> Any:
    rows, mode = ring(800)
    model = gan(
        condition="auto",
        hidden_layer_sizes=(32,),
        max_iter=20,
        batch_size=100,
        learning_rate_init=5e-3,
        weight_averaging=0.98,
    )
    return model.fit(rows, np.array(list("abcdefgh"))[mode])


# What is drawn.


def test_all_modes_of_a_ring_are_covered() -> None:
    rows, _ = ring(1200)
    model = gan(
        hidden_layer_sizes=(48, 48),
        max_iter=25,
        batch_size=100,
        learning_rate_init=2e-3,
        weight_averaging=0.98,
    ).fit(rows)
    drawn = model.sample(800, random_state=0)
    distance = np.linalg.norm(drawn[:, None] - RING, axis=2)
    near = distance.min(1) < 0.45
    counts = np.bincount(distance.argmin(1)[near], minlength=8)
    assert (counts >= 20).all()
    # The discrepancy of samples: 1 is far from all rows, and 0 the same law.
    assert min(model.validation_curve_) < 0.8


@pytest.mark.parametrize("n_components", [1, 3, 5])
def test_the_game_starts_at_the_moments_of_the_rows(n_components: int) -> None:
    rows = np.random.RandomState(0).randn(500, 3) @ np.tril(np.ones((3, 3))) + 7
    for standardize in (True, False):
        still: Any = {"learning_rate_init": 1e-12, "early_stopping": False}
        model = gan(n_components, standardize=standardize, **still).fit(rows)
        networks = model.module_
        unit = (rows - rows.mean(0)) / (rows.std(0) if standardize else 1)
        values, axes = np.linalg.eigh(np.cov(unit.T, bias=True))
        k = min(n_components, 3)
        expected = (axes[:, -k:] * values[-k:]) @ axes[:, -k:].T
        loadings = networks.generator.linear.detach().numpy()
        assert_allclose(loadings @ loadings.T, expected, atol=1e-4)
        drawn = model.sample(4000, random_state=0)
        assert_allclose(drawn.mean(0), rows.mean(0), atol=0.4 * rows.std())


def test_conditional_samples_are_of_their_class(by_class: Any) -> None:
    asked = np.repeat(list("abcdefgh"), 25)
    drawn = by_class.sample(len(asked), y=asked, random_state=0)
    nearest = np.linalg.norm(drawn[:, None] - RING, axis=2).argmin(1)
    assert (nearest == np.repeat(range(8), 25)).mean() > 0.9
    codes = np.random.RandomState(0).randn(50, 2)
    made = by_class.inverse_transform(codes, "c")
    assert np.linalg.norm(made - RING[2], axis=1).mean() < 1
    held = by_class.conditioned_on("c")
    assert_array_equal(held.inverse_transform(codes), made)
    assert_array_equal(
        held.sample(9, random_state=1), by_class.sample(9, y="c", random_state=1)
    )
    assert len(by_class.sample(7)) == 7
    with pytest.raises(ValueError, match="Pass y"):
        by_class.inverse_transform(codes)


def test_numbers_are_conditions() -> None:
    model = gan(condition="numbers").fit(X, X[:, :2])
    assert model.sample(4, y=X[:4, :2]).shape == (4, 3)
    with pytest.raises(ValueError, match=r"needs y|Pass y"):
        model.sample(4)


@every_game
def test_images_are_drawn(loss: Any) -> None:
    images, digit = load_digits(return_X_y=True)
    model = gan(
        loss=loss,
        architecture="conv",
        image_shape=(8, 8),
        channels=4,
        condition="auto",
        max_iter=1,
    ).fit(images[:100], digit[:100])
    assert model.sample(3, y=[0, 1, 2]).shape == (3, 64)
    with pytest.raises(ValueError, match="image_shape"):
        clone(model).set_params(image_shape=(8, 9)).fit(images[:50], digit[:50])


# What is learned.


def module_and_batch(loss: Any, **params: Any) -> Any:
    model = gan(loss=loss, **params).fit(X, Y)
    module, generator = model.module_, torch.Generator().manual_seed(0)
    x = torch.randn(6, 3, generator=generator)
    context = torch.zeros(6, 1) if params else None
    return module, Batch(x, module.standard_noise((1, 6), generator), None, context)


@every_game
@pytest.mark.parametrize("params", [{}, {"condition": "auto"}], ids=["plain", "given"])
def test_each_network_follows_its_own_loss(loss: Any, params: Any) -> None:
    module, batch = module_and_batch(loss, **params)
    networks = {"generator": module.generator, "critic": module.critic}
    module.zero_grad()
    terms = AdversarialLoss(loss, 0.5)(module, batch)
    terms.loss.mean().backward()
    found = {
        name: [p.grad.clone() for p in network.parameters()]
        for name, network in networks.items()
    }
    own: dict[str, Any] = {
        "generator": AdversarialLoss(loss, 0.0)(module, batch).generator,
        "critic": (lambda t: t.critic + t.penalty)(
            AdversarialLoss(loss, 0.5)(module, batch)
        ),
    }
    for name, network in networks.items():
        expected = torch.autograd.grad(own[name].mean(), [*network.parameters()])
        for one, other in zip(found[name], expected):
            assert_allclose(one, other, atol=1e-7)


def test_losses_are_those_of_the_papers() -> None:
    real, fake = torch.tensor([0.3, -1.0]), torch.tensor([2.0, 0.5])
    critic, generator = AdversarialLoss("wasserstein", 1.0).losses(real, fake, fake)
    assert_allclose(critic, fake - real)
    assert_allclose(generator, -fake)
    critic, generator = AdversarialLoss("non-saturating", 1.0).losses(real, fake, fake)
    p, q = torch.sigmoid(real), torch.sigmoid(fake)
    assert_allclose(critic, -(p.log() + (1 - q).log()), rtol=1e-6)
    assert_allclose(generator, -q.log(), rtol=1e-6)


def test_penalties_are_those_of_the_slope() -> None:
    class Plane:
        """A critic of slope (3, 4)."""

        def judged(self, x: Any, batch: Any) -> Any:
            return x @ torch.tensor([3.0, 4.0])

        def mixed(self, batch: Any, x: Any) -> Any:
            return 0.5 * (batch.x + x)

    plane: Any = Plane()
    x, fake = torch.randn(5, 2, requires_grad=True), torch.randn(5, 2)
    batch = Batch(x.detach())
    for loss, expected in (("non-saturating", 0.1 * 25), ("wasserstein", 0.2 * 16)):
        found = AdversarialLoss(loss, 0.2).penalty(
            plane, batch, x, plane.judged(x, batch), fake
        )
        assert_allclose(found.detach(), np.full(5, expected), rtol=1e-6)


def test_what_is_watched_is_the_mmd_of_the_metrics() -> None:
    module, batch = module_and_batch("wasserstein")
    fake = torch.randn(6, 3)
    gammas = [0.5 / (width * float(module.median)) ** 2 for width in KERNEL_WIDTHS]
    each = [kernel_mmd(batch.x.numpy(), fake.numpy(), gamma) for gamma in gammas]
    expected = np.mean(np.array(each) / module.similarity.numpy())
    found = module.discrepancies(batch, fake, quick=False)
    assert_allclose(found.mean(), expected, rtol=1e-4, atol=1e-5)
    # A row of weight 2 is a row given twice, but for pairs of a row with itself.
    weight = torch.tensor([2.0, 1, 1, 1, 1, 0])
    weighted = module.discrepancies(batch._replace(weight=weight), fake, quick=False)
    assert weighted.isfinite().all()
    x, y = torch.randn(200, 3), torch.randn(200, 3) + 1
    exact = module.discrepancies(Batch(x), y, quick=False).mean()
    orders = [torch.randperm(200) for _ in range(200)]
    quick = [module.discrepancies(Batch(x[o]), y[o], quick=True).mean() for o in orders]
    assert abs(torch.stack(quick).mean() - exact) < 0.1 * exact


# The contract.


@pytest.mark.parametrize("name", ["score", "score_samples", "log_likelihood"])
def test_what_an_implicit_model_lacks_names_the_metrics(name: Any) -> None:
    for owner in (GAN, GAN(), gan().fit(X)):
        assert not hasattr(owner, name)
    with pytest.raises(AttributeError, match=rf"GAN has no {name}: .*two_sample_test"):
        getattr(GAN(), name)


@pytest.mark.parametrize("name", ["transform", "fit_transform", "reconstruct"])
def test_there_are_no_codes_of_rows(name: Any) -> None:
    with pytest.raises(AttributeError, match=rf"GAN has no {name}: .*VAE"):
        getattr(GAN(), name)


@every_game
def test_one_seed_gives_one_model(loss: Any) -> None:
    model, other = (gan(loss=loss).fit(X) for _ in range(2))
    assert_array_equal(model.sample(5, random_state=0), other.sample(5, random_state=0))
    assert not np.array_equal(model.sample(5), model.sample(5))
    assert {*model.loss_terms_} == {"loss", "critic", "generator", "penalty", "mmd"}
    assert len(model.validation_curve_) == model.n_iter_ == 2
    assert_allclose(
        model.loss_curve_,
        sum(np.array(model.loss_terms_[k]) for k in ("critic", "generator", "penalty")),
        rtol=1e-5,
    )


def test_units_are_those_of_the_rows() -> None:
    model = gan().fit(X)
    scaled = gan().fit(1024 * X)
    drawn = model.sample(6, random_state=0)
    assert_allclose(scaled.sample(6, random_state=0), 1024 * drawn, rtol=1e-5)
    codes = np.zeros((1, 2), np.float32)
    assert model.inverse_transform(codes).dtype == np.float32
    assert gan().fit(X.astype(np.float32)).sample(2).dtype == np.float32


def test_samples_come_in_the_container_that_is_asked_for() -> None:
    frame = pd.DataFrame(X, columns=list("abc"))
    model = gan().fit(frame)
    assert isinstance(model.sample(2), np.ndarray)
    assert model.set_output(transform="pandas").set_output() is model
    for found in (model.sample(2), model.inverse_transform(np.zeros((2, 2)))):
        assert list(found.columns) == list("abc")
    assert isinstance(clone(model).fit(frame).sample(2), pd.DataFrame)
    assert isinstance(model.set_output(transform="default").sample(2), np.ndarray)


def test_rows_of_weight_zero_do_not_count() -> None:
    weight = np.r_[np.ones(60), np.zeros(20)]
    model = gan().fit(X, sample_weight=weight)
    other = gan().fit(X[:60], sample_weight=weight[:60])
    assert_array_equal(model.sample(4, random_state=0), other.sample(4, random_state=0))


def test_partial_fits_and_warm_starts_go_on() -> None:
    model = gan().partial_fit(X).partial_fit(X)
    assert model.n_iter_ == 2
    model = gan(warm_start=True).fit(X).fit(X)
    assert model.n_iter_ == 4


@pytest.mark.parametrize("fixture", [None, "by_class"])
def test_files_and_pickles_keep_it(
    fixture: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = request.getfixturevalue(fixture) if fixture else gan().partial_fit(X)
    skgen.save(model, tmp_path / "gan.safetensors")
    for found in (
        skgen.load(tmp_path / "gan.safetensors"),
        pickle.loads(pickle.dumps(model)),
    ):
        assert_array_equal(
            found.sample(3, random_state=0), model.sample(3, random_state=0)
        )
    if not fixture:
        assert_array_equal(
            found.partial_fit(X).sample(3, random_state=0),
            model.partial_fit(X).sample(3, random_state=0),
        )


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"loss": "hinge"}, "'loss' parameter of GAN"),
        ({"gradient_penalty": -1.0}, "'gradient_penalty' parameter of GAN"),
        ({"n_components": 0}, "'n_components' parameter of GAN"),
        ({"architecture": "conv"}, "image_shape"),
        ({"condition": "auto"}, "leave condition=None"),
    ],
)
def test_bad_parameters_are_named(params: Any, words: Any) -> None:
    with pytest.raises(ValueError, match=words):
        gan(**params).fit(X)


def test_labels_may_not_be_missing() -> None:
    with pytest.raises(ValueError, match=r"missing labels.*GAN learns"):
        gan(condition="auto").fit(X, np.where(Y, 1, -1))
