"""The shapes show their factors; Fashion-MNIST is read as it was written."""

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skgen.datasets import load_fashion_mnist, make_shapes

pytestmark = pytest.mark.usefixtures("guarded_generators")

KINDS = ("rectangle", "ellipse", "triangle")


@pytest.fixture(scope="module")
def shapes() -> Any:
    return make_shapes()


def few_shapes(**params: Any) -> Any:
    """Shapes of three kinds, two scales, four orientations and two positions."""
    sizes: dict[str, Any] = {"n_scales": 2, "n_orientations": 4, "n_positions": 2}
    return make_shapes(**{**sizes, **params})


def values_of(shapes: Any, name: str) -> Any:
    """Value of a factor, one for each image."""
    j = shapes.factor_names.index(name)
    return shapes.factor_values[j][shapes.factors[:, j]]


def moments(shapes: Any) -> tuple[Any, ...]:
    """Mass of images (n,), their centroids (n, 2), and covariances (n, 2, 2)."""
    size = shapes.image_shape[0]
    pixels = (np.arange(size) + 0.5) / size
    down, right = np.meshgrid(pixels, pixels, indexing="ij")
    points = np.column_stack([right.ravel(), down.ravel()])
    mass = shapes.data.sum(1, dtype=np.float64)
    centroid = shapes.data @ points / mass[:, None]
    seconds = np.einsum("np,pi,pj->nij", shapes.data, points, points)
    outer = centroid[:, :, None] * centroid[:, None]
    return mass / size**2, centroid, seconds / mass[:, None, None] - outer


# Shapes.


def test_the_whole_set_has_each_combination_once_in_order(shapes: Any) -> None:
    assert shapes.factor_sizes == (3, 6, 12, 9, 9)
    expected = np.indices(shapes.factor_sizes).reshape(5, -1).T
    np.testing.assert_array_equal(shapes.factors, expected)
    assert shapes.factor_names[0] == "kind"
    assert [len(values) for values in shapes.factor_values] == [3, 6, 12, 9, 9]


def test_no_two_combinations_look_the_same(shapes: Any) -> None:
    assert len({row.tobytes() for row in shapes.data}) == len(shapes.data)


def test_values_are_grey_between_zero_and_one(shapes: Any) -> None:
    assert shapes.data.dtype == np.float32
    assert shapes.data.min() == 0
    assert shapes.data.max() == 1
    grey = ((shapes.data > 0) & (shapes.data < 1)).mean()
    assert 0.05 < grey < 0.1


def test_images_are_the_rows_of_the_data(shapes: Any) -> None:
    assert shapes.data.shape == (17496, 256)
    assert shapes.images.shape == (17496, *shapes.image_shape)
    assert np.shares_memory(shapes.images, shapes.data)
    np.testing.assert_array_equal(shapes.images[5].ravel(), shapes.data[5])


@pytest.mark.parametrize(("size", "pixels"), [(16, 0.3), (32, 0.15)])
def test_the_centroid_is_the_position(size: int, pixels: float) -> None:
    shapes = few_shapes(image_size=size, n_positions=5)
    _, centroid, _ = moments(shapes)
    x, y = values_of(shapes, "position_x"), values_of(shapes, "position_y")
    error = np.abs(centroid - np.column_stack([x, y])).max()
    assert error * size < pixels


def test_the_area_is_that_of_the_shape() -> None:
    shapes = few_shapes(image_size=64)
    mass, _, _ = moments(shapes)
    areas = {"rectangle": 8 / 5, "ellipse": math.pi / 2, "triangle": 3 / 4}
    unit = np.array([areas[kind] for kind in values_of(shapes, "kind")])
    expected = unit * values_of(shapes, "scale") ** 2
    np.testing.assert_allclose(mass, expected, rtol=0.015)


def test_the_long_axis_has_the_orientation() -> None:
    shapes = few_shapes(image_size=64, n_orientations=6)
    _, _, covariance = moments(shapes)
    (a, b), (_, d) = covariance.transpose(1, 2, 0)
    angle = 0.5 * np.arctan2(2 * b, a - d)
    difference = angle - values_of(shapes, "orientation")
    # Angles of axes are the same after half a turn.
    assert np.abs(np.sin(difference)).max() < math.sin(math.radians(2))


def test_the_smallest_turn_changes_the_image_of_every_kind(shapes: Any) -> None:
    by_factors = shapes.data.reshape(*shapes.factor_sizes, -1)
    turned = np.abs(by_factors - np.roll(by_factors, 1, axis=2)).max(-1)
    assert turned.min() > 0.2


def test_a_draw_has_different_combinations_from_the_whole_set(shapes: Any) -> None:
    drawn = make_shapes(500, random_state=0)
    rows = np.ravel_multi_index(drawn.factors.T, shapes.factor_sizes)
    assert len(set(rows)) == 500
    assert (np.diff(rows) < 0).any()
    np.testing.assert_array_equal(drawn.data, shapes.data[rows])


def test_a_draw_repeats_with_its_seed() -> None:
    data = [make_shapes(20, random_state=seed).data for seed in (0, 0, 1, None, None)]
    np.testing.assert_array_equal(data[0], data[1])
    assert not np.array_equal(data[0], data[2])
    assert not np.array_equal(data[3], data[4])


def test_a_draw_may_be_the_whole_set() -> None:
    drawn, whole = few_shapes(n_samples=96, random_state=0), few_shapes()
    order = np.lexsort(drawn.factors.T[::-1])
    np.testing.assert_array_equal(drawn.data[order], whole.data)


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_is_drawn_as_among_others(kind: str) -> None:
    whole, alone = few_shapes(), few_shapes(kinds=(kind,))
    assert alone.factor_sizes == (1, 2, 4, 2, 2)
    expected = whole.data[values_of(whole, "kind") == kind]
    np.testing.assert_array_equal(alone.data, expected)


def test_a_single_value_is_the_middle_one() -> None:
    shapes = make_shapes(n_scales=1, n_orientations=1, n_positions=1)
    _, scales, angles, x, y = shapes.factor_values
    assert scales == pytest.approx([0.24])
    assert angles == [0]
    assert x == y == [0.5]


def test_binary_values_are_rounded() -> None:
    grey, binary = few_shapes(), few_shapes(binary=True)
    assert set(np.unique(binary.data)) == {0, 1}
    assert binary.data.dtype == np.float32
    assert np.abs(binary.data - grey.data).max() <= 0.5


def test_factors_come_as_a_pair() -> None:
    data, factors = few_shapes(return_factors=True)
    np.testing.assert_array_equal(data, few_shapes().data)
    np.testing.assert_array_equal(factors, few_shapes().factors)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_samples": 0}, "n_samples == 0, must be >= 1"),
        ({"n_samples": 97}, "n_samples=97 is more than the 96 combinations"),
        ({"image_size": 7}, "image_size == 7, must be >= 8"),
        ({"kinds": ("square",)}, r"'kinds'.*'rectangle', .*Got \('square',\) instead"),
        ({"kinds": ("ellipse", "ellipse")}, "'kinds'.*different names"),
        ({"kinds": ()}, r"'kinds'.*Got \(\) instead"),
        ({"n_scales": 0}, "n_scales == 0"),
        ({"n_orientations": 0}, "n_orientations == 0"),
        ({"n_positions": 0}, "n_positions == 0"),
    ],
)
def test_errors_of_shapes_name_what_is_wrong(
    params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        few_shapes(**params)


# Fashion-MNIST.

N_ROWS = {"train": 6, "t10k": 4}
NAMES = [
    f"{part}-{kind}"
    for part in N_ROWS
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
]


def idx(array: NDArray[Any]) -> bytes:
    """Write bytes as an idx file: magic number, sizes, values."""
    sizes = np.array(array.shape, dtype=">i4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def some_files() -> dict[str, Any]:
    """Make images and labels of both parts, by the names of their files."""
    rng = np.random.RandomState(0)
    arrays = {}
    for part, n in N_ROWS.items():
        arrays[f"{part}-images-idx3-ubyte"] = rng.randint(256, size=(n, 28, 28))
        arrays[f"{part}-labels-idx1-ubyte"] = rng.randint(10, size=n)
    return arrays


@pytest.fixture
def arrays() -> dict[str, Any]:
    return some_files()


@pytest.fixture
def folder(tmp_path: Path, arrays: dict[str, Any]) -> Path:
    """Write the four files, the labels compressed."""
    for name, array in arrays.items():
        if "labels" in name:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (tmp_path / name).write_bytes(idx(array))
    return tmp_path


@pytest.mark.parametrize(
    ("subset", "parts"),
    [("train", ["train"]), ("test", ["t10k"]), ("all", ["train", "t10k"])],
)
def test_files_are_read_as_they_were_written(
    folder: Path, arrays: dict[str, Any], subset: str, parts: list[Any]
) -> None:
    fashion = load_fashion_mnist(folder, subset=subset)
    images = np.concatenate([arrays[f"{part}-images-idx3-ubyte"] for part in parts])
    labels = np.concatenate([arrays[f"{part}-labels-idx1-ubyte"] for part in parts])
    np.testing.assert_array_equal(fashion.images, images)
    np.testing.assert_array_equal(fashion.data, images.reshape(len(images), -1))
    np.testing.assert_array_equal(fashion.target, labels)
    assert fashion.data.dtype == np.uint8
    assert fashion.target.dtype == np.int64
    assert fashion.data.flags.writeable
    assert fashion.image_shape == (28, 28)
    assert len(fashion.target_names) == 10


def test_all_files_may_be_compressed(tmp_path: Path, arrays: dict[str, Any]) -> None:
    for name, array in arrays.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    fashion = load_fashion_mnist(tmp_path)
    np.testing.assert_array_equal(fashion.images, arrays[NAMES[0]])


def test_one_part_needs_no_files_of_the_other(folder: Path) -> None:
    for path in folder.glob("train-*"):
        path.unlink()
    assert len(load_fashion_mnist(folder, subset="test").data) == 4


def test_floats_are_parts_of_the_largest_level(
    folder: Path, arrays: dict[str, Any]
) -> None:
    fashion = load_fashion_mnist(folder, as_float=True)
    assert fashion.data.dtype == np.float32
    np.testing.assert_array_equal(np.round(fashion.images * 255), arrays[NAMES[0]])
    assert fashion.data.max() <= 1


def test_rows_and_classes_come_as_a_pair(folder: Path) -> None:
    X, y = load_fashion_mnist(str(folder), return_X_y=True)
    fashion = load_fashion_mnist(folder)
    np.testing.assert_array_equal(X, fashion.data)
    np.testing.assert_array_equal(y, fashion.target)


def test_the_environment_names_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKGEN_DATA", str(folder))
    assert len(load_fashion_mnist().data) == 6


def test_without_a_folder_the_error_says_how_to_give_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SKGEN_DATA", raising=False)
    with pytest.raises(ValueError, match=r"'folder'.*SKGEN_DATA"):
        load_fashion_mnist()


def test_missing_files_are_named_with_their_source(folder: Path) -> None:
    (folder / NAMES[0]).unlink()
    message = f"Found no {NAMES[0]} in .*dataset-fashion-mnist"
    with pytest.raises(FileNotFoundError, match=message):
        load_fashion_mnist(folder)
    with pytest.raises(FileNotFoundError, match=", ".join(NAMES)):
        load_fashion_mnist(folder / "elsewhere", subset="all")


def test_an_unknown_subset_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"'subset'.*'all'.*Got 'valid' instead"):
        load_fashion_mnist(folder, subset="valid")


IMAGES, LABELS = some_files()[NAMES[0]], some_files()[NAMES[1]]
BROKEN: dict[str, Any] = {
    "labels for images": (NAMES[0], idx(LABELS), "begins with"),
    "empty": (NAMES[0], b"", "begins with"),
    "header only in part": (NAMES[0], idx(IMAGES)[:10], "begins with"),
    "header alone": (NAMES[0], idx(IMAGES)[:16], r"has 0 values .*\(6, 28, 28\)"),
    "too short": (NAMES[0], idx(IMAGES)[:-1], "has 4703 values"),
    "too long": (NAMES[0], idx(IMAGES) + b"0", "has 4705 values"),
    "other images": (NAMES[0], idx(IMAGES[:, :, :20]), r"\(6, 28, 20\)"),
    "other number": (NAMES[0], idx(IMAGES[:5]), "5 images, but .* 6 labels"),
    "no gzip": (f"{NAMES[1]}.gz", idx(LABELS), "no whole gzip file"),
    "half a gzip": (
        f"{NAMES[1]}.gz",
        gzip.compress(idx(LABELS))[:-9],
        "no whole gzip file",
    ),
    "other classes": (f"{NAMES[1]}.gz", gzip.compress(idx(LABELS + 10)), "label 1"),
}


@pytest.mark.parametrize(("name", "content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_named(
    folder: Path, name: str, content: bytes, message: str
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_fashion_mnist(folder)
    assert name in str(error.value)
