"""Approximate nearest patches by propagation and random search (Barnes et al. 2009).

A field gives each patch of an image a patch of the exemplar. Neighbours of a patch tend
to have neighbours of its match as theirs, so good matches propagate; random search
around a match refines it. Here all patches take a step at once: they look at neighbours
at falling distances, instead of one after the other along the rows. They start from
matches that are near along a few principal axes, found by a k-d tree (He & Sun 2012):
in textures neighbours often match nothing alike, so that little propagates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn import functional as F

from skgen._utils.parameters import (
    device,
    estimator,
    integer,
    parameter,
    random_state,
    verbosity,
)
from skgen._utils.tensors import check_random_state
from skgen.textures.images import TextureModel

# Numbers that the patches of one comparison may hold at a time.
COMPARED_ELEMENTS = 2**23
# Distances at which a patch looks at its neighbours' matches.
JUMPS = (8, 4, 2, 1)
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))
# Random search: by how much its radius falls, and draws per radius. Measured: slower
# falls find more per comparison than more rounds do.
FALL, DRAWS = 0.8, 2
# Principal axes of patches that the start is found along, patches that these are taken
# from, and by how much a start may be farther than the nearest along them.
N_AXES, AXES_PATCHES, SLACK = 16, 4096, 1.0


class Patches(NamedTuple):
    """All patches of an image: a view of it, without a copy."""

    view: Tensor  # (rows, columns, p, p, c)
    known: Tensor  # (rows, columns): whether all pixels of a patch are known

    @classmethod
    def of(cls, image: Tensor, size: int) -> Self:
        """Take an image (h, w, c), whose unknown pixels are NaN."""
        view = image.unfold(0, size, 1).unfold(1, size, 1).permute(0, 1, 3, 4, 2)
        unknown = image.isnan().any(-1).to(torch.float32)
        known = F.max_pool2d(unknown[None, None], size, stride=1)[0, 0] == 0
        return cls(view, known)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.known.shape[0], self.known.shape[1]

    def axes(self) -> Tensor:
        """Return the first principal axes (p * p * c, k) of known patches."""
        i, j = self.known.nonzero().unbind(-1)
        step = -(-len(i) // AXES_PATCHES)
        rows = self.view[i[::step], j[::step]].flatten(1)
        axes: Tensor = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh
        return axes[:N_AXES].T

    def along(self, axes: Tensor) -> NDArray[Any]:
        """Return coordinates (rows, columns, k) of patches, row by row."""
        parts = [patches.flatten(1) @ axes for patches in self.view]
        return torch.stack(parts).cpu().numpy()


class Search:
    """The search for the field of nearest patches: matches and their distances."""

    def __init__(
        self,
        target: Patches,
        source: Patches,
        generator: torch.Generator,
        start: Tensor | None = None,
    ) -> None:
        self.target, self.source, self.generator = target, source, generator
        self.field = self._start() if start is None else start  # (rows, columns, 2)
        self.cost = self._distances(self.field)

    def _start(self) -> Tensor:
        """Match patches with known ones of the source that are near along its axes."""
        axes, known = self.source.axes(), self.source.known
        tree = KDTree(self.source.along(axes)[known.cpu().numpy()])
        _, index = tree.query(self.target.along(axes), eps=SLACK)
        return known.nonzero()[torch.from_numpy(index).to(known.device)]

    def _distances(self, field: Tensor) -> Tensor:
        """Squared distances (rows, columns) to the patches that a field gives."""
        i, j = field.unbind(-1)
        size = max(
            1, COMPARED_ELEMENTS // self.source.view[0, 0].numel() // len(field[0])
        )
        parts = [
            (self.source.view[a, b] - patches).square_().sum((-3, -2, -1))
            for a, b, patches in zip(
                i.split(size), j.split(size), self.target.view.split(size)
            )
        ]
        cost = torch.cat(parts)
        return torch.where(self.source.known[i, j], cost, torch.inf)

    def _try(self, candidates: Tensor) -> None:
        """Take candidates (rows, columns, 2) where they are nearer."""
        for axis, n in enumerate(self.source.shape):
            candidates[..., axis].clamp_(0, n - 1)
        cost = self._distances(candidates)
        nearer = cost < self.cost
        self.cost = torch.where(nearer, cost, self.cost)
        self.field = torch.where(nearer[..., None], candidates, self.field)

    def propagate(self) -> None:
        """Try the neighbours' matches, moved by as much as the neighbours are."""
        rows, columns = self.target.shape
        for jump in JUMPS:
            for down, right in DIRECTIONS:
                moved = torch.tensor([down * jump, right * jump]).to(self.field)
                i = (torch.arange(rows) - down * jump).clamp(0, rows - 1)
                j = (torch.arange(columns) - right * jump).clamp(0, columns - 1)
                self._try(self.field[i][:, j] + moved)

    def refine(self) -> None:
        """Try matches drawn from windows around the present ones, ever smaller."""
        radius = float(max(self.source.shape))
        while radius >= 1:
            for _ in range(DRAWS):
                uniform = torch.empty(self.field.shape, device=self.field.device)
                uniform.uniform_(-radius, radius, generator=self.generator)
                self._try(self.field + uniform.round().long())
            radius *= FALL

    def run(self, n_iter: int) -> Self:
        """Propagate and refine in turn."""
        for _ in range(n_iter):
            self.propagate()
            self.refine()
        return self


def vote(
    field: Tensor, source: Patches, shape: tuple[int, ...], weight: Tensor | None = None
) -> Tensor:
    """Average, in each pixel of an image (h, w, c), the matched patches over it.

    Patches (rows, columns) have weights, or count one each.
    """
    p = source.view.shape[2]
    rows, columns = field.shape[:2]
    i, j = field.unbind(-1)
    weight = torch.ones_like(source.view[i, j, 0, 0, 0]) if weight is None else weight
    total, count = source.view.new_zeros(shape), source.view.new_zeros(*shape[:2], 1)
    for a in range(p):
        for b in range(p):
            under = slice(a, a + rows), slice(b, b + columns)
            total[under] += weight[..., None] * source.view[i, j, a, b]
            count[under] += weight[..., None]
    return total / count


def similarity(cost: Tensor, over_hole: Tensor) -> Tensor:
    """Weights exp(-cost / 2 s^2) of matches, by their costs (Wexler et al. 2007).

    s^2 is the lower quartile over a hole: elsewhere patches may match themselves.
    """
    scale = cost[over_hole].quantile(0.25).clamp(min=torch.finfo(cost.dtype).tiny)
    # Above zero, for a pixel whose patches all match badly to have a mean.
    return (-0.5 * cost / scale).exp().clamp(min=1e-12)


def finer(field: Tensor, target: Patches, source: Patches) -> Tensor:
    """Return a field (rows, columns, 2) of twice the size of a coarser one."""
    rows, columns = target.shape
    i, j = torch.arange(rows).to(field), torch.arange(columns).to(field)
    coarse = field[(i // 2).clamp(max=len(field) - 1)]
    coarse = coarse[:, (j // 2).clamp(max=field.shape[1] - 1)]
    odd = torch.stack(torch.meshgrid(i % 2, j % 2, indexing="ij"), dim=-1)
    limit = torch.tensor(source.shape).to(field) - 1
    return (2 * coarse + odd).minimum(limit)


def nearest_known(field: Tensor, source: Patches) -> Tensor:
    """Replace matches that have unknown pixels by the known patch next to them."""
    unknown = ~source.known[field[..., 0], field[..., 1]]
    if not unknown.any():
        return field
    index = distance_transform_edt(
        ~source.known.cpu().numpy(), return_distances=False, return_indices=True
    )
    nearest = torch.from_numpy(np.moveaxis(index, 0, -1)).to(field)
    return nearest[field[..., 0], field[..., 1]]


def shrink(image: Tensor) -> Tensor:
    """Halve an image (h, w, c), averaging known pixels; NaN where none is."""
    known = ~image.isnan()
    parts = torch.cat([image.nan_to_num(), known.to(image)], dim=-1).movedim(-1, 0)
    total, count = F.avg_pool2d(parts, 2, ceil_mode=True).movedim(0, -1).chunk(2, -1)
    return torch.where(count > 0, total / count, torch.nan)


@estimator
class PatchMatch(TextureModel):
    """Nearest patches of an exemplar, and images made of them.

    Parameters
    ----------
    patch_size : int, default=7
        Side of the square patches.
    n_iter : int, default=4
        Rounds of propagation and random search.
    n_votes : int, default=4
        Rounds of matching and voting per scale in ``fill``.
    random_state : int, RandomState, Generator or None, default=None
        Source of the search.
    verbose : int, default=0
        Above 0, ``fill`` prints a line per scale.
    device : str or torch.device, default="cpu"
        "cpu", "cuda", "cuda:<index>", "mps" or "auto".

    Attributes
    ----------
    exemplar_ : ndarray of shape (height, width, n_channels)
        The exemplar; NaN where unknown.
    shape_ : tuple of int
        Height and width of the exemplar.
    device_ : str
        Where patches are compared.

    Notes
    -----
    A round costs O(pixels x patch area x log(size)); the exact field costs O(pixels x
    exemplar x patch area).

    References
    ----------
    Barnes, Shechtman, Finkelstein & Goldman, "PatchMatch: a randomized correspondence
    algorithm for structural image editing", ACM Transactions on Graphics 28(3), 2009.

    He & Sun, "Computing nearest-neighbor fields via propagation-assisted kd-trees",
    CVPR 2012: the start.

    Wexler, Shechtman & Irani, "Space-time completion of video", IEEE Transactions on
    Pattern Analysis and Machine Intelligence 29(3), 2007: the filling of holes.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen.textures import PatchMatch
    >>> image = np.random.RandomState(0).rand(24, 24)
    >>> model = PatchMatch(patch_size=3, random_state=0).fit(image)
    >>> bool(np.abs(model.reconstruct(image[:12]) - image[:12]).max() < 0.2)
    True
    """

    _: KW_ONLY
    patch_size: int = parameter(integer(1), default=7)
    n_iter: int = parameter(integer(1), default=4)
    n_votes: int = parameter(integer(1), default=4)
    random_state: Any = parameter(random_state, default=None)
    verbose: int = parameter(verbosity, default=0)
    device: str | torch.device = parameter(device, default="cpu")

    def fit(
        self, X: ArrayLike, y: Any = None, *, mask: ArrayLike | None = None
    ) -> Self:
        """Keep the image whose patches are to be used.

        Parameters
        ----------
        X : array-like of shape (height, width) or (height, width, channels)
            The exemplar; NaN is an unknown pixel, and no patch with one is used.
        y : None
            Ignored, present for API consistency by convention.
        mask : array-like of bool of shape (height, width), default=None
            True where a pixel is unknown, for images of integers.

        Returns
        -------
        self : PatchMatch
            The fitted model.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or no patch of the image is known.
        """
        self.exemplar_ = self._read_exemplar(X, mask, min_side=self.patch_size)
        self._patch_size = self.patch_size
        if not self._patches(self.exemplar_).known.any():
            raise ValueError(
                f"No patch of {self.patch_size} x {self.patch_size} pixels of the "
                "image is wholly known. Lower 'patch_size', or give an image with "
                "fewer holes."
            )
        return self

    def match(self, X: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Find the nearest patch of the exemplar for each patch of an image.

        Parameters
        ----------
        X : array-like of shape (height, width) or (height, width, channels)
            An image of as many channels as the exemplar.

        Returns
        -------
        field : ndarray of shape (height - p + 1, width - p + 1, 2)
            Row and column of the upper left pixel of the match, p the patch size.
        distance : ndarray of shape (height - p + 1, width - p + 1)
            Euclidean distance to it, over all pixels and channels of the patch.
        """
        search = self._search(self._whole(X))
        return search.field.cpu().numpy(), search.cost.sqrt().double().cpu().numpy()

    def reconstruct(self, X: ArrayLike) -> NDArray[Any]:
        """Make an image of the patches of the exemplar.

        Parameters
        ----------
        X : array-like of shape (height, width) or (height, width, channels)
            An image of as many channels as the exemplar.

        Returns
        -------
        image : ndarray
            In each pixel, the mean of the matched patches over it.
        """
        pixels = self._whole(X)
        search = self._search(pixels)
        image = vote(search.field, search.source, pixels.shape)
        return self._layout.restore(image.double().cpu().numpy())

    def fill(self, X: ArrayLike, mask: ArrayLike | None = None) -> NDArray[Any]:
        """Fill the unknown pixels of an image with what the exemplar's patches vote.

        Matching and voting in turn, from coarse to fine: each patch over a hole comes
        to look like one of the exemplar.

        Parameters
        ----------
        X : array-like of shape (height, width) or (height, width, channels)
            The image, with as many channels as the exemplar (it may be the exemplar);
            NaN is an unknown pixel.
        mask : array-like of bool of shape (height, width), default=None
            True where a pixel is unknown, for images of integers.

        Returns
        -------
        image : ndarray
            The image; pixels that were known are as they were.
        """
        pixels = self._read_like_exemplar(X, mask)
        if np.isnan(pixels).any(-1).all():
            raise ValueError(
                "PatchMatch.fill needs known pixels around a hole: none is."
            )
        self._check_size(pixels)
        scales = list(self._scales(pixels))
        generator = self._generator()
        filled, field = scales[-1][0], None
        for number, (image, exemplar) in enumerate(reversed(scales), 1):
            if self.verbose:
                print(f"scale {number} of {len(scales)}: {tuple(image.shape[:2])}")
            filled, field = self._fill_scale(image, exemplar, field, generator)
        result = np.where(np.isnan(pixels), filled.double().cpu().numpy(), pixels)
        return self._layout.restore(result)

    def _scales(self, pixels: NDArray[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield image and exemplar, halved as long as the exemplar keeps patches."""
        image, exemplar = (
            self._tensor(a, torch.float32) for a in (pixels, self.exemplar_)
        )
        smallest = 2 * self._patch_size
        while True:
            yield image, exemplar
            image, exemplar = shrink(image), shrink(exemplar)
            sides = (*image.shape[:2], *exemplar.shape[:2])
            if min(sides) < smallest or not image.isfinite().any():
                return
            if not Patches.of(exemplar, self._patch_size).known.any():
                return

    def _fill_scale(
        self,
        image: Tensor,
        exemplar: Tensor,
        coarser: Tensor | None,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Fill the holes of one scale (h, w, c), from the field of the coarser one.

        The coarser field votes with this scale's pixels: details come from there, and
        not from an enlarged image.
        """
        hole, source = image.isnan(), Patches.of(exemplar, self._patch_size)
        over_hole = ~Patches.of(image, self._patch_size).known
        if not over_hole.any():
            over_hole = torch.ones_like(over_hole)
        filled = torch.where(hole, image.nanmean((0, 1)), image)
        target = Patches.of(filled, self._patch_size)
        field = None if coarser is None else finer(coarser, target, source)
        if field is not None:
            field = nearest_known(field, source)
            filled = torch.where(hole, vote(field, source, image.shape), image)
        for number in range(self.n_votes):
            # The votes change little, and later searches start from the last field.
            n_iter = self.n_iter if number == 0 else -(-self.n_iter // 2)
            target = Patches.of(filled, self._patch_size)
            search = Search(target, source, generator, field).run(n_iter)
            field, weight = search.field, similarity(search.cost, over_hole)
            voted = vote(field, source, image.shape, weight)
            filled = torch.where(hole, voted, image)
        assert field is not None
        return filled, field

    def _whole(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the pixels of an image that has no holes."""
        pixels = self._read_like_exemplar(X)
        self._refuse_unknown(pixels, "use fill")
        self._check_size(pixels)
        return pixels

    def _check_size(self, pixels: NDArray[Any]) -> None:
        if min(pixels.shape[:2]) < self._patch_size:
            raise ValueError(
                f"The image, {pixels.shape[0]} x {pixels.shape[1]}, is smaller than a "
                f"patch of {self._patch_size} x {self._patch_size}. Give a larger one, "
                "or lower 'patch_size'."
            )

    def _search(self, pixels: NDArray[np.float64]) -> Search:
        check_is_fitted(self)
        target = self._patches(pixels)
        return Search(target, self._patches(self.exemplar_), self._generator()).run(
            self.n_iter
        )

    def _patches(self, pixels: NDArray[np.float64]) -> Patches:
        return Patches.of(self._tensor(pixels, torch.float32), self._patch_size)

    def _generator(self) -> torch.Generator:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return torch.Generator(self.device_).manual_seed(seed)
