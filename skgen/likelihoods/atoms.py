"""Columns with a mass at some values, and a density of the rest: zeros, caps, codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from skgen.likelihoods.kinds import Kind, Real

# Part of an atom, or of a standard deviation, by which a cell at the atom may be off
# for rounding, in units of the precision.
SLACK = 8


class Inflated(Kind):
    """Cells that are one of some values, each with a mass, or have another density.

    The decoder gives a logit for each of the A values, the atoms, against one of zero
    for the rest, and beside them what the density of the rest needs.

    Parameters
    ----------
    base : Kind
        The density of the rest.
    atoms : sequence of float
        The values, in the units of the rows.
    shared : sequence of bool
        Whether the base has a mass of its own at an atom, which then has both.
    """

    positions: Tensor  # (c, A), the atoms as the networks see them
    log_scale: Tensor  # (c,), of the standardiser

    def __init__(
        self, n_columns: int, base: Kind, atoms: Sequence[float], shared: Sequence[bool]
    ) -> None:
        super().__init__()
        self.base, self.atoms, self.n_atoms = base, tuple(atoms), len(atoms)
        self.shared = tuple(each and base.is_mass for each in shared)
        self.n_outputs = self.n_atoms + base.n_outputs
        self.n_inputs = self.n_atoms + base.n_inputs
        self.is_mass, self.filler = base.is_mass, base.filler
        positions = torch.tensor(self.atoms, dtype=torch.float64).repeat(n_columns, 1)
        self.register_buffer("positions", positions)
        zeros = torch.zeros(n_columns, dtype=torch.float64)
        self.register_buffer("log_scale", zeros)

    def scaling(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Standardise the rest."""
        rest, at = self._rest(x)
        return self.base.scaling(rest, weight * ~at.any(-1))

    def set_scale(self, shift: Tensor, scale: Tensor) -> None:
        """See the atoms as the rest is standardised."""
        atoms = torch.tensor(self.atoms, dtype=shift.dtype, device=shift.device)
        self.positions = (atoms - shift[:, None]) / scale[:, None]
        self.log_scale = scale.log()
        self.base.set_scale(shift, scale)

    def _rest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cells with the filler at atoms, and which atom each is at, (n, c, A)."""
        slack = SLACK * torch.finfo(x.dtype).eps
        positions = self.positions.to(x.dtype)
        at = (x[..., None] - positions).abs() <= slack * (1 + positions.abs())
        return torch.where(at.any(-1), self.base.filler, x), at

    def start(self, x: Tensor, seen: Tensor) -> Tensor:
        """Start from the shares of the atoms, and the base from the rest."""
        rest, at = self._rest(x)
        others = seen & ~at.any(-1)
        counts = (at & seen[..., None]).sum(0) + 1 / (1 + self.n_atoms)
        n_others = others.sum(0) + 1 / (1 + self.n_atoms)
        logits = (counts / n_others[:, None]).log().to(x.dtype)
        start = self.base.start(rest, others)
        if isinstance(
            self.base, Real
        ):  # whose sigma is of rows with means at the atoms
            share = others.to(x.dtype).mean(0).clamp(min=1 / len(x))
            self.base.normal.log_sigma.data -= 0.5 * share.log()
        return torch.cat([logits, start], dim=-1)

    def see(self, x: Tensor, seen: Tensor) -> None:
        """Take notice of further cells, before training goes on."""
        rest, at = self._rest(x)
        self.base.see(rest, seen & ~at.any(-1))

    def inputs(self, x: Tensor) -> Tensor:
        """Return which atom a cell is at, and the rest with zeros at atoms."""
        rest, at = self._rest(x)
        others = self.base.inputs(rest) * ~at.any(-1, keepdim=True)
        return torch.cat([at.to(x.dtype), others], dim=-1)

    def _parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (..., n, c, A + 1), the rest last; outputs of the base."""
        logits, others = outputs.split([self.n_atoms, self.base.n_outputs], dim=-1)
        return F.pad(logits, (0, 1)).log_softmax(-1), others

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log of the mass of the atom, or of the density of the rest.

        The standardiser takes its log-scale of every cell; a mass gets it back.
        """
        log_shares, others = self._parts(outputs)
        rest, at = self._rest(x)
        log_rest = log_shares[..., -1] + self.base.log_prob(others, rest)
        log_prob = torch.where(at.any(-1), -torch.inf, log_rest)
        for i, shared in enumerate(self.shared):
            here, log_mass = at[..., i], log_shares[..., i]
            if shared:
                cell = torch.where(here, x, self.base.filler)
                log_base = log_shares[..., -1] + self.base.log_prob(others, cell)
                log_mass = torch.logaddexp(log_mass, log_base)
            given_back = self.log_scale.to(log_mass.dtype)
            log_prob = torch.where(here, log_mass + given_back, log_prob)
        return log_prob

    def expected(self, outputs: Tensor) -> Tensor:
        """Return the mean."""
        log_shares, others = self._parts(outputs)
        shares = log_shares.exp()
        atoms = (shares[..., :-1] * self.positions.to(shares.dtype)).sum(-1)
        rest = self.base.value(self.base.expected(others))
        return (atoms + shares[..., -1] * rest)[..., None]

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the atom or the rest, and then the cell."""
        log_shares, others = self._parts(outputs)
        drawn = self.base.draw(others, generator)
        uniform = torch.empty_like(drawn).uniform_(generator=generator)
        below = log_shares.exp().cumsum(-1)  # of the atoms, in their order
        for i, position in enumerate(self.positions.to(drawn.dtype).unbind(1)):
            start = below[..., i - 1] if i else 0.0
            here = (uniform >= start) & (uniform < below[..., i])
            drawn = torch.where(here, position, drawn)
        return drawn
