"""What ``likelihood.py`` runs."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from likelihood_table import joined


class Run(NamedTuple):
    """All that a result depends on."""

    data: str  # "static" or "dynamic"
    model: str  # "VAE" or "IWAE"
    K: int  # draws in training
    library: str  # "skgen" or "pythae"
    seed: int
    stages: tuple[tuple[int, float], ...]  # epochs and learning rate of each
    gradient: str = "dreg"  # estimator of the gradient of an IWAE
    n_components: Any = 50
    hidden_layer_sizes: tuple[Any, ...] = (200, 200)
    activation: str = "tanh"
    batch_size: int = 100
    long: bool = True  # whether it is saved, and scored on validation rows, on the way
    select: bool = False  # whether the weights that score best on those count
    n_rows: int | None = None  # of each set at most, None for all
    n_test_draws: int = 100
    n_some: int = 0  # test rows that pythae's estimator sees
    settings: tuple[tuple[str, Any], ...] = ()  # further parameters, or `n_hidden`

    @property
    def name(self) -> str:
        """Short, for people and for files."""
        z = joined(self.n_components)
        model = f"{self.model}-{self.K}-{self.gradient}" if self.K > 1 else self.model
        more = "".join(f"-{value}" for _, value in self.settings)
        return f"{self.data}-{model}-z{z}{more}-{self.library}-{self.seed}"

    @property
    def n_epochs(self) -> int:
        """Epochs of all stages."""
        return sum(n_epochs for n_epochs, _ in self.stages)

    def as_json(self) -> dict[str, Any]:
        """As it is read back; results have no settings where there are none."""
        run: dict[str, Any] = json.loads(json.dumps(self._asdict()))
        if not self.settings:
            del run["settings"]
        return run


# Stages of 3^i epochs at falling rates (Burda, Grosse & Salakhutdinov 2016).
BURDA = tuple((3**i, 1e-4 * round(10 ** (1 - i / 7), 1)) for i in range(8))
# pythae's reproduction of the VAE of Rezende & Mohamed (2015).
REZENDE = tuple((n, 1e-4 * 10 ** (-i / 5)) for i, n in enumerate((200, 150, 150)))

# One layer of codes above another.
TWO_LAYERS: dict[str, Any] = {
    "n_components": (100, 50),
    "hidden_layer_sizes": ((200, 200), (100, 100)),
}


def side_by_side(n_epochs: int, **settings: Any) -> list[Run]:
    """Return runs of both libraries, three seeds each."""
    settings = {**settings, "stages": ((n_epochs, 1e-3),), "long": False}
    return [
        Run("static", model, K, library, seed, gradient=gradient, **settings)
        for seed in range(3)
        for model, K, library, gradient in (
            ("VAE", 1, "skgen", "standard"),
            ("VAE", 1, "pythae", "standard"),
            ("IWAE", 5, "skgen", "dreg"),
            ("IWAE", 5, "skgen", "standard"),
            ("IWAE", 5, "pythae", "standard"),
        )
    ]


# A convolutional net of images, and two levels of tokens against one.
TOKENS: dict[str, Any] = {
    "n_components": 128,
    "hidden_layer_sizes": (128,),
    "activation": "relu",
    "settings": (
        ("architecture", "conv"),
        ("image_shape", (28, 28)),
        ("channels", 16),
    ),
}


def further_runs() -> list[Run]:
    """Return what the normal prior, one way of inference and a plain decoder face."""
    common: dict[str, Any] = {"stages": ((12, 1e-3),), "long": False, "n_rows": 20_000}
    fewer = {**common, "n_rows": 10_000, "n_test_draws": 20}
    few = {**common, "n_rows": 3000, "n_test_draws": 20}
    return [
        Run("static", model, 1, "skgen", seed, **kinds)
        for seed in range(3)
        for model, kinds in (
            ("VAE", common),
            *(
                ("VAE", {**common, "settings": (("prior", prior),)})
                for prior in ("vamp", "mixture", "flow")
            ),
            ("VAE", {**common, "settings": (("posterior_type", "mixture"),)}),
            ("VAE", {**common, **TWO_LAYERS}),
            ("VAE", {**common, **TWO_LAYERS, "settings": (("inference", "top-down"),)}),
            ("VAE", fewer),
            ("VAE", {**fewer, "settings": (("n_hidden", 64),)}),
            ("VQVAE", {**few, **TOKENS}),
            ("VQVAE2", {**few, **TOKENS}),
        )
    ]


def small_runs() -> list[Run]:
    return [*side_by_side(6, n_some=500), *further_runs()]


def trial_runs() -> list[Run]:
    few: dict[str, Any] = {"n_rows": 2000, "n_test_draws": 10}
    deep = {**few, **TWO_LAYERS, "stages": ((1, 1e-3), (3, 5e-4)), "select": True}
    return [
        *side_by_side(2, n_some=50, **few),
        Run("dynamic", "IWAE", 5, "skgen", 0, **deep),
    ]


def paper_runs() -> list[Run]:
    rezende: dict[str, Any] = {
        "stages": REZENDE,
        "n_components": 40,
        "hidden_layer_sizes": (400,),
        "activation": "relu",
        "n_test_draws": 200,
    }
    burda: dict[str, Any] = {"stages": BURDA, "batch_size": 20, "n_test_draws": 5000}
    return [
        Run("static", "VAE", 1, "skgen", 0, **rezende, select=True),
        Run("static", "VAE", 1, "skgen", 0, **burda, select=True),
        Run("static", "IWAE", 50, "skgen", 0, **burda, select=True),
        *(
            Run("dynamic", "IWAE", K, "skgen", 0, **burda, **layers)
            for layers in ({}, TWO_LAYERS)
            for K in (50, 5, 1)
        ),
    ]


def cpu_runs() -> list[Run]:
    """Return what a core can train in ten minutes each: shorter, at larger rates."""
    vae: dict[str, Any] = {
        "stages": ((60, 1e-3), (30, 3e-4), (30, 1e-4)),
        "n_components": 40,
        "hidden_layer_sizes": (400,),
        "activation": "relu",
        "n_test_draws": 200,
    }
    iwae: dict[str, Any] = {"stages": ((20, 1e-3), (10, 3e-4)), "n_test_draws": 5000}
    return [
        Run("static", "VAE", 1, "skgen", 0, **vae, select=True),
        Run("static", "IWAE", 5, "skgen", 0, **iwae, select=True),
    ]


RUNS = {
    "trial": trial_runs,
    "small": small_runs,
    "cpu": cpu_runs,
    "paper": paper_runs,
}


def cut(run: Run, n_epochs: int) -> Run:
    """Cut a run to its first epochs."""
    stages = []
    for length, rate in run.stages:
        stages.append((min(length, n_epochs), rate))
        n_epochs -= stages[-1][0]
    return run._replace(stages=tuple(stage for stage in stages if stage[0]))
