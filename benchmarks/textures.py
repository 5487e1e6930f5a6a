"""Measure models of one image: the error of PatchMatch's field, and what images take.

    python benchmarks/textures.py [--quick]

- **Fields**: patches of one corner of scikit-image's brick, grass and gravel are
  matched with those of the opposite corner, in full resolution ("fine") and in every
  third pixel ("coarse"). "exact" is the mean distance to the nearest patch, found by
  comparing all, and "excess" that of the matches over it, less one; "start" is the
  excess of matches along principal axes alone, and "random" that of ``n_iter`` rounds
  from random matches, as in the paper. "of all" are the seconds of comparing all.
- **Images**: seconds for 128 x 128 pixels from an exemplar of 96 x 96 (every fourth
  pixel), for a hole of 24 x 24 in it, and for a noisy image of 48 x 48 to be
  restored.

Seconds are those of the processor, on one thread. Results go to
``benchmarks/results/textures.txt``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import data
from timing import machine, report, threads

from skgen.textures import (
    DeepImagePrior,
    GaussianTexture,
    NonparametricTexture,
    PatchMatch,
)
from skgen.textures.patchmatch import Patches, Search

RESULTS = Path(__file__).parent / "results" / "textures.txt"
NAMES = ("brick", "grass", "gravel")
Image = NDArray[Any]


def exact(target: Patches, source: Patches) -> float:
    """Mean distance to the nearest patch, by comparing all."""
    known = source.view.flatten(2).flatten(0, 1)
    norms = known.square().sum(1)
    nearest = []
    for patches in target.view.flatten(2):
        squared = patches.square().sum(1)[:, None] + norms - 2 * patches @ known.T
        nearest.append(squared.min(1).values.clamp(min=0).sqrt())
    return float(torch.cat(nearest).mean())


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result, and seconds of the processor."""
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


def field_line(name: str, grain: str, size: int) -> str:
    image = getattr(data, name)().astype(np.float32)
    image = image[:: 3 if grain == "coarse" else 1, :: 3 if grain == "coarse" else 1]
    exemplar, other = image[:size, :size], image[-size:, -size:]
    model = PatchMatch(random_state=0).fit(exemplar)
    (_, distance), seconds = timed(lambda: model.match(other))
    p = model.patch_size
    target, source = (
        Patches.of(torch.from_numpy(x)[..., None].double(), p)
        for x in (other, exemplar)
    )
    right, all_seconds = timed(lambda: exact(target, source))
    generator = torch.Generator().manual_seed(0)
    start = Search(target, source, generator)
    rows, columns = target.shape
    random = torch.randint(rows, (rows, columns, 2), generator=generator)
    plain = Search(target, source, generator, random).run(model.n_iter)
    excess = [
        100 * (float(mean) / right - 1)
        for mean in (
            plain.cost.sqrt().mean(),
            start.cost.sqrt().mean(),
            distance.mean(),
        )
    ]
    return (
        f"{name:10}{grain:8}{size:5}{right:9.1f}"
        + "".join(f"{percent:+9.1f}%" for percent in excess)
        + f"{seconds:9.1f}{all_seconds:9.1f}"
    )


def image_seconds(exemplar: Image) -> list[float]:
    """Seconds of a field, of growth, and of a hole that is grown or voted for."""
    holes = exemplar.astype(float)
    holes[36:60, 30:54] = np.nan
    grow = NonparametricTexture(window=11)
    works: list[Callable[[], Any]] = [
        lambda: GaussianTexture().fit(exemplar).sample((128, 128), random_state=0),
        lambda: grow.fit(exemplar).sample((128, 128), random_state=0),
        lambda: grow.fit(holes).fill(holes, random_state=0),
        lambda: PatchMatch(random_state=0).fit(holes).fill(holes),
    ]
    return [timed(work)[1] for work in works]


def image_lines(names: tuple[str, ...]) -> Iterator[str]:
    yield f"\n{'seconds':10}{'Gaussian':>10}{'grown':>8}{'hole':>8}{'patches':>9}"
    for name in names:
        taken = image_seconds(getattr(data, name)()[:384:4, :384:4])
        yield f"{name:10}{taken[0]:10.2f}{taken[1]:8.1f}{taken[2]:8.1f}{taken[3]:9.1f}"


def prior_line() -> str:
    clean = data.camera()[60:252:4, 150:342:4] / 255
    noisy = clean + np.random.RandomState(0).normal(0, 0.1, clean.shape)
    prior = DeepImagePrior(width=16, n_iter_no_change=100, random_state=0)
    _, seconds = timed(lambda: prior.fit(noisy))
    before, after = (
        -10 * np.log10(np.mean((image - clean) ** 2)) for image in (noisy, prior.image_)
    )
    return (
        f"\ncamera, noise of 0.1: {before:.1f} dB, restored {after:.1f} dB, in "
        f"{seconds:.0f} seconds"
    )


def lines(options: argparse.Namespace) -> Iterator[str]:
    names = NAMES[:1] if options.quick else NAMES
    yield from machine("scikit-image")
    yield f"{PatchMatch()}"
    yield (
        f"{'':10}{'':8}{'side':>5}{'exact':>9}{'random':>10}{'start':>10}{'excess':>10}"
        f"{'seconds':>9}{'of all':>9}"
    )
    for name in names:
        for grain in ("fine", "coarse"):
            yield field_line(name, grain, 48 if options.quick else 96)
    yield from image_lines(names)
    yield prior_line()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one image, no file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with threads(1):
        report(lines(options), None if options.quick else RESULTS)
