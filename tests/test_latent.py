"""Ways through a latent code: ends, norms, centres and directions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from skgen import (
    VAE,
    VQVAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
    make_generative_pipeline,
)
from skgen.latent import (
    PATHS,
    attribute_vector,
    code_variances,
    interpolate,
    latent_order,
    manifold,
    traverse,
)
from skgen.metrics import active_units

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FRAME = load_wine(as_frame=True).data
X = FRAME.to_numpy()


@pytest.fixture(scope="module")
def vae() -> Any:
    return VAE(4, hidden_layer_sizes=(16,), max_iter=30, random_state=0).fit(X)


@pytest.fixture(scope="module")
def continuous(vae: Any) -> list[Any]:
    pipeline = make_generative_pipeline(StandardScaler(), GaussianDensity(3))
    return [
        vae,
        VAE((3, 2), hidden_layer_sizes=(8,), max_iter=2, random_state=0).fit(X),
        GaussianDensity().fit(X),
        GaussianDensity(2, covariance_type="diag").fit(X),
        pipeline.fit(X),
    ]


@pytest.mark.parametrize("path", PATHS)
def test_an_interpolation_ends_at_the_reconstructions(
    continuous: list[Any], path: str
) -> None:
    for model in continuous:
        rows = interpolate(model, X[3], X[70], n_steps=6, path=path)
        assert rows.shape == (6, X.shape[1])
        ends = model.reconstruct(X[[3, 70]])
        np.testing.assert_allclose(rows[[0, -1]], ends, rtol=1e-9, atol=1e-9)


def test_a_straight_path_of_a_gaussian_is_straight() -> None:
    model = GaussianDensity(reg_covar=0).fit(X)
    rows = interpolate(model, X[0], X[1], n_steps=5)
    np.testing.assert_allclose(rows, np.linspace(X[0], X[1], 5), rtol=1e-9)


def test_an_arc_keeps_the_norm_and_its_steps_are_equal() -> None:
    a, b = check_random_state(0).randn(2, 7)
    b *= np.linalg.norm(a) / np.linalg.norm(b)
    arc = PATHS["spherical"](a, b, np.linspace(0, 1, 9)[:, None])
    np.testing.assert_allclose(np.linalg.norm(arc, axis=1), np.linalg.norm(a))
    steps = np.linalg.norm(np.diff(arc, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0])
    straight = PATHS["straight"](a, b, np.full((1, 1), 0.5))
    assert np.linalg.norm(straight) < 0.9 * np.linalg.norm(a)


def test_an_arc_between_parallel_codes_is_the_line() -> None:
    a, t = np.array([1.0, 2.0]), np.linspace(0, 1, 5)[:, None]
    arc = PATHS["spherical"](a, 3 * a, t)
    np.testing.assert_allclose(arc, PATHS["straight"](a, 3 * a, t))


@pytest.mark.parametrize("b", [[-2.0, 0.0], [0.0, 0.0]])
def test_there_is_no_arc_between_opposite_codes_and_from_zero(b: list[Any]) -> None:
    with pytest.raises(ValueError, match="path='straight'"):
        PATHS["spherical"](np.array([1.0, 0.0]), np.array(b), np.zeros((1, 1)))


def test_rows_of_a_frame_are_rows(vae: Any) -> None:
    named = VAE(2, hidden_layer_sizes=(8,), max_iter=2, random_state=0).fit(FRAME)
    expected = interpolate(named, FRAME.iloc[[0]], FRAME.iloc[[1]])
    rows = interpolate(named, FRAME.iloc[0], FRAME.iloc[1])
    np.testing.assert_array_equal(rows, expected)
    listed = interpolate(vae, X[0].tolist(), X[:1])
    np.testing.assert_allclose(listed[0], listed[-1])


def test_codes_keep_their_dtype(vae: Any) -> None:
    x = X.astype(np.float32)
    assert interpolate(vae, x[0], x[1]).dtype == np.float32


def test_a_traversal_moves_one_coordinate(continuous: list[Any]) -> None:
    for model in continuous:
        k = len(code_variances(model))
        steps = traverse(model, n_steps=5, span=2.0)
        np.testing.assert_array_equal(steps.values, [-2, -1, 0, 1, 2])
        np.testing.assert_array_equal(steps.latents, latent_order(model))
        code = np.zeros((1, k))
        for rows in steps.rows:  # in the middle all are the centre
            np.testing.assert_allclose(rows[2], model.inverse_transform(code)[0])
        code[0, steps.latents[-1]] = 2.0
        last = model.inverse_transform(code)[0]
        np.testing.assert_allclose(steps.rows[-1, -1], last)


def test_a_traversal_of_a_row_keeps_its_other_coordinates(vae: Any) -> None:
    code = vae.transform(X[5:6])
    rows = traverse(vae, [2], row=X[5], n_steps=3, span=1.0).rows[0]
    for value, row in zip([-1.0, 0.0, 1.0], rows):
        code[0, 2] = value
        np.testing.assert_allclose(row, vae.inverse_transform(code)[0])


def test_a_manifold_is_a_grid_of_quantiles(vae: Any) -> None:
    grid = manifold(vae, [3, 1], n_steps=4)
    np.testing.assert_allclose(grid.values, [-1.1503, -0.3186, 0.3186, 1.1503], 1e-3)
    code = np.zeros((1, 4))
    code[0, 3], code[0, 1] = grid.values[0], grid.values[2]
    expected = vae.inverse_transform(code)[0]
    np.testing.assert_allclose(grid.rows[2, 0], expected)
    np.testing.assert_array_equal(manifold(vae).latents, latent_order(vae)[:2])


def test_the_attribute_of_a_shifted_gaussian_is_its_shift() -> None:
    """In a code of standard scores, a shift of x is the shift over the scales."""
    rng = check_random_state(0)
    half, shift = rng.randn(200, 3) * [1, 5, 0.2], np.array([2.0, 0.0, -1.0])
    rows = np.vstack([half, half + shift])
    has = np.repeat(["without", "with it"], 200) == "with it"
    model = GaussianDensity(covariance_type="diag").fit(rows)
    vector = attribute_vector(model, rows, has)
    np.testing.assert_allclose(vector, shift / np.sqrt(model.covariance_), atol=1e-9)
    moved = model.inverse_transform(model.transform(half) + vector)
    np.testing.assert_allclose(moved, half + shift, atol=1e-9)
    np.testing.assert_allclose(attribute_vector(model, rows, ~has), -vector)


def test_an_attribute_has_two_values(vae: Any) -> None:
    with pytest.raises(ValueError, match=r"two distinct values.*Got 3"):
        attribute_vector(vae, X, load_wine().target)


def test_use_is_the_variance_of_the_codes() -> None:
    """Over all training rows, with none held out; active units are counted alike."""
    model = VAE(4, hidden_layer_sizes=(16,), early_stopping=False, max_iter=30)
    codes = model.set_params(random_state=0).fit(X).transform(X)
    np.testing.assert_allclose(code_variances(model), codes.var(0), rtol=1e-3)
    assert (code_variances(model) > 0.01).sum() == active_units(codes)
    assert np.all(np.diff(code_variances(model)[latent_order(model)]) <= 0)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("n_components", [None, 3])
def test_use_of_a_gaussian_is_the_variance_of_its_codes(
    kind: Any, n_components: int | None
) -> None:
    model = GaussianDensity(n_components, covariance_type=kind, reg_covar=1e-9)
    rows = check_random_state(0).randn(500, 5) * [1, 2, 3, 4, 5]
    codes = model.fit(rows).transform(rows)
    # A spherical covariance is that of no feature by itself.
    spread = codes.var(0) if kind != "spherical" else np.full(codes.shape[1], 1.0)
    if kind == "spherical" and n_components:
        spread *= 0
    np.testing.assert_allclose(code_variances(model), spread, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        GaussianMixtureEM(2, random_state=0),
        KMeansAutoencoder(2, random_state=0),
        VQVAE(4, n_tokens=2, hidden_layer_sizes=(4,), max_iter=1, random_state=0),
        make_generative_pipeline(StandardScaler(), GaussianMixtureEM(2)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_codes_that_are_not_continuous_are_refused(model: Any) -> None:
    model.fit(X)
    ways = [
        lambda: interpolate(model, X[0], X[1]),
        lambda: traverse(model),
        lambda: manifold(model),
        lambda: attribute_vector(model, X, X[:, 0] > 13),
    ]
    for way in ways:
        with pytest.raises(ValueError, match="no continuous latent code"):
            way()


@pytest.mark.parametrize(
    ("way", "message"),
    [
        (lambda m: interpolate(m, X[:2], X[0]), "Expected one row"),
        (lambda m: interpolate(m, X[0], X[1], path="curved"), "'path' parameter"),
        (lambda m: interpolate(m, X[0], X[1], 1), "n_steps == 1"),
        (lambda m: traverse(m, [4]), r"in the range \[0, 3\]"),
        (lambda m: traverse(m, span=0), "span == 0"),
        (lambda m: manifold(m, [1, 1]), "two distinct ints"),
        (lambda m: manifold(m, [1]), "two distinct ints"),
    ],
)
def test_bad_parameters_are_named(
    vae: Any, way: Callable[..., Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        way(vae)


def test_a_plane_needs_two_coordinates() -> None:
    with pytest.raises(ValueError, match="n_components=2 or more"):
        manifold(GaussianDensity(1).fit(X))
