"""Adam over the parameters of a module, with torch's fused kernel.

The same steps as ``torch.optim.AdamW`` takes, without its wrapper: of a step on a small
network, that is a tenth of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8

# Multiple of the learning rate at a part of the descent, 0 (its start) to 1.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda part: 1.0,
    "cosine": lambda part: 0.5 * (1 + math.cos(math.pi * part)),
    # Eight stages, each three times as long as the one before, down to a tenth
    # (Burda et al. 2016): 3^0 + ... + 3^7 = 3280 parts.
    "stages": lambda part: 10 ** (-math.floor(math.log(6560 * part + 1.5, 3)) / 7),
}


class StepRule(NamedTuple):
    """How Adam steps."""

    learning_rate: float
    schedule: str = "constant"  # of SCHEDULES
    weight_decay: float = 0.0  # decoupled, of weight matrices
    max_grad_norm: float | None = None
    averaging: float = 0.0  # decay of the average over steps that is judged and kept
    execution: str = "eager"  # of skgen._training.steps.EXECUTIONS
    beta1: float = BETA1  # decay of the running mean of gradients


class ParamGroup(NamedTuple):
    """Settings that the parameters of a group share."""

    rate: float
    decay: float
    beta1: float = BETA1


def paces(
    module: nn.Module, rule: StepRule, rates: dict[str, float], part: str = ""
) -> dict[str, ParamGroup]:
    """Return the pace of each parameter that is learned, by name.

    ``rates`` are multiples of the learning rate, by what a name begins or ends with, as
    "encoder." of a whole network; names begin with ``part``.
    """
    found = {}
    for name, p in module.named_parameters():
        if p.requires_grad and name.startswith(part):
            own = next((end for end in rates if _is_of(name, end)), ".")
            # Biases, scales and single tensors with a rate of their own do not decay.
            decay = rule.weight_decay if p.ndim > 1 and own.endswith(".") else 0.0
            rate = rates.get(own, 1.0) * rule.learning_rate
            found[name] = ParamGroup(rate, decay, rule.beta1)
    return found


def _is_of(name: str, part: str) -> bool:
    return name.startswith(part) or name.endswith(part)


class AdamMoments(NamedTuple):
    """Running means of a parameter's gradient and of its square."""

    exp_avg: Tensor
    exp_avg_sq: Tensor

    @classmethod
    def of(cls, p: Tensor) -> AdamMoments:
        """None yet."""
        return cls(torch.zeros_like(p), torch.zeros_like(p))


def adamw(
    p: Tensor, grad: Tensor, moments: AdamMoments, unbiased: Tensor, pace: ParamGroup
) -> None:
    """Take a step of AdamW (Loshchilov & Hutter 2019), for what compiles it.

    ``unbiased`` (2,) is what `Adam.counted` gave for the step.
    """
    m, v = moments
    m.lerp_(grad, 1 - pace.beta1)
    v.mul_(BETA2).addcmul_(grad, grad, value=1 - BETA2)
    m_hat, v_hat = m / unbiased[0], v / unbiased[1]
    p.mul_(1 - pace.rate * pace.decay).sub_(pace.rate * m_hat / (v_hat.sqrt() + EPS))


def clipped(grads: Sequence[Tensor], longest: float) -> list[Tensor]:
    """Cut the gradient of each of C models, tensors (C, ...), to a norm.

    By the factor of torch's ``clip_grad_norm_``.
    """
    norms = torch.stack([g.reshape(len(g), -1).norm(dim=1) for g in grads]).norm(dim=0)
    scale = (longest / (norms + 1e-6)).clamp(max=1.0)
    return [g * scale.view(-1, *(1,) * (g.ndim - 1)) for g in grads]


def clip_each(learned: Sequence[Tensor], longest: float) -> None:
    """Cut the gradient of each of C models, ``grad`` of tensors (C, ...), to a norm."""
    used = [p for p in learned if p.grad is not None]
    grads = clipped([p.grad for p in used if p.grad is not None], longest)
    for p, grad in zip(used, grads):
        p.grad = grad


class Adam:
    """AdamW of tensors, each at its pace, that all take the same steps.

    Parameters
    ----------
    learned : sequence of Tensor
        What is stepped, by its ``grad``.
    paces : iterable of ParamGroup
        The pace of each; all have one ``beta1``.
    """

    def __init__(self, learned: Sequence[Tensor], paces: Iterable[ParamGroup]) -> None:
        self.learned = list(learned)
        self.moments = [AdamMoments.of(p) for p in self.learned]
        # One count for all: one a tensor, as torch's wrapper has, is 18 operations of
        # a step on nine tensors.
        device = self.learned[0].device if self.learned else None
        self.n_steps = torch.zeros((), device=device)
        self.factor: Any = 1.0  # of all rates: where the schedule is
        self.groups: dict[ParamGroup, list[int]] = {}
        for i, pace in enumerate(paces):
            self.groups.setdefault(pace, []).append(i)
        beta1 = next((pace.beta1 for pace in self.groups), BETA1)
        self.log_betas = torch.tensor([beta1, BETA2], device=device).log()

    @property
    def tensors(self) -> list[Tensor]:
        """Tensors that a step changes beside the parameters: moments, the count."""
        return [*(value for each in self.moments for value in each), self.n_steps]

    def forget_gradients(self) -> None:
        """Let go of the gradients of the last step."""
        for p in self.learned:
            p.grad = None

    @torch.no_grad()
    def counted(self) -> Tensor:
        """Count a step that is taken elsewhere, and return 1 - beta^n (2,)."""
        self.n_steps += 1
        return torch.expm1(self.n_steps * self.log_betas).neg_()

    @torch.no_grad()
    def step(self) -> None:
        """Step along the gradients that there are."""
        self.n_steps += 1
        for pace, group in self.groups.items():
            each = [(self.learned[i], *self.moments[i]) for i in group]
            used = [(p, g, m, v) for p, m, v in each if (g := p.grad) is not None]
            if used:
                self._step(pace, *map(list, zip(*used)))

    def _step(
        self,
        pace: ParamGroup,
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
    ) -> None:
        torch._fused_adamw_(
            params,
            grads,
            exp_avgs,
            exp_avg_sqs,
            [],
            [self.n_steps] * len(params),
            lr=self.factor * pace.rate,
            beta1=pace.beta1,
            beta2=BETA2,
            weight_decay=pace.decay,
            eps=EPS,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> list[dict[str, Tensor]]:
        """Copy the moments of each parameter to the host, where they pickle."""
        return [
            {
                name: value.cpu().clone()
                for name, value in (*each._asdict().items(), ("step", self.n_steps))
            }
            for each in self.moments
        ]

    def load_state(self, state: Sequence[dict[str, Tensor]]) -> None:
        """Go on from the moments of another descent, at this one's rates.

        Raises
        ------
        ValueError
            If they are not those of these parameters: the kernel would not notice, and
            would read beyond their end.
        """
        moments = []
        for values, now in zip(state, self.moments, strict=True):
            found = AdamMoments(values["exp_avg"], values["exp_avg_sq"])
            pairs = [*zip(found, now), (values["step"], self.n_steps)]
            if any(_layout(value) != _layout(own) for value, own in pairs):
                raise ValueError(
                    "The state of the optimiser is not that of the parameters. Use fit "
                    "to start anew."
                )
            moments.append(AdamMoments(*(v.to(p).clone() for v, p in zip(found, now))))
        self.moments = moments
        self.n_steps = (
            torch.stack([values["step"] for values in state]).amax().to(self.n_steps)
        )


def _layout(value: Tensor) -> tuple[torch.Size, torch.dtype]:
    return value.shape, value.dtype
