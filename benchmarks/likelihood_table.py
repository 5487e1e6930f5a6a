"""The results of ``likelihood.py`` in Markdown."""

from __future__ import annotations

import datetime
import itertools
import json
import math
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

Result = dict[str, Any]

# Nats, from Burda et al. (2016) unless said otherwise: by data, model, K and z.
PUBLISHED = {
    ("static", "VAE", 1, "40"): "89.78 (pythae), 89.9 (Rezende & Mohamed 2015)",
    ("static", "VAE", 1, "50"): "88.71",
    ("static", "IWAE", 50, "50"): "87.10, 86.82 (pythae)",
    ("dynamic", "IWAE", 1, "50"): "86.76, 19 active",
    ("dynamic", "IWAE", 5, "50"): "85.54",
    ("dynamic", "IWAE", 50, "50"): "84.78, 25 active",
    ("dynamic", "IWAE", 1, "100+50"): "85.33",
    ("dynamic", "IWAE", 5, "100+50"): "83.89",
    ("dynamic", "IWAE", 50, "100+50"): "82.90",
}
COLUMNS = (
    *("data", "model", "K", "z", "library", "seeds", "epochs", "seconds", "NLL"),
    *("NLL, some rows", "by pythae", "active units", "published", "device"),
)


def joined(sizes: Any) -> str:
    return "+".join(str(size) for size in np.ravel(sizes))


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """Mean over seeds, and its standard error: none for one seed."""
    n = len(values)
    error = np.std(values, ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return float(np.mean(values)), float(error)


def shown(values: list[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return ""
    mean, error = mean_and_error(numbers)
    return f"{mean:.2f}" if math.isnan(error) else f"{mean:.2f} ± {error:.2f}"


def table_row(results: list[Result]) -> str:
    """Describe the seeds of one run in a row."""
    first, run = results[0], results[0]["run"]
    z = joined(run["n_components"])
    cells = [
        *(run["data"], model_name(run), run["K"], z, run["library"], len(results)),
        *(first["epochs"], f"{np.mean([result['seconds'] for result in results]):.0f}"),
        *(
            shown([result.get(name) for result in results])
            for name in ("nll", "nll_some", "nll_pythae")
        ),
        ", ".join(joined(r["active"]) for r in results if r["active"] is not None),
        ""
        if run["n_rows"]
        else PUBLISHED.get((run["data"], run["model"], run["K"], z), ""),
        first["device"],
    ]
    return as_row(cells)


def model_name(run: dict[str, Any]) -> str:
    """Name a model with what sets it apart, and rows where they are fewer."""
    words = [run["model"]]
    if run["model"] == "IWAE":
        words.append(run["gradient"])
    if run["model"] in ("VAE", "IWAE"):
        words += [f"{name} {value}" for name, value in run.get("settings", ())]
    return ", ".join(words) + (f", {run['n_rows']} rows" if run["n_rows"] else "")


def as_row(cells: Any) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def verdicts(ours: list[Result], theirs: list[Result]) -> list[str]:
    """Compare our run with pythae's, by both estimators."""
    lines = []
    for name, words in (("nll", "ours"), ("nll_pythae", "pythae's")):
        a, a_error = mean_and_error([result[name] for result in ours])
        b, b_error = mean_and_error([result[name] for result in theirs])
        error = math.hypot(a_error, b_error)
        verdict = "yes" if a - b <= 2 * error else "no"
        lines.append(
            f"- {model_name(ours[0]['run'])}, by {words}: skgen less pythae "
            f"{a - b:+.2f} ± {error:.2f} nats; at or below, within two standard "
            f"errors: {verdict}."
        )
    return lines


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in ("scikit-generative", "torch", "numpy", "scikit-learn", "pythae"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def place(result: Result) -> tuple[Any, ...]:
    """Where a result comes in the table."""
    run = result["run"]
    names = ("data", "model", "gradient", "K", "library", "seed")
    more = np.ndim(run["n_components"]), run["n_rows"] or 0, str(run.get("settings"))
    return *more, *(run[name] for name in names)


def table(size: str, results: list[Result]) -> str:
    """Write the results in Markdown."""
    groups: dict[str, list[Result]] = {}
    for result in sorted(results, key=place):
        key = json.dumps({**result["run"], "seed": None})
        groups.setdefault(key, []).append(result)
    n_some = max(result["run"]["n_some"] for result in results)
    both = f", by ours and by pythae's on {n_some} of them" if n_some else ""
    lines = [
        f"# Test likelihood on binarised MNIST, `--size {size}`",
        "",
        f"{datetime.date.today()}; {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} CPUs; {versions()}.",
        "",
        "Negative log-likelihood in nats per row, mean and standard error over seeds: "
        f"by our estimator on all test rows{both}.",
        "",
        as_row(COLUMNS),
        "|" + "---|" * len(COLUMNS),
        *map(table_row, groups.values()),
        "",
    ]
    for ours, theirs in itertools.permutations(groups.values(), 2):
        libraries = [results[0]["run"]["library"] for results in (ours, theirs)]
        if libraries == ["skgen", "pythae"] and same_but_library(ours, theirs):
            lines += verdicts(ours, theirs)
        if is_base(theirs[0]["run"], ours[0]["run"]):
            lines.append(difference(ours, theirs))
    return "\n".join(lines).rstrip() + "\n"


def is_base(base: dict[str, Any], run: dict[str, Any]) -> bool:
    """Return whether a run is another with one thing more."""
    changed = {**run, "seed": base["seed"]}
    if run["model"] == "VQVAE2":
        return {**changed, "model": "VQVAE"} == base
    if "settings" in base or "settings" not in run:
        return False
    return {**base, "settings": run["settings"]} == changed


def difference(ours: list[Result], theirs: list[Result]) -> str:
    """Say how much a model gains over its base, in nats and bits per dimension."""
    a, a_error = mean_and_error([result["nll"] for result in ours])
    b, b_error = mean_and_error([result["nll"] for result in theirs])
    bits = 784 * math.log(2)
    return (
        f"- {model_name(ours[0]['run'])}, less {model_name(theirs[0]['run'])}: "
        f"{a - b:+.2f} ± {math.hypot(a_error, b_error):.2f} nats; "
        f"{a / bits:.4f} against {b / bits:.4f} bits per dimension."
    )


def same_but_library(ours: list[Result], theirs: list[Result]) -> bool:
    other = {"library": "", "seed": 0, "gradient": ""}
    return {**ours[0]["run"], **other} == {**theirs[0]["run"], **other}
