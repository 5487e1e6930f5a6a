"""Hold the test likelihood on binarised MNIST to pythae, the papers and one another.

    SKGEN_DATA=folder python benchmarks/likelihood.py --size small
    SKGEN_DATA=folder python benchmarks/likelihood.py --size cpu
    SKGEN_DATA=folder python benchmarks/likelihood.py --size paper --device cuda

``small`` trains ours and pythae's (``pip install 'scikit-generative[bench]'``) in
about ten minutes on two cores, then other priors, a second layer of codes and tokens in
half an hour, and ``cpu`` ours alone, longer. ``paper`` trains ours
under the papers' protocols, which wants a GPU; ``--epochs`` cuts it and ``--only``
chooses runs.
``trial`` shows in a minute that all of it works. A finished run is a line of
``likelihood-<size>.jsonl``, and long runs are saved every ``--every`` epochs: what was
stopped goes on where it was, and what was cut goes on with more epochs. The table is
``likelihood-<size>.md``.

The folder has ``binarized_mnist_static.npz`` (train, valid, test: rows of 784 zeros and
ones; Larochelle & Murray 2011) and ``mnist.npz`` (x_train, x_test: 28 x 28, uint8).

Equal with pythae are the layers, what they mean (log sigma, logits) and where they
start, Adam and its learning rate, batch size and epochs, and which weights count: those
of the best training epoch. Seeds give different orders and noise. The weights of both
are scored by both estimators: ours on all test rows, pythae's ``get_nll``, which takes
one row at a time, on some.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import logging
import math
import os
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import torch
from likelihood_runs import RUNS, Run, cut
from likelihood_table import table
from sklearn.exceptions import ConvergenceWarning

from skgen import IWAE, VAE, VQVAE, VQVAE2
from skgen.likelihoods import Autoregressive, Bernoulli

MODELS = {"VAE": VAE, "IWAE": IWAE, "VQVAE": VQVAE, "VQVAE2": VQVAE2}


class Rows(NamedTuple):
    """Rows (n, 784) in float32."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def path_of(data: str) -> Path:
    """Find the file of a data set."""
    name = {"static": "binarized_mnist_static.npz", "dynamic": "mnist.npz"}[data]
    path = Path(os.environ.get("SKGEN_DATA", ""), name)
    if not path.is_file():
        raise SystemExit(
            f"There is no {name}. Set the environment variable SKGEN_DATA to the "
            "folder that has it; the docstring of this script says what is in it."
        )
    return path


def load(run: Run) -> Rows:
    """Read the rows, shuffled: files are sorted by class."""
    rng, arrays = np.random.RandomState(0), np.load(path_of(run.data))
    if run.data == "static":
        parts = [rng.permutation(arrays[part]) for part in Rows._fields]
    else:  # 59600 training rows, as in the paper; the other rows are binarised once.
        grey = [rng.permutation(arrays[part]) for part in ("x_train", "x_test")]
        train, test = (part.reshape(-1, 784) / 255 for part in grey)
        valid, test = (rng.binomial(1, part) for part in (train[59600:], test))
        parts = [train[:59600], valid, test]
    return Rows(*(part[: run.n_rows].astype(np.float32) for part in parts))


def new_model(run: Run) -> Any:
    settings = dict(run.settings)
    likelihood: Any = Bernoulli(binarize="dynamic" if run.data == "dynamic" else None)
    if "n_hidden" in settings:
        likelihood = Autoregressive(likelihood, n_hidden=settings.pop("n_hidden"))
    if run.model in ("VAE", "IWAE"):  # as the papers and pythae do
        settings.update(kl_warmup=0, linear_path=False)
    if run.model == "VAE" and np.ndim(run.n_components):
        settings.update(kl_warmup="auto")  # without it, ladders lose their top
    if run.model == "IWAE":
        settings.update(n_draws=run.K, gradient=run.gradient, max_grad_norm=None)
    return MODELS[run.model](
        run.n_components,
        hidden_layer_sizes=run.hidden_layer_sizes,
        activation=run.activation,
        likelihood=likelihood,
        batch_size=run.batch_size,
        learning_rate="constant",
        early_stopping=False,
        tol=0,
        warm_start=True,
        **settings,
    )


class Progress:
    """A run of ours, as far as it got: what is saved."""

    def __init__(self, run: Run) -> None:
        self.protocol = run._replace(stages=()).as_json()
        self.model = self.best = new_model(run)
        self.best_score, self.n_epochs, self.seconds = -math.inf, 0, 0.0
        self.curve: list[tuple[int, float, float]] = []

    def next_piece(self, run: Run, every: int) -> tuple[int, float] | None:
        """Epochs of the next fit, and its learning rate."""
        n_done = self.n_epochs
        for n_epochs, rate in run.stages:
            if n_done < n_epochs:
                return min(every, n_epochs - n_done), rate
            n_done -= n_epochs
        return None

    def fit(self, run: Run, x: np.ndarray, n_epochs: int, rate: float) -> None:
        """Train for some more epochs."""
        start = time.perf_counter()
        self.model.set_params(
            learning_rate_init=rate,
            max_iter=n_epochs,
            n_iter_no_change=n_epochs,
            random_state=10_000 * run.seed + self.n_epochs,
        ).fit(x)
        self.seconds += time.perf_counter() - start
        self.n_epochs += n_epochs

    def judge(self, run: Run, valid: np.ndarray) -> None:
        """Add to the curve: epochs, training loss, bound on the validation NLL."""
        score = self.model.score(valid)
        loss = self.model.loss_curve_[-1]
        self.curve.append((self.n_epochs, loss, -score))
        told = f"{self.n_epochs} epochs, loss {loss:.2f}, validation {-score:.2f}"
        print(f"{run.name}: {told}", flush=True)
        if score > self.best_score:
            self.best, self.best_score = copy.deepcopy(self.model), score


def train(run: Run, rows: Rows, device: str, every: int, folder: Path) -> Progress:
    """Train ours, from what was saved on."""
    progress, path = Progress(run), folder / f"{run.name}.joblib"
    if path.exists() and (state := joblib.load(path))["protocol"] == progress.protocol:
        vars(progress).update(state)
    progress.model.set_params(device=device)
    while piece := progress.next_piece(run, every):
        progress.fit(run, rows.train, *piece)
        if run.long:
            progress.judge(run, rows.valid)
            save(vars(progress), path)
    return progress


def save(state: dict[str, Any], path: Path) -> None:
    """Write a file whole or not at all, in a folder that git ignores."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / ".gitignore").write_text("*\n")
    joblib.dump(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def train_pythae(run: Run, x: np.ndarray) -> tuple[Any, float]:
    """Train pythae's: its weights in a model of ours, and seconds."""
    import likelihood_pythae

    encoder, decoder, seconds = likelihood_pythae.train(run, x)
    model = new_model(run).set_params(max_iter=1).fit(x[: run.batch_size])
    model.module_.encoder.load_state_dict(encoder.state_dict())
    model.module_.decoder.load_state_dict(decoder.state_dict())
    return model, seconds


def score(run: Run, model: Any, rows: Rows) -> dict[str, Any]:
    """Score by both estimators."""
    estimate = model.log_likelihood(rows.test, n_samples=run.n_test_draws)
    scores = {"nll": -estimate.mean_log_prob, "nll_error": estimate.mean_standard_error}
    if run.n_some:
        import likelihood_pythae

        networks = model.module_.encoder, model.module_.decoder
        few = slice(run.n_some)
        scores["nll_some"] = float(-estimate.log_prob[few].mean())
        scores["nll_pythae"] = likelihood_pythae.nll(run, *networks, rows.test[few])
    return scores


def execute(run: Run, device: str, every: int, folder: Path, n_threads: int) -> Any:
    """Train and score: the result of a run."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    logging.disable(logging.INFO)
    torch.set_num_threads(n_threads)
    rows, n_epochs, curve = load(run), run.n_epochs, []
    if run.library == "skgen":
        progress = train(run, rows, device, every, folder)
        model = progress.best if run.select else progress.model
        n_epochs, seconds = progress.n_epochs, progress.seconds
        active, curve = getattr(model, "active_units_", None), progress.curve
    else:
        model, seconds = train_pythae(run, rows.train)
        active = int((model.transform(rows.train).var(0) > 0.01).sum())
    on_cpu = model.device_ == "cpu"
    return {
        "run": run.as_json(),
        **score(run, model, rows),
        "active": active,
        "epochs": n_epochs,
        "seconds": round(seconds, 1),
        "device": f"CPU x {n_threads}" if on_cpu else torch.cuda.get_device_name(),
        "curve": curve,
        "date": f"{datetime.date.today()}",
    }


def read(path: Path) -> list[dict[str, Any]]:
    """Read the results of finished runs."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=list(RUNS), default="small")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--device", default="cpu", help="cuda, for paper")
    parser.add_argument("--epochs", type=int, default=3280, help="at most, for paper")
    parser.add_argument("--every", type=int, default=20, help="epochs between saves")
    parser.add_argument("--only", default="", help="part of the names of runs")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    options = parser.parse_args()
    size = options.size
    runs = [cut(run, options.epochs) for run in RUNS[size]()]
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / f"likelihood-{size}.jsonl"
    folder = options.out / f"likelihood-{size}-saved"
    done = [result["run"] for result in read(results)]
    missing = [
        run for run in runs if options.only in run.name and run.as_json() not in done
    ]
    if any(run.library == "pythae" for run in missing) and not find_spec("pythae"):
        raise SystemExit(
            "This size needs pythae: pip install 'scikit-generative[bench]'"
        )
    for data in {run.data for run in missing}:
        path_of(data)  # which stops before anything is done
    print(f"{len(missing)} of {len(runs)} runs to do", flush=True)
    n_threads = max(1, torch.get_num_threads() // options.jobs)
    finished = joblib.Parallel(options.jobs, return_as="generator_unordered")(
        joblib.delayed(execute)(run, options.device, options.every, folder, n_threads)
        for run in missing
    )
    for result in finished:
        with results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{Run(**result['run']).name}: {result['nll']:.2f} nats", flush=True)
    if everything := read(results):
        results.with_suffix(".md").write_text(table(size, everything))
        print(table(size, everything))


if __name__ == "__main__":
    main()
