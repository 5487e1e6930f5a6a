"""pythae's side of ``likelihood.py``: its trainer and estimator, on our networks."""

from __future__ import annotations

import copy
import os
import tempfile
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from skgen._networks.dense import mlp
from skgen.likelihoods import Bernoulli

try:
    from pythae import models
    from pythae.data.datasets import BaseDataset
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
except ImportError as error:
    raise ImportError(
        "The comparison needs pythae. Install it with: pip install "
        "'scikit-generative[bench]'"
    ) from error

if TYPE_CHECKING:
    from likelihood_runs import Run


class Encoder(BaseEncoder):
    """Our encoder, which gives log sigma, in pythae's terms."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> ModelOutput:
        """Encode rows (n, d)."""
        mean, log_sigma = self.network(x).chunk(2, dim=-1)
        return ModelOutput(embedding=mean, log_covariance=2 * log_sigma)


class Decoder(BaseDecoder):
    """Our decoder, which gives logits, in pythae's terms."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> ModelOutput:
        """Decode codes (n, k)."""
        return ModelOutput(reconstruction=self.network(z).sigmoid())


def new_model(run: Run, encoder: nn.Module, decoder: nn.Module, n_features: int) -> Any:
    """Make pythae's model of two networks of ours, which it shares."""
    settings: dict[str, Any] = {"number_samples": run.K} if run.model == "IWAE" else {}
    config = getattr(models, f"{run.model}Config")(
        input_dim=(n_features,),
        latent_dim=run.n_components,
        reconstruction_loss="bce",
        **settings,
    )
    return getattr(models, run.model)(config, Encoder(encoder), Decoder(decoder))


def train(run: Run, x: np.ndarray) -> tuple[nn.Module, nn.Module, float]:
    """Train by pythae's trainer: encoder, decoder and seconds."""
    rows, k, sizes = torch.from_numpy(x), run.n_components, run.hidden_layer_sizes
    ((n_epochs, rate),) = run.stages
    torch.manual_seed(run.seed)
    encoder = mlp(x.shape[1], 2 * k, sizes, run.activation)
    decoder = mlp(k, x.shape[1], sizes[::-1], run.activation)
    decoder[-1].bias.data.copy_(Bernoulli().initial_outputs(rows))
    model = new_model(run, encoder, decoder, x.shape[1])
    with tempfile.TemporaryDirectory() as folder:
        trainer = BaseTrainer(
            model,
            BaseDataset(rows, torch.zeros(len(rows))),
            training_config=BaseTrainerConfig(
                output_dir=folder,
                num_epochs=n_epochs,
                learning_rate=rate,
                per_device_train_batch_size=run.batch_size,
                seed=run.seed,
                no_cuda=True,
            ),
        )
        start = time.perf_counter()
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
            trainer.train()  # with its progress bar
        seconds = time.perf_counter() - start
        best = torch.load(Path(trainer.training_dir) / "final_model" / "model.pt")
    model.load_state_dict(best["model_state_dict"])
    return encoder, decoder, seconds


def nll(run: Run, encoder: nn.Module, decoder: nn.Module, x: np.ndarray) -> float:
    """Estimate the negative log-likelihood of rows, as pythae does."""
    networks = (copy.deepcopy(network).cpu() for network in (encoder, decoder))
    model = new_model(run, *networks, x.shape[1])
    torch.manual_seed(run.seed)
    K = run.n_test_draws
    with torch.no_grad():  # what get_nll gives is not negative
        return -float(model.get_nll(torch.from_numpy(x), n_samples=K, batch_size=K))
