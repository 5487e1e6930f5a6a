"""Laws of the models of one image."""

from typing import Any, cast

import numpy as np
import pytest
import scipy.stats
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.base import clone

from skgen.textures import (
    DeepImagePrior,
    GaussianTexture,
    NonparametricTexture,
    PatchMatch,
    tile,
)
from skgen.textures.gaussian import periodic_component

ALL = [
    GaussianTexture(),
    NonparametricTexture(window=3),
    PatchMatch(patch_size=3, random_state=0),
    DeepImagePrior(width=4, depth=1, max_iter=10, random_state=0),
]
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def each(estimators: Any = ALL) -> Any:
    return pytest.mark.parametrize(
        "model", estimators, ids=lambda model: type(model).__name__
    )


def smooth_image(shape: tuple[Any, ...], seed: int = 0, sigma: float = 2) -> Any:
    """A smooth texture in [0, 1]."""
    noise = np.random.RandomState(seed).standard_normal(shape)
    image = gaussian_filter(noise, (sigma, sigma, 0)[: len(shape)], mode="wrap")
    return (image - image.min()) / (image.max() - image.min())


def autocovariance(image: NDArray[Any]) -> Any:
    """Cyclic autocovariances (h, w, c, c) of an image (h, w, c)."""
    centred = image - image.mean((0, 1))
    spectrum = np.fft.fft2(centred, axes=(0, 1))
    cross = spectrum[..., :, None] * spectrum[..., None, :].conj()
    n = image.shape[0] * image.shape[1]
    return np.fft.ifft2(cross, axes=(0, 1)).real / n


# All of them.


@each()
@quiet
def test_parameters_survive_a_clone_and_a_fit(model: Any) -> None:
    fitted = clone(model)
    assert fitted.fit(smooth_image((12, 12))) is fitted
    assert fitted.get_params() == model.get_params()


@each()
@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros(9), "one image, of shape"),
        (np.zeros((2, 9, 9, 3)), "one image, of shape"),
        (np.array([["a", "b"], ["c", "d"]]), "image of numbers"),
        (np.full((9, 9), np.inf), "finite pixels"),
    ],
)
def test_what_is_no_image_is_refused(
    model: Any, image: NDArray[Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        clone(model).fit(image)


@each(ALL[1:3])
def test_an_image_of_other_channels_is_refused(model: Any) -> None:
    model = clone(model).fit(smooth_image((12, 12, 3)))
    with pytest.raises(ValueError, match="3 channels"):
        model.fill(smooth_image((12, 12)))


@each(ALL[:2])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_samples_have_the_form_of_the_exemplar(
    model: Any, dtype: type[Any], channels: tuple[Any, ...]
) -> None:
    image = (255 * smooth_image((10, 12, *channels))).astype(dtype)
    drawn = clone(model).fit(image).sample((7, 15), random_state=0)
    assert drawn.shape == (7, 15, *channels)
    assert drawn.dtype == dtype


@each(ALL[:2])
def test_a_seed_gives_one_sample_and_seeds_differ(model: Any) -> None:
    model = clone(model).fit(smooth_image((12, 12)))
    first = model.sample((8, 8), random_state=0)
    np.testing.assert_array_equal(first, model.sample((8, 8), random_state=0))
    assert not np.array_equal(first, model.sample((8, 8), random_state=1))


@each(ALL[:2])
@pytest.mark.parametrize("shape", [3, (3,), (0, 3), (2.5, 3), "ab"])
def test_a_shape_that_is_none_is_refused(model: Any, shape: Any) -> None:
    model = clone(model).fit(smooth_image((12, 12)))
    with pytest.raises(ValueError, match="shape"):
        model.sample(shape)


@each(ALL[1:3])
def test_filling_keeps_the_known_pixels(model: Any) -> None:
    image = smooth_image((16, 16, 3)).astype(np.float32)
    image[5:9, 6:11] = np.nan
    filled = clone(model).fit(image).fill(image)
    assert np.isfinite(filled).all()
    known = ~np.isnan(image)
    np.testing.assert_array_equal(filled[known], image[known])


@each(ALL[1:3])
def test_a_mask_says_what_nan_says(model: Any) -> None:
    image = smooth_image((14, 14))
    mask = np.zeros(image.shape, dtype=bool)
    mask[4:8, 5:9] = True
    holes = np.where(mask, np.nan, image)
    options = {} if isinstance(model, PatchMatch) else {"random_state": 0}
    a = clone(model).fit(holes).fill(holes, **options)
    b = clone(model).fit(image, mask=mask).fill(image, mask, **options)
    np.testing.assert_array_equal(a, b)


# Gaussian textures.


@pytest.mark.parametrize("channels", [1, 2])
def test_score_is_the_density_of_the_circulant_gaussian(channels: int) -> None:
    shape = (3, 4, channels)
    image = smooth_image(shape, sigma=0.5)
    model = GaussianTexture(noise_level=0.3).fit(image)
    # Covariance between pixels (u, c) and (v, c'): the autocorrelation of the spot.
    spot, n = model.spot_, 12 * channels
    grid = [(i, j) for i in range(3) for j in range(4)]
    covariance = np.zeros((n, n))
    for a, (i, j) in enumerate(grid):
        for b, (k, m) in enumerate(grid):
            moved = np.roll(spot, (i - k, j - m), axis=(0, 1))
            block = np.einsum("ijc,ijd->cd", spot, moved)
            covariance[
                a * channels : (a + 1) * channels, b * channels : (b + 1) * channels
            ] = block
    covariance += model.noise_variance_ * np.eye(n)
    right = scipy.stats.multivariate_normal(np.tile(model.mean_, 12), covariance)
    for seed in range(3):
        other = smooth_image(shape, seed, sigma=0.5)
        expected = right.logpdf(other.ravel())
        assert model.score(other) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", ["spot_noise", "random_phase"])
def test_samples_keep_mean_and_autocovariance(method: Any) -> None:
    image = smooth_image((16, 20, 2))
    model = GaussianTexture(method=method, smooth_borders=False).fit(image)
    draws = [model.sample(random_state=seed) for seed in range(400)]
    np.testing.assert_allclose(
        np.mean([d.mean((0, 1)) for d in draws], 0), model.mean_, atol=1e-4
    )
    found, right = np.mean([autocovariance(d) for d in draws], 0), autocovariance(image)
    # Draws of 320 pixels that go together in patches of some tens.
    atol = 0.05 if method == "spot_noise" else 1e-8
    np.testing.assert_allclose(found, right, atol=atol * np.abs(right).max())


def test_random_phases_keep_the_moduli_of_every_frequency() -> None:
    image = smooth_image((9, 12))
    model = GaussianTexture(method="random_phase", smooth_borders=False).fit(image)
    moduli = [abs(np.fft.fft2(x)) for x in (image, model.sample(random_state=0))]
    np.testing.assert_allclose(*cast(tuple[Any, Any], moduli), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(48, 16), (16, 40), (64, 64), (8, 12)])
def test_other_sizes_have_the_mean_and_variance_of_the_exemplar(
    shape: tuple[Any, ...],
) -> None:
    image = smooth_image((16, 16), sigma=1)
    model = GaussianTexture(smooth_borders=False).fit(image)
    draws = np.stack([model.sample(shape, random_state=seed) for seed in range(300)])
    assert draws.mean() == pytest.approx(image.mean(), abs=0.05 * image.std())
    assert draws.var() == pytest.approx(image.var(), rel=0.05)


def test_a_sample_scores_as_its_density_expects() -> None:
    image = smooth_image((12, 12))
    model = GaussianTexture(noise_level=0.1).fit(image)
    scores = [model.score(model.sample(random_state=seed)) for seed in range(200)]
    h = np.abs(np.fft.fft2(model.spot_[..., 0])) ** 2 + model.noise_variance_
    entropy = 0.5 * (144 * (1 + np.log(2 * np.pi)) + np.log(h).sum())
    assert np.mean(scores) == pytest.approx(-entropy, abs=3)  # sd sqrt(72 / 200)


def test_a_periodic_image_is_its_periodic_component() -> None:
    angle = 2 * np.pi * np.arange(16) / 16
    wave = np.cos(angle)[:, None, None] + np.sin(2 * angle)[None, :, None]
    # The jump of a sampled wave is a step inside it: small, and smaller when finer.
    error = np.abs(periodic_component(wave) - wave).max()
    assert error < np.abs(np.diff(wave, axis=1)).max()
    ramp = np.linspace(0, 1, 32)[:, None, None] * np.ones((1, 8, 1))
    flat = periodic_component(ramp)
    assert abs(flat[0] - flat[-1]).max() < 0.1  # where the ramp jumps by 1


@pytest.mark.parametrize(
    ("options", "image", "words"),
    [
        ({"method": "random_phase"}, np.ones((8, 8)), "no density"),
        ({"noise_level": 0}, np.ones((8, 8)), "noise_level"),
        ({}, np.ones((7, 8)), "smaller than the exemplar"),
    ],
)
def test_a_score_that_cannot_be_says_why(
    options: dict[str, Any], image: NDArray[Any], words: str
) -> None:
    model = GaussianTexture(**options).fit(smooth_image((8, 8)))
    with pytest.raises(ValueError, match=words):
        model.score(image)


# Textures grown pixel by pixel.


@pytest.mark.parametrize("seed", range(3))
def test_a_periodic_exemplar_is_continued(seed: int) -> None:
    motif = np.random.RandomState(seed).randint(256, size=(4, 5))
    model = NonparametricTexture(window=9, tolerance=0).fit(np.tile(motif, (4, 4)))
    grown = model.sample((13, 17), random_state=seed)
    np.testing.assert_array_equal(grown[4:], grown[:-4])
    np.testing.assert_array_equal(grown[:, 5:], grown[:, :-5])


def test_a_hole_of_a_periodic_exemplar_is_given_back() -> None:
    image = np.tile(np.random.RandomState(0).rand(4, 5, 3), (8, 6, 1))
    holes = image.copy()
    holes[16:22, 12:19] = np.nan
    model = NonparametricTexture(window=9, tolerance=0).fit(holes)
    np.testing.assert_array_equal(model.fill(holes, random_state=0), image)


def test_colours_are_those_of_the_exemplar() -> None:
    image = np.random.RandomState(0).randint(1000, size=(12, 12))
    grown = NonparametricTexture(window=3).fit(image).sample((9, 9), random_state=0)
    assert np.isin(grown, image).all()


def test_an_even_window_is_refused() -> None:
    with pytest.raises(ValueError, match="odd"):
        NonparametricTexture(window=4).fit(smooth_image((12, 12)))


def test_an_image_without_a_known_window_is_refused() -> None:
    image = smooth_image((9, 9))
    image[::3, ::3] = np.nan
    with pytest.raises(ValueError, match="wholly known"):
        NonparametricTexture(window=5).fit(image)


def test_a_tiled_image_repeats() -> None:
    image = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(tile(image, (4, 6)), np.tile(image, (2, 2)))


# Nearest patches.


def exact_distances(image: NDArray[Any], exemplar: NDArray[Any], size: int) -> Any:
    A, B = (
        sliding_window_view(x, (size, size)).reshape(-1, size**2)
        for x in (image, exemplar)
    )
    squared = (A**2).sum(1)[:, None] + (B**2).sum(1) - 2 * A @ B.T
    return np.sqrt(squared.clip(min=0)).min(1)


def test_the_field_is_near_the_exact_one() -> None:
    image, exemplar = (smooth_image((40, 40), seed, sigma=1) for seed in (0, 1))
    _, distance = PatchMatch(patch_size=5, random_state=0).fit(exemplar).match(image)
    exact = exact_distances(image, exemplar, 5)
    assert (distance.ravel() > exact - 1e-5).all()
    assert distance.mean() < 1.05 * exact.mean()


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
def test_the_field_of_a_photograph_is_near_the_exact_one(name: str) -> None:
    data = pytest.importorskip("skimage.data")
    image = getattr(data, name)()[::3, ::3] / 255.0
    exemplar, other = image[:64, :64], image[-64:, -64:]
    _, distance = PatchMatch(random_state=0).fit(exemplar).match(other)
    exact = exact_distances(other, exemplar, 7)
    assert (distance.ravel() > exact - 1e-4).all()
    assert distance.mean() < 1.05 * exact.mean()


def test_distances_are_those_of_the_field() -> None:
    image, exemplar = smooth_image((12, 14, 3)), smooth_image((15, 11, 3), 1)
    field, distance = (
        PatchMatch(patch_size=4, random_state=0).fit(exemplar).match(image)
    )
    assert field.shape == (9, 11, 2)
    for i, j in [(0, 0), (8, 10), (3, 5)]:
        r, c = field[i, j]
        wanted = image[i : i + 4, j : j + 4] - exemplar[r : r + 4, c : c + 4]
        assert distance[i, j] == pytest.approx(np.sqrt((wanted**2).sum()), rel=1e-4)


def test_a_part_of_the_exemplar_is_found() -> None:
    exemplar = np.random.RandomState(0).rand(32, 32)
    model = PatchMatch(patch_size=5, n_iter=12, random_state=0).fit(exemplar)
    rebuilt = model.reconstruct(exemplar[4:24, 6:28])
    assert np.abs(rebuilt - exemplar[4:24, 6:28]).mean() < 0.02


def test_a_hole_of_a_regular_image_is_filled_with_its_pattern() -> None:
    wave = np.sin(2 * np.pi * np.arange(48) / 8)
    image = np.add.outer(wave, wave)
    holes = image.copy()
    holes[18:28, 20:30] = np.nan
    filled = PatchMatch(patch_size=5, random_state=0).fit(holes).fill(holes)
    error = np.sqrt(np.mean((filled - image)[18:28, 20:30] ** 2))
    assert error < 0.25 * image.std()


def test_patches_with_unknown_pixels_are_not_used() -> None:
    exemplar = smooth_image((20, 20))
    exemplar[8:12, 8:12] = np.nan
    field, _ = (
        PatchMatch(patch_size=3, random_state=0)
        .fit(exemplar)
        .match(smooth_image((16, 16), 1))
    )
    for i, j in field.reshape(-1, 2):
        assert np.isfinite(exemplar[i : i + 3, j : j + 3]).all()


# The deep image prior.


@pytest.fixture(scope="module")
def scene() -> Any:
    """A picture of discs on a slope, (48, 48), in [0, 1]."""
    y, x = np.mgrid[:48, :48] / 48
    image = 0.2 + 0.3 * x
    for cy, cx, r, value in [
        (0.3, 0.3, 0.2, 0.9),
        (0.65, 0.7, 0.25, 0.1),
        (0.8, 0.2, 0.12, 0.7),
    ]:
        image[(y - cy) ** 2 + (x - cx) ** 2 < r**2] = value
    return image


def psnr(image: NDArray[Any], right: NDArray[Any]) -> Any:
    return -10 * np.log10(np.mean((image - right) ** 2))


@quiet
def test_the_deep_prior_denoises_by_five_decibels(scene: NDArray[Any]) -> None:
    noisy = scene + np.random.RandomState(0).normal(0, 0.1, scene.shape)
    model = DeepImagePrior(width=16, max_iter=400, random_state=0).fit(noisy)
    assert psnr(model.image_, scene) > psnr(noisy, scene) + 5


@quiet
def test_the_deep_prior_completes_pixels(scene: NDArray[Any]) -> None:
    rng = np.random.RandomState(0)
    holes = np.where(rng.rand(*scene.shape) < 0.5, np.nan, scene)
    model = DeepImagePrior(width=16, max_iter=300, random_state=0).fit(holes)
    missing = np.isnan(holes)
    filled = np.where(missing, np.nanmean(holes), holes)
    assert psnr(model.image_, scene) > psnr(filled, scene) + 5


@quiet
def test_the_deep_prior_enlarges(scene: NDArray[Any]) -> None:
    small = scene[:24, :24].reshape(12, 2, 12, 2).mean((1, 3))
    model = DeepImagePrior(upscale=2, width=8, max_iter=100, random_state=0).fit(small)
    assert model.image_.shape == (24, 24)
    back = model.image_.reshape(12, 2, 12, 2).mean((1, 3))
    assert psnr(back, small) > 20


@quiet
def test_the_deep_prior_keeps_the_best_look_and_one_seed_gives_one_image(
    scene: NDArray[Any],
) -> None:
    options: dict[str, Any] = {
        "width": 4,
        "depth": 1,
        "max_iter": 60,
        "random_state": 0,
    }
    a, b = (DeepImagePrior(**options).fit(scene[:16, :16]) for _ in range(2))
    np.testing.assert_array_equal(a.image_, b.image_)
    assert a.best_iter_ == 10 * (1 + int(np.argmin(a.validation_curve_)))
