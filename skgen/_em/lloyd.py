"""Lloyd's algorithm: a hard E-step and an M-step, in matrix products."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.utils import check_array
from sklearn.utils.sparsefuncs import mean_variance_axis
from torch import Tensor

from skgen._em.fixed_point import FixedPoint, Iterate, iterate_fixed_point
from skgen._em.incomplete import IncompleteRows
from skgen._em.matrices import nearest_of, squared_distances
from skgen._training.driver import Interrupted
from skgen._utils.chunks import CentredRows, chunk_rows, slices
from skgen._utils.reduce import (
    any_true,
    first_draws,
    gathered,
    rank,
    total,
    totals,
)
from skgen._utils.sparse import SparseRows, dense, on_host
from skgen._utils.tensors import to_array, to_tensor
from skgen._utils.threads import blas_threads_for

# Rounding of a squared distance, relative to those that have to be told apart, up to
# which distances are expanded.
BLUR = 0.01


class Assignment(NamedTuple):
    """The nearest centre of each row, and the squared distance to it.

    Chunks write into it: where they are kept, they lie among the blocks of the work,
    which then come anew from the system for each chunk.
    """

    labels: Tensor  # (n,)
    distances: Tensor  # (n,)

    @classmethod
    def empty(cls, n: int, centres: Tensor) -> Self:
        """Make room for n rows."""
        labels = torch.empty(n, dtype=torch.long, device=centres.device)
        return cls(labels, centres.new_empty(n))

    def split(self, size: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return labels and distances in chunks."""
        return self.labels.split(size), self.distances.split(size)

    def inertia(self, weight: Tensor) -> float:
        """Weighted sum of the squared distances, over the rows of all processes."""
        return float(total(weight @ self.distances))


def assign(rows: CentredRows, centres: Tensor) -> Assignment:
    """E-step: the nearest of the centres (K, d), and the distance to it."""
    found = Assignment.empty(len(rows.x), centres)
    size = chunk_rows(centres.device, sum(centres.shape))
    nearest, square = nearest_of(centres, rows.centre), square_distance(centres)
    for x, k, distance in zip(rows.x.split(size), *found.split(size)):
        k.copy_(nearest(x))
        distance.copy_(square(x, k))
    return found


def measure(rows: CentredRows, centres: Tensor, labels: Tensor) -> Assignment:
    """Take labels as given: the squared distance of each row to its centre."""
    found = Assignment.empty(len(rows.x), centres)._replace(labels=labels)
    size, square = (
        chunk_rows(centres.device, centres.shape[1]),
        square_distance(centres),
    )
    for x, k, distance in zip(rows.x.split(size), *found.split(size)):
        distance.copy_(square(x, k))
    return found


def square_distance(centres: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function of rows (n, d) and labels (n,): squared distances (n,).

    They are summed directly, for nothing to cancel, over the cells that are there.
    """
    ones = centres.new_ones(centres.shape[1])  # a product adds up faster than a sum

    def at(x: Tensor, k: Tensor) -> Tensor:
        found = centres.index_select(0, k).sub_(x).square_() @ ones
        holes = found.isnan()
        if holes.any():
            some = (centres[k[holes]] - x[holes]).nan_to_num_(nan=0.0)
            found[holes] = some.square_() @ ones
        return found

    return at


def column_squares(
    rows: CentredRows, centres: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return weighted squares about the centres of the cells of each column, (d,).

    And the weight of these cells.
    """
    squares, cells = centres.new_zeros(2, centres.shape[1])
    size = chunk_rows(centres.device, centres.shape[1])
    parts = (rows.x, rows.weight, labels)
    for x, w, k in zip(*(part.split(size) for part in parts)):
        rest = x - centres[k]
        cells += w @ rest.isnan().logical_not_().to(w.dtype)
        squares += w @ rest.nan_to_num_(nan=0.0).square_()
    both = totals(squares, cells)
    return both[0], both[1]


def update(rows: CentredRows, found: Assignment, centres: Tensor) -> Tensor:
    """M-step: the weighted mean of each centre's rows.

    It is summed as the shift from the last centre, which loses no digits wherever the
    rows of a centre lie.
    """
    if isinstance(rows, IncompleteRows):
        return _update_cells(rows, found, centres)
    K, d = centres.shape
    weights, sums = centres.new_zeros(K), torch.zeros_like(centres)
    parts = (rows.x, rows.weight, found.labels)
    size = chunk_rows(centres.device, K + d)
    for x, w, k in zip(*(part.split(size) for part in parts)):
        one_hot = centres.new_zeros(len(x), K).scatter_(1, k[:, None], w[:, None])
        weights += one_hot.sum(0)
        sums += one_hot.T @ (x - centres[k])
    weights, sums = totals(weights, sums)
    _reseed(rows, found, centres, weights, sums)
    means = centres + sums / weights[:, None]
    # A centre that is still without rows goes where the largest one is.
    return torch.where(weights[:, None] > 0, means, means[weights.argmax()])


def _update_cells(rows: CentredRows, found: Assignment, centres: Tensor) -> Tensor:
    """M-step over the cells that are there; a centre without some stays there."""
    K, d = centres.shape
    counts, sums = torch.zeros_like(centres), torch.zeros_like(centres)
    parts = (rows.x, rows.weight, found.labels)
    size = chunk_rows(centres.device, K + d)
    for x, w, k in zip(*(part.split(size) for part in parts)):
        one_hot = centres.new_zeros(len(x), K).scatter_(1, k[:, None], w[:, None])
        counts += one_hot.T @ x.isnan().logical_not_().to(w.dtype)
        sums += one_hot.T @ (x - centres[k]).nan_to_num_(nan=0.0)
    counts, sums = totals(counts, sums)
    means = centres + sums / counts.where(counts > 0, 1)
    empty = (counts == 0).all(1).nonzero()[:, 0]
    if len(empty):
        far = _farthest(rows, found, len(empty)).x.to(means)
        means[empty] = torch.where(far.isnan(), means[empty], far)
    return means


class FarRows(NamedTuple):
    """Rows far from their centres, the farthest first."""

    distances: Tensor  # (m,)
    x: Tensor  # (m, d)
    weight: Tensor  # (m,)
    labels: Tensor  # (m,)


def _farthest(rows: CentredRows, found: Assignment, m: int) -> FarRows:
    """Return the m rows that are farthest from their centres, of all processes."""
    few = min(m, len(rows.x))
    index = found.distances.topk(few).indices
    parts = (found.distances, rows.x, rows.weight, found.labels)
    each = [gathered(part[index]) for part in parts]
    order = each[0].topk(min(m, len(each[0]))).indices
    return FarRows(*(part[order] for part in each))


def _reseed(
    rows: CentredRows,
    found: Assignment,
    centres: Tensor,
    weights: Tensor,
    sums: Tensor,
) -> None:
    """Give each centre without rows one of the rows that lie farthest out."""
    empty = (weights == 0).nonzero()[:, 0].tolist()
    if not empty or not any_true(bool(found.distances.any())):
        return
    far = _farthest(rows, found, len(empty))
    for new, x, w, old in zip(empty, *far[1:]):
        sums[old] -= w * (x - centres[old])
        weights[old] -= w
        sums[new], weights[new] = w * (x - centres[new]), w


def lloyd(
    rows: CentredRows, centres: Tensor, *, max_iter: int, tol: float, verbose: int = 0
) -> FixedPoint[Tensor]:
    """Iterate until labels stay, or centres move by at most ``tol``, squared.

    Without the first, centres could move by rounding for ever, with ``tol=0``.
    """
    labels: Tensor | None = None
    labels_stay = False

    def step(centres: Tensor) -> Iterate[Tensor]:
        nonlocal labels, labels_stay
        found = assign(rows, centres)
        moved = labels is None or not torch.equal(found.labels, labels)
        labels, labels_stay = found.labels, not any_true(moved)
        return Iterate(update(rows, found, centres), -found.inertia(rows.weight))

    def settled(previous: Iterate[Tensor], present: Iterate[Tensor]) -> bool:
        moved = ((present.state - previous.state) ** 2).sum()
        return labels_stay or bool(moved <= tol)

    def report(i: int, previous: Any, present: Iterate[Tensor]) -> bool:
        if verbose and not rank():  # in scikit-learn's words
            print(f"Iteration {i - 1}, inertia {-present.bound}.")
        return False

    start = Iterate(centres, -float("inf"))
    return iterate_fixed_point(
        step, start, max_iter=max_iter, settled=settled, on_end=report
    )


def restarted_lloyd(
    rows: CentredRows,
    K: int,
    *,
    init: Any,
    n_init: int | str,
    max_iter: int,
    tol: float,
    rng: np.random.RandomState,
    verbose: int = 0,
    keeps_interrupted: bool = False,
) -> FixedPoint[Tensor]:
    """Run Lloyd's algorithm from several starts, and keep the tightest clusters.

    The parameters are those of `sklearn.cluster.KMeans`, and draw the same starts.
    With ``keeps_interrupted``, Ctrl-C ends the present start, and is the last.
    """
    n = rows.n_rows
    if n < K:
        raise ValueError(f"n_samples={n} should be >= n_clusters={K}.")
    if n_init == "auto":
        n_init = 10 if callable(init) or _is(init, "random") else 1
    tol = tol * float(rows.moments()[1].mean())
    draws = isinstance(init, str) or callable(init)
    whole = rows.sampled(rng) if draws else rows
    if isinstance(whole, IncompleteRows):
        whole = whole.filled()
    runs = list[tuple[float, FixedPoint[Tensor]]]()
    for _ in range(int(n_init) if draws else 1):
        drawn = first_draws(rng, lambda: _start(whole, K, init, rng))
        centres = drawn.to(rows.centre)
        try:
            run = lloyd(rows, centres, max_iter=max_iter, tol=tol, verbose=verbose)
        except Interrupted as cut:
            run = cut.so_far
            if not (keeps_interrupted and (runs or run.bounds)):
                raise
        runs.append((assign(rows, run.state).inertia(rows.weight), run))
        if run.stopped:
            break
    best = min(runs, key=lambda pair: pair[0])[1]
    return best._replace(stopped=run.stopped)


def _is(init: Any, name: str) -> bool:
    return isinstance(init, str) and init == name


def _start(rows: CentredRows, K: int, init: Any, rng: np.random.RandomState) -> Tensor:
    """Draw centres, or take those given, (K, d)."""
    weight, centre = to_array(rows.weight), to_array(rows.centre)
    X, given = centred_array(rows, np.float64), on_host(rows.x)
    if issparse(X):
        centre = np.zeros_like(centre)
    if _is(init, "k-means++"):
        with blas_threads_for(0):
            _, picks = kmeans_plusplus(X, K, sample_weight=weight, random_state=rng)
        start = dense(given[picks])
    elif isinstance(init, str):
        p = weight / weight.sum()
        start = dense(given[rng.choice(len(rows.x), size=K, replace=False, p=p)])
    else:
        start = init(X, K, random_state=rng) + centre if callable(init) else init
    start = check_array(start, dtype=np.float64, input_name="init")
    if start.shape != (K, X.shape[1]):
        raise ValueError(
            f"The shape of the initial centers {start.shape} does not match "
            f"(n_clusters, n_features) = {(K, X.shape[1])}."
        )
    return to_tensor(start, rows.x.device).to(rows.centre)


class Clusters(NamedTuple):
    """Result of K-means."""

    centres: Tensor  # (K, d), wide
    labels: Tensor  # (n,)
    inertia: float | None  # where it is known
    n_iter: int
    is_sure: bool  # whether labels are those of the nearest centres, up to ties


def find_clusters(
    rows: CentredRows,
    K: int,
    *,
    rng: np.random.RandomState,
    init: Any = "k-means++",
    n_init: int | str = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    **params: Any,
) -> Clusters:
    """Find clusters on a CPU by `sklearn.cluster.KMeans`, whose parameters these are.

    It expands distances about the mean of the rows, in their dtype. Where that cannot
    tell the clusters apart, as with a sentinel far from all other rows, this goes on to
    float64, and to Lloyd's algorithm with distances that are summed directly.
    """
    settings = {"init": init, "n_init": n_init, "max_iter": max_iter, "tol": tol}
    state = rng.get_state(legacy=False)
    for dtype in dict.fromkeys((on_host(rows.x[:1]).dtype, np.dtype(np.float64))):
        rng.set_state(state)
        clusters = _by_scikit_learn(rows, K, dtype, rng, **settings, **params)
        if clusters is not None:
            return clusters
    rng.set_state(state)
    verbose = params.get("verbose", 0)
    run = restarted_lloyd(rows, K, rng=rng, verbose=verbose, **settings)
    found = assign(rows, run.state)
    inertia = found.inertia(rows.weight)
    return Clusters(run.state, found.labels, inertia, len(run.bounds), is_sure=True)


def _by_scikit_learn(
    rows: CentredRows,
    K: int,
    dtype: np.dtype[Any],
    rng: np.random.RandomState,
    *,
    init: Any,
    tol: float,
    copy_x: bool = True,
    **params: Any,
) -> Clusters | None:
    """Run scikit-learn's K-means on rows in a dtype; None if rounding decided."""
    X = on_host(rows.x)
    is_float64 = X.dtype == np.float64
    # scikit-learn centres float64 rows by itself, and rounds the mean of float32 rows.
    if not is_float64:
        X = centred_array(rows, dtype)
    centre = 0 if is_float64 or issparse(X) else to_array(rows.centre)
    if not is_plain(X):
        return None
    if rows.is_weighted and float(rows.weight.min()) < np.finfo(dtype).tiny:
        return None  # scikit-learn casts weights to the dtype, where some would be 0
    if tol and (rows.is_weighted or not is_float64):
        # scikit-learn relates tol to the variance in the rows' dtype without weights.
        variances = mean_variance_axis(X, 0)[1] if issparse(X) else np.var(X, axis=0)
        spread = variances.mean()
        tol = tol * float(rows.moments()[1].mean()) / spread if spread else 0.0
    if not isinstance(init, str) and not callable(init):
        init = check_array(init, input_name="init")
        # A wrong shape is for scikit-learn to complain about.
        init = init - centre if init.shape[1:] == X.shape[1:] else init
    params |= {"init": init, "tol": tol, "copy_x": copy_x and is_float64}
    kmeans = KMeans(K, random_state=rng, **params)
    with warnings.catch_warnings(record=True, action="always") as messages:
        _fit(kmeans, X, to_array(rows.weight) if rows.is_weighted else None)
    found = _clusters(kmeans, rows, centre, np.finfo(dtype).eps)
    for each in messages if found else ():
        warnings.warn(each.message, stacklevel=2)
    return found


def _fit(kmeans: KMeans, X: Any, weight: NDArray[Any] | None) -> None:
    # All has been checked, but for what a callable gives.
    checked = not callable(kmeans.init) or None
    checks = config_context(assume_finite=checked, skip_parameter_validation=checked)
    with checks, blas_threads_for(X.size * kmeans.n_clusters):
        kmeans.fit(X, sample_weight=weight)


def _clusters(
    kmeans: KMeans, rows: CentredRows, centre: Any, eps: float
) -> Clusters | None:
    """Return what K-means found on rows minus a centre; None if rounding decided."""
    centres = torch.from_numpy(kmeans.cluster_centers_.astype(np.float64) + centre)
    seen = centres - rows.centre
    # The least square distance that has to be told from none.
    gaps = squared_distances(seen, seen).fill_diagonal_(torch.inf)
    within = float(kmeans.inertia_ or 0.0) / float(rows.weight.sum()) or torch.inf
    least, largest = min(within, float(gaps.min())), float((seen**2).sum(1).max())
    if eps * largest > BLUR * least:
        return None
    # Rows that are as near to two centres as their rounding is large are few.
    rounding = eps * float(centres.abs().max())
    is_sure = len(rows.x) * rounding < BLUR * least**0.5
    is_exact = rows.x.dtype == torch.float64 and not rows.is_weighted
    inertia = kmeans.inertia_ if is_exact else None
    labels = torch.from_numpy(kmeans.labels_).long()
    return Clusters(centres, labels, inertia, kmeans.n_iter_, is_sure)


def centred_array(rows: CentredRows, dtype: Any) -> Any:
    """Copy rows (n, d) minus their centre, in a dtype, to the host.

    Sparse rows stay as they are, about zero, but for the dtype.
    """
    if isinstance(rows.x, SparseRows):
        return on_host(rows.x).astype(dtype, copy=False)
    X = np.empty(rows.x.shape, dtype=dtype)
    size = chunk_rows(rows.x.device, rows.x.shape[1])
    for part, (x, _) in zip(slices(len(X), size), rows.chunks(size)):
        with np.errstate(over="ignore"):
            X[part] = to_array(x)
    return X


def is_plain(X: Any) -> bool:
    """Return whether sums of squares neither overflow nor underflow in X's dtype."""
    info = np.finfo(X.dtype)
    largest = max(float(X.max()), -float(X.min()))
    small, large = info.tiny ** (1 / 2) / info.eps, info.max ** (1 / 2) * info.eps
    return small < largest < large or largest == 0
