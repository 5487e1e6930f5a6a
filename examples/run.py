"""Run an example where there is no display: ``python examples/run.py quickstart``.

Its pictures are saved in ``examples/output/``: quickstart.png, quickstart_2.png, ...
"""

import runpy
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

HERE = Path(__file__).parent


def run(name):
    """Run a script, and save the figures that it leaves open."""
    plt.show = lambda: None  # there is nowhere to show, which would be a warning
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    (script,) = HERE.rglob(f"{name}.py")
    runpy.run_path(str(script), run_name="__main__")
    output = HERE / "output"
    output.mkdir(exist_ok=True)
    for i in plt.get_fignums():
        picture = output / (f"{name}.png" if i == 1 else f"{name}_{i}.png")
        plt.figure(i).savefig(picture, dpi=100, bbox_inches="tight")
        print(f"\nPicture: {picture}")


if __name__ == "__main__":
    run(sys.argv[1])
