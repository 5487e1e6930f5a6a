"""Runs examples that the standard input names, each in a process forked from this one.

So what they all import is imported once. A line has the name of an example, a file for
what it prints, and whether its fits are to be brief, with tabs between them; the answer
is a line with its exit status.
"""

import os
import runpy
import sys
import traceback
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401
import sklearn.mixture
import sklearn.model_selection  # noqa: F401

import skgen

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.brief import brief_fits

RUNNER = Path(__file__).parents[1] / "examples" / "run.py"
run = runpy.run_path(str(RUNNER))["run"]
every_model = [getattr(skgen, name) for name in skgen.__all__]


def run_into(name: Any, output: Any, length: Any) -> None:
    """Run an example, with what it prints in a file, and end this process."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    status = 0
    try:
        with brief_fits() if length == "brief" else nullcontext():
            run(name)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def serve() -> None:
    """Run the examples that the standard input names."""
    # Threads of libraries, which wait for work, are no harm.
    text = ".*multi-threaded, use of fork"
    warnings.filterwarnings("ignore", text, DeprecationWarning)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run_into(*line.rstrip("\n").split("\t"))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
