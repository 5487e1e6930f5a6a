"""Training many models of one shape as one.

A step on a small network spends most of its time between operations. Here the
parameters of C models are stacked, (C, ...), and every operation is done once for all;
what differs between the models is a number each, their rows, or their noise. Shuffles
and noise are those of each model trained alone, and so are its curve and its weights,
to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from skgen._networks.dense import add_first
from skgen._training.adam import Adam, AdamMoments, clip_each
from skgen._training.batches import Batch
from skgen._training.contracts import Terms
from skgen._training.early_stopping import History
from skgen._training.loop import Training, merged, same_rows, train
from skgen._training.steps.eager import mean_loss
from skgen._training.steps.structure import Called, kind_of, structure, training_state
from skgen._training.trainer import Trainer
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
        same_held_out = same_rows(training.held_out, other.held_out)
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

    def posterior(self, batch: Batch) -> Any:
        """q(z|x) of rows (C, n, d)."""
        return self.prior.posterior(Normal.of(self._encoded(batch.x)))

    def log_likelihood(self, batch: Batch, z: Tensor) -> Tensor:
        """Log p(x|z), (S?, C, n), of rows (C, n, d) and codes (S?, C, n, k)."""
        return self._decoded_log_prob(batch.x, z)

    # Of models with tokens.

    def latents(self, batch: Batch) -> Any:
        """Encode rows (C, n, d) to vectors (C, n, T, c)."""
        n_tokens = self.template.prior.n_tokens
        z_e = self._encoded(batch.x).unflatten(-1, (n_tokens, -1))
        return self._each("codebook.project", (z_e,))

    def quantise(self, z_e: Tensor) -> Any:
        """Nearest code vectors (C, n, T, c)."""
        return self._each("quantise", (z_e,))

    def log_likelihood_at(self, batch: Batch, z_q: Tensor) -> Any:
        """Log p(x|z_q), (C, n), of rows and code vectors."""
        return self._decoded_log_prob(batch.x, z_q.flatten(-2))

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

        By one product per layer: what vmap makes of a linear layer takes twice as long.
        """
        network = getattr(self.template, name)
        linear = self.state.get(f"{name}.linear")  # (C, m, p)

        def layers(given: Tensor) -> Tensor:
            x = given
            for i, layer in enumerate(network):
                if isinstance(layer, nn.Linear):
                    weight = self.state[f"{name}.{i}.weight"]  # (C, p, q)
                    bias = self.state[f"{name}.{i}.bias"][:, None]
                    x = torch.baddbmm(bias, x, weight.mT)
                else:
                    x = layer(x)
            return x if linear is None else add_first(x, given @ linear.mT)

        flat = x if x.ndim == 3 else x.movedim(0, 1).flatten(1, 2)  # (C, S n, ...)
        outputs: Tensor = self.template.at_precision(layers, flat, network.training)
        if x.ndim == 3:
            return outputs
        found: Tensor = outputs.unflatten(1, (x.shape[0], x.shape[2])).movedim(1, 0)
        return found

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


class Stacked:
    """Way to train C modules of one structure, as a stack of them."""

    def __init__(self, trainers: Sequence[Trainer], groups: Sequence[slice]) -> None:
        first = trainers[0]
        self.rule, self.update, self.paces = first.rule, first.update, first.paces
        modules = [trainer.module for trainer in trainers]
        self.model = StackedModel(modules, first.paces)
        self.names = [*first.paces, *(self.update.changes if self.update else ())]
        self.is_checked = False
        n_steps = first.optimizer.n_steps
        moments = [AdamMoments.of(self.model.state[name]) for name in first.paces]
        self._arrange(trainers, groups, moments, n_steps)

    def _arrange(
        self,
        trainers: Sequence[Trainer],
        groups: Sequence[slice],
        moments: Sequence[AdamMoments],
        n_steps: Tensor,
    ) -> None:
        """Prepare for models: leaves, constants, and an Adam for each group."""
        self.trainers = trainers
        self.leaves = self.model.require_gradients()
        self.learned = [p.detach() for p in self.leaves]
        # Parameters of all models, each of which meets its rows (b, ...).
        self.row_work = sum(p.numel() for p in self.learned)
        objectives = [trainer.objective for trainer in trainers]
        self.objective = merged(objectives, self.learned[0].device)
        self.optimizers: list[tuple[slice, Adam]] = []
        for group in groups:
            own_paces = trainers[group.start].paces.values()
            adam = Adam([p[group] for p in self.learned], own_paces)
            adam.moments = [AdamMoments(*(m[group] for m in each)) for each in moments]
            adam.n_steps += n_steps
            self.optimizers.append((group, adam))

    @property
    def kept(self) -> list[Tensor]:
        """Tensors that training changes, (C, ...)."""
        return [self.model.state[name].detach() for name in self.names]

    weights = kept

    def train(self, mode: bool) -> None:
        """Set the mode of layers such as dropout."""
        self.model.template.train(mode)

    def joined(self, batches: Sequence[Batch], which: Tensor) -> Batch:
        """Rows (C, b, d), noise (S, C, b, ...) and weights (C, b) of all models."""
        x, noise, weight, context, _ = zip(*batches)

        def spread(tensors: Any, along: int = 0) -> Tensor | None:
            if tensors[0] is None:
                return None
            return torch.stack(tensors, along).index_select(along, which)

        every = spread(x)
        assert every is not None
        return Batch(every, spread(noise, 1), spread(weight), spread(context))

    def step(self, batch: Batch, annealing: Any) -> Terms:
        """Take a step of every model, and return the terms (C, b) before it."""
        with self._threads_for(batch):
            terms: Terms = self.objective(self.model, batch, annealing)
            loss = mean_loss(terms, batch.weight).sum()
            if not self.is_checked:
                self._check_gradients(loss, batch)
            self._descend(loss)
        return terms

    def terms(self, batch: Batch) -> Terms:
        """Return the terms of rows, at the end of a warm-up."""
        with self._threads_for(batch):
            terms: Terms = self.objective(self.model, batch, 1.0)
        return terms

    def _threads_for(self, batch: Batch) -> AbstractContextManager[None]:
        return threads_for(batch.n_draws * batch.x.shape[1] * self.row_work)

    def _descend(self, loss: Tensor) -> None:
        """Step along the gradient of everyone's loss."""
        for p in self.leaves:
            p.grad = None
        loss.backward()
        if self.rule.max_grad_norm is not None:
            clip_each(self.leaves, self.rule.max_grad_norm)
        for group, adam in self.optimizers:
            for view, p in zip(adam.learned, self.leaves):
                view.grad = None if p.grad is None else p.grad[group]
            adam.step()

    def _check_gradients(self, loss: Tensor, batch: Batch) -> None:
        """Raise a RuntimeError if a tensor would get no gradient in the stack."""
        self.is_checked = True
        stacked = torch.autograd.grad(
            loss, self.leaves, allow_unused=True, retain_graph=True
        )
        pairs = zip(self.model.learned, stacked, strict=True)
        names = [name for name, gradient in pairs if gradient is None]
        if not names:
            return
        template = self.model.template
        tensors = [template.get_parameter(name) for name in names]
        first = Batch(batch.x[0], None if batch.noise is None else batch.noise[:, 0])
        terms = self.trainers[0].objective(template, first, 1.0)
        alone = torch.autograd.grad(terms.loss.sum(), tensors, allow_unused=True)
        wrong = [name for name, gradient in zip(names, alone) if gradient is not None]
        if wrong:
            raise RuntimeError(
                f"{type(template).__name__} cannot be trained in a stack: the learned "
                f"{', '.join(wrong)} would get no gradient. Its stacks() must return "
                "False."
            )

    def select(
        self, kept: Tensor, trainers: Sequence[Trainer], groups: Sequence[slice]
    ) -> None:
        """Go on with some of the models."""
        moments = [
            AdamMoments(*(torch.cat(parts)[kept] for parts in zip(*each)))
            for each in zip(*(adam.moments for _, adam in self.optimizers))
        ]
        self.model.select(kept)
        self._arrange(trainers, groups, moments, self.optimizers[0][1].n_steps)

    @torch.no_grad()
    def restore(self, i: int, values: Sequence[Tensor]) -> None:
        """Give the module of a model what was ``kept`` for it."""
        state = self.trainers[i].module.state_dict()
        for name, value in zip(self.names, values):
            state[name].copy_(value)


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
    train(trainings, Stacked)
    return [training.history for training in trainings]
