"""Time whole scripts under the settings of threads that users have.

    python benchmarks/busy_scripts.py [--quick] [--repeats 3]

The demo (``examples/run.py quickstart``), the code of the README, and a grid search
with two workers of joblib, each a process of its own: with OMP_NUM_THREADS=1, with 2,
and without, when skgen chooses. On an idle machine, and beside one process that counts.
What is chosen should cost at most 1.1 times the better of one and two threads. Rounds
take turns, and the median counts. Run it on a machine that is idle otherwise; results
go to ``benchmarks/results/busy_scripts.txt``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

from busy_machine import busy
from timing import machine, report

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "busy_scripts.txt"
SEARCH = """
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skgen import VAE

if __name__ == "__main__":
    model = VAE(8, max_iter=10, n_iter_no_change=10, random_state=0)
    grid = {"hidden_layer_sizes": [(32,), (64,), (128,), (256,)]}
    GridSearchCV(model, grid, cv=3, n_jobs=2).fit(load_digits().data)
"""
#: Threads that a user has set; None: nothing is.
WAYS = {"one": "1", "two": "2", "chosen": None}


def readme() -> str:
    """Return the Python of the README, as one script."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    lines = "\n".join(blocks).replace("\n", "\n    ")
    return f"if __name__ == '__main__':\n    {lines}\n"


def scripts(folder: Path, quick: bool) -> dict[str, list[str]]:
    """Return commands, by what they are."""
    (folder / "readme.py").write_text(readme())
    (folder / "search.py").write_text(SEARCH)
    found = {
        "a search, two workers": [str(folder / "search.py")],
        "the demo": [str(ROOT / "examples" / "run.py"), "quickstart"],
        "the README's code": [str(folder / "readme.py")],
    }
    return dict(list(found.items())[:1]) if quick else found


def seconds(command: list[str], n_threads: str | None, folder: Path) -> float:
    """Return the seconds that a script takes."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    env = {k: v for k, v in os.environ.items() if k not in names}
    env |= {"PYTHONWARNINGS": "ignore", "MPLBACKEND": "Agg"}
    if n_threads is not None:
        env |= dict.fromkeys(names, n_threads)
    start = perf_counter()
    subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return perf_counter() - start


def lines(repeats: int, quick: bool) -> Iterator[str]:
    """Yield the lines of the report."""
    yield from machine("threadpoolctl", "joblib")
    yield f"{repeats} rounds; seconds of a process, its imports included"
    yield ""
    yield "| script | beside | one | two | chosen | of the better |"
    yield "|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case, command in scripts(folder, quick).items():
            for n in (0, 1):
                taken: dict[str, list[float]] = {way: [] for way in WAYS}
                with busy(n):
                    for _ in range(repeats):
                        for way, n_threads in WAYS.items():
                            taken[way].append(seconds(command, n_threads, folder))
                one, two, chosen = (median(taken[way]) for way in WAYS)
                yield (
                    f"| {case} | {n} busy | {one:.1f} | {two:.1f} | {chosen:.1f} | "
                    f"{chosen / min(one, two):.2f} |"
                )


def main() -> None:
    """Parse the arguments, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    repeats = 1 if args.quick else args.repeats
    report(lines(repeats, args.quick), None if args.quick else RESULTS)


if __name__ == "__main__":
    main()
