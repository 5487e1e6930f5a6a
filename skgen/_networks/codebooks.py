"""Codebooks: nearest codes, their start, their moving averages, gradients through.

A code vector is the mean of the vectors that it is nearest to, over the past steps
with weights that fade. All that changes a codebook is a pure function of its state
and of a batch; what is random in it is an argument.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn import functional as F

from skgen._utils.reduce import Share, totals
from skgen._utils.tensors import to_array, to_tensor

# Weight of the past against a step, in the averages.
DECAY = 0.95
# A code that has less than this part of an equal share of the vectors is dead.
DEAD_SHARE = 0.1
# Averages over fewer steps than give them this weight say nothing of what is dead.
KNOWN_MASS = 0.5
# Vectors for each code that K-means starts from, and its passes over them.
START_ROWS, START_PASSES = 32, 10
# Below this length, as a part of the other vector's, a direction is rounding.
TINY_LENGTH = 1e-6


class CodeAverages(NamedTuple):
    """State of a codebook that follows its vectors by moving averages."""

    vectors: Tensor  # e, (K, c): mean of the vectors that a code is nearest to
    shares: Tensor  # (K,): part of the vectors that a code has, times ``mass``
    mass: Tensor  # (): weight of the steps so far, 1 - decay^steps

    @property
    def usage(self) -> Tensor:
        """Part of the vectors that each code has, (K,), corrected for a short past."""
        return self.shares / self.mass.clamp(min=_tiny(self.mass))


def follow(
    state: CodeAverages, counts: Tensor, sums: Tensor, decay: float = DECAY
) -> CodeAverages:
    """Move each code to the average of its vectors, over this step and the past.

    With ``N`` and ``m`` the averages of counts and sums, ``N <- decay N + (1 - decay)
    counts`` and likewise ``m``, a code is ``e = m / N``. It is kept as ``e`` and
    ``N``, so that one that nothing is nearest to stays where it is.

    Parameters
    ----------
    state : CodeAverages
        Averages before the step.
    counts : Tensor of shape (K,)
        Weight of the vectors that each code is nearest to.
    sums : Tensor of shape (K, c)
        Their weighted sums.
    decay : float, default=0.95
        Weight of the past. With 0, a step is one of Lloyd's algorithm.

    Returns
    -------
    state : CodeAverages
        Averages after the step.

    References
    ----------
    van den Oord, Vinyals & Kavukcuoglu, "Neural discrete representation learning",
    NeurIPS 2017, appendix A.1.

    Examples
    --------
    >>> import torch
    >>> from skgen._networks.codebooks import CodeAverages, follow
    >>> start = CodeAverages(torch.zeros(2, 1), torch.zeros(2), torch.tensor(0.0))
    >>> follow(start, torch.tensor([4.0, 0.0]), torch.tensor([[8.0], [0.0]])).vectors
    tensor([[2.],
            [0.]])
    """
    total = counts.sum().clamp(min=_tiny(counts))
    share = (1 - decay) * counts / total  # of this step, in the new averages
    shares = decay * state.shares + share
    moved = (1 - decay) * sums / total - share[:, None] * state.vectors
    vectors = state.vectors + moved / shares.clamp(min=_tiny(shares))[:, None]
    return CodeAverages(vectors, shares, decay * state.mass + (1 - decay))


def revive(state: CodeAverages, fresh: Tensor) -> CodeAverages:
    """Put dead codes on fresh vectors (K, c), and start their averages anew.

    A code is dead when its usage is below a tenth of an equal share. A revived one
    starts with an equal share: it has time to be found before it is judged again.
    """
    equal = 1 / len(state.shares)
    dead = (state.usage < DEAD_SHARE * equal) & (state.mass >= KNOWN_MASS)
    vectors = torch.where(dead[:, None], fresh, state.vectors)
    shares = torch.where(dead, equal * state.mass, state.shares)
    return CodeAverages(vectors, shares, state.mass)


def pick(z: Tensor, uniform: Tensor, share: Share | None = None) -> Tensor:
    """Vectors (K, c) among z (m, c), at the places that noise (K,) in [0, 1) says.

    Of a share of some vectors, they are among all.
    """
    m = len(z) if share is None else share.size
    places = (uniform * m).long().clamp(max=m - 1)
    return z[places] if share is None else share.rows_at(z, places)


def code_sums(
    z: Tensor, tokens: Tensor, weight: Tensor | None, K: int
) -> tuple[Tensor, Tensor]:
    """Sum weights (K,) and vectors (K, c) over vectors (m, c), by token (m,)."""
    weight = z.new_ones(len(z)) if weight is None else weight
    counts = z.new_zeros(K).index_add(0, tokens, weight)
    sums = z.new_zeros(K, z.shape[1]).index_add(0, tokens, weight[:, None] * z)
    return counts, sums


def k_means_codes(z: Tensor, K: int, generator: torch.Generator) -> Tensor:
    """Start codes (K, c): a few passes of K-means over vectors (m, c)."""
    picks = torch.randperm(len(z), generator=generator)[: START_ROWS * K]
    picks = picks.repeat(-(-K // len(picks)))
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    # Loaded when it is needed: a VAE, which shares this file's objectives, needs none.
    k_means = sklearn.cluster.KMeans(
        K, n_init=1, max_iter=START_PASSES, random_state=seed
    )
    with warnings.catch_warnings():
        # Few passes, and fewer vectors than codes, are meant.
        warnings.simplefilter("ignore", ConvergenceWarning)
        k_means.fit(to_array(z[picks.to(z.device)].cpu().double()))
    centres = to_tensor(k_means.cluster_centers_, z.device, z.dtype)
    # Codes that start from one vector must be able to part.
    noise = torch.randn(centres.shape, generator=generator).to(z)
    return centres + 1e-3 * z.std(correction=0) * noise


def straight_through(z_e: Tensor, e: Tensor) -> Tensor:
    """Codes e (..., c) in place of z_e, to which the gradient is copied."""
    return e.detach() + (z_e - z_e.detach())


def rotated(z_e: Tensor, e: Tensor) -> Tensor:
    """Codes e in place of z_e, to which the gradient is turned: the rotation trick.

    ``e = lambda R z_e``, with R the rotation from the direction of ``z_e`` to that of
    ``e`` (two reflections) and lambda the ratio of their lengths, both held constant.
    So a gradient keeps its angle to the code when it reaches the encoder. Where there
    is no such rotation, of no length or to the opposite side, it is copied.

    Parameters
    ----------
    z_e, e : Tensor of shape (..., c)
        Encoded vectors, and the codes nearest to them.

    Returns
    -------
    z_q : Tensor of shape (..., c)
        The values of ``e``, with gradients to ``z_e``.

    References
    ----------
    Fifty et al., "Restructuring vector quantization with the rotation trick",
    ICLR 2025.

    Examples
    --------
    >>> import torch
    >>> from skgen._networks.codebooks import rotated
    >>> z_e = torch.tensor([1.0, 0.0], requires_grad=True)
    >>> z_q = rotated(z_e, torch.tensor([0.0, 2.0]))
    >>> z_q[1].backward()  # along the code, so along z_e, and twice as long
    >>> z_e.grad.round(decimals=3)
    tensor([2., 0.])
    """
    z, e = z_e.detach(), e.detach()
    length, target = z.norm(dim=-1, keepdim=True), e.norm(dim=-1, keepdim=True)
    u = z / length.clamp(min=_tiny(z))
    v = e / target.clamp(min=_tiny(e))
    middle = u + v
    size = middle.norm(dim=-1, keepdim=True)
    r = middle / size.clamp(min=_tiny(z))
    # (I - 2 r r^T) takes u to -v, and (I - 2 v v^T) that to v; this is their product.
    turned = z_e - 2 * r * (r * z_e).sum(-1, keepdim=True)
    turned = turned + 2 * v * (u * z_e).sum(-1, keepdim=True)
    scaled = target / length.clamp(min=_tiny(z)) * turned
    none = (length <= TINY_LENGTH * target) | (size <= TINY_LENGTH)
    z_q = torch.where(none, z_e, scaled)
    return straight_through(z_q, e)


def _tiny(like: Tensor) -> float:
    """Return the smallest positive number of full precision."""
    return torch.finfo(like.dtype).tiny


class Codebook(nn.Module):
    """K code vectors of width c.

    Parameters
    ----------
    size : int
        K.
    width : int
        c.
    distance : {"euclidean", "cosine"}, default="euclidean"
        What is nearest. Cosine puts codes and vectors on the unit sphere, where the
        squared distance is twice one minus the cosine.

    Attributes
    ----------
    vectors : Parameter of shape (K, c)
        e. A parameter, so that it may be learned by gradients, and is kept with the
        best weights either way.
    shares, mass : Tensor
        The averages, as in :class:`CodeAverages`.
    """

    shares: Tensor  # (K,)
    mass: Tensor  # ()

    def __init__(self, size: int, width: int, distance: str = "euclidean") -> None:
        super().__init__()
        self.distance = distance
        self.vectors = nn.Parameter(self.project(torch.randn(size, width)))
        self.register_buffer("shares", torch.zeros(size))
        self.register_buffer("mass", torch.tensor(0.0))

    def __len__(self) -> int:
        return len(self.vectors)

    def project(self, z: Tensor) -> Tensor:
        """Place vectors (..., c) where codes may be."""
        return F.normalize(z, dim=-1) if self.distance == "cosine" else z

    def forward(self, tokens: Tensor) -> Tensor:
        """Look up the vectors (..., c) of tokens (...)."""
        return self.project(self.vectors)[tokens]

    def distances(self, z: Tensor) -> Tensor:
        """||z - e_k||^2, (..., K), of vectors (..., c)."""
        codes, z = self.project(self.vectors), self.project(z)
        squares = (z**2).sum(-1, keepdim=True) + (codes**2).sum(-1)
        return torch.clamp(squares - 2 * z @ codes.T, min=0)

    def nearest(self, z: Tensor) -> Tensor:
        """Tokens (...) of the codes nearest to vectors (..., c)."""
        return self.distances(z).argmin(-1)

    @property
    def averages(self) -> CodeAverages:
        """State of the moving averages."""
        return CodeAverages(self.vectors.detach(), self.shares, self.mass)

    def followed(
        self,
        z: Tensor,
        uniform: Tensor,
        weight: Tensor | None,
        *,
        moves: bool,
        share: Share | None = None,
    ) -> CodeAverages:
        """Return the averages after the vectors (n, T, c) of a step.

        ``moves`` says that code vectors are these averages. Those that are dead go to
        vectors of the batch that the noise (K,) picks. Of a ``share`` of a batch, both
        are of the whole batch.
        """
        before = self.averages
        tokens = self.nearest(z).flatten()
        if weight is not None:
            weight = weight.repeat_interleave(z.shape[1])
        share = None if share is None else share.repeated(z.shape[1])
        z = z.flatten(0, 1)
        counts, sums = code_sums(z, tokens, weight, len(self))
        if share is not None:
            counts, sums = totals(counts, sums)
        state = follow(before, counts, sums)
        if not moves:
            state = state._replace(vectors=before.vectors)
        return revive(state, pick(z, uniform, share))

    def set_averages(self, state: CodeAverages) -> None:
        """Take the state that ``follow`` or ``revive`` gave."""
        with torch.no_grad():
            self.vectors.copy_(self.project(state.vectors))
            self.shares.copy_(state.shares)
            self.mass.copy_(state.mass)

    def start(self, z: Tensor, generator: torch.Generator) -> None:
        """Start from K-means of encoded vectors (m, c), and forget the averages."""
        codes = k_means_codes(self.project(z), len(self), generator)
        nothing = torch.zeros_like(self.shares)
        self.set_averages(CodeAverages(codes, nothing, torch.zeros_like(self.mass)))


class Codebooks(nn.Module):
    """A codebook for each level of tokens: K code vectors of width c.

    Parameters
    ----------
    sizes : sequence of int
        Tokens of each level, T of all; those of a row lie side by side.
    size, width, distance
        K, c and what is nearest, as in :class:`Codebook`.
    """

    def __init__(
        self, sizes: Sequence[int], size: int, width: int, distance: str = "euclidean"
    ) -> None:
        super().__init__()
        self.sizes, self.size = list(sizes), size
        self.levels = nn.ModuleList(Codebook(size, width, distance) for _ in sizes)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, level: int) -> Codebook:
        """Return the codebook of a level."""
        book = self.levels[level]
        assert isinstance(book, Codebook)
        return book

    def parts(self, values: Tensor, dim: int) -> list[tuple[Codebook, Tensor]]:
        """Return the codebook of each level, and what belongs to it along T places."""
        split = values.split(self.sizes, dim)
        return [(self[level], part) for level, part in enumerate(split)]

    def project(self, z: Tensor) -> Tensor:
        """Place vectors (..., T, c) where codes may be."""
        return torch.cat([book.project(part) for book, part in self.parts(z, -2)], -2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Look up the vectors (..., T, c) of tokens (..., T)."""
        return torch.cat([book(part) for book, part in self.parts(tokens, -1)], -2)

    def distances(self, z: Tensor) -> Tensor:
        """||z - e_k||^2, (..., T, K), of vectors (..., T, c)."""
        return torch.cat([book.distances(part) for book, part in self.parts(z, -2)], -2)

    def nearest(self, z: Tensor) -> Tensor:
        """Tokens (..., T) of the codes nearest to vectors (..., T, c)."""
        return self.distances(z).argmin(-1)

    def followed(
        self, z: Tensor, uniform: Tensor, weight: Tensor | None, **how: Any
    ) -> list[CodeAverages]:
        """Return the averages of each level after the vectors (n, T, c) of a step."""
        return [
            book.followed(part, uniform, weight, **how)
            for book, part in self.parts(z, 1)
        ]

    def set_averages(self, states: Sequence[CodeAverages]) -> None:
        """Take the states that ``followed`` gave."""
        for level, state in enumerate(states):
            self[level].set_averages(state)
