"""Each example runs without a warning, draws a picture, and shows what it says."""

import atexit
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
RUNNER = EXAMPLES / "run.py"
SCRIPTS = sorted(path for path in EXAMPLES.rglob("*.py") if path != RUNNER)
pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="examples are run by processes that are forked"
)
NAMES = [path.stem for path in SCRIPTS]
NETWORKS = ["VAE", "BetaVAE", "IWAE", "VQVAE"]
MODELS = ["GaussianDensity", "GaussianMixtureEM", "KMeansAutoencoder", *NETWORKS]


@cache
def server() -> Any:
    """Start a process that runs examples; it ends when this one does."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", Path(__file__).with_name("forked_examples.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    atexit.register(process.communicate)
    return process


@cache
def run(name: str, length: str = "brief") -> str:
    """Run an example once, with warnings as errors; return what it printed.

    A few epochs say whether it runs; its claims need a "whole" one.
    """
    picture = EXAMPLES / "output" / f"{name}.png"
    picture.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        print(name, output, length, sep="\t", file=server().stdin, flush=True)
        status = server().stdout.readline()
        printed = output.read_text()
    assert int(status) == 0, printed
    return printed


def table(text: str, n_columns: int) -> dict[str, Any]:
    """Numbers of the lines that are a name and ``n_columns`` numbers, by name."""
    number = r"([-+]?\d+\.\d+)"
    line = re.compile(r"^(\S.*?)" + rf"\s+{number}" * n_columns + r"$", re.MULTILINE)
    return {
        match[1]: [float(value) for value in match.groups()[1:]]
        for match in line.finditer(text)
    }


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_without_warning_and_says_where_its_picture_is(
    name: str,
) -> None:
    picture = EXAMPLES / "output" / f"{name}.png"
    pictures = re.findall(r"^Picture: (.+)$", run(name), re.MULTILINE)
    assert pictures[:1] == [str(picture)]
    for path in pictures:
        pixels = matplotlib.image.imread(path)[..., :3]
        assert max(pixels.shape[:2]) >= 400
        # Not blank: ink on a good part of the paper, in many shades.
        assert (pixels < 0.9).any(axis=2).mean() > 0.02
        assert pixels.std() > 0.05


def test_every_example_is_in_the_index() -> None:
    index = (EXAMPLES / "README.md").read_text()
    assert sorted(re.findall(r"\]\((\S+\.py)\)", index)) == [
        str(path.relative_to(EXAMPLES)) for path in SCRIPTS
    ]


# Score, its error, gain over the Gaussian, its error, mean squared error, time.


def test_quickstart_compares_all_models() -> None:
    assert list(table(run("quickstart"), 6)) == ["independent pixels", *MODELS]


def test_quickstart_gains_are_differences_of_its_scores() -> None:
    rows = table(run("quickstart"), 6)
    reference = rows["GaussianDensity"][0]
    for score, _, gain, *_ in rows.values():
        assert gain == pytest.approx(score - reference, abs=0.011)


@pytest.fixture
def quickstart() -> dict[str, Any]:
    return table(run("quickstart", "whole"), 6)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_quickstart_models_beat_independent_pixels(
    quickstart: dict[str, Any], model: str
) -> None:
    # Errors as printed are those of the models apart: larger than the paired one.
    floor, floor_error = quickstart["independent pixels"][:2]
    score, error = quickstart[model][:2]
    assert score - floor > 2 * (error**2 + floor_error**2) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("model", ["GaussianMixtureEM", "VAE", "IWAE"])
def test_quickstart_models_beat_one_gaussian_by_two_paired_errors(
    quickstart: dict[str, Any], model: str
) -> None:
    _, _, gain, gain_error, *_ = quickstart[model]
    assert gain > 2 * gain_error > 0


@pytest.mark.slow
def test_quickstart_says_what_its_table_says(quickstart: Any) -> None:
    checks = run("quickstart", "whole").split(
        "better by two paired standard errors than"
    )[1]
    for model in MODELS:
        _, _, gain, gain_error, *_ = quickstart[model]
        answers: Any = re.search(
            rf"^{model} +(yes|no) +(yes|no)$", checks, re.MULTILINE
        )
        assert answers[1] == "yes"
        assert answers[2] == ("yes" if gain > 2 * gain_error else "no")


@pytest.mark.slow
def test_pipeline_codes_are_worth_more_than_principal_components() -> None:
    text = run("pipeline", "whole")
    lines = re.findall(r"^ +(\d+) +(0\.\d+) \+- \S+ +(0\.\d+)", text, re.MULTILINE)
    assert [int(n) for n, _, _ in lines] == [2, 5, 10]
    for _, pca, vae in lines:
        assert float(vae) > float(pca)
    assert re.search(r"^ +vae0 +vae1$", text, re.MULTILINE)


@pytest.mark.slow
def test_grid_search_finds_the_best_beta_inside_its_grid() -> None:
    text = run("grid_search", "whole")
    best = re.findall(r"^ +(\S+) .* <- best$", text, re.MULTILINE)
    assert len(best) == 2
    assert 0.25 < float(best[0]) < 4


@pytest.mark.slow
def test_grid_search_shows_a_gap_that_grows_as_beta_falls() -> None:
    text = run("grid_search", "whole")
    gaps = re.findall(r"^BetaVAE, beta=.*? (-?\d+\.\d+)$", text, re.MULTILINE)
    best, smallest = map(float, gaps)
    assert 0 < best < smallest


@pytest.mark.slow
def test_densities_stay_within_one_and_bend_around_the_moons() -> None:
    rows = table(run("density", "whole"), 3)
    assert len(rows) == 7
    _, _, worst = rows.pop("GaussianDensity")
    for _, mass, auc in rows.values():
        # A bound on a density may miss mass; none has too much.
        assert 0.95 < mass < 1.005
        assert auc > worst + 0.05


def test_both_gradients_agree_in_the_mean_and_differ_in_variance() -> None:
    text = run("gradients_and_bounds")
    lines = re.findall(
        r"^(likelihood ratio|pathwise) +\( *(\S+), *(\S+)\) +(\S+)$",
        text,
        re.MULTILINE,
    )
    (_, *ratio), (_, *path) = lines
    for first, second, variance in (ratio, path):
        # Two coordinates share the variance; four errors of a mean of 20 000 draws.
        error = (float(variance) / 2 / 20_000) ** 0.5
        assert float(first) == pytest.approx(-10, abs=4 * error)
        assert float(second) == pytest.approx(-10, abs=4 * error)
    assert float(ratio[2]) > 100 * float(path[2])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["VAE", "IWAE"])
def test_bounds_rise_with_draws_and_the_encoder_beats_the_prior(model: str) -> None:
    text = run("gradients_and_bounds", "whole")
    prior = table(text, 4)[f"{model}, prior"]
    encoder = table(text, 5)[f"{model}, encoder"]
    assert prior == sorted(prior)
    assert encoder == sorted(encoder)
    assert all(e > p for e, p in zip(encoder, prior))
