"""Small images of one shape each, made from five known factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_scalar, gen_batches

from skgen._utils.tensors import fresh_random_state

Array = NDArray[Any]

FACTOR_NAMES = ["kind", "scale", "orientation", "position_x", "position_y"]

# Radius of the circle around a shape, in widths of the image. Centres stay as far
# from the border as the largest shape reaches.
SMALLEST, LARGEST = 0.16, 0.32

# Pixels that are drawn at a time.
CHUNK_PIXELS = 2**17

DESCR = """\
Shapes: images of one shape each, drawn from five factors
---------------------------------------------------------

Every image shows one white shape on black. Its factors, each with equally spaced
values, are independent in the whole set, which has each combination once:

- kind: rectangle, ellipse or triangle;
- scale: radius of the circle around the shape, 0.16 to 0.32 widths of the image;
- orientation: from 0 up to half a turn, within which no shape looks the same twice;
- position_x, position_y: centre of the shape, 0.32 to 0.68 widths from the left and
  from the top.

Borders are smooth: values are in [0, 1], most of them 0 or 1. They suit a Gaussian
likelihood, or Bernoulli(binarize="dynamic"), which takes grey for the probability of
white; with binary=True all values are 0 or 1, and suit likelihood="bernoulli". The
set is in the manner of dSprites (Matthey et al., 2017), smaller, and drawn by code.
"""


def _rectangle(u: Array, v: Array) -> Array:
    """Two sides to one, with corners on the unit circle."""
    found: Array = np.maximum(np.abs(u) - 2 / np.sqrt(5), np.abs(v) - 1 / np.sqrt(5))
    return found


def _ellipse(u: Array, v: Array) -> Array:
    """Semi-axes 1 and 1/2: F = u^2 + 4 v^2 - 1, over the norm of its gradient."""
    slope = np.hypot(2 * u, 8 * v)
    found: Array = (u**2 + 4 * v**2 - 1) / np.maximum(slope, 1e-6)
    return found


def _triangle(u: Array, v: Array) -> Array:
    """Corners (1, 0), (-1/2, 1/2) and (-1/2, -1/2), so that its centroid is 0."""
    found: Array = np.maximum(-0.5 - u, (u + 3 * np.abs(v) - 1) / np.sqrt(10))
    return found


# Distances to the border, near it, negative inside, of shapes within the unit circle.
_DISTANCES: dict[str, Callable[[Array, Array], Array]] = {
    "rectangle": _rectangle,
    "ellipse": _ellipse,
    "triangle": _triangle,
}


def make_shapes(
    n_samples: int | None = None,
    *,
    image_size: int = 16,
    kinds: Sequence[str] = ("rectangle", "ellipse", "triangle"),
    n_scales: int = 6,
    n_orientations: int = 12,
    n_positions: int = 9,
    binary: bool = False,
    return_factors: bool = False,
    random_state: Any = None,
) -> Any:
    """Draw images of one shape each from known factors.

    The factors are kind, scale, orientation and position. With the defaults there
    are 17496 combinations, drawn in a fraction of a second.

    Parameters
    ----------
    n_samples : int, default=None
        Number of different combinations, drawn at random. ``None`` gives all in
        order, with the last factor changing fastest.
    image_size : int, default=16
        Height and width of an image in pixels; 8 or more.
    kinds : sequence of {"rectangle", "ellipse", "triangle"}, default=all three
        What is drawn.
    n_scales : int, default=6
        Number of sizes.
    n_orientations : int, default=12
        Number of angles, from 0 up to half a turn.
    n_positions : int, default=9
        Number of positions along each side.
    binary : bool, default=False
        Round values to 0 and 1.
    return_factors : bool, default=False
        Return ``(data, factors)`` instead of a Bunch.
    random_state : int, RandomState, Generator or None, default=None
        Source of the draw of combinations; ``None`` is fresh entropy at each call.

    Returns
    -------
    shapes : Bunch
        Dictionary with the attributes:

        - data : ndarray of shape (n_samples, image_size**2), float32 in [0, 1]
        - images : the same as (n_samples, image_size, image_size)
        - factors : ndarray of shape (n_samples, 5), a class from 0 for each factor
        - factor_names : list of str
        - factor_sizes : tuple, the number of classes of each factor
        - factor_values : list of ndarray, the value of each class of each factor
        - image_shape : (image_size, image_size)
        - DESCR : str, a description

    Raises
    ------
    ValueError
        If a parameter is out of its range, or there are fewer combinations than
        ``n_samples``.

    References
    ----------
    Matthey, Higgins, Hassabis & Lerchner, "dSprites: disentanglement testing sprites
    dataset", 2017.

    Examples
    --------
    >>> from skgen.datasets import make_shapes
    >>> shapes = make_shapes(1000, random_state=0)
    >>> shapes.data.shape, shapes.factors.shape
    ((1000, 256), (1000, 5))
    >>> shapes.factor_sizes
    (3, 6, 12, 9, 9)
    """
    check_scalar(image_size, "image_size", Integral, min_val=8)
    values = _factor_values(kinds, n_scales, n_orientations, n_positions)
    sizes = tuple(len(each) for each in values)
    chosen = _choose(n_samples, int(np.prod(sizes)), random_state)
    factors = np.column_stack(np.unravel_index(chosen, sizes))
    images = _draw(factors, values, image_size)
    if binary:
        images = np.round(images)
    data = images.reshape(len(images), -1)
    if return_factors:
        return data, factors
    return Bunch(
        data=data,
        images=images,
        factors=factors,
        factor_names=list(FACTOR_NAMES),
        factor_sizes=sizes,
        factor_values=values,
        image_shape=(image_size, image_size),
        DESCR=DESCR,
    )


def _factor_values(
    kinds: Sequence[str], n_scales: int, n_orientations: int, n_positions: int
) -> list[Array]:
    """Values of each factor, in the order of their names."""
    names = [kinds] if isinstance(kinds, str) else list(kinds)
    if not names or len(set(names)) < len(names) or not set(names) <= set(_DISTANCES):
        raise ValueError(
            "The 'kinds' parameter of make_shapes must be a sequence of different "
            f"names among {', '.join(map(repr, _DISTANCES))}. Got {kinds!r} instead."
        )
    check_scalar(n_scales, "n_scales", Integral, min_val=1)
    check_scalar(n_orientations, "n_orientations", Integral, min_val=1)
    check_scalar(n_positions, "n_positions", Integral, min_val=1)
    centres = _levels(LARGEST, 1 - LARGEST, n_positions)
    return [
        np.array(names),
        _levels(SMALLEST, LARGEST, n_scales),
        np.linspace(0, np.pi, n_orientations, endpoint=False),
        centres,
        centres,
    ]


def _levels(low: float, high: float, n: int) -> Array:
    """Space n values equally; a single one lies in the middle."""
    return np.linspace(low, high, n) if n > 1 else np.array([(low + high) / 2])


def _choose(n_samples: int | None, n_all: int, random_state: Any) -> Array:
    """Draw indices of combinations without replacement, or list all."""
    if n_samples is None:
        return np.arange(n_all)
    check_scalar(n_samples, "n_samples", Integral, min_val=1)
    if n_samples > n_all:
        raise ValueError(
            f"n_samples={n_samples} is more than the {n_all} combinations of the "
            "factors. Raise n_scales, n_orientations or n_positions."
        )
    return fresh_random_state(random_state).choice(n_all, n_samples, replace=False)


def _draw(factors: Array, values: list[Array], size: int) -> Array:
    """Draw images (n, size, size) of the classes (n, 5)."""
    images = np.empty((len(factors), size, size), dtype=np.float32)
    for kind, name in enumerate(values[0]):
        rows = np.flatnonzero(factors[:, 0] == kind)
        for batch in gen_batches(len(rows), CHUNK_PIXELS // size**2 + 1):
            part = factors[rows[batch]]
            places = np.array([values[j][part[:, j]] for j in range(1, 5)])
            images[rows[batch]] = _cover(_DISTANCES[name], places, size)
    return images


def _cover(
    distance: Callable[[Array, Array], Array], places: Array, size: int
) -> Array:
    """Part (n, size, size) of each pixel that shapes cover.

    It falls from 1 to 0 over the width of one pixel around the border. Places (4, n)
    are scales, angles, and the two coordinates of the centres.
    """
    scale, angle, x, y = places[:, :, None, None]
    pixels = (np.arange(size) + 0.5) / size
    right, down = pixels - x, pixels[:, None] - y  # (n, 1, size), (n, size, 1)
    u = (np.cos(angle) * right + np.sin(angle) * down) / scale
    v = (np.cos(angle) * down - np.sin(angle) * right) / scale
    found: Array = np.clip(0.5 - distance(u, v) * scale * size, 0, 1)
    return found
