"""Training many models of one shape as one.

A step on a small network spends most of its time between operations. Here the
parameters of C models are stacked, (C, ...), and every operation is done once for all;
what differs between the models is a number each, their rows, or their noise. Shuffles
and noise are those of each model trained alone, and so are its curve and its weights,
to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim.swa_utils import get_ema_multi_avg_fn

from skgen._training.adam import SCHEDULES, Adam, AdamMoments, cut
from skgen._training.data import WeightedRows
from skgen._training.engine import (
    Batch,
    EarlyStopping,
    HeldOut,
    History,
    Training,
    averaging_decay,
    epoch_means,
    in_dtype_of,
    row_mean,
)
from skgen._training.steps.structure import Called, kind_of, structure, training_state
from skgen._utils.chunks import slices
from skgen._utils.tensors import wide_dtype
from skgen._utils.threads import threads_for
from skgen.likelihoods import Likelihood
from skgen.priors import Normal

# Multiplications of one model's step up to which models are stacked: beyond, they are
# what the time goes to, and stacking gains nothing.
LARGEST_STEP = 2**23


def is_small(training: Training, batch_size: int) -> bool:
    """Whether a step is so small that stacking saves time."""
    n_parameters = sum(p.numel() for p in training.trainer.learned)
    return n_parameters * batch_size <= LARGEST_STEP


def share_rows(training: Training, known: list[Training]) -> None:
    """Let a training have the rows of one that is known, or become known by its own."""
    for other in known:
        same_held_out = _same(training.held_out, other.held_out)
        if same_held_out and training.rows.same_as(other.rows):
            training.rows, training.held_out = other.rows, other.held_out
            return
    known.append(training)


def stacks_as(training: Training) -> Hashable:
    """Return what trainings that can be stacked have in common, or None for none."""
    trainer, rows, held_out = training.trainer, training.rows, training.held_out
    module: Any = trainer.module
    if trainer.cache_key is None or training.report is not None:
        return None
    parts = (trainer.objective, trainer.update, module.likelihood)
    if not (module.stacks() and all(map(is_own, parts))):
        return None
    if trainer.rule.execution != "eager":
        return None
    if rows.out_of_core or not is_small(training, trainer.batch_size):
        return None
    return (
        trainer.cache_key,
        kind_of(trainer.objective),
        kind_of(trainer.update),
        structure(module),
        tuple(trainer.rates.items()),
        trainer.rule.max_grad_norm,
        trainer.rule.averaging,
        trainer.batch_size,
        rows.shape,
        rows.weight is None,
        None if held_out is None else len(held_out),
        rows.device,
    )


def is_own(part: Any) -> bool:
    """Return whether a part of a training is of skgen, so that a stack knows it."""
    package = "skgen" if part is None else part.__module__.split(".")[0]
    return bool(package == "skgen")


def merged(values: Sequence[Any], device: torch.device) -> Any:
    """Constants of C models as one: a number where all agree, else a tensor (C, 1)."""
    first = values[0]
    if isinstance(first, tuple):
        parts = [merged(each, device) for each in zip(*values)]
        return type(first)(*parts)
    if all(value == first for value in values):
        return first
    return torch.tensor(values, device=device, dtype=torch.float32)[:, None]


def _method(name: str) -> Callable[..., Any]:
    """Return the function that calls a method of a module, or of a part of it."""
    return lambda module, *args, **constants: attrgetter(name)(module)(
        *args, **constants
    )


class StackedModel:
    """Model as objectives see it, for a stack of C models: dimensions (..., C, n, ...).

    Parameters
    ----------
    modules : sequence of BoundedModel
        Models of one structure.
    learned : iterable of str
        Names of the parameters that are learned.
    """

    def __init__(self, modules: Sequence[Any], learned: Iterable[str]) -> None:
        self.template = copy.deepcopy(modules[0])
        self.methods: dict[str, Called] = {}
        states = [training_state(module) for module in modules]
        self.state = {
            name: torch.stack([state[name].detach() for state in states])
            for name in states[0]
        }
        self.learned = list(learned)

    # Of models with a continuous code, whose prior is a standard normal.

    @property
    def prior(self) -> Any:
        """p(z), the same for all."""
        return self.template.prior

    def posterior(self, x: Tensor) -> Any:
        """q(z|x) of rows (C, n, d)."""
        return self.prior.posterior(Normal.of(self._encoded(x)))

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x|z), (S?, C, n), of rows (C, n, d) and codes (S?, C, n, k)."""
        return self._decoded_log_prob(x, z)

    # Of models with tokens.

    def latents(self, x: Tensor) -> Any:
        """Encode rows (C, n, d) to vectors (C, n, T, c)."""
        n_tokens = self.template.prior.n_tokens
        z_e = self._encoded(x).unflatten(-1, (n_tokens, -1))
        return self._each("codebook.project", (z_e,))

    def quantise(self, z_e: Tensor) -> Any:
        """Nearest code vectors (C, n, T, c)."""
        return self._each("quantise", (z_e,))

    def log_likelihood_at(self, x: Tensor, z_q: Tensor) -> Any:
        """Log p(x|z_q), (C, n), of rows and code vectors."""
        return self._decoded_log_prob(x, z_q.flatten(-2))

    def token_log_prob(self, z_e: Tensor, uniform: Tensor) -> Any:
        """Log p(k), (C, n), of tokens drawn for vectors, from noise (1, C, n, T)."""
        return self._each("token_log_prob", (z_e, uniform), (0, 1))

    def followed(self, *args: Tensor, moves: bool) -> Any:
        """Averages of all codebooks after a step."""
        return self._each("followed", args, moves=moves)

    @property
    def codebook(self) -> StackedModel:
        """Return the holder of the codebooks' averages: this stack."""
        return self

    def set_averages(self, averages: Any) -> None:
        """Take the averages that ``followed`` gave."""
        vectors = self.template.codebook.project(averages.vectors)
        self.state["codebook.vectors"].copy_(vectors)
        self.state["codebook.shares"].copy_(averages.shares)
        self.state["codebook.mass"].copy_(averages.mass)

    # Of all.

    def _encoded(self, x: Tensor) -> Tensor:
        """Encode rows (C, n, d) by the networks, to outputs (C, n, q)."""
        if type(self.template.likelihood).inputs is not Likelihood.inputs:
            x = self._each("likelihood.inputs", (x,))
        return self._network("encoder", x)

    def _decoded_log_prob(self, x: Tensor, codes: Tensor) -> Tensor:
        """Log p(x|codes), (S?, C, n), of rows (C, n, d) and codes (S?, C, n, k)."""
        outputs = self._network("decoder", codes)
        along = codes.ndim - x.ndim  # the dimension of models: 0, or 1 behind S
        args = (outputs, x)
        found: Tensor = self._each("likelihood.log_prob", args, (along, 0), along)
        return found

    def _network(self, name: str, x: Tensor) -> Tensor:
        """Run the fully connected networks of all models on (S?, C, n, ...).

        By one product a layer: what vmap makes of a linear layer takes twice as long.
        """
        network = getattr(self.template, name)

        def layers(x: Tensor) -> Tensor:
            for i, layer in enumerate(network):
                if isinstance(layer, nn.Linear):
                    weight = self.state[f"{name}.{i}.weight"]  # (C, p, q)
                    bias = self.state[f"{name}.{i}.bias"][:, None]
                    x = torch.baddbmm(bias, x, weight.mT)
                else:
                    x = layer(x)
            return x

        flat = x if x.ndim == 3 else x.movedim(0, 1).flatten(1, 2)  # (C, S n, ...)
        outputs: Tensor = self.template.at_precision(layers, flat, network.training)
        if x.ndim == 3:
            return outputs
        return outputs.unflatten(1, (x.shape[0], x.shape[2])).movedim(1, 0)

    def _each(
        self,
        name: str,
        args: tuple[Tensor, ...],
        dims: tuple[int, ...] | int = 0,
        out: int = 0,
        **constants: Any,
    ) -> Any:
        """Call a method of every model, or of a part, on its slice of the arguments."""
        if name not in self.methods:
            self.methods[name] = Called(self.template, _method(name))
        method = self.methods[name]

        def one(state: dict[str, Tensor], args: tuple[Tensor, ...]) -> Any:
            return functional_call(method, state, args, constants, tie_weights=False)

        part = name.rpartition(".")[0]
        state = {
            f"module.{key}": value
            for key, value in self.state.items()
            if key.startswith(part)
        }
        return vmap(one, in_dims=(0, dims), out_dims=out)(state, args)

    def require_gradients(self) -> list[Tensor]:
        """Make leaves of what is learned, and return them."""
        for name in self.learned:
            self.state[name] = self.state[name].detach().requires_grad_()
        return [self.state[name] for name in self.learned]

    def select(self, kept: Tensor) -> None:
        """Keep some of the models."""
        self.state = {name: value[kept] for name, value in self.state.items()}


class Source(NamedTuple):
    """Rows and draws that several models share: those of a fold, under one seed."""

    training: Training  # of the first of these models, whose generator draws
    state: Tensor  # of its generator, at the start

    @classmethod
    def of(cls, training: Training) -> Source:
        """Return the source of a training."""
        return cls(training, training.trainer.generator.get_state())

    def serves(self, training: Training) -> bool:
        """Whether a training would draw the same of the same rows."""
        mine, state = self.training, training.trainer.generator.get_state()
        return (
            self.state.equal(state)
            and mine.rows.same_as(training.rows)
            and _same(mine.held_out, training.held_out)
        )


def _same(one: WeightedRows | None, other: WeightedRows | None) -> bool:
    return other is None if one is None else one.same_as(other)


class Member:
    """A model of the stack: its training, and how it goes."""

    def __init__(self, training: Training, source: Source, place: int) -> None:
        self.training, self.source, self.place = training, source, place
        self.drawn = source.state  # of the generator, when the training ends
        trainer = training.trainer
        self.watch = EarlyStopping(
            training.tol,
            training.patience,
            trainer.warm_up,
            training.held_out is not None,
        )

    @property
    def stride(self) -> tuple[Any, ...]:
        """Return what members that share settings of Adam have in common."""
        rule = self.training.trainer.rule
        pace = (rule.schedule, rule.learning_rate, rule.weight_decay)
        return (*pace, self.training.max_iter, self.training.trainer.n_epochs)

    @property
    def factor(self) -> float:
        """Where the schedule of the learning rate is."""
        epoch, rule = self.watch.history.n_iter, self.training.trainer.rule
        return SCHEDULES[rule.schedule](epoch / self.training.max_iter)

    def see(self, means: dict[str, float], current: float) -> bool:
        """Take the means of an epoch, as ``EarlyStopping`` does."""
        return self.watch.see(means, current, self.training.trainer.n_epochs)

    @property
    def is_over(self) -> bool:
        """Whether no epoch is to come."""
        return self.watch.is_over or self.watch.history.n_iter == self.training.max_iter


def train_together(trainings: Sequence[Training]) -> list[History]:
    """Run trainings of which ``stacks_as`` says the same, as one.

    Parameters
    ----------
    trainings : sequence of Training
        Their modules get the best weights, and their generators end where they would
        have alone.

    Returns
    -------
    histories : list of History
        One each.
    """
    sources: list[Source] = []
    members = []
    for place, training in enumerate(trainings):
        found = next((s for s in sources if s.serves(training)), None)
        if found is None:
            sources.append(found := Source.of(training))
        members.append(Member(training, found, place))
    StackedTrainer(sorted(members, key=lambda member: member.stride)).run()
    for member in members:
        member.training.trainer.generator.set_state(member.drawn)
    return [member.watch.history for member in members]


class StackedTrainer:
    """Adam for all members at once; ``Trainer``, with a dimension more."""

    def __init__(self, members: list[Member]) -> None:
        first = members[0].training.trainer
        self.members, self.rule = members, first.rule
        self.device = members[0].training.rows.device
        modules = [member.training.trainer.module for member in members]
        self.update = first.update
        self.model = StackedModel(modules, first.paces)
        self.learned = self.model.require_gradients()
        self.kept = [*first.paces, *(self.update.changes if self.update else ())]
        self.best = [self.model.state[name].detach().clone() for name in self.kept]
        self.average = [p.detach().clone() for p in self.learned if self.rule.averaging]
        self.n_steps = 0
        self._arrange([AdamMoments.of(p) for p in self.learned])
        self._draw_held_out()

    def _arrange(self, moments: list[AdamMoments]) -> None:
        """Prepare for the present members: constants, sources, and who steps alike."""
        device = self.device
        trainers = [member.training.trainer for member in self.members]
        self.objective = merged([d.objective for d in trainers], device)
        self.sources = list({id(m.source): m.source for m in self.members}.values())
        places = {id(source): i for i, source in enumerate(self.sources)}
        which = [places[id(member.source)] for member in self.members]
        self.which = torch.tensor(which, device=device)
        strides = [member.stride for member in self.members]
        starts = [i for i, s in enumerate(strides) if i == 0 or s != strides[i - 1]]
        self.runs = []
        for a, b in zip(starts, [*starts[1:], len(strides)]):
            views = [p.detach()[a:b] for p in self.learned]
            trainer = trainers[a]
            adam = Adam(views, trainer.paces.values())
            adam.moments = [AdamMoments(*(m[a:b] for m in each)) for each in moments]
            adam.n_steps += self.n_steps
            self.runs.append((slice(a, b), adam))

    def _draw_held_out(self) -> None:
        """Draw, once, what the held-out rows are seen as, and their noise."""
        self.held_out: dict[int, tuple[Tensor, Tensor | None, Tensor | None]] = {}
        for source in self.sources:
            held_out, trainer = source.training.held_out, source.training.trainer
            if held_out is not None:
                drawn = HeldOut(held_out, trainer.observe, trainer.generator).whole()
                self.held_out[id(source)] = (*drawn, held_out.weight)
        if self.held_out:
            for member, loss in zip(self.members, self.evaluate().tolist()):
                member.watch.begin(loss)

    def _spread(
        self, drawn: Sequence[tuple[Tensor, Tensor | None, Tensor | None]]
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Rows (C, b, d), noise (S, C, b, ...) and weights (C, b) of all members."""
        xs, noises, weights = zip(*drawn)
        x = torch.stack(xs)[self.which]
        noise = weight = None
        if noises[0] is not None:
            noise = torch.stack(noises, 1).index_select(1, self.which)
        if weights[0] is not None:
            weight = torch.stack(weights)[self.which]
        return x, noise, weight

    def epoch(self) -> tuple[list[str], Tensor]:
        """One pass over everyone's rows: means (n_terms + 1, C), the watched last."""
        seen: list[Any] = []
        wide = wide_dtype(self.device)
        self.model.template.train()
        streams = [s.training.trainer.batches(s.training.rows) for s in self.sources]
        for batches in zip(*streams):
            x, noise, weight = self._spread([batch[1:] for batch in batches])
            annealing = self._annealing(batches[0].part)
            own = in_dtype_of(x, weight)
            n_draws = 1 if noise is None else len(noise)
            # Parameters of all members, each of which meets its rows (b, ...).
            n_parameters = sum(p.numel() for p in self.learned)
            with threads_for(n_draws * x.shape[1] * n_parameters):
                terms = self.objective(self.model, x, noise, annealing)
                loss = terms.loss if own is None else terms.loss * own
                loss = loss.mean(-1).sum()
                if not self.n_steps:
                    self._check_gradients(loss, batches[0])
                self._step(loss)
            if self.update is not None:
                drawn = [
                    self.update.draw(source.training.trainer.generator)
                    for source in self.sources
                ]
                noise = torch.stack(drawn)[self.which]
                self.update(self.model, terms, own, noise)
            seen.append((weight, *(term.detach() for term in terms)))
        self.model.template.eval()
        for member in self.members:
            member.training.trainer.n_epochs += 1
        return list(terms._fields), epoch_means(terms, seen, wide)

    def _check_gradients(self, loss: Tensor, batch: Batch) -> None:
        """Raise a RuntimeError if a tensor has a gradient alone, and none in the stack.

        ``batch`` is of the first member.
        """
        stacked = torch.autograd.grad(
            loss, self.learned, allow_unused=True, retain_graph=True
        )
        pairs = zip(self.model.learned, stacked, strict=True)
        names = [name for name, gradient in pairs if gradient is None]
        if not names:
            return
        template = self.model.template
        tensors = [template.get_parameter(name) for name in names]
        objective = self.members[0].training.trainer.objective
        terms = objective(template, batch.x, batch.noise, 1.0)
        alone = torch.autograd.grad(terms.loss.sum(), tensors, allow_unused=True)
        wrong = [name for name, gradient in zip(names, alone) if gradient is not None]
        if wrong:
            raise RuntimeError(
                f"{type(template).__name__} cannot be trained in a stack: the learned "
                f"{', '.join(wrong)} would get no gradient. Its stacks() must return "
                "False."
            )

    def _annealing(self, part: float) -> Any:
        annealings = [
            member.training.trainer.annealing(part) for member in self.members
        ]
        return merged(annealings, self.device)

    def _step(self, loss: Tensor) -> None:
        """Descend everyone's loss by one step."""
        for p in self.learned:
            p.grad = None
        loss.backward()
        if self.rule.max_grad_norm is not None:
            self._clip(self.rule.max_grad_norm)
        for run, adam in self.runs:
            for view, p in zip(adam.learned, self.learned):
                view.grad = None if p.grad is None else p.grad[run]
            adam.step()
        self.n_steps += 1
        if self.average:
            decay = averaging_decay(self.rule.averaging, self.n_steps)
            get_ema_multi_avg_fn(decay)(self.average, self.learned, None)

    def _clip(self, largest: float) -> None:
        """Cut each member's gradient to a norm."""
        grads = [p.grad for p in self.learned if p.grad is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads]).norm(dim=0)
        scale = cut(norms, largest)
        for grad in grads:
            grad *= scale.view(-1, *(1,) * (grad.ndim - 1))

    @contextmanager
    def _judged_weights(self) -> Iterator[list[Tensor]]:
        """Put the averages, if there are any, in place of the weights: what is kept."""
        own = self.model.state
        judged = dict(zip(self.model.learned, self.average))
        self.model.state = {**own, **judged}
        try:
            yield [self.model.state[name] for name in self.kept]
        finally:
            self.model.state = own

    @torch.no_grad()
    def evaluate(self) -> Tensor:
        """Mean over the held-out rows of what is watched, (C,)."""
        drawn = [self.held_out[id(source)] for source in self.sources]
        first, noise, _ = drawn[0]
        draws = len(self.members) * (1 if noise is None else len(noise))
        size = self.members[0].training.trainer.held_out_chunk // draws + 1
        values, weights = [], list[Any]()
        for part in slices(len(first), size):
            x, noise, weight = self._spread([_rows_of(each, part) for each in drawn])
            values.append(self.objective(self.model, x, noise, 1.0).watched)
            weights.append(weight)
        weight = None if weights[0] is None else torch.cat(weights, dim=1)
        return row_mean(torch.cat(values, dim=1), weight)

    def run(self) -> None:
        """Descend until every member is done; the best weights go to their modules."""
        while self.members:
            for run, adam in self.runs:
                adam.factor = self.members[run.start].factor
            names, means = self.epoch()
            with self._judged_weights() as judged, torch.no_grad():
                judge = self.evaluate() if self.held_out else means[-1]
                finite = torch.stack(
                    [p.isfinite().view(len(p), -1).all(1) for p in judged]
                )
                judge = torch.where(finite.all(0), judge, torch.nan)
                # The only wait for the device in an epoch.
                each = torch.cat([judge[None].to(means), means[:-1]]).T.tolist()
                is_best = [
                    member.see(dict(zip(names, values)), current)
                    for member, (current, *values) in zip(self.members, each)
                ]
                chosen = torch.tensor(is_best, device=self.device)
                for best, p in zip(self.best, judged):
                    best[chosen] = p[chosen]
            if any(member.is_over for member in self.members):
                self._dismiss()

    def _dismiss(self) -> None:
        """Give those that are done their weights, and go on with the others."""
        for i, member in enumerate(self.members):
            if member.is_over:
                self._hand_over(member, i)
        kept = [i for i, member in enumerate(self.members) if not member.is_over]
        self.members = [self.members[i] for i in kept]
        if not kept:
            return
        moments = [
            AdamMoments(*(torch.cat(parts)[kept] for parts in zip(*each)))
            for each in zip(*(adam.moments for _, adam in self.runs))
        ]
        index = torch.tensor(kept, device=self.device)
        self.model.select(index)
        self.learned = self.model.require_gradients()
        self.best = [best[index] for best in self.best]
        self.average = [average[index] for average in self.average]
        self._arrange(moments)

    def _hand_over(self, member: Member, i: int) -> None:
        """Put the best weights into a member's module; note where its draws end."""
        state = dict(member.training.trainer.module.state_dict())
        for name, best in zip(self.kept, self.best):
            state[name].copy_(best[i])
        member.drawn = member.source.training.trainer.generator.get_state()


def _rows_of(
    drawn: tuple[Tensor, Tensor | None, Tensor | None], part: slice
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Take some rows (b, ...), their noise (S, b, ...) and their weights (b,)."""
    x, noise, weight = drawn
    return (
        x[part],
        None if noise is None else noise[:, part],
        None if weight is None else weight[part],
    )
