"""Mixtures whose components are products over columns: EM, scores, draws, holes.

``log p(x, k) = log w_k + sum_j log p_j(x_j | k)`` over the cells of a row that are
there. A missing cell leaves its factor out, which is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skgen._em.families import Family, Part, Prior, Sums, family_of
from skgen._em.fixed_point import Iterate
from skgen._em.restarts import EMRun, KeptRuns, Observer, Runs
from skgen._em.steps import sum_exp
from skgen._em.stepwise import step_size
from skgen._training.driver import Interrupted, Keeper
from skgen._utils.chunks import CentredRows, chunk_rows
from skgen._utils.reduce import is_alone, span, totals
from skgen._utils.tensors import to_array, wide_dtype
from skgen._utils.threads import threads_for
from skgen.likelihoods.specs import Spec

# Rows of a chunk, at least: products with fewer are slow, however many components.
FEWEST_ROWS = 64


class Theta(NamedTuple):
    """Parameters of K components."""

    weights: Tensor  # (K,)
    parts: list[Part]  # of each family


class ProductSums(NamedTuple):
    """Sums over rows, weighted by responsibilities."""

    log_prob: Tensor  # of all rows
    counts: Tensor  # (K,)
    seen: Tensor | None  # (K, d): cells that are there; None where all are
    first: Tensor  # (K, F): statistics

    def plus(self, other: ProductSums, decay: float = 1.0) -> ProductSums:
        """Add sums; of these, keep a part."""
        seen = None
        if self.seen is not None or other.seen is not None:
            seen = decay * self._cells() + other._cells()
        return ProductSums(
            decay * self.log_prob + other.log_prob,
            decay * self.counts + other.counts,
            seen,
            decay * self.first + other.first,
        )

    def _cells(self) -> Tensor:
        return self.counts[:, None] if self.seen is None else self.seen

    def times(self, factor: float) -> ProductSums:
        """Multiply all by a factor."""
        seen = None if self.seen is None else factor * self.seen
        return ProductSums(
            factor * self[0], factor * self[1], seen, factor * self.first
        )


class Products:
    """Products of densities of columns.

    Parameters
    ----------
    kinds : sequence
        The kind of each column.
    """

    def __init__(self, kinds: Sequence[Spec]) -> None:
        columns: dict[Spec, list[int]] = {}
        for i, kind in enumerate(kinds):
            columns.setdefault(kind, []).append(i)
        self.places = list(columns.values())
        self.families = [family_of(kind, len(each)) for kind, each in columns.items()]
        self.order = np.argsort(np.concatenate(self.places)).tolist()
        self.widths = [f.n_columns * f.n_statistics for f in self.families]

    @property
    def is_mass(self) -> bool:
        """Return whether scores are log-masses."""
        return all(family.is_mass for family in self.families)

    def see(self, rows: CentredRows, sample: CentredRows) -> None:
        """Learn scales of columns, and the sums of all rows as one component.

        Of many rows, scales are those of a sample.
        """
        few = sample.x.to(rows.weight.dtype)
        for family, places in zip(self.families, self.places):
            family.see(few[:, places])
            if family.counts_all:
                family.count(rows.x[:, places].to(few.dtype), rows.weight)
        labels = torch.zeros(len(rows.x), dtype=torch.long, device=rows.x.device)
        total = self.hard_sums(rows, labels, 1)
        for family, sums in self._divided(total):
            family.overall = sums

    def empty_columns(self) -> list[int]:
        """Return columns of which no cell was there in ``see``."""
        found = []
        for family, places in zip(self.families, self.places):
            assert family.overall is not None
            empty = (family.overall.n[0] == 0).tolist()
            found += [j for j, each in zip(places, empty) if each]
        return sorted(found)

    # Cells.

    def _cells(self, x: Tensor) -> Iterator[tuple[Family, Tensor, Tensor]]:
        """Yield cells (n, c) of each family, filled where missing; which are there."""
        for family, places in zip(self.families, self.places):
            yield family, *_filled(x[:, places], family.filler)

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return statistics (n, F) of rows (n, d), and which cells are there."""
        pairs = zip(self.families, self.places)
        if not x.isnan().any():
            whole = [f.statistics(x[:, places]).flatten(1) for f, places in pairs]
            return torch.cat(whole, 1), None
        found, seen = [], []
        for family, cells, there in self._cells(x):
            own = family.statistics(cells) * there[..., None]
            found.append(own.flatten(1))
            seen.append(there)
        return torch.cat(found, 1), torch.cat(seen, 1).to(x.dtype)

    def log_joint(self, theta: Theta) -> Callable[[Tensor], Any]:
        """Return log p(x, k) but for what components share; and that, (n,)."""
        parts = list(zip(self.families, theta.parts))
        slopes = torch.cat([f.slopes(part).flatten(1) for f, part in parts], 1).T
        offsets = torch.cat([f.offsets(part) for f, part in parts], 1).T
        log_weights = theta.weights.log()
        constant = log_weights + offsets.sum(0)
        more = [
            (f, places, part, f.direct_columns(part))
            for (f, part), places in zip(parts, self.places)
            if f.has_measure
        ]

        def at(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
            features, seen = self.statistics(x)
            if seen is None:
                joint = torch.addmm(constant, features, slopes)
            else:
                joint = (features @ slopes).add_(seen @ offsets).add_(log_weights)
            measure = torch.zeros_like(x[:, 0])
            for f, places, part, own in more:
                cells, there = _filled(x[:, places], f.filler)
                measure += (f.measure(part, cells) * there).sum(1)
                for j in own:
                    joint += f.direct(part, cells, j) * there[:, j, None]
            return joint, measure, features, seen

        return at

    # EM.

    def expected(self, theta: Theta) -> Callable[[Tensor, Tensor], ProductSums]:
        """Return the E-step: sums of rows (n, d) with weights (n,)."""
        at = self.log_joint(theta)

        def sums(x: Tensor, weight: Tensor) -> ProductSums:
            joint, measure, features, seen = at(x)
            log_prob, resp = normalise_rows(joint)
            resp *= weight[:, None]
            log_prob = (log_prob + measure) @ weight
            cells = None if seen is None else resp.T @ seen
            return ProductSums(log_prob, resp.sum(0), cells, resp.T @ features)

        return sums

    def hard_sums(self, rows: CentredRows, labels: Tensor, K: int) -> ProductSums:
        """Sum rows by their labels (n,)."""
        d, F = rows.x.shape[1], sum(self.widths)
        zero = rows.weight.new_zeros
        total = ProductSums(zero(()), zero(K), zero(K, d), zero(K, F))
        assert total.seen is not None
        size = self.chunk(rows.x.device, 1)
        for (x, weight), k in zip(rows.chunks(size), labels.split(size)):
            features, seen = self.statistics(x)
            seen = torch.ones_like(x) if seen is None else seen
            total.counts.index_add_(0, k, weight)
            total.seen.index_add_(0, k, seen * weight[:, None])
            total.first.index_add_(0, k, features * weight[:, None])
        return self.everywhere(total)

    def everywhere(self, sums: ProductSums) -> ProductSums:
        """Return the sums over the rows of all processes."""
        if is_alone():
            return sums
        seen = sums._cells().expand(-1, len(self.order))
        return ProductSums(*totals(sums.log_prob, sums.counts, seen, sums.first))

    def soft_sums(
        self, rows: CentredRows, responsibilities: Callable[[int], Tensor], K: int
    ) -> ProductSums:
        """Sum rows by responsibilities, which a function gives of the next n rows."""
        total: ProductSums | None = None
        for x, weight in rows.chunks(self.chunk(rows.x.device, K)):
            resp = responsibilities(len(x)) * weight[:, None]
            features, seen = self.statistics(x)
            cells = None if seen is None else resp.T @ seen
            zero = resp.new_zeros(())
            own = ProductSums(zero, resp.sum(0), cells, resp.T @ features)
            total = own if total is None else total.plus(own)
        assert total is not None
        return total

    def _divided(self, sums: ProductSums) -> Iterator[tuple[Family, Sums]]:
        """Yield the sums of each family."""
        start, first = 0, sums.first.split(self.widths, dim=1)
        for family, own in zip(self.families, first):
            c = family.n_columns
            seen = sums.counts[:, None].expand(-1, c)
            if sums.seen is not None:
                seen = sums.seen[:, start : start + c].expand(-1, c)
            start += c
            yield family, Sums(seen, own.unflatten(1, (c, -1)))

    def maximise(
        self, sums: ProductSums, theta: Theta | None, prior: Prior, weight_prior: float
    ) -> Theta:
        """Return the M-step."""
        parts: list[Any] = [None] * len(self.families) if theta is None else theta.parts
        found = [
            family.maximise(own, part, prior)
            for (family, own), part in zip(self._divided(sums), parts)
        ]
        counts = sums.counts + weight_prior
        return Theta(counts / counts.sum(), found)

    def average(self, thetas: Sequence[Theta]) -> Theta:
        """Return the mixture of some mixtures, with equal weights."""
        weights = torch.cat([theta.weights for theta in thetas]) / len(thetas)
        columns = zip(*(theta.parts for theta in thetas))
        return Theta(weights, [merged(parts) for parts in columns])

    def softened(self, sums: ProductSums) -> ProductSums:
        """Add to each component one row that is the mean of all, for a start."""
        overall = [family.overall for family in self.families]
        assert all(each is not None for each in overall)
        whole: list[Any] = overall
        n = [each.n.clamp(min=1e-12) for each in whole]
        first = [each.first / m[..., None] for each, m in zip(whole, n)]
        zero, one = sums.log_prob, torch.ones_like(sums.counts[:1])
        cells = torch.cat([m.clamp(max=1) for m in n], 1)
        means = torch.cat([each.flatten(1) for each in first], 1)
        return sums.plus(ProductSums(zero, one, cells, means))

    def chunk(self, device: torch.device, K: int) -> int:
        """Rows of a chunk."""
        return max(FEWEST_ROWS, chunk_rows(device, K + 2 * sum(self.widths)))

    def inputs(self, x: Tensor) -> Tensor:
        """Return rows (n, d) as numbers of like spread, for a start by distances."""
        found = []
        for family, cells, seen in self._cells(x):
            inputs = family.inputs(cells)
            there = seen[..., None].to(inputs)
            mean = (inputs * there).sum(0) / there.sum(0).clamp(min=1)
            found.append(torch.where(seen[..., None], inputs, mean).flatten(1))
        return torch.cat(found, 1)


class ProductSteps:
    """Steps of EM over all rows.

    Parameters
    ----------
    products : Products
        The densities.
    rows : CentredRows
        Rows (n, d) and weights.
    prior : Prior
        Cells that are added.
    weight_prior : float
        Rows that are added to each component.
    """

    def __init__(
        self, products: Products, rows: CentredRows, prior: Prior, weight_prior: float
    ) -> None:
        self.products, self.rows = products, rows
        self.prior, self.weight_prior = prior, weight_prior

    def state_dict(self) -> dict[str, Any]:
        """Return what the steps to come depend on, beside theta."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""

    def _maximised(self, sums: ProductSums, theta: Theta) -> Theta:
        return self.products.maximise(sums, theta, self.prior, self.weight_prior)

    def __call__(self, theta: Theta) -> Iterate[Theta]:
        """Return both steps, and the mean log-density under theta."""
        total = self._summed(self.rows, theta)
        bound = float(total.log_prob / total.counts.sum())
        return Iterate(self._maximised(total, theta), bound)

    def _summed(self, rows: CentredRows, theta: Theta) -> ProductSums:
        """Return the E-step over rows, and those of other processes."""
        expected, K = self.products.expected(theta), len(theta.weights)
        total: ProductSums | None = None
        work = K * sum(self.products.widths)
        for x, weight in rows.chunks(self.products.chunk(rows.x.device, K)):
            with threads_for(len(x) * work):
                own = expected(x, weight)
            total = own if total is None else total.plus(own)
        assert total is not None
        return self.products.everywhere(total)


class StepwiseSteps(ProductSteps):
    """Passes of stepwise EM: an M-step for each batch, from sums that decay.

    Parameters
    ----------
    products, rows, prior, weight_prior
        As of `ProductSteps`.
    batch_size : int
        Rows of a batch.
    decay : float
        Batch t replaces the part (t + 2)^-decay of the sums.
    rng : RandomState
        Shuffles the rows.
    """

    def __init__(
        self, *args: Any, batch_size: int, decay: float, rng: np.random.RandomState
    ) -> None:
        super().__init__(*args)
        self.batch_size, self.decay, self.rng = batch_size, decay, rng
        self.sums: ProductSums | None = None
        self.n_batches = 0

    def state_dict(self) -> dict[str, Any]:
        sums = None if self.sums is None else list(self.sums)
        return {"sums": sums, "n_batches": self.n_batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        sums, self.n_batches = state["sums"], state["n_batches"]
        self.sums = None
        if sums is not None:
            placed: Any = (s if s is None else s.to(self.rows.centre) for s in sums)
            self.sums = ProductSums(*placed)

    def __call__(self, theta: Theta) -> Iterate[Theta]:
        """Return where a pass over the rows ends, and the mean of log-densities."""
        first, stop, n = span(len(self.rows.x))
        order = torch.as_tensor(self.rng.permutation(n), device=self.rows.x.device)
        total = self.rows.weight.new_zeros(())
        for index in order.split(self.batch_size):
            if stop - first < n:  # of a batch, the rows that are here
                index = index[(index >= first) & (index < stop)] - first
            found = self._summed(self.rows.take(index), theta)
            total += found.log_prob
            # Sums are those of as many rows as there are in all.
            scaled = found.times(n / float(found.counts.sum()))
            rate = step_size(self.n_batches, self.decay)
            if self.sums is None:
                self.sums = scaled
            else:
                self.sums = self.sums.plus(scaled.times(rate), 1 - rate)
            self.n_batches += 1
            theta = self._maximised(self.sums, theta)
        return Iterate(theta, float(total) / n)


class ProductRestarts:
    """EM from each of some starts, one after the other: what a fit asks for.

    Parameters
    ----------
    em_runs : iterator of (EMRun, ProductSteps)
        Starts, which are drawn when the one before has ended, and their steps.
    rng : RandomState
        Draws the starts, and what steps draw.
    observer : Observer
        Who is told.
    """

    def __init__(
        self,
        em_runs: Iterator[tuple[EMRun, ProductSteps]],
        rng: np.random.RandomState,
        observer: Observer,
    ) -> None:
        self.em_runs, self.rng, self.observer = em_runs, rng, observer

    def run(self, keeper: Keeper | None = None) -> Runs:
        """Run EM from all starts, or until the observer has seen enough."""
        begun: list[EMRun] = []
        saved = KeptRuns(begun, keeper)
        try:
            for em_run, steps in self.em_runs:
                begun.append(em_run)
                self._go_on(saved, steps)
                self._climb(em_run, steps, saved.save)
                if em_run.stopped:
                    break
            saved.save(is_over=True)
        except KeyboardInterrupt as cut:
            for em_run in begun:
                em_run.stopped = em_run.stopped or not em_run.is_over
            so_far = Runs([em_run.so_far for em_run in begun], interrupted=True)
            raise Interrupted(so_far) from cut
        return Runs([em_run.so_far for em_run in begun], interrupted=False)

    def _go_on(self, saved: KeptRuns, steps: ProductSteps) -> None:
        """Let the last start go on from what was saved of it, if anything was."""
        known = saved.load()
        if known is not None:  # and it is the last of which something was
            steps.load_state_dict(known["steps"])
            self.rng.set_state(known["rng"].get_state())
        saved.beside = lambda: {"steps": steps.state_dict(), "rng": self.rng}

    def _climb(self, em_run: Any, steps: Any, save: Callable[[], Any]) -> None:
        while not em_run.is_over:
            self.observer.begin_step()
            found = steps(em_run.theta)
            change = found.bound - em_run.bound
            em_run.theta = found.state
            em_run.see(found.bound)
            em_run.stopped = self.observer.end_step(em_run, change)
            save()
        self.observer.end(em_run)


def _filled(cells: Tensor, filler: float) -> tuple[Tensor, Tensor]:
    """Fill cells (n, c) that are missing; return which are there, too."""
    seen = ~cells.isnan()
    return torch.where(seen, cells, filler), seen


def normalise_rows(joint: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp (n,) of log-masses (n, K), and their softmax in their place."""
    log_total, masses, total = sum_exp(joint.T)
    return log_total, masses.div_(total).T


# Mixtures that are evaluated.


class FittedProducts(NamedTuple):
    """A mixture of products that is evaluated, on tensors."""

    products: Products
    theta: Theta
    joint: Callable[[Tensor], Any]  # the E-step's, made once for all chunks of rows

    @classmethod
    def at(cls, products: Products, theta: Theta) -> Self:
        """Return the mixture with some parameters."""
        return cls(products, theta, products.log_joint(theta))

    @classmethod
    def of(
        cls,
        kinds: Sequence[Spec],
        weights: NDArray[Any],
        parts: Sequence[dict[str, NDArray[Any]]],
        device: torch.device,
    ) -> Self:
        """Take kinds, weights, and what is known of each family as fitted arrays."""
        products, wide = Products(kinds), wide_dtype(device)

        def tensor(x: Any) -> Tensor:
            return torch.as_tensor(np.array(x), dtype=wide).to(device)

        K, theta = len(weights), Theta(tensor(weights), [])
        if len(parts) != len(products.families):
            raise ValueError("there are other parameters than kinds of columns")
        for family, part in zip(products.families, parts):
            shapes = {name: np.shape(x) for name, x in part.items()}
            if shapes != family.shapes(K):
                raise ValueError(f"parameters of columns have the shapes {shapes}")
            found = {name: tensor(x) for name, x in part.items()}
            set_constants(family, found)
            theta.parts.append({name: found[name] for name in family.names})
        return cls.at(products, theta)

    def arrays(self) -> list[dict[str, NDArray[Any]]]:
        """Return what ``of`` takes of each family."""
        return [
            {name: to_array(x) for name, x in {**part, **family.constants}.items()}
            for family, part in zip(self.products.families, self.theta.parts)
        ]

    def _joint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x, k), (n, K), but for what components share; and that, (n,)."""
        joint, measure, *_ = self.joint(self._rows(x))
        return joint, measure

    def _rows(self, x: Tensor) -> Tensor:
        return x.to(self.theta.weights.dtype)

    def log_masses(self, x: Tensor) -> Tensor:
        """Log p(x, k), (n, K), of what is there of the rows."""
        joint, measure = self._joint(x)
        return joint + measure[:, None]

    def encode(self, x: Tensor) -> Tensor:
        """Responsibilities (n, K)."""
        joint, _ = self._joint(x)
        return normalise_rows(joint)[1]

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (n,)."""
        joint, measure = self._joint(x)
        return sum_exp(joint.T)[0] + measure

    def decode(self, code: Tensor) -> Tensor:
        """Return the mean of numbers and the most probable levels, (n, d)."""
        code, found = self._rows(code), []
        for family, part in zip(self.products.families, self.theta.parts):
            found.append(family.value(code @ family.expected(part)))
        return torch.cat(found, 1)[:, self.products.order]

    def means(self) -> Tensor:
        """Return what each component decodes to, (K, d)."""
        pairs = zip(self.products.families, self.theta.parts)
        found = [family.value(family.expected(part)) for family, part in pairs]
        return torch.cat(found, 1)[:, self.products.order]

    def _cells_of(self, k: Tensor, generator: torch.Generator) -> Tensor:
        """Draw rows (n, d) of components k (n,)."""
        pairs = zip(self.products.families, self.theta.parts)
        found = [family.draw(part, k, generator) for family, part in pairs]
        return torch.cat(found, 1)[:, self.products.order]

    def draw(self, n: int, noise: bool, generator: torch.Generator) -> Tensor:
        """Draw rows (n, d), or the means of their components."""
        weights = self.theta.weights
        k = weights.multinomial(n, replacement=True, generator=generator)
        return self._cells_of(k, generator) if noise else self.means()[k]

    def _one_hot(self, k: Tensor) -> Tensor:
        weights = self.theta.weights
        return weights.new_zeros(len(k), len(weights)).scatter_(1, k[:, None], 1)

    def impute(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Fill rows (n, d) with the mean of missing cells given the rest, or a draw."""
        resp = self.encode(x)
        if generator is None:
            found = self.decode(resp)
        else:
            k = resp.multinomial(1, generator=generator).squeeze(1)
            found = self._cells_of(k, generator)
        return torch.where(x.isnan(), found.to(x.dtype), x)

    def complete(
        self, x: Tensor, noise: bool, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw what is missing of rows (n, d), and the components (n, K) it is of."""
        rows = self._rows(x)
        k = self.encode(rows).multinomial(1, generator=generator).squeeze(1)
        one_hot = self._one_hot(k)
        found = self._cells_of(k, generator) if noise else self.means()[k]
        return torch.where(rows.isnan(), found, rows), one_hot

    def draw_within(
        self,
        cases: Tensor,
        intervals: dict[int, tuple[float, float]],
        n: int,
        rng: np.random.RandomState,
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Draw n of the cases (C, d), and their cells (n, J) in intervals, by column.

        Given the component, cells are independent: draws are exact.
        """
        homes = {
            place: (family, part, j)
            for family, part, places in zip(
                self.products.families, self.theta.parts, self.products.places
            )
            for j, place in enumerate(places)
        }
        log_p = to_array(self.log_masses(cases))
        for column, ends in intervals.items():
            family, part, j = homes[column]
            log_p = log_p + family.log_interval(part, j, *ends)
        top = log_p.max()
        if not np.isfinite(top):
            raise ValueError("no component has any mass there")
        p = np.exp(log_p - top).ravel()
        case, k = np.divmod(rng.choice(len(p), n, p=p / p.sum()), log_p.shape[1])
        cells = np.empty((n, len(intervals)))
        for i, (column, ends) in enumerate(intervals.items()):
            family, part, j = homes[column]
            cells[:, i] = family.draw_within(part, j, k, ends, rng)
        return case, cells


def merged(parts: Sequence[Part]) -> Part:
    """Put components together; of what they share in a column, take the mean."""
    found = {name: [part[name] for part in parts] for name in parts[0]}
    return {
        name: torch.stack(values).mean(0) if name == "log_r" else torch.cat(values)
        for name, values in found.items()
    }


def set_constants(family: Family, found: Part) -> None:
    """Give a family what it knows of its columns; and one inside it."""
    family.constants = {name: found[name] for name in family.constant_names}
    base = getattr(family, "base", None)
    if base is not None:
        set_constants(base, found)
