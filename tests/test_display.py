"""Pictures show what the models say: data behind artists, orders, labels, errors."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import loguniform
from sklearn.datasets import load_digits, load_wine, make_moons
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.preprocessing import StandardScaler

import skgen.display
from skgen import (
    VAE,
    VQVAE,
    BetaVAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
    MixedDensity,
    make_generative_pipeline,
)
from skgen.display import (
    CodebookDisplay,
    DensityDisplay,
    InterpolationDisplay,
    LatentSpaceDisplay,
    LossCurveDisplay,
    ManifoldDisplay,
    ReconstructionDisplay,
    SamplesDisplay,
    SearchCurveDisplay,
    TableReportDisplay,
    TraversalDisplay,
)
from skgen.latent import interpolate, latent_order, manifold, traverse
from skgen.metrics import codebook_perplexity
from skgen.model_selection import BatchedGridSearchCV

matplotlib.use("Agg")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DIGITS, DIGIT = (each[:300] for each in load_digits(return_X_y=True))
WINE = load_wine(as_frame=True).data
MOONS, _ = make_moons(200, noise=0.1, random_state=0)
_NETWORK: dict[str, Any] = {
    "hidden_layer_sizes": (16,),
    "n_importance_samples": 4,
    "random_state": 0,
}
_TOKENS: dict[str, Any] = {**_NETWORK, "n_tokens": 2, "code_size": 2, "max_iter": 3}
_IMAGES: dict[str, Any] = {"image_shape": (8, 8)}
FEW = {"features": [0, 12]}


def table_of_kinds(n: int = 80) -> Any:
    """Make a table of numbers, levels and holes, and the holes (n, d)."""
    rng = np.random.RandomState(0)
    group = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    table = pd.DataFrame(
        {
            "age": 20.0 + 20 * group + 5 * rng.randn(n),
            "visits": rng.poisson(1 + 3 * group),
            "ward": np.array(["surgery", "medicine", "other"])[group],
            "insured": rng.rand(n) < 0.7,
        }
    )
    holes = rng.rand(*table.shape) < 0.1
    kinds: dict[str, Any] = {"visits": "Int64", "insured": "boolean"}
    return table.astype(kinds).mask(holes), holes


TABLE, HOLES = table_of_kinds()


@pytest.fixture(scope="module")
def models() -> Any:
    scaled = make_generative_pipeline(
        StandardScaler(), VAE(3, max_iter=4, **_NETWORK, **_IMAGES)
    )
    mixture = make_generative_pipeline(
        StandardScaler(), GaussianMixtureEM(3, random_state=0)
    )
    return SimpleNamespace(
        images=VAE(4, max_iter=4, **_NETWORK, **_IMAGES).fit(DIGITS),
        table=BetaVAE(3, max_iter=4, **_NETWORK).fit(WINE),
        scaled=scaled.fit(DIGITS),
        tokens=VQVAE(6, **_TOKENS, **_IMAGES).fit(DIGITS),
        table_tokens=VQVAE(6, **_TOKENS, encode="ordinal").fit(WINE),
        onehot=VQVAE(6, **_TOKENS, encode="onehot").fit(WINE),
        centres=KMeansAutoencoder(5, prior="uniform", random_state=0).fit(DIGITS),
        ordinal=KMeansAutoencoder(5, encode="ordinal", random_state=0).fit(DIGITS),
        mixture=GaussianMixtureEM(4, random_state=0).fit(MOONS),
        piped_mixture=mixture.fit(WINE),
        gaussian=GaussianDensity(3).fit(WINE),
        kinds=MixedDensity(VAE(2, max_iter=4, **_NETWORK)).fit(TABLE),
        kinds_of_tokens=MixedDensity(VQVAE(6, **_TOKENS)).fit(TABLE),
        search=GridSearchCV(
            GaussianMixtureEM(random_state=0),
            {"reg_covar": [1e-6, 1e-4, 1e-2], "n_components": [1, 2]},
            cv=3,
        ).fit(MOONS),
    )


@pytest.fixture(autouse=True)
def _closed_figures() -> Iterator[Any]:
    plt.close("all")
    yield
    plt.close("all")


# Each Display, and what it is given of the models.
DRAWN: dict[str, Any] = {
    "training of a network": (LossCurveDisplay, lambda m: [m.images], {}),
    "training of tokens": (LossCurveDisplay, lambda m: [m.tokens], {}),
    "fit of a mixture": (LossCurveDisplay, lambda m: [m.mixture], {}),
    "sampled images": (SamplesDisplay, lambda m: [m.images, DIGITS], {}),
    "sampled table": (SamplesDisplay, lambda m: [m.table, WINE], FEW),
    "reconstructed images": (ReconstructionDisplay, lambda m: [m.images, DIGITS], {}),
    "reconstructed table": (ReconstructionDisplay, lambda m: [m.table, WINE], FEW),
    "groups of codes": (LatentSpaceDisplay, lambda m: [m.images, DIGITS, DIGIT], {}),
    "scale of codes": (LatentSpaceDisplay, lambda m: [m.table, WINE, WINE["hue"]], {}),
    "manifold of images": (ManifoldDisplay, lambda m: [m.images], {"n_steps": 4}),
    "manifold of a table": (ManifoldDisplay, lambda m: [m.table], FEW),
    "traversal of images": (TraversalDisplay, lambda m: [m.images], {}),
    "traversal of a table": (TraversalDisplay, lambda m: [m.gaussian], {}),
    "interpolated images": (
        InterpolationDisplay,
        lambda m: [m.images, DIGITS[0], DIGITS[1]],
        {},
    ),
    "interpolated table": (
        InterpolationDisplay,
        lambda m: [m.table, WINE.iloc[0], WINE.iloc[1]],
        {},
    ),
    "codebook of images": (CodebookDisplay, lambda m: [m.tokens], {}),
    "codebook of a table": (CodebookDisplay, lambda m: [m.table_tokens], {}),
    "training of kinds": (LossCurveDisplay, lambda m: [m.kinds_of_tokens], {}),
    "sampled kinds": (SamplesDisplay, lambda m: [m.kinds, TABLE], {}),
    "reconstructed kinds": (ReconstructionDisplay, lambda m: [m.kinds, TABLE], {}),
    "codes of kinds": (LatentSpaceDisplay, lambda m: [m.kinds, TABLE, TABLE.ward], {}),
    "manifold of kinds": (ManifoldDisplay, lambda m: [m.kinds], {"n_steps": 4}),
    "traversal of kinds": (TraversalDisplay, lambda m: [m.kinds], {}),
    "interpolated kinds": (
        InterpolationDisplay,
        lambda m: [m.kinds, TABLE.iloc[0], TABLE.iloc[[1]]],
        {},
    ),
    "codebook of kinds": (CodebookDisplay, lambda m: [m.kinds_of_tokens], {}),
    "density": (DensityDisplay, lambda m: [m.mixture, MOONS], {}),
    "search": (SearchCurveDisplay, lambda m: [m.search], {}),
    "report of a table": (
        TableReportDisplay,
        lambda m: [m.kinds, TABLE[:40], TABLE[40:]],
        {"target": "ward"},
    ),
}


def draw(name: str, models: Any, **options: Any) -> Any:
    cls, given, more = DRAWN[name]
    return cls.from_estimator(*given(models), **more, **options)


def tile_of(
    picture: Any, row: int, column: int, side: Any = 8, gap: Any = 1
) -> NDArray[Any]:
    """Cut a tile out of a mosaic, as a flat row."""
    values = picture.get_array()
    top, left = row * (side + gap), column * (side + gap)
    return np.asarray(values[top : top + side, left : left + side]).ravel()


def axes_of(display: Any) -> list[Any]:
    return getattr(display, "axes_", None) or [display.ax_]


def test_every_display_is_drawn_here() -> None:
    names = {cls.__name__ for cls, *_ in DRAWN.values()}
    assert names == set(skgen.display.__all__)


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_says_what_it_shows_and_goes_where_it_is_told(
    models: Any, name: str
) -> None:
    display = draw(name, models)
    assert display.figure_ is plt.gcf()
    title = display.figure_.get_suptitle() or display.ax_.get_title()
    assert title == display.title
    axes = axes_of(display)
    assert any(ax.get_xlabel() for ax in axes) or "images" in name
    assert all(ax.get_xlabel() or ax.get_title() or len(axes) == 1 for ax in axes)

    figure, (left, right) = plt.subplots(1, 2, layout="constrained", figsize=(16, 6))
    assert display.plot(ax=left) is display
    figure.canvas.draw()
    assert display.figure_ is figure
    middle = right.get_window_extent().x0
    assert all(ax.get_window_extent().x1 < middle for ax in axes_of(display))
    assert not right.has_data()


def test_a_picture_is_computed_where_it_is_told(models: Any) -> None:
    _, (left, right) = plt.subplots(1, 2)
    for name in ("density", "search", "sampled kinds"):
        assert draw(name, models, ax=left).figure_ is left.figure
    assert not right.has_data()


def test_curves_are_those_of_the_fit(models: Any) -> None:
    model = models.images
    lines = LossCurveDisplay.from_estimator(model).lines_
    shown = [line.get_ydata() for line in lines.values()]
    parts = model.loss_terms_
    expected = [
        model.loss_curve_,
        model.validation_curve_,
        -np.array(parts["reconstruction"]),
        parts["kl"],
    ]
    np.testing.assert_array_equal(shown, expected)
    np.testing.assert_array_equal(lines["loss, training rows"].get_xdata(), range(1, 5))


def test_curves_of_tokens_have_the_prior(models: Any) -> None:
    model = models.tokens
    lines = LossCurveDisplay.from_estimator(model).lines_
    np.testing.assert_array_equal(
        lines["−log p(tokens)"].get_ydata(), model.prior_curve_
    )
    held_out = lines["reconstruction, held-out rows"].get_ydata()
    np.testing.assert_array_equal(held_out, model.validation_curve_)
    assert len(lines) == 5


def test_the_curve_of_a_mixture_is_its_bound(models: Any) -> None:
    display = LossCurveDisplay.from_estimator(models.mixture)
    (line,) = display.lines_.values()
    np.testing.assert_array_equal(line.get_ydata(), models.mixture.lower_bounds_)
    piped = LossCurveDisplay.from_estimator(models.piped_mixture)
    assert "GaussianMixtureEM" in piped.title


def test_one_axes_has_all_curves(models: Any) -> None:
    _, ax = plt.subplots()
    display = LossCurveDisplay.from_estimator(models.images, ax=ax)
    assert display.axes_ == [ax]
    marks = set(display.marks_.values())
    assert len(display.lines_) == 4
    assert set(ax.lines) == {*display.lines_.values(), *marks}


@pytest.mark.parametrize(("early_stopping", "rate"), [(True, 0.2), (False, 0.5)])
def test_the_epoch_that_was_kept_is_marked(early_stopping: bool, rate: Any) -> None:
    # Steps so long that the loss goes up and down.
    model = VAE(
        1,
        **_NETWORK,
        early_stopping=early_stopping,
        learning_rate_init=rate,
        max_iter=15,
        kl_warmup=0,
        tol=0.0,
    ).fit(MOONS)
    watched = model.validation_curve_ if early_stopping else model.loss_curve_
    assert model.best_epoch_ == 1 + np.argmin(watched) < 15
    display: Any = LossCurveDisplay.from_estimator(model)
    for panel in ("Loss", "Parts of the loss, training rows"):
        np.testing.assert_array_equal(
            display.marks_[panel].get_xdata(), [model.best_epoch_] * 2
        )
    texts = [text.get_text() for text in display.axes_[0].get_legend().get_texts()]
    assert f"kept: epoch {model.best_epoch_}" in texts


def test_a_partial_fit_keeps_its_last_epoch() -> None:
    model = VQVAE(4, **{**_TOKENS, "max_iter": 1}).partial_fit(MOONS)
    model.partial_fit(MOONS)
    assert model.best_epoch_ == model.n_iter_ == 2
    assert model.best_prior_epoch_ == len(model.prior_curve_) == 2
    _, ax = plt.subplots()
    display = LossCurveDisplay.from_estimator(model, ax=ax)
    assert {mark.get_xdata()[0] for mark in display.marks_.values()} == {2}


def test_first_epochs_do_not_flatten_the_others() -> None:
    fast = [1e6, 50.0, 20.0, 10.0, 9.0, 8.5, 8.2, 8.1]
    slow = np.linspace(30.0, 10.0, 8)
    display = LossCurveDisplay({"fast": {"a": fast}, "slow": {"b": slow}}).plot()
    cut, whole = display.axes_
    assert cut.get_ylim()[1] < 50
    assert cut.get_ylabel() == "nats per row\n(starts outside)"
    assert whole.get_ylim()[1] > 30
    assert whole.get_ylabel() == "nats per row"


def test_a_start_that_was_kept_and_curves_of_one_epoch() -> None:
    curves = {"Loss": {"loss": [3.0]}, "Prior": {"prior": [2.0]}}
    ax: Any
    _, ax = plt.subplots()
    display = LossCurveDisplay(curves, best={"Loss": 0, "Prior": 1}).plot(ax)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[2:] == ["kept: the start (Loss)", "kept: epoch 1 (Prior)"]
    assert display.lines_["loss"].get_marker() == "o"  # a line of one point shows none


def test_sampled_images_are_decoded_means(models: Any) -> None:
    model = models.images
    display = SamplesDisplay.from_estimator(model, n_samples=20, random_state=3)
    means = model.sample(20, noise=False, random_state=3)
    np.testing.assert_array_equal(display.rows, means)
    np.testing.assert_array_equal(tile_of(display.image_, 1, 4), means[14])
    noisy = SamplesDisplay.from_estimator(model, n_samples=20, noise=True)
    np.testing.assert_array_equal(noisy.rows, model.sample(20, random_state=0))


def test_data_come_before_samples(models: Any) -> None:
    display = SamplesDisplay.from_estimator(models.images, DIGITS, n_samples=20)
    labels = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert labels == ["data", "data", "samples", "samples"]
    np.testing.assert_array_equal(tile_of(display.image_, 1, 0), DIGITS[10])
    np.testing.assert_array_equal(tile_of(display.image_, 2, 0), display.rows[0])


def test_fewer_samples_than_a_line(models: Any) -> None:
    display: Any = SamplesDisplay.from_estimator(models.images, n_samples=3)
    assert display.image_.get_array().shape == (8, 3 * 9 - 1)


def test_histograms_of_a_table(models: Any) -> None:
    display = SamplesDisplay.from_estimator(
        models.piped_mixture, WINE, features=["hue", "alcohol"]
    )
    assert [ax.get_xlabel() for ax in display.axes_] == ["hue", "alcohol"]
    for bars, j in zip(display.bars_, [10, 0]):
        heights, edges, _ = bars.get_data()
        counts, _ = np.histogram(display.rows[:, j], edges, density=True)
        np.testing.assert_allclose(heights, counts)


def test_reconstructions_are_below_originals(models: Any) -> None:
    for model in models.images, models.scaled:
        display = ReconstructionDisplay.from_estimator(model, DIGITS, n_rows=4)
        decoded = model.reconstruct(DIGITS[:4])
        np.testing.assert_array_equal(tile_of(display.image_, 0, 3), DIGITS[3])
        np.testing.assert_allclose(tile_of(display.image_, 1, 3), decoded[3])


def test_reconstructions_of_a_table(models: Any) -> None:
    display = ReconstructionDisplay.from_estimator(models.gaussian, WINE, features=[4])
    expected = np.column_stack(
        [WINE["magnesium"], models.gaussian.reconstruct(WINE)[:, 4]]
    )
    np.testing.assert_array_equal(display.points_[0].get_offsets(), expected)
    assert display.axes_[0].get_title() == "magnesium"


def test_the_most_used_latents_are_shown(models: Any) -> None:
    model = models.images
    display = LatentSpaceDisplay.from_estimator(model, DIGITS, DIGIT)
    codes = model.transform(DIGITS)[:, latent_order(model)[:2]]
    for digit, points in enumerate(display.points_):
        np.testing.assert_array_equal(points.get_offsets(), codes[digit == DIGIT])
    legend: Any = display.ax_.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == list("0123456789")
    chosen = LatentSpaceDisplay.from_estimator(model, DIGITS, latents=[3, 1])
    np.testing.assert_array_equal(chosen.codes, model.transform(DIGITS)[:, [3, 1]])
    assert "z_{3}" in chosen.ax_.get_xlabel()


def test_groups_differ_in_colour_and_marker_together() -> None:
    styles = [skgen.display.drawing.group_style(i) for i in range(20)]
    assert len({tuple(style.values()) for style in styles}) == 20


@pytest.mark.parametrize(
    ("y", "n_groups"),
    [
        ([0, 1, 1, 2], 3),
        ([0.0, 1.0, 1.0, 0.0], 2),
        ([True, False, False, True], 2),
        (["a", "b", "a", "b"], 2),
        ([0.5, 1.0, 2.0, 3.0], 0),
        (np.array(["2020-01", "2020-02", "2021-01", "2022-02"], "M8[D]"), 0),
        (["_a", None, "b", "_a"], 3),
        (np.array([[0], [1], [1], [2]]), 3),
        (pd.DataFrame({"label": list("abba")}), 2),
        (pd.Series([1, 2, None, 2], dtype="Int64"), 3),
    ],
)
def test_labels_are_groups_or_a_scale(y: Any, n_groups: int) -> None:
    display = LatentSpaceDisplay(np.arange(8.0).reshape(4, 2), y).plot()
    assert (display.colorbar_ is None) == bool(n_groups)
    assert len(display.points_) == max(1, n_groups)
    shown = 4 if not n_groups else sum(len(p.get_offsets()) for p in display.points_)
    assert shown == 4  # rows without a label are a group of their own
    if not n_groups and np.asarray(y).dtype == float:
        np.testing.assert_array_equal(display.points_[0].get_array(), y)


def test_the_most_common_of_many_labels_have_colours() -> None:
    y: Any = [f"label {i}" for i in range(60)] + ["label 41"] * 5 + [None]
    codes = np.random.RandomState(0).randn(len(y), 2)
    display: Any = LatentSpaceDisplay(codes, y, label_name="_$group$").plot()
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts[-2:] == ["40 others", "missing"]
    assert "label 41" in texts
    assert len(texts) == 22
    display.figure_.canvas.draw()
    bottom = display.ax_.get_legend().get_window_extent().y0
    assert bottom >= 0  # inside the figure


def test_a_scale_has_the_name_of_its_series(models: Any) -> None:
    display: Any = LatentSpaceDisplay.from_estimator(models.table, WINE, WINE["hue"])
    assert display.colorbar_.ax.get_ylabel() == "hue"


def test_the_manifold_goes_up_and_to_the_right(models: Any) -> None:
    display = ManifoldDisplay.from_estimator(models.images, n_steps=5)
    grid = manifold(models.images, n_steps=5)
    np.testing.assert_array_equal(display.rows, grid.rows)
    np.testing.assert_array_equal(tile_of(display.image_, 4, 1), grid.rows[0, 1])
    np.testing.assert_array_equal(tile_of(display.image_, 0, 3), grid.rows[4, 3])
    labels = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert labels[0] == "1.28"
    assert labels[-1] == "-1.28"


def test_the_manifold_of_a_table(models: Any) -> None:
    display = ManifoldDisplay.from_estimator(models.table, n_steps=4, features=["hue"])
    rows = manifold(models.table, n_steps=4).rows
    np.testing.assert_array_equal(display.images_[0].get_array(), rows[..., 10])
    assert display.images_[0].origin == "lower"


def test_a_traversal_has_the_most_used_latent_first(models: Any) -> None:
    model = models.images
    display = TraversalDisplay.from_estimator(model, DIGITS[0], n_steps=3)
    rows = traverse(model, row=DIGITS[0], n_steps=3).rows
    np.testing.assert_array_equal(display.latents, latent_order(model))
    np.testing.assert_array_equal(tile_of(display.image_, 2, 1), rows[2, 1])
    first = display.ax_.get_yticklabels()[0].get_text()
    assert first.startswith(f"$z_{{{latent_order(model)[0]}}}$")


def test_a_traversal_of_a_table_is_standardised(models: Any) -> None:
    display: Any = TraversalDisplay.from_estimator(models.table, n_steps=3)
    values = display.image_.get_array()  # (d, n_latents * n_steps)
    scaled = (display.rows[1, 2] - display.feature_mean) / display.feature_std
    np.testing.assert_allclose(values[:, 5], scaled)
    names = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert names == list(WINE.columns)
    assert len(display.ax_.get_xticklabels()) == 3


def test_an_interpolation_is_between_its_rows(models: Any) -> None:
    a, b = DIGITS[:2]
    display = InterpolationDisplay.from_estimator(
        models.images, a, b, n_steps=4, path="spherical"
    )
    rows = interpolate(models.images, a, b, 4, path="spherical")
    tiles = [tile_of(display.image_, 0, i) for i in range(6)]
    np.testing.assert_array_equal(tiles, [a, *rows, b])


def test_an_interpolation_of_a_table(models: Any) -> None:
    display: Any = InterpolationDisplay.from_estimator(
        models.gaussian, WINE.iloc[0], WINE.iloc[[5]], n_steps=4
    )
    shown = display.image_.get_array().T * display.feature_std + display.feature_mean
    np.testing.assert_allclose(shown, display.rows)
    np.testing.assert_array_equal(display.ends, WINE.iloc[[0, 5]])


def test_codes_are_decoded_the_most_used_first(models: Any) -> None:
    model = models.tokens
    display = CodebookDisplay.from_estimator(model)
    order = np.argsort(-model.codebook_usage_, kind="stable")
    decoded = model.inverse_transform(np.tile(model.codebook_, 2))
    np.testing.assert_array_equal(tile_of(display.image_, 0, 2), decoded[order[2]])
    heights = [bar.get_height() for bar in display.bars_]
    np.testing.assert_allclose(heights, 100 * model.codebook_usage_[order])
    assert display.perplexity == pytest.approx(model.perplexity_)


@pytest.mark.parametrize("name", ["centres", "ordinal"])
def test_centres_are_codes_with_their_shares(models: Any, name: str) -> None:
    model = getattr(models, name)
    display = CodebookDisplay.from_estimator(model, image_shape=(8, 8))
    np.testing.assert_allclose(display.rows, model.cluster_centers_, atol=1e-12)
    np.testing.assert_allclose(display.usage, np.bincount(model.labels_) / len(DIGITS))
    assert display.perplexity == pytest.approx(codebook_perplexity(model.labels_))


def test_all_encodings_of_tokens_decode_alike(models: Any) -> None:
    ordinal, onehot = (
        CodebookDisplay.from_estimator(model)
        for model in (models.table_tokens, models.onehot)
    )
    np.testing.assert_allclose(ordinal.rows, onehot.rows)
    names = [text.get_text() for text in ordinal.axes_[1].get_yticklabels()]
    assert names == list(WINE.columns)


def test_components_of_a_mixture_are_codes(models: Any) -> None:
    display = CodebookDisplay.from_estimator(models.piped_mixture)
    scaler, mixture = (step for _, step in models.piped_mixture.steps)
    means = scaler.inverse_transform(mixture.means_)
    np.testing.assert_allclose(display.rows, means)
    np.testing.assert_array_equal(display.usage, mixture.weights_)


def ticks_of(axis: Any) -> list[Any]:
    return [text.get_text() for text in axis.get_ticklabels()]


def test_levels_of_samples_are_bars_beside_those_of_the_data(models: Any) -> None:
    display = SamplesDisplay.from_estimator(models.kinds, TABLE, n_samples=50)
    panel = display.axes_[2]
    levels = ["medicine", "other", "surgery"]
    assert ticks_of(panel.xaxis) == levels
    for bars, column in zip(panel.containers, (TABLE["ward"], display.rows["ward"])):
        shares = 100 * column.value_counts(normalize=True)[levels]
        np.testing.assert_allclose([bar.get_height() for bar in bars], shares)
    data, samples = ([bar.get_x() for bar in bars] for bars in panel.containers)
    width = panel.containers[0][0].get_width()
    np.testing.assert_allclose(np.subtract(samples, data), width)  # side by side
    assert panel.containers[1] is display.bars_[2]
    assert ticks_of(display.axes_[3].xaxis) == ["False", "True"]
    legend: Any = display.axes_[2].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["data", "samples"]


def test_holes_are_left_out_of_distributions_and_said(models: Any) -> None:
    display: Any = SamplesDisplay.from_estimator(models.kinds, TABLE, n_samples=50)
    heights, edges, _ = display.axes_[0].patches[0].get_data()
    seen = TABLE["age"].dropna()
    np.testing.assert_allclose(heights, np.histogram(seen, edges, density=True)[0])
    for panel, share in zip(display.axes_, HOLES.mean(axis=0)):
        assert panel.get_title(loc="right") == f"data: {100 * share:.3g} % missing"
    # Bins of counts are centred on them.
    edges = display.bars_[1].get_data().edges
    np.testing.assert_array_equal(edges % 1, 0.5)


def test_reconstructed_levels_are_bars_and_holes_are_left_out(models: Any) -> None:
    display = ReconstructionDisplay.from_estimator(models.kinds, TABLE)
    decoded = models.kinds.reconstruct(TABLE)
    points = display.points_[0].get_offsets()
    there = TABLE["age"].notna()
    np.testing.assert_allclose(points[:, 0], TABLE["age"][there])
    np.testing.assert_allclose(points[:, 1], decoded["age"][there])
    there = TABLE["ward"].notna()
    counts = decoded["ward"][there].value_counts(normalize=True)
    shown = [bar.get_height() for bar in display.points_[2]]
    levels = ticks_of(display.axes_[2].xaxis)
    np.testing.assert_allclose(shown, [100 * counts.get(k, 0.0) for k in levels])
    same = 100 * (decoded["ward"] == TABLE["ward"])[there].mean()
    assert f"{same:.3g} % decoded as they were" in display.axes_[2].get_xlabel()


def test_pictures_of_codes_reach_the_model_of_a_table(models: Any) -> None:
    model, inner = models.kinds, models.kinds.estimator_
    space = LatentSpaceDisplay.from_estimator(model, TABLE, latents=[0, 1])
    np.testing.assert_array_equal(space.codes, model.transform(TABLE))
    curve = LossCurveDisplay.from_estimator(model).lines_["loss, training rows"]
    np.testing.assert_array_equal(curve.get_ydata(), inner.loss_curve_)
    order = latent_order(model)
    np.testing.assert_array_equal(order, np.argsort(-inner.latent_variances_))
    traversal: Any = TraversalDisplay.from_estimator(model, TABLE.iloc[0], n_steps=3)
    codes = np.tile(model.transform(TABLE[:1]), (3, 1))
    codes[:, order[0]] = traversal.values
    decoded = model.inverse_transform(codes)
    named = dict(zip(traversal.feature_names, traversal.rows[0].T))
    np.testing.assert_allclose(named["age"], decoded["age"])
    np.testing.assert_array_equal(named["insured = True"], decoded["insured"])


def test_levels_of_a_manifold_are_colours(models: Any) -> None:
    display = ManifoldDisplay.from_estimator(models.kinds, n_steps=4)
    picture: Any = display.images_[2]
    named = np.array(ticks_of(picture.colorbar.ax.yaxis))
    wards = manifold(models.kinds, n_steps=4).rows[..., 2]
    np.testing.assert_array_equal(named[picture.get_array().astype(int)], wards)


def test_a_codebook_of_kinds_is_decoded(models: Any) -> None:
    model = models.kinds_of_tokens
    display: Any = CodebookDisplay.from_estimator(model)
    codes = np.tile(model.estimator_.codebook_, 2)
    decoded = model.inverse_transform(codes)
    named = dict(zip(display.feature_names, display.rows.T))
    np.testing.assert_allclose(named["age"], decoded["age"])
    for name in set(named) - {"age", "visits"}:
        column, level = name.split(" = ")
        np.testing.assert_array_equal(named[name], decoded[column].astype(str) == level)


def test_columns_are_drawn_by_what_is_in_them() -> None:
    n = 40
    rng = np.random.RandomState(0)
    days = pd.Series(pd.date_range("2020-01-01", periods=n, tz="Europe/Rome"))
    frame = pd.DataFrame(
        {
            "time": days.mask(days.index < 10),
            "month": pd.period_range("2000-01", periods=n, freq="M"),
            "length": pd.to_timedelta(3600.0 * np.arange(n), unit="s"),
            "part": pd.cut(rng.randn(n), [-9, -1, 1, 9]),
            "grade": pd.Categorical(["low", "high"] * (n // 2), ["low", "high"]),
            "_costs $x$": ["_a", "$b$"] * (n // 2),
        }
    )
    display = SamplesDisplay(frame[::-1], data=frame).plot()
    display.figure_.canvas.draw()  # no formula, and no warning
    first, last = display.axes_[0].get_xlim()
    assert first < matplotlib.dates.date2num(days[n - 1]) < last
    labels = [panel.get_xlabel() for panel in display.axes_]
    assert labels[2] == "length (hours)"
    assert ticks_of(display.axes_[3].xaxis)[0] == "(-9, -1]"
    assert ticks_of(display.axes_[4].xaxis) == ["low", "high"]
    assert ticks_of(display.axes_[5].xaxis) == [r"\$b\$", " _a"]


def test_rows_of_dates_and_holes_have_ways_through_the_code() -> None:
    n = 30
    frame = pd.DataFrame(
        {
            "day": pd.date_range("2020-01-01", periods=n),
            "size": np.linspace(0.0, 1.0, n),
            "kind": ["a", "b", "c"] * (n // 3),
        }
    )
    frame.loc[0, ["day", "kind"]] = None
    model = MixedDensity(VAE(2, **{**_NETWORK, "max_iter": 1})).fit(frame)
    whole = TraversalDisplay.from_estimator(model, frame[:1], n_steps=2)
    line = TraversalDisplay.from_estimator(model, frame.iloc[0], n_steps=2)
    np.testing.assert_array_equal(line.rows, whole.rows)
    grid: Any = ManifoldDisplay.from_estimator(model, n_steps=2, features=["day"])
    days = matplotlib.dates.date2num(grid.rows[..., 0].ravel())
    np.testing.assert_allclose(grid.images_[0].get_array().ravel(), days)


def test_rare_levels_are_one_bar() -> None:
    words = np.array([f"level {i}" for i in range(200)], dtype=object)
    rows = words[np.minimum(199, np.random.RandomState(0).geometric(0.2, 500))]
    display = SamplesDisplay(rows[:, None]).plot()
    heights = [bar.get_height() for bar in display.bars_[0]]
    assert ticks_of(display.axes_[0].xaxis)[-1] == f"{len(set(rows)) - 12} others"
    assert (len(heights), sum(heights)) == (13, pytest.approx(100))


@pytest.mark.parametrize(
    "x",
    [
        np.full(50, 1e17),
        np.full(50, 0.1),
        np.r_[np.random.RandomState(0).randn(400), 1e9],
        1e17 + np.arange(50.0),
        np.r_[np.nan, np.inf, np.arange(9.0)],
        np.full(5, np.nan),
        np.exp(4 * np.random.RandomState(0).randn(400)).astype("float32"),
        np.r_[np.zeros(300), 0.5],
    ],
)
def test_awkward_numbers_have_histograms(x: NDArray[Any]) -> None:
    display = SamplesDisplay(x[:, None]).plot()
    heights, edges, _ = display.bars_[0].get_data()
    assert (np.diff(edges) > 0).all()
    assert np.isfinite(heights).all()
    if np.isfinite(x).any():
        assert edges[0] <= np.nanmedian(x) <= edges[-1]
        # One value far out takes no room from the others.
        assert np.ptp(edges) < 1e6 or np.nanmedian(x) > 1e6
        log = display.axes_[0].get_xscale() == "log"
        widths = np.diff(np.log10(edges) if log else edges)
        assert heights @ widths == pytest.approx(1)


def test_deviations_of_centres_are_those_of_the_columns() -> None:
    # Columns of other units: one variance for all would drown the small ones.
    X = WINE.to_numpy()
    fits: dict[str, Any] = {
        "fit": KMeansAutoencoder(4, random_state=0).fit(X),
        "batches": KMeansAutoencoder(4, random_state=0)
        .partial_fit(X[:90])
        .partial_fit(X[90:]),
    }
    for model in fits.values():
        display: Any = CodebookDisplay.from_estimator(model)
        np.testing.assert_allclose(display.feature_std, X.std(axis=0))
        np.testing.assert_allclose(display.feature_mean, X.mean(axis=0))
        centres = (model.cluster_centers_ - X.mean(axis=0)) / X.std(axis=0)
        shown = display.image_.get_array().T
        np.testing.assert_allclose(shown, centres[display.order_], atol=1e-9)
    weight = np.arange(len(X)) % 2
    model = KMeansAutoencoder(4, random_state=0).fit(X, sample_weight=weight)
    display = CodebookDisplay.from_estimator(model)
    np.testing.assert_allclose(display.feature_std, X[1::2].std(axis=0))
    of_others = CodebookDisplay.from_estimator(model, X[:50])
    np.testing.assert_allclose(of_others.feature_std, X[:50].std(axis=0))


def test_wide_codebooks_and_many_columns_are_cut() -> None:
    rng = np.random.RandomState(0)
    rows, usage = rng.randn(300, 60), rng.dirichlet(np.ones(300))
    rows[:, 7] = 0.0
    names = [f"a name that is far too long for a label {i}" for i in range(60)]
    display: Any = CodebookDisplay(usage, rows, feature_names=names).plot()
    assert display.image_.get_array().shape == (40, 64)
    assert len(display.bars_) == 200
    usage_axis, table_axis = display.axes_
    assert usage_axis.get_xlabel() == "code, the 200 most used of 300"
    assert table_axis.get_xlabel() == "code, the 64 most used of 300"
    assert table_axis.get_ylabel() == "the 40 of 60 features that vary most"
    labels = ticks_of(table_axis.yaxis)
    assert not any(label.endswith(" 7") for label in labels)
    assert max(map(len, labels)) <= 28
    assert max(display.figure_.get_size_inches()) < 15
    few = CodebookDisplay(usage[:5], rows[:5, :2]).plot()
    assert ticks_of(few.axes_[0].xaxis) == [str(k) for k in few.order_]


def test_a_density_is_the_score_of_the_grid(models: Any) -> None:
    display: Any = DensityDisplay.from_estimator(
        models.mixture, MOONS, grid_resolution=7
    )
    point = [[display.xx0[2, 5], display.xx1[2, 5]]]
    assert display.log_density[2, 5] == pytest.approx(
        models.mixture.score_samples(point)[0]
    )
    np.testing.assert_array_equal(display.points_.get_offsets(), MOONS)
    low, high = MOONS.min(axis=0), MOONS.max(axis=0)
    assert display.xx0[0, 0] == pytest.approx(low[0] - 0.2 * (high - low)[0])
    assert display.contours_.get_clim()[1] >= display.log_density.max()


def test_a_density_of_columns_of_several_kinds(models: Any) -> None:
    rng = np.random.RandomState(0)
    table = pd.DataFrame(
        {
            "n": rng.poisson(5, 60),
            "x": np.where(rng.rand(60) < 0.1, np.nan, rng.rand(60)),
        }
    )
    net: dict[str, Any] = {**_NETWORK, "max_iter": 2}
    model = MixedDensity(VAE(1, **net), kinds={"n": "count", "x": "positive"}).fit(
        table
    )
    display = DensityDisplay.from_estimator(model, table, grid_resolution=30)
    np.testing.assert_array_equal(
        np.unique(display.xx0), np.arange(table["n"].min(), table["n"].max() + 1)
    )
    point = pd.DataFrame({"n": [3 + table["n"].min()], "x": [display.xx1[4, 0]]})
    scores = model.score_samples(point)
    assert display.log_density[4, 3] == pytest.approx(scores.item())
    assert display.ax_.get_xlabel() == "n"


def test_a_density_of_rows_with_holes_and_of_nothing_finite() -> None:
    rows = np.vstack([MOONS, [[np.nan, 1.0]]])
    model = GaussianDensity().fit(MOONS)
    display = DensityDisplay.from_estimator(model, rows, grid_resolution=4)
    assert np.isfinite(display.log_density).all()
    some = np.array([[0.0, np.nan], [-np.inf, 1.0]])
    contours = (
        DensityDisplay(display.xx0[:2, :2], display.xx1[:2, :2], some).plot().contours_
    )
    assert contours.get_clim()[1] >= 1.0


def test_a_density_of_named_columns_behind_a_scaler() -> None:
    rows = WINE[["hue", "alcohol"]]
    model = make_generative_pipeline(StandardScaler(), GaussianDensity()).fit(rows)
    display = DensityDisplay.from_estimator(model, rows, grid_resolution=5)
    assert display.ax_.get_xlabel() == "hue"
    assert display.ax_.get_ylabel() == "alcohol"
    without = DensityDisplay.from_estimator(model, grid_resolution=5)
    assert without.points_ is None


def test_a_search_shows_means_and_standard_errors(models: Any) -> None:
    display: Any = SearchCurveDisplay.from_estimator(models.search)
    results = models.search.cv_results_
    assert display.param == "reg_covar"
    assert display.ax_.get_xscale() == "log"
    folds = np.stack([results[f"split{i}_test_score"] for i in range(3)])
    errors = folds.std(axis=0, ddof=1) / np.sqrt(3)
    means = results["mean_test_score"]
    for params, mean, error in zip(results["params"], means, errors):
        at = params["n_components"] - 1, display.values.index(params["reg_covar"])
        assert display.means[at] == pytest.approx(mean)
        assert display.errors[at] == pytest.approx(error)
    shown = display.lines_[1].lines[0].get_ydata()
    np.testing.assert_array_equal(shown, display.means[1])
    best = models.search.best_params_["reg_covar"], models.search.best_score_
    np.testing.assert_allclose(display.best_.get_xydata(), [best])
    assert "nats" in display.ax_.get_ylabel()


def test_roles_of_parameters_are_free(models: Any) -> None:
    display = SearchCurveDisplay.from_estimator(models.search, param="n_components")
    assert display.values == [1, 2]
    assert display.ax_.get_xscale() == "linear"
    assert display.labels == [f"reg_covar = {v}" for v in (1e-06, 0.0001, 0.01)]


def test_a_third_parameter_has_its_best_value() -> None:
    grid = {
        "n_components": [1, 2, 3],
        "reg_covar": [1e-4, 1e-3],
        "covariance_type": ["diag", "full"],
    }
    # The second grid leaves it at its default.
    grids = [grid, {"n_components": [1, 2], "reg_covar": [1e-5]}]
    search = GridSearchCV(GaussianDensity(), grids, cv=2).fit(WINE.iloc[:, :4])
    display = SearchCurveDisplay.from_estimator(search)
    best = search.best_params_["covariance_type"]
    assert f"covariance_type={best}" in display.ax_.get_title()
    expected = [
        mean
        for params, mean in zip(
            search.cv_results_["params"], search.cv_results_["mean_test_score"]
        )
        if params.get("covariance_type") == best
    ]
    assert (display.param, display.values) == ("n_components", [1, 2, 3])
    np.testing.assert_allclose(np.sort(display.means, axis=None), np.sort(expected))


def test_values_that_are_no_numbers_and_batched_searches() -> None:
    search = BatchedGridSearchCV(
        VAE(1, max_iter=2, **_NETWORK), {"activation": ["relu", "tanh"]}, cv=2
    ).fit(MOONS)
    display = SearchCurveDisplay.from_estimator(search)
    labels = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert labels == ["relu", "tanh"]


@pytest.mark.parametrize(
    ("values", "scale", "ticks"),
    [
        ([0.25, 0.5, 1, 2], "log", ["0.25", "0.5", "1", "2"]),
        ([1e-4, 1.0], "log", ["0.0001", "1"]),
        ([1, 2, 3, 4], "linear", ["1", "2", "3", "4"]),
        ([0, 1, 10], "linear", ["0", "1", "10"]),
        ([0, 1e-3, 1e-2, 0.1], "symlog", ["0", "0.001", "0.01", "0.1"]),
        ([None, (8,), (8, 8)], "linear", ["None", "(8,)", "(8, 8)"]),
        ([1.0, 10.0, np.inf], "linear", ["1.0", "10.0", "inf"]),
        ([True, False], "linear", ["True", "False"]),
    ],
)
def test_the_scale_follows_the_values(
    values: list[Any], scale: str, ticks: list[Any]
) -> None:
    row = np.zeros((1, len(values)))
    display = SearchCurveDisplay("beta", values, row, row).plot()
    assert display.ax_.get_xscale() == scale
    assert ticks_of(display.ax_.xaxis) == ticks


@pytest.mark.parametrize(
    "values",
    [np.logspace(-4, 2, 13), range(40), [1, 1.01, 1.02, 50], np.geomspace(1, 2)],
)
def test_ticks_of_many_values_leave_room(values: Any) -> None:
    row = np.zeros((1, len(values)))
    display = SearchCurveDisplay("beta", list(values), row, row).plot()
    display.figure_.canvas.draw()
    frame = display.ax_.get_window_extent()
    texts = display.ax_.get_xticklabels(which="both")
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    boxes = [box for box in boxes if frame.x0 <= (box.x0 + box.x1) / 2 <= frame.x1]
    assert len(boxes) >= 2
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_long_names_of_categories_are_turned_and_cut() -> None:
    values = [f"an activation with a long name {i}" for i in range(30)]
    row = np.zeros((1, 30))
    ax = SearchCurveDisplay("activation", values, row, row).plot().ax_
    labels = ax.get_xticklabels()
    assert {label.get_rotation() for label in labels} == {45}
    assert max(len(label.get_text()) for label in labels) <= 24
    assert sum(bool(label.get_text()) for label in labels) <= 20


def test_the_best_of_many_lines_are_drawn() -> None:
    means = np.random.RandomState(0).randn(30, 2)
    means[7] = -np.inf  # and a line that failed is none of them
    labels = [f"alpha = {i}" for i in range(30)]
    display = SearchCurveDisplay(
        "beta", [1, 2], means, 0 * np.abs(np.nan_to_num(means)), labels=labels
    ).plot()
    best = np.sort(np.argsort(-means.max(axis=1))[:10])
    for line, k in zip(display.lines_, best):
        np.testing.assert_array_equal(line.lines[0].get_ydata(), means[k])
    legend: Any = display.ax_.get_legend()
    assert legend.get_title().get_text() == "alpha\nthe 10 best of 30"
    texts = [text.get_text() for text in legend.get_texts()]
    assert sorted(texts) == sorted(["best", *map(str, best)])


def test_a_search_without_a_grid_shows_all_candidates() -> None:
    search = RandomizedSearchCV(
        GaussianMixtureEM(1, max_iter=1),
        {"reg_covar": loguniform(1e-9, 1e-3), "tol": loguniform(1e-6, 1)},
        n_iter=12,
        cv=2,
        random_state=0,
    ).fit(MOONS)
    display = SearchCurveDisplay.from_estimator(search, param="reg_covar")
    results = search.cv_results_
    order = np.argsort(results["param_reg_covar"].astype(float))
    np.testing.assert_allclose(display.means, results["mean_test_score"][None, order])
    assert display.ax_.get_xscale() == "log"
    assert display.title.endswith("best over tol")


def test_colours_have_three_channels() -> None:
    X = np.random.RandomState(0).uniform(size=(60, 8 * 8 * 3))
    model = GaussianDensity(4).fit(X)
    display: Any = ReconstructionDisplay.from_estimator(
        model, X, n_rows=5, image_shape=(8, 8, 3)
    )
    assert display.image_.get_array().shape == (17, 5 * 9 - 1, 3)
    np.testing.assert_allclose(display.image_.get_array()[:8, :8].ravel(), X[0])
    levels: Any = ReconstructionDisplay(255 * X[:2], 255 * X[:2], (8, 8, 3)).plot()
    np.testing.assert_allclose(levels.image_.get_array()[:8, :8].ravel(), X[0])


def test_an_array_of_axes_is_used(models: Any) -> None:
    _, axes = plt.subplots(2, 2)
    display = draw("sampled table", models, ax=axes)
    assert display.axes_ == list(axes[0])


WRONG_LENGTHS: dict[str, Any] = {
    "y of LatentSpaceDisplay has 2 items, and should have 3": lambda: (
        LatentSpaceDisplay(np.zeros((3, 2)), [0, 1])
    ),
    "axis_labels of LatentSpaceDisplay has 1 items": lambda: LatentSpaceDisplay(
        np.zeros((3, 2)), axis_labels=["a"]
    ),
    "codes of LatentSpaceDisplay": lambda: LatentSpaceDisplay(np.zeros((3, 4))),
    "y must hold one label for each row. Got the shape": lambda: LatentSpaceDisplay(
        np.zeros((3, 2)), np.zeros((3, 2))
    ),
    "feature_names of SamplesDisplay has 3 items, and should have 2": (
        lambda: SamplesDisplay(np.zeros((4, 2)), feature_names=["a", "b", "c"])
    ),
    "SamplesDisplay compares tables .* Got 3 and 2": lambda: SamplesDisplay(
        np.zeros((4, 2)), data=np.zeros((4, 3))
    ),
    "levels of SamplesDisplay has 1 items": lambda: SamplesDisplay(
        np.zeros((4, 2)), levels=[None]
    ),
    "reconstructions of ReconstructionDisplay has 3 items": lambda: (
        ReconstructionDisplay(np.zeros((4, 2)), np.zeros((3, 2)))
    ),
    "feature_names of ReconstructionDisplay": lambda: ReconstructionDisplay(
        np.zeros((4, 2)), np.zeros((4, 2)), feature_names=["a"]
    ),
    "image_shape=.* is not the shape of rows with 5": lambda: SamplesDisplay(
        np.zeros((4, 5)), image_shape=(2, 2)
    ),
    "feature_names of ManifoldDisplay has 1": lambda: ManifoldDisplay(
        np.zeros((3, 3, 2)), np.zeros(3), feature_names=["a"]
    ),
    "rows of ManifoldDisplay has 3 items, and should have 4": lambda: ManifoldDisplay(
        np.zeros((3, 3, 2)), np.zeros(4)
    ),
    "values of TraversalDisplay has 4 items, and should have 3": lambda: (
        TraversalDisplay(np.zeros((2, 3, 5)), np.zeros(4), np.arange(2))
    ),
    "latents of TraversalDisplay has 1 items": lambda: TraversalDisplay(
        np.zeros((2, 3, 5)), np.zeros(3), np.arange(1)
    ),
    "feature_mean of TraversalDisplay has 4 items, and should have 5": (
        lambda: TraversalDisplay(
            np.zeros((2, 3, 5)), np.zeros(3), np.arange(2), feature_mean=np.zeros(4)
        )
    ),
    "feature_names of InterpolationDisplay has 2": lambda: InterpolationDisplay(
        np.zeros((4, 3)), feature_names=["a", "b"]
    ),
    "usage of CodebookDisplay has 3 items, and should have 4": lambda: CodebookDisplay(
        np.ones(3) / 3, np.zeros((4, 2))
    ),
    "feature_names of CodebookDisplay has 3": lambda: CodebookDisplay(
        np.ones(4) / 4, np.zeros((4, 2)), feature_names=list("abc")
    ),
    "feature_names of DensityDisplay has 3": lambda: DensityDisplay(
        *cast(tuple[Any, Any, Any], np.zeros((3, 2, 2))), feature_names=list("abc")
    ),
    "finite nowhere": lambda: DensityDisplay(*np.full((3, 2, 2), np.nan)),
    "labels of SearchCurveDisplay has 1 items, and should have 2": (
        lambda: SearchCurveDisplay("a", [1, 2, 3], *np.zeros((2, 2, 3)))
    ),
    "values of SearchCurveDisplay has 2 items": lambda: SearchCurveDisplay(
        "a", [1, 2], *np.zeros((2, 1, 3))
    ),
    "errors of SearchCurveDisplay": lambda: SearchCurveDisplay(
        "a", [1, 2, 3], np.zeros((1, 3)), np.zeros((1, 2))
    ),
    "No candidate": lambda: SearchCurveDisplay(
        "a", [1, 2], np.full((1, 2), np.nan), np.zeros((1, 2))
    ),
}


@pytest.mark.parametrize("message", WRONG_LENGTHS)
def test_lengths_that_do_not_fit_are_named(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WRONG_LENGTHS[message]().plot()


ERRORS: dict[str, Any] = {
    "no curve": (
        lambda m: LossCurveDisplay.from_estimator(m.gaussian),
        "GaussianDensity keeps no curve",
    ),
    "no codebook": (lambda m: CodebookDisplay.from_estimator(m.table), "no codebook"),
    "no continuous code": (
        lambda m: TraversalDisplay.from_estimator(m.tokens),
        "VQVAE has no continuous latent code",
    ),
    "levels of a density": (
        lambda m: DensityDisplay.from_estimator(
            MixedDensity(VAE(1, **{**_NETWORK, "max_iter": 1})).fit(
                TABLE[["ward", "age"]]
            )
        ),
        "'ward' has levels. SamplesDisplay draws them",
    ),
    "thirteen features": (
        lambda m: DensityDisplay.from_estimator(m.gaussian),
        "n_features_in_=13",
    ),
    "shape": (
        lambda m: ReconstructionDisplay.from_estimator(
            m.images, DIGITS, image_shape=(7, 8)
        ),
        "64 features",
    ),
    "channels": (
        lambda m: ReconstructionDisplay.from_estimator(
            m.images, DIGITS, image_shape=(8, 4, 2)
        ),
        "2 channels",
    ),
    "feature": (
        lambda m: SamplesDisplay.from_estimator(m.table, features=["grapes"]),
        "'features' parameter.*grapes",
    ),
    "param": (
        lambda m: SearchCurveDisplay.from_estimator(m.search, param="beta"),
        "'beta' is none of the search's parameters",
    ),
    "metric": (
        lambda m: SearchCurveDisplay.from_estimator(m.search, metric="auc"),
        r"metric='auc' is none of the search's: \['score'\]",
    ),
    "few axes": (
        lambda m: SamplesDisplay.from_estimator(m.table, ax=plt.subplots(1, 2)[1]),
        "9 panels. Got 2 axes",
    ),
    "axes without a place": (
        lambda m: SamplesDisplay.from_estimator(
            m.table, ax=plt.figure().add_axes((0, 0, 1, 1))
        ),
        "plt.subplots",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_what_is_wrong(models: Any, name: str) -> None:
    draw, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        draw(models)


@pytest.mark.parametrize("name", skgen.display.__all__)
def test_without_matplotlib_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    display = getattr(skgen.display, name)
    one = dict.fromkeys(["Reconstruction", "LatentSpace", "TableReport"], 1)
    more: dict[str, Any] = {"Interpolation": 2, **one}
    n_rows = more.get(name.removesuffix("Display"), 0)
    message = rf'{name}\.from_est.*"scikit-generative\[plot\]"'
    with pytest.raises(ImportError, match=message):
        # Before anything is computed: it does not matter that this is no estimator.
        display.from_estimator(object(), *[MOONS] * n_rows)


def test_importing_skgen_leaves_matplotlib_alone() -> None:
    code = "import sys, skgen, skgen.display; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
