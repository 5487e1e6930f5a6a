"""Columns of many levels: no one-hot rows, and memory that does not grow with rows."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skgen import IWAE, VAE, VQVAE, MixedDensity
from skgen._networks.dense import mlp
from skgen._utils.tensors import draw_levels
from skgen.likelihoods import Mixed
from skgen.likelihoods.kinds import Levels

K = 700  # levels that networks look up
SETTINGS: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "max_iter": 1,
    "random_state": 0,
}
unconverged = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"
)
COLUMNS: list[Any] = ["real", K, ("ordinal", 3), 4, K, "positive", 300]


def rows_of_columns() -> Tensor:
    """Rows (6, 7) of COLUMNS with a hole in each of five."""
    generator = np.random.default_rng(0)
    x = np.column_stack(
        [
            generator.normal(size=6),
            generator.integers(K, size=6),
            generator.integers(3, size=6),
            generator.integers(4, size=6),
            generator.integers(K, size=6),
            generator.exponential(size=6),
            generator.integers(300, size=6),
        ]
    )
    x[[0, 1, 2, 3, 4], [1, 0, 3, 4, 6]] = np.nan
    return torch.tensor(x)


def test_looked_up_weights_are_the_product_with_one_hot_rows() -> None:
    likelihood, x = Mixed(COLUMNS), rows_of_columns()
    sparse: Any
    dense, sparse = likelihood.inputs(x), likelihood.sparse_inputs(x)
    assert sparse.dense.shape[1] < 20
    torch.manual_seed(0)
    network: Any = mlp(dense.shape[1], 3, [5], "tanh").double()
    found, gradients = [], []
    for inputs in (dense, sparse):
        network.zero_grad()
        found.append(network(inputs))
        found[-1].square().sum().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*gradients)


def test_few_levels_are_one_hot() -> None:
    x = torch.tensor([[0.0, 2.0], [1.0, torch.nan]])
    likelihood: Any = Mixed([2, 3])
    assert likelihood.sparse_inputs(x).equal(likelihood.inputs(x))


@unconverged
def test_an_encoder_of_the_users_sees_one_hot_rows() -> None:
    model = VAE(2, likelihood=Mixed(["real", K]), encoder=torch.nn.Linear, **SETTINGS)
    generator = np.random.default_rng(0)
    X = np.column_stack([generator.normal(size=50), generator.integers(K, size=50)])
    assert model.fit(X).module_.encoder.in_features == 1 + K + 2
    assert np.isfinite(model.score(X))


def test_draws_of_levels_have_their_shares() -> None:
    logits = torch.randn(40, generator=torch.Generator().manual_seed(0))
    logits[[0, 5, 39]] = -torch.inf
    drawn = draw_levels(logits.expand(200, 200, 40), torch.Generator().manual_seed(1))
    shares = drawn.flatten().bincount(minlength=40) / drawn.numel()
    p = logits.softmax(-1)
    assert (shares[p == 0] == 0).all()
    assert ((shares - p).abs() <= 5 * (p / drawn.numel()).sqrt()).all()


def test_the_mean_of_a_mixture_does_not_depend_on_its_parts() -> None:
    likelihood = Mixed(["real", "count", 5])
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(9, 3, 7, generator=generator, dtype=torch.float64)
    log_weight = 30 * torch.randn(9, 3, generator=generator, dtype=torch.float64)
    whole = likelihood.mixture_mean([(outputs, log_weight)])
    for size in (1, 4):
        parts = zip(outputs.split(size), log_weight.split(size))
        torch.testing.assert_close(likelihood.mixture_mean(parts), whole)
    heaviest = log_weight.argmax(0)
    likely = outputs[heaviest, torch.arange(3)]
    near = likelihood.mean(likely)
    torch.testing.assert_close(whole[:, 2], near[:, 2])


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and look at what comes out."""
        made = func(*args, **(kwargs or {}))
        owned = [t.numel() for t in tree_leaves(made) if isinstance(t, torch.Tensor)]
        self.numel = max(self.numel, *owned, 0)
        return made


MODELS: dict[str, Any] = {
    "VAE": VAE(2, **SETTINGS),
    "IWAE": IWAE(2, n_draws=2, **SETTINGS),
    "VQVAE": VQVAE(4, n_tokens=2, **SETTINGS),
}


@unconverged
@pytest.mark.parametrize("name", MODELS)
def test_no_tensor_has_all_rows_by_all_levels(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, n_levels = 3000, 1500
    one_hot_rows: Any
    one_hot_rows, inputs = [], Levels.inputs
    monkeypatch.setattr(
        Levels,
        "inputs",
        lambda *args: one_hot_rows.append(len(args[1])) or inputs(*args),
    )
    generator = np.random.default_rng(0)
    table = np.column_stack([generator.normal(size=n), np.arange(n) % n_levels])
    model = MixedDensity(MODELS[name], kinds={1: list(range(n_levels))})
    with Largest() as largest:
        model.fit(table)
        model.transform(table)
        few = table[:20].copy()
        assert np.isfinite(model.estimator_.score_samples(few)).all()
        few[:10, 1], few[10:, 0] = np.nan, np.nan
        assert not np.isnan(model.impute(few)).any()
        assert model.sample(300).shape == (300, 2)
    assert max(one_hot_rows) == 1  # that the work of a row is counted on
    # Draws of a score are not split: 64 of one row, or as many rows without draws.
    assert largest.numel <= 2**22 < n * n_levels
