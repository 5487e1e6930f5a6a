"""Time functions side by side, and say on what machine."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from threadpoolctl import threadpool_limits


def interleaved(
    functions: Mapping[str, Callable[[], Any]], repeats: int = 5
) -> dict[str, float]:
    """Return the median seconds of each function, all called in turn.

    Whatever else the machine does falls on all of them alike. A first round, which
    is not counted, warms caches and pages.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats + 1):
        for name, function in functions.items():
            start = perf_counter()
            function()
            seconds[name].append(perf_counter() - start)
    return {name: median(values[1:]) for name, values in seconds.items()}


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Give torch, BLAS and OpenMP the same number of threads inside the block."""
    before = torch.get_num_threads()
    with threadpool_limits(n):
        torch.set_num_threads(n)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def report(lines: Iterable[str], path: Path | None) -> None:
    """Print lines as they come, and write all of them to a file, if there is one."""
    found = []
    for line in lines:
        print(line, flush=True)
        found.append(line)
    if path is not None:
        path.write_text("\n".join(found) + "\n")


def machine(*packages: str) -> list[str]:
    """Lines that say when, on what processor, and with which versions."""
    packages = ("scikit-generative", "torch", "scikit-learn", "numpy", *packages)
    versions = ", ".join(map(_version, packages))
    return [
        f"{datetime.date.today()}; {_processor()}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}, {versions}",
    ]


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
