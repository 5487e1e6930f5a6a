"""The training loop, of one run or of several at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from skgen._training.adam import SCHEDULES, Adam
from skgen._training.batches import Batch, HeldOut
from skgen._training.contracts import Terms
from skgen._training.data import WeightedRows
from skgen._training.driver import Interrupted, Keeper
from skgen._training.early_stopping import EarlyStopping, History
from skgen._training.steps import Single
from skgen._training.trainer import Trainer
from skgen._utils.reduce import any_true, totals
from skgen._utils.tensors import wide_dtype

# What is told of each epoch: the history so far, and the seconds that the epoch took.
Report = Callable[[History, float], None]


@dataclass
class Training:
    """A training run that a fit asks for.

    The best weights come back, and the status says how it ended. ``held_out`` rows
    decide which they are, under noise that is drawn once; the training rows do where
    there are none, from the end of the warm-up on. ``patience`` epochs without an
    improvement above ``tol`` end the run, as does true from ``on_end``. When the loss
    or a weight is no longer finite, the last good weights come back and the status is
    "diverged".
    """

    trainer: Trainer
    rows: WeightedRows
    held_out: WeightedRows | None
    max_iter: int
    tol: float
    patience: int
    report: Report | None = None
    on_begin: Callable[[], Any] = lambda: None
    on_end: Callable[[], bool] = lambda: False
    # Others than the trainer's that are drawn from, as by dropout.
    generators: Sequence[torch.Generator] = ()
    watch: EarlyStopping = field(init=False)

    def __post_init__(self) -> None:
        self.watch = EarlyStopping(
            self.tol, self.patience, self.trainer.warm_up, self.held_out is not None
        )

    def run(self, keeper: Keeper | None = None) -> History:
        """Run it alone."""
        train([self], keeper=keeper)
        return self.history

    @property
    def history(self) -> History:
        """How it goes."""
        return self.watch.history

    @property
    def stride(self) -> tuple[Any, ...]:
        """Settings of Adam; runs that share them step together."""
        rule = self.trainer.rule
        return rule.schedule, rule.learning_rate, rule.weight_decay, self.max_iter

    @property
    def factor(self) -> float:
        """Multiple of the learning rate where the schedule is."""
        epoch, rule = self.history.n_iter, self.trainer.rule
        return SCHEDULES[rule.schedule](epoch / self.max_iter)

    @property
    def is_over(self) -> bool:
        """Return whether no epoch is to come."""
        return self.watch.is_over or self.history.n_iter >= self.max_iter

    def tell(self, seconds: float) -> None:
        """Report an epoch, and ask whether it is the last."""
        diverged = self.history.status == "diverged"
        if self.report is not None and not diverged:
            self.report(self.history, seconds)
        if any_true(self.on_end()) and not diverged:
            self.history.status = "stopped"


class Way(Protocol):
    """Way to run the steps of C models. Tensors have a first dimension C."""

    model: Any  # for an update: a module, or a stack of them
    optimizers: list[tuple[slice, Adam]]  # of the models that share a schedule
    learned: list[Tensor]  # that steps change, by gradients

    @property
    def weights(self) -> list[Tensor]:
        """Tensors that are finite in a good model."""

    @property
    def kept(self) -> list[Tensor]:
        """Tensors of the best epoch that come back in the end."""

    def train(self, mode: bool) -> None:
        """Set the mode of layers such as dropout."""

    def joined(self, batches: Sequence[Batch], which: Tensor) -> Batch:
        """Make one batch of those of several sources; ``which`` a model has, (C,)."""

    def step(self, batch: Batch, annealing: Any) -> Terms:
        """Take a step, and return the terms of the rows before it."""

    def terms(self, batch: Batch) -> Terms:
        """Return the terms of rows, at the end of a warm-up."""

    def select(
        self, kept: Tensor, trainers: Sequence[Trainer], groups: Sequence[slice]
    ) -> None:
        """Go on with some of the models."""

    def restore(self, i: int, values: Sequence[Tensor]) -> None:
        """Give the module of a model what was ``kept`` for it."""


class Source:
    """Rows and draws that several runs share: those of a fold, under one seed."""

    def __init__(self, training: Training) -> None:
        self.training = training  # the first of these runs, whose generator draws
        self.start = training.trainer.generator.get_state()
        self.judges: HeldOut | None = None

    def serves(self, training: Training) -> bool:
        """Return whether a run would draw the same of the same rows."""
        mine, start = self.training, training.trainer.generator.get_state()
        return (
            self.start.equal(start)
            and mine.rows.same_as(training.rows)
            and same_rows(mine.held_out, training.held_out)
        )

    def draw_held_out(self) -> None:
        """Draw the noise that held-out rows are always evaluated under."""
        if self.training.held_out is not None:
            self.judges = self.training.trainer.held_out(self.training.held_out)


def same_rows(one: Any, other: Any) -> bool:
    """Return whether two sets of rows are the same, or both are None."""
    return other is None if one is None else bool(one.same_as(other))


# Makes the way to train modules, of which groups share the settings of Adam.
MakeWay = Callable[[Sequence[Trainer], Sequence[slice]], Way]


def train(
    trainings: Sequence[Training],
    make_way: MakeWay = Single,
    keeper: Keeper | None = None,
) -> None:
    """Train until each run is over; their modules have the best weights.

    Generators end where they would, had each run been trained alone. A ``keeper`` is
    for a run that is trained alone.

    Raises
    ------
    Interrupted
        On Ctrl-C, with the history of a single run.
    """
    sources: list[Source] = []
    of_run = []
    trainings = sorted(trainings, key=lambda run: run.stride)
    for training in trainings:
        found = next((s for s in sources if s.serves(training)), None)
        if found is None:
            sources.append(found := Source(training))
        of_run.append(found)
    way = make_way([run.trainer for run in trainings], stride_groups(trainings))
    Loop(trainings, of_run, way, keeper).run()


def stride_groups(trainings: Sequence[Training]) -> list[slice]:
    """Return where runs are, in their order, that step together."""
    n = len(trainings)
    starts = [
        i
        for i, run in enumerate(trainings)
        if i == 0 or run.stride != trainings[i - 1].stride
    ]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], n])]


class Loop:
    """Adam over shuffled batches, for C runs at once.

    How a step runs is the business of ``way``; all else of training is here, once:
    the average of the weights, schedules, early stopping, divergence, Ctrl-C.

    Parameters
    ----------
    trainings : sequence of Training
        The runs.
    sources : sequence of Source
        That of each run.
    way : Way
        Takes their steps.
    keeper : Keeper, default=None
        Keeps the state of a single run after each epoch.
    """

    def __init__(
        self,
        trainings: Sequence[Training],
        sources: Sequence[Source],
        way: Way,
        keeper: Keeper | None = None,
    ) -> None:
        self.trainings, self.source_of, self.way = [*trainings], [*sources], way
        self.keeper = keeper
        first = trainings[0].trainer
        self.rule, self.update = first.rule, first.update
        self.device = trainings[0].rows.device
        self.held_out_chunk = first.held_out_chunk
        self.is_sharded = trainings[0].rows.is_sharded
        self.history = trainings[0].history
        self.n_steps = 0
        self.average = [p.clone() for p in way.learned if self.rule.averaging]
        self.best = [value.clone() for value in way.kept]
        self.best_epochs = [-1 for _ in trainings]
        self.ends: list[tuple[torch.Generator, Tensor]] = []
        self._find_sources()

    def _find_sources(self) -> None:
        """List the sources of the present runs, and which of them each run has."""
        self.sources = list(dict.fromkeys(self.source_of))
        which = [self.sources.index(source) for source in self.source_of]
        self.which = torch.tensor(which, device=self.device)

    def run(self) -> None:
        """Train until every run is over."""
        try:
            self._begin()
            while self._go_on():
                self._epoch()
                self._save()
        except KeyboardInterrupt as cut:
            for run, best_epoch in zip(self.trainings, self.best_epochs):
                run.watch.interrupt(best_epoch)
            raise Interrupted(self.history) from cut
        finally:
            self.way.train(False)
            self._dismiss([True] * len(self.trainings))
        for generator, state in self.ends:
            generator.set_state(state)

    def _go_on(self) -> bool:
        """Dismiss the runs that are over, and say whether there are others."""
        self._dismiss([run.is_over for run in self.trainings])
        return bool(self.trainings)

    def _begin(self) -> None:
        """Judge the start, where rows are held out; or go on from what was saved."""
        for source in self.sources:
            source.draw_held_out()
        if self.keeper is not None and self.keeper.state is not None:
            self.load_state_dict(self.keeper.state)
        elif self.trainings[0].held_out is not None:
            for run, loss in zip(self.trainings, self.evaluate().tolist()):
                run.watch.begin(loss)

    def _save(self) -> None:
        """Save the state after an epoch, where it is kept."""
        if self.keeper is not None:
            self.keeper.save(self.state_dict, is_over=self.trainings[0].is_over)

    def state_dict(self) -> dict[str, Any]:
        """Return what the epochs to come of a single run depend on; tensors are shared.

        Of a run that is over, that is what it ends with.
        """
        (run,) = self.trainings
        found = {
            "n_iter": run.history.n_iter,
            "watch": run.watch.state_dict(),
            "n_epochs": run.trainer.n_epochs,
            "n_steps": self.n_steps,
            "best_epoch": self.best_epochs[0],
            "generators": [each.get_state() for each in self._drawn_from(run)],
            "best": self.best,
        }
        return found if run.is_over else {**found, "now": self._changing()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave of the same run.

        Raises
        ------
        ValueError
            If tensors have other shapes.
        """
        (run,) = self.trainings
        run.watch.load_state_dict(state["watch"])
        run.trainer.n_epochs = state["n_epochs"]
        self.n_steps, self.best_epochs = state["n_steps"], [state["best_epoch"]]
        load_tensors(state["best"], self.best)
        if not run.is_over:
            for name, tensors in self._changing().items():
                load_tensors(state["now"][name], tensors)
        for generator, drawn in zip(self._drawn_from(run), state["generators"]):
            generator.set_state(drawn)

    def _changing(self) -> dict[str, list[Tensor]]:
        """Return the tensors that steps change."""
        optimizers = [adam.tensors for _, adam in self.way.optimizers]
        return {
            "model": self.way.kept,
            "average": self.average,
            "optimizer": [tensor for tensors in optimizers for tensor in tensors],
        }

    @staticmethod
    def _drawn_from(run: Training) -> list[torch.Generator]:
        """Return the generators that a run draws from."""
        return [run.trainer.generator, *run.generators]

    def _epoch(self) -> None:
        """Train for an epoch, judge it, and keep what is best."""
        for which, adam in self.way.optimizers:
            adam.factor = self.trainings[which.start].factor
        for run in self.trainings:
            run.on_begin()
        start = time.perf_counter()
        names, means = self.epoch()
        with self._averaged_weights():
            held_out = self.trainings[0].held_out is not None
            judged = self.evaluate() if held_out else means[-1]
            judged = torch.where(self._are_finite(), judged.to(means), torch.nan)
            # The only wait for the device in an epoch.
            values = torch.stack([judged, *means[:-1]], dim=1).tolist()
            self._keep_best(
                [
                    run.watch.see(dict(zip(names, each)), own, run.trainer.n_epochs)
                    for run, (own, *each) in zip(self.trainings, values, strict=True)
                ]
            )
            for run in self.trainings:
                run.tell(time.perf_counter() - start)

    def epoch(self) -> tuple[tuple[str, ...], Tensor]:
        """One pass over shuffled rows: names of T terms, and means (T + 1, C).

        The last of the means is what is watched.
        """
        seen = SeenTerms(wide_dtype(self.device), is_sharded=self.is_sharded)
        self.way.train(True)
        streams = [s.training.trainer.batches(s.training.rows) for s in self.sources]
        for parts in zip(*streams):
            batch = self.way.joined([batch for _, batch in parts], self.which)
            terms = self._step(batch, parts[0][0])
            seen.see(terms, batch.weight)
        self.way.train(False)
        for run in self.trainings:
            run.trainer.n_epochs += 1
        means = seen.value()
        return terms._fields, means.view(len(means), -1)

    def _step(self, batch: Batch, part: float) -> Terms:
        """Take a step, and what follows it: the average, and updates of buffers."""
        # Weights are float64 until here.
        if batch.weight is not None:
            batch = batch._replace(weight=batch.weight.to(batch.x.dtype))
        annealing = [run.trainer.annealing(part) for run in self.trainings]
        terms = self.way.step(batch, merged(annealing, self.device))
        self._follow()
        if self.update is not None:
            draws = [Batch(self.update.draw(each)) for each in self._generators]
            noise = self.way.joined(draws, self.which).x
            self.update(self.way.model, terms, batch, noise)
        return terms

    @property
    def _generators(self) -> list[torch.Generator]:
        return [source.training.trainer.generator for source in self.sources]

    def _follow(self) -> None:
        """Bring the average up to the weights of a step."""
        if self.average:
            self.n_steps += 1
            decay = averaging_decay(self.rule.averaging, self.n_steps)
            get_ema_multi_avg_fn(decay)(self.average, self.way.learned, None)

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Put the average, if there is one, in place of the weights."""
        own = [p.clone() for p in self.way.learned if self.average]
        _copy(self.average, self.way.learned)
        try:
            yield
        finally:
            _copy(own, self.way.learned)

    @torch.no_grad()
    def evaluate(self) -> Tensor:
        """Mean over the held-out rows of what is watched, (C,)."""
        found = RowMean(wide_dtype(self.device), is_sharded=self.is_sharded)
        n_draws = self.held_out_chunk // len(self.trainings)
        judges = [source.judges for source in self.sources]
        for parts in zip(*(each.batches(n_draws) for each in judges if each)):
            batch = self.way.joined(parts, self.which)
            found.add(self.way.terms(batch).watched, batch.weight)
        return found.value().view(-1)

    def _are_finite(self) -> Tensor:
        """Return whether all weights of a run are, (C,)."""
        finite = [p.isfinite().view(len(p), -1).all(1) for p in self.way.weights]
        return torch.stack(finite).all(0)

    def _keep_best(self, is_best: Sequence[bool]) -> None:
        """Keep the present weights of some runs."""
        which = [i for i, best in enumerate(is_best) if best]
        index = torch.tensor(which, device=self.device)
        for best, value in zip(self.best, self.way.kept):
            if len(which) == len(is_best):
                best.copy_(value)
            elif which:
                best.index_copy_(0, index, value.index_select(0, index))
        for i in which:
            self.best_epochs[i] = self.trainings[i].history.best_epoch

    def _dismiss(self, is_over: Sequence[bool]) -> None:
        """Give the runs that are over their best weights, and go on with the others."""
        for i, run in enumerate(self.trainings):
            if is_over[i]:
                self.way.restore(i, [best[i] for best in self.best])
                drawn = self.source_of[i].training.trainer.generator.get_state()
                self.ends.append((run.trainer.generator, drawn))
        kept = [i for i, over in enumerate(is_over) if not over]
        if len(kept) == len(is_over):
            return
        self.trainings = [self.trainings[i] for i in kept]
        self.source_of = [self.source_of[i] for i in kept]
        self.best_epochs = [self.best_epochs[i] for i in kept]
        if kept:
            index = torch.tensor(kept, device=self.device)
            self.best = [best[index] for best in self.best]
            self.average = [average[index] for average in self.average]
            trainers = [run.trainer for run in self.trainings]
            self.way.select(index, trainers, stride_groups(self.trainings))
            self._find_sources()


def merged(values: Sequence[Any], device: torch.device) -> Any:
    """Constants of C models as one: a number where all agree, else a tensor (C, 1)."""
    first = values[0]
    if isinstance(first, tuple):
        parts = [merged(each, device) for each in zip(*values)]
        return type(first)(*parts)
    if all(value == first for value in values):
        return first
    return torch.tensor(values, device=device, dtype=torch.float32)[:, None]


class RowMean:
    """Weighted mean over rows, whose values (..., b) come in parts.

    Parameters
    ----------
    dtype : torch.dtype
        What sums are kept in.
    is_sharded : bool, default=False
        Whether other processes have some of the rows.
    """

    sums: Any = 0  # (...)
    weight: Any = 0  # () or as the sums

    def __init__(self, dtype: torch.dtype, *, is_sharded: bool = False) -> None:
        self.dtype, self.is_sharded = dtype, is_sharded

    def add(self, values: Tensor, weight: Tensor | None) -> None:
        """Take values of some rows, and their weights."""
        if weight is None:
            weight = values.new_ones(()).expand(values.shape[-1:])
            self.sums = self.sums + values.sum(-1, dtype=self.dtype)
        else:
            self.sums = self.sums + (values * weight).sum(-1, dtype=self.dtype)
        self.weight = self.weight + weight.sum(-1, dtype=self.dtype)

    def value(self) -> Tensor:
        """Return the mean over the rows of all processes, (...)."""
        sums, weight = self.sums, self.weight
        if self.is_sharded:
            sums, weight = totals(sums, weight)
        found: Tensor = sums / weight
        return found


class SeenTerms(RowMean):
    """Means of the T terms of the rows of an epoch, and of what is watched.

    Terms are summed some steps at a time: small tensors, made between those of the
    steps, would keep the allocator from using the memory of large ones again, and sums
    at each step would cost a small one 1 %.
    """

    N_STEPS = 32  # whose terms are summed at once

    def __init__(self, dtype: torch.dtype, *, is_sharded: bool = False) -> None:
        super().__init__(dtype, is_sharded=is_sharded)
        self.recent: list[tuple[Terms, Tensor | None]] = []  # not summed yet

    def see(self, terms: Terms, weight: Tensor | None) -> None:
        """Take the terms (..., b) of a step, and the weights of its rows."""
        kind: Any = type(terms)
        self.recent.append((kind._make(term.detach() for term in terms), weight))
        if len(self.recent) == self.N_STEPS:
            self._sum()

    def _sum(self) -> None:
        """Add the terms of recent steps to the sums."""
        terms, weights = zip(*self.recent)
        of_all = type(terms[0])._make(torch.cat(each, -1) for each in zip(*terms))
        weight = None if weights[0] is None else torch.cat(weights, -1)
        self.add(torch.stack((*of_all, of_all.watched)), weight)
        self.recent = []

    def value(self) -> Tensor:
        """Return the means, what is watched last: (T + 1, ...)."""
        if self.recent:
            self._sum()
        return super().value()


def averaging_decay(decay: float, n_steps: int) -> float:
    """Decay at a step: early on, an average over fewer; the start weighs nothing."""
    return min(decay, (1 + n_steps) / (10 + n_steps))


def load_tensors(values: Sequence[Tensor], into: Sequence[Tensor]) -> None:
    """Copy saved tensors into those of a run.

    Raises
    ------
    ValueError
        If they are not of the same shapes.
    """
    if [value.shape for value in values] != [tensor.shape for tensor in into]:
        raise ValueError(
            "The checkpoint has weights of other shapes than the networks of this fit. "
            "Delete the file, and the fit starts anew."
        )
    _copy(values, into)


def _copy(values: Sequence[Tensor], into: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for tensor, value in zip(into, values):
            tensor.copy_(value)
